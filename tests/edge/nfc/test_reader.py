from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edge.inputs import (
    CardClaimed,
    CardDetected,
    CardPresented,
    CardRefused,
    ReaderInput,
    ReaderLost,
    ReaderRestored,
    ReadFailed,
)
from edge.nfc.health import ReaderState
from edge.nfc.reader import Reader, ReaderSettings
from pacs.credential import Technology, TrustAnchors
from pacs.errors import CardGone, CardMisbehaves, ReaderBroken
from pacs.identifiers import CredentialId, DoorId
from pacs.reason import ReadFault, Reason
from pacs.rules import Side
from simulator.card_deck import Recipe, deal
from simulator.iso_dep_card import Handler

MS = 1_000_000
TODAY = date(2025, 6, 1)
ISSUER = "DREMPELTEST00001"
ISSUER_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
CREDENTIAL = CredentialId(uuid.UUID(int=7).bytes)
RECIPE = Recipe(
    issuer_key=ISSUER_KEY,
    issuer=ISSUER,
    credential_id=CREDENTIAL,
    valid_from=date(2025, 1, 1),
    valid_until=date(2026, 1, 1),
    today=TODAY,
)
PHASES = ["detect", "activate", "select", "certificate", "sign", "verify"]


class World:
    """A field with at most one card in it, a reader that breaks when told, and a clock of its own."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.card: FakeCard | None = None
        self.broken: list[Exception] = []
        self.log: list[str] = []
        self.rests: list[float] = []
        self.at: list[tuple[int, Callable[[], None]]] = []
        self.inputs: list[ReaderInput] = []
        self.works: list[Callable[[], float | None] | None] = []

    def advance(self, duration_ns: int) -> None:
        """Let time pass; what was planned for it happens."""
        end_ns = self.now_ns + duration_ns
        for at_ns, action in sorted(self.at, key=lambda planned: planned[0]):
            if at_ns <= end_ns:
                self.now_ns = max(self.now_ns, at_ns)
                self.at = [planned for planned in self.at if planned[1] is not action]
                action()
        self.now_ns = end_ns

    def rest(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.advance(round(seconds * 1000 * MS))

    def plan(self, at_ms: float, action: Callable[[], None]) -> None:
        self.at.append((round(at_ms * MS), action))

    def lay(self, card: FakeCard | None) -> None:
        self.card = card

    # what the reader sees: an Antenna

    def open(self) -> None:
        self.log.append("open")
        self._break()

    def close(self) -> None:
        self.log.append("close")

    def poll(self, until_ns: int) -> FakeContact | None:
        while True:
            self._break()
            self.advance(10 * MS)
            if self.card is not None:
                return FakeContact(self, self.card)
            if self.now_ns >= until_ns:
                return None

    device = "/dev/reader"
    baud = 921_600

    def check(self) -> str:
        return "well"

    def _break(self) -> None:
        if self.broken:
            raise self.broken.pop(0)


class FakeCard:
    """A handler on the air; ``faults`` are raised one per transaction, in the middle of it."""

    def __init__(
        self, handler: Handler, *, identity: bytes = b"\x04card", faults: list[Exception] | None = None
    ) -> None:
        self.handler = handler
        self.identity = identity
        self.faults = faults or []
        self.answers_presence = True


class FakeContact:
    def __init__(self, world: World, card: FakeCard) -> None:
        self._world = world
        self._card = card
        self.identity = card.identity
        card.handler.reset()

    def activate(self, deadline_ns: int) -> None:
        assert deadline_ns == self._world.now_ns + 1_200 * MS
        self._world.log.append("activate")
        self._world.advance(2 * MS)

    def transceive(self, command: bytes, meanwhile: Callable[[], None]) -> bytes:
        meanwhile()
        self._world.advance(5 * MS)
        if self._world.card is not self._card:
            raise CardGone
        if self._card.faults and command[1] == 0xCA:
            raise self._card.faults.pop(0)
        return self._card.handler.answer(command)

    def while_waiting(self, work: Callable[[], float | None] | None) -> None:
        self._world.works.append(work)

    def is_present(self) -> bool:
        self._world.log.append("presence")
        return self._world.card is self._card and self._card.answers_presence

    def release(self) -> None:
        self._world.log.append("release")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def reader(world: World) -> Reader:
    return make_reader(world)


def make_reader(world: World, **changes: object) -> Reader:
    """A reader on the world's clock that trusts the issuer."""
    options: dict[str, object] = {
        "door_id": DoorId("front"),
        "side": Side.ENTRY,
        "reader_identifier": bytes(32),
        "trust": TrustAnchors(issuers={ISSUER: ISSUER_KEY.public_key()}),
        "put": world.inputs.append,
        "now": lambda: datetime(2025, 6, 1, 12, tzinfo=UTC),
        "monotonic_ns": lambda: world.now_ns,
        "rest": world.rest,
    }
    return Reader(world, **(options | changes))  # type: ignore[arg-type]


