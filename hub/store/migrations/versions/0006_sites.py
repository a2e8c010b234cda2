"""Several sites in one hub: whose everything is, and who sees which of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NAME = sa.String(length=48)
_CREDENTIAL = sa.String(length=64)
_INSTANT = hub.store.database.Instant(timezone=True)
_OF_A_SITE = {
    "controllers": True,
    "areas": True,
    "schedules": True,
    "access_levels": True,
    "cardholders": True,
    "import_jobs": False,
    "orders": False,
}
"""Table: whether it is searched by site."""
_WITH_SCOPE = ("operators", "one_time_links", "api_tokens")
_KEPT = "kept_by_migration"


def upgrade() -> None:
    """Apply; what there is belongs to the one site there is."""
    for table, is_searched in _OF_A_SITE.items():
        with op.batch_alter_table(table) as batch:
            batch.add_column(sa.Column("site_id", _NAME, nullable=True))
        op.execute(f"UPDATE {table} SET site_id = (SELECT id FROM sites)")  # noqa: S608 -- names from above
        with op.batch_alter_table(table) as batch:
            batch.alter_column("site_id", existing_type=_NAME, nullable=False)
            batch.create_foreign_key(op.f(f"fk_{table}_site_id"), "sites", ["site_id"], ["id"])
            if is_searched:
                batch.create_index(op.f(f"ix_{table}_site_id"), ["site_id"])
    for table in _WITH_SCOPE:
        with op.batch_alter_table(table) as batch:
            batch.add_column(sa.Column("sites", sa.JSON(none_as_null=True), nullable=True))
    _by_site("holidays", _holidays())
    _by_site("documents", _documents())
    op.create_table(
        "card_status_versions",
        sa.Column("credential_id", _CREDENTIAL, nullable=False),
        sa.Column("site_id", _NAME, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["credential_id"], ["cards.credential_id"], name=op.f("fk_card_status_versions_credential_id")
        ),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_card_status_versions_site_id")),
        sa.PrimaryKeyConstraint("credential_id", "site_id", name=op.f("pk_card_status_versions")),
    )
    op.execute(
        "INSERT INTO card_status_versions (credential_id, site_id, version)"
        " SELECT credential_id, (SELECT id FROM sites), status_version FROM cards WHERE status_version > 0"
    )
    with op.batch_alter_table("cards") as batch:
        batch.drop_column("status_version")
    op.create_table(
        "transfers",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("to_site_id", _NAME, nullable=False),
        sa.Column("people", sa.Integer(), nullable=False),
        sa.Column("given_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["to_site_id"], ["sites.id"], name=op.f("fk_transfers_to_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfers")),
    )
    op.create_table(
        "transfer_documents",
        sa.Column("transfer_id", sa.String(length=32), nullable=False),
        sa.Column("site_id", _NAME, nullable=False),
        sa.Column("policy_version", sa.BigInteger(), nullable=False),
        sa.Column("revocations_version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["transfer_id"], ["transfers.id"], name=op.f("fk_transfer_documents_transfer_id")
        ),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_transfer_documents_site_id")),
        sa.PrimaryKeyConstraint("transfer_id", "site_id", name=op.f("pk_transfer_documents")),
    )


def _by_site(table: str, columns: list[sa.Column[object]]) -> None:
    """Make a table anew whose key begins with the site."""
    names = ", ".join(column.name for column in columns)
    op.execute(f"CREATE TABLE {_KEPT} AS SELECT * FROM {table}")  # noqa: S608 -- names from below
    op.drop_table(table)
    keys = [column.name for column in columns if column.info.get("key")]
    op.create_table(
        table,
        sa.Column("site_id", _NAME, nullable=False),
        *columns,
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f(f"fk_{table}_site_id")),
        sa.PrimaryKeyConstraint("site_id", *keys, name=op.f(f"pk_{table}")),
    )
    op.execute(
        f"INSERT INTO {table} (site_id, {names}) SELECT (SELECT id FROM sites), {names} FROM {_KEPT}"  # noqa: S608
    )
    op.drop_table(_KEPT)


def _holidays() -> list[sa.Column[object]]:
    return [
        sa.Column("day", sa.Date(), nullable=False, info={"key": True}),
        sa.Column("name", sa.Text(), nullable=False),
    ]


def _documents() -> list[sa.Column[object]]:
    return [
        sa.Column("kind", sa.String(length=16), nullable=False, info={"key": True}),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False, info={"key": True}),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("content_digest", sa.LargeBinary(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False),
    ]


def downgrade() -> None:
    """Refuse: what belongs to several sites cannot become one site's."""
    raise RuntimeError("several sites do not fit the schema before; restore a backup")
