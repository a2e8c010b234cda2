"""What was done, and which requests were answered."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Integer, LargeBinary, String, Table, Text

from hub.store.database import Instant
from hub.store.schema.columns import Serial, metadata

audit = Table(
    "audit",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),  # operator:<id>, token:<name> or system
    Column("action", String(64), nullable=False),  # noun.verb
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("previous_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("actor", String(80), primary_key=True),  # as in the audit log
    Column("key", String(64), primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),  # SHA-256 of method, address and body
    Column("attempt", String(32), nullable=False),  # hex; whoever holds it may write
    Column("state", String(8), nullable=False),  # begun, written, answered
    Column("begun_at", Instant, nullable=False, index=True),
    Column("status", Integer),
    Column("headers", JSON),
    Column("body", LargeBinary),
)