def genuine(**options: object) -> FakeCard:
    return FakeCard(deal("genuine", RECIPE), **options)  # type: ignore[arg-type]


def turns(reader: Reader, world: World, until_ms: float) -> list[str]:
    """Turn until then; the kinds of the inputs that came, in order."""
    start = len(world.inputs)
    while world.now_ns < until_ms * MS:
        reader.turn()
    return [type(value).__name__ for value in world.inputs[start:]]


def faults(world: World) -> list[ReadFault]:
    return [value.fault for value in world.inputs if isinstance(value, ReadFailed)]


# ---- one presentation


def test_a_genuine_card_is_presented_once_while_it_stays(reader: Reader, world: World) -> None:
    """A card that lies on the reader for ten seconds is one presentation."""
    world.lay(genuine())
    world.plan(10_000, lambda: world.lay(None))
    assert turns(reader, world, 12_000) == ["CardDetected", "CardPresented"]
    presented = world.inputs[1]
    assert isinstance(presented, CardPresented)
    assert presented.credential.credential_id == CREDENTIAL
    assert (presented.door_id, presented.side) == ("front", Side.ENTRY)
    assert [name for name, _ in presented.marks] == PHASES
    times = [at for _, at in presented.marks]
    assert times == sorted(times)
    assert times[4] - times[0] == 17 * MS


def test_a_genuine_card_is_claimed_while_it_signs(reader: Reader, world: World) -> None:
    """There is work until the answer has come: it claims the credential that is then presented."""
    world.lay(genuine())
    turns(reader, world, 50)
    work, after = world.works
    assert after is None
    assert work is not None
    work()
    presented, claimed = world.inputs[-2:]
    assert isinstance(presented, CardPresented)
    assert claimed == CardClaimed(door_id=DoorId("front"), side=Side.ENTRY, credential=presented.credential)


@pytest.mark.parametrize("name", ["forged", "unknown-issuer"])
def test_a_certificate_that_is_not_authentic_claims_nothing(reader: Reader, world: World, name: str) -> None:
    """Nothing is made ready for a card that no issuer vouches for."""
    world.lay(FakeCard(deal(name, RECIPE)))
    turns(reader, world, 50)
    assert world.works == [None]


def test_a_card_is_presented_again_when_it_comes_back(reader: Reader, world: World) -> None:
    """Leaving for longer than the departure time makes the next approach a presentation of its own."""
    card = genuine()
    world.lay(card)
    for at_ms, there in [(1_000, False), (2_000, True), (3_000, False)]:
        world.plan(at_ms, lambda there=there: world.lay(card if there else None))  # type: ignore[misc]
    assert turns(reader, world, 4_000) == ["CardDetected", "CardPresented"] * 2


def test_a_card_that_flickers_at_the_edge_of_the_field_is_presented_once(
    reader: Reader, world: World
) -> None:
    """Out of sight for less than the departure time is the same approach."""
    card = genuine()
    world.lay(card)
    for n in range(10):
        world.plan(500 + 200 * n, lambda: world.lay(None))
        world.plan(550 + 200 * n, lambda: world.lay(card))
    world.plan(3_000, lambda: world.lay(None))
    assert turns(reader, world, 4_000) == ["CardDetected", "CardPresented"]


def test_a_card_without_a_sign_of_life_is_presented_once(reader: Reader, world: World) -> None:
    """A card that does not answer a presence check is not read again while it stays."""
    card = genuine()
    card.answers_presence = False
    world.lay(card)
    world.plan(3_000, lambda: world.lay(None))
    assert turns(reader, world, 4_000) == ["CardDetected", "CardPresented"]
    assert world.log.count("activate") == 1


