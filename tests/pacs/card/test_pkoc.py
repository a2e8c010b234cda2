from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.card import p256, pkoc
from pacs.card.dialogue import get_response, run
from pacs.card.tlv import Tlv
from pacs.credential import Presentation, Technology
from pacs.errors import CardError, MalformedData, VerificationError
from pacs.reason import ReadFault
from tests.pacs.card.material import (
    CARD_KEY,
    CHALLENGE,
    ISSUER_KEY,
    TRUST,
    VECTORS,
    certificate,
    scripted,
    verifier,
    wired,
)

POINT = p256.encode_point(CARD_KEY.public_key())
SELECTED = bytes.fromhex("5C0201009000")
CERTIFICATE = certificate().raw
SIGNED = Tlv.build(0x9E, p256.sign(CARD_KEY, bytes(CHALLENGE))).raw + b"\x90\x00"
SIGNED_V1 = p256.sign(CARD_KEY, CHALLENGE.transaction_identifier)
AUTHENTICATED = Tlv.build(0x5A, POINT).raw + Tlv.build(0x9E, SIGNED_V1).raw + b"\x90\x00"
OK = b"\x90\x00"


def _ignore(_certificate: bytes) -> None:
    return


def _read(
    *answers: bytes, allow_v1: bool = True, on_certificate: Callable[[bytes], object] = _ignore
) -> Presentation:
    dialogue = pkoc.present(CHALLENGE, allow_v1=allow_v1, on_certificate=on_certificate)
    return run(dialogue, get_response(scripted(answers)))


def _fault(*answers: bytes, allow_v1: bool = True) -> ReadFault:
    with pytest.raises(CardError) as caught:
        _read(*answers, allow_v1=allow_v1)
    return caught.value.fault


# ---------------------------------------------------------------- the challenge


def test_challenge_is_the_documented_hash() -> None:
    """SHA-256 over label, reader, milliseconds and random, in that order and width."""
    ms = int(CHALLENGE.at.timestamp() * 1000).to_bytes(8, "big")
    whole = b"Drempel PKOC challenge 1" + CHALLENGE.reader_identifier + ms + CHALLENGE.random
    assert bytes(CHALLENGE) == hashlib.sha256(whole).digest()
    assert CHALLENGE.transaction_identifier == bytes(CHALLENGE)[:16]


@pytest.mark.parametrize(
    "other",
    [
        {"reader_identifier": pkoc.reader_identifier("site", "other")},
        {"reader_identifier": pkoc.reader_identifier("other", "reader")},
        {"at": CHALLENGE.at + timedelta(milliseconds=1)},
        {"random": bytes(16)},
    ],
)
def test_challenge_is_bound(other: dict[str, object]) -> None:
    """Another reader, site, moment or random gives another challenge."""
    assert bytes(replace(CHALLENGE, **other)) != bytes(CHALLENGE)  # type: ignore[arg-type]


def test_challenge_is_of_a_moment_not_of_its_spelling() -> None:
    """The same moment in another time zone is the same challenge."""
    other = CHALLENGE.at.astimezone(timezone(timedelta(hours=5)))
    assert bytes(replace(CHALLENGE, at=other)) == bytes(CHALLENGE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"random": bytes(15)},
        {"reader_identifier": bytes(16)},
        {"at": datetime(2027, 1, 1)},  # noqa: DTZ001 - naive on purpose
        {"at": datetime(1969, 12, 31, tzinfo=UTC)},
    ],
)
def test_challenge_inputs_are_checked(wrong: dict[str, object]) -> None:
    """Too little random, a half identifier or a naive time make no challenge."""
    with pytest.raises(MalformedData):
        replace(CHALLENGE, **wrong)  # type: ignore[arg-type]


# ---------------------------------------------------------------- recorded conversations


def _recorded_challenge(value: bytes) -> pkoc.Challenge:
    class Recorded(pkoc.Challenge):
        def __bytes__(self) -> bytes:
            return value

    return Recorded(reader_identifier=CHALLENGE.reader_identifier, at=CHALLENGE.at, random=CHALLENGE.random)


def test_recorded_v2_transcript() -> None:
    """Our commands are those of the recorded reader, without INFO, and its card verifies."""
    vector = VECTORS["pkoc_se_v2_transcript"]
    script = {step["c"]: bytes.fromhex(step["r"]) for step in vector["apdus"]}
    challenge = _recorded_challenge(bytes.fromhex(vector["apdus"][3]["c"])[5:37])
    log: list[tuple[bytes, bytes]] = []
    dialogue = pkoc.present(challenge, allow_v1=False, on_certificate=_ignore)
    presentation = run(dialogue, wired(lambda command: script[command.hex()], log))
    assert [command.hex() for command, _ in log] == [vector["apdus"][i]["c"] for i in (0, 2, 3)]
    trust = {vector["iir"]: p256.parse_point(bytes.fromhex(vector["issuer_public_key"]))}
    recorded = type(verifier())(replace(TRUST, issuers=trust))
    assert str(recorded.verify(presentation).credential_id) == "afc8f988-b634-0aad-a7b1-ba190e8ae4b8"


