"""The trial of a new release: switch to it, watch it, and go back to the one before when it does not hold.

Below one directory: ``releases/VERSION/``, whole ones only; ``current`` and ``previous``, links to two of them;
``trial.json`` from the moment a release is offered until it is confirmed or given up; ``refused``, the versions that
were given up. Each file changes by one rename, so a power cut leaves the old or the new.

This file is installed outside of every release and runs under the operating system's own Python, as root, without a
network: what brings a door back must not depend on what broke it. It imports nothing but the standard library, and
runs nothing of a release.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

VERSION: Final = re.compile(r"\d{1,6}\.\d{1,6}\.\d{1,6}", re.ASCII)
PROGRAM: Final = Path("bin/drempel-edge")
EDGE, DESK = "drempel-edge.service", "drempel-desk.service"
WITHIN_S: Final = 600.0
"""A new release has so long to become healthy, and to be so for ``SETTLED_S``."""
SETTLED_S: Final = 60.0
MAX_STARTS: Final = 2
"""Of the machine during one trial; at the next the release before runs again."""
MAX_RESTARTS: Final = 3
"""Of the service during one trial: it is not waited for any longer, people stand at the door."""
QUIET_FOR_S: Final = 120.0
"""Nobody has been at a door for so long: the machine may be restarted."""
QUIET_WITHIN_S: Final = 3600.0
_LOOK_EVERY_S: Final = 2.0
_MAX_STATUS_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Health:
    """How the controller does: ``pid`` 0 while it does not run, ``readers`` that work, ``restarts`` by itself."""

    pid: int = 0
    online: bool = False
    readers: int = 0
    restarts: int = 0


@dataclass(frozen=True)
class Trial:
    """A release that is offered or tried, the one before, and how that one did when it was left."""

    version: str
    previous: str
    starts: int = 0
    online: bool = False
    readers: int = 0


class Releases:
    """The releases below one directory. Every method that changes something is durable when it returns."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, version: str) -> Path:
        """Where a version lies, or will."""
        return self.root / "releases" / version

    def is_whole(self, version: str) -> bool:
        """Whether that version can be run."""
        return bool(VERSION.fullmatch(version)) and (self.path(version) / PROGRAM).is_file()

    def linked(self, name: str) -> str | None:
        """The version that ``current`` or ``previous`` names, when it can be run."""
        with contextlib.suppress(OSError):
            version = (self.root / name).readlink().name
            return version if self.is_whole(version) else None
        return None

    def link(self, name: str, version: str) -> None:
        """Have ``current`` or ``previous`` name this version."""
        temporary = self.root / f".{name}.part"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(Path("releases") / version)
        temporary.rename(self.root / name)
        self.sync()

    def trial(self) -> Trial | None:
        """The trial under way; one that cannot be read is none."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            trial = Trial(**json.loads((self.root / "trial.json").read_text(encoding="utf-8")))
            numbers = all(type(number) is int for number in (trial.starts, trial.readers))
            if numbers and self.is_whole(trial.version) and self.is_whole(trial.previous):
                return trial
        return None

    def keep_trial(self, trial: Trial) -> None:
        """Begin a trial, or note how it stands."""
        self._write("trial.json", json.dumps(asdict(trial)) + "\n")

    def end_trial(self) -> None:
        """There is none any more."""
        (self.root / "trial.json").unlink(missing_ok=True)
        self.sync()

    def refused(self) -> frozenset[str]:
        """The versions that were tried and given up."""
        with contextlib.suppress(OSError, ValueError):
            return frozenset((self.root / "refused").read_text(encoding="utf-8").split())
        return frozenset()

    def refuse(self, version: str) -> None:
        """Never offer this version again."""
        self._write("refused", "\n".join(sorted({*self.refused(), version})) + "\n")

    def tidy(self) -> None:
        """Remove what no link and no trial names, and what an update left unfinished."""
        trial = self.trial()
        kept = {self.linked("current"), self.linked("previous")}
        kept |= {trial.version, trial.previous} if trial else set()
        for directory in (self.root / "releases").iterdir():
            if directory.name not in kept:
                shutil.rmtree(directory)
        shutil.rmtree(self.root / "incoming", ignore_errors=True)
        self.sync()

    def sync(self) -> None:
        """Return once the names in the directory are durable."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _write(self, name: str, text: str) -> None:
        temporary = self.root / f".{name}.part"
        temporary.unlink(missing_ok=True)
        # Another user owns the directory: nothing is written through a link that lies there.
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        temporary.rename(self.root / name)
        self.sync()


