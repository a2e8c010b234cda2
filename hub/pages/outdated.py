"""Forms that say which version they were filled in from, and what becomes of one that is outdated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from hub.api.changes import ChangedMeanwhile
from hub.pages.rendering import Pages
from hub.pages.words import N_
from hub.versions import changed_since, entity_tag

Version = Annotated[str, Field(max_length=4000)]
"""As ``hub.versions.version_of`` tells it; a form without one is saved whatever there is now."""


def tag_of(version: str) -> str | None:
    """What has to hold so that a form may be saved."""
    return entity_tag(version) if version else None


def is_outdated(error: Exception) -> bool:
    """Whether somebody else changed meanwhile what the form is about."""
    return isinstance(error, ChangedMeanwhile)


def changed_meanwhile(pages: Pages, version: str, error: ChangedMeanwhile, labels: Mapping[str, str]) -> str:
    """What to say above a list of forms that stand there as things are now: nothing was saved, and what is another."""
    named = [pages.gettext(labels[name]) for name in changed_since(version, error.now)]
    told = N_("Not saved: somebody changed this while you did. It stands below as it is now; see: %(names)s.")
    return pages.gettext(told) % {"names": ", ".join(named)}