@pytest.mark.parametrize("vector", ["worked example", "V2 card"])
def test_recorded_v1(vector: str) -> None:
    """Recorded V1 answers verify over the transaction identifier alone."""
    if vector == "worked example":
        select, authenticate = VECTORS["pkoc_nfc_1_1_worked_example"]["apdus"]
    else:
        select, _, _, _, authenticate = VECTORS["pkoc_se_v2_transcript"]["apdus"]
    transaction = bytes.fromhex(authenticate["c"])[11:27]
    answers = [bytes.fromhex(select["r"]), b"\x6a\x88", bytes.fromhex(authenticate["r"])]
    dialogue = pkoc.present(_recorded_challenge(transaction), allow_v1=True, on_certificate=_ignore)
    presentation = run(dialogue, scripted(answers))
    credential = verifier().verify(presentation)
    assert credential.technology is Technology.PKOC_V1
    assert bytes(credential.credential_id) == presentation.public_key[1:33]
    if vector == "worked example":
        assert str(credential.credential_id) == VECTORS["pkoc_nfc_1_1_worked_example"]["credential_256"]


def test_core_derivation() -> None:
    """The V1 credential is the x coordinate; legacy and derived numbers are its low end."""
    core = VECTORS["pkoc_core_2_0_1_derivation"]
    x = bytes.fromhex(core["public_key"])[1:33]
    p256.parse_point(bytes.fromhex(core["public_key"]))
    assert x.hex() == core["pkoc_credential_v1"]
    assert x[-8:].hex() == core["derived_id_8"]
    example = VECTORS["pkoc_nfc_1_1_worked_example"]
    number = int(example["credential_256"], 16)
    assert number & (1 << 75) - 1 == int(example["credential_75"], 16)
    assert number & (1 << 64) - 1 == int(example["credential_64"], 16)


# ---------------------------------------------------------------- what is sent


def test_v2_commands_and_meanwhile() -> None:
    """Three commands, each with Le; the certificate is handed over while the card signs."""
    log: list[str] = []
    script = iter([SELECTED, CERTIFICATE + OK, SIGNED])

    def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        log.append(command.hex())
        meanwhile()
        return next(script)

    dialogue = pkoc.present(
        CHALLENGE, allow_v1=False, on_certificate=lambda raw: log.append(f"certificate {len(raw)}")
    )
    presentation = run(dialogue, transceive)
    assert log == [
        "00a4040008a00000089800000100",
        "00ca7f2100",
        "0088000020" + bytes(CHALLENGE).hex() + "00",
        "certificate 248",
    ]
    assert (presentation.technology, presentation.certificate) == (Technology.PKOC_V2, CERTIFICATE)


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ("0100", "0100"),
        ("0101", "0101"),
        ("01010100", "0101"),
        ("01000101", "0101"),
        ("030002000100", "0100"),
    ],
)
def test_v1_command(versions: str, chosen: str) -> None:
    """AUTHENTICATE carries the newest common version, transaction and reader identifier, and Le."""
    log: list[tuple[bytes, bytes]] = []
    script = iter([Tlv.build(0x5C, bytes.fromhex(versions)).raw + OK, b"\x6d\x00", AUTHENTICATED])
    dialogue = pkoc.present(CHALLENGE, allow_v1=True, on_certificate=_ignore)
    presentation = run(dialogue, wired(lambda _command: next(script), log))
    fields = (
        f"5c02{chosen}4c10{CHALLENGE.transaction_identifier.hex()}4d20{CHALLENGE.reader_identifier.hex()}"
    )
    assert log[-1][0].hex() == f"8080000138{fields}00"
    assert presentation.public_key == POINT
    assert verifier().verify(presentation).credential_id.value == POINT[1:33]


# ---------------------------------------------------------------- lenient where cards differ


@pytest.mark.parametrize(
    "selected",
    [
        "",
        "5C020100",
        "5C020100AA00",
        "4F01AA5C020100",
        "5C0401010100",
        "5C020100420155",
        "7F01005C020100",
        "5C0201007F660102",
    ],
)
def test_select_answers(selected: str) -> None:
    """Version lists, other objects before or after, or none at all: a V2 card is read."""
    presentation = _read(bytes.fromhex(selected) + OK, CERTIFICATE + OK, SIGNED)
    assert presentation.technology is Technology.PKOC_V2


KEY_TLV, SIGNATURE_TLV = Tlv.build(0x5A, POINT).raw, Tlv.build(0x9E, SIGNED_V1).raw


