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

from edge.clock import BUILT
from edge.config import Config
from edge.doctor_hub import held_documents
from edge.finding import Check, Finding
from edge.state_dir import no_directory
from edge.status import counted
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
    errno.EACCES: "run this as the controller's user, and let state_dir belong to it (chown -R)",
    errno.EROFS: "mount it read-write; replace the card if it does not stay so",
    errno.ENOSPC: "make room",
}
_NO_MODES: Final = frozenset({"vfat", "exfat", "ntfs", "ntfs3"})


def examine_clock(
    config: Config,
    status: dict[str, Any] | None,
    now: datetime,
    *,
    is_synchronised: Callable[[], bool | None] = is_synchronised,
) -> Iterator[Finding]:
    """Whether the time of day can be right: by NTP, by what was signed, by what was journalled."""
    synchronised = is_synchronised()
    if synchronised:
        yield Finding.ok(Check.CLOCK_NTP, "synchronised")
    elif synchronised is None:
        yield Finding.warn(Check.CLOCK_NTP, "the kernel does not say", "run: timedatectl")
    else:
        yield Finding.warn(
            Check.CLOCK_NTP,
            "not synchronised",
            "let systemd-timesyncd reach a time server: timedatectl timesync-status",
        )
    check, advice = Check.CLOCK, "set the clock: timedatectl set-ntp true; fit a clock with a battery"
    if now < BUILT:
        yield Finding.fail(check, f"{now:%Y-%m-%d %H:%M} UTC is before this program was built", advice)
        return
    passed = _proven_past(config)
    late = [what for what, at in passed.items() if now < at - _SKEW]
    if late:
        yield Finding.fail(check, f"{now:%Y-%m-%d %H:%M} UTC is before {late[0]}", advice)
    elif status and "clock" in status and not status["clock"]["trusted"]:
        yield Finding.fail(
            check,
            f"{now:%Y-%m-%d %H:%M} UTC; the controller does not trust it: {status['clock']['distrust']}",
            advice,
        )
    else:
        after = f", after {', '.join(passed)}" if passed else ""
        yield Finding.ok(check, f"{now:%Y-%m-%d %H:%M} UTC{after}")


def _proven_past(config: Config) -> dict[str, datetime]:
    """Moments that have certainly passed, by what shows it."""
    passed = {}
    with contextlib.suppress(PacsError):
        for kind, (document, _) in held_documents(config).items():
            if document is not None:
                passed[f"the issue of the {kind.value}"] = document.issued_at
    with contextlib.suppress(OSError):
        written = [
            path.stat().st_mtime
            for path in (config.state_dir / "journal").rglob("*")
            if path.is_file() and path.stat().st_size
        ]
        if written:
            passed["the newest file of the journal"] = datetime.fromtimestamp(max(written), UTC)
    return passed


def examine_disk(config: Config, status: dict[str, Any] | None) -> Iterator[Finding]:
    """Whether the journal can go on for months: free, writable, and a file system that keeps what it took."""
    directory = config.state_dir
    if problem := no_directory(directory):
        what, _, advice = problem.partition("; ")
        yield Finding.fail(Check.STATE_DIR, f"{directory}: {what}", advice)
        return
    if not directory.is_dir():
        yield Finding.warn(Check.STATE_DIR, f"{directory} is not there", "it is made at the first start")
        return
    yield Finding.ok(Check.STATE_DIR, f"{directory} is there")
    space = os.statvfs(directory)
    free = space.f_bavail * space.f_frsize
    what = f"{free / 1024**2:,.0f} MiB free at {directory}"
    if free < NO_FREE_BYTES:
        yield Finding.fail(
            Check.DISK_SPACE, what, "make room: journalctl --vacuum-size=50M; use a larger card"
        )
    elif free < LITTLE_FREE_BYTES:
        yield Finding.warn(Check.DISK_SPACE, what, "make room, or use a larger card")
    else:
        yield Finding.ok(Check.DISK_SPACE, what)
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        yield Finding.ok(Check.DISK_WRITABLE, f"{directory} takes and keeps a file")
    except OSError as error:
        advice = _WRITABLE.get(error.errno or 0, "replace the card")
        yield Finding.fail(Check.DISK_WRITABLE, f"{directory}: {error.strerror}", advice)
    kind = filesystem_of(directory)
    if kind in _VOLATILE:
        yield Finding.warn(
            Check.DISK_FILESYSTEM, f"{kind}: what is on it is gone after a power cut", "use ext4"
        )
    elif kind in _NO_MODES:
        yield Finding.fail(
            Check.DISK_FILESYSTEM, f"{kind} keeps no file modes: keys can be read by anybody", "use ext4"
        )
    else:
        yield Finding.ok(Check.DISK_FILESYSTEM, kind or "unknown")
    yield _journal(config, status)


