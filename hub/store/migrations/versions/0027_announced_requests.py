"""Attended requests that a door announced before its record of them arrives."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("attended_requests") as batch:
        batch.add_column(sa.Column("is_recorded", sa.Boolean(), nullable=False, server_default=sa.true()))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("attended_requests") as batch:
        batch.drop_column("is_recorded")
