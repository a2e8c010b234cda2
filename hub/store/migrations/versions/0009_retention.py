"""What is kept for how long: coarse events, erased people, legal holds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_NAME = sa.String(length=48)
_INSTANT = hub.store.database.Instant(timezone=True)
_NAMED = sa.text("credential_id IS NOT NULL")


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("events") as batch:
        batch.add_column(sa.Column("coarse", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(
        "ix_events_named", "events", ["occurred_at"], sqlite_where=_NAMED, postgresql_where=_NAMED
    )
    with op.batch_alter_table("cardholders") as batch:
        batch.add_column(sa.Column("erased_at", _INSTANT, nullable=True))
    op.create_table(
        "legal_holds",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("site_id", _NAME, nullable=False),
        sa.Column("cardholder_id", _NAME, nullable=True),
        sa.Column("door_id", _NAME, nullable=True),
        sa.Column("since", _INSTANT, nullable=False),
        sa.Column("until", _INSTANT, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_at", _INSTANT, nullable=False),
        sa.Column("confirmed_by", sa.Text(), nullable=True),
        sa.Column("confirmed_at", _INSTANT, nullable=True),
        sa.Column("ends_at", _INSTANT, nullable=False),
        sa.Column("lifted_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_legal_holds_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_legal_holds")),
    )
    op.create_index(op.f("ix_legal_holds_site_id"), "legal_holds", ["site_id"])
    op.create_table(
        "retention_runs",
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("ended_at", _INSTANT, nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=False),
        sa.Column("before", _INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("purpose", name=op.f("pk_retention_runs")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("retention_runs")
    op.drop_table("legal_holds")
    with op.batch_alter_table("cardholders") as batch:
        batch.drop_column("erased_at")
    op.drop_index("ix_events_named", "events")
    with op.batch_alter_table("events") as batch:
        batch.drop_column("coarse")
