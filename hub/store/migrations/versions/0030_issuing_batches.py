"""Cards for many people at one station, which can be paused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_NAME = sa.String(length=48)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "issuing_batches",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("site_id", _NAME, nullable=False),
        sa.Column("station_id", _NAME, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_issuing_batches_site_id_sites")),
        sa.ForeignKeyConstraint(
            ["station_id"], ["stations.id"], name=op.f("fk_issuing_batches_station_id_stations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_issuing_batches")),
    )
    op.create_index(op.f("ix_issuing_batches_site_id"), "issuing_batches", ["site_id"])
    with op.batch_alter_table("issuing_jobs") as batch:
        batch.add_column(sa.Column("batch_id", sa.String(length=16), nullable=True))
        batch.create_index(op.f("ix_issuing_jobs_batch_id"), ["batch_id"])


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("issuing_jobs") as batch:
        batch.drop_index(op.f("ix_issuing_jobs_batch_id"))
        batch.drop_column("batch_id")
    op.drop_table("issuing_batches")
