"""The queue of attended requests: each has one end, the first answer counts, and nothing is granted that nobody asked for."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import func, select

from hub.attendance import Attendance, RequestAnswered, RequestOver
from hub.commands import UNLOCK_LIFETIME, Commands
from hub.inbox import Message
from hub.ingest import Ingest
from hub.keys import SigningKey
from hub.live import LiveBus
from hub.periods import Periods
from hub.retention import Retention
from hub.store import attendance as store
from hub.store import controllers, doors
from hub.store.attendance import AttendedRequest, RequestState
from hub.store.audit import oldest_first
from hub.store.controllers import Controller
from hub.store.schema import attended_looks, attended_requests
from pacs.commands import Action, Command, open_command
from pacs.envelope import trusted_keys
from pacs.events import EventKind
from pacs.identifiers import ControllerId, CredentialId, DoorId
from pacs.reason import Reason
from pacs.rules import Door, Side
from pacs.topics import Down, DownTopic, Up, UpTopic
from tests.hub.controller import MemoryJournal
from tests.hub.databases import SITE, fresh_database, make_site

KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
TRUSTED = trusted_keys(KEY.public_key())
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ANNA, BO = "operator:anna", "operator:bo"
CARD = CredentialId(b"\x33" * 16)


class Nobody:
    """Distribution, which has nothing to do with this."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_kinds: None


class At:
    """One controller with one door, whose journal reaches the hub at once."""

    def __init__(self, desk: Desk, name: str) -> None:
        self.desk = desk
        self.id, self.door_id = ControllerId(name), DoorId(name)
        self.key = Ed25519PrivateKey.generate()
        self.journal = MemoryJournal(self.id)

    def record(self, kind: EventKind, **fields: Any) -> None:
        fields = {"occurred_at": self.desk.now, "door_id": self.door_id, "side": Side.ENTRY, **fields}
        self.journal.append(kind, **fields)

    def sent(self, first: int | None = None) -> Message:
        """Everything from ``first`` on, or the last event."""
        last = self.journal.last_sequence
        batch = self.journal.batch(self.key, first or last, last)
        return Message(str(UpTopic(self.id, Up.EVENTS)), batch)

    def ahead(self) -> Message:
        """The last event before its turn."""
        last = self.journal.last_sequence
        return Message(str(UpTopic(self.id, Up.AHEAD)), self.journal.batch(self.key, last, last))

    def asks(
        self, *, timeout_s: int = 60, request: bytes | None = None, deliver: bool = True, **fields: Any
    ) -> str:
        """Somebody taps at the attended door; the request's id."""
        request = request or secrets.token_bytes(16)
        details = {"request": request, "timeout_s": timeout_s}
        fields = {"reason": Reason.DOOR_ATTENDED, "credential_id": CARD, "details": details, **fields}
        self.record(EventKind.ACCESS_REFERRED, **fields)
        if deliver:
            self.desk.deliver(self.sent())
        return request.hex()

    def says(self, request_id: str, outcome: str, *, reason: Reason | None = None) -> None:
        """The door's word on how a request ended."""
        details = {"request": bytes.fromhex(request_id), "outcome": outcome}
        self.record(EventKind.REFERRAL_ENDED, credential_id=CARD, reason=reason, details=details)
        self.desk.deliver(self.sent())

    def judged(self, command: Command, kind: EventKind, reason: Reason = Reason.COMMANDED) -> None:
        """The door's word on a command."""
        details = {"command": command.command_id, "action": command.action.value}
        self.record(kind, reason=reason, details=details)
        self.desk.deliver(self.sent())


