from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from pacs.card import cvc, p256
from pacs.card.tlv import Tlv, find, parse
from pacs.errors import MalformedData, VerificationError
from pacs.reason import Reason
from tests.pacs.card.material import CARD_KEY, CREDENTIAL_ID, ISSUER, ISSUER_KEY, VECTORS, certificate

TRANSCRIPT = VECTORS["pkoc_se_v2_transcript"]
RECORDED = bytes.fromhex(TRANSCRIPT["apdus"][2]["r"])[:-2]
DRAFT = bytes.fromhex(VECTORS["pkpacs_cvc_draft_example"]["hex"])

days = st.dates(min_value=date(2000, 1, 1), max_value=date(2099, 12, 31))
oids = st.binary(min_size=1, max_size=12)


def test_recorded_certificate() -> None:
    """The reference credential's certificate is read field by field and verifies under its issuer."""
    read = cvc.Certificate.from_bytes(RECORDED)
    assert read.issuer == TRANSCRIPT["iir"]
    assert read.public_key.hex() == TRANSCRIPT["subject_public_key"]
    assert read.subject == b"CARD000000000001"
    assert (read.valid_from, read.valid_until) == (date(2026, 11, 21), date(2036, 11, 21))
    assert str(read.credential_id) == "afc8f988-b634-0aad-a7b1-ba190e8ae4b8"
    assert (len(read.raw), len(read.tbs_bytes)) == (
        TRANSCRIPT["cvc_len"],
        TRANSCRIPT["cvc_signed_region_7f4e_len"],
    )
    read.verify(p256.parse_point(bytes.fromhex(TRANSCRIPT["issuer_public_key"])))
    with pytest.raises(VerificationError) as caught:
        read.verify(ISSUER_KEY.public_key())
    assert caught.value.reason is Reason.CERTIFICATE_FORGED


def test_draft_example_is_parsed_but_refused() -> None:
    """The draft's example is sound TLV with the fields it lists, and is no certificate of the profile."""
    vector = VECTORS["pkpacs_cvc_draft_example"]
    body = parse(parse(DRAFT)[0].value)[0]
    fields = parse(body.value)
    assert {f"{item.tag:#x}": item.value.hex() for item in fields if item.tag != 0x65} == vector["fields"]
    claims = [parse(item.value) for item in parse(find(fields, 0x65) or b"")]
    assert [(find(c, 6), find(c, 0x53)) for c in claims] == [
        (bytes.fromhex(e["oid_der"]), bytes.fromhex(e["value"])) for e in vector["extensions"]
    ]
    with pytest.raises(MalformedData):
        cvc.Certificate.from_bytes(DRAFT)


@given(
    number=st.integers(1, p256.ORDER - 1),
    issuer=st.from_regex(r"[A-Z0-9]{16}", fullmatch=True),
    subject=st.binary(min_size=16, max_size=16),
    span=st.tuples(days, days).map(sorted),
    extensions=st.lists(st.tuples(oids, st.binary(max_size=200)), max_size=6).map(tuple),
)
def test_round_trip(
    number: int,
    issuer: str,
    subject: bytes,
    span: list[date],
    extensions: tuple[tuple[bytes, bytes], ...],
) -> None:
    """What the issuer wrote is what a reader reads, and it verifies."""
    point = p256.encode_point(ec.derive_private_key(number, ec.SECP256R1()).public_key())
    issued = cvc.issue(
        issuer_key=ISSUER_KEY,
        issuer=issuer,
        public_key=point,
        subject=subject,
        valid_from=span[0],
        valid_until=span[1],
        extensions=extensions,
    )
    read = cvc.Certificate.from_bytes(bytes(issued))
    assert read == issued
    assert (read.issuer, read.public_key, read.subject) == (issuer, point, subject)
    assert [read.valid_from, read.valid_until] == span
    assert read.extensions == extensions
    read.verify(ISSUER_KEY.public_key())


@given(st.binary(max_size=400))
def test_any_bytes(raw: bytes) -> None:
    """Arbitrary bytes are refused as MalformedData."""
    for data in (raw, Tlv.build(cvc.CERTIFICATE, raw).raw):
        with pytest.raises(MalformedData):
            cvc.Certificate.from_bytes(data)


