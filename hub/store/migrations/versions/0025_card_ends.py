"""Of which ends of cards' validity webhooks were told: of those that lie before, nobody is told any more."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_CREDENTIAL = sa.String(length=64)
_INSTANT = hub.store.database.Instant(timezone=True)


def upgrade() -> None:
    """Apply."""
    told = op.create_table(
        "card_ends_told",
        sa.Column("credential_id", _CREDENTIAL, nullable=False),
        sa.Column("ended_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["credential_id"], ["cards.credential_id"], name=op.f("fk_card_ends_told_credential_id_cards")
        ),
        sa.PrimaryKeyConstraint("credential_id", name=op.f("pk_card_ends_told")),
    )
    cards = sa.table(
        "cards",
        sa.column("credential_id", _CREDENTIAL),
        sa.column("cardholder_id", sa.String()),
        sa.column("valid_until", _INSTANT),
    )
    people = sa.table("cardholders", sa.column("id", sa.String()), sa.column("valid_until", _INSTANT))
    own, persons = cards.c.valid_until, people.c.valid_until
    end = sa.case((own.is_(None), persons), (persons.is_(None), own), (own < persons, own), else_=persons)
    over = sa.select(cards.c.credential_id, end).join(people, people.c.id == cards.c.cardholder_id)
    over = over.where(end <= sa.bindparam("now", datetime.now(UTC), type_=_INSTANT))
    for table in ("cards", "cardholders"):
        op.create_index(op.f(f"ix_{table}_valid_until"), table, ["valid_until"])
    op.execute(sa.insert(told).from_select(["credential_id", "ended_at"], over))


def downgrade() -> None:
    """Undo."""
    for table in ("cards", "cardholders"):
        op.drop_index(op.f(f"ix_{table}_valid_until"), table)
    op.drop_table("card_ends_told")
