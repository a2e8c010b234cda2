"""Who waits at an attended door, and who is on duty there."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, ForeignKey, Integer, LargeBinary, String, Table, Text, true

from hub.store.database import Instant
from hub.store.schema.columns import CREDENTIAL, NAME, Serial, metadata

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
