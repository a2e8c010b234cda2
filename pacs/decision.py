"""The decision: one pure function over values that are already at the door."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique

from pacs.credential import Technology, VerifiedCredential, check_dates
from pacs.errors import VerificationError
from pacs.identifiers import DoorId
from pacs.reason import Reason
from pacs.revocation import Status, StatusList
from pacs.rules import Door, DoorMode, Entitlement, Policy, Side, WhenClockUntrusted, WhenTooOld
from pacs.schedule import is_active, local_time

EXIT_UNLOCK_MS = 5_000


@unique
class Outcome(StrEnum):
    """What happens at the door."""

    GRANT = "grant"
    DENY = "deny"
    REFER = "refer"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """An aware wall-clock time and whether the controller vouches for it."""

    at: datetime
    trusted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome and its one reason; ``unlock_ms`` is 0 unless the outcome is a grant."""

    outcome: Outcome
    reason: Reason
    unlock_ms: int = 0


def decide(
    credential: VerifiedCredential,
    door_id: DoorId,
    side: Side,
    *,
    policy: Policy | None,
    revocations: StatusList | None,
    clock: ClockReading,
) -> Decision:
    """Decide about an authentic credential at a door. Total: never raises, does no I/O, reads no clock.

    The first check that applies decides:

    1. exit side: grant ``exit_free``
    2. no policy or no revocation list held: deny ``policy_missing``
    3. door not in the policy: deny ``door_unknown``
    4. door out of service: deny ``door_out_of_service``
    5. door in lockdown: deny ``door_lockdown``
    6. clock untrusted, unless the door continues: deny ``clock_untrusted``
    7. policy or list expired, or older than the door's bound unless it continues: deny ``policy_too_old``
    8. PKOC V1 at a door that does not take it: deny ``technology_not_allowed``
    9. PKOC V2 from an issuer the policy does not name: deny ``issuer_unknown``
    10. outside the certificate's dates: deny ``certificate_not_yet_valid``, ``certificate_expired``
    11. not listed: deny ``card_not_enrolled`` (V1), ``credential_unlisted``
    12. status: deny ``credential_revoked``, ``credential_suspended``, ``status_unknown``
    13. outside the entitlement's own times: deny ``credential_not_yet_valid``, ``credential_expired``
    14. door unlocked: grant ``door_unlocked``
    15. no level opens this door: deny ``no_access_level``
    16. no schedule of those levels holds: deny ``outside_schedule``
    17. door attended, or cardholder attended: refer ``door_attended``, ``cardholder_attended``
    18. otherwise: grant ``entitled``
    """
    door = policy.doors.get(door_id) if policy else None
    if side is Side.EXIT:  # 1
        unlock_ms = door.unlock_ms if door else EXIT_UNLOCK_MS
        return Decision(outcome=Outcome.GRANT, reason=Reason.EXIT_FREE, unlock_ms=unlock_ms)
    if policy is None or revocations is None:  # 2
        return _deny(Reason.POLICY_MISSING)
    if door is None:  # 3
        return _deny(Reason.DOOR_UNKNOWN)
    refusal = door_refusal(door, policy, revocations, clock) or _credential_refusal(
        credential, door, policy, clock
    )
    if refusal:
        return _deny(refusal)
    entitlement = policy.entitlements.get(credential.credential_id)
    if entitlement is None:  # 11
        v1 = credential.technology is Technology.PKOC_V1
        return _deny(Reason.CARD_NOT_ENROLLED if v1 else Reason.CREDENTIAL_UNLISTED)
    refusal = _entitlement_refusal(entitlement, revocations, clock)
    if refusal:
        return _deny(refusal)
    return _admit(entitlement, door, policy, clock)


def _deny(reason: Reason) -> Decision:
    return Decision(outcome=Outcome.DENY, reason=reason)


