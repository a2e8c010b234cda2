"""Who is told over HTTP, and of what."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Integer, String, Table, Text

from hub.store.database import Instant
from hub.store.schema.columns import CREDENTIAL, NAME, Serial, metadata

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(16), primary_key=True),  # hex
    Column("url", Text, nullable=False),
    Column("kinds", JSON, nullable=False),  # empty: every kind
    Column("sites", JSON(none_as_null=True)),  # none: every site
    Column("secret", String(64), nullable=False),  # as it must be to sign
    Column("previous_secret", String(64)),
    Column("previous_until", Instant),
    Column("enabled", Boolean, nullable=False),
    Column("cause", String(64), nullable=False),
    Column("created_at", Instant, nullable=False),
)

webhook_awaited = Table(
    "webhook_awaited",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("credential_id", CREDENTIAL, nullable=False, index=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False),
    Column("status", String(16), nullable=False),
    Column("carried", JSON, nullable=False),  # [site, kind of document, version] of each that carries it
    Column("created_at", Instant, nullable=False),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("webhook_id", String(16), ForeignKey("webhooks.id"), nullable=False, index=True),
    Column("message_id", String(32), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant, index=True),  # none: nothing more is done about it
    Column("attempts", Integer, nullable=False),
    Column("claim", String(32)),  # of the process that is sending it
    Column("status", Integer),
    Column("error", String(128), nullable=False),
    Column("delivered_at", Instant),
)
