"""Access levels, and the times at which they hold."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Date, ForeignKey, Table, Text

from hub.store.database import Instant
from hub.store.schema.columns import NAME, metadata

schedules = Table(
    "schedules",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("windows", JSON, nullable=False),  # [[weekdays], start_minute, end_minute], …
    Column("holiday_windows", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
)

holidays = Table(
    "holidays",
    metadata,
    Column("site_id", NAME, ForeignKey("sites.id"), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("name", Text, nullable=False),
)

access_levels = Table(
    "access_levels",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

access_rules = Table(
    "access_rules",
    metadata,
    Column("access_level_id", NAME, ForeignKey("access_levels.id"), primary_key=True),
    Column("door_id", NAME, ForeignKey("doors.id"), primary_key=True),
    Column("schedule_id", NAME, ForeignKey("schedules.id"), primary_key=True),
)
