"""What was done with a site's keys: ``audit.jsonl`` in its directory, one line for each act, never rewritten.

A line is a JSON object; ``previous`` is the SHA-256 of the line before, without its line feed, in hex. A line changed,
inserted or taken out is found; lines cut off at the end are found by whoever noted the head. It holds no secret.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pacs.errors import StoreError

FILE: Final = "audit.jsonl"
GENESIS: Final = "0" * 64
_TEXTS: Final = ("at", "who", "what", "outcome")


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What a log holds: its lines that are entries, the hash of the last line, and what is wrong with it."""

    entries: tuple[Mapping[str, Any], ...]
    head: str
    faults: tuple[str, ...]


def append(directory: Path, what: str, *, at: datetime, outcome: str, facts: Mapping[str, Any]) -> None:
    """Add a line and make it durable; several processes may at once. Raises ``StoreError``."""
    path = directory / FILE
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            held = file.read()
            entry = {
                "at": at.isoformat(timespec="seconds"),
                "who": _who(),
                "what": what,
                "outcome": outcome,
                "facts": dict(facts),
                "previous": _hash(_lines(held)[-1]) if held else GENESIS,
            }
            torn = b"\n" if held and not held.endswith(b"\n") else b""
            file.write(torn + json.dumps(entry, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(fd)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror})") from error


def check_writable(directory: Path) -> None:
    """Raise ``StoreError`` when ``append`` could not add to the log of ``directory``."""
    path = directory / FILE
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as error:
        what = f"{path}: cannot be written ({error.strerror}); nothing is done that is not recorded"
        raise StoreError(what) from error


def verify(data: bytes) -> Audit:
    """Verify the bytes of a log; takes anything, and says what is wrong by line."""
    entries, faults, previous = [], [], GENESIS
    for number, line in enumerate(_lines(data), start=1):
        try:
            entry = json.loads(line)
            claimed = entry["previous"]
            entry = {name: str(entry[name]) for name in _TEXTS} | {"facts": dict(entry["facts"])}
        except (ValueError, KeyError, TypeError, RecursionError):
            faults.append(f"line {number}: not an entry; was its writing cut off?")
        else:
            entries.append(entry)
            if claimed != previous:
                faults.append(
                    f"line {number}: does not follow the line before, which was changed, put in or taken out"
                )
        previous = _hash(line)
    if not entries and not faults:
        faults.append("is empty")
    return Audit(entries=tuple(entries), head=previous, faults=tuple(faults))


def holds(data: bytes, head: str) -> bool:
    """Whether ``head`` was the hash of the last line at some time, so that nothing before it was changed."""
    return head in {_hash(line) for line in _lines(data)}


def _lines(data: bytes) -> list[bytes]:
    lines = data.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _who() -> str:
    """The user of the operating system; behind sudo also who asked."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)
    asked = os.environ.get("SUDO_USER", "")
    return f"{name}, for {asked}" if asked and number == 0 else name
