"""What a door does where a person decides and the hub cannot be asked, and for how long."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("doors") as table:
        table.add_column(
            sa.Column("when_hub_away", sa.String(length=16), nullable=False, server_default="deny")
        )
        table.add_column(sa.Column("hub_away_max_s", sa.Integer(), nullable=False, server_default="3600"))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("doors") as table:
        table.drop_column("hub_away_max_s")
        table.drop_column("when_hub_away")