class Desk:
    """Ingest, commands and attendance over a real database, with a clock that a test moves."""

    def __init__(self, directory: Path, *names: str) -> None:
        self.database = fresh_database(directory / "hub.sqlite")
        self.now = NOON
        self.commands_sent: list[Command] = []
        self.at = {name: At(self, name) for name in names}
        with self.database.write() as connection:
            make_site(connection)
            for each in self.at.values():
                raw = each.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
                controller = Controller(
                    site_id=SITE,
                    id=each.id,
                    event_public_key=raw,
                    certificate_serial=None,
                    software=None,
                    registered_at=NOON,
                )
                controllers.register(connection, controller)
                doors.add(connection, Door(id=each.door_id, controller_id=each.id), name="", now=NOON)
        self.live = LiveBus()
        self.ingest = Ingest(
            self.database,
            publish=lambda *_: None,
            documents=Nobody(),
            live=self.live,
            clock=lambda: self.now,
        )
        self.commands = Commands(
            self.database, signing=lambda: SigningKey(key=KEY), publish=self._publish, clock=lambda: self.now
        )
        self.attendance = Attendance(self.database, self.commands, self.live, lambda: self.now)

    def _publish(self, topic: DownTopic, payload: bytes) -> None:
        assert topic.kind is Down.COMMAND
        self.commands_sent.append(open_command(payload, TRUSTED))

    def deliver(self, *messages: Message) -> None:
        """All in one group, as from the queue."""
        self.ingest._take(self.ingest._read(messages))

    def request(self, request_id: str) -> AttendedRequest:
        with self.database.read() as connection:
            return store.get(connection, request_id)

    def state(self, request_id: str) -> RequestState:
        return self.request(request_id).state(self.now)

    def waiting(self) -> list[str]:
        with self.database.read() as connection:
            return [each.id for each in store.pending(connection, self.now)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, "front", "yard")
    yield desk
    desk.database.close()


@pytest.fixture
def front(desk: Desk) -> At:
    return desk.at["front"]


def test_a_request_waits_until_its_door_says_otherwise(desk: Desk, front: At) -> None:
    """It is there with the very transaction that stores its event, and ends by the door's first word."""
    request_id = front.asks()
    found = desk.request(request_id)
    assert (found.state(desk.now), found.reason, found.credential_id) == (
        RequestState.WAITING,
        Reason.DOOR_ATTENDED,
        CARD,
    )
    assert found.expires_at == NOON + timedelta(seconds=60)
    assert desk.waiting() == [request_id]
    front.says(request_id, "withdrawn", reason=Reason.CREDENTIAL_SUSPENDED)
    front.says(request_id, "timeout")
    found = desk.request(request_id)
    assert (found.state(desk.now), found.outcome_reason, found.said_by_door) == (
        RequestState.WITHDRAWN,
        Reason.CREDENTIAL_SUSPENDED,
        True,
    )
    assert desk.waiting() == []


def test_the_first_answer_counts(desk: Desk, front: At) -> None:
    """It is bound to request, door, card and operator; the same guard's click again is the same, a colleague is told."""
    request_id = front.asks()
    given = desk.attendance.answer(request_id, granted=True, reason="known", actor=ANNA)
    assert given.state(desk.now) is RequestState.ANSWERED
    (command,) = desk.commands_sent
    assert command.action is Action.GRANT
    assert (command.request_id, command.door_id, command.credential_id) == (
        bytes.fromhex(request_id),
        front.door_id,
        CARD,
    )
    assert desk.attendance.answer(request_id, granted=True, reason="known", actor=ANNA) == given
    for granted, actor in ((True, BO), (False, BO), (False, ANNA)):
        with pytest.raises(RequestAnswered) as raised:
            desk.attendance.answer(request_id, granted=granted, reason="", actor=actor)
        assert raised.value.answered.answer is not None
        assert (raised.value.answered.answer.given_by, raised.value.answered.answer.issued_at) == (ANNA, NOON)
    assert len(desk.commands_sent) == 1
    front.judged(command, EventKind.COMMAND_EXECUTED)
    front.says(request_id, "granted")
    assert desk.state(request_id) is RequestState.GRANTED
    with pytest.raises(RequestAnswered):
        desk.attendance.answer(request_id, granted=False, reason="", actor=BO)
    with desk.database.read() as connection:
        entries = [entry for entry in oldest_first(connection) if entry.action == "command.give"]
    assert [(entry.actor, entry.detail["request"]) for entry in entries] == [(ANNA, request_id)]


