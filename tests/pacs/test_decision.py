"""Every reason of ``decide()`` is reached, and its order is the one its docstring promises."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from pacs.card.p256 import encode_point
from pacs.credential import Technology, VerifiedCredential
from pacs.decision import EXIT_UNLOCK_MS, ClockReading, Decision, Outcome, decide
from pacs.identifiers import AccessLevelId, AreaId, ControllerId, CredentialId, DoorId, ScheduleId, SiteId
from pacs.modes import effective_mode
from pacs.reason import Reason
from pacs.revocation import Status, StatusList
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
    WhenTooOld,
    WhenUnlisted,
)
from pacs.schedule import ALL_DAYS, Schedule, Window
from pacs.situation import NOTHING_KNOWN, Attendance, ModeOrder, Situation
from tests.pacs import strategies as own
from tools import decision_table

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)  # a Friday, 13:00 in Amsterdam
GATE, KITCHEN = DoorId("gate"), DoorId("kitchen")
CARD, V1_CARD = CredentialId(b"\x01" * 16), CredentialId(b"\x02" * 32)
RESIDENTS, DAYTIME = AccessLevelId("residents"), ScheduleId("daytime")
STAFF, HALL = AccessLevelId("staff"), AreaId("hall")

DOOR = Door(id=GATE, controller_id=ControllerId("gate-1"))
ENTITLEMENT = Entitlement(credential_id=CARD, status_index=3, access_level_ids=(RESIDENTS,))
CREDENTIAL = VerifiedCredential(
    credential_id=CARD,
    technology=Technology.PKOC_V2,
    issuer="DREMPEL000000001",
    valid_from=date(2026, 11, 20),
    valid_until=date(2026, 11, 20),
)
V1 = VerifiedCredential(credential_id=V1_CARD, technology=Technology.PKOC_V1)


def _policy(door: Door = DOOR, entitlement: Entitlement | None = ENTITLEMENT) -> Policy:
    return Policy(
        site_id=SiteId("site"),
        version=1,
        issued_at=NOW - timedelta(hours=1),
        expires_at=NOW + timedelta(days=7),
        time_zone="Europe/Amsterdam",
        issuers={"DREMPEL000000001": encode_point(ec.derive_private_key(7, ec.SECP256R1()).public_key())},
        doors={door.id: door, KITCHEN: replace(door, id=KITCHEN)},
        access_levels={
            level: AccessLevel(id=level, rules=(AccessRule(door_id=GATE, schedule_id=DAYTIME),))
            for level in (RESIDENTS, STAFF)
        },
        schedules={
            DAYTIME: Schedule(
                id=DAYTIME, windows=(Window(weekdays=ALL_DAYS, start_minute=13 * 60, end_minute=14 * 60),)
            )
        },
        entitlements={entitlement.credential_id: entitlement} if entitlement else {},
    )


def _list(status: Status = Status.VALID, size: int = 8) -> StatusList:
    return StatusList.build(
        site_id=SiteId("site"),
        version=1,
        issued_at=NOW - timedelta(minutes=1),
        expires_at=NOW + timedelta(days=7),
        size=size,
        statuses={3: status} if size > 3 else {},
    )


CLOCK = ClockReading(at=NOW, trusted=True)


def _at_gate(  # the one call under test, with one thing changed at a time
    *,
    credential: VerifiedCredential = CREDENTIAL,
    door_id: DoorId = GATE,
    side: Side = Side.ENTRY,
    policy: Policy | None = None,
    no_policy: bool = False,
    revocations: StatusList | None = None,
    no_revocations: bool = False,
    clock: ClockReading = CLOCK,
    situation: Situation = NOTHING_KNOWN,
) -> Decision:
    return decide(
        credential,
        door_id,
        side,
        policy=None if no_policy else policy or _policy(),
        revocations=None if no_revocations else revocations or _list(),
        clock=clock,
        situation=situation,
    )


def _away(attendance: str) -> Situation:
    return Situation(attendance=Attendance(attendance))


def _ordered(mode: DoorMode, until: datetime | None = None) -> Situation:
    return Situation(order=ModeOrder(mode=mode, until=until, command_id=bytes(16)))


def _guarded(antipassback: Antipassback) -> Policy:
    seconds = 600 if antipassback is Antipassback.TIMED else 0
    return _policy(replace(DOOR, area=HALL, antipassback=antipassback, antipassback_s=seconds))


def _grant(reason: Reason, unlock_ms: int = 5000) -> Decision:
    return Decision(outcome=Outcome.GRANT, reason=reason, unlock_ms=unlock_ms)


def _deny(reason: Reason) -> Decision:
    return Decision(outcome=Outcome.DENY, reason=reason)


def _refer(reason: Reason) -> Decision:
    return Decision(outcome=Outcome.REFER, reason=reason)


LAX = replace(DOOR, when_clock_untrusted=WhenClockUntrusted.LEVELS_ONLY)
UNTRUSTED = replace(CLOCK, trusted=False)
SINCE_POLICY = replace(DOOR, when_unlisted=WhenUnlisted.ADMIT)
AWAITS_STAFF = replace(DOOR, first_person_levels=frozenset({STAFF}))
NEEDS_ESCORT = replace(ENTITLEMENT, escort_required=True)
UNLOCKED_BY_DAY = replace(DOOR, mode_rules=(ModeRule(schedule_id=DAYTIME, mode=DoorMode.UNLOCKED),))
OLD_CARD = replace(CREDENTIAL, valid_from=date(2026, 11, 19))
ADMITTED = Situation(admitted=True)
ADMITS = replace(DOOR, mode=DoorMode.ATTENDED, admitting_levels=frozenset({RESIDENTS}))
GUARDED_GATE = replace(DOOR, mode=DoorMode.ATTENDED, admitting_levels=frozenset({STAFF}))
INSIDE = Situation(inside_s=599.9)
LATER = ClockReading(at=NOW + timedelta(hours=3, minutes=1), trusted=True)
CASES = {
    "valid card in schedule": (_at_gate(), _grant(Reason.ENTITLED)),
    "extended opening": (
        _at_gate(policy=_policy(entitlement=replace(ENTITLEMENT, extended_opening=True))),
        _grant(Reason.ENTITLED, 15_000),
    ),
    "exit": (_at_gate(side=Side.EXIT), _grant(Reason.EXIT_FREE)),
    "exit of somebody who needs longer": (
        _at_gate(side=Side.EXIT, policy=_policy(entitlement=replace(ENTITLEMENT, extended_opening=True))),
        _grant(Reason.EXIT_FREE, 15_000),
    ),
    "exit with nothing held": (
        _at_gate(side=Side.EXIT, no_policy=True, no_revocations=True),
        _grant(Reason.EXIT_FREE, EXIT_UNLOCK_MS),
    ),
    "exit in lockdown": (
        _at_gate(side=Side.EXIT, policy=_policy(replace(DOOR, mode=DoorMode.LOCKDOWN))),
        _grant(Reason.EXIT_FREE),
    ),
    "no policy": (_at_gate(no_policy=True), _deny(Reason.POLICY_MISSING)),
    "no revocation list": (_at_gate(no_revocations=True), _deny(Reason.POLICY_MISSING)),
    "another site's door": (_at_gate(door_id=DoorId("attic")), _deny(Reason.DOOR_UNKNOWN)),
    "out of service": (
        _at_gate(policy=_policy(replace(DOOR, mode=DoorMode.OUT_OF_SERVICE))),
        _deny(Reason.DOOR_OUT_OF_SERVICE),
    ),
    "lockdown": (
        _at_gate(policy=_policy(replace(DOOR, mode=DoorMode.LOCKDOWN))),
        _deny(Reason.DOOR_LOCKDOWN),
    ),
    "clock untrusted": (
        _at_gate(clock=replace(CLOCK, trusted=False)),
        _deny(Reason.CLOCK_UNTRUSTED),
    ),
    "clock untrusted, door continues": (
        _at_gate(
            clock=replace(CLOCK, trusted=False),
            policy=_policy(replace(DOOR, when_clock_untrusted=WhenClockUntrusted.CONTINUE)),
        ),
        _grant(Reason.ENTITLED),
    ),
    "policy expired": (
        _at_gate(policy=replace(_policy(), expires_at=NOW)),
        _deny(Reason.POLICY_TOO_OLD),
    ),
    "list expired": (
        _at_gate(revocations=replace(_list(), expires_at=NOW)),
        _deny(Reason.POLICY_TOO_OLD),
    ),
    "older than the bound": (_at_gate(clock=LATER), _deny(Reason.POLICY_TOO_OLD)),
    "older than the bound, door continues": (
        _at_gate(clock=LATER, policy=_policy(replace(DOOR, when_too_old=WhenTooOld.CONTINUE))),
        _deny(Reason.OUTSIDE_SCHEDULE),
    ),
    "V1 at a door for V2": (_at_gate(credential=V1), _deny(Reason.TECHNOLOGY_NOT_ALLOWED)),
    "V1 not enrolled": (
        _at_gate(credential=V1, policy=_policy(replace(DOOR, allow_v1=True))),
        _deny(Reason.CARD_NOT_ENROLLED),
    ),
    "V1 enrolled": (
        _at_gate(
            credential=V1,
            policy=_policy(replace(DOOR, allow_v1=True), replace(ENTITLEMENT, credential_id=V1_CARD)),
        ),
        _grant(Reason.ENTITLED),
    ),
    "an issuer that is trusted no longer": (
        _at_gate(credential=replace(CREDENTIAL, issuer="DREMPEL000000002", valid_until=date.min)),
        _deny(Reason.ISSUER_UNKNOWN),
    ),
    "certificate not yet valid": (
        _at_gate(credential=replace(CREDENTIAL, valid_from=date(2026, 11, 21))),
        _deny(Reason.CERTIFICATE_NOT_YET_VALID),
    ),
    "certificate expired": (
        _at_gate(credential=replace(CREDENTIAL, valid_until=date(2026, 11, 19))),
        _deny(Reason.CERTIFICATE_EXPIRED),
    ),
    "unlisted": (_at_gate(policy=_policy(entitlement=None)), _deny(Reason.CREDENTIAL_UNLISTED)),
    "revoked": (_at_gate(revocations=_list(Status.INVALID)), _deny(Reason.CREDENTIAL_REVOKED)),
    "suspended": (_at_gate(revocations=_list(Status.SUSPENDED)), _deny(Reason.CREDENTIAL_SUSPENDED)),
    "list too short": (_at_gate(revocations=_list(size=0)), _deny(Reason.STATUS_UNKNOWN)),
    "entitlement not yet": (
        _at_gate(policy=_policy(entitlement=replace(ENTITLEMENT, valid_from=NOW + timedelta(seconds=1)))),
        _deny(Reason.CREDENTIAL_NOT_YET_VALID),
    ),
    "entitlement over": (
        _at_gate(policy=_policy(entitlement=replace(ENTITLEMENT, valid_until=NOW))),
        _deny(Reason.CREDENTIAL_EXPIRED),
    ),
    "unlocked": (
        _at_gate(policy=_policy(replace(DOOR, mode=DoorMode.UNLOCKED))),
        _grant(Reason.DOOR_UNLOCKED),
    ),
    "another door": (_at_gate(door_id=KITCHEN), _deny(Reason.NO_ACCESS_LEVEL)),
    "outside schedule": (
        _at_gate(clock=replace(CLOCK, at=NOW - timedelta(minutes=1))),
        _deny(Reason.OUTSIDE_SCHEDULE),
    ),
    "attended door": (
        _at_gate(policy=_policy(replace(DOOR, mode=DoorMode.ATTENDED))),
        _refer(Reason.DOOR_ATTENDED),
    ),
    "attended cardholder": (
        _at_gate(policy=_policy(entitlement=replace(ENTITLEMENT, attended=True))),
        _refer(Reason.CARDHOLDER_ATTENDED),
    ),
    "attended door, admitted by a card": (
        _at_gate(policy=_policy(replace(DOOR, mode=DoorMode.ATTENDED)), situation=ADMITTED),
        _grant(Reason.LOCAL_GRANT),
    ),
    "attended cardholder, admitted by a card": (
        _at_gate(policy=_policy(entitlement=replace(ENTITLEMENT, attended=True)), situation=ADMITTED),
        _grant(Reason.LOCAL_GRANT),
    ),
    "needs an escort, admitted by a card": (
        _at_gate(policy=_policy(entitlement=NEEDS_ESCORT), situation=ADMITTED),
        _refer(Reason.ESCORT_AWAITED),
    ),
    "nobody has to decide, admitted by a card": (_at_gate(situation=ADMITTED), _grant(Reason.ENTITLED)),
    "revoked, admitted by a card": (
        _at_gate(
            policy=_policy(replace(DOOR, mode=DoorMode.ATTENDED)),
            revocations=_list(Status.INVALID),
            situation=ADMITTED,
        ),
        _deny(Reason.CREDENTIAL_REVOKED),
    ),
    "unlisted, admitted by a card": (
        _at_gate(policy=_policy(replace(DOOR, when_unlisted=WhenUnlisted.REFER), None), situation=ADMITTED),
        _refer(Reason.UNLISTED_REFERRED),
    ),
    "hub away, attended door": (
        _at_gate(policy=_policy(replace(DOOR, mode=DoorMode.ATTENDED)), situation=_away("nobody")),
        _deny(Reason.HUB_AWAY),
    ),
    "hub away, admitted by a card": (
        _at_gate(
            policy=_policy(replace(DOOR, mode=DoorMode.ATTENDED)),
            situation=replace(_away("nobody"), admitted=True),
        ),
        _grant(Reason.LOCAL_GRANT),
    ),
    "hub away, a card may admit": (
        _at_gate(policy=_policy(GUARDED_GATE), situation=_away("local")),
        _refer(Reason.LOCAL_AWAITED),
    ),
    "hub away, unattended": (
        _at_gate(policy=_policy(GUARDED_GATE), situation=_away("unattended")),
        _grant(Reason.HUB_AWAY_ADMITTED),
    ),
    "hub away, unattended, attended cardholder": (
        _at_gate(policy=_policy(DOOR, replace(ENTITLEMENT, attended=True)), situation=_away("unattended")),
        _deny(Reason.HUB_AWAY),
    ),
    "hub away, unattended, attended cardholder, a card may admit": (
        _at_gate(
            policy=_policy(GUARDED_GATE, replace(ENTITLEMENT, attended=True)), situation=_away("unattended")
        ),
        _refer(Reason.LOCAL_AWAITED),
    ),
    "hub away, unattended, without an escort": (
        _at_gate(policy=_policy(GUARDED_GATE, NEEDS_ESCORT), situation=_away("unattended")),
        _refer(Reason.ESCORT_AWAITED),
    ),
    "hub away, unattended, no level": (
        _at_gate(
            policy=_policy(GUARDED_GATE, replace(ENTITLEMENT, access_level_ids=())),
            situation=_away("unattended"),
        ),
        _deny(Reason.NO_ACCESS_LEVEL),
    ),
    "hub away, nobody has to decide": (_at_gate(situation=_away("nobody")), _grant(Reason.ENTITLED)),
    "hub away, unlisted": (
        _at_gate(
            policy=_policy(replace(GUARDED_GATE, when_unlisted=WhenUnlisted.ADMIT), None),
            situation=_away("unattended"),
        ),
        _deny(Reason.HUB_AWAY),
    ),
    "attended door, somebody watches": (
        _at_gate(policy=_policy(replace(DOOR, mode=DoorMode.ATTENDED)), situation=Situation(post=bytes(16))),
        _grant(Reason.ENTITLED),
    ),
    "lockdown, somebody watches": (
        _at_gate(policy=_policy(replace(DOOR, mode=DoorMode.LOCKDOWN)), situation=Situation(post=bytes(16))),
        _deny(Reason.DOOR_LOCKDOWN),
    ),
    "who may admit, at an attended door": (_at_gate(policy=_policy(ADMITS)), _grant(Reason.ENTITLED)),
    "who may admit, attended themselves": (
        _at_gate(policy=_policy(ADMITS, replace(ENTITLEMENT, attended=True))),
        _refer(Reason.DOOR_ATTENDED),
    ),
    # modes by schedule and by command
    "unlocked by schedule": (_at_gate(policy=_policy(UNLOCKED_BY_DAY)), _grant(Reason.DOOR_UNLOCKED)),
    "locked down by command while unlocked by schedule": (
        _at_gate(policy=_policy(UNLOCKED_BY_DAY), situation=_ordered(DoorMode.LOCKDOWN)),
        _deny(Reason.DOOR_LOCKDOWN),
    ),
    "unlocked by command until later": (
        _at_gate(situation=_ordered(DoorMode.UNLOCKED, NOW + timedelta(seconds=1))),
        _grant(Reason.DOOR_UNLOCKED),
    ),
    "unlocked by command until now": (
        _at_gate(situation=_ordered(DoorMode.UNLOCKED, NOW)),
        _grant(Reason.ENTITLED),
    ),
    "attended by command": (_at_gate(situation=_ordered(DoorMode.ATTENDED)), _refer(Reason.DOOR_ATTENDED)),
    # a clock nobody vouches for, at a door that goes by levels only
    "levels only": (
        _at_gate(clock=replace(UNTRUSTED, at=NOW + timedelta(days=4000)), policy=_policy(LAX)),
        _grant(Reason.ENTITLED),
    ),
    "levels only, no level": (
        _at_gate(clock=UNTRUSTED, policy=_policy(LAX), door_id=KITCHEN),
        _deny(Reason.NO_ACCESS_LEVEL),
    ),
    "levels only, revoked": (
        _at_gate(clock=UNTRUSTED, policy=_policy(LAX), revocations=_list(Status.INVALID)),
        _deny(Reason.CREDENTIAL_REVOKED),
    ),
    "levels only, a schedule could lock the door down": (
        _at_gate(
            clock=UNTRUSTED,
            policy=_policy(replace(LAX, mode_rules=(ModeRule(schedule_id=DAYTIME, mode=DoorMode.LOCKDOWN),))),
        ),
        _deny(Reason.DOOR_LOCKDOWN),
    ),
    "levels only, the first person never came": (
        _at_gate(clock=UNTRUSTED, policy=_policy(replace(LAX, first_person_levels=frozenset({STAFF})))),
        _deny(Reason.FIRST_PERSON_AWAITED),
    ),
    "levels only, the first person came once": (
        _at_gate(
            clock=UNTRUSTED,
            policy=_policy(replace(LAX, first_person_levels=frozenset({STAFF}))),
            situation=Situation(first_person_at=NOW - timedelta(days=3)),
        ),
        _grant(Reason.ENTITLED),
    ),
    "unlocked by command until later, clock untrusted": (
        _at_gate(
            clock=UNTRUSTED,
            policy=_policy(LAX),
            situation=_ordered(DoorMode.UNLOCKED, NOW + timedelta(seconds=1)),
        ),
        _grant(Reason.ENTITLED),
    ),
    # issued since the door last heard
    "unlisted, issued today, door admits": (
        _at_gate(policy=_policy(SINCE_POLICY, None)),
        _grant(Reason.UNLISTED_ADMITTED),
    ),
    "unlisted, issued before the policy, door admits": (
        _at_gate(policy=_policy(SINCE_POLICY, None), credential=OLD_CARD),
        _deny(Reason.CREDENTIAL_UNLISTED),
    ),
    "unlisted without a date of issue, door admits": (
        _at_gate(policy=_policy(SINCE_POLICY, None), credential=replace(CREDENTIAL, valid_from=None)),
        _deny(Reason.CREDENTIAL_UNLISTED),
    ),
    "unlisted, door refers": (
        _at_gate(policy=_policy(replace(DOOR, when_unlisted=WhenUnlisted.REFER), None)),
        _refer(Reason.UNLISTED_REFERRED),
    ),
    "unlisted, door admits but is attended": (
        _at_gate(policy=_policy(replace(SINCE_POLICY, mode=DoorMode.ATTENDED), None)),
        _refer(Reason.UNLISTED_REFERRED),
    ),
    "unlisted, door admits and is unlocked": (
        _at_gate(policy=_policy(replace(SINCE_POLICY, mode=DoorMode.UNLOCKED), None)),
        _grant(Reason.DOOR_UNLOCKED),
    ),
    "unlisted, door admits but is interlocked": (
        _at_gate(policy=_policy(SINCE_POLICY, None), situation=Situation(interlocked=True)),
        _deny(Reason.INTERLOCKED),
    ),
    "unlisted, door refers but is interlocked": (
        _at_gate(
            policy=_policy(replace(DOOR, when_unlisted=WhenUnlisted.REFER), None),
            situation=Situation(interlocked=True),
        ),
        _deny(Reason.INTERLOCKED),
    ),
    "V1 unlisted, door admits": (
        _at_gate(policy=_policy(replace(SINCE_POLICY, allow_v1=True), None), credential=V1),
        _deny(Reason.CARD_NOT_ENROLLED),
    ),
    # interlock
    "interlocked": (_at_gate(situation=Situation(interlocked=True)), _deny(Reason.INTERLOCKED)),
    "interlocked, exit": (
        _at_gate(situation=Situation(interlocked=True), side=Side.EXIT),
        _grant(Reason.EXIT_FREE),
    ),
    "interlocked and unlocked": (
        _at_gate(
            policy=_policy(replace(DOOR, mode=DoorMode.UNLOCKED)), situation=Situation(interlocked=True)
        ),
        _deny(Reason.INTERLOCKED),
    ),
    # first person in
    "nobody of the staff yet": (_at_gate(policy=_policy(AWAITS_STAFF)), _deny(Reason.FIRST_PERSON_AWAITED)),
    "staff came in this window": (
        _at_gate(policy=_policy(AWAITS_STAFF), situation=Situation(first_person_at=NOW)),
        _grant(Reason.ENTITLED),
    ),
    "staff came before this window": (
        _at_gate(
            policy=_policy(AWAITS_STAFF),
            situation=Situation(first_person_at=NOW - timedelta(seconds=1)),
        ),
        _deny(Reason.FIRST_PERSON_AWAITED),
    ),
    "the first person": (
        _at_gate(policy=_policy(AWAITS_STAFF, replace(ENTITLEMENT, access_level_ids=(STAFF,)))),
        _grant(Reason.ENTITLED),
    ),
    "not unlocked by schedule before the first person": (
        _at_gate(policy=_policy(replace(UNLOCKED_BY_DAY, first_person_levels=frozenset({STAFF})))),
        _deny(Reason.FIRST_PERSON_AWAITED),
    ),
    "unlocked by schedule after the first person": (
        _at_gate(
            policy=_policy(replace(UNLOCKED_BY_DAY, first_person_levels=frozenset({STAFF}))),
            situation=Situation(first_person_at=NOW),
        ),
        _grant(Reason.DOOR_UNLOCKED),
    ),
    # anti-passback
    "inside, hard": (
        _at_gate(policy=_guarded(Antipassback.HARD), situation=INSIDE),
        _deny(Reason.ANTIPASSBACK_HARD),
    ),
    "inside, soft": (
        _at_gate(policy=_guarded(Antipassback.SOFT), situation=INSIDE),
        _grant(Reason.ANTIPASSBACK_SOFT),
    ),
    "inside, off": (_at_gate(policy=_guarded(Antipassback.OFF), situation=INSIDE), _grant(Reason.ENTITLED)),
    "inside for less than its time": (
        _at_gate(policy=_guarded(Antipassback.TIMED), situation=INSIDE),
        _deny(Reason.ANTIPASSBACK_TIMED),
    ),
    "inside for its time": (
        _at_gate(policy=_guarded(Antipassback.TIMED), situation=Situation(inside_s=600.0)),
        _grant(Reason.ENTITLED),
    ),
    **{
        f"let in unseen, {mode.value}": (
            _at_gate(policy=_guarded(mode), situation=replace(INSIDE, entry_seen=False)),
            _grant(expected),
        )
        for mode, expected in {
            Antipassback.OFF: Reason.ENTITLED,
            Antipassback.SOFT: Reason.ANTIPASSBACK_SOFT,
            Antipassback.HARD: Reason.ANTIPASSBACK_SOFT,
            Antipassback.TIMED: Reason.ANTIPASSBACK_SOFT,
        }.items()
    },
    "nobody knows, hard": (_at_gate(policy=_guarded(Antipassback.HARD)), _grant(Reason.ENTITLED)),
    "inside, hard, exit": (
        _at_gate(policy=_guarded(Antipassback.HARD), situation=INSIDE, side=Side.EXIT),
        _grant(Reason.EXIT_FREE),
    ),
    # escort
    "without an escort": (
        _at_gate(policy=_policy(entitlement=NEEDS_ESCORT)),
        _refer(Reason.ESCORT_AWAITED),
    ),
    "with an escort": (
        _at_gate(policy=_policy(entitlement=NEEDS_ESCORT), situation=Situation(escorted=True)),
        _grant(Reason.ESCORTED),
    ),
    "without an escort at an attended door": (
        _at_gate(policy=_policy(replace(DOOR, mode=DoorMode.ATTENDED), NEEDS_ESCORT)),
        _refer(Reason.ESCORT_AWAITED),
    ),
    "without an escort, attended": (
        _at_gate(policy=_policy(entitlement=replace(NEEDS_ESCORT, attended=True))),
        _refer(Reason.ESCORT_AWAITED),
    ),
    "with an escort, slowly": (
        _at_gate(
            policy=_policy(entitlement=replace(NEEDS_ESCORT, extended_opening=True)),
            situation=Situation(escorted=True),
        ),
        _grant(Reason.ESCORTED, 15_000),
    ),
    "with an escort at an attended door": (
        _at_gate(
            policy=_policy(replace(DOOR, mode=DoorMode.ATTENDED), NEEDS_ESCORT),
            situation=Situation(escorted=True),
        ),
        _refer(Reason.DOOR_ATTENDED),
    ),
}


@pytest.mark.parametrize(("found", "expected"), CASES.values(), ids=CASES.keys())
def test_cases(found: Decision, expected: Decision) -> None:
    """One thing is changed at a time; the reason names it."""
    assert found == expected


def test_docstring_lists_what_is_reached() -> None:
    """The numbered checks name exactly the reasons that the cases reach."""
    promised = {Reason(word) for word in re.findall(r"``(\w+)``", decide.__doc__ or "")}
    assert promised == {expected.reason for _, expected in CASES.values()}


def test_the_document_is_written_from_the_docstring() -> None:
    """docs/decision.md is what ``make docs`` writes, and no reason of the docstring is lost on the way."""
    page = decision_table.page()
    assert decision_table.TARGET.read_text() == page
    promised = re.findall(r"``(\w+)``", decide.__doc__ or "")
    assert set(re.findall(r"`(\w+)`", page)) >= set(promised)


def test_earlier_checks_win() -> None:
    """Everything is wrong; put right one by one from the top, the reasons come in the order of the docstring."""
    wrong = replace(
        DOOR,
        mode=DoorMode.OUT_OF_SERVICE,
        area=HALL,
        antipassback=Antipassback.HARD,
        first_person_levels=frozenset({STAFF}),
    )
    out = replace(ENTITLEMENT, escort_required=True, attended=True, valid_until=NOW, access_level_ids=())
    sunday = ClockReading(at=LATER.at, trusted=False)
    bad = replace(CREDENTIAL, issuer="DREMPEL000000002", valid_until=date.min)
    full = Situation(interlocked=True, inside_s=1.0)
    door, person, card, clock, at, status = wrong, out, bad, sunday, full, Status.INVALID
    seen = []

    def look() -> None:
        policy, listed = _policy(door, person), _list(status)
        found = decide(card, GATE, Side.ENTRY, policy=policy, revocations=listed, clock=clock, situation=at)
        seen.append(found.reason)

    look()
    door = replace(door, mode=DoorMode.LOCKDOWN)
    look()
    door = replace(door, mode=DoorMode.SECURED)
    look()
    clock = replace(clock, trusted=True)
    look()
    door = replace(door, when_too_old=WhenTooOld.CONTINUE)
    look()
    card = replace(card, issuer=CREDENTIAL.issuer)
    look()
    card = CREDENTIAL
    look()
    status = Status.VALID
    look()
    person = replace(person, valid_until=None)
    look()
    at = replace(at, interlocked=False)
    look()
    person = replace(person, access_level_ids=(RESIDENTS,))
    look()
    clock = CLOCK
    look()
    at = replace(at, first_person_at=NOW)
    look()
    at = replace(at, inside_s=None)
    look()
    at = replace(at, escorted=True)
    look()
    person = replace(person, attended=False)
    look()
    assert seen == [
        Reason.DOOR_OUT_OF_SERVICE,
        Reason.DOOR_LOCKDOWN,
        Reason.CLOCK_UNTRUSTED,
        Reason.POLICY_TOO_OLD,
        Reason.ISSUER_UNKNOWN,
        Reason.CERTIFICATE_EXPIRED,
        Reason.CREDENTIAL_REVOKED,
        Reason.CREDENTIAL_EXPIRED,
        Reason.INTERLOCKED,
        Reason.NO_ACCESS_LEVEL,
        Reason.OUTSIDE_SCHEDULE,
        Reason.FIRST_PERSON_AWAITED,
        Reason.ANTIPASSBACK_HARD,
        Reason.ESCORT_AWAITED,
        Reason.CARDHOLDER_ATTENDED,
        Reason.ESCORTED,
    ]
    promised = [Reason(word) for word in re.findall(r"``(\w+)``", decide.__doc__ or "")]
    places = [promised.index(reason) for reason in seen]
    assert places == sorted(places)


SITUATIONS = st.builds(
    Situation,
    order=st.none()
    | st.builds(
        ModeOrder,
        mode=st.sampled_from(DoorMode),
        command_id=st.just(bytes(16)),
        until=st.none() | own.moments,
    ),
    interlocked=st.booleans(),
    first_person_at=st.none() | own.moments,
    inside_s=st.none() | st.floats(min_value=0, max_value=1e6),
    entry_seen=st.booleans(),
    escorted=st.booleans(),
    admitted=st.booleans(),
    attendance=st.sampled_from(Attendance),
    post=st.none() | st.just(bytes(16)),
)


@given(
    policy=own.policies(),
    data=st.data(),
    clock=st.builds(ClockReading, at=own.moments, trusted=st.booleans()),
    situation=SITUATIONS,
)
def test_total_and_shut_by_default(
    policy: Policy, data: st.DataObject, clock: ClockReading, situation: Situation
) -> None:
    """Any inputs give a decision; entry is granted only to a listed, valid credential at a known door."""
    known = [*policy.entitlements, CARD]
    credential = replace(
        CREDENTIAL,
        credential_id=data.draw(st.sampled_from(known)),
        issuer=data.draw(st.sampled_from([*policy.issuers, "DREMPEL000000001"])),
        valid_until=date.max,
    )
    door_id = data.draw(st.sampled_from([*policy.doors, DoorId("elsewhere")]))
    revocations = data.draw(st.sampled_from([None, _list(), _list(Status.INVALID)]))
    decision = decide(
        credential,
        door_id,
        Side.ENTRY,
        policy=policy,
        revocations=revocations,
        clock=clock,
        situation=situation,
    )
    assert (decision.unlock_ms > 0) is (decision.outcome is Outcome.GRANT)
    if decision.outcome is Outcome.DENY:
        return
    assert revocations is not None
    assert credential.issuer in policy.issuers
    door = policy.doors[door_id]
    mode = effective_mode(door, policy, situation, at=clock.at, clock_trusted=clock.trusted).mode
    assert mode not in (DoorMode.LOCKDOWN, DoorMode.OUT_OF_SERVICE)
    assert not situation.interlocked
    entitlement = policy.entitlements.get(credential.credential_id)
    if entitlement is None:
        assert door.when_unlisted is not WhenUnlisted.DENY
    else:
        assert revocations.status(entitlement.status_index) is Status.VALID
        asked = decision.outcome is Outcome.GRANT or decision.reason is not Reason.ESCORT_AWAITED
        assert situation.escorted or not (entitlement.escort_required and asked) or mode is DoorMode.UNLOCKED
