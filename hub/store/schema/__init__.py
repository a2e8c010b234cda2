"""Every table, one module for each aggregate. The migrations in ``migrations/versions`` build exactly this; a test holds them equal.

Types are those that SQLite and PostgreSQL both have. Credential ids stand as text (``str(CredentialId)``),
instants as UTC, durations as integers whose unit is in the column's name.
"""

from hub.store.schema.access import access_levels, access_rules, holidays, schedules
from hub.store.schema.alarms import alarms
from hub.store.schema.attended import attended_looks, attended_requests, post_doors, post_watches, posts
from hub.store.schema.audit import audit, idempotency_keys
from hub.store.schema.cards import card_ends_told, card_status_versions, cards
from hub.store.schema.columns import CREDENTIAL, LEAST, NAME, NAMED, SMALL, UNCOUNTED, Serial, metadata
from hub.store.schema.commands import commands, order_commands, orders
from hub.store.schema.controllers import controller_reports, controller_state, controllers
from hub.store.schema.distribution import confirmations, documents
from hub.store.schema.doors import areas, door_state, doors
from hub.store.schema.enrolment import device_certificates, enrolment_codes
from hub.store.schema.issuing import card_stock, issuing_batches, issuing_jobs
from hub.store.schema.operators import (
    api_tokens,
    challenges,
    given_reasons,
    known_browsers,
    oidc_identities,
    oidc_requests,
    one_time_links,
    operators,
    passkeys,
    sessions,
    sign_in_tries,
)
from hub.store.schema.people import cardholder_levels, cardholders, import_jobs, photographs
from hub.store.schema.record import anomalies, events, journal_heads, quarantine
from hub.store.schema.registration import (
    duties,
    duty_people,
    exemptions,
    expected,
    kiosk_screens,
    kiosk_tokens,
    occurrences,
    report_corrections,
    reporters,
    reports,
)
from hub.store.schema.retention import legal_holds, retention_runs, retention_sites
from hub.store.schema.sites import issuers, sites
from hub.store.schema.stations import desk_looks, desk_sign_ons, station_intervals, stations
from hub.store.schema.totals import known_times, tap_totals
from hub.store.schema.transfers import transfer_documents, transfers
from hub.store.schema.webhooks import webhook_awaited, webhook_deliveries, webhooks

__all__ = [
    "CREDENTIAL",
    "LEAST",
    "NAME",
    "NAMED",
    "SMALL",
    "UNCOUNTED",
    "Serial",
    "access_levels",
    "access_rules",
    "alarms",
    "anomalies",
    "api_tokens",
    "areas",
    "attended_looks",
    "attended_requests",
    "audit",
    "card_ends_told",
    "card_status_versions",
    "card_stock",
    "cardholder_levels",
    "cardholders",
    "cards",
    "challenges",
    "commands",
    "confirmations",
    "controller_reports",
    "controller_state",
    "controllers",
    "desk_looks",
    "desk_sign_ons",
    "device_certificates",
    "documents",
    "door_state",
    "doors",
    "duties",
    "duty_people",
    "enrolment_codes",
    "events",
    "exemptions",
    "expected",
    "given_reasons",
    "holidays",
    "idempotency_keys",
    "import_jobs",
    "issuers",
    "issuing_batches",
    "issuing_jobs",
    "journal_heads",
    "kiosk_screens",
    "kiosk_tokens",
    "known_browsers",
    "known_times",
    "legal_holds",
    "metadata",
    "occurrences",
    "oidc_identities",
    "oidc_requests",
    "one_time_links",
    "operators",
    "order_commands",
    "orders",
    "passkeys",
    "photographs",
    "post_doors",
    "post_watches",
    "posts",
    "quarantine",
    "report_corrections",
    "reporters",
    "reports",
    "retention_runs",
    "retention_sites",
    "schedules",
    "sessions",
    "sign_in_tries",
    "sites",
    "station_intervals",
    "stations",
    "tap_totals",
    "transfer_documents",
    "transfers",
    "webhook_awaited",
    "webhook_deliveries",
    "webhooks",
]
