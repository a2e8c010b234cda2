"""How a batch relates to what is stored of its journal."""

from __future__ import annotations

from enum import Enum, auto, unique

from hub.store.journals import Head
from pacs.events import Batch, event_hash

UNKNOWN_HASH = b""
"""A head whose last event is not here: what follows is taken on its signature alone."""


@unique
class Fit(Enum):
    """How a batch relates to what is stored."""

    NEW = auto()  # all of it, or its end, continues the chain
    OLD = auto()  # all of it is stored, or something else is in its place
    AHEAD = auto()  # events before it have not arrived
    BROKEN = auto()  # it should continue the chain, and does not
    DIFFERS = auto()  # it overlaps what is stored with other content


def fit(head: Head, batch: Batch) -> Fit:
    """Compare sequences and hashes; without reading what is stored."""
    first, last = batch.events[0].sequence, batch.events[-1].sequence
    if first > head.sequence + 1:
        return Fit.AHEAD
    if last <= head.sequence:
        return Fit.OLD
    stored = head.sequence + 1 - first
    before = event_hash(batch.encoded[stored - 1]) if stored else batch.events[0].previous_hash
    if head.hash in (UNKNOWN_HASH, before):
        return Fit.NEW
    return Fit.DIFFERS if stored else Fit.BROKEN