@pytest.mark.parametrize(
    ("timeout_s", "after_s", "lasts_s"),
    [(300, 10, UNLOCK_LIFETIME.total_seconds()), (60, 40, 20), (60, 0, 60)],
)
def test_an_answer_never_outlives_its_request(
    desk: Desk, front: At, timeout_s: int, after_s: int, lasts_s: float
) -> None:
    """Whatever is left of the request's time is all that a grant may be used in."""
    request_id = front.asks(timeout_s=timeout_s)
    desk.now += timedelta(seconds=after_s)
    desk.attendance.answer(request_id, granted=True, reason="", actor=ANNA)
    (command,) = desk.commands_sent
    assert (command.expires_at - command.issued_at).total_seconds() == lasts_s


def test_an_answer_that_came_to_nothing_may_be_given_again(desk: Desk, front: At) -> None:
    """After the door refused it, or nothing was heard of it in its time, either answer may be given by anybody."""
    request_id = front.asks(timeout_s=300)
    desk.attendance.answer(request_id, granted=True, reason="", actor=ANNA)
    front.judged(desk.commands_sent[0], EventKind.COMMAND_REFUSED, Reason.INTERLOCKED)
    assert desk.state(request_id) is RequestState.WAITING
    desk.attendance.answer(request_id, granted=True, reason="", actor=BO)
    desk.now += UNLOCK_LIFETIME
    assert desk.state(request_id) is RequestState.WAITING
    desk.attendance.answer(request_id, granted=False, reason="", actor=ANNA)
    assert [each.action for each in desk.commands_sent] == [Action.GRANT, Action.GRANT, Action.REFUSE]


def test_what_no_door_ends_is_ended_by_the_hubs_clock(desk: Desk, front: At) -> None:
    """From then on nobody can answer it; what the door says later still counts, once."""
    request_id = front.asks()
    desk.now += timedelta(seconds=60)
    assert desk.state(request_id) is RequestState.UNANSWERED
    with pytest.raises(RequestOver):
        desk.attendance.answer(request_id, granted=True, reason="", actor=ANNA)
    desk.attendance.expire()
    found = desk.request(request_id)
    assert (found.outcome, found.said_by_door) == ("unanswered", False)
    assert found.ended_at == found.expires_at
    front.says(request_id, "timeout")
    found = desk.request(request_id)
    assert (found.outcome, found.said_by_door, found.ended_at) == ("timeout", True, desk.now)
    assert desk.commands_sent == []


def test_a_request_out_of_a_backlog_never_rings(desk: Desk, front: At) -> None:
    """Its time was over when it came: it is kept with its end, and the door's own word takes its place."""
    past = NOON - timedelta(minutes=5)
    request_id = front.asks(occurred_at=past)
    found = desk.request(request_id)
    assert (found.came_late, found.state(desk.now), desk.waiting()) == (True, RequestState.UNANSWERED, [])
    front.says(request_id, "timeout")
    assert desk.state(request_id) is RequestState.TIMEOUT


def test_whoever_taps_again_waits_on_under_the_same_request(desk: Desk, front: At) -> None:
    """Longer, also when the hub's clock had ended it; never when the door had."""
    request = secrets.token_bytes(16)
    request_id = front.asks(request=request)
    desk.now += timedelta(seconds=30)
    front.asks(request=request)
    assert desk.request(request_id).expires_at == NOON + timedelta(seconds=90)
    desk.now = NOON + timedelta(seconds=91)
    desk.attendance.expire()
    front.asks(request=request)
    assert desk.state(request_id) is RequestState.WAITING
    front.says(request_id, "refused")
    front.asks(request=request)
    assert desk.state(request_id) is RequestState.REFUSED


def test_what_was_delivered_before_changes_nothing(desk: Desk, front: At) -> None:
    """The same batch again, and another controller that names the request, leave it as it is."""
    request_id = front.asks()
    desk.deliver(front.sent())
    before = desk.request(request_id)
    yard = desk.at["yard"]
    yard.asks(request=bytes.fromhex(request_id))
    yard.says(request_id, "granted")
    assert desk.request(request_id) == before


