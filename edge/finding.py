"""One thing a technician is told: how bad it is, what was found, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Self


@unique
class Level(StrEnum):
    """``warn``: the doors work, and something will go wrong or could not be examined."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``advice``: what to do; empty when there is nothing to do."""

    level: Level
    name: str
    what: str
    advice: str = ""

    @classmethod
    def ok(cls, name: str, what: str) -> Self:
        """As it should be."""
        return cls(level=Level.OK, name=name, what=what)

    @classmethod
    def warn(cls, name: str, what: str, advice: str) -> Self:
        """Look after it."""
        return cls(level=Level.WARN, name=name, what=what, advice=advice)

    @classmethod
    def fail(cls, name: str, what: str, advice: str) -> Self:
        """Mend it."""
        return cls(level=Level.FAIL, name=name, what=what, advice=advice)

    def line(self) -> str:
        """What, and what to do, in one line."""
        text = f"{self.what}  → {self.advice}" if self.advice else self.what
        return " ".join(text.splitlines())

    def document(self) -> dict[str, str]:
        """As JSON."""
        return {"level": self.level.value, "name": self.name, "what": self.what, "advice": self.advice}
