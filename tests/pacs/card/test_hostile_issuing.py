"""A stranger at the card, at the desk's reader, and between the two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.card import personalisation, pkoc
from pacs.card.apdu import CommandAPDU, ResponseAPDU
from pacs.card.card_keys import TRANSPORT_VERSION, CardSerial, diversify
from pacs.card.dialogue import Transceive, get_response, run
from pacs.card.personalisation import Life
from pacs.card.secure_channel import (
    Greeting,
    SecureChannel,
    SessionKeys,
    external_authenticate,
    initialize_update,
    open_channel,
)
from pacs.card.tlv import Tlv
from pacs.errors import CardError, CardNotGenuine, PacsError
from simulator.card_issuing import TRIES
from simulator.virtual_card import VirtualCard
from tests.pacs.card.bureau import HOST_CHALLENGE, MemoryBureau, linked
from tests.pacs.card.material import CARD_KEY, CHALLENGE, certificate, verifier

WRITING = (personalisation.INS_GENERATE_KEY, personalisation.INS_STORE_DATA, personalisation.INS_LOCK)
NOBODY = bytes(range(100, 132))
"""A master that no card of ours was made with."""


def issued() -> VirtualCard:
    card = VirtualCard()
    run(MemoryBureau().issue(), linked(card))
    card.reset()
    return card


def ask(card: VirtualCard, command: CommandAPDU) -> int:
    return ResponseAPDU.from_bytes(card.answer(bytes(command))).status_word


def wrong_proof(card: VirtualCard) -> int:
    """What a card says to an issuer who does not know its keys and tries all the same."""
    raw = card.answer(bytes(initialize_update(HOST_CHALLENGE)))
    if raw[-2:] != b"\x90\x00":
        return int.from_bytes(raw[-2:], "big")
    greeting = Greeting.from_bytes(raw[:-2])
    keys = diversify(NOBODY, greeting.key_version, CardSerial(greeting.serial))
    session = SessionKeys.derive(keys, HOST_CHALLENGE, greeting.challenge)
    return ask(card, external_authenticate(session)[0])


def channel_to(card: VirtualCard) -> SecureChannel:
    """The issuer's own channel to a card in its hand."""
    run(personalisation.look(), linked(card))
    return run(open_channel(MemoryBureau().keys, HOST_CHALLENGE), linked(card))[1]


def tap(card: VirtualCard) -> None:
    """A door's reading, which must succeed."""
    own = verifier()
    own.verify(run(pkoc.present(CHALLENGE, allow_v1=False, on_certificate=own.prefetch), linked(card)))


@pytest.mark.parametrize("make", [VirtualCard, issued], ids=["blank", "issued"])
def test_a_strangers_reader_rewrites_no_card(make: Callable[[], VirtualCard]) -> None:
    """Nobody who has not proved to be the issuer makes a key, writes, locks or resets, in any class."""
    card = make()
    before = card.state()
    assert ask(card, pkoc.SELECT) == 0x9000
    for cla in (0x00, 0x80, 0x84, 0x90, 0x94):
        for ins in (*WRITING, personalisation.INS_RESET):
            for data in (b"", certificate().raw[:200], bytes(65)):
                command = CommandAPDU(cla=cla, ins=ins, p1=0x80 if ins == 0xE2 else 0, data=data)
                assert ask(card, command) in (0x6982, 0x6E00)
    assert card.state() == before


def test_a_wrong_key_is_noticed_by_the_issuer_before_the_card_loses_a_try() -> None:
    """A card of other keys is told nothing; it proves itself first."""
    card = VirtualCard(keys=diversify(NOBODY, TRANSPORT_VERSION, CardSerial(b"SIM0" + bytes(6))))
    with pytest.raises(CardNotGenuine):
        run(MemoryBureau().issue(), linked(card))
    assert (card.tries_left, card.life) == (TRIES, Life.BLANK)


@pytest.mark.parametrize("make", [VirtualCard, issued], ids=["blank", "issued"])
def test_tries_are_exhausted_for_issuers_only(make: Callable[[], VirtualCard]) -> None:
    """After ten wrong issuers a card believes nobody any more, its own issuer neither; a door it opens as before."""
    card = make()
    ask(card, pkoc.SELECT)
    said = [wrong_proof(card) for _ in range(TRIES + 1)]
    assert said == [0x6300] * TRIES + [0x6983]
    for dialogue in (MemoryBureau().issue(), personalisation.reset(HOST_CHALLENGE, MemoryBureau())):
        with pytest.raises(CardError) as caught:
            run(dialogue, linked(card))
        assert caught.value.status_word in (0x6983, 0x6985)
    if card.locked:
        tap(card)


def test_the_issuer_gives_the_tries_back() -> None:
    """Nine wrong ones, then the right one: the count begins anew; pulling the card at the tenth saves it nothing."""
    card = VirtualCard()
    ask(card, pkoc.SELECT)
    for _ in range(TRIES - 1):
        wrong_proof(card)
        card.reset()
        ask(card, pkoc.SELECT)
    assert card.tries_left == 1
    channel_to(card)
    assert card.tries_left == TRIES


