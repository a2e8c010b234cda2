"""Commands to doors, and what controllers say of their own health."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "commands",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("controller_id", sa.String(length=48), nullable=False),
        sa.Column("door_id", sa.String(length=48), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=True),
        sa.Column("until", hub.store.database.Instant(timezone=True), nullable=True),
        sa.Column("request_id", sa.String(length=32), nullable=True),
        sa.Column("credential_id", sa.String(length=64), nullable=True),
        sa.Column("given_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("issued_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("expires_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("refusal", sa.String(length=48), nullable=True),
        sa.Column("outcome_at", hub.store.database.Instant(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["controller_id"], ["controllers.id"], name=op.f("fk_commands_controller_id_controllers")
        ),
        sa.ForeignKeyConstraint(["door_id"], ["doors.id"], name=op.f("fk_commands_door_id_doors")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commands")),
    )
    with op.batch_alter_table("commands", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_commands_door_id_issued_at"), ["door_id", "issued_at"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_commands_expires_at"), ["expires_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_commands_request_id"), ["request_id"], unique=False)
    with op.batch_alter_table("controller_state", schema=None) as batch_op:
        batch_op.add_column(sa.Column("health", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("controller_state", schema=None) as batch_op:
        batch_op.drop_column("health")
    op.drop_table("commands")
