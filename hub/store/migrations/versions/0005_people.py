"""What is known of people beyond their names, their photographs, and the imports that bring them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_INSTANT = hub.store.database.Instant(timezone=True)
_COLUMNS = ("room", "language", "valid_from", "valid_until", "external_id")


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("cardholders") as batch:
        batch.add_column(sa.Column("room", sa.Text(), nullable=True))
        batch.add_column(sa.Column("language", sa.String(length=35), nullable=True))
        batch.add_column(sa.Column("valid_from", _INSTANT, nullable=True))
        batch.add_column(sa.Column("valid_until", _INSTANT, nullable=True))
        batch.add_column(sa.Column("external_id", sa.String(length=100), nullable=True))
        batch.create_unique_constraint(op.f("uq_cardholders_external_id"), ["external_id"])
    op.create_table(
        "photographs",
        sa.Column("cardholder_id", sa.String(length=48), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("taken_over_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["cardholder_id"], ["cardholders.id"], name=op.f("fk_photographs_cardholder_id_cardholders")
        ),
        sa.PrimaryKeyConstraint("cardholder_id", name=op.f("pk_photographs")),
    )
    op.create_table(
        "import_jobs",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("created", sa.Integer(), nullable=False),
        sa.Column("changed", sa.Integer(), nullable=False),
        sa.Column("unchanged", sa.Integer(), nullable=False),
        sa.Column("fault_count", sa.Integer(), nullable=False),
        sa.Column("faults", sa.JSON(), nullable=False),
        sa.Column("queued_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_import_jobs")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("import_jobs")
    op.drop_table("photographs")
    with op.batch_alter_table("cardholders") as batch:
        batch.drop_constraint(op.f("uq_cardholders_external_id"), type_="unique")
        for name in _COLUMNS:
            batch.drop_column(name)