def _journal(config: Config, status: dict[str, Any] | None) -> Finding:
    if status and "journal" in status:
        waiting = status["journal"]["waiting"]
        what = f"{counted(waiting, 'event')} waiting for the hub"
        if waiting >= MANY_WAITING:
            return Finding.warn(Check.JOURNAL, what, "restore the connection to the hub")
        return Finding.ok(Check.JOURNAL, what)
    files = [path for path in (config.state_dir / "journal").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return Finding.ok(
        Check.JOURNAL, f"{size / 1024:,.0f} KiB in {counted(len(files), 'file')}; the controller does not run"
    )


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
        what = f"{hottest:.0f} °C"
        if hottest >= TOO_HOT_C:
            yield Finding.fail(
                Check.TEMPERATURE, what, "the processor slows down: move it out of the sun, open the case"
            )
        elif hottest >= HOT_C:
            yield Finding.warn(Check.TEMPERATURE, what, "give the case air")
        else:
            yield Finding.ok(Check.TEMPERATURE, what)
    for name in sorted((sys_dir / "class/hwmon").glob("hwmon*/name")):
        with contextlib.suppress(OSError):
            if name.read_text().strip() == "rpi_volt":
                alarm = (name.parent / "in0_lcrit_alarm").read_text().strip() == "1"
                yield (
                    Finding.fail(Check.SUPPLY, "undervoltage", "use the board's own supply and a short cable")
                    if alarm
                    else Finding.ok(Check.SUPPLY, "no undervoltage")
                )


def examine_program(modules: Iterable[str] = ("edge.controller", "pacs.decision")) -> Iterator[Finding]:
    """Whether the program is compiled where the service, which may not write there, finds it."""
    for name in modules:
        spec = importlib.util.find_spec(name)
        if spec and spec.cached and spec.has_location and not Path(spec.cached).exists():
            folder = Path(str(spec.origin)).parent.parent
            advice = f"sudo {sys.executable} -m compileall -q {folder / 'edge'} {folder / 'pacs'}"
            yield Finding.warn(Check.PROGRAM, "is compiled again at each start, which takes seconds", advice)
            return
    yield Finding.ok(Check.PROGRAM, "is compiled")


def examine_watchdog(status: dict[str, Any] | None, sys_dir: Path = Path("/sys")) -> Iterator[Finding]:
    """Who restarts the controller when it hangs, and the machine when that hangs."""
    if status and "watchdog" in status:
        found = status["watchdog"]
        if found["stalled"]:
            stalled = ", ".join(found["stalled"])
            yield Finding.fail(
                Check.WATCHDOG_SERVICE,
                f"{stalled} hangs",
                "one restart is tried; plug a reader out and in, and look at the log",
            )
        elif found["interval_s"]:
            yield Finding.ok(Check.WATCHDOG_SERVICE, f"fed within {found['interval_s']:g} s")
        else:
            advice = "start it by drempel-edge.service, which has WatchdogSec"
            yield Finding.warn(Check.WATCHDOG_SERVICE, "nobody restarts the controller when it hangs", advice)
    for state in sorted((sys_dir / "class/watchdog").glob("watchdog*/state")):
        with contextlib.suppress(OSError):
            if state.read_text().strip() == "active":
                yield Finding.ok(Check.WATCHDOG_MACHINE, f"{state.parent.name} is active")
                return
            advice = "RuntimeWatchdogSec=14 in /etc/systemd/system.conf, then restart"
            yield Finding.warn(Check.WATCHDOG_MACHINE, f"{state.parent.name} is not used", advice)
            return
