from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.card import card_keys
from pacs.card.apdu import CommandAPDU, ResponseAPDU
from pacs.card.card_keys import SIMULATED_MASTER, TRANSPORT_VERSION, CardSerial, diversify
from pacs.card.personalisation import CardStatus, Life, parse_key
from pacs.card.secure_channel import (
    CLA,
    Greeting,
    KeySet,
    SecureChannel,
    SessionKeys,
    cmac,
    external_authenticate,
    initialize_update,
    pad,
    unpad,
)
from pacs.errors import CardMisbehaves, CardNotGenuine, MalformedData
from simulator.card_channel import CardChannel, ChannelRefuses

VECTORS: Any = json.loads((Path(__file__).parents[2] / "vectors" / "scp03.json").read_text("utf-8"))
DIVERSIFIED: Any = json.loads((Path(__file__).parents[2] / "vectors" / "card_keys.json").read_text("utf-8"))
KEYS = diversify(SIMULATED_MASTER, TRANSPORT_VERSION, CardSerial.parse("SIM0-00000000002A"))


@pytest.mark.parametrize("session", VECTORS["sessions"], ids=lambda each: f"AES-{4 * len(each['enc'])}")
def test_sessions_of_other_cards(session: dict[str, Any]) -> None:
    """Keys, proofs, every command and an answer are byte for byte those of other implementations."""
    keys = KeySet(
        version=session["version"], enc=bytes.fromhex(session["enc"]), mac=bytes.fromhex(session["mac"])
    )
    greeting = Greeting.from_bytes(bytes.fromhex(session["greeting"]))
    asked = CommandAPDU.from_bytes(bytes.fromhex(session["initialize_update"]))
    assert replace(initialize_update(asked.data), p1=keys.version) == asked
    derived = SessionKeys.derive(keys, asked.data, greeting.challenge)
    assert (derived.card_cryptogram, greeting.key_version) == (greeting.cryptogram, keys.version)
    command, chaining = external_authenticate(derived)
    assert bytes(command).hex().upper() == session["external_authenticate"]
    channel = SecureChannel(derived, chaining)
    for number, (plain, sent) in enumerate(zip(VECTORS["commands"], session["sent"], strict=True)):
        assert bytes(channel.wrap(CommandAPDU.from_bytes(bytes.fromhex(plain)))).hex().upper() == sent
        if number == 0:
            answer = ResponseAPDU(data=bytes.fromhex(session["first_answer"]))
            assert channel.unwrap(answer).hex().upper() == VECTORS["first_answer"]


@pytest.mark.parametrize("vector", DIVERSIFIED, ids=lambda each: each["serial"])
def test_diversification(vector: dict[str, Any]) -> None:
    """A card's keys are those of SP 800-108 in counter mode, written out here with CMAC alone."""
    serial, master = CardSerial.parse(vector["serial"]), bytes.fromhex(vector["master"])
    keys = diversify(master, vector["version"], serial)
    assert (keys.enc.hex().upper(), keys.mac.hex().upper()) == (vector["enc"], vector["mac"])
    context = bytes((vector["version"],)) + bytes(serial)
    for label, key in ((b"Drempel card ENC", keys.enc), (b"Drempel card MAC", keys.mac)):
        fixed = label + b"\x00" + context + (256).to_bytes(4, "big")
        assert key == b"".join(cmac(master, i.to_bytes(4, "big") + fixed) for i in (1, 2))


def test_no_two_cards_share_a_key() -> None:
    """Another serial number, another version or another master makes other keys."""
    other = CardSerial.parse("SIM0-00000000002B")
    sets = [
        KEYS,
        diversify(SIMULATED_MASTER, TRANSPORT_VERSION, other),
        diversify(SIMULATED_MASTER, TRANSPORT_VERSION + 1, CardSerial.parse("SIM0-00000000002A")),
        diversify(bytes(32), TRANSPORT_VERSION, CardSerial.parse("SIM0-00000000002A")),
    ]
    assert len({key for each in sets for key in (each.enc, each.mac)}) == 2 * len(sets)


