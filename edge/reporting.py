"""What follows from each turn of the state thread: the service manager is fed and told, and a snapshot is published."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from edge import watchdog
from edge.clock import Clock
from edge.config import Config
from edge.inputs import Now
from edge.journal import Journal
from edge.nfc.reader import Reader
from edge.policy_store import PolicyStore
from edge.snapshot import (
    CertificateSnapshot,
    ControllerSnapshot,
    DocumentSnapshot,
    DoorSnapshot,
    JournalSnapshot,
    LinkSnapshot,
    ReaderSnapshot,
    WatchdogSnapshot,
)
from edge.watchdog import Watchdog
from pacs.identifiers import DoorId
from pacs.rules import Side


class Doors(Protocol):
    """Who knows how the doors stand."""

    def snapshot(self, now: Now) -> tuple[DoorSnapshot, ...]:
        """Every door; asked by the thread that owns the state."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What is reported about. ``readers``: by the side of the door they hang at."""

    config: Config
    software: str
    clock: Clock
    doors: Doors
    journal: Journal
    store: PolicyStore
    link: Callable[[], LinkSnapshot]
    certificate: Callable[[], CertificateSnapshot | None]
    readers: Mapping[tuple[DoorId, Side], Reader]


class Reporter:
    """Called by the thread that owns the state, which it never keeps waiting."""

    def __init__(
        self,
        about: Reported,
        *,
        guard: Watchdog,
        publish: Callable[[ControllerSnapshot], None],
        tell: Callable[[str], None] = watchdog.tell,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``publish`` and ``tell`` do not wait."""
        self._about = about
        self._guard = guard
        self._publish = publish
        self._tell = tell
        self._monotonic_s = monotonic_s
        self._started_s = monotonic_s()
        self._told = ""
        self.latest: ControllerSnapshot | None = None
        """Of the last turn; to be read from any thread."""

    def turn(self) -> None:
        """Feed first: what is told depends on more than the doors do."""
        self._guard.feed()
        self.latest = snapshot = self._taken()
        self._publish(snapshot)
        line = snapshot.line()
        if line != self._told:
            self._tell(f"STATUS={line}")
            self._told = line

    def _taken(self) -> ControllerSnapshot:
        about, now = self._about, self._about.clock.now()
        now_s = self._monotonic_s()
        held = about.store.held
        outgoing = about.journal.outgoing
        return ControllerSnapshot(
            controller=about.config.controller_id,
            site=about.config.site_id,
            software=about.software,
            at=now.clock.at,
            taken_s=now_s,
            uptime_s=now_s - self._started_s,
            clock_trusted=now.clock.trusted,
            clock_distrust=now.distrust.value if now.distrust else None,
            policy=_document(held.policy),
            revocations=_document(held.revocations),
            journal=JournalSnapshot(
                journal_id=str(outgoing.journal_id),
                last_sequence=outgoing.last_sequence,
                acknowledged=outgoing.acknowledged,
                waiting=max(0, outgoing.last_sequence - outgoing.acknowledged),
            ),
            link=about.link(),
            certificate=about.certificate(),
            watchdog=self._watchdog(),
            doors=about.doors.snapshot(now),
            readers=tuple(
                _reader(door_id, side, reader, now_s) for (door_id, side), reader in about.readers.items()
            ),
        )

    def _watchdog(self) -> WatchdogSnapshot:
        return WatchdogSnapshot(
            interval_s=self._guard.within_s,
            fed_s_ago=round(self._guard.fed_s_ago, 3),
            stalled=self._guard.hanging,
        )


def _document(held: Any) -> DocumentSnapshot | None:
    if held is None:
        return None
    return DocumentSnapshot(version=held.version, issued_at=held.issued_at, expires_at=held.expires_at)


def _reader(door_id: DoorId, side: Side, reader: Reader, now_s: float) -> ReaderSnapshot:
    health = reader.health()
    age_s = health.last_card_age_s
    return ReaderSnapshot(
        door=door_id,
        side=side.value,
        device=health.device,
        state=health.state.value,
        state_s=round(max(0.0, now_s - health.since_s), 1),
        cause=health.cause,
        advice=health.advice,
        firmware=health.firmware,
        baud=health.baud,
        last_card_s=None if age_s is None else round(age_s, 1),
        reads=health.reads,
        faults={fault.value: number for fault, number in health.faults.items()},
        losses=health.losses,
        resets=health.resets,
    )
