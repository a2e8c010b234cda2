"""A door whose disk takes nothing: the hub does not take its record for complete."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from edge.clock import Clock
from edge.heartbeat import Heartbeat
from edge.hub_connection import Counts
from edge.inputs import Acknowledged
from edge.journal import Journal
from edge.journal_policy import JournalPolicy, WhenUnwritable
from edge.recorder import Recorder
from edge.uplink import Uplink, UplinkSettings
from hub import completeness
from hub.completeness import Cause, Completeness
from pacs.events import EventDraft, EventKind
from pacs.identifiers import DoorId
from pacs.rules import Side
from tests.edge.failing_disk import FailingFiles
from tests.hub.running import RunningHub, running_hub

pytestmark = pytest.mark.timeout(120)

FRONT = DoorId("front")
DEADLINE_S = 30.0


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RunningHub]:
    with running_hub(tmp_path) as hub:
        yield hub


class Door:
    """Journal, recorder, heartbeat and uplink of one controller, without its state thread."""

    def __init__(self, hub: RunningHub, directory: Path) -> None:
        self._hub = hub
        keys = hub.door(FRONT, connect=False)
        self.files = FailingFiles()
        self.clock = Clock(datetime(2026, 1, 1, tzinfo=UTC))
        self.journal = Journal(directory / "journal", controller_id=keys.id, files=self.files)
        policy = JournalPolicy(when_unwritable=WhenUnwritable.CONTINUE_IN_MEMORY)
        self.inputs = SimpleQueue[Any]()
        counts = Counts()
        heartbeat = Heartbeat(
            directory,
            clock=self.clock,
            journal=self.journal,
            cards=SimpleNamespace(unread_count=0, broken_readers=()),
            versions=dict,
            snapshot=lambda: None,
            counts=counts,
            refused_commands=dict,
            in_memory=lambda: self.recorder.in_memory,
        )
        self.uplink = Uplink(
            UplinkSettings(
                host="localhost", port=keys.port, controller_id=keys.id, software="test", heartbeat_s=0.2
            ),
            journal=self.journal,
            event_key=keys.event_key,
            tls_context=lambda: keys.context,
            put=self.inputs.put,
            status=heartbeat.status,
            counts=counts,
            standing=heartbeat.standing,
        )
        self.recorder = Recorder(self.journal, self.uplink.notify, policy)

    def happens(self, kind: EventKind) -> None:
        now = self.clock.now()
        draft = EventDraft(
            kind=kind,
            occurred_at=now.clock.at,
            clock_trusted=now.clock.trusted,
            door_id=FRONT,
            side=Side.ENTRY,
        )
        assert self.recorder.record(draft, now, opens=True) is not None
        self.recorder.want_durable()

    def record(self) -> Completeness:
        """As the hub knows it."""
        while not self.inputs.empty():
            if isinstance(happened := self.inputs.get(), Acknowledged):
                self.recorder.acknowledged(happened, self.clock.now())
        with self._hub.database.read() as connection:
            return completeness.of_doors(connection, datetime.now(UTC))[FRONT]

    def until(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline_s, self.record()
            time.sleep(0.02)

    def stop(self) -> None:
        self.uplink.stop()
        self.recorder.stop(self.clock.now())
        self.journal.close()


def test_people_who_passed_while_the_disk_took_nothing(hub: RunningHub, tmp_path: Path) -> None:
    """Their events wait in memory: the record is whole before, is not while they wait, and is again once they are stored."""
    door = Door(hub, tmp_path)
    door.recorder.start()
    door.uplink.start()
    try:
        door.happens(EventKind.CONTROLLER_STARTED)
        door.until(lambda: door.record().complete)
        door.files.failure = errno.ENOSPC
        door.happens(EventKind.ACCESS_GRANTED)
        passed_at = datetime.now(UTC)
        door.until(lambda: not door.record().complete)
        record = door.record()
        assert record.holes[-1].cause is Cause.ARRIVING
        assert record.unknown_since is not None
        assert record.unknown_since <= passed_at
        door.files.failure = None
        assert door.recorder.catch_up(door.clock.now())
        door.recorder.want_durable()
        door.until(lambda: door.record().complete)
    finally:
        door.stop()