def at_start(releases: Releases) -> str:
    """Before the controller starts: have ``current`` name what may run. Returns what was found, for the log."""
    trial = releases.trial()
    current = releases.linked("current")
    if trial is None:
        releases.end_trial()
        if current is None:
            return _rescue(releases)
        return f"{current} runs, no trial"
    if current != trial.version:  # the power went before the switch, or between giving up and noting it
        if current is None:
            releases.link("current", trial.previous)
        releases.end_trial()
        return f"{trial.previous} runs; the trial of {trial.version} had not begun or was over"
    trial = replace(trial, starts=trial.starts + 1)
    if trial.version in releases.refused() or trial.starts > MAX_STARTS:
        give_up(releases, trial)
        return f"back to {trial.previous}: {trial.version} did not hold through {MAX_STARTS} starts"
    releases.keep_trial(trial)
    return f"the trial of {trial.version} goes on, start {trial.starts}"


def _rescue(releases: Releases) -> str:
    whole = [path.name for path in (releases.root / "releases").glob("*") if releases.is_whole(path.name)]
    chosen = releases.linked("previous") or max(whole, key=_numbers, default=None)
    if chosen is None:
        return "no release can be run"
    releases.link("current", chosen)
    return f"current named nothing that can be run; {chosen} runs"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


def give_up(releases: Releases, trial: Trial) -> None:
    """Go back to the release before, and remember not to try this one again; the service is the caller's to restart."""
    releases.refuse(trial.version)
    releases.link("current", trial.previous)
    releases.end_trial()