def test_a_controller_that_starts_anew_holds_no_request(desk: Desk, front: At) -> None:
    """Nobody is rung for what no grant can open any more."""
    request_id = front.asks()
    other = desk.at["yard"].asks()
    front.record(EventKind.CONTROLLER_STARTED, door_id=None, side=None)
    desk.deliver(front.sent())
    assert desk.state(request_id) is RequestState.WITHDRAWN
    assert desk.waiting() == [other]


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": Reason.ESCORT_AWAITED},
        {"credential_id": None},
        {"details": {}},
        {"details": {"request": "text", "timeout_s": 60}},
        {"details": {"request": b"short", "timeout_s": 60}},
        {"details": {"request": b"\x01" * 16, "timeout_s": True}},
    ],
)
def test_what_no_person_can_answer_is_no_request(desk: Desk, front: At, fields: dict[str, Any]) -> None:
    """An escort that is awaited at the door, and whatever a controller may make up."""
    front.asks(**fields)
    assert desk.waiting() == []


def test_a_word_that_the_hub_does_not_know_is_an_end(desk: Desk, front: At) -> None:
    """A door of a later version ends a request in its own way: nobody waits, and nothing is claimed."""
    request_id = front.asks()
    front.says(request_id, "swallowed")
    assert desk.state(request_id) is RequestState.UNKNOWN


def test_each_look_is_audited_once(desk: Desk, front: At) -> None:
    """By operator and request, before the name is handed out; nobody is shown whose request has ended."""
    request_id = front.asks()
    found = desk.request(request_id)
    for _ in range(2):
        desk.attendance.show([found], [ANNA, BO])
    desk.now += timedelta(minutes=2)
    desk.attendance.show([found], ["operator:late"])
    assert desk.request(request_id).looks == 2
    with desk.database.read() as connection:
        entries = [entry for entry in oldest_first(connection) if entry.action == "attended.show"]
    assert [(each.actor, each.detail["request"]) for each in entries] == [
        (ANNA, request_id),
        (BO, request_id),
    ]


def test_requests_go_with_the_precise_events(desk: Desk, front: At) -> None:
    """After their time nothing says any more who waited, who was asked and who answered."""
    request_id = front.asks()
    desk.attendance.show([desk.request(request_id)], [ANNA])
    desk.attendance.answer(request_id, granted=True, reason="", actor=ANNA)
    desk.now += timedelta(minutes=2)
    desk.attendance.expire()
    retention = Retention(desk.database, Periods(), clock=lambda: desk.now, site_changed=lambda: None)
    desk.now += timedelta(hours=71)
    retention.run()
    assert desk.request(request_id).looks == 1
    desk.now += timedelta(hours=1)
    retention.run()
    with desk.database.read() as connection:
        for table in (attended_requests, attended_looks):
            assert connection.scalar(select(func.count()).select_from(table)) == 0


def test_a_thousand_requests_at_once(tmp_path: Path) -> None:
    """Two guards race for each, doors answer some and stay silent at others: no grant without a request, none without an end."""
    desk = Desk(tmp_path, *(f"door-{number}" for number in range(10)))
    asked = {at.id: [at.asks(deliver=False) for _ in range(100)] for at in desk.at.values()}
    desk.ingest.start()
    desk.ingest.put([at.sent(1) for at in desk.at.values()])

    def race(request_id: str) -> int:
        won = 0
        for actor, granted in ((ANNA, True), (BO, False)):
            try:
                desk.attendance.answer(request_id, granted=granted, reason="", actor=actor)
                won += 1
            except RequestAnswered:
                pass
        return won

    every = [request_id for of_door in zip(*asked.values(), strict=True) for request_id in of_door]
    desk.ingest.stop()
    raced = every[:200]
    with ThreadPoolExecutor(8) as guards:
        assert list(guards.map(race, raced)) == [1] * 200
    by_request = {command.request_id: command for command in desk.commands_sent if command.request_id}
    assert len(by_request) == len(desk.commands_sent) == 200
    for at in desk.at.values():
        first = at.journal.last_sequence + 1
        for request_id in asked[at.id][:10]:
            command = by_request[bytes.fromhex(request_id)]
            outcome = "granted" if command.action is Action.GRANT else "refused"
            details = {"request": command.request_id, "outcome": outcome}
            at.record(EventKind.REFERRAL_ENDED, credential_id=CARD, details=details)
        desk.deliver(at.sent(first))
    desk.now += timedelta(minutes=2)
    desk.attendance.expire()
    with desk.database.read() as connection:
        found = store.listing(connection, limit=2000)
    assert {each.id for each in found} == set(every)
    assert {each.id for each in found if each.answer is not None} == set(raced)
    assert all(each.outcome is not None for each in found)
    ended = [each for each in found if each.said_by_door]
    assert len(ended) == 100
    for each in ended:
        assert each.answer is not None
        assert (each.outcome == "granted") is (each.answer.action is Action.GRANT)
    desk.database.close()


