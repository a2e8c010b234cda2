"""People who moved from site to site."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, String, Table, Text

from hub.store.database import Instant
from hub.store.schema.columns import NAME, metadata

transfers = Table(
    "transfers",
    metadata,
    Column("id", String(32), primary_key=True),  # hex
    Column("to_site_id", NAME, ForeignKey("sites.id"), nullable=False),
    Column("people", Integer, nullable=False),  # how many
    Column("given_by", Text, nullable=False),  # as in the audit log
    Column("reason", Text, nullable=False),
    Column("at", Instant, nullable=False),
)

transfer_documents = Table(
    "transfer_documents",
    metadata,
    Column("transfer_id", String(32), ForeignKey("transfers.id"), primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), primary_key=True),
    Column("policy_version", BigInteger, nullable=False),
    Column("revocations_version", BigInteger, nullable=False),
)
