"""The sites of the hub, and the card issuers that all of them trust."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Integer, LargeBinary, String, Table, Text, false

from hub.store.database import Instant
from hub.store.schema.columns import NAME, metadata

sites = Table(
    "sites",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("name", Text, nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("blur_photos", Boolean, nullable=False, server_default=false()),  # until somebody touches them
    Column("desk_shown_s", Integer, nullable=False, server_default="30"),  # how long a desk shows a card
    Column("desk_idle_s", Integer, nullable=False, server_default="900"),  # without a card, then signed off
    Column("few_blank_cards", Integer, nullable=False, server_default="20"),  # below it: order more
    Column("created_at", Instant, nullable=False),
)

issuers = Table(
    "issuers",
    metadata,
    Column("iir", String(16), primary_key=True),
    Column("public_key", LargeBinary, nullable=False),  # X9.62 uncompressed point, P-256
    Column("created_at", Instant, nullable=False),
    Column("retired_at", Instant),  # no policy names it from then on
)