# ---- cards that show another UID after each reset


def other_card(number: int, **options: object) -> FakeCard:
    """A genuine card of somebody else."""
    fields = {name: getattr(RECIPE, name) for name in RECIPE.__slots__}
    fields["credential_id"] = CredentialId(uuid.UUID(int=number).bytes)
    return FakeCard(deal("genuine", Recipe(**fields)), **options)  # type: ignore[arg-type]


def presented(world: World) -> list[CredentialId]:
    return [v.credential.credential_id for v in world.inputs if isinstance(v, CardPresented)]


def test_a_card_of_random_uid_without_a_sign_of_life_is_presented_once(reader: Reader, world: World) -> None:
    """It is read a few times more, in silence, and then left alone while it stays."""
    card = genuine(identity=b"\x08rnd")
    card.answers_presence = False
    world.lay(card)
    for n in range(30):
        world.plan(100 * n, lambda n=n: setattr(card, "identity", b"\x08" + n.to_bytes(3)))  # type: ignore[misc]
    world.plan(3_000, lambda: world.lay(None))
    assert turns(reader, world, 4_000) == ["CardDetected", "CardPresented"]
    assert world.log.count("activate") == 1 + ReaderSettings().attempts


def test_two_cards_of_random_uid_swapped_at_once_are_both_presented(reader: Reader, world: World) -> None:
    """The UIDs do not tell them apart; what they prove does."""
    second = other_card(8, identity=b"\x08\x04\x05\x06")
    world.lay(genuine(identity=b"\x08\x01\x02\x03"))
    world.plan(300, lambda: world.lay(second))
    world.plan(600, lambda: world.lay(genuine(identity=b"\x08\x07\x08\x09")))
    world.plan(900, lambda: world.lay(None))
    assert turns(reader, world, 2_000) == ["CardDetected", "CardPresented"] * 3
    assert presented(world) == [CREDENTIAL, CredentialId(uuid.UUID(int=8).bytes), CREDENTIAL]


def test_a_card_of_random_uid_that_flickers_is_presented_once(reader: Reader, world: World) -> None:
    """The same card under another UID is held again without a word, however often it slips."""
    world.lay(genuine(identity=b"\x08\x00\x00\x00"))
    for n in range(1, 20):
        world.plan(500 * n, lambda: world.lay(None))
        world.plan(500 * n + 50, lambda n=n: world.lay(genuine(identity=b"\x08\x00\x00" + bytes((n,)))))  # type: ignore[misc]
    world.plan(11_000, lambda: world.lay(None))
    assert turns(reader, world, 12_000) == ["CardDetected", "CardPresented"]


def test_a_refused_card_of_random_uid_makes_room_for_another(reader: Reader, world: World) -> None:
    """A card that was refused and one that is genuine are two, though their UIDs are both random."""
    world.lay(FakeCard(deal("forged", RECIPE), identity=b"\x08\x01\x02\x03"))
    world.plan(300, lambda: world.lay(genuine(identity=b"\x08\x04\x05\x06")))
    assert turns(reader, world, 1_000) == ["CardDetected", "CardRefused", "CardDetected", "CardPresented"]


def test_a_card_of_random_uid_that_cannot_be_read_again_is_passed_over(reader: Reader, world: World) -> None:
    """A failure in the silent look is counted and not reported: it says nothing about another card."""
    world.lay(genuine(identity=b"\x08\x01\x02\x03"))
    second = genuine(identity=b"\x08\x04\x05\x06", faults=[CardMisbehaves(ReadFault.PROTOCOL_ERROR)] * 9)
    world.plan(300, lambda: world.lay(second))
    assert turns(reader, world, 1_000) == ["CardDetected", "CardPresented"]
    assert reader.health().faults == {ReadFault.PROTOCOL_ERROR: 1}


def test_another_card_is_read_at_once(reader: Reader, world: World) -> None:
    """A second card right after the first is a presentation of its own."""
    world.lay(genuine())
    world.plan(300, lambda: world.lay(other_card(8, identity=b"\x04other")))
    turns(reader, world, 1_000)
    assert presented(world) == [CREDENTIAL, CredentialId(uuid.UUID(int=8).bytes)]