def opened() -> tuple[SecureChannel, CardChannel]:
    """Both ends of a session."""
    card = CardChannel(KEYS, b"SIM0" + bytes(6))
    greeting = Greeting.from_bytes(card.greet(bytes(8)))
    session = SessionKeys.derive(KEYS, bytes(8), greeting.challenge)
    command, chaining = external_authenticate(session)
    assert card.open(command)
    return SecureChannel(session, chaining), card


def command(data: bytes = b"") -> CommandAPDU:
    return CommandAPDU(cla=CLA, ins=0xE2, data=data, le=256)


@given(st.lists(st.tuples(st.binary(max_size=239), st.binary(max_size=200)), max_size=5))
def test_what_is_said_arrives(turns: list[tuple[bytes, bytes]]) -> None:
    """Every command and every answer of a session arrives as it was meant, whatever its length."""
    issuer, card = opened()
    for sent, answered in turns:
        assert card.unwrap(issuer.wrap(command(sent))).data == sent
        assert issuer.unwrap(card.wrap(answered)) == answered


@given(st.binary(max_size=60), st.integers(0, 8 * 40))
def test_a_changed_answer_is_not_the_cards(answer: bytes, bit: int) -> None:
    """One bit of an answer ends the session, and the next answer, though genuine, is not believed either."""
    issuer, card = opened()
    card.unwrap(issuer.wrap(command()))
    raw = bytearray(card.wrap(answer).data)
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    with pytest.raises(CardNotGenuine):
        issuer.unwrap(ResponseAPDU(data=bytes(raw)))
    card.unwrap(issuer.wrap(command()))
    with pytest.raises(CardNotGenuine):
        issuer.unwrap(card.wrap(b"later"))


def test_a_status_word_is_covered() -> None:
    """A good answer cannot be made of another good status word."""
    issuer, card = opened()
    card.unwrap(issuer.wrap(command()))
    with pytest.raises(CardNotGenuine):
        issuer.unwrap(replace(card.wrap(b"data"), status_word=0x6300))


@given(st.binary(max_size=300))
def test_any_command_at_the_cards_end(data: bytes) -> None:
    """Whatever comes in the channel's class, the card refuses it with a status word, and the session is over."""
    issuer, card = opened()
    with pytest.raises(ChannelRefuses):
        card.unwrap(replace(command(data), cla=0x84))
    with pytest.raises(ChannelRefuses):
        card.unwrap(issuer.wrap(command()))


@given(st.binary(max_size=40))
def test_any_greeting(raw: bytes) -> None:
    """A greeting is read or refused as malformed."""
    try:
        greeting = Greeting.from_bytes(raw)
    except MalformedData:
        return
    assert greeting.serial + bytes((greeting.key_version,)) == raw[:11]


@given(st.binary(max_size=80))
def test_padding(data: bytes) -> None:
    """Padding comes off again; what has none, or too much, is malformed."""
    assert unpad(pad(data)) == data
    assert len(pad(data)) % 16 == 0
    with contextlib.suppress(MalformedData):
        assert pad(unpad(data)) == data


@given(st.sampled_from(Life), st.integers(0, 255), st.binary(min_size=6, max_size=6), st.binary(max_size=40))
def test_card_status(life: Life, tries: int, number: bytes, noise: bytes) -> None:
    """A status comes back as it was; any other bytes are malformed."""
    status = CardStatus(life=life, serial=CardSerial(b"B001" + number), tries_left=tries)
    assert CardStatus.from_bytes(bytes(status)) == status
    assert CardSerial.parse(str(status.serial)) == status.serial
    with pytest.raises(MalformedData):
        CardStatus.from_bytes(noise)


@given(st.one_of(st.binary(max_size=80), st.text(max_size=20)))
def test_any_serial_number(value: bytes | str) -> None:
    """Ten bytes that begin with a batch are a serial number; nothing else is."""
    try:
        serial = CardSerial.parse(value) if isinstance(value, str) else CardSerial(value)
    except MalformedData:
        return
    assert CardSerial.parse(str(serial)) == serial
    assert card_keys.check_batch(serial.batch) == serial.batch


@given(st.binary(max_size=80))
def test_any_key(raw: bytes) -> None:
    """What is no point of the curve in its two objects is no key."""
    with pytest.raises(CardMisbehaves):
        parse_key(raw)
