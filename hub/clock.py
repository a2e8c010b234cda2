"""The clock that is handed to everything that asks for one."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """This moment, aware."""
    return datetime.now(UTC)
