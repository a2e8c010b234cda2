"""What single doors were told to do, and orders to several."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, String, Table, Text

from hub.store.database import Instant
from hub.store.schema.columns import CREDENTIAL, NAME, metadata

commands = Table(
    "commands",
    metadata,
    Column("id", String(32), primary_key=True),  # hex
    Column("controller_id", NAME, ForeignKey("controllers.id"), nullable=False),
    Column("door_id", NAME, ForeignKey("doors.id"), nullable=False),
    Column("action", String(16), nullable=False),
    Column("mode", String(16)),
    Column("until", Instant),
    Column("request_id", String(32), index=True),  # hex; of an attended request that this answers
    Column("credential_id", CREDENTIAL),
    Column("given_by", Text, nullable=False),  # as in the audit log
    Column("reason", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),  # sealed, as it travels
    Column("issued_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("outcome", String(16)),  # executed, refused; none: not known
    Column("refusal", String(48)),
    Column("outcome_at", Instant),  # by the controller's clock
    Index(None, "door_id", "issued_at"),
)

orders = Table(
    "orders",
    metadata,
    Column("id", String(32), primary_key=True),  # hex
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False),
    Column("action", String(16), nullable=False),
    Column("mode", String(16)),
    Column("given_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("issued_at", Instant, nullable=False, index=True),
)

order_commands = Table(
    "order_commands",
    metadata,
    Column("order_id", String(32), ForeignKey("orders.id"), primary_key=True),
    Column("door_id", NAME, primary_key=True),
    Column("command_id", String(32), ForeignKey("commands.id")),  # none: it could not be given
)
