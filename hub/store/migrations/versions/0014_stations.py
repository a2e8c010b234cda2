"""Card readers that open no door, and the times for which each is known to have worked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_NAME = sa.String(length=48)
_INSTANT = hub.store.database.Instant(timezone=True)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "stations",
        sa.Column("id", _NAME, nullable=False),
        sa.Column("site_id", _NAME, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("retired_at", _INSTANT, nullable=True),
        sa.Column("challenge", sa.LargeBinary(), nullable=True),
        sa.Column("challenge_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_stations_site_id_sites")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stations")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_stations_token_hash")),
    )
    op.create_index(op.f("ix_stations_site_id"), "stations", ["site_id"])
    op.create_table(
        "station_intervals",
        sa.Column("station_id", _NAME, nullable=False),
        sa.Column("begins_at", _INSTANT, nullable=False),
        sa.Column("ends_at", _INSTANT, nullable=False),
        sa.Column("run", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["station_id"], ["stations.id"], name=op.f("fk_station_intervals_station_id_stations")
        ),
        sa.PrimaryKeyConstraint("station_id", "begins_at", name=op.f("pk_station_intervals")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("station_intervals")
    op.drop_table("stations")
