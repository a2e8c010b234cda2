"""Alarms."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, String, Table, Text, UniqueConstraint

from hub.store.database import Instant
from hub.store.schema.columns import NAME, Serial, metadata

alarms = Table(
    "alarms",
    metadata,
    Column("id", Serial, primary_key=True),  # order in which the hub noticed
    Column("kind", String(32), nullable=False),
    Column("controller_id", NAME, nullable=False),
    Column("door_id", NAME),  # none: all doors of the controller
    Column("side", String(8)),
    Column("detail", String(48), nullable=False),  # which document or anomaly; empty: the kind says it all
    Column("since", Instant, nullable=False),
    Column("clock_trusted", Boolean, nullable=False),  # whether since is by a clock to be believed
    Column("noticed_at", Instant, nullable=False),  # by the hub's clock
    Column("journal_id", NAME),  # with sequence: the event that raised it; none: the hub saw it itself
    Column("sequence", BigInteger),
    Column("standing_key", Text, unique=True),  # what it is about, while it stands
    Column("cleared_at", Instant),
    Column("clearance", String(16)),
    Column("acknowledged_at", Instant),
    Column("acknowledged_by", Text),  # as in the audit log
    Column("note", Text, nullable=False),
    Column("remind_at", Instant),
    Column("closed_at", Instant, index=True),  # cleared and acknowledged
    UniqueConstraint("controller_id", "journal_id", "sequence"),
    Index(None, "controller_id", "kind"),
)