def door_refusal(door: Door, policy: Policy, revocations: StatusList, clock: ClockReading) -> Reason | None:
    """Why this door admits nobody at all, whoever presents what; checks 4 to 7 of the decision."""
    if door.mode is DoorMode.OUT_OF_SERVICE:  # 4
        return Reason.DOOR_OUT_OF_SERVICE
    if door.mode is DoorMode.LOCKDOWN:  # 5
        return Reason.DOOR_LOCKDOWN
    if not clock.trusted:
        if door.when_clock_untrusted is WhenClockUntrusted.DENY:  # 6
            return Reason.CLOCK_UNTRUSTED
        return None  # ages mean nothing on a clock nobody vouches for
    if clock.at >= min(policy.expires_at, revocations.expires_at):  # 7
        return Reason.POLICY_TOO_OLD
    bound = timedelta(seconds=door.max_policy_age_s)
    oldest = min(policy.issued_at, revocations.issued_at)
    if clock.at - oldest > bound and door.when_too_old is WhenTooOld.DENY:
        return Reason.POLICY_TOO_OLD
    return None


def _credential_refusal(
    credential: VerifiedCredential, door: Door, policy: Policy, clock: ClockReading
) -> Reason | None:
    if credential.technology is Technology.PKOC_V1 and not door.allow_v1:  # 8
        return Reason.TECHNOLOGY_NOT_ALLOWED
    if credential.technology is Technology.PKOC_V2 and credential.issuer not in policy.issuers:  # 9
        return Reason.ISSUER_UNKNOWN
    try:
        check_dates(credential, local_time(clock.at, policy.time_zone).date())  # 10
    except VerificationError as error:
        return error.reason
    return None


def _entitlement_refusal(
    entitlement: Entitlement, revocations: StatusList, clock: ClockReading
) -> Reason | None:
    status = revocations.status(entitlement.status_index)  # 12
    if status is None:
        return Reason.STATUS_UNKNOWN
    if status is Status.INVALID:
        return Reason.CREDENTIAL_REVOKED
    if status is Status.SUSPENDED:
        return Reason.CREDENTIAL_SUSPENDED
    if entitlement.valid_from is not None and clock.at < entitlement.valid_from:  # 13
        return Reason.CREDENTIAL_NOT_YET_VALID
    if entitlement.valid_until is not None and clock.at >= entitlement.valid_until:
        return Reason.CREDENTIAL_EXPIRED
    return None


def _admit(entitlement: Entitlement, door: Door, policy: Policy, clock: ClockReading) -> Decision:
    unlock_ms = door.extended_unlock_ms if entitlement.extended_opening else door.unlock_ms
    if door.mode is DoorMode.UNLOCKED:  # 14
        return Decision(outcome=Outcome.GRANT, reason=Reason.DOOR_UNLOCKED, unlock_ms=unlock_ms)
    refusal = _rule_refusal(entitlement, door, policy, clock)
    if refusal:
        return _deny(refusal)
    if door.mode is DoorMode.ATTENDED:  # 17
        return Decision(outcome=Outcome.REFER, reason=Reason.DOOR_ATTENDED)
    if entitlement.attended:
        return Decision(outcome=Outcome.REFER, reason=Reason.CARDHOLDER_ATTENDED)
    return Decision(outcome=Outcome.GRANT, reason=Reason.ENTITLED, unlock_ms=unlock_ms)  # 18


def _rule_refusal(entitlement: Entitlement, door: Door, policy: Policy, clock: ClockReading) -> Reason | None:
    by_level = policy.schedules_by_door_and_level
    schedules = [
        schedule
        for level_id in entitlement.access_level_ids
        for schedule in by_level.get((door.id, level_id), ())
    ]
    if not schedules:  # 15
        return Reason.NO_ACCESS_LEVEL
    local = local_time(clock.at, policy.time_zone)
    if not any(is_active(schedule, local, policy.holidays) for schedule in schedules):  # 16
        return Reason.OUTSIDE_SCHEDULE
    return None
