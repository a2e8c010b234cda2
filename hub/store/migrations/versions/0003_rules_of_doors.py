"""What doors and cardholders may say since the rules know areas, escorts, interlocks and modes by schedule."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NAME = sa.String(length=48)


def _doors() -> list[sa.Column[Any]]:
    return [
        sa.Column("mode_rules", sa.JSON(), nullable=False, server_default="[]"),
        sa.Column("relock_on_open", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("held_warning_s", sa.Integer(), nullable=False, server_default="10"),
        sa.Column("extended_held_open_after_s", sa.Integer(), nullable=False, server_default="90"),
        sa.Column("when_unlisted", sa.String(length=16), nullable=False, server_default="deny"),
        sa.Column("area", _NAME, nullable=True),
        sa.Column("outside", _NAME, nullable=True),
        sa.Column("antipassback", sa.String(length=16), nullable=False, server_default="off"),
        sa.Column("antipassback_s", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("first_person_levels", sa.JSON(), nullable=False, server_default="[]"),
        sa.Column("escort_window_s", sa.Integer(), nullable=False, server_default="30"),
        sa.Column("interlock_with", sa.JSON(), nullable=False, server_default="[]"),
        sa.Column("attended_timeout_s", sa.Integer(), nullable=False, server_default="60"),
        sa.Column("private", sa.Boolean(), nullable=False, server_default=sa.false()),
    ]


def _cardholders() -> list[sa.Column[Any]]:
    return [
        sa.Column("escort_required", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("may_escort", sa.Boolean(), nullable=False, server_default=sa.false()),
    ]


_AREAS = ("area", "outside")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "areas",
        sa.Column("id", _NAME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_areas")),
    )
    with op.batch_alter_table("doors") as batch:
        for column in _doors():
            batch.add_column(column)
        for name in _AREAS:
            batch.create_foreign_key(op.f(f"fk_doors_{name}"), "areas", [name], ["id"])
    with op.batch_alter_table("cardholders") as batch:
        for column in _cardholders():
            batch.add_column(column)


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("cardholders") as batch:
        for column in _cardholders():
            batch.drop_column(column.name)
    with op.batch_alter_table("doors") as batch:
        for name in _AREAS:
            batch.drop_constraint(op.f(f"fk_doors_{name}"), type_="foreignkey")
        for column in _doors():
            batch.drop_column(column.name)
    op.drop_table("areas")
