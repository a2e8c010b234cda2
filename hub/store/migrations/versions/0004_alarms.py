"""Alarms, what is last known of each door, and orders to several doors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NAME = sa.String(length=48)
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _instant(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, hub.store.database.Instant(timezone=True), nullable=nullable)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "alarms",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("controller_id", _NAME, nullable=False),
        sa.Column("door_id", _NAME, nullable=True),
        sa.Column("side", sa.String(length=8), nullable=True),
        sa.Column("detail", sa.String(length=48), nullable=False),
        _instant("since", nullable=False),
        sa.Column("clock_trusted", sa.Boolean(), nullable=False),
        _instant("noticed_at", nullable=False),
        sa.Column("journal_id", _NAME, nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("standing_key", sa.Text(), nullable=True),
        _instant("cleared_at"),
        sa.Column("clearance", sa.String(length=16), nullable=True),
        _instant("acknowledged_at"),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        _instant("remind_at"),
        _instant("closed_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarms")),
        sa.UniqueConstraint(
            "controller_id",
            "journal_id",
            "sequence",
            name=op.f("uq_alarms_controller_id_journal_id_sequence"),
        ),
        sa.UniqueConstraint("standing_key", name=op.f("uq_alarms_standing_key")),
    )
    with op.batch_alter_table("alarms", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_alarms_closed_at"), ["closed_at"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_alarms_controller_id_kind"), ["controller_id", "kind"], unique=False
        )
    op.create_table(
        "door_state",
        sa.Column("door_id", _NAME, nullable=False),
        sa.Column("controller_id", _NAME, nullable=False),
        sa.Column("contact", sa.String(length=8), nullable=True),
        _instant("contact_at"),
        sa.Column("mode", sa.String(length=16), nullable=True),
        sa.Column("mode_cause", sa.String(length=32), nullable=True),
        _instant("mode_at"),
        sa.PrimaryKeyConstraint("door_id", name=op.f("pk_door_state")),
    )
    op.create_table(
        "orders",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=True),
        sa.Column("given_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        _instant("issued_at", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
    )
    with op.batch_alter_table("orders", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_orders_issued_at"), ["issued_at"], unique=False)
    op.create_table(
        "order_commands",
        sa.Column("order_id", sa.String(length=32), nullable=False),
        sa.Column("door_id", _NAME, nullable=False),
        sa.Column("command_id", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_order_commands_order_id_orders")),
        sa.ForeignKeyConstraint(
            ["command_id"], ["commands.id"], name=op.f("fk_order_commands_command_id_commands")
        ),
        sa.PrimaryKeyConstraint("order_id", "door_id", name=op.f("pk_order_commands")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("order_commands")
    op.drop_table("orders")
    op.drop_table("door_state")
    op.drop_table("alarms")
