"""Why operators look at somebody's movements, and an index that finds one card's events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "given_reasons",
        sa.Column("session_hash", sa.LargeBinary(), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("until", hub.store.database.Instant(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_hash"],
            ["sessions.token_hash"],
            name=op.f("fk_given_reasons_session_hash_sessions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_hash", "subject", name=op.f("pk_given_reasons")),
    )
    op.create_index(op.f("ix_events_credential_id_id"), "events", ["credential_id", "id"])


def downgrade() -> None:
    """Take back."""
    op.drop_index(op.f("ix_events_credential_id_id"), "events")
    op.drop_table("given_reasons")
