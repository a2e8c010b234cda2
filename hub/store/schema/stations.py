"""Readers that open no door, and the desks some of them stand at."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, LargeBinary, String, Table, Text

from hub.store.database import Instant
from hub.store.schema.columns import NAME, metadata

stations = Table(
    "stations",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("kind", String(8), nullable=False),  # desk, kiosk, issuing
    Column("name", Text, nullable=False),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    Column("retired_at", Instant),
    Column("challenge", LargeBinary),  # 16 bytes that one presentation may answer; none: it was answered
    Column("challenge_at", Instant),
    Column("unseen_taps", BigInteger, nullable=False, server_default="0"),  # while nobody was signed on
)

station_intervals = Table(
    "station_intervals",
    metadata,
    Column("station_id", NAME, ForeignKey("stations.id"), primary_key=True),
    Column("begins_at", Instant, primary_key=True),
    Column("ends_at", Instant, nullable=False),  # heard last, its reader working
    Column("run", String(32), nullable=False),  # hex; drawn anew when its program starts or has missed a card
)

desk_sign_ons = Table(
    "desk_sign_ons",
    metadata,
    Column("station_id", NAME, ForeignKey("stations.id"), primary_key=True),
    Column(
        "session_hash",
        LargeBinary,
        ForeignKey("sessions.token_hash", ondelete="CASCADE"),
        nullable=False,
        unique=True,
    ),
    Column("since", Instant, nullable=False),
    Column("used_at", Instant, nullable=False),
    Column("page", String(16)),  # hex; the one that shows cards, none: none is open
)

desk_looks = Table(
    "desk_looks",
    metadata,
    Column("look_hash", LargeBinary, primary_key=True),
    Column(
        "session_hash",
        LargeBinary,
        ForeignKey("sessions.token_hash", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), nullable=False),
    Column("expires_at", Instant, nullable=False),
)
