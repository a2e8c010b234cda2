"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "access_levels",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_levels")),
    )
    op.create_table(
        "anomalies",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("controller_id", sa.String(length=48), nullable=False),
        sa.Column("door_id", sa.String(length=48), nullable=True),
        sa.Column("journal_id", sa.String(length=48), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), nullable=True),
        sa.Column("last_sequence", sa.BigInteger(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("has_hole", sa.Boolean(), nullable=False),
        sa.Column("unknown_from", hub.store.database.Instant(timezone=True), nullable=True),
        sa.Column("unknown_until", hub.store.database.Instant(timezone=True), nullable=True),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("last_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_anomalies")),
    )
    with op.batch_alter_table("anomalies", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_anomalies_controller_id"), ["controller_id"], unique=False)

    op.create_table(
        "api_tokens",
        sa.Column("name", sa.String(length=48), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("expires_at", hub.store.database.Instant(timezone=True), nullable=True),
        sa.Column("revoked_at", hub.store.database.Instant(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_tokens_token_hash")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_hash")),
    )
    op.create_table(
        "cardholders",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("category", sa.String(length=16), nullable=False),
        sa.Column("given_name", sa.Text(), nullable=False),
        sa.Column("family_name", sa.Text(), nullable=False),
        sa.Column("attended", sa.Boolean(), nullable=False),
        sa.Column("extended_opening", sa.Boolean(), nullable=False),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cardholders")),
    )
    op.create_table(
        "controllers",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("event_public_key", sa.LargeBinary(), nullable=False),
        sa.Column("certificate_serial", sa.String(length=64), nullable=False),
        sa.Column("software", sa.Text(), nullable=True),
        sa.Column("registered_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("retired_at", hub.store.database.Instant(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_controllers")),
    )
    op.create_table(
        "documents",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("content_digest", sa.LargeBinary(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("expires_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", "version", name=op.f("pk_documents")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("controller_id", sa.String(length=48), nullable=False),
        sa.Column("journal_id", sa.String(length=48), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("occurred_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("clock_trusted", sa.Boolean(), nullable=False),
        sa.Column("received_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("door_id", sa.String(length=48), nullable=True),
        sa.Column("side", sa.String(length=8), nullable=True),
        sa.Column("credential_id", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.String(length=48), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint(
            "controller_id",
            "journal_id",
            "sequence",
            name=op.f("uq_events_controller_id_journal_id_sequence"),
        ),
    )
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_events_door_id_id"), ["door_id", "id"], unique=False)

    op.create_table(
        "holidays",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_holidays")),
    )
    op.create_table(
        "issuers",
        sa.Column("iir", sa.String(length=16), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("iir", name=op.f("pk_issuers")),
    )
    op.create_table(
        "one_time_links",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("expires_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("used_at", hub.store.database.Instant(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_one_time_links")),
    )
    op.create_table(
        "operators",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("disabled_at", hub.store.database.Instant(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operators")),
        sa.UniqueConstraint("name_key", name=op.f("uq_operators_name_key")),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("controller_id", sa.String(length=48), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("received_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantine")),
        sa.UniqueConstraint("digest", name=op.f("uq_quarantine_digest")),
    )
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("windows", sa.JSON(), nullable=False),
        sa.Column("holiday_windows", sa.JSON(), nullable=False),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
    )
    op.create_table(
        "sites",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sites")),
    )
    op.create_table(
        "cardholder_levels",
        sa.Column("cardholder_id", sa.String(length=48), nullable=False),
        sa.Column("access_level_id", sa.String(length=48), nullable=False),
        sa.ForeignKeyConstraint(
            ["access_level_id"], ["access_levels.id"], name=op.f("fk_cardholder_levels_access_level_id")
        ),
        sa.ForeignKeyConstraint(
            ["cardholder_id"], ["cardholders.id"], name=op.f("fk_cardholder_levels_cardholder_id")
        ),
        sa.PrimaryKeyConstraint("cardholder_id", "access_level_id", name=op.f("pk_cardholder_levels")),
    )
    op.create_table(
        "cards",
        sa.Column("credential_id", sa.String(length=64), nullable=False),
        sa.Column("cardholder_id", sa.String(length=48), nullable=False),
        sa.Column("technology", sa.String(length=16), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=True),
        sa.Column("status_index", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("status_since", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("status_version", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", hub.store.database.Instant(timezone=True), nullable=True),
        sa.Column("valid_until", hub.store.database.Instant(timezone=True), nullable=True),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["cardholder_id"], ["cardholders.id"], name=op.f("fk_cards_cardholder_id")),
        sa.PrimaryKeyConstraint("credential_id", name=op.f("pk_cards")),
        sa.UniqueConstraint("status_index", name=op.f("uq_cards_status_index")),
    )
    with op.batch_alter_table("cards", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_cards_cardholder_id"), ["cardholder_id"], unique=False)

    op.create_table(
        "confirmations",
        sa.Column("controller_id", sa.String(length=48), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("confirmed_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["controller_id"], ["controllers.id"], name=op.f("fk_confirmations_controller_id")
        ),
        sa.PrimaryKeyConstraint("controller_id", "kind", "version", name=op.f("pk_confirmations")),
    )
    op.create_table(
        "controller_state",
        sa.Column("controller_id", sa.String(length=48), nullable=False),
        sa.Column("online", sa.Boolean(), nullable=False),
        sa.Column("since", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("last_seen", hub.store.database.Instant(timezone=True), nullable=True),
        sa.Column("complete_until", hub.store.database.Instant(timezone=True), nullable=True),
        sa.Column("journal_id", sa.String(length=48), nullable=True),
        sa.Column("first_sequence", sa.BigInteger(), nullable=True),
        sa.Column("last_sequence", sa.BigInteger(), nullable=True),
        sa.Column("policy_version", sa.BigInteger(), nullable=True),
        sa.Column("revocations_version", sa.BigInteger(), nullable=True),
        sa.Column("clock_trusted", sa.Boolean(), nullable=True),
        sa.Column("unread_count", sa.BigInteger(), nullable=True),
        sa.Column("broken_readers", sa.JSON(), nullable=True),
        sa.Column("software", sa.Text(), nullable=True),
        sa.Column("hello_at", hub.store.database.Instant(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["controller_id"], ["controllers.id"], name=op.f("fk_controller_state_controller_id")
        ),
        sa.PrimaryKeyConstraint("controller_id", name=op.f("pk_controller_state")),
    )
    op.create_table(
        "doors",
        sa.Column("id", sa.String(length=48), nullable=False),
        sa.Column("controller_id", sa.String(length=48), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("unlock_ms", sa.Integer(), nullable=False),
        sa.Column("extended_unlock_ms", sa.Integer(), nullable=False),
        sa.Column("held_open_after_s", sa.Integer(), nullable=False),
        sa.Column("max_policy_age_s", sa.Integer(), nullable=False),
        sa.Column("when_too_old", sa.String(length=16), nullable=False),
        sa.Column("when_clock_untrusted", sa.String(length=16), nullable=False),
        sa.Column("allow_v1", sa.Boolean(), nullable=False),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["controller_id"], ["controllers.id"], name=op.f("fk_doors_controller_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_doors")),
    )
    with op.batch_alter_table("doors", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_doors_controller_id"), ["controller_id"], unique=False)

    op.create_table(
        "journal_heads",
        sa.Column("controller_id", sa.String(length=48), nullable=False),
        sa.Column("journal_id", sa.String(length=48), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("opened_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("replaced_at", hub.store.database.Instant(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["controller_id"], ["controllers.id"], name=op.f("fk_journal_heads_controller_id")
        ),
        sa.PrimaryKeyConstraint("controller_id", "journal_id", name=op.f("pk_journal_heads")),
    )
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("operator_id", sa.String(length=48), nullable=False),
        sa.Column("created_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("last_used_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.Column("expires_at", hub.store.database.Instant(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["operator_id"], ["operators.id"], name=op.f("fk_sessions_operator_id")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_sessions")),
    )
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sessions_operator_id"), ["operator_id"], unique=False)

    op.create_table(
        "access_rules",
        sa.Column("access_level_id", sa.String(length=48), nullable=False),
        sa.Column("door_id", sa.String(length=48), nullable=False),
        sa.Column("schedule_id", sa.String(length=48), nullable=False),
        sa.ForeignKeyConstraint(
            ["access_level_id"], ["access_levels.id"], name=op.f("fk_access_rules_access_level_id")
        ),
        sa.ForeignKeyConstraint(["door_id"], ["doors.id"], name=op.f("fk_access_rules_door_id")),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], name=op.f("fk_access_rules_schedule_id")),
        sa.PrimaryKeyConstraint("access_level_id", "door_id", "schedule_id", name=op.f("pk_access_rules")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("access_rules")
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sessions_operator_id"))

    op.drop_table("sessions")
    op.drop_table("journal_heads")
    with op.batch_alter_table("doors", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_doors_controller_id"))

    op.drop_table("doors")
    op.drop_table("controller_state")
    op.drop_table("confirmations")
    with op.batch_alter_table("cards", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_cards_cardholder_id"))

    op.drop_table("cards")
    op.drop_table("cardholder_levels")
    op.drop_table("sites")
    op.drop_table("schedules")
    op.drop_table("quarantine")
    op.drop_table("operators")
    op.drop_table("one_time_links")
    op.drop_table("issuers")
    op.drop_table("holidays")
    with op.batch_alter_table("events", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_events_door_id_id"))

    op.drop_table("events")
    op.drop_table("documents")
    op.drop_table("controllers")
    op.drop_table("cardholders")
    op.drop_table("audit")
    op.drop_table("api_tokens")
    with op.batch_alter_table("anomalies", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_anomalies_controller_id"))

    op.drop_table("anomalies")
    op.drop_table("access_levels")