def announced(front: At, **fields: Any) -> str:
    """Somebody asks at a door whose record is behind: events that the hub does not have, and a request before its turn."""
    front.record(EventKind.CONTROLLER_STARTED, door_id=None, side=None)
    front.desk.deliver(front.sent())
    front.record(EventKind.CONTROLLER_STARTED, door_id=None, side=None)
    request_id = front.asks(deliver=False, **fields)
    front.desk.deliver(front.ahead())
    return request_id


def test_who_is_announced_waits_at_once_and_once(desk: Desk, front: At) -> None:
    """Nothing of the door's record is stored by it; when that comes, with an earlier start of the controller, it is the same request."""
    request_id = announced(front)
    assert (desk.waiting(), desk.request(request_id).is_recorded) == ([request_id], False)
    desk.deliver(front.ahead())
    desk.attendance.answer(request_id, granted=True, reason="", actor=ANNA)
    desk.deliver(front.sent(2))
    assert (desk.waiting(), desk.request(request_id).is_recorded) == ([request_id], True)
    assert desk.state(request_id) is RequestState.ANSWERED
    with desk.database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(attended_requests)) == 1
    front.record(EventKind.CONTROLLER_STARTED, door_id=None, side=None)
    desk.deliver(front.sent())
    assert desk.state(request_id) is RequestState.WITHDRAWN


def test_an_end_that_is_announced_is_the_doors_word(desk: Desk, front: At) -> None:
    """The record that comes later opens nothing again."""
    request_id = announced(front)
    details = {"request": bytes.fromhex(request_id), "outcome": "granted"}
    front.record(EventKind.REFERRAL_ENDED, credential_id=CARD, details=details)
    desk.deliver(front.ahead())
    assert desk.state(request_id) is RequestState.GRANTED
    desk.deliver(front.sent(2))
    assert (desk.state(request_id), desk.request(request_id).is_recorded) == (RequestState.GRANTED, True)


def test_who_is_announced_and_never_recorded_is_named(desk: Desk, front: At) -> None:
    """A power cut took it: the hub's clock ends it, and it says that only an announcement came."""
    request_id = announced(front, timeout_s=30)
    desk.now += timedelta(seconds=30)
    desk.attendance.expire()
    found = desk.request(request_id)
    assert (found.state(desk.now), found.is_recorded) == (RequestState.UNANSWERED, False)


def test_an_announcement_that_is_late_or_old_opens_nothing(desk: Desk, front: At) -> None:
    """Its time is over, or it has come in its turn; one that nobody signed is set aside."""
    request_id = announced(front, timeout_s=30, occurred_at=NOON - timedelta(seconds=31))
    assert desk.waiting() == []
    desk.deliver(front.sent(2))
    assert desk.request(request_id).came_late
    again = front.asks(timeout_s=30)
    front.says(again, "refused")
    desk.deliver(front.ahead())
    assert desk.waiting() == []
    front.asks(deliver=False)
    forged = front.journal.batch(
        Ed25519PrivateKey.generate(), front.journal.last_sequence, front.journal.last_sequence
    )
    desk.deliver(Message(str(UpTopic(front.id, Up.AHEAD)), forged))
    assert desk.waiting() == []
