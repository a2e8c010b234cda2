"""Keys that change: who signed a document and what the root said then; which issuer made a card, and until when it is trusted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_INSTANT = hub.store.database.Instant(timezone=True)
_NAMED = """
UPDATE cards SET issuer = (SELECT min(iir) FROM issuers HAVING count(*) = 1) WHERE technology = 'pkoc-v2'
"""


def upgrade() -> None:
    """Apply; where there is one issuer only, it made every card that has a certificate."""
    with op.batch_alter_table("issuers") as batch:
        batch.add_column(sa.Column("retired_at", _INSTANT, nullable=True))
    with op.batch_alter_table("cards") as batch:
        batch.add_column(sa.Column("issuer", sa.String(length=16), nullable=True))
    with op.batch_alter_table("documents") as batch:
        batch.add_column(sa.Column("signer", sa.LargeBinary(), nullable=True))
        batch.add_column(sa.Column("statement", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(_NAMED)


def downgrade() -> None:
    """Undo."""
    with op.batch_alter_table("documents") as batch:
        batch.drop_column("statement")
        batch.drop_column("signer")
    with op.batch_alter_table("cards") as batch:
        batch.drop_column("issuer")
    with op.batch_alter_table("issuers") as batch:
        batch.drop_column("retired_at")
