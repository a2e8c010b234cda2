"""Reporting in: who has to, who did, and what was shown where."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from hub.store.database import Instant
from hub.store.schema.columns import NAME, Serial, metadata

duties = Table(
    "duties",
    metadata,
    Column("id", String(16), primary_key=True),  # hex
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("whom", String(16), nullable=False),  # category, access_level, people
    Column("category", String(16)),
    Column("access_level_id", NAME, ForeignKey("access_levels.id")),
    Column("weekdays", JSON, nullable=False),  # 0 Monday … 6 Sunday
    Column("start_minute", Integer, nullable=False),
    Column("end_minute", Integer, nullable=False),
    Column("early_min", Integer, nullable=False),
    Column("late_min", Integer, nullable=False),
    Column("on_holidays", Boolean, nullable=False),
    Column("first_day", Date, nullable=False),
    Column("last_day", Date),
    Column("in_force_since", Instant, nullable=False),  # as it is now
    Column("created_at", Instant, nullable=False),
)

duty_people = Table(
    "duty_people",
    metadata,
    Column("duty_id", String(16), ForeignKey("duties.id"), primary_key=True),
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), primary_key=True, index=True),
)

reporters = Table(
    "reporters",
    metadata,
    Column("reporter_id", NAME, ForeignKey("cardholders.id"), primary_key=True),
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), primary_key=True, index=True),  # for whom
    Column("set_by", Text, nullable=False),  # as in the audit log
    Column("set_at", Instant, nullable=False),
)

exemptions = Table(
    "exemptions",
    metadata,
    Column("id", String(32), primary_key=True),  # hex
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), nullable=False, index=True),
    Column("duty_id", String(16), ForeignKey("duties.id")),  # none: of every duty
    Column("first_day", Date, nullable=False),
    Column("last_day", Date, nullable=False),
    Column("reason", Text, nullable=False),
    Column("given_by", Text, nullable=False),  # as in the audit log
    Column("given_at", Instant, nullable=False),
    Column("lifted_by", Text),
    Column("lifted_at", Instant),
)

occurrences = Table(
    "occurrences",
    metadata,
    Column("duty_id", String(16), ForeignKey("duties.id"), primary_key=True),
    Column("day", Date, primary_key=True),  # on the site's clock, that it begins on
    Column("opens_at", Instant, nullable=False),
    Column("starts_at", Instant, nullable=False),
    Column("ends_at", Instant, nullable=False),
    Column("closes_at", Instant, nullable=False, index=True),
    Column("fixed_at", Instant, nullable=False),  # when it was laid down who is expected
    Column("counts", JSON(none_as_null=True)),  # what is kept without persons; none: they are kept
)

expected = Table(
    "expected",
    metadata,
    Column("duty_id", String(16), ForeignKey("duties.id"), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), primary_key=True, index=True),
)

reports = Table(
    "reports",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("duty_id", String(16), ForeignKey("duties.id"), nullable=False),
    Column("day", Date, nullable=False),
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), nullable=False, index=True),  # for whom
    Column("reported_by", NAME, ForeignKey("cardholders.id"), index=True),  # none: is forgotten
    Column("station_id", NAME, nullable=False),
    Column("at", Instant, nullable=False),
    Column("receipt", String(10), nullable=False, index=True),  # of one act, which may be for several
    Index(None, "duty_id", "day"),
)

report_corrections = Table(
    "report_corrections",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("duty_id", String(16), ForeignKey("duties.id"), nullable=False),
    Column("day", Date, nullable=False),
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),  # reported, withdrawn
    Column("reason", Text, nullable=False),
    Column("made_by", Text, nullable=False),  # as in the audit log
    Column("at", Instant, nullable=False),
    Index(None, "duty_id", "day"),
)

kiosk_screens = Table(
    "kiosk_screens",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("station_id", NAME, nullable=False, index=True),
    Column("since", Instant, nullable=False),  # from here …
    Column("until", Instant, nullable=False),  # … to here its page was shown, and asked for taps
)

kiosk_tokens = Table(
    "kiosk_tokens",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("station_id", NAME, nullable=False, index=True),
    Column("is_link", Boolean, nullable=False),  # to be followed once; else of a browser that did
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
)
