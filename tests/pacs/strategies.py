"""Hypothesis strategies for the values of ``pacs``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import strategies as st

from pacs.card.p256 import encode_point
from pacs.events import Event, EventDraft, EventKind
from pacs.identifiers import (
    AccessLevelId,
    AreaId,
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
    Antipassback,
    Door,
    DoorMode,
    Entitlement,
    ModeRule,
    Policy,
    Side,
    WhenClockUntrusted,
    WhenHubAway,
    WhenTooOld,
    WhenUnlisted,
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
def doors(
    draw: st.DrawFn,
    door_id: DoorId,
    controller_id: ControllerId,
    door_ids: list[DoorId],
    schedule_ids: list[ScheduleId],
    level_ids: list[AccessLevelId],
) -> Door:
    """Any door of this controller; ``door_ids`` are all of them."""
    passback = draw(st.sampled_from(Antipassback))
    areas = names.map(AreaId)
    others = [other for other in door_ids if other != door_id]
    held_s = st.integers(min_value=1, max_value=3_600)
    waiting_s = st.integers(min_value=1, max_value=600)
    admitting = draw(st.frozensets(st.sampled_from(level_ids), max_size=2))
    return Door(
        id=door_id,
        controller_id=controller_id,
        mode=draw(st.sampled_from(DoorMode)),
        unlock_ms=draw(st.integers(min_value=1, max_value=120_000)),
        extended_unlock_ms=draw(st.integers(min_value=1, max_value=120_000)),
        held_open_after_s=draw(held_s),
        max_policy_age_s=draw(st.integers(min_value=60, max_value=31 * 86_400)),
        when_too_old=draw(st.sampled_from(WhenTooOld)),
        when_clock_untrusted=draw(st.sampled_from(WhenClockUntrusted)),
        allow_v1=draw(st.booleans()),
        mode_rules=tuple(
            draw(
                st.lists(
                    st.builds(
                        ModeRule, schedule_id=st.sampled_from(schedule_ids), mode=st.sampled_from(DoorMode)
                    ),
                    max_size=3,
                )
            )
        ),
        relock_on_open=draw(st.booleans()),
        held_warning_s=draw(st.integers(min_value=0, max_value=3_600)),
        extended_held_open_after_s=draw(held_s),
        when_unlisted=draw(st.sampled_from(WhenUnlisted)),
        area=draw(areas if passback is not Antipassback.OFF else st.none() | areas),
        outside=draw(st.none() | areas),
        antipassback=passback,
        antipassback_s=draw(st.integers(1, 86_400)) if passback is Antipassback.TIMED else 0,
        first_person_levels=draw(st.frozensets(st.sampled_from(level_ids), max_size=2)),
        escort_window_s=draw(waiting_s),
        interlock_with=draw(st.frozensets(st.sampled_from(others), max_size=2)) if others else frozenset(),
        attended_timeout_s=draw(waiting_s),
        private=draw(st.booleans()),
        admitting_levels=admitting,
        admits_at_most=draw(st.integers(1, 8)),
        when_hub_away=draw(st.sampled_from([each for each in WhenHubAway if admitting or each != "local"])),
        hub_away_max_s=draw(st.integers(30, 86_400)),
    )


@st.composite
def entitlements(draw: st.DrawFn, credential_id: CredentialId, level_ids: list[AccessLevelId]) -> Entitlement:
    """Anything that this credential may do."""
    escort_required = draw(st.booleans())
    return Entitlement(
        credential_id=credential_id,
        status_index=draw(st.integers(min_value=0, max_value=2**32 - 1)),
        access_level_ids=tuple(draw(st.lists(st.sampled_from(level_ids), max_size=2))),
        valid_from=draw(st.none() | moments),
        valid_until=draw(st.none() | moments),
        attended=draw(st.booleans()),
        extended_opening=draw(st.booleans()),
        escort_required=escort_required,
        may_escort=not escort_required and draw(st.booleans()),
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
    controller_id = ControllerId(draw(names))
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
            door_id: draw(doors(door_id, controller_id, door_ids, schedule_ids, level_ids))
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
            credential_id: draw(entitlements(credential_id, level_ids)) for credential_id in people
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
