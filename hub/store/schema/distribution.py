"""What doors are given to go by, and who confirmed what."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, LargeBinary, String, Table, Text

from hub.store.database import Instant
from hub.store.schema.columns import NAME, metadata

documents = Table(
    "documents",
    metadata,
    Column("site_id", NAME, ForeignKey("sites.id"), primary_key=True),
    Column("kind", String(16), primary_key=True),  # policy, revocations
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),  # sealed, as it travels
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of data
    Column(
        "content_digest", LargeBinary, nullable=False
    ),  # SHA-256 of what it says, without version and dates
    Column("cause", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("signer", LargeBinary),  # id of the policy key; none: made before keys were told apart
    Column("statement", BigInteger, nullable=False, server_default="0"),  # version of the key statement in it
)

confirmations = Table(
    "confirmations",
    metadata,
    Column("controller_id", NAME, ForeignKey("controllers.id"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("confirmed_at", Instant, nullable=False),
)
