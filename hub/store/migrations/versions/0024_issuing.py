"""Issuing jobs: for whom which station makes a card, and how far it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_NAME = sa.String(length=48)
_CREDENTIAL = sa.String(length=64)
_INSTANT = hub.store.database.Instant(timezone=True)
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "issuing_jobs",
        sa.Column("number", _SERIAL, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("site_id", _NAME, nullable=False),
        sa.Column("station_id", _NAME, nullable=False),
        sa.Column("cardholder_id", _NAME, nullable=False),
        sa.Column("technology", sa.String(length=16), nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("last_day", sa.Date(), nullable=False),
        sa.Column("replaces", _CREDENTIAL, nullable=True),
        sa.Column("why", sa.String(length=8), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("step", sa.String(length=24), nullable=True),
        sa.Column("attempt", sa.String(length=32), nullable=True),
        sa.Column("lease_until", _INSTANT, nullable=True),
        sa.Column("failure", sa.String(length=24), nullable=True),
        sa.Column("credential_id", _CREDENTIAL, nullable=True),
        sa.Column("ended_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["cardholder_id"], ["cardholders.id"], name=op.f("fk_issuing_jobs_cardholder_id_cardholders")
        ),
        sa.ForeignKeyConstraint(
            ["replaces"], ["cards.credential_id"], name=op.f("fk_issuing_jobs_replaces_cards")
        ),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_issuing_jobs_site_id_sites")),
        sa.ForeignKeyConstraint(
            ["station_id"], ["stations.id"], name=op.f("fk_issuing_jobs_station_id_stations")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_issuing_jobs")),
        sa.UniqueConstraint("id", name=op.f("uq_issuing_jobs_id")),
    )
    op.create_index(op.f("ix_issuing_jobs_cardholder_id"), "issuing_jobs", ["cardholder_id"])
    op.create_index(op.f("ix_issuing_jobs_ended_at"), "issuing_jobs", ["ended_at"])
    op.create_index(op.f("ix_issuing_jobs_station_id_state"), "issuing_jobs", ["station_id", "state"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("issuing_jobs")
