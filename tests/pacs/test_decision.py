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
from pacs.identifiers import AccessLevelId, ControllerId, CredentialId, DoorId, ScheduleId, SiteId
from pacs.reason import Reason
from pacs.revocation import Status, StatusList
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
from pacs.schedule import ALL_DAYS, Schedule, Window
from tests.pacs import strategies as own

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)  # a Friday, 13:00 in Amsterdam
GATE, KITCHEN = DoorId("gate"), DoorId("kitchen")
CARD, V1_CARD = CredentialId(b"\x01" * 16), CredentialId(b"\x02" * 32)
RESIDENTS, DAYTIME = AccessLevelId("residents"), ScheduleId("daytime")

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
            RESIDENTS: AccessLevel(id=RESIDENTS, rules=(AccessRule(door_id=GATE, schedule_id=DAYTIME),))
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
) -> Decision:
    return decide(
        credential,
        door_id,
        side,
        policy=None if no_policy else policy or _policy(),
        revocations=None if no_revocations else revocations or _list(),
        clock=clock,
    )


def _grant(reason: Reason, unlock_ms: int = 5000) -> Decision:
    return Decision(outcome=Outcome.GRANT, reason=reason, unlock_ms=unlock_ms)


def _deny(reason: Reason) -> Decision:
    return Decision(outcome=Outcome.DENY, reason=reason)


def _refer(reason: Reason) -> Decision:
    return Decision(outcome=Outcome.REFER, reason=reason)


LATER = ClockReading(at=NOW + timedelta(hours=3, minutes=1), trusted=True)
CASES = {
    "valid card in schedule": (_at_gate(), _grant(Reason.ENTITLED)),
    "extended opening": (
        _at_gate(policy=_policy(entitlement=replace(ENTITLEMENT, extended_opening=True))),
        _grant(Reason.ENTITLED, 15_000),
    ),
    "exit": (_at_gate(side=Side.EXIT), _grant(Reason.EXIT_FREE)),
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
}


@pytest.mark.parametrize(("found", "expected"), CASES.values(), ids=CASES.keys())
def test_cases(found: Decision, expected: Decision) -> None:
    """One thing is changed at a time; the reason names it."""
    assert found == expected


def test_docstring_lists_what_is_reached() -> None:
    """The numbered checks name exactly the reasons that the cases reach."""
    promised = {Reason(word) for word in re.findall(r"``(\w+)``", decide.__doc__ or "")}
    assert promised == {expected.reason for _, expected in CASES.values()}


def test_earlier_checks_win() -> None:
    """A door out of service says so to a revoked card of an old policy."""
    decision = _at_gate(
        policy=_policy(replace(DOOR, mode=DoorMode.OUT_OF_SERVICE)),
        revocations=_list(Status.INVALID),
        clock=LATER,
    )
    assert decision == _deny(Reason.DOOR_OUT_OF_SERVICE)


@given(
    policy=own.policies(),
    data=st.data(),
    clock=st.builds(ClockReading, at=own.moments, trusted=st.booleans()),
)
def test_total_and_shut_by_default(policy: Policy, data: st.DataObject, clock: ClockReading) -> None:
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
    decision = decide(credential, door_id, Side.ENTRY, policy=policy, revocations=revocations, clock=clock)
    assert (decision.unlock_ms > 0) is (decision.outcome is Outcome.GRANT)
    if decision.outcome is not Outcome.DENY:
        entitlement = policy.entitlements[credential.credential_id]
        assert revocations is not None
        assert revocations.status(entitlement.status_index) is Status.VALID
        assert policy.doors[door_id].mode not in (DoorMode.LOCKDOWN, DoorMode.OUT_OF_SERVICE)
        assert credential.issuer in policy.issuers
