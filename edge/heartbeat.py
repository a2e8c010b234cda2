"""What a controller says of itself every half minute: how it stands, as the state thread saw it last.

Everything here is asked by the uplink's thread, which may wait for a disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from edge.clock import Clock
from edge.hub_connection import Counts
from edge.journal import Outgoing
from edge.snapshot import ControllerSnapshot, DocumentSnapshot
from pacs.errors import MalformedData, StoreError
from pacs.events import MAX_EVENT_BYTES, Event
from pacs.health import MAX_ALARMS, MAX_COUNTS, MAX_TEXT, ControllerHealth, DoorHealth, ReaderHealth
from pacs.identifiers import DoorId, JournalId
from pacs.messages import ControllerStatus, DocumentKind

if TYPE_CHECKING:
    from edge.renewal import CertificateStanding

THERMAL_ZONE: Final = Path("/sys/class/thermal/thermal_zone0/temp")
"""Thousandths of a degree Celsius, on boards that measure it."""


class Journal(Protocol):
    """Where events wait for the hub."""

    @property
    def outgoing(self) -> Outgoing:
        """What the hub has to get next."""
        ...

    def read(
        self, journal_id: JournalId, from_sequence: int, *, max_events: int, max_bytes: int
    ) -> list[bytes]:
        """Consecutive events, none when there is none yet; raises ``StoreError``."""
        ...


class Cards(Protocol):
    """Who knows about cards that could not be read, and about readers."""

    @property
    def unread_count(self) -> int:
        """Since the start."""
        ...

    @property
    def broken_readers(self) -> tuple[str, ...]:
        """``door/side`` of each."""
        ...

    @property
    def private_doors(self) -> frozenset[DoorId]:
        """Those of which nothing about a person is told."""
        ...


class Heartbeat:
    """Makes the heartbeats of one controller; used by the uplink's thread."""

    def __init__(
        self,
        state_dir: Path,
        *,
        clock: Clock,
        journal: Journal,
        cards: Cards,
        versions: Callable[[], Mapping[DocumentKind, int]],
        snapshot: Callable[[], ControllerSnapshot | None],
        counts: Counts,
        refused_commands: Callable[[], Mapping[str, int]],
        in_memory: Callable[[], int],
        thermal_zone: Path = THERMAL_ZONE,
        certificate: Callable[[], CertificateStanding | None] = lambda: None,
    ) -> None:
        """``snapshot``: None before the state thread's first turn. ``counts``: the uplink's. ``certificate``: the
        one that is connected with.

        ``in_memory``: events that wait for the journal.
        """
        self._state_dir = state_dir
        self._clock = clock
        self._journal = journal
        self._cards = cards
        self._versions = versions
        self._refused_commands = refused_commands
        self._in_memory = in_memory
        self._thermal_zone = thermal_zone
        self._snapshot = snapshot
        self._counts = counts
        self._certificate = certificate

    def status(self) -> ControllerStatus:
        """The heartbeat of this moment; without ``health`` before the state thread's first turn."""
        now = self._clock.now()
        in_memory = self._in_memory()  # first: what moves on meanwhile is counted twice, not missed
        outgoing, snapshot = self._journal.outgoing, self._snapshot()
        withheld = in_memory + outgoing.withheld
        certificate = self._certificate()
        return ControllerStatus(
            online=True,
            sent_at=now.clock.at,
            clock_trusted=now.clock.trusted,
            journal_id=outgoing.journal_id,
            last_sequence=outgoing.last_sequence,
            acknowledged_sequence=outgoing.acknowledged,
            versions=self._versions(),
            unread_count=self._cards.unread_count,
            broken_readers=self._cards.broken_readers,
            health=self._health(snapshot, outgoing, withheld, now.clock.at) if snapshot else None,
            withheld_count=withheld,
            certificate=certificate.serial if certificate else None,
            certificate_ends=certificate.ends_at if certificate else None,
        )

    def standing(self) -> object:
        """What nobody should wait half a minute for: modes and attendance of the doors, what is wrong, lost readers."""
        snapshot = self._snapshot()
        if snapshot is None:
            return None
        doors = tuple(
            (door.mode, door.cause, door.by, door.attendance, door.alarms) for door in snapshot.doors
        )
        return doors, tuple(reader.state for reader in snapshot.readers), snapshot.clock_distrust

    def _health(
        self, snapshot: ControllerSnapshot, outgoing: Outgoing, withheld: int, at: datetime
    ) -> ControllerHealth:
        private = self._cards.private_doors  # when somebody came to one is not told
        return ControllerHealth(
            uptime_s=int(snapshot.uptime_s),
            policy_age_s=_age_s(snapshot.policy, at),
            revocations_age_s=_age_s(snapshot.revocations, at),
            clock_distrust=snapshot.clock_distrust,
            waiting_events=max(0, outgoing.last_sequence - outgoing.acknowledged) + withheld,
            oldest_waiting_s=self._oldest_waiting_s(outgoing, at),
            temperature_millicelsius=self._temperature(),
            free_bytes=self._free_bytes(),
            connections=self._counts.connections,
            batches=self._counts.batches,
            refused_messages=_counted(self._counts.refused),
            refused_commands=_counted(self._refused_commands()),
            doors=tuple(
                DoorHealth(
                    door_id=DoorId(door.door),
                    mode=door.mode[:MAX_TEXT],
                    cause=door.cause[:MAX_TEXT],
                    alarms=tuple(alarm[:MAX_TEXT] for alarm in door.alarms[:MAX_ALARMS]),
                    attendance=door.attendance[:MAX_TEXT],
                )
                for door in snapshot.doors
            ),
            readers=tuple(
                ReaderHealth(
                    reader=f"{reader.door}/{reader.side}",
                    state=reader.state[:MAX_TEXT],
                    reads=None if DoorId(reader.door) in private else reader.reads,
                    failed=sum(reader.faults.values()),
                    losses=reader.losses,
                    resets=reader.resets,
                    last_card_s=None
                    if reader.last_card_s is None or DoorId(reader.door) in private
                    else int(reader.last_card_s),
                )
                for reader in snapshot.readers
            ),
        )

    def _oldest_waiting_s(self, outgoing: Outgoing, at: datetime) -> int | None:
        """None too when the event's own clock was not believed."""
        first = max(outgoing.acknowledged + 1, outgoing.first_sequence)
        try:
            found = self._journal.read(outgoing.journal_id, first, max_events=1, max_bytes=MAX_EVENT_BYTES)
            draft = Event.from_bytes(found[0]).draft if found else None
        except (StoreError, MalformedData):  # the uplink meets it too, and says so
            return None
        if draft is None or not draft.clock_trusted:
            return None
        return max(0, int((at - draft.occurred_at).total_seconds()))

    def _temperature(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int(self._thermal_zone.read_text("ascii"))
        return None

    def _free_bytes(self) -> int | None:
        with contextlib.suppress(OSError):
            found = os.statvfs(self._state_dir)
            return found.f_bavail * found.f_frsize
        return None


def _age_s(document: DocumentSnapshot | None, at: datetime) -> int | None:
    return None if document is None else max(0, int((at - document.issued_at).total_seconds()))


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    """The most frequent ones; a copy, since another thread counts on."""
    ordered = sorted(dict(counts).items(), key=lambda each: -each[1])
    return {name[:MAX_TEXT]: number for name, number in ordered[:MAX_COUNTS]}
