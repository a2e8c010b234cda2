"""Who works with the hub, and how each signs in."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, LargeBinary, String, Table, Text

from hub.store.database import Instant
from hub.store.schema.columns import NAME, Serial, metadata

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