@pytest.mark.parametrize(
    ("kind", "reason", "claimed"),
    [
        ("forged", Reason.CERTIFICATE_FORGED, None),
        ("unknown-issuer", Reason.ISSUER_UNKNOWN, None),
        ("cloned", Reason.SIGNATURE_INVALID, CREDENTIAL),
    ],
)
def test_a_card_that_is_not_authentic_is_refused_once(
    reader: Reader, world: World, kind: str, reason: Reason, claimed: CredentialId | None
) -> None:
    """A refused card has its reason, what it claims, and is not read again while it stays."""
    world.lay(FakeCard(deal(kind, RECIPE)))
    assert turns(reader, world, 3_000) == ["CardDetected", "CardRefused"]
    refused = world.inputs[1]
    assert isinstance(refused, CardRefused)
    assert (refused.reason, refused.credential_id) == (reason, claimed)
    assert refused.technology is Technology.PKOC_V2
    assert [name for name, _ in refused.marks] == PHASES


def test_a_recorded_answer_is_refused(reader: Reader, world: World) -> None:
    """The second presentation of a recording is a replay."""
    card = FakeCard(deal("replaying", RECIPE))
    world.lay(card)
    world.plan(500, lambda: world.lay(None))
    world.plan(1_000, lambda: world.lay(card))
    turns(reader, world, 2_000)
    assert isinstance(world.inputs[1], CardPresented)
    assert isinstance(world.inputs[3], CardRefused)
    assert world.inputs[3].reason is Reason.ANSWER_REPLAYED


def test_a_recorded_answer_is_refused_after_a_change_of_trust(reader: Reader, world: World) -> None:
    """What was accepted is remembered across new trust anchors."""
    card = FakeCard(deal("replaying", RECIPE))
    anchors = {ISSUER: ISSUER_KEY.public_key(), "ANOTHERISSUER001": OTHER_KEY.public_key()}
    world.lay(card)
    world.plan(500, lambda: world.lay(None))
    world.plan(600, lambda: reader.trust(TrustAnchors(issuers=anchors)))
    world.plan(1_000, lambda: world.lay(card))
    turns(reader, world, 2_000)
    assert isinstance(world.inputs[3], CardRefused)
    assert world.inputs[3].reason is Reason.ANSWER_REPLAYED


@pytest.mark.parametrize(("allow_v1", "outcome"), [(True, CardPresented), (False, ReadFailed)])
def test_v1_only_where_it_is_allowed(world: World, allow_v1: bool, outcome: type[ReaderInput]) -> None:
    """A V1 card is read only by a reader whose settings allow it, and else tried once."""
    reader = make_reader(world, settings=ReaderSettings(allow_v1=allow_v1))
    world.lay(FakeCard(deal("v1", RECIPE)))
    turns(reader, world, 2_000)
    assert [type(value) for value in world.inputs] == [CardDetected, outcome]
    assert world.log.count("activate") == 1


def test_the_trust_of_the_next_card_is_what_was_set_last(reader: Reader, world: World) -> None:
    """New trust anchors hold from the next card on."""
    reader.trust(TrustAnchors(issuers={ISSUER: OTHER_KEY.public_key()}))
    world.lay(genuine())
    turns(reader, world, 500)
    assert isinstance(world.inputs[1], CardRefused)
    assert world.inputs[1].reason is Reason.CERTIFICATE_FORGED


class Listening:
    """A card that notes what it is asked to sign."""

    def __init__(self) -> None:
        self.signed: list[bytes] = []
        self._card = deal("genuine", RECIPE)

    def answer(self, command: bytes) -> bytes:
        if command[1] == 0x88:
            self.signed.append(command[5:37])
        return self._card.answer(command)

    def computing_ms(self, command: bytes) -> float:
        return self._card.computing_ms(command)

    def reset(self) -> None:
        self._card.reset()


