from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.card import cvc, p256, personalisation, pkoc
from pacs.card.apdu import CommandAPDU
from pacs.card.dialogue import run
from pacs.card.secure_channel import open_channel
from pacs.card.tlv import parse, require
from pacs.credential import Technology, Verifier, check_dates
from pacs.errors import CardError, MalformedData, VerificationError
from pacs.identifiers import CredentialId
from pacs.reason import ReadFault, Reason
from simulator.card_deck import DECK, Recipe, deal
from simulator.card_issuing import Profile
from simulator.virtual_card import INSTRUCTIONS, VirtualCard, new_v1_card, new_v2_card
from tests.pacs.card.bureau import HOST_CHALLENGE, MemoryBureau, linked
from tests.pacs.card.material import (
    CARD_KEY,
    CHALLENGE,
    CREDENTIAL_ID,
    ISSUER,
    ISSUER_KEY,
    TODAY,
    VECTORS,
    certificate,
    verifier,
    wired,
)

RECIPE = Recipe(
    issuer_key=ISSUER_KEY,
    issuer=ISSUER,
    credential_id=CREDENTIAL_ID,
    valid_from=TODAY - timedelta(days=10),
    valid_until=TODAY + timedelta(days=10),
    today=TODAY,
)
SELECT = "00A4040008A00000089800000100"
GET_CVC = "00CA7F2100"
CHALLENGE_32 = "0088000020" + "AB" * 32


def _v2(extra: int = 0) -> VirtualCard:
    return new_v2_card(
        issuer_key=ISSUER_KEY,
        issuer=ISSUER,
        credential_id=CREDENTIAL_ID,
        valid_from=RECIPE.valid_from,
        valid_until=RECIPE.valid_until,
        extensions=((b"\x2a", bytes(extra)),) if extra else (),
    )


def _ask(card: VirtualCard, *commands: str) -> str:
    answer = b""
    for command in commands:
        answer = card.answer(bytes.fromhex(command))
    return answer.hex().upper()


def _read(card: VirtualCard, own: Verifier, challenge: pkoc.Challenge = CHALLENGE) -> Technology:
    card.reset()
    dialogue = pkoc.present(challenge, allow_v1=card.profile is Profile.V1, on_certificate=own.prefetch)
    verified = own.verify(run(dialogue, wired(card.answer)))
    check_dates(verified, TODAY)
    return verified.technology


# ---------------------------------------------------------------- status words

AUTH = "80800001385C0201004C10" + "11" * 16 + "4D20" + "22" * 32
V2_TABLE = [
    ("SELECT", [SELECT], "5C0201009000"),
    ("SELECT without Le", [SELECT[:-2]], "5C0201009000"),
    ("SELECT another application", ["00A4040007A0000002471001"], "6A82"),
    ("SELECT by file", ["00A40000023F00"], "6A86"),
    ("INFO", [SELECT, "00CA7F6300"], "7F63045C0202009000"),
    ("INFO without Le", [SELECT, "00CA7F63"], "7F63045C0202009000"),
    ("INFO, Le too small", [SELECT, "00CA7F6303"], "6C07"),
    ("certificate, Le too small", [SELECT, "00CA7F2110"], "6CF8"),
    ("other data", [SELECT, "00CA7F6000"], "6A86"),
    ("nothing selected", [GET_CVC], "6985"),
    ("challenge of 31", [SELECT, "008800001F" + "AB" * 31 + "00"], "6700"),
    ("challenge with P2", [SELECT, "0088000120" + "AB" * 32 + "00"], "6A86"),
    ("GET RESPONSE with nothing left", [SELECT, "00C0000000"], "6985"),
    ("unknown instruction", [SELECT, "00B0000000"], "6D00"),
    ("unknown class", [SELECT, "A0CA7F2100"], "6E00"),
    ("class of another instruction", [SELECT, "80CA7F2100"], "6E00"),
    ("chaining where there is none", [SELECT, "10CA7F2100"], "6E00"),
    ("version not offered", [SELECT, AUTH.replace("5C020100", "5C020101")], "6985"),
    (
        "short transaction identifier",
        [SELECT, "80800001375C0201004C0F" + "11" * 15 + "4D20" + "22" * 32],
        "6700",
    ),
    ("transaction identifier twice", [SELECT, "808000014A" + AUTH[10:] + "4C10" + "11" * 16], "6700"),
    ("no reader identifier", [SELECT, "80800001165C0201004C10" + "11" * 16], "6700"),
    ("AUTHENTICATE with P2 0", [SELECT, AUTH.replace("80800001", "80800000")], "6A86"),
    ("Lc too long", [SELECT, "00880000FF00"], "6700"),
    ("header only", ["00A4"], "6700"),
    ("key generation by anybody", [SELECT, "8047000000"], "6982"),
    ("writing by anybody", [SELECT, "84E280000100"], "6982"),
    ("locking by anybody", [SELECT, "84440000"], "6982"),
    ("resetting by anybody", [SELECT, "80E40000"], "6982"),
    ("proof of an issuer who was not greeted", [SELECT, "84823300" + "10" + "00" * 16], "6985"),
    ("greeting with a short challenge", [SELECT, "805000000400000000"], "6700"),
    ("greeting with keys it does not have", [SELECT, "8050020008" + "00" * 8], "6A88"),
]
V1_TABLE = [
    ("SELECT", [SELECT], "5C04010101009000"),
    ("INFO", [SELECT, "00CA7F6300"], "6D00"),
    ("certificate", [SELECT, GET_CVC], "6D00"),
    ("challenge", [SELECT, CHALLENGE_32 + "00"], "6D00"),
    ("AUTHENTICATE with P2 0", [SELECT, AUTH.replace("80800001", "80800000")], "6B00"),
    ("version not offered", [SELECT, AUTH.replace("5C020100", "5C020200")], "6985"),
]
BLANK_TABLE = [
    ("certificate", [SELECT, GET_CVC], "6A88"),
    ("challenge", [SELECT, CHALLENGE_32 + "00"], "6985"),
    ("AUTHENTICATE", [SELECT, AUTH], "6985"),
    ("locking by anybody", [SELECT, "80440000"], "6982"),
]
CASES = [
    pytest.param(make, commands, expected, id=f"{kind}: {name}")
    for kind, make, table in (
        ("V2", _v2, V2_TABLE),
        ("V1", new_v1_card, V1_TABLE),
        ("blank", VirtualCard, BLANK_TABLE),
    )
    for name, commands, expected in table
]


