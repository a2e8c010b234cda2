"""The PKOC card-verifiable certificate (PKOC 2.0.1 SE V2): BER-TLV, fixed order, ES256 over the 7F4E TLV.

::

    7F21 { 7F4E { 5F29 profile, 42 issuer, 7F49 { 06 curve, 86 point }, 5F20 subject,
                  5F25 effective, 5F24 expiration, [65 { 73 { 06 oid, 53 value } … }] }
           5F37 signature }
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec

from pacs.card import p256
from pacs.card.tlv import Tlv, find, parse
from pacs.errors import MalformedData
from pacs.identifiers import CredentialId
from pacs.reason import Reason

MAX_CERTIFICATE_BYTES: Final = 4096
PROFILE: Final = b"\x00"
P256_OID: Final = bytes.fromhex("2A8648CE3D030107")  # 1.2.840.10045.3.1.7
UUID_OID: Final = bytes.fromhex("2B0601040183D2250801")  # 1.3.6.1.4.1.59685.8.1

CERTIFICATE: Final = 0x7F21
_BODY: Final = 0x7F4E
_SIGNATURE: Final = 0x5F37
_FIXED_ORDER: Final = (0x5F29, 0x42, 0x7F49, 0x5F20, 0x5F25, 0x5F24)
_EXTENSIONS: Final = 0x65
_EXTENSION: Final = 0x73
_ISSUER: Final = re.compile(r"[A-Z0-9]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One parsed certificate; parsing verifies nothing but its form and that its key is on the curve.

    ``issuer`` is the issuer identification reference, 16 characters A–Z 0–9; ``subject`` 16 bytes.
    ``public_key`` is the point 04‖x‖y. ``valid_from`` and ``valid_until`` are inclusive days.
    ``extensions`` are (object identifier's DER content, value), unknown ones included.
    ``tbs_bytes`` is what the issuer signed: the 7F4E TLV exactly as received.
    """

    issuer: str
    public_key: bytes
    subject: bytes
    valid_from: date
    valid_until: date
    extensions: tuple[tuple[bytes, bytes], ...]
    tbs_bytes: bytes
    signature: bytes
    raw: bytes

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read exactly one 7F21 TLV. Raises ``MalformedData`` naming the rule of the profile it breaks."""
        if len(raw) > MAX_CERTIFICATE_BYTES:
            raise MalformedData(f"certificate: more than {MAX_CERTIFICATE_BYTES} bytes")
        outer = parse(raw)
        if [item.tag for item in outer] != [CERTIFICATE]:
            raise MalformedData("certificate: exactly one 7F21 expected")
        parts = parse(outer[0].value)
        if [item.tag for item in parts] != [_BODY, _SIGNATURE]:
            raise MalformedData("certificate: 7F4E then 5F37 expected")
        body, signature = parts
        if len(signature.value) != p256.SIGNATURE_BYTES:
            raise MalformedData("certificate: signature of 64 raw bytes r‖s expected")
        fields = parse(body.value)
        tags = tuple(item.tag for item in fields)
        if tags not in (_FIXED_ORDER, (*_FIXED_ORDER, _EXTENSIONS)):
            raise MalformedData("certificate: fields are not those of the profile in its order")
        profile, issuer, key, subject, valid_from, valid_until = (item.value for item in fields[:6])
        if profile != PROFILE:
            raise MalformedData(f"certificate: profile 00 expected, not {profile[:4].hex()}")
        if len(subject) != 16:
            raise MalformedData("certificate: subject of 16 bytes expected")
        return cls(
            issuer=check_issuer(issuer.decode("latin-1")),
            public_key=_parse_key(key),
            subject=subject,
            valid_from=_parse_date(valid_from),
            valid_until=_parse_date(valid_until),
            extensions=_parse_extensions(fields[6].value) if len(fields) > 6 else (),
            tbs_bytes=body.raw,
            signature=signature.value,
            raw=raw,
        )

    def __bytes__(self) -> bytes:
        return self.raw

    @property
    def credential_id(self) -> CredentialId:
        """The UUID extension (.8.1). Raises ``MalformedData`` unless there is one, of 16 bytes."""
        values = [value for oid, value in self.extensions if oid == UUID_OID]
        if len(values) != 1 or len(values[0]) != 16:
            raise MalformedData("certificate: one UUID extension of 16 bytes expected")
        return CredentialId(values[0])

    def verify(self, issuer_key: ec.EllipticCurvePublicKey) -> None:
        """Raise ``VerificationError(CERTIFICATE_FORGED)`` unless ``issuer_key`` signed it."""
        p256.verify(issuer_key, self.signature, self.tbs_bytes, Reason.CERTIFICATE_FORGED)


def issue(
    *,
    issuer_key: ec.EllipticCurvePrivateKey,
    issuer: str,
    public_key: bytes,
    subject: bytes,
    valid_from: date,
    valid_until: date,
    extensions: Iterable[tuple[bytes, bytes]] = (),
) -> Certificate:
    """Sign a certificate for a card's ``public_key`` (65 bytes).

    Raises ``MalformedData`` for a field that no reader would accept, a day outside 2000–2099, or
    dates in the wrong order. A single value of up to 19 bytes keeps the answer in one RF frame.
    """
    if valid_until < valid_from:
        raise MalformedData("certificate: expires before it becomes effective")
    fields = [
        Tlv.build(0x5F29, PROFILE),
        Tlv.build(0x42, check_issuer(issuer).encode("ascii")),
        Tlv.build(0x7F49, [Tlv.build(0x06, P256_OID), Tlv.build(0x86, public_key)]),
        Tlv.build(0x5F20, subject),
        Tlv.build(0x5F25, _encode_date(valid_from)),
        Tlv.build(0x5F24, _encode_date(valid_until)),
    ]
    claims = [Tlv.build(_EXTENSION, [Tlv.build(0x06, oid), Tlv.build(0x53, v)]) for oid, v in extensions]
    if claims:
        fields.append(Tlv.build(_EXTENSIONS, claims))
    body = Tlv.build(_BODY, fields)
    signature = Tlv.build(_SIGNATURE, p256.sign(issuer_key, body.raw))
    return Certificate.from_bytes(Tlv.build(CERTIFICATE, [body, signature]).raw)


def check_issuer(text: str) -> str:
    """``text`` if it is an issuer identification reference. Raises ``MalformedData``."""
    if not _ISSUER.fullmatch(text):
        raise MalformedData("issuer identification reference: 16 characters A-Z 0-9 expected")
    return text


def _parse_key(value: bytes) -> bytes:
    parts = parse(value)
    if [item.tag for item in parts] != [0x06, 0x86]:
        raise MalformedData("certificate: key of curve then point expected")
    if parts[0].value != P256_OID:
        raise MalformedData("certificate: the curve is not named as P-256 (1.2.840.10045.3.1.7)")
    p256.parse_point(parts[1].value)
    return parts[1].value


def _parse_date(value: bytes) -> date:
    """YYMMDD, one decimal digit per byte, 2000–2099."""
    if len(value) != 6 or max(value) > 9:
        raise MalformedData("certificate: date of six unpacked decimal digits expected")
    year, month, day = (value[i] * 10 + value[i + 1] for i in (0, 2, 4))
    try:
        return date(2000 + year, month, day)
    except ValueError as error:
        raise MalformedData("certificate: no such day") from error


def _encode_date(day: date) -> bytes:
    if not 2000 <= day.year <= 2099:
        raise MalformedData("certificate: a day of 2000 to 2099 expected")
    return bytes(int(digit) for digit in f"{day:%y%m%d}")


def _parse_extensions(value: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Claims of template 65. What has no object identifier or no value holds no claim and is skipped."""
    claims: list[tuple[bytes, bytes]] = []
    for item in parse(value):
        if item.tag != _EXTENSION:
            continue
        parts = parse(item.value)
        oid, claim = find(parts, 0x06), find(parts, 0x53)
        if oid is not None and claim is not None:
            claims.append((oid, claim))
    return tuple(claims)