def test_each_challenge_is_bound_and_fresh(world: World) -> None:
    """What a card signs changes with the random bytes, with the reader and with the time."""
    card = Listening()
    for number, identifier, hour in [(0, 0, 12), (1, 0, 12), (0, 1, 12), (0, 0, 13), (0, 0, 12)]:
        world.lay(FakeCard(card))
        reader = make_reader(
            world,
            random=lambda size, number=number: bytes([number]) * size,
            reader_identifier=bytes([identifier]) * 32,
            now=lambda hour=hour: datetime(2025, 6, 1, hour, tzinfo=UTC),
        )
        world.plan(world.now_ns / MS + 50, lambda: world.lay(None))
        turns(reader, world, world.now_ns / MS + 400)
    assert len(card.signed) == 5
    assert len(set(card.signed)) == 4


# ---- cards that are not read


@pytest.mark.parametrize(
    "fault",
    [
        ReadFault.PROTOCOL_ERROR,
        ReadFault.WAIT_LIMIT,
        ReadFault.LENGTH_LIMIT,
        ReadFault.DEADLINE,
        ReadFault.ATS_INVALID,
    ],
)
def test_a_card_that_misbehaves_is_reported_once_and_tried_again(
    reader: Reader, world: World, fault: ReadFault
) -> None:
    """A lasting fault is said once; the card is read three times with a pause, then left alone."""
    world.lay(genuine(faults=[CardMisbehaves(fault) for _ in range(99)]))
    assert turns(reader, world, 5_000) == ["CardDetected", "ReadFailed"]
    assert faults(world) == [fault]
    assert world.log.count("activate") == 3
    assert world.rests[:3] == [0.15] * 3


def test_a_card_read_at_the_second_attempt_is_presented(reader: Reader, world: World) -> None:
    """A card that first misbehaves and then is read ends in its presentation."""
    world.lay(genuine(faults=[CardMisbehaves(ReadFault.PROTOCOL_ERROR)]))
    assert turns(reader, world, 3_000) == ["CardDetected", "ReadFailed", "CardPresented"]


def test_a_card_that_vanishes_for_a_moment_is_not_a_failure(reader: Reader, world: World) -> None:
    """Contact lost and found within the departure time, while a card approaches, is not reported."""
    world.lay(genuine(faults=[CardGone()]))
    assert turns(reader, world, 3_000) == ["CardDetected", "CardPresented"]


def test_a_card_pulled_out_of_its_transaction_is_not_read(reader: Reader, world: World) -> None:
    """A card that does not come back is reported as gone, once."""
    world.lay(genuine())
    world.plan(20, lambda: world.lay(None))
    assert turns(reader, world, 3_000) == ["CardDetected", "ReadFailed"]
    assert faults(world) == [ReadFault.CARD_GONE]


def test_a_card_that_keeps_vanishing_is_reported(reader: Reader, world: World) -> None:
    """A card lost at each attempt is reported as gone, once, though it is still seen."""
    world.lay(genuine(faults=[CardGone() for _ in range(99)]))
    assert turns(reader, world, 3_000) == ["CardDetected", "ReadFailed"]
    assert faults(world) == [ReadFault.CARD_GONE]
    assert world.log.count("activate") == 3


def test_a_card_pulled_and_replaced_by_another_is_reported(reader: Reader, world: World) -> None:
    """A vanished card that another follows at once is still reported."""
    world.lay(genuine(faults=[CardGone()]))
    world.plan(19, lambda: world.lay(genuine(identity=b"\x04other")))
    assert turns(reader, world, 3_000) == ["CardDetected", "ReadFailed", "CardDetected", "CardPresented"]


@pytest.mark.parametrize(("kind", "fault"), [("blank", ReadFault.TECHNOLOGY_UNSUPPORTED), ("garbage", None)])
def test_a_card_of_another_kind_is_reported_once(
    reader: Reader, world: World, kind: str, fault: ReadFault | None
) -> None:
    """A card without what we read, or of noise, is one failure however long it stays."""
    world.lay(FakeCard(deal(kind, RECIPE)))
    turns(reader, world, 3_000)
    assert faults(world) == [fault or ReadFault.ANSWER_MALFORMED]


# ---- a reader that breaks


def test_a_reader_that_hiccups_heals_at_once(reader: Reader, world: World) -> None:
    """One failure is reported with its cause, and the reader is open again without a rest."""
    reader.turn()
    world.broken = [ReaderBroken("no exchange")]
    reader.turn()
    reader.turn()
    assert world.inputs == [
        ReaderLost(door_id=DoorId("front"), side=Side.ENTRY, cause="no exchange"),
        ReaderRestored(door_id=DoorId("front"), side=Side.ENTRY),
    ]
    assert world.log == ["open", "close", "open"]
    assert world.rests == []


