"""Asking for a legal hold, agreeing to it, and lifting it: two people, a reason, an end."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from hub import audit
from hub.store import cardholders, doors, holds
from hub.store.errors import NotFound
from hub.store.holds import Hold
from hub.store.people import sites_of
from pacs.errors import MalformedData, StoreError
from pacs.identifiers import CardholderId, DoorId, SiteId

LONGEST: Final = timedelta(days=366)


class SamePerson(StoreError):
    """Whoever asked for a hold cannot agree to it."""


class HoldOver(StoreError):
    """The hold was lifted, has ended, or was not confirmed in time."""


def request(
    connection: Connection,
    site_id: SiteId,
    *,
    cardholder_id: CardholderId | None,
    door_id: DoorId | None,
    since: datetime,
    until: datetime,
    ends_at: datetime,
    reason: str,
    actor: str,
    now: datetime,
) -> Hold:
    """Ask that what occurred is kept; it is for ``holds.UNCONFIRMED_FOR``, and longer once somebody else confirms.

    Raises ``NotFound`` when the person or door is not there at that site, ``MalformedData`` for times that make no sense.
    """
    if since >= until:
        raise MalformedData("until: must be after since")
    if not now < ends_at <= now + LONGEST:
        raise MalformedData(f"ends_at: lies in the future, and at most {LONGEST.days} days on")
    if cardholder_id is not None:
        cardholders.get(connection, cardholder_id)
        if site_id not in sites_of(connection, cardholder_id):
            raise NotFound(f"cardholder {cardholder_id} is not there at site {site_id}")
    if door_id is not None and doors.get(connection, door_id).site_id != site_id:
        raise NotFound(f"door {door_id} is not there at site {site_id}")
    hold = Hold(
        id=secrets.token_hex(16),
        site_id=site_id,
        cardholder_id=cardholder_id,
        door_id=door_id,
        since=since,
        until=until,
        reason=reason,
        requested_by=actor,
        requested_at=now,
        ends_at=ends_at,
    )
    holds.add(connection, hold)
    _audit(connection, hold, "hold.request", reason, actor, now)
    return hold


def confirm(connection: Connection, hold_id: str, *, actor: str, now: datetime) -> Hold:
    """A second person agrees; again changes nothing. Raises ``NotFound``, ``SamePerson`` and ``HoldOver``."""
    hold = _live(connection, hold_id, now)
    if hold.requested_by == actor:
        raise SamePerson("whoever asked for a hold cannot confirm it; ask a colleague")
    if hold.confirmed_at is not None:
        return hold
    hold = replace(hold, confirmed_by=actor, confirmed_at=now)
    holds.change(connection, hold)
    _audit(connection, hold, "hold.confirm", "", actor, now)
    return hold


def lift(connection: Connection, hold_id: str, *, reason: str, actor: str, now: datetime) -> Hold:
    """End a hold: what is over goes with the next run. Raises ``NotFound`` and ``HoldOver``."""
    hold = replace(_live(connection, hold_id, now), lifted_at=now)
    holds.change(connection, hold)
    _audit(connection, hold, "hold.lift", reason, actor, now)
    return hold


def _live(connection: Connection, hold_id: str, now: datetime) -> Hold:
    hold = holds.get(connection, hold_id)
    if not hold.keeps(now):
        raise HoldOver("this hold is over")
    return hold


def _audit(connection: Connection, hold: Hold, action: str, reason: str, actor: str, now: datetime) -> None:
    about = {"site": hold.site_id, "cardholder": hold.cardholder_id, "door": hold.door_id}
    audit.record(
        connection,
        now=now,
        actor=actor,
        action=action,
        subject=f"hold:{hold.id}",
        reason=reason,
        detail={name: str(value) for name, value in about.items() if value is not None},
    )
