"""The desk that makes cards, and what it makes them of."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Date, ForeignKey, Index, Integer, String, Table, Text

from hub.store.database import Instant
from hub.store.schema.columns import CREDENTIAL, NAME, Serial, metadata

issuing_jobs = Table(
    "issuing_jobs",
    metadata,
    Column("number", Serial, primary_key=True),  # in which order they were asked for
    Column("id", String(32), nullable=False, unique=True),  # hex
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False),
    Column("station_id", NAME, ForeignKey("stations.id"), nullable=False),
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), nullable=False, index=True),
    Column("technology", String(16), nullable=False),
    Column("first_day", Date, nullable=False),  # both on the card, both inclusive
    Column("last_day", Date, nullable=False),
    Column("replaces", CREDENTIAL, ForeignKey("cards.credential_id")),
    Column("why", String(8)),  # lost, stolen, broken; none: it replaces no card
    Column("created_by", Text, nullable=False),  # as in the audit log
    Column("created_at", Instant, nullable=False),
    Column("state", String(16), nullable=False),  # queued, taken, done, failed, voided, cancelled
    Column("step", String(24)),  # the last that the station told of
    Column("attempt", String(32)),  # hex; drawn each time it is taken
    Column("lease_until", Instant),
    Column("failure", String(24)),
    Column("credential_id", CREDENTIAL),  # of the card that was made, or spoilt
    Column("ended_at", Instant, index=True),
    Column("batch_id", String(16), index=True),  # of issuing_batches; none: asked for by itself
    Index(None, "station_id", "state"),
)

issuing_batches = Table(
    "issuing_batches",
    metadata,
    Column("id", String(16), primary_key=True),  # hex
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("station_id", NAME, ForeignKey("stations.id"), nullable=False),
    Column("created_by", Text, nullable=False),  # as in the audit log
    Column("created_at", Instant, nullable=False),
    Column("paused", Boolean, nullable=False),  # its station takes none of its jobs
)

card_stock = Table(
    "card_stock",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("technology", String(16), nullable=False),
    Column("cards", Integer, nullable=False),  # that came; below 0: that went
    Column("cause", String(16), nullable=False),  # received, issued, spoilt, returned, counted
    Column("reason", Text, nullable=False),
    Column("made_by", Text, nullable=False),  # as in the audit log
    Column("at", Instant, nullable=False),
)
