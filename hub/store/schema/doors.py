"""Doors, the areas between them, and how each door stands."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Integer, String, Table, Text, false

from hub.store.database import Instant
from hub.store.schema.columns import NAME, metadata

areas = Table(
    "areas",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

doors = Table(
    "doors",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("controller_id", NAME, ForeignKey("controllers.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("mode", String(16), nullable=False),  # and the rest of pacs.rules.Door
    Column("unlock_ms", Integer, nullable=False),
    Column("extended_unlock_ms", Integer, nullable=False),
    Column("held_open_after_s", Integer, nullable=False),
    Column("max_policy_age_s", Integer, nullable=False),
    Column("when_too_old", String(16), nullable=False),
    Column("when_clock_untrusted", String(16), nullable=False),
    Column("allow_v1", Boolean, nullable=False),
    Column("mode_rules", JSON, nullable=False, server_default="[]"),  # [schedule id, mode], …
    Column("relock_on_open", Boolean, nullable=False, server_default=false()),
    Column("held_warning_s", Integer, nullable=False, server_default="10"),
    Column("extended_held_open_after_s", Integer, nullable=False, server_default="90"),
    Column("when_unlisted", String(16), nullable=False, server_default="deny"),
    Column("area", NAME, ForeignKey("areas.id")),
    Column("outside", NAME, ForeignKey("areas.id")),
    Column("antipassback", String(16), nullable=False, server_default="off"),
    Column("antipassback_s", Integer, nullable=False, server_default="0"),
    Column("first_person_levels", JSON, nullable=False, server_default="[]"),
    Column("escort_window_s", Integer, nullable=False, server_default="30"),
    Column("interlock_with", JSON, nullable=False, server_default="[]"),
    Column("attended_timeout_s", Integer, nullable=False, server_default="60"),
    Column("private", Boolean, nullable=False, server_default=false()),
    Column("admitting_levels", JSON, nullable=False, server_default="[]"),
    Column("admits_at_most", Integer, nullable=False, server_default="1"),
    Column("when_hub_away", String(16), nullable=False, server_default="deny"),
    Column("hub_away_max_s", Integer, nullable=False, server_default="3600"),
    Column("created_at", Instant, nullable=False),
)

door_state = Table(
    "door_state",
    metadata,
    Column("door_id", NAME, primary_key=True),
    Column("controller_id", NAME, nullable=False),
    Column("contact", String(8)),  # open, closed; none: not known
    Column("contact_at", Instant),
    Column("mode", String(16)),  # of its last change since its controller started; none: there was none
    Column("mode_cause", String(32)),
    Column("mode_at", Instant),
)
