"""Hypothesis strategies for the values of ``pacs``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st

from pacs.card.p256 import encode_point
from pacs.events import Event, EventDraft, EventKind
from pacs.identifiers import (
    AccessLevelId,
    ControllerId,
    CredentialId,
    DoorId,
    JournalId,
    ScheduleId,
    SiteId,
)
from pacs.reason import Reason
from pacs.rules import (
    AccessLevel,
    AccessRule,
    Door,
    DoorMode,
    Entitlement,
    Policy,
    Side,
    WhenClockUntrusted,
    WhenTooOld,
)
from pacs.schedule import Schedule, Window

ISSUER_POINTS = [encode_point(ec.derive_private_key(n, ec.SECP256R1()).public_key()) for n in (1, 2, 3)]
names = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
moments = st.integers(min_value=0, max_value=4_000_000_000_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
credential_ids = st.one_of(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)).map(
    CredentialId
)
naturals = st.integers(min_value=0, max_value=2**40)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    """Any allowed window."""
    start = draw(st.integers(min_value=0, max_value=1439))
    return Window(
        weekdays=draw(st.frozensets(st.integers(min_value=0, max_value=6))),
        start_minute=start,
        end_minute=draw(st.integers(min_value=start + 1, max_value=start + 1440)),
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Any consistent policy of a few doors, levels, schedules and people."""
    door_ids = draw(st.lists(names.map(DoorId), min_size=1, max_size=3, unique=True))
    schedule_ids = draw(st.lists(names.map(ScheduleId), min_size=1, max_size=3, unique=True))
    level_ids = draw(st.lists(names.map(AccessLevelId), min_size=1, max_size=3, unique=True))
    rules = st.builds(
        AccessRule, door_id=st.sampled_from(door_ids), schedule_id=st.sampled_from(schedule_ids)
    )
    levels = st.sampled_from(level_ids)
    people = draw(st.lists(credential_ids, max_size=4, unique=True))
    return Policy(
        site_id=SiteId(draw(names)),
        version=draw(naturals),
        issued_at=draw(moments),
        expires_at=draw(moments),
        time_zone=draw(st.sampled_from(["Europe/Amsterdam", "UTC", "Pacific/Chatham"])),
        issuers=draw(
            st.dictionaries(
                st.from_regex(r"[A-Z0-9]{16}", fullmatch=True),
                st.sampled_from(ISSUER_POINTS),
                max_size=2,
            )
        ),
        doors={
            door_id: Door(
                id=door_id,
                controller_id=ControllerId(draw(names)),
                mode=draw(st.sampled_from(DoorMode)),
                unlock_ms=draw(st.integers(min_value=1, max_value=120_000)),
                when_too_old=draw(st.sampled_from(WhenTooOld)),
                when_clock_untrusted=draw(st.sampled_from(WhenClockUntrusted)),
                allow_v1=draw(st.booleans()),
            )
            for door_id in door_ids
        },
        access_levels={
            level_id: AccessLevel(id=level_id, rules=tuple(draw(st.lists(rules, max_size=3))))
            for level_id in level_ids
        },
        schedules={
            schedule_id: Schedule(
                id=schedule_id,
                windows=tuple(draw(st.lists(windows(), max_size=3))),
                holiday_windows=tuple(draw(st.lists(windows(), max_size=2))),
            )
            for schedule_id in schedule_ids
        },
        holidays=draw(st.frozensets(st.dates(), max_size=3)),
        entitlements={
            credential_id: Entitlement(
                credential_id=credential_id,
                status_index=draw(st.integers(min_value=0, max_value=2**32 - 1)),
                access_level_ids=tuple(draw(st.lists(levels, max_size=2))),
                valid_from=draw(st.none() | moments),
                valid_until=draw(st.none() | moments),
                attended=draw(st.booleans()),
                extended_opening=draw(st.booleans()),
            )
            for credential_id in people
        },
    )


drafts = st.builds(
    EventDraft,
    kind=st.sampled_from(EventKind),
    occurred_at=moments,
    clock_trusted=st.booleans(),
    door_id=st.none() | names.map(DoorId),
    side=st.none() | st.sampled_from(Side),
    credential_id=st.none() | credential_ids,
    reason=st.none() | st.sampled_from(Reason),
    details=st.dictionaries(
        names, st.one_of(st.booleans(), naturals, st.text(max_size=20), st.binary(max_size=20)), max_size=4
    ),
)
events = st.builds(
    Event,
    sequence=st.integers(min_value=1, max_value=2**40),
    previous_hash=st.binary(min_size=32, max_size=32),
    draft=drafts,
)
journal_ids = st.from_regex(r"[0-9a-f]{32}", fullmatch=True).map(JournalId)
