"""How many taps there were, and for which times that is everything."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, String, Table

from hub.store.database import Instant
from hub.store.schema.columns import NAME, SMALL, metadata

tap_totals = Table(
    "tap_totals",
    metadata,
    Column("door_id", NAME, primary_key=True),
    Column("kind", String(32), primary_key=True),  # of events about people
    Column("hour", Instant, primary_key=True, index=True),  # its beginning
    Column("taps", Integer),  # none: from 1 to LEAST - 1
    Index("ix_tap_totals_small", "hour", sqlite_where=SMALL, postgresql_where=SMALL),
)

known_times = Table(
    "known_times",
    metadata,
    Column("door_id", NAME, primary_key=True),
    Column("since", Instant, primary_key=True),  # from here …
    Column("until", Instant, nullable=False),  # … to here the door's record was whole
)
