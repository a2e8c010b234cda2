"""One thing a technician is told: how bad it is, what was found, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from edge.advice import AT_A_LOSS
from pacs.errors import PacsError
from pacs.findings import Check, Code, Level, Value

__all__ = ["Check", "Code", "Finding", "Level"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``subject``: which door, side or part, where there are several; ``values``: those of the code's words."""

    code: Code
    subject: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)

    @classmethod
    def of(cls, code: Code, *, subject: str = "", **values: object) -> Self:
        """With values as they come: moments, seconds, numbers, paths, texts. Raises ``ValueError``: not those of the code."""
        if "advice" in values:
            values["advice"] = values["advice"] or AT_A_LOSS
        plain = {name: _plain(value) for name, value in values.items()}
        if not code.value.fits(plain):
            raise ValueError(f"{code.name} takes {sorted(code.value.values)}, not {plain}")
        return cls(code=code, subject=subject, values=plain)

    @classmethod
    def failed(cls, code: Code, error: PacsError) -> Self:
        """``problem`` and ``advice`` as the error has them, before and behind its semicolon."""
        problem, _, advice = str(error).partition("; ")
        return cls.of(code, problem=problem, advice=advice)

    @property
    def level(self) -> Level:
        """How bad it is."""
        return self.code.value.level

    @property
    def check(self) -> Check:
        """What was looked at."""
        return self.code.value.check

    @property
    def name(self) -> str:
        """Check and subject, for a person."""
        return f"{self.check.words} {self.subject}".rstrip()

    @property
    def what(self) -> str:
        """What was found."""
        return self._said(self.code.value.what)

    @property
    def advice(self) -> str:
        """What to do; empty when there is nothing to do."""
        return self._said(self.code.value.advice)

    def line(self) -> str:
        """What, and what to do, in one line."""
        text = f"{self.what}  → {self.advice}" if self.advice else self.what
        return " ".join(text.splitlines())

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "level": self.level.value,
            "check": self.check.value,
            "code": self.code.word,
            "subject": self.subject,
            "values": dict(self.values),
            "name": self.name,
            "what": self.what,
            "advice": self.advice,
        }

    def _said(self, words: str) -> str:
        return words % {name: _in_english(name, value) for name, value in self.values.items()}


def _plain(value: object) -> Value:
    if isinstance(value, datetime):
        return int(value.timestamp())
    if isinstance(value, float):
        return round(value)
    return value if isinstance(value, int) else str(value)


def _in_english(name: str, value: Value) -> str:
    from edge.status import duration  # a command's words: a controller does without them at its start

    if isinstance(value, int) and name.endswith("_s"):
        return duration(value)
    if isinstance(value, int) and name.endswith("_at"):
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M} UTC"
    return str(value)
