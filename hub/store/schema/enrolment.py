"""The certificates of controllers, and the codes by which devices come to take their places."""

from __future__ import annotations

from sqlalchemy import JSON, Column, ForeignKey, Index, LargeBinary, String, Table, Text

from hub.store.database import Instant
from hub.store.schema.columns import NAME, metadata

device_certificates = Table(
    "device_certificates",
    metadata,
    Column("serial", String(64), primary_key=True),  # hex; the broker admits by it
    Column("controller_id", NAME, ForeignKey("controllers.id"), nullable=False, index=True),
    Column("key_digest", LargeBinary),  # SHA-256 of the key it certifies; NULL: not issued here
    Column("chain", Text),  # PEM, the leaf first
    Column("issued_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("used_at", Instant),  # its controller first said that it goes by it
    Column("revoked_at", Instant),
    Column("revoked_because", String(16)),
    Index(None, "revoked_at", "expires_at"),  # which of those in use end soon
)

enrolment_codes = Table(
    "enrolment_codes",
    metadata,
    Column("secret_hash", LargeBinary, primary_key=True),
    Column("id", String(16), nullable=False, unique=True),
    Column("controller_id", NAME, ForeignKey("controllers.id"), nullable=False, index=True),
    Column("purpose", String(16), nullable=False),
    Column("doors", JSON, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("withdrawn_at", Instant),
    Column("used_at", Instant),
    Column("used_by", LargeBinary),  # SHA-256 of the key that used it
)
