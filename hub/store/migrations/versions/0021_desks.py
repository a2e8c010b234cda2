"""Identification desks: who is signed on, looks at photographs, and how long cards are shown; messages that wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_NAME = sa.String(length=48)
_INSTANT = hub.store.database.Instant(timezone=True)


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("sites") as batch:
        batch.add_column(sa.Column("desk_shown_s", sa.Integer(), nullable=False, server_default="30"))
        batch.add_column(sa.Column("desk_idle_s", sa.Integer(), nullable=False, server_default="900"))
    with op.batch_alter_table("cardholders") as batch:
        batch.add_column(
            sa.Column("messages_waiting", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    with op.batch_alter_table("stations") as batch:
        batch.add_column(sa.Column("unseen_taps", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "desk_sign_ons",
        sa.Column("station_id", _NAME, nullable=False),
        sa.Column("session_hash", sa.LargeBinary(), nullable=False),
        sa.Column("since", _INSTANT, nullable=False),
        sa.Column("used_at", _INSTANT, nullable=False),
        sa.Column("page", sa.String(length=16), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_hash"],
            ["sessions.token_hash"],
            name=op.f("fk_desk_sign_ons_session_hash_sessions"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["station_id"], ["stations.id"], name=op.f("fk_desk_sign_ons_station_id_stations")
        ),
        sa.PrimaryKeyConstraint("station_id", name=op.f("pk_desk_sign_ons")),
        sa.UniqueConstraint("session_hash", name=op.f("uq_desk_sign_ons_session_hash")),
    )
    op.create_table(
        "desk_looks",
        sa.Column("look_hash", sa.LargeBinary(), nullable=False),
        sa.Column("session_hash", sa.LargeBinary(), nullable=False),
        sa.Column("cardholder_id", _NAME, nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["cardholder_id"], ["cardholders.id"], name=op.f("fk_desk_looks_cardholder_id_cardholders")
        ),
        sa.ForeignKeyConstraint(
            ["session_hash"],
            ["sessions.token_hash"],
            name=op.f("fk_desk_looks_session_hash_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("look_hash", name=op.f("pk_desk_looks")),
    )
    op.create_index(op.f("ix_desk_looks_session_hash"), "desk_looks", ["session_hash"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("desk_looks")
    op.drop_table("desk_sign_ons")
    with op.batch_alter_table("stations") as batch:
        batch.drop_column("unseen_taps")
    with op.batch_alter_table("cardholders") as batch:
        batch.drop_column("messages_waiting")
    with op.batch_alter_table("sites") as batch:
        batch.drop_column("desk_idle_s")
        batch.drop_column("desk_shown_s")