@given(position=st.integers(0, 247), change=st.integers(1, 255))
def test_any_changed_byte(position: int, change: int) -> None:
    """No certificate with one byte changed is both read and verified."""
    raw = bytearray(certificate().raw)
    raw[position] ^= change
    with pytest.raises((MalformedData, VerificationError)):
        cvc.Certificate.from_bytes(bytes(raw)).verify(ISSUER_KEY.public_key())


def test_sizes() -> None:
    """A certificate with a UUID has 248 bytes: one short answer, one RF frame."""
    assert len(certificate().raw) == 248
    assert len(certificate(extensions=()).raw) == 214


def _rebuilt(edit: Any) -> bytes:
    """A certificate whose body fields ``edit`` changed, properly signed again."""
    body = parse(parse(certificate().raw)[0].value)[0]
    fields = {item.tag: item.value for item in parse(body.value)}
    parts = edit(fields) or [Tlv.build(tag, value) for tag, value in fields.items()]
    signed = Tlv.build(0x7F4E, parts)
    signature = Tlv.build(0x5F37, p256.sign(ISSUER_KEY, signed.raw))
    return Tlv.build(cvc.CERTIFICATE, [signed, signature]).raw


def _set(tag: int, value: bytes) -> Any:
    return lambda fields: fields.update({tag: value})


def _key(oid: str, point: bytes) -> Any:
    content = [Tlv.build(0x06, bytes.fromhex(oid)), Tlv.build(0x86, point)]
    return _set(0x7F49, b"".join(part.raw for part in content))


POINT = p256.encode_point(CARD_KEY.public_key())
CURVE_OID = "2A8648CE3D030107"

