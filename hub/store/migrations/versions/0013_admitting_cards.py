"""Whose cards admit others at a door, and how many."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("doors") as table:
        table.add_column(sa.Column("admitting_levels", sa.JSON(), nullable=False, server_default="[]"))
        table.add_column(sa.Column("admits_at_most", sa.Integer(), nullable=False, server_default="1"))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("doors") as table:
        table.drop_column("admits_at_most")
        table.drop_column("admitting_levels")
