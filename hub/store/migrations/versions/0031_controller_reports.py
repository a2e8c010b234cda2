"""What each controller found when it examined itself last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "controller_reports",
        sa.Column("controller_id", sa.String(length=48), nullable=False),
        sa.Column("received_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["controller_id"],
            ["controllers.id"],
            name=op.f("fk_controller_reports_controller_id_controllers"),
        ),
        sa.PrimaryKeyConstraint("controller_id", name=op.f("pk_controller_reports")),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("controller_reports")