@pytest.mark.parametrize(
    "data",
    [
        KEY_TLV + SIGNATURE_TLV,
        SIGNATURE_TLV + KEY_TLV,
        KEY_TLV + SIGNATURE_TLV + bytes.fromhex("420155"),
        bytes.fromhex("4201554200") + SIGNATURE_TLV + bytes.fromhex("7F0155") + KEY_TLV,
        KEY_TLV + SIGNATURE_TLV + bytes.fromhex("5F200155"),
        KEY_TLV + SIGNATURE_TLV + b"\x7f\x21\x81\x80" + bytes(128),
    ],
)
def test_v1_answers(data: bytes) -> None:
    """Any order, unknown objects with one-byte or longer tags before and after."""
    verifier().verify(_read(SELECTED, b"\x6a\x88", data + OK))


@pytest.mark.parametrize("trailing", ["", "420155", "5F200155"])
def test_v2_trailing_objects(trailing: str) -> None:
    """Objects after the certificate and after the signature are ignored."""
    extra = bytes.fromhex(trailing)
    presentation = _read(SELECTED, CERTIFICATE + extra + OK, SIGNED[:-2] + extra + OK)
    assert presentation.certificate == CERTIFICATE
    verifier().verify(presentation)


@pytest.mark.parametrize("size", [300, 700, 3000])
def test_long_certificate(size: int) -> None:
    """Certificates over 256 bytes arrive through 61xx and GET RESPONSE."""
    claims = ((b"\x2a\x03", bytes(size)), *certificate().extensions)
    long = certificate(extensions=claims).raw
    parts = [long[i : i + 256] for i in range(0, len(long), 256)]
    answers = [part + bytes([0x61, min(len(rest), 256) & 0xFF]) for part, rest in pairwise(parts)]
    presentation = _read(SELECTED, *answers, parts[-1] + OK, SIGNED)
    assert presentation.certificate == long
    verifier().verify(presentation)


# ---------------------------------------------------------------- strict where it matters


@pytest.mark.parametrize("status", ["6a82", "6a81", "6a86", "6d00", "6e00"])
def test_not_pkoc(status: str) -> None:
    """A card without the application is none of ours."""
    assert _fault(bytes.fromhex(status)) is ReadFault.NOT_PKOC


@pytest.mark.parametrize("status", ["6a88", "6d00", "6b00", "6a86", "6a81", "6e00"])
def test_no_certificate(status: str) -> None:
    """Without a certificate V1 is tried where it is allowed, and only there."""
    answer = bytes.fromhex(status)
    assert _read(SELECTED, answer, AUTHENTICATED).technology is Technology.PKOC_V1
    assert _fault(SELECTED, answer, AUTHENTICATED, allow_v1=False) is ReadFault.TECHNOLOGY_UNSUPPORTED


@pytest.mark.parametrize(
    "certificate_answer", [CERTIFICATE + OK, b"\x7f\x21\x00" + OK, b"\x7f\x21\x02\x42\x00" + OK]
)
@pytest.mark.parametrize("after", ["6985", "6a88", "6d00", "6f00"])
def test_no_way_back_to_v1(certificate_answer: bytes, after: str) -> None:
    """A card that gave a certificate, good or bad, is never asked for V1."""
    assert _fault(SELECTED, certificate_answer, bytes.fromhex(after), AUTHENTICATED) is ReadFault.STATUS_WORD


def test_failed_v2_verification_has_no_v1_in_it() -> None:
    """A V2 card with a bad certificate ends as V2: there is nothing else to verify."""
    presentation = _read(SELECTED, certificate(issuer_key=CARD_KEY).raw + OK, SIGNED)
    assert (presentation.technology, presentation.public_key) == (Technology.PKOC_V2, b"")
    with pytest.raises(VerificationError):
        verifier().verify(presentation)


@pytest.mark.parametrize("versions", ["5C0102", "5C03010001", "5C00", "5C0201005C020101", "01"])
def test_malformed_versions(versions: str) -> None:
    """Half a version, none in the list, or two lists: malformed, whatever the card says next."""
    assert _fault(bytes.fromhex(versions) + OK, b"\x6d\x00", AUTHENTICATED) is ReadFault.ANSWER_MALFORMED
    assert _read(bytes.fromhex(versions) + OK, CERTIFICATE + OK, SIGNED).technology is Technology.PKOC_V2


