"""People, their photographs and levels, and how they came in."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Integer, LargeBinary, String, Table, Text, false

from hub.store.database import Instant
from hub.store.schema.columns import NAME, metadata

cardholders = Table(
    "cardholders",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("category", String(16), nullable=False),  # resident, visitor, staff
    Column("given_name", Text, nullable=False),
    Column("family_name", Text, nullable=False),
    Column("latin_given_name", String(100)),  # as on their papers, where the name is in other letters
    Column("latin_family_name", String(100)),
    Column("attended", Boolean, nullable=False),  # a person decides at every door
    Column("extended_opening", Boolean, nullable=False),
    Column("escort_required", Boolean, nullable=False, server_default=false()),
    Column("may_escort", Boolean, nullable=False, server_default=false()),
    Column("messages_waiting", Boolean, nullable=False, server_default=false()),  # at the desk
    Column("room", Text),
    Column("language", String(35)),  # BCP 47
    Column("minor", Boolean, nullable=False, server_default=false()),
    Column("guardian_id", NAME, ForeignKey("cardholders.id")),  # who answers for a minor
    Column("door_note", String(200)),  # to staff at a door
    Column("valid_from", Instant),  # bound every card of theirs
    Column("valid_until", Instant, index=True),
    Column("external_id", String(100), unique=True),  # in the system that people are imported from
    Column("erased_at", Instant),  # nothing is known of them any more but what their cards are
    Column("created_at", Instant, nullable=False),
)

photographs = Table(
    "photographs",
    metadata,
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), primary_key=True),
    Column("data", LargeBinary, nullable=False),  # JPEG, as hub.photographs makes them
    Column("taken_over_at", Instant, nullable=False),
)

cardholder_levels = Table(
    "cardholder_levels",
    metadata,
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), primary_key=True),
    Column("access_level_id", NAME, ForeignKey("access_levels.id"), primary_key=True),
)

import_jobs = Table(
    "import_jobs",
    metadata,
    Column("id", String(16), primary_key=True),  # hex
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False),  # whose people these are
    Column("state", String(16), nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("actor", Text, nullable=False),  # as in the audit log
    Column("digest", String(64), nullable=False),  # SHA-256 of what was sent, hex
    Column("rows", Integer, nullable=False),
    Column("created", Integer, nullable=False),
    Column("changed", Integer, nullable=False),
    Column("unchanged", Integer, nullable=False),
    Column("fault_count", Integer, nullable=False),
    Column("faults", JSON, nullable=False),  # [row, column, external id, problem], …
    Column("queued_at", Instant, nullable=False),
    Column("ended_at", Instant),
)
