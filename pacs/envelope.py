"""The signed envelope: COSE_Sign1 (RFC 9052 §4.2) with Ed25519 and an explicit type.

The type stands in the protected header ``typ`` (16, RFC 9596), so a signature made for one kind
of document is worth nothing as another. The payload is signed as the exact bytes that are sent.

The unprotected header is empty, or holds one thing: the key statement (``pacs.key_statement``) by which whoever has
the root's certificate can know the signer. It is under a signature of its own. Its label is from the range for private
use (RFC 9052 §11.2).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pacs import cbor
from pacs.errors import MalformedData, VerificationError
from pacs.reason import Reason

MAX_SEALED_BYTES = 16 * 1024 * 1024
EDDSA: Final = -8
ES256: Final = -7

_TAG_SIGN1 = b"\xd2"  # CBOR tag 18
_FOUR_PARTS, _EMPTY_MAP = b"\x84", b"\xa0"
_STATEMENT: Final = -65537
_STATEMENT_MAP: Final = b"\xa1" + cbor.encode(_STATEMENT)
_LENGTHS = {0x58: (1, 24), 0x59: (2, 2**8), 0x5A: (4, 2**16)}
"""First byte of a CBOR byte string → how many bytes its length takes, and from which length on it is so written."""
_ALG, _KID, _TYP = 1, 4, 16


def key_id(key: Ed25519PublicKey) -> bytes:
    """The first 8 bytes of SHA-256 over the raw public key: names a signer in a header."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).digest()[:8]


def trusted_keys(*keys: Ed25519PublicKey) -> dict[bytes, Ed25519PublicKey]:
    """The keys by their id, as ``open_sealed`` wants them."""
    return {key_id(key): key for key in keys}


def seal(payload: bytes, media_type: str, key: Ed25519PrivateKey, statement: bytes = b"") -> bytes:
    """Sign ``payload`` as a document of this media type; ``statement``: the key statement that goes with it."""
    return seal_with(
        payload,
        media_type,
        key.sign,
        signer=key_id(key.public_key()),
        algorithm=EDDSA,
        statement=statement,
    )


def seal_with(
    payload: bytes,
    media_type: str,
    sign: Callable[[bytes], bytes],
    *,
    signer: bytes,
    algorithm: int,
    statement: bytes = b"",
) -> bytes:
    """Seal with whatever makes signatures of this COSE algorithm (RFC 9053 §2)."""
    protected = cbor.encode({_ALG: algorithm, _KID: signer, _TYP: media_type})
    signature = sign(_to_be_signed(protected, payload))
    unprotected = {_STATEMENT: statement} if statement else {}
    return _TAG_SIGN1 + cbor.encode([protected, unprotected, payload, signature])


@dataclass(frozen=True, slots=True)
class Sealed:
    """An envelope that was read; ``unproven`` is its payload before anybody looked at the signature.

    ``statement``: the key statement that came with it, as unproven; empty: none.
    """

    signer: bytes
    protected: bytes
    unproven: bytes
    signature: bytes
    statement: bytes = b""

    @classmethod
    def read(cls, data: bytes, media_type: str, algorithm: int = EDDSA) -> Self:
        """Raises ``MalformedData`` when it is not an envelope of this type and algorithm."""
        if len(data) > MAX_SEALED_BYTES:
            raise MalformedData("envelope: longer than allowed")
        if data[:2] != _TAG_SIGN1 + _FOUR_PARTS:
            raise MalformedData("envelope: COSE_Sign1 (tag 18) of four parts expected")
        protected, at = _byte_string(data, 2)
        statement, at = _unprotected(data, at)
        payload, at = _byte_string(data, at)
        signature, at = _byte_string(data, at)
        if at != len(data):
            raise MalformedData("envelope: bytes behind it")
        found_algorithm, signer, found_type = _header(protected)
        if found_algorithm != algorithm:
            raise MalformedData(f"envelope: algorithm {algorithm} expected")
        if found_type != media_type:
            raise MalformedData(f"envelope: a document of type {media_type} expected")
        return cls(signer, protected, payload, signature, statement)

    @property
    def to_be_signed(self) -> bytes:
        """What the signature is over (RFC 9052 §4.4)."""
        return _to_be_signed(self.protected, self.unproven)

    def verify(self, trusted: Mapping[bytes, Ed25519PublicKey]) -> bytes:
        """Return the payload, proven. Raises ``VerificationError``: ``SIGNER_UNKNOWN`` or ``SIGNATURE_INVALID``."""
        key = trusted.get(self.signer)
        if key is None:
            raise VerificationError(Reason.SIGNER_UNKNOWN)
        try:
            key.verify(self.signature, self.to_be_signed)
        except InvalidSignature as error:
            raise VerificationError(Reason.SIGNATURE_INVALID) from error
        return self.unproven


def open_sealed(data: bytes, media_type: str, trusted: Mapping[bytes, Ed25519PublicKey]) -> bytes:
    """Return the payload once its type and signature are proven.

    Raises ``MalformedData`` when it is not an envelope of this type, ``VerificationError`` with
    ``SIGNER_UNKNOWN`` or ``SIGNATURE_INVALID`` when it is not authentic.
    """
    return Sealed.read(data, media_type).verify(trusted)


@lru_cache(4096)  # a signer's are all the same
def _header(protected: bytes) -> tuple[int, bytes, str]:
    """The algorithm, the signer and the type that a protected header names."""
    header = cbor.Fields(cbor.decode(protected, limit=256), "envelope header")
    algorithm, signer, found_type = header.take(_ALG, int), header.take(_KID, bytes), header.take(_TYP, str)
    header.finish()
    return algorithm, signer, found_type


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    # RFC 9052 §4.4: Sig_structure
    return cbor.encode(["Signature1", protected, b"", payload])


def _unprotected(data: bytes, at: int) -> tuple[bytes, int]:
    """The statement in the unprotected header that begins there, empty for none, and where the header ends."""
    if data[at : at + 1] == _EMPTY_MAP:
        return b"", at + 1
    if not data.startswith(_STATEMENT_MAP, at):
        raise MalformedData("envelope: an unprotected header that is empty or holds a key statement expected")
    statement, end = _byte_string(data, at + len(_STATEMENT_MAP))
    if not statement:
        raise MalformedData("envelope: a key statement that is empty")
    return statement, end


def _byte_string(data: bytes, at: int) -> tuple[bytes, int]:
    """The byte string that begins there, and where it ends: nothing is built from bytes that nobody signed."""
    first = data[at] if at < len(data) else 0
    begin, length = at + 1, first - 0x40
    if first in _LENGTHS:
        width, shortest = _LENGTHS[first]
        begin, length = begin + width, int.from_bytes(data[begin : begin + width])
        if length < shortest:
            raise MalformedData("envelope: not the deterministic encoding")
    elif not 0 <= length < 24:
        raise MalformedData("envelope: a byte string expected")
    if begin + length > len(data):
        raise MalformedData("envelope: cut short")
    return data[begin : begin + length], begin + length
