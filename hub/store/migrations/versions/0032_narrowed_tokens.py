"""Tokens that were narrowed to a permission keep what it included: movements beside names, enrolling beside managing."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

_PARTS = {"names.read": "movements.read", "cardholders.manage": "cardholders.enrol"}
_TOKENS = sa.table(
    "api_tokens", sa.column("name", sa.String), sa.column("permissions", sa.JSON(none_as_null=True))
)


def upgrade() -> None:
    """Apply."""
    _each(lambda held: held | {part for whole, part in _PARTS.items() if whole in held})


def downgrade() -> None:
    """Undo."""
    _each(lambda held: held - set(_PARTS.values()))


def _each(changed: Callable[[set[str]], set[str]]) -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.select(_TOKENS).where(_TOKENS.c.permissions.is_not(None))).all()
    for name, held in rows:
        now = sorted(changed(set(held)))
        connection.execute(sa.update(_TOKENS).where(_TOKENS.c.name == name).values(permissions=now))
