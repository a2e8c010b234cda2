"""Requests at attended doors, who was shown them, and what a door's staff has to know of somebody."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_INSTANT = hub.store.database.Instant(timezone=True)
_NAME = sa.String(length=48)
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "attended_requests",
        sa.Column("number", _SERIAL, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("controller_id", _NAME, nullable=False),
        sa.Column("door_id", _NAME, nullable=False),
        sa.Column("side", sa.String(length=8), nullable=True),
        sa.Column("credential_id", sa.String(length=64), nullable=False),
        sa.Column("reason", _NAME, nullable=False),
        sa.Column("asked_at", _INSTANT, nullable=False),
        sa.Column("clock_trusted", sa.Boolean(), nullable=False),
        sa.Column("received_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False),
        sa.Column("came_late", sa.Boolean(), nullable=False),
        sa.Column("command_id", sa.String(length=32), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("outcome_reason", _NAME, nullable=True),
        sa.Column("said_by_door", sa.Boolean(), nullable=False),
        sa.Column("ended_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["command_id"], ["commands.id"], name=op.f("fk_attended_requests_command_id_commands")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_attended_requests")),
        sa.UniqueConstraint("id", name=op.f("uq_attended_requests_id")),
    )
    op.create_index(op.f("ix_attended_requests_ended_at"), "attended_requests", ["ended_at"])
    op.create_table(
        "attended_looks",
        sa.Column("number", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["number"], ["attended_requests.number"], name=op.f("fk_attended_looks_number_attended_requests")
        ),
        sa.PrimaryKeyConstraint("number", "actor", name=op.f("pk_attended_looks")),
    )
    with op.batch_alter_table("sites") as sites:
        sites.add_column(sa.Column("blur_photos", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("cardholders") as cardholders:
        cardholders.add_column(sa.Column("minor", sa.Boolean(), nullable=False, server_default=sa.false()))
        cardholders.add_column(sa.Column("guardian_id", _NAME, nullable=True))
        cardholders.add_column(sa.Column("door_note", sa.String(length=200), nullable=True))
        cardholders.create_foreign_key(
            op.f("fk_cardholders_guardian_id_cardholders"), "cardholders", ["guardian_id"], ["id"]
        )


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("cardholders") as cardholders:
        cardholders.drop_constraint(op.f("fk_cardholders_guardian_id_cardholders"), type_="foreignkey")
        cardholders.drop_column("door_note")
        cardholders.drop_column("guardian_id")
        cardholders.drop_column("minor")
    with op.batch_alter_table("sites") as sites:
        sites.drop_column("blur_photos")
    op.drop_table("attended_looks")
    op.drop_table("attended_requests")
