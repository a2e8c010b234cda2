"""The stock of blank cards, as what came and went."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

_NAME = sa.String(length=48)
_INSTANT = hub.store.database.Instant(timezone=True)
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "card_stock",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("site_id", _NAME, nullable=False),
        sa.Column("technology", sa.String(length=16), nullable=False),
        sa.Column("cards", sa.Integer(), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_card_stock_site_id_sites")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_card_stock")),
    )
    op.create_index(op.f("ix_card_stock_site_id"), "card_stock", ["site_id"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("card_stock")
