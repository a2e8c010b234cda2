"""A site of one controller with two doors, as values, for tests of what happens at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from edge.inputs import Now
from pacs.card.p256 import encode_point
from pacs.credential import Technology, VerifiedCredential
from pacs.decision import ClockReading
from pacs.identifiers import AccessLevelId, ControllerId, CredentialId, DoorId, ScheduleId, SiteId
from pacs.revocation import Status, StatusList
from pacs.rules import AccessLevel, AccessRule, Door, Entitlement, Policy
from pacs.schedule import ALL_DAYS, ALWAYS, Schedule, Window

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
FRONT, BACK = DoorId("front"), DoorId("back")
CONTROLLER, SITE = ControllerId("c1"), SiteId("west")
ISSUER = "AGENCY0000000001"
ISSUER_KEY = ec.derive_private_key(7, ec.SECP256R1())
RESIDENT, SLOW_RESIDENT, REVOKED, ATTENDED, STRANGER = (CredentialId(bytes([n]) * 16) for n in range(1, 6))
STAFF, VISITOR, SLOW_VISITOR = (CredentialId(bytes([n]) * 16) for n in range(6, 9))
"""Who may escort, and who need an escort."""
GUARD = CredentialId(bytes([9]) * 16)
"""Holds the guards' level, which opens no door by itself."""
LEVEL, STAFF_LEVEL, GUARDS_LEVEL = (AccessLevelId(name) for name in ("residents", "staff", "guards"))
ALL_DAY, AFTERNOON = ScheduleId("always"), ScheduleId("afternoon")
"""The afternoon lasts from 13:30 to 14:30 of Amsterdam, which is from half an hour after noon."""


def now(after_s: float = 0.0, *, trusted: bool = True, wall_after_s: float | None = None) -> Now:
    """The instant ``after_s`` seconds after noon, at which the monotonic clock shows 1000."""
    wall_s = after_s if wall_after_s is None else wall_after_s
    clock = ClockReading(at=NOON + timedelta(seconds=wall_s), trusted=trusted)
    return Now(clock=clock, monotonic_s=1000 + after_s)


def door(door_id: DoorId, **rules: Any) -> Door:
    """A door that unlocks for 5 s, extended 15 s, and may stand open for 30 s, unless said otherwise."""
    return Door(id=door_id, controller_id=CONTROLLER, **rules)


def entitlement(credential_id: CredentialId, index: int, **more: Any) -> Entitlement:
    """The residents' level."""
    return Entitlement(credential_id=credential_id, status_index=index, access_level_ids=(LEVEL,), **more)


def policy(
    *, version: int = 1, issued_at: datetime = NOON, back: Mapping[str, Any] | None = None, **rules: Any
) -> Policy:
    """Everybody but the stranger may always enter at the front; ``rules`` are the front door's.

    ``back``: the back door's; where they are given, it lets in whoever the front does.
    """
    always = Schedule(id=ALL_DAY, windows=(ALWAYS,))
    afternoon = Schedule(
        id=AFTERNOON, windows=(Window(weekdays=ALL_DAYS, start_minute=13 * 60 + 30, end_minute=14 * 60 + 30),)
    )
    open_doors = (FRONT,) if back is None else (FRONT, BACK)
    entitlements = [
        entitlement(RESIDENT, 0),
        entitlement(SLOW_RESIDENT, 1, extended_opening=True),
        entitlement(REVOKED, 2),
        entitlement(ATTENDED, 3, attended=True),
        replace(entitlement(STAFF, 4, may_escort=True), access_level_ids=(LEVEL, STAFF_LEVEL)),
        entitlement(VISITOR, 5, escort_required=True),
        entitlement(SLOW_VISITOR, 6, escort_required=True, extended_opening=True),
        replace(entitlement(GUARD, 7), access_level_ids=(LEVEL, GUARDS_LEVEL)),
    ]
    return Policy(
        site_id=SITE,
        version=version,
        issued_at=issued_at,
        expires_at=issued_at + timedelta(days=7),
        time_zone="Europe/Amsterdam",
        issuers={ISSUER: encode_point(ISSUER_KEY.public_key())},
        doors={FRONT: door(FRONT, **rules), BACK: door(BACK, **(back or {}))},
        access_levels={
            LEVEL: AccessLevel(
                id=LEVEL,
                rules=tuple(AccessRule(door_id=door_id, schedule_id=ALL_DAY) for door_id in open_doors),
            ),
            **{level: AccessLevel(id=level, rules=()) for level in (STAFF_LEVEL, GUARDS_LEVEL)},
        },
        schedules={ALL_DAY: always, AFTERNOON: afternoon},
        entitlements={entry.credential_id: entry for entry in entitlements},
    )


def revocations(*, version: int = 1, issued_at: datetime = NOON) -> StatusList:
    """One credential is revoked."""
    return StatusList.build(
        site_id=SITE,
        version=version,
        issued_at=issued_at,
        expires_at=issued_at + timedelta(days=7),
        size=8,
        statuses={2: Status.INVALID},
    )


def credential(credential_id: CredentialId = RESIDENT) -> VerifiedCredential:
    """An authentic PKOC V2 credential."""
    return VerifiedCredential(
        credential_id=credential_id,
        technology=Technology.PKOC_V2,
        issuer=ISSUER,
        valid_from=date(2026, 1, 1),
        valid_until=date(2027, 1, 1),
    )
