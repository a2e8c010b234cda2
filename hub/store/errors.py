"""What a store function refuses; the API turns them into 404 and 409."""

from __future__ import annotations

from pacs.errors import PacsError


class NotFound(PacsError):
    """The named thing, or one it refers to, is not in the database."""


class AlreadyExists(PacsError):
    """The id is taken."""


class InUse(PacsError):
    """It cannot go while something else names it; the message says what."""


class HeadMoved(PacsError):
    """A journal is not stored as far as it was believed to be: another process went on with it."""