def try_release(
    releases: Releases,
    *,
    look: Callable[[], Health],
    restart: Callable[[], None],
    within_s: float = WITHIN_S,
    settled_s: float = SETTLED_S,
    monotonic_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Run the trial that is offered or under way to its end. Returns what became of it, for the log."""
    trial = releases.trial()
    if trial is None:
        releases.end_trial()
        return "no trial"
    left_pid = 0
    if releases.linked("current") != trial.version:
        before = look()
        left_pid = before.pid
        trial = replace(trial, online=before.online, readers=before.readers)
        releases.keep_trial(trial)
        releases.link("current", trial.version)
        restart()
    until_s = monotonic_s() + within_s
    held_by, held_since_s, restarts = 0, 0.0, sys.maxsize
    while monotonic_s() < until_s:
        health = look()
        restarts = min(restarts, health.restarts)
        as_before = health.readers >= trial.readers and (health.online or not trial.online)
        if health.pid in (0, left_pid) or not as_before or health.pid != held_by:
            held_by, held_since_s = health.pid if as_before else 0, monotonic_s()
        elif monotonic_s() - held_since_s >= settled_s:
            releases.link("previous", trial.previous)
            releases.end_trial()
            return f"{trial.version} holds"
        if health.restarts - restarts >= MAX_RESTARTS:
            break
        sleep(_LOOK_EVERY_S)
    give_up(releases, trial)
    restart()
    return f"back to {trial.previous}: {trial.version} did not become healthy"


def unit_of(configuration: Path) -> str:
    """The service that this machine is there for: a controller's, or where it is none a desk reader's."""
    is_desk = (configuration / "desk.toml").exists() and not (configuration / "controller.toml").exists()
    return DESK if is_desk else EDGE


def look_at(unit: str, state_dir: Path) -> Health:
    """How the service does, by its manager, and a controller by its own word too."""
    shown = subprocess.run(  # noqa: S603 - fixed arguments
        ["/usr/bin/systemctl", "show", unit, "-p", "ActiveState", "-p", "MainPID", "-p", "NRestarts"],
        capture_output=True,
        text=True,
        check=False,
    )
    state = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    pid, restarts = int(state.get("MainPID") or 0), int(state.get("NRestarts") or 0)
    if state.get("ActiveState") != "active":
        return Health(restarts=restarts)
    if unit == DESK:
        return Health(pid=pid, restarts=restarts)
    status = _status(state_dir)
    if status is None or status.get("starting"):
        return Health(restarts=restarts)
    readers = sum(1 for reader in status.get("readers", []) if reader.get("state") == "ok")
    online = bool(status.get("link", {}).get("answered"))
    return Health(pid=pid, online=online, readers=readers, restarts=restarts)


def _status(state_dir: Path) -> dict[str, Any] | None:
    received = b""
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(3)
            server.connect(str(state_dir / "status.sock"))
            while not received.endswith(b"\n") and len(received) <= _MAX_STATUS_BYTES:
                part = server.recv(_MAX_STATUS_BYTES)
                if not part:
                    break
                received += part
        document = json.loads(received)
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def is_quiet(status: dict[str, Any] | None) -> bool:
    """Whether nobody waits at a door or has been at one just now; a controller that does not answer opens for nobody."""
    if status is None:
        return True
    ages_s = [reader.get("last_card_s") for reader in status.get("readers", [])]
    waiting = any(door.get("waiting") for door in status.get("doors", []))
    return not waiting and all(age_s is None or age_s >= QUIET_FOR_S for age_s in ages_s)


def wait_until_quiet(
    look: Callable[[], dict[str, Any] | None],
    *,
    monotonic_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Return once nobody is at a door, and after ``QUIET_WITHIN_S`` anyway: what was found, for the log."""
    until_s = monotonic_s() + QUIET_WITHIN_S
    while not is_quiet(look()):
        if monotonic_s() >= until_s:
            return "somebody was at a door all the time"
        sleep(_LOOK_EVERY_S)
    return "nobody is at a door"


def _restart(unit: str) -> None:
    subprocess.run(["/usr/bin/systemctl", "restart", "--no-block", unit], check=False)  # noqa: S603 - fixed arguments


def main() -> None:
    """``at-start``, before the controller; ``run``, once a release is offered; ``back``, by hand; ``quiet``, before a restart."""
    parser = argparse.ArgumentParser(
        description="Try a new release of the controller, and go back when it fails."
    )
    parser.add_argument("what", choices=("at-start", "run", "back", "quiet"))
    parser.add_argument("--root", type=Path, default=Path("/opt/drempel"))
    parser.add_argument("--state-dir", type=Path, default=Path("/var/lib/drempel"))
    parser.add_argument("--configuration", type=Path, default=Path("/etc/drempel"))
    parser.add_argument("--within-s", type=float, default=WITHIN_S)
    parser.add_argument("--settled-s", type=float, default=SETTLED_S)
    given = parser.parse_args()
    releases, unit = Releases(given.root), unit_of(given.configuration)
    if given.what == "at-start":
        said = at_start(releases)
    elif given.what == "run":
        said = try_release(
            releases,
            look=lambda: look_at(unit, given.state_dir),
            restart=lambda: _restart(unit),
            within_s=given.within_s,
            settled_s=given.settled_s,
        )
    elif given.what == "quiet":
        said = wait_until_quiet(lambda: _status(given.state_dir))
    else:
        current, previous = releases.linked("current"), releases.linked("previous")
        if current is None or previous is None or current == previous:
            sys.exit("drempel: there is no release to go back to")
        give_up(releases, Trial(version=current, previous=previous))
        _restart(unit)
        said = f"back to {previous}"
    sys.stdout.write(f"drempel: {said}\n")


if __name__ == "__main__":
    main()