def recorded(card: VirtualCard) -> tuple[Transceive, list[bytes]]:
    """The way to a card on which somebody listens."""
    heard: list[bytes] = []

    def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        heard.append(command)
        meanwhile()
        return card.answer(command)

    return get_response(transceive), heard


def test_replay_of_a_whole_session() -> None:
    """What an issuer said to a card, said again after a reset, is believed by no card: its challenge is another one."""
    card = VirtualCard()
    link, heard = recorded(card)
    run(MemoryBureau().issue(), link)
    run(personalisation.reset(HOST_CHALLENGE, MemoryBureau()), linked(card))
    before = card.state()
    for command in heard:
        card.answer(command)
    assert {**card.state(), "tries_left": TRIES} == before
    assert card.tries_left == TRIES - 1


@pytest.mark.parametrize("attack", ["replay", "reorder", "omission", "splice", "plain"])
def test_within_a_session(attack: str) -> None:
    """A command said twice, out of turn, after one that was kept back, from another session or bare ends the channel."""
    card, other = VirtualCard(), VirtualCard()
    channel, elsewhere = channel_to(card), channel_to(other)
    make_key = CommandAPDU(cla=0x80, ins=personalisation.INS_GENERATE_KEY)
    reset = CommandAPDU(cla=0x80, ins=personalisation.INS_RESET)
    first, second = channel.wrap(make_key), channel.wrap(reset)
    said = {
        "replay": (first, first),
        "reorder": (second, first),
        "omission": (second,),
        "splice": (elsewhere.wrap(make_key),),
        "plain": (replace(make_key, cla=0x84),),
    }[attack]
    assert [ask(card, each) for each in said][-1] in (0x6988, 0x6982)
    assert ask(card, second if attack == "replay" else channel.wrap(make_key)) == 0x6982, (
        "the channel is over"
    )
    assert card.life is (Life.KEY_MADE if attack == "replay" else Life.BLANK)


def test_relay_that_puts_its_own_key_in_place_of_the_cards() -> None:
    """Whoever sits between desk and card gets no certificate for a key outside a card of ours."""
    card, bureau = VirtualCard(), MemoryBureau()
    mine = VirtualCard(key=CARD_KEY)
    point = Tlv.build(personalisation.TAG_KEY, [Tlv.build(personalisation.TAG_POINT, mine.public_key)])

    def relay(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        meanwhile()
        if command[1] == personalisation.INS_GENERATE_KEY:
            return point.raw + b"\x90\x00"
        if command[1] == 0x88:
            mine.answer(bytes(pkoc.SELECT))
            return mine.answer(command)
        return card.answer(command)

    with pytest.raises(CardNotGenuine):
        run(bureau.issue(), get_response(relay))
    assert bureau.certified == []


def test_relay_that_splices_two_cards() -> None:
    """One card authenticates, another is to be written: it refuses, and its key is not certified."""
    card, other, bureau = VirtualCard(), VirtualCard(), MemoryBureau()
    other.answer(bytes(pkoc.SELECT))

    def relay(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        meanwhile()
        return (other if command[1] in WRITING else card).answer(command)

    with pytest.raises(CardError):
        run(bureau.issue(), get_response(relay))
    assert (bureau.certified, other.life) == ([], Life.BLANK)


def test_relay_that_asks_for_less_security() -> None:
    """A card takes one security level only, and the level is under the issuer's MAC."""
    card = VirtualCard()

    def relay(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        meanwhile()
        return card.answer(command[:2] + b"\x01" + command[3:] if command[1] == 0x82 else command)

    with pytest.raises(CardError):
        run(MemoryBureau().issue(), get_response(relay))
    assert card.life is Life.BLANK


@given(st.data())
def test_relay_that_changes_one_bit_anywhere(data: st.DataObject) -> None:
    """Whatever is changed on the way, there or back, no key is certified but one that the card made."""
    card, bureau = VirtualCard(), MemoryBureau()
    at, back, bit = data.draw(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 4095)))
    count = -1

    def relay(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        nonlocal count
        count += 1
        meanwhile()
        if count == at and not back:
            return card.answer(flip(command, bit))
        answer = card.answer(command)
        return flip(answer, bit) if count == at else answer

    try:
        run(bureau.issue(), get_response(relay))
    except PacsError:
        pass
    else:
        assert card.life is Life.LOCKED
    assert all(made.public_key == card.public_key for made in bureau.certified)


def flip(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


def test_whoever_listens_learns_no_key() -> None:
    """The administration keys cross the air encrypted, and each card's are its own."""
    card, bureau = VirtualCard(), MemoryBureau()
    link, heard = recorded(card)
    run(bureau.issue(), link)
    keys = bureau.administration(card.serial)
    assert (card.keys.enc, card.keys.mac) == (keys.enc, keys.mac)
    assert not any(keys.enc in command or keys.mac in command for command in heard)


def test_card_that_gives_another_serial_number_when_it_greets() -> None:
    """The card that is remembered must be the one that authenticates."""
    card, other = VirtualCard(), VirtualCard()
    other.answer(bytes(pkoc.SELECT))

    def relay(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        meanwhile()
        return (other if command[1] in (0x50, 0x82) else card).answer(command)

    bureau = MemoryBureau()
    with pytest.raises(CardError):
        run(bureau.issue(), get_response(relay))
    assert bureau.certified == []