@pytest.mark.parametrize(("make", "commands", "expected"), CASES)
def test_answers(make: Callable[[], VirtualCard], commands: list[str], expected: str) -> None:
    """Each command in each state has its answer."""
    assert _ask(make(), *commands) == expected


# ---------------------------------------------------------------- any conforming reader


@pytest.mark.parametrize("le", ["", "00", "85", "FF"])
@pytest.mark.parametrize("order", ["5C 4C 4D", "4D 4C 5C", "4C 5C 4D"])
@pytest.mark.parametrize("make", [_v2, new_v1_card])
def test_v1_readers(make: Callable[[], VirtualCard], order: str, le: str) -> None:
    """Any TLV order, with or without Le, unknown tags: both profiles sign the transaction identifier."""
    card = make()
    fields = {"5C": "5C020100", "4C": "4C10" + "17" * 16, "4D": "4D20" + "00" * 32}
    data = "7F0155" + "".join(fields[tag] for tag in order.split())
    answer = _ask(card, SELECT, f"80800001{len(data) // 2:02X}{data}{le}")
    assert answer.endswith("9000")
    assert len(answer) == 2 * 135
    items = parse(bytes.fromhex(answer)[:-2])
    point, signature = require(items, 0x5A, 65), require(items, 0x9E, 64)
    assert point == card.public_key
    p256.verify(p256.parse_point(point), signature, b"\x17" * 16, Reason.SIGNATURE_INVALID)


@pytest.mark.parametrize("le", ["", "00", "42"])
def test_v2_readers(le: str) -> None:
    """The certified key signs the 32 bytes alone, with or without Le."""
    card = _v2()
    answer = bytes.fromhex(_ask(card, SELECT, CHALLENGE_32 + le))
    signature = require(parse(answer[:-2]), 0x9E, 64)
    certified = cvc.Certificate.from_bytes(card.certificate)
    p256.verify(p256.parse_point(certified.public_key), signature, b"\xab" * 32, Reason.SIGNATURE_INVALID)


def test_recorded_reader() -> None:
    """Every command of the recorded transcript is answered in the recorded shape."""
    card = _v2()
    for step in VECTORS["pkoc_se_v2_transcript"]["apdus"]:
        answer = card.answer(bytes.fromhex(step["c"]))
        recorded = bytes.fromhex(step["r"])
        assert [(i.tag, len(i.raw)) for i in parse(answer[:-2])] == [
            (i.tag, len(i.raw)) for i in parse(recorded[:-2])
        ]
        assert answer[-2:] == recorded[-2:]