def test_a_reader_that_stays_broken_is_reported_once_and_reset(world: World) -> None:
    """Back-off doubles to its bound, every third failure resets the hardware, and the loss is said once."""
    resets: list[int] = []
    reader = make_reader(world, reset=lambda: resets.append(world.log.count("open")))
    world.broken = [ReaderBroken("gone") for _ in range(9)]
    for _ in range(10):
        reader.turn()
    assert [type(value).__name__ for value in world.inputs] == ["ReaderLost", "ReaderRestored"]
    assert resets == [3, 6, 9]
    assert world.rests == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_a_lost_reader_tells_why_the_last_attempt_failed(reader: Reader, world: World) -> None:
    """It was unplugged, and is gone since: one loss, since the first failure, with the cause of the last."""
    world.broken = [ReaderBroken("Input/output error"), *[ReaderBroken("No such file")] * 3]
    for _ in range(4):
        reader.turn()
    health = reader.health()
    assert (health.cause, health.since_s, health.losses) == ("No such file", 0.0, 1)
    assert [value.cause for value in world.inputs if isinstance(value, ReaderLost)] == ["Input/output error"]


def test_a_reader_that_opens_but_never_polls_is_not_restored(reader: Reader, world: World) -> None:
    """Opening alone heals nothing: back-off goes on until a poll succeeds."""
    polls = iter(range(100))

    def fail_polls(until_ns: int) -> None:
        if next(polls) < 5:
            raise ReaderBroken("deaf")

    world.poll = fail_polls  # type: ignore[method-assign]
    for _ in range(6):
        reader.turn()
    assert [type(value).__name__ for value in world.inputs] == ["ReaderLost", "ReaderRestored"]
    assert world.rests == [0.25, 0.5, 1.0, 2.0]


def test_a_reader_that_breaks_in_a_transaction_reads_the_card_when_healed(
    reader: Reader, world: World
) -> None:
    """The card that was there when the reader broke is read after it has healed."""
    world.lay(genuine(faults=[ReaderBroken("no exchange")]))
    kinds = turns(reader, world, 2_000)
    assert kinds == ["CardDetected", "ReaderLost", "ReaderRestored", "CardPresented"]


@pytest.mark.parametrize("error", [RuntimeError("a defect"), ValueError(), OSError(5, "EIO")])
def test_an_unexpected_exception_is_a_lost_reader(reader: Reader, world: World, error: Exception) -> None:
    """A defect is reported by its type, without its text, and the loop goes on."""
    world.lay(genuine(faults=[error]))
    turns(reader, world, 2_000)
    lost = [value for value in world.inputs if isinstance(value, ReaderLost)]
    assert [value.cause for value in lost] == [f"unexpected {type(error).__name__}"]
    assert isinstance(world.inputs[-1], CardPresented)


def test_a_queue_that_refuses_does_not_end_the_loop(world: World) -> None:
    """When even the report of a loss cannot be put, the reader goes on and reports later."""
    refusals = [RuntimeError("full")] * 3

    def put(value: ReaderInput) -> None:
        if refusals:
            raise refusals.pop()
        world.inputs.append(value)

    reader = make_reader(world, put=put)
    world.broken = [ReaderBroken("gone")] * 4
    for _ in range(6):
        reader.turn()
    assert [type(value).__name__ for value in world.inputs] == ["ReaderLost", "ReaderRestored"]


# ---- its health


