"""Tries to sign in, counted over all processes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "sign_in_tries",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("counted", sa.LargeBinary(), nullable=False),
        sa.Column("at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_tries")),
    )
    op.create_index(op.f("ix_sign_in_tries_counted"), "sign_in_tries", ["counted"])
    op.create_index(op.f("ix_sign_in_tries_at"), "sign_in_tries", ["at"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("sign_in_tries")
