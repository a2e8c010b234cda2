"""Passkeys and the challenges they answer, browsers that are known, and what tokens may and when they were used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_NAME = sa.String(length=48)
_INSTANT = hub.store.database.Instant(timezone=True)


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("api_tokens") as batch:
        batch.add_column(sa.Column("permissions", sa.JSON(none_as_null=True), nullable=True))
        batch.add_column(sa.Column("last_used_at", _INSTANT, nullable=True))
    op.create_table(
        "passkeys",
        sa.Column("credential_id", sa.LargeBinary(), nullable=False),
        sa.Column("operator_id", _NAME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("last_used_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["operator_id"], ["operators.id"], name=op.f("fk_passkeys_operator_id_operators")
        ),
        sa.PrimaryKeyConstraint("credential_id", name=op.f("pk_passkeys")),
    )
    op.create_index(op.f("ix_passkeys_operator_id"), "passkeys", ["operator_id"])
    op.create_table(
        "challenges",
        sa.Column("challenge_hash", sa.LargeBinary(), nullable=False),
        sa.Column("operator_id", _NAME, nullable=True),
        sa.Column("expires_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("challenge_hash", name=op.f("pk_challenges")),
    )
    op.create_table(
        "known_browsers",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("operator_id", _NAME, nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["operator_id"], ["operators.id"], name=op.f("fk_known_browsers_operator_id_operators")
        ),
        sa.PrimaryKeyConstraint("token_hash", "operator_id", name=op.f("pk_known_browsers")),
    )
    op.create_index(op.f("ix_known_browsers_operator_id"), "known_browsers", ["operator_id"])


def downgrade() -> None:
    """Take back."""
    for table in ("known_browsers", "challenges", "passkeys"):
        op.drop_table(table)
    with op.batch_alter_table("api_tokens") as batch:
        batch.drop_column("last_used_at")
        batch.drop_column("permissions")
