"""The one-time code that lets a device take a controller's place, and what the device proves with it.

As printed: ``https://hub.example.org/#C7QX-…``, the hub's address and 14 groups of four characters of Crockford's
base 32 (no I, L, O, U): 16 bytes of secret, the first 16 bytes of the root certificate's SHA-256, and 3 bytes by which
a mistyped character is found, in the address too. Whoever chose neither the root nor the digest cannot find another
certificate of those 16 bytes.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import urlsplit

from pacs.errors import MalformedData

SECRET_BYTES: Final = 16
FINGERPRINT_BYTES: Final = 16
_CHECK_BYTES: Final = 3
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS: Final = str.maketrans("OIL", "011")
_CHARACTERS: Final = (SECRET_BYTES + FINGERPRINT_BYTES + _CHECK_BYTES) * 8 // 5
_GROUP: Final = 4
_LONGEST: Final = 400
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_PROOF: Final = b"drempel enrolment\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentCode:
    """``address``: scheme, host and port of the hub; http only on this machine. ``fingerprint``: of the site's root."""

    address: str
    secret: bytes = field(repr=False)
    fingerprint: bytes

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_BYTES or len(self.fingerprint) != FINGERPRINT_BYTES:
            raise MalformedData("enrolment code: 16 bytes of secret and 16 of fingerprint expected")
        _check_address(self.address)

    @property
    def groups(self) -> str:
        """The part behind the address."""
        data = self.secret + self.fingerprint + self._check()
        number = int.from_bytes(data)
        digits = "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_CHARACTERS)))
        return "-".join(digits[at : at + _GROUP] for at in range(0, _CHARACTERS, _GROUP))

    def __str__(self) -> str:
        return f"{self.address}/#{self.groups}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a code as somebody typed it: in either case, with blanks or dashes; O reads as 0, I and L as 1.

        Raises ``MalformedData`` that says what is wrong with it, and repeats none of it.
        """
        address, mark, groups = text.strip().partition("#")
        if len(text) > _LONGEST or not mark:
            raise MalformedData(
                "enrolment code: the hub's address, # and 14 groups of four characters expected"
            )
        digits = re.sub(r"[\s-]", "", groups).upper().translate(_READ_AS)
        for place, digit in enumerate(digits):
            if digit not in _ALPHABET:
                raise MalformedData(
                    f"enrolment code: group {place // _GROUP + 1} has a character that no code has; compare it with the print"
                )
        if len(digits) != _CHARACTERS:
            raise MalformedData(
                f"enrolment code: 14 groups of four characters expected, there are {len(digits)} characters"
            )
        number = 0
        for digit in digits:
            number = number << 5 | _ALPHABET.index(digit)
        data = number.to_bytes(SECRET_BYTES + FINGERPRINT_BYTES + _CHECK_BYTES)
        code = cls(
            address=address.rstrip("/"),
            secret=data[:SECRET_BYTES],
            fingerprint=data[SECRET_BYTES : SECRET_BYTES + FINGERPRINT_BYTES],
        )
        if code._check() != data[-_CHECK_BYTES:]:
            raise MalformedData(
                "enrolment code: mistyped, or cut off: it does not pass its check; compare address and groups with the print"
            )
        return code

    def fits(self, root_der: bytes) -> bool:
        """Whether this root certificate (DER) is the one that the code names."""
        return fingerprint(root_der) == self.fingerprint

    def _check(self) -> bytes:
        said = self.address.lower().encode() + b"\0" + self.secret + self.fingerprint
        return hashlib.sha256(said).digest()[:_CHECK_BYTES]


def fingerprint(root_der: bytes) -> bytes:
    """What a code holds of a root certificate (DER)."""
    return hashlib.sha256(root_der).digest()[:FINGERPRINT_BYTES]


def proof_of(request_der: bytes) -> bytes:
    """What a device's event key signs, so that it is bound to the certificate request (PKCS#10, DER) beside it."""
    return _PROOF + request_der


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise MalformedData("enrolment code: not an address of a hub") from error
    said = f"[{host}]" if host and ":" in host else host
    plain = f"{parts.scheme}://{said}" + (f":{port}" if port is not None else "")
    if not host or not address.isascii() or plain != address.lower():
        raise MalformedData("enrolment code: an address such as https://hub.example.org expected before #")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise MalformedData("enrolment code: https expected; the code would be readable on the way")
