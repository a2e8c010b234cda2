"""Periods of sites that keep for less than the whole hub does."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "retention_sites",
        sa.Column("site_id", sa.String(length=48), nullable=False),
        sa.Column("precise_s", sa.Integer(), nullable=True),
        sa.Column("coarse_s", sa.Integer(), nullable=True),
        sa.Column("leavers_s", sa.Integer(), nullable=True),
        sa.Column("registration_s", sa.Integer(), nullable=True),
        sa.Column("reduced_before", hub.store.database.Instant(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_retention_sites_site_id_sites")),
        sa.PrimaryKeyConstraint("site_id", name=op.f("pk_retention_sites")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("retention_sites")