def test_health_tells_what_happened(world: World) -> None:
    """State and since when, hardware, last card, reads, failures by fault, losses and resets, each as it was."""
    reader = make_reader(world, reset=lambda: None)
    starting = reader.health()
    assert (starting.state, starting.since_s, starting.firmware) == (ReaderState.STARTING, 0.0, None)
    assert (starting.device, starting.last_card_age_s, starting.faults) == ("/dev/reader", None, {})
    world.broken = [ReaderBroken("gone", "plug it in")] * 3
    for _ in range(3):
        reader.turn()
    lost = reader.health()
    assert (lost.state, lost.cause, lost.advice, lost.since_s, lost.losses, lost.resets) == (
        ReaderState.LOST,
        "gone",
        "plug it in",
        0.0,
        1,
        1,
    )
    turns(reader, world, 2_000)
    world.lay(genuine(faults=[CardMisbehaves(ReadFault.PROTOCOL_ERROR)]))
    world.plan(4_000, lambda: world.lay(None))
    turns(reader, world, 6_000)
    well = reader.health()
    assert (well.state, well.cause, well.advice, well.reads) == (ReaderState.OK, None, None, 1)
    assert (well.firmware, well.baud) == ("well", 921_600)
    assert 0.7 < well.since_s < 2.0
    assert well.faults == {ReadFault.PROTOCOL_ERROR: 1}
    assert well.last_card_age_s is not None
    assert 1.8 < well.last_card_age_s < 2.3
    assert lost.state is ReaderState.LOST, "a value taken does not change"


def test_the_hardware_is_checked_while_no_card_is_there(reader: Reader, world: World) -> None:
    """Right after it was opened, then every four seconds, and never while a card is being read or watched."""
    checks: list[int] = []

    def check() -> str:
        checks.append(world.now_ns // MS)
        return "well"

    world.check = check  # type: ignore[method-assign]
    world.plan(12_000, lambda: world.lay(genuine()))
    world.plan(30_000, lambda: world.lay(None))
    turns(reader, world, 36_000)
    assert checks[0] == 0
    assert [after - before >= 4_000 for before, after in pairwise(checks)] == [True] * (len(checks) - 1)
    assert not [at for at in checks if 12_010 < at < 30_000]
    assert len(checks) >= 4


def test_a_failed_check_is_a_lost_reader(reader: Reader, world: World) -> None:
    """A reader that answers but has no field is reported like a silent one."""
    outcomes = iter([ReaderBroken("the field is off"), None])

    def check() -> str:
        if error := next(outcomes):
            raise error
        return "well"

    world.check = check  # type: ignore[method-assign]
    reader.turn()
    reader.turn()
    assert [type(value).__name__ for value in world.inputs] == ["ReaderLost", "ReaderRestored"]


def test_a_call_that_hangs_is_reported_once_and_ends(reader: Reader, world: World) -> None:
    """The lookout reports a turn without an end, once; when it ended after all the reader is back."""
    reader.turn()
    since_ns = world.now_ns
    poll, reported = world.poll, []

    def hangs(until_ns: int) -> FakeContact | None:
        for _ in range(30):
            world.advance(1_000 * MS)
            reader.look()
            reported.append((world.now_ns - since_ns, len(world.inputs)))
        return poll(until_ns)

    world.poll = hangs  # type: ignore[method-assign]
    reader.turn()
    world.poll = poll  # type: ignore[method-assign]
    reader.turn()
    assert [type(value).__name__ for value in world.inputs] == ["ReaderLost", "ReaderRestored"]
    assert next(after_ns for after_ns, inputs in reported if inputs) <= 10_000 * MS
    reader.look()
    assert reader.health().state is ReaderState.OK


def test_a_reader_that_works_or_waits_is_not_taken_for_one_that_hangs(reader: Reader, world: World) -> None:
    """Neither reading, nor a card that stays, nor the longest rest between attempts is a hang."""

    def rest(seconds: float) -> None:
        world.advance(round(seconds * 1000 * MS))
        reader.look()

    reader._rest = rest
    world.lay(genuine())
    world.plan(20_000, lambda: world.lay(None))
    turns(reader, world, 21_000)
    world.broken = [ReaderBroken("gone")] * 12
    turns(reader, world, 80_000)
    causes = [value.cause for value in world.inputs if isinstance(value, ReaderLost)]
    assert causes == ["gone"]


# ---- the thread


def test_the_thread_ends_when_stopped_and_gives_the_device_back() -> None:
    """Stop ends the thread in whatever it waits, and closes the antenna."""
    world = World()
    world.broken = [ReaderBroken("gone") for _ in range(100)]
    reader = make_reader(world, rest=None)
    reader.start()
    reader.stop(20)
    assert not reader._thread.is_alive()
    assert world.log[-1] == "close"
