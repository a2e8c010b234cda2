"""Every table. The migrations in ``migrations/versions`` build exactly this; a test holds them equal.

Types are those that SQLite and PostgreSQL both have. Credential ids stand as text (``str(CredentialId)``),
instants as UTC, durations as integers whose unit is in the column's name.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)

from hub.store.database import Instant

NAMED = text("credential_id IS NOT NULL")
"""Of events: those that say whose card it was."""
UNCOUNTED = "NOT coarse AND kind IN ('access_granted', 'access_denied', 'access_referred')"
"""Of events: taps that are in no total yet."""
LEAST = 5
"""A number of taps below this may say something about somebody: it is shown to nobody, and not kept for long."""
SMALL = text(f"taps < {LEAST}")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

NAME = String(48)  # an Identifier of pacs.identifiers
CREDENTIAL = String(64)
Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only for INTEGER


# -- what is administered ---------------------------------------------------------------------------

sites = Table(
    "sites",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("name", Text, nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("blur_photos", Boolean, nullable=False, server_default=false()),  # until somebody touches them
    Column("desk_shown_s", Integer, nullable=False, server_default="30"),  # how long a desk shows a card
    Column("desk_idle_s", Integer, nullable=False, server_default="900"),  # without a card, then signed off
    Column("created_at", Instant, nullable=False),
)

issuers = Table(
    "issuers",
    metadata,
    Column("iir", String(16), primary_key=True),
    Column("public_key", LargeBinary, nullable=False),  # X9.62 uncompressed point, P-256
    Column("created_at", Instant, nullable=False),
    Column("retired_at", Instant),  # no policy names it from then on
)

controllers = Table(
    "controllers",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("event_public_key", LargeBinary),  # Ed25519, 32 bytes; NULL: no device has taken the place yet
    Column("certificate_serial", String(64)),  # hex; of the certificate that was issued last
    Column("software", Text),
    Column("registered_at", Instant, nullable=False),
    Column("retired_at", Instant),
    Column("revoked_at", Instant),  # since when nothing of its device is believed
    Column("wiring", JSON),  # pacs.wiring.Wiring
)

device_certificates = Table(
    "device_certificates",
    metadata,
    Column("serial", String(64), primary_key=True),  # hex; the broker admits by it
    Column("controller_id", NAME, ForeignKey("controllers.id"), nullable=False, index=True),
    Column("key_digest", LargeBinary),  # SHA-256 of the key it certifies; NULL: not issued here
    Column("chain", Text),  # PEM, the leaf first
    Column("issued_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("used_at", Instant),  # its controller first said that it goes by it
    Column("revoked_at", Instant),
    Column("revoked_because", String(16)),
)

enrolment_codes = Table(
    "enrolment_codes",
    metadata,
    Column("secret_hash", LargeBinary, primary_key=True),
    Column("id", String(16), nullable=False, unique=True),
    Column("controller_id", NAME, ForeignKey("controllers.id"), nullable=False, index=True),
    Column("purpose", String(16), nullable=False),
    Column("doors", JSON, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("withdrawn_at", Instant),
    Column("used_at", Instant),
    Column("used_by", LargeBinary),  # SHA-256 of the key that used it
)

areas = Table(
    "areas",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

doors = Table(
    "doors",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("controller_id", NAME, ForeignKey("controllers.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("mode", String(16), nullable=False),  # and the rest of pacs.rules.Door
    Column("unlock_ms", Integer, nullable=False),
    Column("extended_unlock_ms", Integer, nullable=False),
    Column("held_open_after_s", Integer, nullable=False),
    Column("max_policy_age_s", Integer, nullable=False),
    Column("when_too_old", String(16), nullable=False),
    Column("when_clock_untrusted", String(16), nullable=False),
    Column("allow_v1", Boolean, nullable=False),
    Column("mode_rules", JSON, nullable=False, server_default="[]"),  # [schedule id, mode], …
    Column("relock_on_open", Boolean, nullable=False, server_default=false()),
    Column("held_warning_s", Integer, nullable=False, server_default="10"),
    Column("extended_held_open_after_s", Integer, nullable=False, server_default="90"),
    Column("when_unlisted", String(16), nullable=False, server_default="deny"),
    Column("area", NAME, ForeignKey("areas.id")),
    Column("outside", NAME, ForeignKey("areas.id")),
    Column("antipassback", String(16), nullable=False, server_default="off"),
    Column("antipassback_s", Integer, nullable=False, server_default="0"),
    Column("first_person_levels", JSON, nullable=False, server_default="[]"),
    Column("escort_window_s", Integer, nullable=False, server_default="30"),
    Column("interlock_with", JSON, nullable=False, server_default="[]"),
    Column("attended_timeout_s", Integer, nullable=False, server_default="60"),
    Column("private", Boolean, nullable=False, server_default=false()),
    Column("admitting_levels", JSON, nullable=False, server_default="[]"),
    Column("admits_at_most", Integer, nullable=False, server_default="1"),
    Column("when_hub_away", String(16), nullable=False, server_default="deny"),
    Column("hub_away_max_s", Integer, nullable=False, server_default="3600"),
    Column("created_at", Instant, nullable=False),
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("windows", JSON, nullable=False),  # [[weekdays], start_minute, end_minute], …
    Column("holiday_windows", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
)

holidays = Table(
    "holidays",
    metadata,
    Column("site_id", NAME, ForeignKey("sites.id"), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("name", Text, nullable=False),
)

access_levels = Table(
    "access_levels",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

access_rules = Table(
    "access_rules",
    metadata,
    Column("access_level_id", NAME, ForeignKey("access_levels.id"), primary_key=True),
    Column("door_id", NAME, ForeignKey("doors.id"), primary_key=True),
    Column("schedule_id", NAME, ForeignKey("schedules.id"), primary_key=True),
)

cardholders = Table(
    "cardholders",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("category", String(16), nullable=False),  # resident, visitor, staff
    Column("given_name", Text, nullable=False),
    Column("family_name", Text, nullable=False),
    Column("attended", Boolean, nullable=False),  # a person decides at every door
    Column("extended_opening", Boolean, nullable=False),
    Column("escort_required", Boolean, nullable=False, server_default=false()),
    Column("may_escort", Boolean, nullable=False, server_default=false()),
    Column("messages_waiting", Boolean, nullable=False, server_default=false()),  # at the desk
    Column("room", Text),
    Column("language", String(35)),  # BCP 47
    Column("minor", Boolean, nullable=False, server_default=false()),
    Column("guardian_id", NAME, ForeignKey("cardholders.id")),  # who answers for a minor
    Column("door_note", String(200)),  # to staff at a door
    Column("valid_from", Instant),  # bound every card of theirs
    Column("valid_until", Instant, index=True),
    Column("external_id", String(100), unique=True),  # in the system that people are imported from
    Column("erased_at", Instant),  # nothing is known of them any more but what their cards are
    Column("created_at", Instant, nullable=False),
)

photographs = Table(
    "photographs",
    metadata,
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), primary_key=True),
    Column("data", LargeBinary, nullable=False),  # JPEG, as hub.photographs makes them
    Column("taken_over_at", Instant, nullable=False),
)

cardholder_levels = Table(
    "cardholder_levels",
    metadata,
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), primary_key=True),
    Column("access_level_id", NAME, ForeignKey("access_levels.id"), primary_key=True),
)

import_jobs = Table(
    "import_jobs",
    metadata,
    Column("id", String(16), primary_key=True),  # hex
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False),  # whose people these are
    Column("state", String(16), nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("actor", Text, nullable=False),  # as in the audit log
    Column("digest", String(64), nullable=False),  # SHA-256 of what was sent, hex
    Column("rows", Integer, nullable=False),
    Column("created", Integer, nullable=False),
    Column("changed", Integer, nullable=False),
    Column("unchanged", Integer, nullable=False),
    Column("fault_count", Integer, nullable=False),
    Column("faults", JSON, nullable=False),  # [row, column, external id, problem], …
    Column("queued_at", Instant, nullable=False),
    Column("ended_at", Instant),
)

cards = Table(
    "cards",
    metadata,
    Column("credential_id", CREDENTIAL, primary_key=True),
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), nullable=False, index=True),
    Column("technology", String(16), nullable=False),
    Column("issuer", String(16)),  # whose certificate is on it; none: not told, or PKOC V1
    Column("public_key", LargeBinary),
    Column("status_index", Integer, nullable=False, unique=True),
    Column("status", String(16), nullable=False),  # valid, suspended, revoked
    Column("status_since", Instant, nullable=False),
    Column("valid_from", Instant),
    Column("valid_until", Instant, index=True),
    Column("created_at", Instant, nullable=False),
)

card_ends_told = Table(
    "card_ends_told",
    metadata,
    Column("credential_id", CREDENTIAL, ForeignKey("cards.credential_id"), primary_key=True),
    Column("ended_at", Instant, nullable=False),  # the end that webhooks were told of
)

card_status_versions = Table(
    "card_status_versions",
    metadata,
    Column("credential_id", CREDENTIAL, ForeignKey("cards.credential_id"), primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), primary_key=True),
    Column("version", BigInteger, nullable=False),  # of that site's revocations: the first that say so
)

transfers = Table(
    "transfers",
    metadata,
    Column("id", String(32), primary_key=True),  # hex
    Column("to_site_id", NAME, ForeignKey("sites.id"), nullable=False),
    Column("people", Integer, nullable=False),  # how many
    Column("given_by", Text, nullable=False),  # as in the audit log
    Column("reason", Text, nullable=False),
    Column("at", Instant, nullable=False),
)

transfer_documents = Table(
    "transfer_documents",
    metadata,
    Column("transfer_id", String(32), ForeignKey("transfers.id"), primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), primary_key=True),
    Column("policy_version", BigInteger, nullable=False),
    Column("revocations_version", BigInteger, nullable=False),
)


# -- what is distributed ----------------------------------------------------------------------------

documents = Table(
    "documents",
    metadata,
    Column("site_id", NAME, ForeignKey("sites.id"), primary_key=True),
    Column("kind", String(16), primary_key=True),  # policy, revocations
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),  # sealed, as it travels
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of data
    Column(
        "content_digest", LargeBinary, nullable=False
    ),  # SHA-256 of what it says, without version and dates
    Column("cause", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("signer", LargeBinary),  # id of the policy key; none: made before keys were told apart
    Column("statement", BigInteger, nullable=False, server_default="0"),  # version of the key statement in it
)

confirmations = Table(
    "confirmations",
    metadata,
    Column("controller_id", NAME, ForeignKey("controllers.id"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("confirmed_at", Instant, nullable=False),
)

controller_state = Table(
    "controller_state",
    metadata,
    Column("controller_id", NAME, ForeignKey("controllers.id"), primary_key=True),
    Column("online", Boolean, nullable=False),
    Column("since", Instant, nullable=False),  # online or offline since
    Column("last_seen", Instant),
    Column("complete_until", Instant),  # everything before is stored, as far as the controller says
    Column("journal_id", NAME),  # from here on: what the controller last said of itself
    Column("first_sequence", BigInteger),
    Column("last_sequence", BigInteger),
    Column("policy_version", BigInteger),
    Column("revocations_version", BigInteger),
    Column("clock_trusted", Boolean),
    Column("unread_count", BigInteger),
    Column("broken_readers", JSON),
    Column("software", Text),
    Column("hello_at", Instant),
    Column("health", JSON),  # pacs.health.ControllerHealth as the interface shows it
)

commands = Table(
    "commands",
    metadata,
    Column("id", String(32), primary_key=True),  # hex
    Column("controller_id", NAME, ForeignKey("controllers.id"), nullable=False),
    Column("door_id", NAME, ForeignKey("doors.id"), nullable=False),
    Column("action", String(16), nullable=False),
    Column("mode", String(16)),
    Column("until", Instant),
    Column("request_id", String(32), index=True),  # hex; of an attended request that this answers
    Column("credential_id", CREDENTIAL),
    Column("given_by", Text, nullable=False),  # as in the audit log
    Column("reason", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),  # sealed, as it travels
    Column("issued_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
    Column("outcome", String(16)),  # executed, refused; none: not known
    Column("refusal", String(48)),
    Column("outcome_at", Instant),  # by the controller's clock
    Index(None, "door_id", "issued_at"),
)

attended_requests = Table(
    "attended_requests",
    metadata,
    Column("number", Serial, primary_key=True),  # order of arrival
    Column("id", String(32), nullable=False, unique=True),  # hex, as the door drew it
    Column("controller_id", NAME, nullable=False),
    Column("door_id", NAME, nullable=False),
    Column("side", String(8)),
    Column("credential_id", CREDENTIAL, nullable=False),
    Column("reason", String(48), nullable=False),
    Column("asked_at", Instant, nullable=False),  # by the controller's clock
    Column("clock_trusted", Boolean, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("came_late", Boolean, nullable=False),  # its time was over when it came
    Column(
        "is_recorded", Boolean, nullable=False, server_default=true()
    ),  # else it was announced before its turn
    Column("command_id", String(32), ForeignKey("commands.id")),  # the last answer
    Column("outcome", String(16)),  # none: it waits
    Column("outcome_reason", String(48)),
    Column("said_by_door", Boolean, nullable=False),  # else it is the hub's own end
    Column("ended_at", Instant, index=True),  # by the clock of whoever ended it
)

attended_looks = Table(
    "attended_looks",
    metadata,
    Column("number", Serial, ForeignKey("attended_requests.number"), primary_key=True, autoincrement=False),
    Column("actor", String(80), primary_key=True),  # as in the audit log
    Column("at", Instant, nullable=False),
)


# -- what happened ----------------------------------------------------------------------------------

journal_heads = Table(
    "journal_heads",
    metadata,
    Column("controller_id", NAME, ForeignKey("controllers.id"), primary_key=True),
    Column("journal_id", NAME, primary_key=True),
    Column("sequence", BigInteger, nullable=False),  # highest contiguous sequence stored; 0: none
    Column("hash", LargeBinary, nullable=False),
    Column("opened_at", Instant, nullable=False),
    Column("replaced_at", Instant),
)

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True),  # order of arrival
    Column("controller_id", NAME, nullable=False),
    Column("journal_id", NAME, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),  # the event's bytes, as hashed
    Column("kind", String(32), nullable=False),  # the rest is decoded from data, to search by
    Column("occurred_at", Instant, nullable=False),  # by the controller's clock
    Column("clock_trusted", Boolean, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("door_id", NAME),
    Column("side", String(8)),
    Column("credential_id", CREDENTIAL),
    Column("reason", String(48)),
    # whose time of being precise is over: no data, no credential, the hour only
    Column("coarse", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("controller_id", "journal_id", "sequence"),
    Index(None, "door_id", "id"),
    Index(None, "credential_id", "id"),
    Index("ix_events_named", "occurred_at", sqlite_where=NAMED, postgresql_where=NAMED),
    Index(
        "ix_events_uncounted",
        "occurred_at",
        sqlite_where=text(UNCOUNTED),
        postgresql_where=text(UNCOUNTED),
    ),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("controller_id", NAME, nullable=False),
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),  # SHA-256 over topic and payload: kept once
    Column("cause", Text, nullable=False),
    Column("received_at", Instant, nullable=False),
)

anomalies = Table(
    "anomalies",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("controller_id", NAME, nullable=False, index=True),
    Column("door_id", NAME),  # none: all doors of the controller
    Column("journal_id", NAME),
    Column("kind", String(32), nullable=False),
    Column("first_sequence", BigInteger),
    Column("last_sequence", BigInteger),
    Column("detail", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("has_hole", Boolean, nullable=False),  # the record is not known to be whole …
    Column("unknown_from", Instant),  # … from here (none: from the beginning)
    Column("unknown_until", Instant),  # … to here (none: until further notice)
    Column("times", Integer, nullable=False),  # how often it was seen
    Column("last_at", Instant, nullable=False),
)


alarms = Table(
    "alarms",
    metadata,
    Column("id", Serial, primary_key=True),  # order in which the hub noticed
    Column("kind", String(32), nullable=False),
    Column("controller_id", NAME, nullable=False),
    Column("door_id", NAME),  # none: all doors of the controller
    Column("side", String(8)),
    Column("detail", String(48), nullable=False),  # which document or anomaly; empty: the kind says it all
    Column("since", Instant, nullable=False),
    Column("clock_trusted", Boolean, nullable=False),  # whether since is by a clock to be believed
    Column("noticed_at", Instant, nullable=False),  # by the hub's clock
    Column("journal_id", NAME),  # with sequence: the event that raised it; none: the hub saw it itself
    Column("sequence", BigInteger),
    Column("standing_key", Text, unique=True),  # what it is about, while it stands
    Column("cleared_at", Instant),
    Column("clearance", String(16)),
    Column("acknowledged_at", Instant),
    Column("acknowledged_by", Text),  # as in the audit log
    Column("note", Text, nullable=False),
    Column("remind_at", Instant),
    Column("closed_at", Instant, index=True),  # cleared and acknowledged
    UniqueConstraint("controller_id", "journal_id", "sequence"),
    Index(None, "controller_id", "kind"),
)

door_state = Table(
    "door_state",
    metadata,
    Column("door_id", NAME, primary_key=True),
    Column("controller_id", NAME, nullable=False),
    Column("contact", String(8)),  # open, closed; none: not known
    Column("contact_at", Instant),
    Column("mode", String(16)),  # of its last change since its controller started; none: there was none
    Column("mode_cause", String(32)),
    Column("mode_at", Instant),
)

orders = Table(
    "orders",
    metadata,
    Column("id", String(32), primary_key=True),  # hex
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False),
    Column("action", String(16), nullable=False),
    Column("mode", String(16)),
    Column("given_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("issued_at", Instant, nullable=False, index=True),
)

order_commands = Table(
    "order_commands",
    metadata,
    Column("order_id", String(32), ForeignKey("orders.id"), primary_key=True),
    Column("door_id", NAME, primary_key=True),
    Column("command_id", String(32), ForeignKey("commands.id")),  # none: it could not be given
)


legal_holds = Table(
    "legal_holds",
    metadata,
    Column("id", String(32), primary_key=True),  # hex
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("cardholder_id", NAME),  # of this person; none: of anybody
    Column("door_id", NAME),  # at this door; none: at any of the site
    Column("since", Instant, nullable=False),  # what occurred from here …
    Column("until", Instant, nullable=False),  # … to here is kept
    Column("reason", Text, nullable=False),
    Column("requested_by", Text, nullable=False),  # as in the audit log
    Column("requested_at", Instant, nullable=False),
    Column("confirmed_by", Text),
    Column("confirmed_at", Instant),
    Column("ends_at", Instant, nullable=False),
    Column("lifted_at", Instant),
)

retention_runs = Table(
    "retention_runs",
    metadata,
    Column("purpose", String(16), primary_key=True),
    Column("ended_at", Instant, nullable=False),  # of the last run that had nothing left to do
    Column("removed", BigInteger, nullable=False),  # since the first run
    Column("before", Instant),  # of what is older, who it was is no longer kept
)

retention_sites = Table(
    "retention_sites",
    metadata,
    Column("site_id", NAME, ForeignKey("sites.id"), primary_key=True),
    Column("precise_s", Integer),  # each: for how long, where that is less than in the whole hub
    Column("coarse_s", Integer),
    Column("leavers_s", Integer),
    Column("registration_s", Integer),
    Column("reduced_before", Instant),  # of what is older, who it was is not kept here any more
)


# -- reporting in -----------------------------------------------------------------------------------

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


# -- readers that open no door ----------------------------------------------------------------------

stations = Table(
    "stations",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("kind", String(8), nullable=False),  # desk, kiosk, issuing
    Column("name", Text, nullable=False),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    Column("retired_at", Instant),
    Column("challenge", LargeBinary),  # 16 bytes that one presentation may answer; none: it was answered
    Column("challenge_at", Instant),
    Column("unseen_taps", BigInteger, nullable=False, server_default="0"),  # while nobody was signed on
)

station_intervals = Table(
    "station_intervals",
    metadata,
    Column("station_id", NAME, ForeignKey("stations.id"), primary_key=True),
    Column("begins_at", Instant, primary_key=True),
    Column("ends_at", Instant, nullable=False),  # heard last, its reader working
    Column("run", String(32), nullable=False),  # hex; drawn anew when its program starts or has missed a card
)

tap_totals = Table(
    "tap_totals",
    metadata,
    Column("door_id", NAME, primary_key=True),
    Column("kind", String(32), primary_key=True),  # of events about people
    Column("hour", Instant, primary_key=True, index=True),  # its beginning
    Column("taps", Integer),  # none: from 1 to LEAST - 1
    Index("ix_tap_totals_small", "hour", sqlite_where=SMALL, postgresql_where=SMALL),
)

known_times = Table(
    "known_times",
    metadata,
    Column("door_id", NAME, primary_key=True),
    Column("since", Instant, primary_key=True),  # from here …
    Column("until", Instant, nullable=False),  # … to here the door's record was whole
)

desk_sign_ons = Table(
    "desk_sign_ons",
    metadata,
    Column("station_id", NAME, ForeignKey("stations.id"), primary_key=True),
    Column(
        "session_hash",
        LargeBinary,
        ForeignKey("sessions.token_hash", ondelete="CASCADE"),
        nullable=False,
        unique=True,
    ),
    Column("since", Instant, nullable=False),
    Column("used_at", Instant, nullable=False),
    Column("page", String(16)),  # hex; the one that shows cards, none: none is open
)

desk_looks = Table(
    "desk_looks",
    metadata,
    Column("look_hash", LargeBinary, primary_key=True),
    Column(
        "session_hash",
        LargeBinary,
        ForeignKey("sessions.token_hash", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), nullable=False),
    Column("expires_at", Instant, nullable=False),
)

posts = Table(
    "posts",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("station_id", NAME, ForeignKey("stations.id")),  # whose reader takes the cards of who signs on
    Column("asks_every_s", Integer, nullable=False),
    Column("answer_within_s", Integer, nullable=False),
    Column("shown_s", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("page_at", Instant),  # a page of it was open last
    Column("ended", String(16)),  # why its last watch ended, and when
    Column("ended_at", Instant),
)

post_doors = Table(
    "post_doors",
    metadata,
    Column("door_id", NAME, ForeignKey("doors.id"), primary_key=True),  # of one post at most
    Column("post_id", NAME, ForeignKey("posts.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("opened_at", Instant),  # since when it is to be open, or was
    Column("command_id", String(32)),  # hex; the newest, to open or to close
    Column("lease_until", Instant),  # longer it is open by no command
    Column("heard_until", Instant),  # so long it is open by a command that its controller has said it took
)

post_watches = Table(
    "post_watches",
    metadata,
    Column("post_id", NAME, ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True),
    Column(
        "session_hash", LargeBinary, nullable=False, unique=True
    ),  # outlives its session, until doors are told
    Column("operator_id", NAME, ForeignKey("operators.id"), nullable=False),
    Column("since", Instant, nullable=False),
    Column("ask_at", Instant, nullable=False),
    Column("page", String(16)),  # hex; the one that shows who passes
    Column("seen_at", Instant, nullable=False),  # its page was open last
)


# -- the issuing desk -------------------------------------------------------------------------------

issuing_jobs = Table(
    "issuing_jobs",
    metadata,
    Column("number", Serial, primary_key=True),  # in which order they were asked for
    Column("id", String(32), nullable=False, unique=True),  # hex
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False),
    Column("station_id", NAME, ForeignKey("stations.id"), nullable=False),
    Column("cardholder_id", NAME, ForeignKey("cardholders.id"), nullable=False, index=True),
    Column("technology", String(16), nullable=False),
    Column("first_day", Date, nullable=False),  # both on the card, both inclusive
    Column("last_day", Date, nullable=False),
    Column("replaces", CREDENTIAL, ForeignKey("cards.credential_id")),
    Column("why", String(8)),  # lost, stolen, broken; none: it replaces no card
    Column("created_by", Text, nullable=False),  # as in the audit log
    Column("created_at", Instant, nullable=False),
    Column("state", String(16), nullable=False),  # queued, taken, done, failed, voided, cancelled
    Column("step", String(24)),  # the last that the station told of
    Column("attempt", String(32)),  # hex; drawn each time it is taken
    Column("lease_until", Instant),
    Column("failure", String(24)),
    Column("credential_id", CREDENTIAL),  # of the card that was made, or spoilt
    Column("ended_at", Instant, index=True),
    Column("batch_id", String(16), index=True),  # of issuing_batches; none: asked for by itself
    Index(None, "station_id", "state"),
)

issuing_batches = Table(
    "issuing_batches",
    metadata,
    Column("id", String(16), primary_key=True),  # hex
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("station_id", NAME, ForeignKey("stations.id"), nullable=False),
    Column("created_by", Text, nullable=False),  # as in the audit log
    Column("created_at", Instant, nullable=False),
    Column("paused", Boolean, nullable=False),  # its station takes none of its jobs
)

card_stock = Table(
    "card_stock",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False, index=True),
    Column("technology", String(16), nullable=False),
    Column("cards", Integer, nullable=False),  # that came; below 0: that went
    Column("cause", String(16), nullable=False),  # received, issued, spoilt, returned, counted
    Column("reason", Text, nullable=False),
    Column("made_by", Text, nullable=False),  # as in the audit log
    Column("at", Instant, nullable=False),
)


# -- who works with it ------------------------------------------------------------------------------

operators = Table(
    "operators",
    metadata,
    Column("id", NAME, primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False, unique=True),  # the name as it is compared at sign-in
    Column("role", String(32), nullable=False),
    Column("sites", JSON(none_as_null=True)),  # ids in order; none: every site
    Column("password_hash", Text),  # argon2id; none: signs in by one-time link only
    Column("created_at", Instant, nullable=False),
    Column("disabled_at", Instant),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("operator_id", NAME, ForeignKey("operators.id"), nullable=False, index=True),
    Column("created_at", Instant, nullable=False),
    Column("last_used_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

given_reasons = Table(
    "given_reasons",
    metadata,
    Column(
        "session_hash", LargeBinary, ForeignKey("sessions.token_hash", ondelete="CASCADE"), primary_key=True
    ),
    Column("subject", String(80), primary_key=True),  # as in the audit log
    Column("reason", Text, nullable=False),
    Column("until", Instant, nullable=False),
)

one_time_links = Table(
    "one_time_links",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("name", Text, nullable=False),  # whose it is; empty: chosen when it is followed
    Column("role", String(32), nullable=False),
    Column("sites", JSON(none_as_null=True)),  # ids in order; none: every site
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("used_at", Instant),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("role", String(32), nullable=False),
    Column("sites", JSON(none_as_null=True)),  # ids in order; none: every site
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("permissions", JSON(none_as_null=True)),  # of those the role holds; none: all of them
    Column("last_used_at", Instant),
)

passkeys = Table(
    "passkeys",
    metadata,
    Column("credential_id", LargeBinary, primary_key=True),
    Column("operator_id", NAME, ForeignKey("operators.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("public_key", LargeBinary, nullable=False),  # COSE_Key
    Column("sign_count", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("last_used_at", Instant),
)

challenges = Table(
    "challenges",
    metadata,
    Column("challenge_hash", LargeBinary, primary_key=True),
    Column("operator_id", NAME),  # who adds a passkey; none: somebody signs in
    Column("expires_at", Instant, nullable=False),
)

known_browsers = Table(
    "known_browsers",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("operator_id", NAME, ForeignKey("operators.id"), primary_key=True, index=True),
    Column("expires_at", Instant, nullable=False),
)

oidc_identities = Table(
    "oidc_identities",
    metadata,
    Column("issuer", String(1000), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("operator_id", NAME, ForeignKey("operators.id"), nullable=False, unique=True),
    Column("linked_at", Instant, nullable=False),
    Column("last_used_at", Instant),
)

oidc_requests = Table(
    "oidc_requests",
    metadata,
    Column("state_hash", LargeBinary, primary_key=True),
    Column("browser_hash", LargeBinary, nullable=False),  # who began is who may finish
    Column("nonce", Text, nullable=False),
    Column("verifier", Text, nullable=False),
    Column("operator_id", NAME),  # who connects their own account
    Column("link_hash", LargeBinary),  # of the one-time link that is followed; neither: somebody signs in
    Column("name", Text, nullable=False),  # as who follows the link chose
    Column("next", Text, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("used_at", Instant),
)

sign_in_tries = Table(
    "sign_in_tries",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("counted", LargeBinary, nullable=False, index=True),  # a hash of the source or name
    Column("at", Instant, nullable=False, index=True),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),  # operator:<id>, token:<name> or system
    Column("action", String(64), nullable=False),  # noun.verb
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("previous_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("actor", String(80), primary_key=True),  # as in the audit log
    Column("key", String(64), primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),  # SHA-256 of method, address and body
    Column("attempt", String(32), nullable=False),  # hex; whoever holds it may write
    Column("state", String(8), nullable=False),  # begun, written, answered
    Column("begun_at", Instant, nullable=False, index=True),
    Column("status", Integer),
    Column("headers", JSON),
    Column("body", LargeBinary),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(16), primary_key=True),  # hex
    Column("url", Text, nullable=False),
    Column("kinds", JSON, nullable=False),  # empty: every kind
    Column("sites", JSON(none_as_null=True)),  # none: every site
    Column("secret", String(64), nullable=False),  # as it must be to sign
    Column("previous_secret", String(64)),
    Column("previous_until", Instant),
    Column("enabled", Boolean, nullable=False),
    Column("cause", String(64), nullable=False),
    Column("created_at", Instant, nullable=False),
)

webhook_awaited = Table(
    "webhook_awaited",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("credential_id", CREDENTIAL, nullable=False, index=True),
    Column("site_id", NAME, ForeignKey("sites.id"), nullable=False),
    Column("status", String(16), nullable=False),
    Column("carried", JSON, nullable=False),  # [site, kind of document, version] of each that carries it
    Column("created_at", Instant, nullable=False),
)
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("webhook_id", String(16), ForeignKey("webhooks.id"), nullable=False, index=True),
    Column("message_id", String(32), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant, index=True),  # none: nothing more is done about it
    Column("attempts", Integer, nullable=False),
    Column("claim", String(32)),  # of the process that is sending it
    Column("status", Integer),
    Column("error", String(128), nullable=False),
    Column("delivered_at", Instant),
)
