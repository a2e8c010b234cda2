"""What is kept how long, and what beyond that."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, String, Table, Text

from hub.store.database import Instant
from hub.store.schema.columns import NAME, metadata

legal_holds = Table(
    "legal_holds",
    metadata,
    Column("id", String(32), primary_key=True),  # hex
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("cardholder_id", NAME),  # of this person; none: of anybody
    Column("door_id", NAME),  # at this door; none: at any of the site
    Column("since", Instant, nullable=False),  # what occurred from here …
    Column("until", Instant, nullable=False),  # … to here is kept
    Column("reason", Text, nullable=False),
    Column("requested_by", Text, nullable=False),  # as in the audit log
    Column("requested_at", Instant, nullable=False),
    Column("confirmed_by", Text),
    Column("confirmed_at", Instant),
    Column("ends_at", Instant, nullable=False),
    Column("lifted_at", Instant),
)

retention_runs = Table(
    "retention_runs",
    metadata,
    Column("purpose", String(16), primary_key=True),
    Column("ended_at", Instant, nullable=False),  # of the last run that had nothing left to do
    Column("removed", BigInteger, nullable=False),  # since the first run
    Column("before", Instant),  # of what is older, who it was is no longer kept
)

retention_sites = Table(
    "retention_sites",
    metadata,
    Column("site_id", NAME, ForeignKey("sites.id"), primary_key=True),
    Column("precise_s", Integer),  # each: for how long, where that is less than in the whole hub
    Column("coarse_s", Integer),
    Column("leavers_s", Integer),
    Column("registration_s", Integer),
    Column("reduced_before", Instant),  # of what is older, who it was is not kept here any more
)