WRONG = {
    "profile 01": _set(0x5F29, b"\x01"),
    "issuer in lower case": _set(0x42, b"testissuer000001"),
    "issuer of 15": _set(0x42, b"A" * 15),
    "issuer not ASCII": _set(0x42, b"\xc5" * 16),
    "ecPublicKey instead of the curve": _key("2A8648CE3D0201", POINT),
    "point off the curve": _key(CURVE_OID, POINT[:-1] + bytes([POINT[-1] ^ 1])),
    "point at infinity": _key(CURVE_OID, b"\x00"),
    "compressed point": _key(CURVE_OID, b"\x02" + POINT[1:33]),
    "x out of range": _key(CURVE_OID, b"\x04" + b"\xff" * 64),
    "point without curve": _set(0x7F49, Tlv.build(0x86, POINT).raw),
    "subject of 17": _set(0x5F20, b"0" * 17),
    "ASCII date": _set(0x5F25, b"270101"),
    "thirteenth month": _set(0x5F24, bytes([2, 7, 1, 3, 0, 1])),
    "30 February": _set(0x5F24, bytes([2, 7, 0, 2, 3, 0])),
    "digit above nine": _set(0x5F24, bytes([2, 7, 0, 1, 0, 10])),
    "date of four": _set(0x5F24, bytes([2, 7, 0, 1])),
    "extensions that are no TLV": _set(0x65, b"\x73\x05\x00"),
    "two identifiers in one extension": _set(0x65, bytes.fromhex("730906012A06012B530100")),
    "other order": lambda fields: [Tlv.build(tag, fields[tag]) for tag in sorted(fields)],
    "field missing": lambda fields: [Tlv.build(tag, value) for tag, value in fields.items() if tag != 0x5F20],
    "field twice": lambda fields: [
        Tlv.build(t, v) for t, v in fields.items() for _ in range(1 + (t == 0x42))
    ],
    "field added": _set(0x5F50, b"x"),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_breaches_of_the_profile(name: str) -> None:
    """Even properly signed, what breaks the profile is refused."""
    with pytest.raises(MalformedData):
        cvc.Certificate.from_bytes(_rebuilt(WRONG[name]))


def test_rebuilding_alone_breaks_nothing() -> None:
    """The table above fails for its edits and for nothing else."""
    cvc.Certificate.from_bytes(_rebuilt(lambda _fields: None)).verify(ISSUER_KEY.public_key())


@pytest.mark.parametrize("signature", [bytes(63), bytes(65), bytes.fromhex("30460221") + bytes(68)])
def test_signature_of_another_size(signature: bytes) -> None:
    """A DER or truncated signature is refused."""
    body = parse(parse(certificate().raw)[0].value)[0]
    raw = Tlv.build(cvc.CERTIFICATE, [body, Tlv.build(0x5F37, signature)]).raw
    with pytest.raises(MalformedData):
        cvc.Certificate.from_bytes(raw)


@pytest.mark.parametrize("extra", ["5F370100", "4200"])
def test_extra_parts(extra: str) -> None:
    """Nothing may follow the signature inside, nor the certificate outside."""
    outer = parse(certificate().raw)[0]
    for raw in (
        Tlv.build(cvc.CERTIFICATE, outer.value + bytes.fromhex(extra)).raw,
        outer.raw + bytes.fromhex(extra),
    ):
        with pytest.raises(MalformedData):
            cvc.Certificate.from_bytes(raw)


def test_size_is_bounded() -> None:
    """4,096 bytes are read, more are refused."""
    extension = (b"\x2a", bytes(3865))
    assert len(certificate(extensions=(extension,)).raw) == cvc.MAX_CERTIFICATE_BYTES
    with pytest.raises(MalformedData):
        certificate(extensions=((b"\x2a", bytes(3866)),))


UUID_CLAIM = (cvc.UUID_OID, bytes(CREDENTIAL_ID))
UNKNOWN_CLAIM = (bytes.fromhex("2B0601040183D2250810"), b"card type")


@pytest.mark.parametrize(
    "extensions",
    [
        (UUID_CLAIM,),
        (UUID_CLAIM, UNKNOWN_CLAIM),
        (UNKNOWN_CLAIM, UUID_CLAIM),
        (UNKNOWN_CLAIM, UNKNOWN_CLAIM, UUID_CLAIM, (b"\x2a", bytes(300))),
    ],
)
def test_unknown_extensions_are_ignored(extensions: tuple[tuple[bytes, bytes], ...]) -> None:
    """The credential id is found among unknown claims in any order."""
    assert certificate(extensions=extensions).credential_id == CREDENTIAL_ID


@pytest.mark.parametrize(
    "extensions",
    [(), (UNKNOWN_CLAIM,), (UUID_CLAIM, UUID_CLAIM), ((cvc.UUID_OID, bytes(15)),), ((cvc.UUID_OID, b""),)],
)
def test_no_single_credential_id(extensions: tuple[tuple[bytes, bytes], ...]) -> None:
    """No UUID, two UUIDs or a UUID of another size name no credential."""
    read = certificate(extensions=extensions)
    with pytest.raises(MalformedData):
        _ = read.credential_id


def test_claims_without_a_value_are_skipped() -> None:
    """Parts of template 65 that are no claim leave the claims beside them readable."""
    claim = Tlv.build(0x73, [Tlv.build(0x53, bytes(CREDENTIAL_ID)), Tlv.build(0x06, cvc.UUID_OID)]).raw
    raw = _rebuilt(_set(0x65, bytes.fromhex("4201AA7303060 12A".replace(" ", "")) + claim))
    assert cvc.Certificate.from_bytes(raw).credential_id == CREDENTIAL_ID


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "lower-case-issue"},
        {"issuer": ISSUER + "1"},
        {"subject": b""},
        {"public_key": POINT[:-1] + b"\x00"},
        {"valid_from": date(1999, 12, 31)},
        {"valid_until": date(2100, 1, 1)},
        {"valid_from": date(2029, 1, 1)},
    ],
)
def test_issuer_writes_nothing_unreadable(changes: dict[str, Any]) -> None:
    """The issuer refuses fields that no reader would accept."""
    with pytest.raises(MalformedData):
        certificate(**changes)


@pytest.mark.parametrize("r", [0, p256.ORDER, p256.ORDER + 1, 2**256 - 1])
def test_signature_numbers_out_of_range(r: int) -> None:
    """Numbers r and s of zero, or of the group order and above, are refused before any verification."""
    good = p256.sign(ISSUER_KEY, b"message")
    number = r.to_bytes(32, "big")
    for signature in (number + good[32:], good[:32] + number):
        with pytest.raises(VerificationError):
            p256.verify(ISSUER_KEY.public_key(), signature, b"message", Reason.SIGNATURE_INVALID)
    p256.verify(ISSUER_KEY.public_key(), good, b"message", Reason.SIGNATURE_INVALID)


def test_key_of_another_curve() -> None:
    """A P-384 key is not encoded as a card's point."""
    with pytest.raises(MalformedData):
        p256.encode_point(ec.generate_private_key(ec.SECP384R1()).public_key())
