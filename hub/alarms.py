"""Alarms: raised and ended by what doors record and by what the hub itself sees, until somebody took note of them.

``Noticed`` follows the events of one ingest transaction; ``Alarms`` watches what no event tells: silence, age,
a clock that is not believed. Neither rings anything: that is the pages' part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from hub import ages, audit
from hub.live import AlarmsChanged, LiveBus
from hub.lookout import Lookout
from hub.store import alarms, controllers, device_certificates, documents, door_state, doors, journals, sites
from hub.store.alarms import Alarm, AlarmKind, Clearance, Source, Subject
from hub.store.controllers import ControllerState
from hub.store.database import Database
from hub.store.door_state import Contact
from hub.store.journals import Anomaly, AnomalyKind
from pacs.events import Event, EventKind
from pacs.identifiers import ControllerId, DoorId, JournalId

WATCH_EVERY_S: Final = 2.0
RESTS: Final = 9.0
"""For so many times as long as a look took: thousands of doors on a busy machine may not keep events from being stored."""
QUIET_AFTER: Final = timedelta(hours=1)
"""For so long more of what somebody took note of is only counted: whoever knows that a record is broken need not hear it
of every message."""

_RAISES: Final = {
    EventKind.DOOR_FORCED: AlarmKind.FORCED,
    EventKind.DOOR_HELD: AlarmKind.HELD,
    EventKind.TAMPER_OPENED: AlarmKind.TAMPER,
    EventKind.FIRE_REPORTED: AlarmKind.FIRE,
    EventKind.READER_LOST: AlarmKind.READER_LOST,
    EventKind.JOURNAL_FULL: AlarmKind.JOURNAL_FULL,
    EventKind.INTERNAL_FAULT: AlarmKind.CONTROLLER_FAULT,
}
_ENDS: Final = {
    EventKind.TAMPER_CLOSED: AlarmKind.TAMPER,
    EventKind.FIRE_CLEARED: AlarmKind.FIRE,
    EventKind.READER_RESTORED: AlarmKind.READER_LOST,
}
_CONTACTS: Final = {
    EventKind.DOOR_OPENED: Contact.OPEN,
    EventKind.DOOR_FORCED: Contact.OPEN,
    EventKind.DOOR_HELD: Contact.OPEN,
    EventKind.DOOR_CLOSED: Contact.CLOSED,
}
_CLEARED: Final = {"forced": AlarmKind.FORCED, "held": AlarmKind.HELD}
_OTHERS: Final = {
    EventKind.DOOR_ALARM_CLEARED,
    EventKind.DOOR_MODE_CHANGED,
    EventKind.JOURNAL_RESTORED,
    EventKind.CONTROLLER_STARTED,
}
_TELLING: Final = frozenset({*_RAISES, *_ENDS, *_CONTACTS, *_OTHERS})
_SAID_AGAIN: Final = (
    AlarmKind.FIRE,
    AlarmKind.FORCED,
    AlarmKind.TAMPER,
    AlarmKind.HELD,
    AlarmKind.READER_LOST,
)
"""What a controller that starts anew says again if it is still so."""
_BROKEN: Final = frozenset(AnomalyKind) - {
    AnomalyKind.NOT_RUNNING,
    AnomalyKind.UNCLEAN_START,
    AnomalyKind.READER_LOST,
    AnomalyKind.CLOCK_UNTRUSTED,  # an alarm of its own, by the heartbeat
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmBounds:
    """When the hub's patience ends.

    ``silent_after``: a controller is not heard; ``unconfirmed_after``: a document is not confirmed by one that is
    there; ``remind_after``: what was acknowledged still stands. ``renewed_before``: so long before its end a certificate
    should have been replaced; controllers ask for that thirty days before.
    """

    silent_after: timedelta = timedelta(minutes=2)
    unconfirmed_after: timedelta = timedelta(minutes=5)
    remind_after: timedelta = timedelta(minutes=15)
    renewed_before: timedelta = timedelta(days=25)


class Noticed:
    """What the events of one write transaction say of alarms and doors; each event is seen once, in its order."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        self._connection = connection
        self._now = now
        self._started: dict[ControllerId, None] = {}
        self._doors: dict[DoorId, tuple[ControllerId, dict[str, Any]]] = {}

    def see(self, controller_id: ControllerId, journal_id: JournalId, event: Event) -> None:
        """Take note of a new event."""
        draft = event.draft
        kind, at = draft.kind, draft.occurred_at
        if kind not in _TELLING:
            return
        if draft.door_id and kind in _CONTACTS:
            self._say(controller_id, draft.door_id, contact=_CONTACTS[kind], contact_at=at)
        if kind in _RAISES:
            subject = Subject(
                kind=_RAISES[kind], controller_id=controller_id, door_id=draft.door_id, side=draft.side
            )
            alarms.raised(
                self._connection,
                subject,
                since=at,
                now=self._now,
                clock_trusted=draft.clock_trusted,
                source=Source(journal_id=journal_id, sequence=event.sequence),
            )
        elif kind in _ENDS:
            self._end(controller_id, event, _ENDS[kind])
        else:
            self._see_other(controller_id, event)

    def doubt(self, anomaly: Anomaly) -> None:
        """Take note of what does not fit into a record."""
        if anomaly.kind not in _BROKEN:
            return
        subject = Subject(
            kind=AlarmKind.RECORD_BROKEN, controller_id=anomaly.controller_id, detail=anomaly.kind.value
        )
        if not alarms.ended_after(self._connection, subject, self._now - QUIET_AFTER):
            alarms.raised(self._connection, subject, since=anomaly.at, now=self._now)

    def finish(self) -> None:
        """Write what was gathered; once, at the end of the transaction."""
        if self._started:
            door_state.forget(self._connection, self._started)
        for door_id, (controller_id, facts) in self._doors.items():
            door_state.say(self._connection, door_id, controller_id, facts)

    def _see_other(self, controller_id: ControllerId, event: Event) -> None:
        draft = event.draft
        match draft.kind:
            case EventKind.DOOR_ALARM_CLEARED:
                if ended := _CLEARED.get(str(draft.details.get("alarm"))):
                    self._end(controller_id, event, ended)
            case EventKind.DOOR_MODE_CHANGED if draft.door_id:
                mode, cause = (str(draft.details.get(name, "")) for name in ("mode", "cause"))
                self._say(
                    controller_id,
                    draft.door_id,
                    mode=mode[:16],
                    mode_cause=cause[:32],
                    mode_at=draft.occurred_at,
                )
            case EventKind.JOURNAL_RESTORED if draft.details.get("cause") == "journal_full":
                self._end(controller_id, event, AlarmKind.JOURNAL_FULL)
            case EventKind.CONTROLLER_STARTED:
                self._end(controller_id, event, *_SAID_AGAIN, how=Clearance.RESTARTED)
                self._started[controller_id] = None
                mine = [door for door, (controller, _) in self._doors.items() if controller == controller_id]
                for door_id in mine:
                    del self._doors[door_id]

    def _say(self, controller_id: ControllerId, door_id: DoorId, **facts: Any) -> None:
        _, known = self._doors.setdefault(door_id, (controller_id, {}))
        known.update(facts)

    def _end(
        self,
        controller_id: ControllerId,
        event: Event,
        *kinds: AlarmKind,
        how: Clearance = Clearance.EVENT,
    ) -> None:
        alarms.cleared(
            self._connection,
            controller_id,
            kinds,
            at=event.draft.occurred_at,
            now=self._now,
            how=how,
            door_id=event.draft.door_id,
            side=event.draft.side,
        )


