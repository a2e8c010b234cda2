"""Kiosks: which there are, whether they work, and the link that lets a browser show one's page."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import note
from hub.api.fields import Answer, OneTimeSecret
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import kiosks as store
from hub.store import stations
from hub.store.stations import StationKind

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/registration/kiosks", tags=["registration"])


class Kiosk(Answer):
    """One kiosk. ``reader_works``, ``page_shown``: heard of lately; only with both can it take reports."""

    station_id: fields.Station
    site_id: fields.Site
    name: str
    reader_works: bool
    heard_at: datetime | None
    page_shown: bool
    shown_at: datetime | None


class Kiosks(Answer):
    """The kiosks in use, by id; stations of the other kind are not among them."""

    kiosks: list[Kiosk]


class KioskLink(OneTimeSecret):
    """The address, at this hub, that pairs the browser that opens it: once, within a quarter of an hour."""

    station_id: fields.Station
    path: str
    expires_at: datetime


@router.get("")
def listed(
    request: Request, principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)]
) -> Kiosks:
    """The kiosks in use, and whether they can take reports now."""
    hub = services(request)
    now = hub.clock()
    with hub.database.read() as connection:
        found = []
        for each in stations.list_all(connection, principal.sites, StationKind.KIOSK):
            shown_at = store.last_shown(connection, each.id)
            found.append(
                Kiosk(
                    station_id=each.id,
                    site_id=each.site_id,
                    name=each.name,
                    reader_works=each.is_heard(now),
                    heard_at=each.heard_at,
                    page_shown=shown_at is not None and now - shown_at <= store.GONE_AFTER,
                    shown_at=shown_at,
                )
            )
    return Kiosks(kiosks=found)


@router.post("/{station_id}/link", status_code=201)
def link(
    station_id: fields.Station,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
) -> KioskLink:
    """Make a link that pairs the browser on the kiosk's own machine; an earlier link is void."""
    hub = services(request)
    with hub.database.write() as connection:
        station = scope.station(connection, principal, station_id)
        if station.kind is not StationKind.KIOSK or station.retired_at is not None:
            raise Problem(Code.INVALID, "This station is no kiosk in use.")
        token, expires_at = hub.kiosks.link(connection, station_id)
        note(connection, hub, principal, action="kiosk.link", subject=f"station:{station_id}")
    return KioskLink(station_id=station_id, path=f"/kiosk/pair/{token}", expires_at=expires_at)
