"""What ``drempel-edge doctor`` looks at in the machine: clock, disk, temperature, supply, watchdog."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from edge import advice
from edge.clock import BUILT
from edge.config import Config
from edge.doctor_hub import Documents, held_documents
from edge.finding import Code, Finding
from edge.state_dir import no_directory
from edge.time_sync import is_synchronised
from pacs.errors import PacsError

LITTLE_FREE_BYTES: Final = 500 * 1024 * 1024
NO_FREE_BYTES: Final = 64 * 1024 * 1024
MANY_WAITING: Final = 10_000
HOT_C: Final = 70.0
TOO_HOT_C: Final = 80.0
_SKEW: Final = timedelta(minutes=5)
_VOLATILE: Final = frozenset({"tmpfs", "ramfs", "overlay"})
_WRITABLE: Final = {
    errno.EACCES: advice.NOT_WRITABLE,
    errno.EROFS: advice.READ_ONLY,
    errno.ENOSPC: advice.FULL,
}
_NO_MODES: Final = frozenset({"vfat", "exfat", "ntfs", "ntfs3"})


def examine_clock(
    config: Config,
    status: dict[str, Any] | None,
    now: datetime,
    documents: Callable[[], Documents] | None = None,
    *,
    is_synchronised: Callable[[], bool | None] = is_synchronised,
) -> Iterator[Finding]:
    """Whether the time of day can be right: by NTP, by what was signed, by what was journalled."""
    synchronised = is_synchronised()
    if synchronised:
        yield Finding.of(Code.CLOCK_NTP_SET)
    elif synchronised is None:
        yield Finding.of(Code.CLOCK_NTP_UNKNOWN)
    else:
        yield Finding.of(Code.CLOCK_NTP_NOT_SET)
    if now < BUILT:
        yield Finding.of(Code.CLOCK_BEFORE_BUILD, now_at=now)
        return
    passed = _proven_past(config, documents)
    late = [code for code, at in passed.items() if now < at - _SKEW]
    if late:
        yield Finding.of(late[0], now_at=now)
    elif status and "clock" in status and not status["clock"]["trusted"]:
        yield Finding.of(Code.CLOCK_DISTRUSTED, now_at=now, distrust=status["clock"]["distrust"])
    else:
        yield Finding.of(Code.CLOCK_RIGHT, now_at=now)


def _proven_past(config: Config, documents: Callable[[], Documents] | None) -> dict[Code, datetime]:
    """Moments that have certainly passed, by what a clock before them is called."""
    passed = {}
    with contextlib.suppress(PacsError):
        held = documents() if documents else held_documents(config)
        for kind, (document, _) in held.items():
            if document is not None:
                passed[Code[f"CLOCK_BEFORE_{kind.name}"]] = document.issued_at
    with contextlib.suppress(OSError):
        written = [
            path.stat().st_mtime
            for path in (config.state_dir / "journal").rglob("*")
            if path.is_file() and path.stat().st_size
        ]
        if written:
            passed[Code.CLOCK_BEFORE_JOURNAL] = datetime.fromtimestamp(max(written), UTC)
    return passed


def examine_disk(config: Config, status: dict[str, Any] | None) -> Iterator[Finding]:
    """Whether the journal can go on for months: free, writable, and a file system that keeps what it took."""
    directory = config.state_dir
    if problem := no_directory(directory):
        what, _, what_to_do = problem.partition("; ")
        yield Finding.of(Code.STATE_DIR_WRONG, path=directory, problem=what, advice=what_to_do)
        return
    if not directory.is_dir():
        yield Finding.of(Code.STATE_DIR_ABSENT, path=directory)
        return
    yield Finding.of(Code.STATE_DIR_THERE, path=directory)
    space = os.statvfs(directory)
    free = space.f_bavail * space.f_frsize
    code = Code.DISK_SPACE_ENOUGH
    if free < NO_FREE_BYTES:
        code = Code.DISK_SPACE_NONE
    elif free < LITTLE_FREE_BYTES:
        code = Code.DISK_SPACE_LITTLE
    yield Finding.of(code, mib=free // 1024**2, path=directory)
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        yield Finding.of(Code.DISK_WRITABLE_YES, path=directory)
    except OSError as error:
        what_to_do = _WRITABLE.get(error.errno or 0, advice.REPLACE_CARD)
        problem = error.strerror or type(error).__name__
        yield Finding.of(Code.DISK_WRITABLE_NO, path=directory, problem=problem, advice=what_to_do)
    kind = filesystem_of(directory)
    code = Code.DISK_FILESYSTEM_KEEPS
    if kind in _VOLATILE:
        code = Code.DISK_FILESYSTEM_FORGETS
    elif kind in _NO_MODES:
        code = Code.DISK_FILESYSTEM_OPEN
    yield Finding.of(code, filesystem=kind or "unknown")
    yield _journal(config, status)


def _journal(config: Config, status: dict[str, Any] | None) -> Finding:
    if status and "journal" in status:
        waiting = status["journal"]["waiting"]
        code = Code.JOURNAL_WAITS if waiting >= MANY_WAITING else Code.JOURNAL_FLOWS
        return Finding.of(code, waiting=waiting)
    files = [path for path in (config.state_dir / "journal").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return Finding.of(Code.JOURNAL_RESTS, kib=size // 1024, files=len(files))


def filesystem_of(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that holds ``path``; empty when the system does not say."""
    best, kind = -1, ""
    target = path.resolve()
    with contextlib.suppress(OSError):
        for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
            fields, _, filesystem = line.partition(" - ")
            if not filesystem or fields.count(" ") < 4:
                continue
            point = Path(fields.split(" ")[4].replace("\\040", " "))
            if target.is_relative_to(point) and len(point.parts) >= best:
                best, kind = len(point.parts), filesystem.split(" ")[0]
    return kind