@pytest.mark.parametrize("extra", [20, 300, 2000])
@pytest.mark.parametrize("chunk", [1, 100, 255, 256])
def test_long_certificate(extra: int, chunk: int) -> None:
    """A long certificate comes in pieces of whatever size the reader asks for."""
    card = _v2(extra)
    card.answer(bytes.fromhex(SELECT))
    answer = card.answer(bytes.fromhex(GET_CVC))
    got = answer[:-2]
    while answer[-2] == 0x61:
        left = len(card.certificate) - len(got)
        assert answer[-1] == min(left, 256) & 0xFF
        answer = card.answer(bytes(CommandAPDU(cla=0, ins=0xC0, le=chunk)))
        got += answer[:-2]
    assert (got, answer[-2:]) == (card.certificate, b"\x90\x00")
    assert _ask(card, "00C0000000") == "6985"


def test_rest_is_forgotten() -> None:
    """Another command, or leaving the field, discards what GET RESPONSE would have given."""
    card = _v2(300)
    assert _ask(card, SELECT, GET_CVC)[-4:-2] == "61"
    assert _ask(card, "00CA7F6300", "00C0000000") == "6985"
    assert _ask(card, GET_CVC)[-4:-2] == "61"
    card.reset()
    assert _ask(card, "00C0000000") == "6985"


def test_extended_length_reader() -> None:
    """A reader that uses extended length gets a long certificate at once."""
    card = _v2(300)
    assert _ask(card, SELECT, "00CA7F21000000") == card.certificate.hex().upper() + "9000"


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.tuples(
                st.sampled_from([0x00, 0x10, 0x80, 0x84, 0x90]),
                st.sampled_from(sorted(INSTRUCTIONS)),
                st.sampled_from([(0, 0), (4, 0), (0, 1), (0x7F, 0x21), (0x7F, 0x63)]),
                st.binary(max_size=60),
            ).map(lambda t: bytes([t[0], t[1], *t[2], len(t[3])]) + t[3]),
        ),
        max_size=12,
    )
)
def test_any_commands(commands: list[bytes]) -> None:
    """Whatever is sent, each command gets an answer with a status word, and a locked card keeps its key."""
    for card in (_SHARED_V2, VirtualCard(profile=Profile.V1), VirtualCard()):
        before = card.public_key
        card.reset()
        card.answer(bytes.fromhex(SELECT))
        for command in commands:
            answer = card.answer(command)
            assert len(answer) >= 2
            assert answer[-2] in range(0x61, 0x70) or answer[-2:] == b"\x90\x00"
        assert card is not _SHARED_V2 or card.public_key == before


_SHARED_V2 = _v2()


# ---------------------------------------------------------------- personalisation, card side


class Issued:
    """A blank card and its issuer's open channel, whose commands are asked one by one."""

    def __init__(self, profile: Profile = Profile.V2) -> None:
        self.card = VirtualCard(profile=profile)
        _ask(self.card, SELECT)
        self.channel = run(open_channel(MemoryBureau().keys, HOST_CHALLENGE), linked(self.card))[1]

    def ask(self, ins: int, data: bytes = b"", p1: int = 0, p2: int = 0) -> bytes:
        command = CommandAPDU(cla=0x80, ins=ins, p1=p1, p2=p2, data=data)
        return run(self.channel.send(command, f"{ins:02X}"), linked(self.card))

    def refuses(self, ins: int, data: bytes = b"", p1: int = 0, p2: int = 0) -> int | None:
        with pytest.raises(CardError) as caught:
            self.ask(ins, data, p1, p2)
        return caught.value.status_word


def test_key_is_made_on_the_card() -> None:
    """Each generation gives another key, and takes the certificate of the old one away."""
    issued = Issued()
    first = personalisation.parse_key(issued.ask(0x47))
    issued.card.certificate = certificate().raw
    assert personalisation.parse_key(issued.ask(0x47)) == issued.card.public_key != first
    assert issued.card.certificate == b""


def test_certificate_of_another_key_is_refused() -> None:
    """The card takes its own key's certificate only, and refuses with 6A80."""
    issued = Issued()
    issued.ask(0x47)
    other = certificate().raw[:239]
    issued.ask(0xE2, other)
    assert issued.refuses(0xE2, certificate().raw[239:], 0x80, 1) == 0x6A80
    assert issued.card.certificate == b""


