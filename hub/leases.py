"""The work that exactly one hub process does at a time: each of the topic shards, and what is done once for all.

On PostgreSQL every lease is a session's lock: a process that is killed, or cut off from the database, has none. Each
takes its fair share of the shards, and gives some up when another joins. On SQLite there is one process, which has all.

A lease says who should do the work, not that nobody else still does: a process learns of a cut connection a moment
after the database gave its leases away. What must not happen twice is therefore held by the transactions themselves:
``hub.record`` moves a journal's head only from where it is.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from hub.lookout import Lookout
from hub.store import leases
from hub.store.database import Database
from pacs.errors import StoreError
from pacs.identifiers import ControllerId
from pacs.topics import SHARDS, shard

LEADER = SHARDS
"""The lease for what is done once for all: watching for alarms, and every job."""
LOOK_EVERY_S = 1.0
STUCK_AFTER_S = 20.0
"""A process that asked the database for nothing for so long does no work; its leases are taken from it."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What one process has: shards, whether it leads, and how many processes there are (0: it cannot know)."""

    shards: frozenset[int] = frozenset()
    is_leader: bool = False
    processes: int = 0

    def holds(self, controller_id: ControllerId) -> bool:
        """Whether this process serves the controller."""
        return shard(controller_id) in self.shards


EVERYTHING = Standing(shards=frozenset(range(SHARDS)), is_leader=True, processes=1)

Changed = Callable[[Standing, Standing], None]
"""Called with the standing before and the one from now on; before what is given up is free for others."""


class Leases(Protocol):
    """How a process comes to its share."""

    standing: Standing

    def claim(self) -> None:
        """Before anything else of the hub starts; raises ``StoreError`` when there may be no further process."""
        ...

    def start(self, changed: Changed) -> None:
        """Begin to take; ``changed`` is called from one thread at a time."""
        ...

    def stop(self) -> None:
        """Give everything up."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether leases are being looked after."""
        ...


def leases_of(database: Database) -> Leases:
    """The leases on this database."""
    if database.is_shared:
        return SharedLeases(database)
    return SoleLeases(Path(str(database.engine.url.database)))


def is_served(database: Database) -> bool:
    """Whether a hub process has this database; one that starts or ends at this moment may be missed."""
    if database.is_shared:
        with leases.session(database) as connection:
            return len(leases.members(connection)) > 1
    here = SoleLeases(Path(str(database.engine.url.database)))
    try:
        here.claim()
    except StoreError:
        return True
    here.stop()
    return False


class SoleLeases:
    """Everything, held by a lock on a file beside the database's."""

    def __init__(self, database_file: Path) -> None:
        self._database_file = database_file
        self._file: IO[str] | None = None
        self.standing = Standing()

    def claim(self) -> None:
        """Raises ``StoreError`` when another process has the same file."""
        path = self._database_file.with_name(self._database_file.name + ".lock")
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise StoreError(
                f"{self._database_file}: another hub process has this database; several of them need PostgreSQL (database.url)"
            ) from error
        path.chmod(0o600)
        self._file = file

    def start(self, changed: Changed) -> None:
        """Take everything at once."""
        before, self.standing = self.standing, EVERYTHING
        changed(before, EVERYTHING)

    def stop(self) -> None:
        """Let another process have the file."""
        self.standing = Standing()
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def is_running(self) -> bool:
        """Whether the file is this process's."""
        return self._file is not None


class SharedLeases:
    """A thread with a connection of its own to PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed: Changed = _ignore
        self._lookout = Lookout(
            "leases",
            self._take_part,
            every_s=LOOK_EVERY_S,
            failed="leases_not_looked_after",
            ends_in_s=30,
        )
        self.standing = Standing()

    def claim(self) -> None:
        """Any number of processes may be."""

    def start(self, changed: Changed) -> None:
        """Begin to take a fair share."""
        self._changed = changed
        self._lookout.start()

    def stop(self) -> None:
        """End the thread and the connection."""
        self._lookout.stop()

    @property
    def is_running(self) -> bool:
        """Whether this process takes part."""
        return self._lookout.is_running and self.standing.processes > 0

    def _take_part(self) -> None:
        """Until it is stopped, or the connection is lost, and with that what this process held."""
        stopping = self._lookout.stopping
        try:
            with leases.session(self._database) as connection:
                me = leases.own(connection)
                while not stopping.is_set():
                    self._look(connection, me)
                    stopping.wait(LOOK_EVERY_S)
                self._become(Standing())
        except SQLAlchemyError as error:
            log.warning("leases_lost", reason=type(error).__name__)
        finally:
            self._become(Standing())

    def _look(self, connection: Connection, me: int) -> None:
        members = leases.members(connection)
        for member in members.values():
            if member.session != me and member.idle_s > STUCK_AFTER_S:
                log.error("stuck_process_relieved", session=member.session, idle_s=round(member.idle_s))
                leases.end(connection, member.session)
        mine = members[me].held
        shards = sorted(mine - {LEADER})
        share = fair_share(sorted(members), me)
        if excess := shards[share:]:
            mine -= set(excess)
            self._become(_standing(mine, len(members)))
            for number in excess:
                leases.give_up(connection, number)
            return
        taken = {number for member in members.values() for number in member.held}
        wanted = [number for number in range(SHARDS) if number not in taken]
        for number in [*wanted, *({LEADER} - taken)]:
            if (number == LEADER or len(mine - {LEADER}) < share) and leases.take(connection, number):
                mine.add(number)
        self._become(_standing(mine, len(members)))

    def _become(self, standing: Standing) -> None:
        before, self.standing = self.standing, standing
        if before != standing:
            log.info(
                "leases", shards=sorted(standing.shards), leader=standing.is_leader, of=standing.processes
            )
            self._changed(before, standing)


def fair_share(members: list[int], me: int) -> int:
    """How many shards one of these processes has; those of all add up to ``SHARDS``."""
    share, rest = divmod(SHARDS, len(members))
    return share + (members.index(me) < rest)


def _standing(held: set[int], processes: int) -> Standing:
    return Standing(shards=frozenset(held - {LEADER}), is_leader=LEADER in held, processes=processes)


def _ignore(_before: Standing, _now: Standing) -> None:
    """Before ``start``."""
