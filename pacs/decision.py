"""The decision: one pure function over values that are already at the door."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique

from pacs.credential import Technology, VerifiedCredential, check_dates
from pacs.errors import VerificationError
from pacs.identifiers import DoorId
from pacs.modes import effective_mode, first_person_missing
from pacs.reason import Reason
from pacs.revocation import Status, StatusList
from pacs.rules import (
    Antipassback,
    Door,
    DoorMode,
    Entitlement,
    Policy,
    Side,
    WhenClockUntrusted,
    WhenTooOld,
    WhenUnlisted,
)
from pacs.schedule import active_since, local_time
from pacs.situation import NOTHING_KNOWN, Attendance, Situation

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
    situation: Situation = NOTHING_KNOWN,
) -> Decision:
    """Decide about an authentic credential at a door. Total: never raises, does no I/O, reads no clock.

    The mode is that of modes.effective_mode(). On an untrusted clock a door that goes by levels only skips checks 7, 10, 13
    and 17. The first check that applies decides:

    1. exit side: grant ``exit_free``
    2. no policy or no revocation list held: deny ``policy_missing``
    3. door not in the policy: deny ``door_unknown``
    4. door out of service: deny ``door_out_of_service``
    5. door in lockdown: deny ``door_lockdown``
    6. clock untrusted and the door does not go on: deny ``clock_untrusted``
    7. policy or list expired, or older than the door's bound unless it continues: deny ``policy_too_old``
    8. PKOC V1 at a door that does not take it: deny ``technology_not_allowed``
    9. PKOC V2 from an issuer the policy does not name: deny ``issuer_unknown``
    10. outside the certificate's dates: deny ``certificate_not_yet_valid``, ``certificate_expired``
    11. not listed: deny ``card_not_enrolled`` (V1), ``credential_unlisted``; issued since the policy was and
        the door refers it or is attended, after check 14: refer ``unlisted_referred``; the same while the hub is away:
        deny ``hub_away``; issued since the policy was and the door admits it, after checks 14 and 15: grant
        ``unlisted_admitted``
    12. status: deny ``credential_revoked``, ``credential_suspended``, ``status_unknown``
    13. outside the entitlement's own times: deny ``credential_not_yet_valid``, ``credential_expired``
    14. a door it is interlocked with is open or released: deny ``interlocked``
    15. door unlocked: grant ``door_unlocked``
    16. no level opens this door: deny ``no_access_level``
    17. no schedule of those levels holds: deny ``outside_schedule``
    18. the door waits for its first person: deny ``first_person_awaited``
    19. seen entering and not seen leaving: deny ``antipassback_hard``, ``antipassback_timed``
    20. escort required and not there: refer ``escort_awaited``
    21. door attended and cardholder may not admit there, or cardholder attended, and there is a card that admits them:
        grant ``local_grant``
    22. the same without such a card, and the hub is there: refer ``door_attended``, ``cardholder_attended``
    23. the same, the hub is away, the door is unattended meanwhile and the cardholder is not attended: grant
        ``hub_away_admitted``
    24. the same, the hub is away and a card at the door may admit them meanwhile: refer ``local_awaited``
    25. the same otherwise: deny ``hub_away``
    26. escort required and there: grant ``escorted``
    27. seen entering and the door only says so, or admitted where no contact saw it: grant ``antipassback_soft``
    28. otherwise: grant ``entitled``
    """
    door = policy.doors.get(door_id) if policy else None
    if side is Side.EXIT:  # 1
        if policy is None or door is None:
            return Decision(outcome=Outcome.GRANT, reason=Reason.EXIT_FREE, unlock_ms=EXIT_UNLOCK_MS)
        return _grant(Reason.EXIT_FREE, door, policy.entitlements.get(credential.credential_id))
    if policy is None or revocations is None:  # 2
        return _deny(Reason.POLICY_MISSING)
    if door is None:  # 3
        return _deny(Reason.DOOR_UNKNOWN)
    mode = effective_mode(door, policy, situation, at=clock.at, clock_trusted=clock.trusted).mode
    refusal = door_refusal(door, mode, policy, revocations, clock) or _credential_refusal(
        credential, door, policy, clock
    )
    if refusal:
        return _deny(refusal)
    entitlement = policy.entitlements.get(credential.credential_id)
    if entitlement is None:  # 11
        return _unlisted(credential, door, mode, policy, situation)
    refusal = _entitlement_refusal(entitlement, door, revocations, clock)
    if refusal:
        return _deny(refusal)
    return _admit(entitlement, door, mode, policy, clock, situation)


def _deny(reason: Reason) -> Decision:
    return Decision(outcome=Outcome.DENY, reason=reason)


def _refer(reason: Reason) -> Decision:
    return Decision(outcome=Outcome.REFER, reason=reason)


def _timeless(door: Door, clock: ClockReading) -> bool:
    return not clock.trusted and door.when_clock_untrusted is WhenClockUntrusted.LEVELS_ONLY


def door_refusal(
    door: Door, mode: DoorMode, policy: Policy, revocations: StatusList, clock: ClockReading
) -> Reason | None:
    """Why this door admits nobody at all, whoever presents what; checks 4 to 7 of the decision."""
    if mode is DoorMode.OUT_OF_SERVICE:  # 4
        return Reason.DOOR_OUT_OF_SERVICE
    if mode is DoorMode.LOCKDOWN:  # 5
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
    if _timeless(door, clock):
        return None
    try:
        check_dates(credential, local_time(clock.at, policy.time_zone).date())  # 10
    except VerificationError as error:
        return error.reason
    return None


def _unlisted(
    credential: VerifiedCredential, door: Door, mode: DoorMode, policy: Policy, situation: Situation
) -> Decision:
    if credential.technology is Technology.PKOC_V1:
        return _deny(Reason.CARD_NOT_ENROLLED)
    issued_on = credential.valid_from
    known_on = local_time(policy.issued_at, policy.time_zone).date()
    if door.when_unlisted is WhenUnlisted.DENY or issued_on is None or issued_on < known_on:
        return _deny(Reason.CREDENTIAL_UNLISTED)
    if situation.interlocked:  # 14: nobody is asked about a door that may not open
        return _deny(Reason.INTERLOCKED)
    if door.when_unlisted is WhenUnlisted.REFER or mode is DoorMode.ATTENDED:
        hub_is_there = situation.attendance is Attendance.HUB
        return _refer(Reason.UNLISTED_REFERRED) if hub_is_there else _deny(Reason.HUB_AWAY)
    return _grant(Reason.DOOR_UNLOCKED if mode is DoorMode.UNLOCKED else Reason.UNLISTED_ADMITTED, door)


def _entitlement_refusal(
    entitlement: Entitlement, door: Door, revocations: StatusList, clock: ClockReading
) -> Reason | None:
    status = revocations.status(entitlement.status_index)  # 12
    if status is None:
        return Reason.STATUS_UNKNOWN
    if status is Status.INVALID:
        return Reason.CREDENTIAL_REVOKED
    if status is Status.SUSPENDED:
        return Reason.CREDENTIAL_SUSPENDED
    if _timeless(door, clock):
        return None
    if entitlement.valid_from is not None and clock.at < entitlement.valid_from:  # 13
        return Reason.CREDENTIAL_NOT_YET_VALID
    if entitlement.valid_until is not None and clock.at >= entitlement.valid_until:
        return Reason.CREDENTIAL_EXPIRED
    return None


def _admit(
    entitlement: Entitlement,
    door: Door,
    mode: DoorMode,
    policy: Policy,
    clock: ClockReading,
    situation: Situation,
) -> Decision:
    if situation.interlocked:  # 14
        return _deny(Reason.INTERLOCKED)
    if mode is DoorMode.UNLOCKED:  # 15
        return _grant(Reason.DOOR_UNLOCKED, door, entitlement)
    passback = _passback(door, situation)
    refusal = _rule_refusal(entitlement, door, policy, clock, situation)
    if refusal is None and passback is not Reason.ANTIPASSBACK_SOFT:
        refusal = passback  # 19
    if refusal:
        return _deny(refusal)
    if entitlement.escort_required and not situation.escorted:  # 20
        return _refer(Reason.ESCORT_AWAITED)
    attended = mode is DoorMode.ATTENDED and not door.may_admit(entitlement)
    if attended or entitlement.attended:
        return _by_a_person(entitlement, door, situation, attended=attended)
    if entitlement.escort_required:  # 26
        return _grant(Reason.ESCORTED, door, entitlement)
    return _grant(passback or Reason.ENTITLED, door, entitlement)  # 27, 28


def _by_a_person(entitlement: Entitlement, door: Door, situation: Situation, *, attended: bool) -> Decision:
    if situation.admitted:  # 21
        return _grant(Reason.LOCAL_GRANT, door, entitlement)
    if situation.attendance is Attendance.HUB:  # 22
        return _refer(Reason.DOOR_ATTENDED if attended else Reason.CARDHOLDER_ATTENDED)
    if situation.attendance is Attendance.UNATTENDED and not entitlement.attended:  # 23
        return _grant(Reason.HUB_AWAY_ADMITTED, door, entitlement)
    if situation.attendance is not Attendance.NOBODY and door.admitting_levels:  # 24
        return _refer(Reason.LOCAL_AWAITED)
    return _deny(Reason.HUB_AWAY)  # 25


def _grant(reason: Reason, door: Door, entitlement: Entitlement | None = None) -> Decision:
    return Decision(outcome=Outcome.GRANT, reason=reason, unlock_ms=door.unlock_ms_for(entitlement))


def _rule_refusal(
    entitlement: Entitlement, door: Door, policy: Policy, clock: ClockReading, situation: Situation
) -> Reason | None:
    by_level = policy.schedules_by_door_and_level
    schedules = [
        schedule
        for level_id in entitlement.access_level_ids
        for schedule in by_level.get((door.id, level_id), ())
    ]
    if not schedules:  # 16
        return Reason.NO_ACCESS_LEVEL
    awaits_others = not door.starts_with(entitlement)
    if _timeless(door, clock):
        never_came = bool(door.first_person_levels) and situation.first_person_at is None
        return Reason.FIRST_PERSON_AWAITED if awaits_others and never_came else None
    local = local_time(clock.at, policy.time_zone)
    starts = [
        since
        for schedule in schedules
        if (since := active_since(schedule, local, policy.holidays)) is not None
    ]
    if not starts:  # 17
        return Reason.OUTSIDE_SCHEDULE
    if awaits_others and first_person_missing(door, min(starts), situation):  # 18
        return Reason.FIRST_PERSON_AWAITED
    return None


def _passback(door: Door, situation: Situation) -> Reason | None:
    """What the door says about a credential that is inside already; nobody is refused for what no contact saw."""
    if situation.inside_s is None or door.antipassback is Antipassback.OFF:
        return None
    if door.antipassback is Antipassback.TIMED and situation.inside_s >= door.antipassback_s:
        return None
    if door.antipassback is Antipassback.SOFT or not situation.entry_seen:
        return Reason.ANTIPASSBACK_SOFT
    return Reason.ANTIPASSBACK_HARD if door.antipassback is Antipassback.HARD else Reason.ANTIPASSBACK_TIMED
