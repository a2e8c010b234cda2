"""Cards, and what is told of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, String, Table

from hub.store.database import Instant
from hub.store.schema.columns import CREDENTIAL, NAME, metadata

cards = Table(
    "cards",
    metadata,
    Column("credential_id", CREDENTIAL, primary_key=True),
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), nullable=False, index=True),
    Column("technology", String(16), nullable=False),
    Column("issuer", String(16)),  # whose certificate is on it; none: not told, or PKOC V1
    Column("public_key", LargeBinary),
    Column("status_index", Integer, nullable=False, unique=True),
    Column("status", String(16), nullable=False),  # valid, suspended, revoked
    Column("status_since", Instant, nullable=False),
    Column("valid_from", Instant),
    Column("valid_until", Instant, index=True),
    Column("created_at", Instant, nullable=False),
)

card_ends_told = Table(
    "card_ends_told",
    metadata,
    Column("credential_id", CREDENTIAL, ForeignKey("cards.credential_id"), primary_key=True),
    Column("ended_at", Instant, nullable=False),  # the end that webhooks were told of
)

card_status_versions = Table(
    "card_status_versions",
    metadata,
    Column("credential_id", CREDENTIAL, ForeignKey("cards.credential_id"), primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), primary_key=True),
    Column("version", BigInteger, nullable=False),  # of that site's revocations: the first that say so
)
