"""The configuration of one desk reader: a TOML file that only its owner may read, because the token stands in it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from edge.config import Backend
from pacs.errors import PacsError

MAX_BYTES: Final = 64 * 1024
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_PLACEHOLDER: Final = re.compile(r"<.*>|change[-_ ]?me|\btodo\b", re.IGNORECASE)
_TOKEN: Final = re.compile(r"drempel_station_[A-Za-z0-9_-]{43}")


class DeskConfigError(PacsError):
    """The file cannot be used; the message names each problem and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeskConfig:
    """What ``drempel-desk`` is told.

    ``hub``: its address, https unless it is this machine. ``authority``: certificates (PEM) that its own is believed
    by; None: those of the system. ``device``: a serial port, or the name of a PC/SC reader or a part that only it has.
    """

    hub: str
    token: str = field(repr=False)
    backend: Backend
    device: str
    authority: Path | None = None
    allow_v1: bool = True

    @classmethod
    def load(cls, path: Path) -> DeskConfig:
        """Read and check the file; raises ``DeskConfigError`` with every problem found."""
        try:
            if path.stat().st_mode & 0o077:
                raise DeskConfigError(f"{path}: others can read the token in it; run: chmod 600 {path}")
            with path.open("rb") as file:
                table = tomllib.loads(file.read(MAX_BYTES).decode("utf-8"))
        except OSError as error:
            raise DeskConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except (ValueError, RecursionError) as error:
            raise DeskConfigError(f"{path}: is not TOML: {error}") from error
        return _parsed(table, path)


_TEXTS: Final = ("hub", "token", "backend", "device")
_KEYS: Final = (*_TEXTS, "authority", "allow_v1")


def _parsed(table: dict[str, Any], path: Path) -> DeskConfig:
    problems = [f"{key}: unknown; known are {', '.join(_KEYS)}" for key in sorted(set(table) - set(_KEYS))]
    for key in _TEXTS:
        value = table.get(key)
        if not isinstance(value, str) or not value:
            problems.append(f"{key}: missing; add it as text")
        elif _PLACEHOLDER.search(value):
            problems.append(f"{key}: still a placeholder; write the real value")
    if not problems:
        problems += _faults(table, path)
    if problems:
        raise DeskConfigError("\n".join(f"{path}: {problem}" for problem in problems))
    authority = table.get("authority")
    return DeskConfig(
        hub=table["hub"].rstrip("/"),
        token=table["token"],
        backend=Backend(table["backend"]),
        device=table["device"],
        authority=path.parent / authority if authority else None,
        allow_v1=table.get("allow_v1", True),
    )


def _faults(table: dict[str, Any], path: Path) -> list[str]:
    found = []
    if not is_private(table["hub"]):
        found.append("hub: https://… expected; the token would be readable on the way")
    if not _TOKEN.fullmatch(table["token"]):
        found.append("token: one of a station expected, as the hub showed it once: drempel_station_…")
    if table["backend"] not in set(Backend):
        found.append(f"backend: one of {', '.join(Backend)} expected")
    authority = table.get("authority")
    if authority is not None and not (isinstance(authority, str) and (path.parent / authority).is_file()):
        found.append("authority: a file with certificates in PEM expected; check the path")
    if not isinstance(table.get("allow_v1", True), bool):
        found.append("allow_v1: true or false expected")
    return found


def is_private(address: str) -> bool:
    """Whether what is sent there can be read by nobody on the way."""
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
        )
    except ValueError:
        return False
