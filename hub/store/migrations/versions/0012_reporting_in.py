"""Reporting in: duties, who may report for whom, exemptions, what was reported and corrected, when kiosks worked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import hub.store.database

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_NAME = sa.String(length=48)
_SHORT = sa.String(length=16)
_INSTANT = hub.store.database.Instant(timezone=True)
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "kiosk_screens",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("station_id", _NAME, nullable=False),
        sa.Column("since", _INSTANT, nullable=False),
        sa.Column("until", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kiosk_screens")),
    )
    op.create_index(op.f("ix_kiosk_screens_station_id"), "kiosk_screens", ["station_id"])
    op.create_table(
        "kiosk_tokens",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("station_id", _NAME, nullable=False),
        sa.Column("is_link", sa.Boolean(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_kiosk_tokens")),
    )
    op.create_index(op.f("ix_kiosk_tokens_station_id"), "kiosk_tokens", ["station_id"])
    op.create_table(
        "duties",
        sa.Column("id", _SHORT, nullable=False),
        sa.Column("site_id", _NAME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("whom", _SHORT, nullable=False),
        sa.Column("category", _SHORT, nullable=True),
        sa.Column("access_level_id", _NAME, nullable=True),
        sa.Column("weekdays", sa.JSON(), nullable=False),
        sa.Column("start_minute", sa.Integer(), nullable=False),
        sa.Column("end_minute", sa.Integer(), nullable=False),
        sa.Column("early_min", sa.Integer(), nullable=False),
        sa.Column("late_min", sa.Integer(), nullable=False),
        sa.Column("on_holidays", sa.Boolean(), nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("last_day", sa.Date(), nullable=True),
        sa.Column("in_force_since", _INSTANT, nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["access_level_id"], ["access_levels.id"], name=op.f("fk_duties_access_level_id")
        ),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_duties_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_duties")),
    )
    op.create_index(op.f("ix_duties_site_id"), "duties", ["site_id"])
    op.create_table(
        "reporters",
        sa.Column("reporter_id", _NAME, nullable=False),
        sa.Column("cardholder_id", _NAME, nullable=False),
        sa.Column("set_by", sa.Text(), nullable=False),
        sa.Column("set_at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["cardholder_id"], ["cardholders.id"], name=op.f("fk_reporters_cardholder_id")
        ),
        sa.ForeignKeyConstraint(["reporter_id"], ["cardholders.id"], name=op.f("fk_reporters_reporter_id")),
        sa.PrimaryKeyConstraint("reporter_id", "cardholder_id", name=op.f("pk_reporters")),
    )
    op.create_index(op.f("ix_reporters_cardholder_id"), "reporters", ["cardholder_id"])
    op.create_table(
        "duty_people",
        sa.Column("duty_id", _SHORT, nullable=False),
        sa.Column("cardholder_id", _NAME, nullable=False),
        sa.ForeignKeyConstraint(
            ["cardholder_id"], ["cardholders.id"], name=op.f("fk_duty_people_cardholder_id")
        ),
        sa.ForeignKeyConstraint(["duty_id"], ["duties.id"], name=op.f("fk_duty_people_duty_id")),
        sa.PrimaryKeyConstraint("duty_id", "cardholder_id", name=op.f("pk_duty_people")),
    )
    op.create_index(op.f("ix_duty_people_cardholder_id"), "duty_people", ["cardholder_id"])
    op.create_table(
        "exemptions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("cardholder_id", _NAME, nullable=False),
        sa.Column("duty_id", _SHORT, nullable=True),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("last_day", sa.Date(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("given_by", sa.Text(), nullable=False),
        sa.Column("given_at", _INSTANT, nullable=False),
        sa.Column("lifted_by", sa.Text(), nullable=True),
        sa.Column("lifted_at", _INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["cardholder_id"], ["cardholders.id"], name=op.f("fk_exemptions_cardholder_id")
        ),
        sa.ForeignKeyConstraint(["duty_id"], ["duties.id"], name=op.f("fk_exemptions_duty_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exemptions")),
    )
    op.create_index(op.f("ix_exemptions_cardholder_id"), "exemptions", ["cardholder_id"])
    op.create_table(
        "expected",
        sa.Column("duty_id", _SHORT, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("cardholder_id", _NAME, nullable=False),
        sa.ForeignKeyConstraint(
            ["cardholder_id"], ["cardholders.id"], name=op.f("fk_expected_cardholder_id")
        ),
        sa.ForeignKeyConstraint(["duty_id"], ["duties.id"], name=op.f("fk_expected_duty_id")),
        sa.PrimaryKeyConstraint("duty_id", "day", "cardholder_id", name=op.f("pk_expected")),
    )
    op.create_index(op.f("ix_expected_cardholder_id"), "expected", ["cardholder_id"])
    op.create_table(
        "occurrences",
        sa.Column("duty_id", _SHORT, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("opens_at", _INSTANT, nullable=False),
        sa.Column("starts_at", _INSTANT, nullable=False),
        sa.Column("ends_at", _INSTANT, nullable=False),
        sa.Column("closes_at", _INSTANT, nullable=False),
        sa.Column("fixed_at", _INSTANT, nullable=False),
        sa.Column("counts", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["duty_id"], ["duties.id"], name=op.f("fk_occurrences_duty_id")),
        sa.PrimaryKeyConstraint("duty_id", "day", name=op.f("pk_occurrences")),
    )
    op.create_index(op.f("ix_occurrences_closes_at"), "occurrences", ["closes_at"])
    op.create_table(
        "report_corrections",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("duty_id", _SHORT, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("cardholder_id", _NAME, nullable=False),
        sa.Column("kind", _SHORT, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["cardholder_id"], ["cardholders.id"], name=op.f("fk_report_corrections_cardholder_id")
        ),
        sa.ForeignKeyConstraint(["duty_id"], ["duties.id"], name=op.f("fk_report_corrections_duty_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_report_corrections")),
    )
    op.create_index(op.f("ix_report_corrections_cardholder_id"), "report_corrections", ["cardholder_id"])
    op.create_index(op.f("ix_report_corrections_duty_id_day"), "report_corrections", ["duty_id", "day"])
    op.create_table(
        "reports",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("duty_id", _SHORT, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("cardholder_id", _NAME, nullable=False),
        sa.Column("reported_by", _NAME, nullable=True),
        sa.Column("station_id", _NAME, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("receipt", sa.String(length=10), nullable=False),
        sa.ForeignKeyConstraint(["cardholder_id"], ["cardholders.id"], name=op.f("fk_reports_cardholder_id")),
        sa.ForeignKeyConstraint(["duty_id"], ["duties.id"], name=op.f("fk_reports_duty_id")),
        sa.ForeignKeyConstraint(["reported_by"], ["cardholders.id"], name=op.f("fk_reports_reported_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reports")),
    )
    op.create_index(op.f("ix_reports_cardholder_id"), "reports", ["cardholder_id"])
    op.create_index(op.f("ix_reports_duty_id_day"), "reports", ["duty_id", "day"])
    op.create_index(op.f("ix_reports_receipt"), "reports", ["receipt"])
    op.create_index(op.f("ix_reports_reported_by"), "reports", ["reported_by"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("reports")
    op.drop_table("report_corrections")
    op.drop_table("occurrences")
    op.drop_table("expected")
    op.drop_table("exemptions")
    op.drop_table("duty_people")
    op.drop_table("reporters")
    op.drop_table("duties")
    op.drop_table("kiosk_tokens")
    op.drop_table("kiosk_screens")