@pytest.mark.parametrize("versions", ["", "5C020200", "5C040300FFFF"])
def test_no_version_in_common(versions: str) -> None:
    """A card of other versions cannot be read as V1."""
    assert (
        _fault(bytes.fromhex(versions) + OK, b"\x6d\x00", AUTHENTICATED) is ReadFault.TECHNOLOGY_UNSUPPORTED
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        KEY_TLV,
        SIGNATURE_TLV,
        KEY_TLV + KEY_TLV + SIGNATURE_TLV,
        KEY_TLV + SIGNATURE_TLV + SIGNATURE_TLV,
        KEY_TLV + SIGNATURE_TLV[:-1],
        KEY_TLV + Tlv.build(0x9E, SIGNED_V1 + b"\x00").raw,
        KEY_TLV + Tlv.build(0x9E, SIGNED_V1[:-1]).raw,
        Tlv.build(0x5A, POINT[:-1]).raw + SIGNATURE_TLV,
        KEY_TLV + SIGNATURE_TLV + b"\x00",
    ],
)
def test_malformed_v1_answers(data: bytes) -> None:
    """Missing, doubled, cut-off or wrongly sized objects are malformed."""
    assert _fault(SELECTED, b"\x6a\x88", data + OK) is ReadFault.ANSWER_MALFORMED


@pytest.mark.parametrize(
    "data",
    [b"", b"\x9e", SIGNED[:-3], Tlv.build(0x9E, bytes(70)).raw, SIGNED[:-2] * 2, bytes.fromhex("4201AA")],
)
def test_malformed_v2_signatures(data: bytes) -> None:
    """Only one 9E of 64 bytes is a signature."""
    assert _fault(SELECTED, CERTIFICATE + OK, data + OK) is ReadFault.ANSWER_MALFORMED


@pytest.mark.parametrize(
    "data",
    [b"", b"\x7f\x21", CERTIFICATE[:-1], CERTIFICATE + b"\x00", CERTIFICATE * 2, bytes.fromhex("9E0100")],
)
def test_no_certificate_in_the_answer(data: bytes) -> None:
    """What is not one whole 7F21 object is a misbehaving card, not a bad certificate."""
    assert _fault(SELECTED, data + OK, SIGNED) is ReadFault.ANSWER_MALFORMED


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("status", ["6700", "6985", "6f00", "6282"])
def test_status_words(at: int, status: str) -> None:
    """A refusal at any step is named with its status word."""
    answers = [SELECTED, CERTIFICATE + OK, SIGNED]
    answers[at] = bytes.fromhex(status)
    with pytest.raises(CardError) as caught:
        _read(*answers)
    assert (caught.value.fault, caught.value.status_word) == (ReadFault.STATUS_WORD, int(status, 16))


# ---------------------------------------------------------------- any bytes at any step

GENUINE = {
    "v2": [SELECTED, CERTIFICATE + OK, SIGNED],
    "v1": [SELECTED, b"\x6a\x88", AUTHENTICATED],
}
NOISE = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=80).map(lambda data: data + OK),
    st.binary(max_size=80).map(lambda data: Tlv.build(0x7F21, data).raw + OK),
    st.binary(min_size=64, max_size=64).map(lambda data: Tlv.build(0x9E, data).raw + OK),
    st.binary(min_size=129, max_size=129).map(
        lambda data: Tlv.build(0x5A, data[:65]).raw + Tlv.build(0x9E, data[65:]).raw + OK
    ),
    st.sampled_from(
        [
            b"\x61\x00",
            b"\x61\x10",
            b"\x6c\x08",
            b"\x6a\x88",
            SELECTED,
            CERTIFICATE + OK,
            SIGNED,
            AUTHENTICATED,
        ]
    ),
)


@given(profile=st.sampled_from(sorted(GENUINE)), step=st.integers(0, 2), noise=st.lists(NOISE, max_size=8))
def test_any_bytes_at_any_step(profile: str, step: int, noise: list[bytes]) -> None:
    """Whatever a card sends, reading ends in CardError, VerificationError, or the genuine credential."""
    own = verifier()
    try:
        presentation = _read(*GENUINE[profile][:step], *noise, on_certificate=own.prefetch)
        credential = own.verify(presentation)
    except (CardError, VerificationError):
        return
    assert credential.credential_id.value in (POINT[1:33], certificate().credential_id.value)


@given(profile=st.sampled_from(sorted(GENUINE)), data=st.data())
def test_any_changed_byte(profile: str, data: st.DataObject) -> None:
    """One changed byte in what is signed, or in a signature, never verifies."""
    answers = [bytearray(answer) for answer in GENUINE[profile]]
    step = data.draw(st.sampled_from([1, 2] if profile == "v2" else [2]))
    position = data.draw(st.integers(0, len(answers[step]) - 3))
    answers[step][position] ^= data.draw(st.integers(1, 255))
    with pytest.raises((CardError, VerificationError)):
        verifier().verify(_read(*map(bytes, answers)))


def test_trust_is_what_the_tests_think() -> None:
    """The genuine conversation, unchanged, verifies: the property above can fail."""
    for answers in GENUINE.values():
        verifier().verify(_read(*answers))
    assert TRUST.issuers["TESTISSUER000001"] == ISSUER_KEY.public_key()
