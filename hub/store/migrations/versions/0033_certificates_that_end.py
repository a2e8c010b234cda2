"""Find certificates of controllers that end soon."""

from __future__ import annotations

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_INDEX = "ix_device_certificates_revoked_at_expires_at"


def upgrade() -> None:
    """Apply."""
    op.create_index(op.f(_INDEX), "device_certificates", ["revoked_at", "expires_at"], unique=False)


def downgrade() -> None:
    """Undo."""
    op.drop_index(op.f(_INDEX), table_name="device_certificates")
