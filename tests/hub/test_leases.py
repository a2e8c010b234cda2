from __future__ import annotations

import subprocess
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import leases
from hub.leases import LEADER, SharedLeases, SoleLeases, Standing, fair_share, is_served
from hub.store import leases as stored
from hub.store.database import Database
from pacs.errors import StoreError
from pacs.topics import SHARDS
from tests.hub.controller import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from tests.hub.databases import PostgreSql


class Process:
    """What a hub process has of the leases, and each change that it was told of."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.leases = SharedLeases(database)
        self.changes: list[tuple[Standing, Standing]] = []
        self.leases.claim()
        self.leases.start(lambda before, now: self.changes.append((before, now)))

    @property
    def shards(self) -> frozenset[int]:
        return self.leases.standing.shards


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LOOK_EVERY_S", 0.05)


@pytest.fixture
def processes(postgresql: PostgreSql) -> Iterator[list[Process]]:
    """Three, started one after the other."""
    database = postgresql.empty()
    started: list[Process] = []
    for _ in range(3):
        started.append(Process(database))
        until_settled(started)
    yield started
    for process in started:
        process.leases.stop()
    database.close()


def settled(processes: list[Process], count: int) -> bool:
    """All shards are held, each once and in fair shares, and exactly one leads."""
    standings = [process.leases.standing for process in processes if process.shards]
    held = [number for standing in standings for number in standing.shards]
    sizes = [len(standing.shards) for standing in standings]
    return (
        len(standings) == count
        and sorted(held) == list(range(SHARDS))
        and max(sizes) - min(sizes) <= 1
        and sum(standing.is_leader for standing in standings) == 1
        and {standing.processes for standing in standings} == {count}
    )


def until_settled(processes: list[Process]) -> None:
    eventually(lambda: settled(processes, len(processes)), f"{len(processes)} share")


@given(members=st.sets(st.integers(1, 2**22), min_size=1, max_size=40))
def test_fair_shares_are_all_and_differ_by_one(members: set[int]) -> None:
    """However many processes there are."""
    shares = [fair_share(sorted(members), each) for each in members]
    assert sum(shares) == SHARDS
    assert max(shares) - min(shares) <= 1


def test_whoever_joins_gets_a_share_and_whoever_leaves_hands_on_his(processes: list[Process]) -> None:
    """No shard is ever held by two, one that is given up is told before it is free, and the lead is handed on."""
    first, *others = processes
    assert first.changes[0][1].shards == frozenset(range(SHARDS))
    first.leases.stop()
    assert first.shards == frozenset()
    until_settled(others)


def test_a_cut_connection_is_the_end_of_every_lease(processes: list[Process]) -> None:
    """Who is cut off from the database knows it has nothing, and comes back to a fair share."""
    victim = next(process for process in processes if process.leases.standing.is_leader)
    told = len(victim.changes)
    with victim.leases._database.engine.connect() as connection:
        (held,) = [each for each in stored.members(connection).values() if LEADER in each.held]
        stored.end(connection, held.session)
    lost = (Standing(), True)
    eventually(lambda: lost in [(now, bool(before.shards)) for before, now in victim.changes[told:]], "told")
    until_settled(processes)


def test_a_stuck_process_is_relieved(processes: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that asks for nothing any more loses what it has to the others."""
    monkeypatch.setattr(leases, "STUCK_AFTER_S", 1.0)
    held_up = threading.Event()
    stuck = processes[0]
    monkeypatch.setattr(stuck.leases, "_look", lambda *_: held_up.wait(30))
    try:
        until_settled(processes[1:])
    finally:
        held_up.set()
        monkeypatch.undo()


def test_it_is_known_whether_a_hub_runs(processes: list[Process], tmp_path: Path) -> None:
    """On either database: while a process takes part, and no longer; to ask takes nothing from it."""
    shared, sole = processes[0].database, Database.at(tmp_path / "hub.sqlite")
    assert is_served(shared)
    for process in processes:
        process.leases.stop()
    eventually(lambda: not is_served(shared), "nobody takes part")
    assert not is_served(sole)
    hub = leases.leases_of(sole)
    hub.claim()
    assert is_served(sole)
    hub.stop()
    assert not is_served(sole)
    sole.close()


def test_leases_are_of_one_database(postgresql: PostgreSql) -> None:
    """Two hubs on one server, each on a database of its own, do not know of one another."""
    databases = [postgresql.empty(), postgresql.empty()]
    started = [Process(database) for database in databases]
    for process in started:
        until_settled([process])
    for process, database in zip(started, databases, strict=True):
        process.leases.stop()
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            eventually(partial(has_nobody, connection))
        database.close()


def has_nobody(connection: Connection) -> bool:
    """Whether no process takes part any more on this database."""
    return not stored.members(connection)


def test_two_processes_on_one_sqlite_file_are_refused(tmp_path: Path) -> None:
    """The second one is told why, and what to do; when the first is gone another may have the file."""
    path = tmp_path / "hub.sqlite"
    claims = f"""
from pathlib import Path
from hub.leases import SoleLeases
sole = SoleLeases(Path({str(path)!r}))
sole.claim()
"""
    sole = SoleLeases(path)
    sole.claim()
    command = [sys.executable, "-c", claims]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "another hub process has this database; several of them need PostgreSQL" in refused.stderr
    with pytest.raises(StoreError, match=str(path)):
        SoleLeases(path).claim()
    sole.start(lambda _before, now: None)
    assert sole.standing.shards == frozenset(range(SHARDS))
    sole.stop()
    subprocess.run(command, check=True)