class Alarms:
    """Watches in a thread of its own, and takes acknowledgements."""

    def __init__(
        self,
        database: Database,
        live: LiveBus,
        bounds: AlarmBounds,
        clock: Callable[[], datetime],
        *,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """``leads``: whether it is this process that watches."""
        self._database = database
        self._live = live
        self._bounds = bounds
        self._clock = clock
        self._made = ages.Kept()
        self.lookout = Lookout(
            "alarms",
            self._watched,
            every_s=WATCH_EVERY_S,
            first_s=WATCH_EVERY_S,
            failed="alarms_not_watched",
            leads=leads,
        )

    def acknowledge(self, alarm_id: int, *, note: str, actor: str) -> Alarm:
        """Somebody takes note; while the alarm stands it comes back later. One that is closed stays as it is.

        Raises ``NotFound``.
        """
        now = self._clock()
        with self._database.write() as connection:
            found = alarms.get(connection, alarm_id)
            if found.closed_at is not None:
                return found
            changed = alarms.acknowledged(
                connection,
                alarm_id,
                actor=actor,
                note=note,
                now=now,
                remind_at=now + self._bounds.remind_after,
            )
            audit.record(
                connection,
                now=now,
                actor=actor,
                action="alarm.acknowledge",
                subject=f"alarm:{alarm_id}",
                reason=note,
                detail={"kind": found.subject.kind.value, "controller": str(found.subject.controller_id)},
            )
        self._live.publish(AlarmsChanged(controllers=frozenset({found.subject.controller_id})))
        return changed

    def look(self) -> None:
        """Raise and end what the hub itself sees."""
        now = self._clock()
        with self._database.read() as connection:
            if not any(_differences(connection, self._bounds, self._made, now)):
                return
        with self._database.write() as connection:
            changes = list(_differences(connection, self._bounds, self._made, now))
            for change in changes:
                change.make(connection, now)
        touched = frozenset(change.subject.controller_id for change in changes)
        self._live.publish(AlarmsChanged(controllers=touched))

    def _watched(self) -> float:
        begun_s = time.monotonic()
        self.look()
        return max(WATCH_EVERY_S, RESTS * (time.monotonic() - begun_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """``since``: raise; None: end, as ``how`` says."""

    subject: Subject
    since: datetime | None = None
    how: Clearance = Clearance.SEEN

    def make(self, connection: Connection, now: datetime) -> None:
        subject = self.subject
        if self.since is not None:
            alarms.raised(connection, subject, since=self.since, now=now)
            return
        alarms.cleared(
            connection,
            subject.controller_id,
            (subject.kind,),
            at=now,
            now=now,
            how=self.how,
            door_id=subject.door_id,
            side=subject.side,
            detail=subject.detail,
        )


def _differences(
    connection: Connection, bounds: AlarmBounds, kept: ages.Kept, now: datetime
) -> Iterator[_Change]:
    """Between what is on record as standing and what is so."""
    standing = alarms.standing(connection)
    states = controllers.presence(connection, now)
    in_use = {controller.id for controller in controllers.list_all(connection)}
    every = doors.bounds(connection)
    home = {door_id: controller_id for door_id, controller_id, _ in every}
    for alarm in standing.values():
        subject = alarm.subject
        moved = subject.door_id is not None and home.get(subject.door_id) != subject.controller_id
        if moved or subject.controller_id not in in_use:
            yield _Change(subject=subject, how=Clearance.WITHDRAWN)
    seen = [state for state in states.values() if state.controller_id in in_use and state.last_seen]
    found = [
        *_silent(seen, bounds, now),
        *_clocks(seen),
        *_documents(connection, seen, every, kept, bounds, now),
        *_renewals(connection, in_use, bounds, now),
    ]
    for subject, since in found:
        if (subject.key in standing) is (since is None):
            yield _Change(subject=subject, since=since)
    yield from _emptied(connection, standing, states)


_Finding = tuple[Subject, datetime | None]  # since when it is so; None: it is not


def _silent(states: list[ControllerState], bounds: AlarmBounds, now: datetime) -> Iterator[_Finding]:
    for state in states:
        silent = not state.online and now - state.since >= bounds.silent_after
        subject = Subject(kind=AlarmKind.DOOR_SILENT, controller_id=state.controller_id)
        if silent or state.online:
            yield subject, state.since if silent else None


def _clocks(states: list[ControllerState]) -> Iterator[_Finding]:
    """By the heartbeat: what was before it has a place in the record, and is over."""
    for state in states:
        if state.online and state.clock_trusted is not None:
            subject = Subject(kind=AlarmKind.CLOCK_UNTRUSTED, controller_id=state.controller_id)
            yield subject, None if state.clock_trusted else state.last_seen


def _renewals(
    connection: Connection, in_use: set[ControllerId], bounds: AlarmBounds, now: datetime
) -> Iterator[_Finding]:
    """Of controllers that are away too: they cannot ask for another certificate."""
    ends = device_certificates.ending(connection, before=now + bounds.renewed_before)
    for controller_id in in_use:
        end = ends.get(controller_id)
        subject = Subject(kind=AlarmKind.RENEWAL_OVERDUE, controller_id=controller_id)
        yield subject, None if end is None else end - bounds.renewed_before


def _documents(
    connection: Connection,
    states: list[ControllerState],
    every: list[tuple[DoorId, ControllerId, timedelta]],
    kept: ages.Kept,
    bounds: AlarmBounds,
    now: datetime,
) -> Iterator[_Finding]:
    confirmed = documents.confirmed_versions(connection)
    site_of = sites.of_controllers(connection)
    made = kept.of_sites(connection)
    oldest: dict[ControllerId, datetime] = {}
    for state in states:
        controller_id = state.controller_id
        for kind, versions in made.get(site_of[controller_id], {}).items():
            held = confirmed.get((controller_id, kind), 0)
            lacking = [at for version, at in versions if version > held]
            at = ages.held_since(versions, held)
            if at is not None:
                oldest[controller_id] = min(at, oldest.get(controller_id, at))
            subject = Subject(
                kind=AlarmKind.POLICY_UNCONFIRMED, controller_id=controller_id, detail=kind.value
            )
            awaited = max(lacking[0], state.since) if lacking and state.online else None
            if awaited is not None and now - awaited >= bounds.unconfirmed_after:
                yield subject, awaited
            elif not lacking:
                yield subject, None
    for door_id, controller_id, bound in every:
        if controller_id in oldest:
            due = oldest[controller_id] + bound
            subject = Subject(kind=AlarmKind.POLICY_TOO_OLD, controller_id=controller_id, door_id=door_id)
            yield subject, due if due <= now else None


def _emptied(
    connection: Connection, standing: Mapping[str, Alarm], states: Mapping[ControllerId, ControllerState]
) -> Iterator[_Change]:
    """A journal that was full, and of which everything is stored here."""
    full = [alarm for alarm in standing.values() if alarm.subject.kind is AlarmKind.JOURNAL_FULL]
    if not full:
        return
    stored = {(head.controller_id, head.journal_id): head.sequence for head in journals.heads(connection)}
    for alarm in full:
        state = states[alarm.subject.controller_id]
        if state.online and stored.get((state.controller_id, state.journal_id or ""), 0) >= (
            state.last_sequence or 0
        ):
            yield _Change(subject=alarm.subject)
