"""Copies of the roll call outside this machine, so that a dead hub or network does not take the list with it.

Each folder has a thread of its own: a share that hangs holds up neither the hub nor the other folders. A folder that is
not there is not made: a stick that is not plugged in is a failure, not a directory on this disk. There is one current
copy of each site and no other; it is replaced in one step.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from hub.lookout import Lookout

Made = Mapping[str, bytes]
"""File name → content."""

PREFIX = "muster-"
_BEING_WRITTEN = ".being-written"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySettings:
    """``folders``: absolute; none: nothing leaves the hub. ``mode``: of each file, as the share lets whom read it."""

    folders: tuple[Path, ...] = ()
    every: timedelta = timedelta(seconds=60)
    mode: int = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyState:
    """One folder's. ``copied_at``: when its copy was last replaced, by this process; ``problem``: why not since."""

    folder: Path
    copied_at: datetime | None = None
    begun_at: datetime | None = None
    problem: str = ""

    def is_late(self, now: datetime, every: timedelta) -> bool:
        """Whether the copy is older than three rounds, or there is none since then."""
        since = self.copied_at or self.begun_at
        return since is not None and now - since > 3 * every


class MusterCopies:
    """Writes what ``make`` returns into each folder, again and again; ``leads``: whether this process is the one to do it."""

    def __init__(
        self,
        settings: CopySettings,
        make: Callable[[], Made],
        clock: Callable[[], datetime],
        *,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings = settings
        self._make = make
        self._clock = clock
        self._leads = leads
        self._folders = [_Folder(folder, settings.mode, clock) for folder in settings.folders]
        self.lookout = Lookout(
            "muster-copies",
            self._round,
            every_s=max(1.0, settings.every.total_seconds()),
            failed="muster_not_made",
            leads=leads,
            ends_in_s=5,
        )

    def start(self) -> None:
        """Begin; nothing happens without folders."""
        if self._folders:
            self.lookout.start()

    @property
    def states(self) -> Sequence[CopyState]:
        """How each folder is."""
        return [folder.state for folder in self._folders]

    def late(self) -> list[CopyState]:
        """Folders whose copy is too old to be relied on; none when another process does it."""
        if not self._leads():
            return []
        now = self._clock()
        return [state for state in self.states if state.is_late(now, self._settings.every)]

    def write(self) -> None:
        """Make one round: hand the present list to every folder that is not still busy with an earlier one."""
        made = self._make()
        for folder in self._folders:
            folder.take(made)

    def _round(self) -> float:
        begun_s = time.monotonic()
        self.write()
        return max(1.0, self._settings.every.total_seconds() - (time.monotonic() - begun_s))


class _Folder:
    def __init__(self, folder: Path, mode: int, clock: Callable[[], datetime]) -> None:
        self._mode = mode
        self._clock = clock
        self._lock = threading.Lock()
        self._busy = False
        self.state = CopyState(folder=folder)

    def take(self, made: Made) -> None:
        """Write in a thread of its own, unless one still hangs: then that is the problem."""
        with self._lock:
            if self.state.begun_at is None:
                self.state = replace(self.state, begun_at=self._clock())
            if self._busy:
                self._failed("it does not answer")
                return
            self._busy = True
        threading.Thread(target=self._write, args=(made,), name="muster-copy", daemon=True).start()

    def _write(self, made: Made) -> None:
        try:
            replace_copies(self.state.folder, made, self._mode)
        except OSError as error:
            with self._lock:
                self._failed(error.strerror or type(error).__name__)
        else:
            with self._lock:
                self.state = replace(self.state, copied_at=self._clock(), problem="")
        finally:
            with self._lock:
                self._busy = False

    def _failed(self, problem: str) -> None:
        if problem != self.state.problem:
            log.error("muster_not_copied", folder=str(self.state.folder), problem=problem)
        self.state = replace(self.state, problem=problem)


def replace_copies(folder: Path, made: Made, mode: int) -> None:
    """Put these files into ``folder``, each in one step, and take away what an earlier round left; raises ``OSError``."""
    for name, content in made.items():
        being_written = folder / f".{name}.{os.getpid()}{_BEING_WRITTEN}"
        try:
            descriptor = os.open(being_written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
            with os.fdopen(descriptor, "wb") as file:
                with contextlib.suppress(PermissionError):  # a share without modes has its own
                    os.fchmod(descriptor, mode)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            being_written.replace(folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                being_written.unlink(missing_ok=True)
            raise
    for other in folder.iterdir():
        is_ours = other.name.startswith(PREFIX) and other.suffix in (".html", ".json")
        is_left = other.name.startswith(f".{PREFIX}") and other.name.endswith(_BEING_WRITTEN)
        if (is_ours and other.name not in made) or is_left:
            other.unlink(missing_ok=True)