def examine_hardware(sys_dir: Path = Path("/sys")) -> Iterator[Finding]:
    """Temperature and supply, where the machine measures them; nothing where it does not."""
    temperatures = []
    for zone in sorted((sys_dir / "class/thermal").glob("thermal_zone*/temp")):
        with contextlib.suppress(OSError, ValueError):
            temperatures.append(int(zone.read_text()) / 1000)
    if temperatures:
        hottest = max(temperatures)
        code = Code.TEMPERATURE_FINE
        if hottest >= TOO_HOT_C:
            code = Code.TEMPERATURE_TOO_HIGH
        elif hottest >= HOT_C:
            code = Code.TEMPERATURE_HIGH
        yield Finding.of(code, celsius=hottest)
    for name in sorted((sys_dir / "class/hwmon").glob("hwmon*/name")):
        with contextlib.suppress(OSError):
            if name.read_text().strip() == "rpi_volt":
                alarm = (name.parent / "in0_lcrit_alarm").read_text().strip() == "1"
                yield Finding.of(Code.SUPPLY_LOW if alarm else Code.SUPPLY_FINE)


def examine_program(modules: Iterable[str] = ("edge.controller", "pacs.decision")) -> Iterator[Finding]:
    """Whether the program is compiled where the service, which may not write there, finds it."""
    for name in modules:
        spec = importlib.util.find_spec(name)
        if spec and spec.cached and spec.has_location and not Path(spec.cached).exists():
            folder = Path(str(spec.origin)).parent.parent
            command = f"sudo {sys.executable} -m compileall -q {folder / 'edge'} {folder / 'pacs'}"
            yield Finding.of(Code.PROGRAM_RECOMPILED, command=command)
            return
    yield Finding.of(Code.PROGRAM_COMPILED)


def examine_watchdog(status: dict[str, Any] | None, sys_dir: Path = Path("/sys")) -> Iterator[Finding]:
    """Who restarts the controller when it hangs, and the machine when that hangs."""
    if status and "watchdog" in status:
        found = status["watchdog"]
        if found["stalled"]:
            yield Finding.of(Code.WATCHDOG_SERVICE_STALLED, parts=", ".join(found["stalled"]))
        elif found["interval_s"]:
            yield Finding.of(Code.WATCHDOG_SERVICE_FED, interval_s=found["interval_s"])
        else:
            yield Finding.of(Code.WATCHDOG_SERVICE_NONE)
    for state in sorted((sys_dir / "class/watchdog").glob("watchdog*/state")):
        with contextlib.suppress(OSError):
            if state.read_text().strip() == "active":
                yield Finding.of(Code.WATCHDOG_MACHINE_ACTIVE, device=state.parent.name)
                return
            yield Finding.of(Code.WATCHDOG_MACHINE_UNUSED, device=state.parent.name)
            return
