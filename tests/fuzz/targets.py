"""Every reader of foreign bytes: how it is fed, what it may raise, and well-formed bytes to begin with.

A target's ``feed`` raises one of its ``refusals`` or returns; anything else is a finding, and so is an answer that
does not survive being written and read again.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from edge import config_file
from edge.config import ConfigError
from edge.nfc.iso_dep import Ats, GarbledAnswer, IsoDep, Limits, NoAnswer
from pacs import bundle, cbor, commands, envelope, key_statement, messages, revocation, topics
from pacs.card import cvc, personalisation, pkoc, secure_channel, tlv
from pacs.card.apdu import CommandAPDU, ResponseAPDU
from pacs.card.card_keys import CardSerial
from pacs.card.dialogue import command_chaining, get_response, run
from pacs.card.p256 import encode_point, sign
from pacs.entitlement_table import EntitlementTable, Shape
from pacs.errors import CardError, CardNotGenuine, MalformedData, VerificationError
from pacs.events import Batch, Event, EventDraft, EventKind, genesis, seal_batch
from pacs.identifiers import (
    AccessLevelId,
    AreaId,
    ControllerId,
    CredentialId,
    DoorId,
    JournalId,
    OperatorId,
    ScheduleId,
    SiteId,
)
from pacs.root_change import RootChange
from pacs.rules import (
    AccessLevel,
    AccessRule,
    Antipassback,
    Door,
    DoorMode,
    Entitlement,
    ModeRule,
    Policy,
    WhenHubAway,
)
from pacs.schedule import ALWAYS, Schedule
from provisioning.authority import Authority
from simulator.card_channel import ChannelRefuses
from simulator.virtual_card import VirtualCard
from tests.pacs.card.bureau import MemoryBureau

NOW: Final = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SITE, CONTROLLER, GATE = SiteId("site"), ControllerId("gate-1"), DoorId("gate")
JOURNAL = JournalId("0" * 32)
SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(32))
TRUSTED = envelope.trusted_keys(SIGNER.public_key())
ISSUER_KEY = ec.derive_private_key(7, ec.SECP256R1())
ISSUER = "DREMPEL000000001"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """``max_bytes``: the longest input worth trying."""

    feed: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]
    max_bytes: int = 1_024


def survives(read: Callable[[bytes], object], data: bytes) -> None:
    """What was read is written in one way, and reads the same again."""
    found = read(data)
    written = bytes(found)  # type: ignore[call-overload]
    assert read(written) == found, "what was read does not survive being written"


# ---- from a card


def one_of(*readers: Callable[[bytes], object]) -> Callable[[bytes], None]:
    """The first byte of an input says which reader gets the rest."""

    def feed(data: bytes) -> None:
        if data:
            readers[data[0] % len(readers)](data[1:])

    return feed


def _tlv(data: bytes) -> None:
    items = tlv.parse(data)
    assert tlv.parse(b"".join(item.raw for item in items)) == items


def _command_apdu(data: bytes) -> None:
    survives(CommandAPDU.from_bytes, data)


def _response_apdu(data: bytes) -> None:
    assert bytes(ResponseAPDU.from_bytes(data)) == data


def _certificate(data: bytes) -> None:
    survives(cvc.Certificate.from_bytes, data)


@cache
def _example_certificate() -> bytes:
    made = cvc.issue(
        issuer=ISSUER,
        issuer_key=ISSUER_KEY,
        public_key=encode_point(ec.derive_private_key(8, ec.SECP256R1()).public_key()),
        subject=bytes(range(16)),
        valid_from=date(2026, 1, 1),
        valid_until=date(2028, 1, 1),
        extensions=[(cvc.UUID_OID, bytes(range(16)))],
    )
    return bytes(made)


def _answers(data: bytes) -> Iterator[bytes | None]:
    """Cut into answers, each behind its length; 255 for none at all. Silent when it is used up."""
    place = 0
    while place < len(data):
        length = data[place]
        place += 1
        if length == 255:
            yield None
            continue
        yield data[place : place + length]
        place += length
    while True:
        yield None


class _Card:
    """The far end of a link whose clock runs by what each block waits for."""

    def __init__(self, data: bytes) -> None:
        self.answers = _answers(data)
        self.now_ns = 0
        self.blocks = 0

    def __call__(
        self, block: bytes, *, wait_us: int, deadline_ns: int, meanwhile: Callable[[], None]
    ) -> bytes:
        self.blocks += 1
        assert len(block) <= 254
        meanwhile()
        answer = next(self.answers)
        waited_ns = 1_000_000 if answer else wait_us * 1_000
        self.now_ns = min(self.now_ns + waited_ns, max(deadline_ns, self.now_ns))
        if answer is None:
            raise NoAnswer
        if answer == b"\0":
            raise GarbledAnswer("CRC")
        return answer


DEADLINE_NS: Final = 2_000_000_000


def _iso_dep(data: bytes) -> None:
    limits = Limits()
    ats = Ats.from_bytes(data[1 : 1 + data[0] % 8] if data else b"")
    card = _Card(data[8:])
    conversation = IsoDep(card, ats, clock_ns=lambda: card.now_ns, deadline_ns=DEADLINE_NS, limits=limits)
    try:
        answer = conversation.transceive(bytes(300))
        assert len(answer) <= limits.answer_bytes
    finally:
        sent = -(-300 // (ats.frame_bytes - 3)) + limits.answer_blocks
        assert card.blocks <= (sent + limits.waits) * (1 + limits.retries) + 1
        assert card.now_ns <= DEADLINE_NS


def _presentation(data: bytes) -> None:
    answers = _answers(data)
    commands_sent = 0

    def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        nonlocal commands_sent
        commands_sent += 1
        assert commands_sent <= 200
        meanwhile()
        return next(answers) or b"\x6f\x00"

    challenge = pkoc.Challenge(reader_identifier=bytes(32), at=NOW, random=bytes(16))
    run(
        pkoc.present(challenge, allow_v1=True, on_certificate=lambda _: None),
        get_response(command_chaining(transceive)),
    )


def _card_status(data: bytes) -> None:
    survives(personalisation.CardStatus.from_bytes, data)


SERIAL: Final = CardSerial(b"SIM0" + bytes(6))
_UNDER_MAC: Final = b"\x01"


def _personalise(data: bytes) -> None:
    """A card that has its keys and lies: each answer is the honest one, or other bytes, under its MAC or not."""
    lies = _answers(data)
    card = VirtualCard(serial=SERIAL)
    commands_sent = 0

    def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        nonlocal commands_sent
        commands_sent += 1
        assert commands_sent <= 200
        meanwhile()
        honest, lie = card.answer(command), next(lies)
        if lie is None:
            return honest
        if lie[:1] == _UNDER_MAC:
            with contextlib.suppress(ChannelRefuses):
                return bytes(card._channel.wrap(lie[1:]))
        return lie if len(lie) > 1 else b"\x6f\x00"

    bureau = MemoryBureau()
    made = run(bureau.issue(), get_response(transceive))
    assert [made.made] == bureau.certified


def _personalisations() -> list[bytes]:
    """An honest card; one that tells another status; one whose key is a lie under its MAC; one whose answer is all padding."""
    status = bytes(
        personalisation.CardStatus(life=personalisation.Life.CERTIFIED, serial=SERIAL, tries_left=10)
    )
    point = encode_point(ec.derive_private_key(9, ec.SECP256R1()).public_key())
    key = _UNDER_MAC + tlv.Tlv.build(0x7F49, [tlv.Tlv.build(0x86, point)]).raw
    said = [[], [None, status + b"\x90\x00"], [None, None, None, None, key], [None] * 4 + [_UNDER_MAC]]
    return [
        b"".join(b"\xff" if each is None else bytes((len(each),)) + each for each in answers)
        for answers in said
    ]


def _conversations() -> list[bytes]:
    selected, done = bytes.fromhex("5c0202019000"), b"\x90\x00"
    certificate = _example_certificate()
    proof = bytes.fromhex("9e40") + bytes(64) + done
    whole = (selected, certificate + done, proof)
    in_parts = (selected, certificate[:100] + b"\x61\x00", certificate[100:] + done, proof)
    first_version = (bytes.fromhex("5c0201009000"), b"\x6a\x88", bytes.fromhex("8241") + bytes(65) + proof)
    return [
        b"".join(bytes((len(answer),)) + answer for answer in answers)
        for answers in (whole, in_parts, first_version)
    ]


# ---- from the hub


def _sealed(read: Callable[[bytes], object], media_type: str) -> Callable[[bytes], None]:
    """As a payload that a trusted signer signed: what is behind the signature is not trusted to be well-formed."""

    def feed(data: bytes) -> None:
        read(envelope.seal(data, media_type, SIGNER))

    return feed


def _payload(sealed: bytes, media_type: str) -> bytes:
    return envelope.open_sealed(sealed, media_type, TRUSTED)


@cache
def _policy() -> Policy:
    day, level, hall = ScheduleId("day"), AccessLevelId("residents"), AreaId("hall")
    door = Door(
        id=GATE,
        controller_id=CONTROLLER,
        mode_rules=(ModeRule(schedule_id=day, mode=DoorMode.UNLOCKED),),
        area=hall,
        antipassback=Antipassback.HARD,
        first_person_levels=frozenset({level}),
        admitting_levels=frozenset({level}),
        admits_at_most=2,
        when_hub_away=WhenHubAway.LOCAL,
        hub_away_max_s=60,
    )
    yard = DoorId("yard")
    return Policy(
        site_id=SITE,
        version=7,
        issued_at=NOW,
        expires_at=NOW + timedelta(days=7),
        time_zone="Europe/Amsterdam",
        issuers={ISSUER: encode_point(ISSUER_KEY.public_key())},
        doors={
            GATE: door,
            yard: Door(id=yard, controller_id=CONTROLLER, interlock_with=frozenset({GATE}), private=True),
        },
        access_levels={level: AccessLevel(id=level, rules=(AccessRule(door_id=GATE, schedule_id=day),))},
        schedules={day: Schedule(id=day, windows=(ALWAYS,), holiday_windows=(ALWAYS,))},
        holidays=frozenset({date(2026, 12, 25)}),
        entitlements={
            credential_id: Entitlement(
                credential_id=credential_id,
                status_index=index,
                access_level_ids=(level,),
                valid_until=NOW + timedelta(days=index),
                escort_required=index == 1,
            )
            for index, credential_id in enumerate((CredentialId(bytes(16)), CredentialId(bytes(32))), 1)
        },
    )


@cache
def _entitlements() -> EntitlementTable:
    table = bundle.with_table(_policy()).entitlements
    assert isinstance(table, EntitlementTable)
    return table


def _signed_part(data: bytes) -> None:
    bundle.read(data, bytes(_entitlements()))


def _table(data: bytes) -> None:
    """The first three bytes say how many of each there are."""
    if len(data) < 3:
        return
    shape = Shape(sets=data[0], short=data[1], long=data[2])
    table = EntitlementTable.read(data[3:], shape, _entitlements().level_ids)
    assert len(table) == data[1] + data[2]
    assert all(table[key].credential_id == key for key in table)
    assert bytes(EntitlementTable.of(dict(table), table.level_ids)) == data[3:]


def _table_seed() -> bytes:
    table = _entitlements()
    return bytes((table.shape.sets, table.shape.short, table.shape.long)) + bytes(table)


def _status_list() -> bytes:
    made = revocation.StatusList.build(
        site_id=SITE,
        version=3,
        issued_at=NOW,
        expires_at=NOW + timedelta(days=7),
        size=64,
        statuses={5: revocation.Status.INVALID, 6: revocation.Status.SUSPENDED},
    )
    return _payload(made.seal(SIGNER), revocation.MEDIA_TYPE)


def _commands() -> list[bytes]:
    unlock = commands.Command(
        command_id=bytes(16),
        site_id=SITE,
        controller_id=CONTROLLER,
        door_id=GATE,
        action=commands.Action.UNLOCK_ONCE,
        issued_at=NOW,
        expires_at=NOW + timedelta(seconds=30),
        operator_id=OperatorId("op-1"),
    )
    later = NOW + timedelta(hours=1)
    lockdown = replace(unlock, action=commands.Action.SET_MODE, mode=DoorMode.LOCKDOWN, until=later)
    granted = replace(
        unlock, action=commands.Action.GRANT, request_id=bytes(16), credential_id=CredentialId(bytes(16))
    )
    return [commands.to_bytes(each) for each in (unlock, lockdown, granted)]


def _statement() -> bytes:
    return key_statement.seal(_said(), ISSUER_KEY.public_key(), lambda data: sign(ISSUER_KEY, data))


def _statement_of_a_new_root() -> bytes:
    old, new = Authority.create("root", NOW, ISSUER_KEY), Authority.create("root", NOW)
    change = RootChange(
        certificate=new.certificate.public_bytes(Encoding.DER),
        links=(old.link(new.certificate, NOW).public_bytes(Encoding.DER),),
        former_is_believed=True,
    )
    said = replace(_said(), root_change=change)
    return key_statement.seal(said, new.key.public_key(), lambda data: sign(new.key, data))


def _said() -> key_statement.KeyStatement:
    return key_statement.KeyStatement(
        version=1,
        issued_at=NOW,
        policy_keys=(bytes(32), bytes(31) + b"\1"),
        issuers={ISSUER: encode_point(ISSUER_KEY.public_key())},
    )


def _from_hub(data: bytes) -> None:
    survives(messages.Acknowledgement.from_bytes, data)


def _chunk(data: bytes) -> None:
    survives(messages.DocumentChunk.from_bytes, data)
    messages.DocumentAssembler().add(messages.DocumentChunk.from_bytes(data))


# ---- from a controller


def _up_topic(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert str(topics.UpTopic.parse(text)) == text


def _down_topic(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert str(topics.DownTopic.parse(text)) == text


@cache
def _event() -> bytes:
    draft = EventDraft(
        kind=EventKind.DOOR_OPENED,
        occurred_at=NOW,
        clock_trusted=True,
        door_id=GATE,
        details={"at_start": True, "number": 3},
    )
    return bytes(Event(sequence=1, previous_hash=genesis(CONTROLLER, JOURNAL), draft=draft))


def _batch(data: bytes) -> None:
    Batch.open(data, CONTROLLER, TRUSTED)


def _statuses() -> list[bytes]:
    return [bytes(messages.ControllerStatus(online=False, sent_at=NOW))]


def _hello() -> list[bytes]:
    hello = messages.Hello(
        journal_id=JOURNAL, first_sequence=1, last_sequence=9, versions={}, software="drempel"
    )
    return [bytes(hello)]


# ---- from a technician

CONFIGURATION: Final = """\
[controller]
id = "c-1"
site = "west"
state_dir = "state"
pins = "mock"
[hub]
host = "localhost"
port = 8883
[keys]
device_certificate = "k"
device_key = "k"
event_key = "k"
root_certificate = "k"
policy_public_key = "k"
passphrase_file = "k"
[fire]
pin = 26
[[door]]
id = "front"
strike_pin = 17
energise_to = "unlock"
contact_pin = 27
[[door.reader]]
side = "entry"
device = "/dev/ttyAMA0"
green_pin = 23
"""


LONGEST_NAME: Final = "k" * 255
"""A file system takes no longer one: looking for it is an error, and not an absent file."""


@cache
def _site_files() -> Path:
    """A directory with the key files a configuration names; in memory where there is such a place."""
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if os.access(memory, os.W_OK) else None))
    for name in ("k", LONGEST_NAME):
        (directory / name).touch(mode=0o600)
    return directory


def _configuration(data: bytes) -> None:
    path = _site_files() / "controller.toml"
    path.write_bytes(data)
    config_file.load(path, environment={})


_FOREIGN = (MalformedData,)
_SIGNED = (MalformedData, VerificationError)

TARGETS: Final[dict[str, Target]] = {
    "tlv": Target(
        feed=one_of(_tlv, tlv.parse_one_byte),
        refusals=_FOREIGN,
        seeds=lambda: [b"\0" + _example_certificate(), bytes.fromhex("015c0202015702f09f")],
    ),
    "apdu": Target(
        feed=one_of(_command_apdu, _response_apdu),
        refusals=_FOREIGN,
        seeds=lambda: [
            b"\0" + bytes(pkoc.SELECT),
            b"\0" + bytes(pkoc.GET_CERTIFICATE),
            b"\0" + bytes(CommandAPDU(cla=0, ins=0x88, data=bytes(300), le=65_536)),
            b"\1\x90\x00",
        ],
    ),
    "certificate": Target(
        feed=_certificate, refusals=_SIGNED, seeds=lambda: [_example_certificate()], max_bytes=2_048
    ),
    "iso_dep": Target(
        feed=_iso_dep,
        refusals=(CardError, MalformedData),
        seeds=lambda: [
            bytes.fromhex("0606757781028000") + bytes.fromhex("02a200") * 2,
            bytes.fromhex("0606757781028000") + bytes.fromhex("01a201a301a203020102"),
            bytes.fromhex("0606757781028000") + bytes.fromhex("02f23b02f23bff0100"),
        ],
        max_bytes=8_192,
    ),
    "presentation": Target(
        feed=_presentation,
        refusals=(CardError,),
        seeds=_conversations,
        max_bytes=4_096,
    ),
    "issuers_channel": Target(
        feed=one_of(
            secure_channel.Greeting.from_bytes, secure_channel.unpad, _card_status, personalisation.parse_key
        ),
        refusals=(MalformedData, CardError),
        seeds=lambda: [
            b"\0" + bytes(SERIAL) + bytes.fromhex("300360") + bytes(16),
            b"\1" + secure_channel.pad(bytes(20)),
            b"\2"
            + bytes(
                personalisation.CardStatus(life=personalisation.Life.BLANK, serial=SERIAL, tries_left=10)
            ),
        ],
    ),
    "personalisation": Target(
        feed=_personalise,
        refusals=(CardError, CardNotGenuine, VerificationError),
        seeds=_personalisations,
        max_bytes=2_048,
    ),
    "envelope": Target(
        feed=lambda data: envelope.open_sealed(data, "text/plain", TRUSTED),
        refusals=_SIGNED,
        seeds=lambda: [envelope.seal(b"x", "text/plain", SIGNER)],
    ),
    "cbor": Target(
        feed=lambda data: cbor.decode(data, limit=4_096),
        refusals=_FOREIGN,
        seeds=lambda: [cbor.encode({1: [True, b"x", "y"], 2: {3: -4}})],
        max_bytes=4_096,
    ),
    "bundle": Target(
        feed=lambda data: bundle.open_bundle(data, TRUSTED),
        refusals=_SIGNED,
        seeds=lambda: [bundle.seal(_policy(), SIGNER)],
        max_bytes=4_096,
    ),
    "policy": Target(
        feed=_signed_part,
        refusals=_SIGNED,
        seeds=lambda: [bundle.signed_part(_policy())],
        max_bytes=4_096,
    ),
    "entitlements": Target(feed=_table, refusals=_FOREIGN, seeds=lambda: [_table_seed()], max_bytes=2_048),
    "status_list": Target(
        feed=_sealed(lambda data: revocation.StatusList.open(data, TRUSTED), revocation.MEDIA_TYPE),
        refusals=_SIGNED,
        seeds=lambda: [_status_list()],
    ),
    "command": Target(
        feed=_sealed(lambda data: commands.open_command(data, TRUSTED), commands.MEDIA_TYPE),
        refusals=_SIGNED,
        seeds=_commands,
    ),
    "key_statement": Target(
        feed=lambda data: key_statement.open_statement(data, ISSUER_KEY.public_key()),
        refusals=_SIGNED,
        seeds=lambda: [_statement(), _statement_of_a_new_root()],
        max_bytes=key_statement.MAX_STATEMENT_BYTES,
    ),
    "acknowledgement": Target(
        feed=_from_hub,
        refusals=_FOREIGN,
        seeds=lambda: [bytes(messages.Acknowledgement(journal_id=JOURNAL, sequence=7))],
    ),
    "chunk": Target(
        feed=_chunk,
        refusals=_FOREIGN,
        seeds=lambda: [
            bytes(chunk) for chunk in messages.split_document(messages.DocumentKind.POLICY, 1, bytes(60))
        ],
    ),
    "hello": Target(
        feed=lambda data: survives(messages.Hello.from_bytes, data), refusals=_FOREIGN, seeds=_hello
    ),
    "status": Target(
        feed=lambda data: survives(messages.ControllerStatus.from_bytes, data),
        refusals=_FOREIGN,
        seeds=_statuses,
        max_bytes=4_096,
    ),
    "event": Target(
        feed=lambda data: survives(Event.from_bytes, data), refusals=_FOREIGN, seeds=lambda: [_event()]
    ),
    "batch": Target(
        feed=_batch,
        refusals=_SIGNED,
        seeds=lambda: [seal_batch(CONTROLLER, JOURNAL, 1, [_event()], SIGNER)],
        max_bytes=2_048,
    ),
    "topic": Target(
        feed=one_of(_up_topic, _down_topic),
        refusals=_FOREIGN,
        seeds=lambda: [
            b"\0" + str(topics.UpTopic(CONTROLLER, topics.Up.EVENTS)).encode(),
            b"\1" + str(topics.DownTopic(CONTROLLER, topics.Down.COMMAND)).encode(),
        ],
        max_bytes=128,
    ),
    "configuration": Target(
        feed=_configuration,
        refusals=(ConfigError,),
        seeds=lambda: [
            CONFIGURATION.encode(),
            CONFIGURATION.replace('root_certificate = "k"', f'root_certificate = "{LONGEST_NAME}"').encode(),
        ],
        max_bytes=2_048,
    ),
}
