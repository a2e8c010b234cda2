"""The hub's log on standard error: one JSON object a line, or text for a person; without names, tokens or passwords.

Of an exception it keeps the type and where it happened, never the message: that may quote data.
"""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict

_FRAMES = 12


def configure(level: str = "info", form: str = "json") -> None:
    """Set up structlog, for lines of JSON or of ``text``; libraries' own loggers speak only when something is badly wrong."""
    logging.basicConfig(stream=sys.stderr, level=logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _exception_without_data,
            structlog.processors.JSONRenderer()
            if form == "json"
            else structlog.dev.ConsoleRenderer(colors=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _exception_without_data(_logger: Any, _method: str, event: EventDict) -> EventDict:
    info = event.pop("exc_info", None)
    error = sys.exception() if info is True else info
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = where(error)
    return event


def where(error: BaseException) -> list[str]:
    """The exception's type and the innermost places it came through, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return [type(error).__name__, *places]
