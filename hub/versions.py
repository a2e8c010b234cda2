"""Which version of a thing somebody has before them, so that two who change it at once do not undo one another unseen.

A version is told from what a thing says, part by part, and not by a number: it needs nothing stored, and saving what
stands there already is no other version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Parts = Mapping[str, Any]
"""The name of each part that can be changed → what it says, of plain values, enumerations, tuples and sets."""


def version_of(parts: Parts) -> str:
    """``name:digest`` for each part, so that it can be told which of them somebody else changed."""
    return " ".join(f"{name}:{_digest(value)}" for name, value in parts.items())


def entity_tag(version: str) -> str:
    """The strong validator of a whole version (RFC 9110, 8.8.3), in quotes."""
    return f'"{hashlib.sha256(version.encode()).hexdigest()[:16]}"'


def is_met(if_match: str, version: str) -> bool:
    """Whether a precondition ``If-Match`` holds for what there is now (RFC 9110, 13.1.1)."""
    asked = [each.strip() for each in if_match.split(",")]
    return "*" in asked or entity_tag(version) in asked


def changed_since(version: str, now: Parts) -> list[str]:
    """The names of the parts that are not what they were at ``version``, whatever that text is."""
    before = set(version.split())
    return [name for name, value in now.items() if f"{name}:{_digest(value)}" not in before]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=_plain, sort_keys=True).encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    return sorted(value)  # a set