def test_blocks_are_bounded_and_come_in_turn() -> None:
    """Blocks out of turn, more than a certificate can have, and blocks of no certificate are refused."""
    issued = Issued()
    issued.ask(0x47)
    assert issued.refuses(0xE2, b"x", 0x80, 1) == 0x6A86
    issued = Issued()
    for number in range(17):
        issued.ask(0xE2, bytes(239), 0, number)
    assert issued.refuses(0xE2, bytes(239), 0, 17) == 0x6700


@pytest.mark.parametrize("profile", Profile)
def test_unfinished_card_is_not_locked(profile: Profile) -> None:
    """A card without key, or a V2 card without certificate, cannot be locked: it would be waste."""
    assert Issued(profile).refuses(0x44, bytes(65)) == 0x6985
    issued = Issued(profile)
    issued.ask(0x47)
    if profile is Profile.V2:
        assert issued.refuses(0x44, bytes(65)) == 0x6985
    else:
        assert issued.refuses(0x44, b"") == 0x6A80


def test_a_locked_card_is_written_by_nobody() -> None:
    """Not by its issuer either, in whose channel everything but RESET answers 6985; each refusal ends the channel."""
    for ins, data in ((0x47, b""), (0xE2, b"x"), (0x44, bytes(65))):
        issued = Issued()
        issued.card.locked = True
        assert issued.refuses(ins, data) == 0x6985
        assert issued.refuses(0xE4) == 0x6982


# ---------------------------------------------------------------- timing and serialisation


def test_computing_time() -> None:
    """What computes takes the modelled time, and only once the application is selected."""
    card = _v2()
    sign, authenticate, get = (bytes.fromhex(text) for text in (CHALLENGE_32, AUTH, GET_CVC))
    assert card.computing_ms(sign) == 0.0
    card.answer(bytes.fromhex(SELECT))
    card.signing_ms = 56.0
    assert [card.computing_ms(c) for c in (sign, authenticate, get, b"")] == [56.0, 56.0, 0.0, 0.0]


@pytest.mark.parametrize("name", sorted(DECK))
def test_json_round_trip(name: str) -> None:
    """A card given to another process is the same card of the same kind."""
    card = deal(name, RECIPE)
    card.signing_ms = 12.5
    copy = VirtualCard.from_json(card.to_json())
    assert type(copy) is type(card)
    assert copy.to_json() == card.to_json()
    assert (copy.public_key, copy.credential_id) == (card.public_key, card.credential_id)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"variant": "none"}', '{"variant": "plain", "profile": "v3"}', "null"]
)
def test_malformed_json(text: str) -> None:
    """What is no card's JSON is refused as such."""
    with pytest.raises(MalformedData):
        VirtualCard.from_json(text)


# ---------------------------------------------------------------- the deck


@pytest.mark.parametrize("name", sorted(set(DECK) - {"replaying"}))
def test_each_card_of_the_deck(name: str) -> None:
    """A correct reader comes to the verdict the deck states for each card."""
    card, own = deal(name, RECIPE), verifier()
    expected = DECK[name].expected
    if expected is None:
        assert _read(card, own) is (Technology.PKOC_V1 if name == "v1" else Technology.PKOC_V2)
        return
    with pytest.raises((CardError, VerificationError)) as caught:
        _read(card, own)
    verdict = (
        caught.value.fault if isinstance(caught.value, CardError) else getattr(caught.value, "reason", None)
    )
    assert verdict == expected


def test_replaying_card() -> None:
    """The first answer is genuine; the recording is refused, also after the card went to another process."""
    card, own = deal("replaying", RECIPE), verifier()
    assert _read(card, own) is Technology.PKOC_V2
    card = VirtualCard.from_json(card.to_json())
    with pytest.raises(VerificationError) as caught:
        _read(card, own, replace(CHALLENGE, at=datetime(2027, 6, 15, 13, tzinfo=UTC)))
    assert caught.value.reason is Reason.ANSWER_REPLAYED


def test_v2_card_without_certificate_is_not_v1_by_accident() -> None:
    """A blank V2 card offers V1, but has no key to answer with."""
    with pytest.raises(CardError) as caught:
        run(
            pkoc.present(CHALLENGE, allow_v1=True, on_certificate=lambda _raw: None),
            wired(VirtualCard().answer),
        )
    assert caught.value.fault is ReadFault.STATUS_WORD


def test_credential_id() -> None:
    """A card knows the credential that a reader finds on it."""
    assert _v2().credential_id == CREDENTIAL_ID
    v1 = new_v1_card()
    assert v1.credential_id == CredentialId(v1.public_key[1:33])
    assert VirtualCard().credential_id is None
    assert VirtualCard(key=CARD_KEY).credential_id is None
