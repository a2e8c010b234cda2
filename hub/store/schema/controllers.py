"""Controllers, and how each was last heard."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, ForeignKey, LargeBinary, String, Table, Text

from hub.store.database import Instant
from hub.store.schema.columns import NAME, metadata

controllers = Table(
    "controllers",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("event_public_key", LargeBinary),  # Ed25519, 32 bytes; NULL: no device has taken the place yet
    Column("certificate_serial", String(64)),  # hex; of the certificate that was issued last
    Column("software", Text),
    Column("registered_at", Instant, nullable=False),
    Column("retired_at", Instant),
    Column("revoked_at", Instant),  # since when nothing of its device is believed
    Column("wiring", JSON),  # pacs.wiring.Wiring
)

controller_state = Table(
    "controller_state",
    metadata,
    Column("controller_id", NAME, ForeignKey("controllers.id"), primary_key=True),
    Column("online", Boolean, nullable=False),
    Column("since", Instant, nullable=False),  # online or offline since
    Column("last_seen", Instant),
    Column("complete_until", Instant),  # everything before is stored, as far as the controller says
    Column("journal_id", NAME),  # from here on: what the controller last said of itself
    Column("first_sequence", BigInteger),
    Column("last_sequence", BigInteger),
    Column("policy_version", BigInteger),
    Column("revocations_version", BigInteger),
    Column("clock_trusted", Boolean),
    Column("unread_count", BigInteger),
    Column("broken_readers", JSON),
    Column("software", Text),
    Column("hello_at", Instant),
    Column("health", JSON),  # pacs.health.ControllerHealth as the interface shows it
)

controller_reports = Table(
    "controller_reports",
    metadata,
    Column("controller_id", NAME, ForeignKey("controllers.id"), primary_key=True),
    Column("received_at", Instant, nullable=False),
    Column("findings", JSON, nullable=False),  # pacs.messages.ReportedFinding.document of each
)
