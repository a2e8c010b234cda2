"""Taps counted by door, outcome and hour, and for which times that is everything."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_INSTANT = hub.store.database.Instant(timezone=True)
_UNCOUNTED = sa.text("NOT coarse AND kind IN ('access_granted', 'access_denied', 'access_referred')")
_SMALL = sa.text("taps < 5")


def upgrade() -> None:
    """Apply; what is coarse already is counted."""
    op.create_table(
        "tap_totals",
        sa.Column("door_id", sa.String(length=48), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("hour", _INSTANT, nullable=False),
        sa.Column("taps", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("door_id", "kind", "hour", name=op.f("pk_tap_totals")),
    )
    op.create_index(op.f("ix_tap_totals_hour"), "tap_totals", ["hour"])
    op.create_index(
        "ix_tap_totals_small", "tap_totals", ["hour"], sqlite_where=_SMALL, postgresql_where=_SMALL
    )
    op.create_table(
        "known_times",
        sa.Column("door_id", sa.String(length=48), nullable=False),
        sa.Column("since", _INSTANT, nullable=False),
        sa.Column("until", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("door_id", "since", name=op.f("pk_known_times")),
    )
    op.create_index(
        "ix_events_uncounted",
        "events",
        ["occurred_at"],
        sqlite_where=_UNCOUNTED,
        postgresql_where=_UNCOUNTED,
    )
    op.execute(
        "INSERT INTO tap_totals (door_id, kind, hour, taps) SELECT door_id, kind, occurred_at, count(*) FROM events"
        " WHERE coarse AND clock_trusted AND door_id IS NOT NULL"
        " AND kind IN ('access_granted', 'access_denied', 'access_referred') GROUP BY door_id, kind, occurred_at"
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_events_uncounted", "events")
    op.drop_table("known_times")
    op.drop_table("tap_totals")
