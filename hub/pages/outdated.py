"""Forms that say which version they were filled in from, and what becomes of one that is outdated."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hub.api.problems import Code, Problem
from hub.versions import entity_tag

Version = Annotated[str, Field(max_length=4000)]
"""As ``hub.versions.version_of`` tells it; a form without one is saved whatever there is now."""


def tag_of(version: str) -> str | None:
    """What has to hold so that a form may be saved."""
    return entity_tag(version) if version else None


def is_outdated(error: Exception) -> bool:
    """Whether somebody else changed meanwhile what the form is about."""
    return isinstance(error, Problem) and error.code is Code.CHANGED_MEANWHILE
