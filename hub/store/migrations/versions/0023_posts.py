"""Posts: which doors somebody watches, who does, and until when each door is open by that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_NAME = sa.String(length=48)
_INSTANT = hub.store.database.Instant(timezone=True)


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "posts",
        sa.Column("id", _NAME, nullable=False),
        sa.Column("site_id", _NAME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("station_id", _NAME, nullable=True),
        sa.Column("asks_every_s", sa.Integer(), nullable=False),
        sa.Column("answer_within_s", sa.Integer(), nullable=False),
        sa.Column("shown_s", sa.Integer(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("page_at", _INSTANT, nullable=True),
        sa.Column("ended", sa.String(length=16), nullable=True),
        sa.Column("ended_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_posts_site_id_sites")),
        sa.ForeignKeyConstraint(["station_id"], ["stations.id"], name=op.f("fk_posts_station_id_stations")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_posts")),
    )
    op.create_index(op.f("ix_posts_site_id"), "posts", ["site_id"])
    op.create_table(
        "post_doors",
        sa.Column("door_id", _NAME, nullable=False),
        sa.Column("post_id", _NAME, nullable=False),
        sa.Column("opened_at", _INSTANT, nullable=True),
        sa.Column("command_id", sa.String(length=32), nullable=True),
        sa.Column("lease_until", _INSTANT, nullable=True),
        sa.Column("heard_until", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(["door_id"], ["doors.id"], name=op.f("fk_post_doors_door_id_doors")),
        sa.ForeignKeyConstraint(
            ["post_id"], ["posts.id"], name=op.f("fk_post_doors_post_id_posts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("door_id", name=op.f("pk_post_doors")),
    )
    op.create_index(op.f("ix_post_doors_post_id"), "post_doors", ["post_id"])
    op.create_table(
        "post_watches",
        sa.Column("post_id", _NAME, nullable=False),
        sa.Column("session_hash", sa.LargeBinary(), nullable=False),
        sa.Column("operator_id", _NAME, nullable=False),
        sa.Column("since", _INSTANT, nullable=False),
        sa.Column("ask_at", _INSTANT, nullable=False),
        sa.Column("page", sa.String(length=16), nullable=True),
        sa.Column("seen_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["operator_id"], ["operators.id"], name=op.f("fk_post_watches_operator_id_operators")
        ),
        sa.ForeignKeyConstraint(
            ["post_id"], ["posts.id"], name=op.f("fk_post_watches_post_id_posts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("post_id", name=op.f("pk_post_watches")),
        sa.UniqueConstraint("session_hash", name=op.f("uq_post_watches_session_hash")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("post_watches")
    op.drop_table("post_doors")
    op.drop_table("posts")
