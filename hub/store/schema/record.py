"""What happened, as far as it is stored, and what is wrong with that."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from hub.store.database import Instant
from hub.store.schema.columns import CREDENTIAL, NAME, NAMED, UNCOUNTED, Serial, metadata

journal_heads = Table(
    "journal_heads",
    metadata,
    Column("controller_id", NAME, ForeignKey("controllers.id"), primary_key=True),
    Column("journal_id", NAME, primary_key=True),
    Column("sequence", BigInteger, nullable=False),  # highest contiguous sequence stored; 0: none
    Column("hash", LargeBinary, nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("replaced_at", Instant),
)

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True),  # order of arrival
    Column("controller_id", NAME, nullable=False),
    Column("journal_id", NAME, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),  # the event's bytes, as hashed
    Column("kind", String(32), nullable=False),  # the rest is decoded from data, to search by
    Column("occurred_at", Instant, nullable=False),  # by the controller's clock
    Column("clock_trusted", Boolean, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("door_id", NAME),
    Column("side", String(8)),
    Column("credential_id", CREDENTIAL),
    Column("reason", String(48)),
    # whose time of being precise is over: no data, no credential, the hour only
    Column("coarse", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("controller_id", "journal_id", "sequence"),
    Index(None, "door_id", "id"),
    Index(None, "credential_id", "id"),
    Index("ix_events_named", "occurred_at", sqlite_where=NAMED, postgresql_where=NAMED),
    Index(
        "ix_events_uncounted",
        "occurred_at",
        sqlite_where=text(UNCOUNTED),
        postgresql_where=text(UNCOUNTED),
    ),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("controller_id", NAME, nullable=False),
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),  # SHA-256 over topic and payload: kept once
    Column("cause", Text, nullable=False),
    Column("received_at", Instant, nullable=False),
)

anomalies = Table(
    "anomalies",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("controller_id", NAME, nullable=False, index=True),
    Column("door_id", NAME),  # none: all doors of the controller
    Column("journal_id", NAME),
    Column("kind", String(32), nullable=False),
    Column("first_sequence", BigInteger),
    Column("last_sequence", BigInteger),
    Column("detail", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("has_hole", Boolean, nullable=False),  # the record is not known to be whole …
    Column("unknown_from", Instant),  # … from here (none: from the beginning)
    Column("unknown_until", Instant),  # … to here (none: until further notice)
    Column("times", Integer, nullable=False),  # how often it was seen
    Column("last_at", Instant, nullable=False),
)
