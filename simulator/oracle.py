"""What must follow when somebody taps, by ``decide`` itself over a policy made of what the hub is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from pacs.decision import ClockReading, Outcome, decide
from pacs.events import EventKind
from pacs.identifiers import CredentialId, DoorId
from pacs.reason import ReadFault
from pacs.revocation import Status, StatusList
from pacs.rules import DoorMode, Entitlement, Policy, Side
from simulator.scenario import NOT_READ, Description, Holder, Resident

_EVENT_KINDS: Final = {
    Outcome.GRANT: EventKind.ACCESS_GRANTED,
    Outcome.DENY: EventKind.ACCESS_DENIED,
    Outcome.REFER: EventKind.ACCESS_REFERRED,
}


class Oracle:
    """Says what must follow from a tap. Changed along with the hub: cards registered, blocked, doors switched."""

    def __init__(self, description: Description, *, issuers: Mapping[str, bytes]) -> None:
        """``issuers``: IIR → 65-byte point of those whose cards the site takes."""
        self._issuers = issuers
        self._doors = {door.id: door for door in description.doors}
        self._levels = {level.id: level for level in description.access_levels}
        self._schedules = {schedule.id: schedule for schedule in description.schedules}
        self._description = description
        self._entitlements: dict[CredentialId, Entitlement] = {}
        self._statuses: dict[int, Status] = {}

    def registered(self, credential_id: CredentialId, resident: Resident) -> None:
        """A card was given to a resident."""
        self._entitlements[credential_id] = Entitlement(
            credential_id=credential_id,
            status_index=len(self._entitlements),
            access_level_ids=resident.levels,
            attended=resident.attended,
            extended_opening=resident.extended_opening,
            escort_required=resident.escort_required,
            may_escort=resident.may_escort,
        )

    def status_changed(self, credential_id: CredentialId, status: Status) -> None:
        """A card was blocked or reinstated."""
        self._statuses[self._entitlements[credential_id].status_index] = status

    def mode_changed(self, door_id: DoorId, mode: DoorMode) -> None:
        """A door's mode was switched."""
        self._doors[door_id] = replace(self._doors[door_id], mode=mode)

    def expected(self, holder: Holder, door_id: DoorId) -> tuple[str, str]:
        """Outcome and reason of a tap: the kind of its event with ``Reason``, or ``not_read`` and nothing."""
        if holder.link.fault is not None or isinstance(holder.refusal, ReadFault):
            return NOT_READ, ""
        if holder.is_refused or holder.credential is None:
            return EventKind.ACCESS_DENIED.value, str(holder.refusal)
        now = datetime.now(UTC)
        decision = decide(
            holder.credential,
            door_id,
            Side.ENTRY,
            policy=self._policy(now),
            revocations=self._revocations(now),
            clock=ClockReading(at=now, trusted=True),
        )
        return _EVENT_KINDS[decision.outcome].value, decision.reason.value

    def _policy(self, now: datetime) -> Policy:
        return Policy(
            site_id=self._description.site_id,
            version=1,
            issued_at=now,
            expires_at=now + timedelta(days=1),
            time_zone=self._description.time_zone,
            issuers=self._issuers,
            doors=self._doors,
            access_levels=self._levels,
            schedules=self._schedules,
            entitlements=self._entitlements,
        )

    def _revocations(self, now: datetime) -> StatusList:
        return StatusList.build(
            site_id=self._description.site_id,
            version=1,
            issued_at=now,
            expires_at=now + timedelta(days=1),
            size=len(self._entitlements),
            statuses=self._statuses,
        )
