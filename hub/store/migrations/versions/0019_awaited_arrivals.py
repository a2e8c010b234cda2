"""What webhooks are to be told of once it has arrived at every door."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "webhook_awaited",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("credential_id", sa.String(length=64), nullable=False),
        sa.Column("site_id", sa.String(length=48), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("carried", sa.JSON(), nullable=False),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_webhook_awaited_site_id_sites")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_awaited")),
    )
    op.create_index(op.f("ix_webhook_awaited_credential_id"), "webhook_awaited", ["credential_id"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("webhook_awaited")
