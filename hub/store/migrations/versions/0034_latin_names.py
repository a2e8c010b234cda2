"""Names in Latin letters, and below how many blank cards a site says that few are left."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("cardholders") as table:
        table.add_column(sa.Column("latin_given_name", sa.String(length=100)))
        table.add_column(sa.Column("latin_family_name", sa.String(length=100)))
    with op.batch_alter_table("sites") as table:
        table.add_column(sa.Column("few_blank_cards", sa.Integer(), nullable=False, server_default="20"))


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("sites") as table:
        table.drop_column("few_blank_cards")
    with op.batch_alter_table("cardholders") as table:
        table.drop_column("latin_family_name")
        table.drop_column("latin_given_name")
