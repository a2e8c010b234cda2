"""Stations: making and retiring them, and what they report."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Request, Response
from pydantic import Field, StrictBool, model_validator

from hub.api import fields, scope
from hub.api.access import FROM_STATION, DeclaredRoute, requires
from hub.api.changes import note, portion
from hub.api.fields import Answer, Body, OneTimeSecret
from hub.api.services import services
from hub.operators import Principal, digest
from hub.roles import Permission
from hub.stations import CHALLENGE_LIFETIME, HEARTBEAT, CardAnswer, Following, new_token
from hub.store import stations as store
from hub.store.errors import NotFound
from hub.store.stations import StationKind
from pacs.card import cvc
from pacs.credential import Technology
from pacs.reason import ReadFault

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1", tags=["stations"])

Reporting = Annotated[store.Station, FROM_STATION]
Run = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Random = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Signature = Annotated[str, Field(pattern="^[0-9a-f]{128}$")]
PublicKey = Annotated[str, Field(pattern="^[0-9a-f]{130}$")]
Certificate = Annotated[str, Field(pattern="^([0-9a-f]{2})+$", max_length=2 * cvc.MAX_CERTIFICATE_BYTES)]


class NewStation(Body):
    """A card reader that opens no door: beside a ``desk``, in a ``kiosk``, or where cards are made (``issuing``)."""

    id: fields.Station
    kind: StationKind
    name: fields.Name
    site_id: fields.Site | None = None


class Station(Answer):
    """One station; ``heard_at``: when it last said that its reader works, null: never.

    ``unseen_taps``: cards that were held to a desk's reader while nobody was signed on.
    """

    id: fields.Station
    site_id: fields.Site
    kind: StationKind
    name: str
    created_at: datetime
    heard_at: datetime | None
    unseen_taps: int


class Stations(Answer):
    """A portion of the list; go on with ``after=next_after`` until it is null."""

    stations: list[Station]
    next_after: str | None


class StationToken(OneTimeSecret):
    """The token that a station reports with, which is never shown again."""

    station_id: fields.Station
    token: str


class Heartbeat(Body):
    """``run``: drawn anew when the program starts, and when it may have missed a card. ``works``: the reader does."""

    run: Run
    works: StrictBool


class Presented(Body):
    """A card's answer to the challenge with this ``random``; everything in hex.

    ``certificate`` of PKOC V2, or ``public_key`` of V1.
    """

    run: Run
    random: Random
    technology: Technology
    signature: Signature
    certificate: Certificate | None = None
    public_key: PublicKey | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        carries = (self.certificate is not None, self.public_key is not None)
        if carries != (self.technology is Technology.PKOC_V2, self.technology is Technology.PKOC_V1):
            raise ValueError("certificate for pkoc-v2, public_key for pkoc-v1")
        return self

    @property
    def answer(self) -> CardAnswer:
        """What the card said."""
        return CardAnswer(
            technology=self.technology,
            signature=bytes.fromhex(self.signature),
            certificate=bytes.fromhex(self.certificate or ""),
            public_key=bytes.fromhex(self.public_key or ""),
        )


class NotRead(Body):
    """A card was there, and why it could not be read."""

    run: Run
    fault: ReadFault


class NextChallenge(Answer):
    """What the next card is asked to sign (PKOC; ``at`` in milliseconds), void after ``valid_s`` or the next answer.

    ``heartbeat_s``: how often the station should say that it is there. ``signed_on``: whether a desk's cards are shown to
    anybody; null: it is no desk.
    """

    station_id: fields.Station
    kind: StationKind
    reader_identifier: str
    at: datetime
    random: str
    valid_s: int
    heartbeat_s: int
    signed_on: bool | None


@router.post("/stations", status_code=201)
def add(
    body: NewStation,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_MANAGE)],
) -> StationToken:
    """Add a station; the answer holds its token."""
    hub = services(request)
    token = new_token()
    with hub.database.write() as connection:
        site_id = scope.site_for(connection, principal, body.site_id)
        new = store.Station(
            id=body.id, site_id=site_id, kind=body.kind, name=body.name, created_at=hub.clock()
        )
        store.add(connection, new, digest(token))
        note(connection, hub, principal, action="station.create", subject=f"station:{body.id}")
    return StationToken(station_id=body.id, token=token)


@router.get("/stations")
def listed(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_READ)],
    after: fields.Station | None = None,
    limit: fields.Limit = 100,
) -> Stations:
    """Stations in use, by id."""
    with services(request).database.read() as connection:
        found, next_after = portion(store.list_all(connection, principal.sites), after, limit)
    return Stations(stations=[Station.model_validate(each) for each in found], next_after=next_after)


@router.post("/stations/{station_id}/token", status_code=201)
def renew_token(
    station_id: fields.Station,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_MANAGE)],
) -> StationToken:
    """Give a station another token; the one it had works no longer."""
    hub = services(request)
    token = new_token()
    with hub.database.write() as connection:
        if scope.station(connection, principal, station_id).retired_at is not None:
            raise NotFound(f"station {station_id} is not in use")
        store.set_token(connection, station_id, digest(token))
        note(connection, hub, principal, action="station.renew_token", subject=f"station:{station_id}")
    return StationToken(station_id=station_id, token=token)


@router.delete("/stations/{station_id}", status_code=204)
def retire(
    station_id: fields.Station,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_MANAGE)],
) -> Response:
    """Take a station out of use for good: its token works no longer."""
    hub = services(request)
    with hub.database.write() as connection:
        scope.station(connection, principal, station_id)
        if store.retire(connection, station_id, hub.clock()):
            note(connection, hub, principal, action="station.retire", subject=f"station:{station_id}")
    return Response(status_code=204)


@router.post("/station/heartbeat")
def heartbeat(body: Heartbeat, request: Request, station: Reporting) -> NextChallenge:
    """A station says that it is there."""
    return _next(station, services(request).stations.heartbeat(station, run=body.run, works=body.works))


@router.post("/station/presentations")
def presented(body: Presented, request: Request, station: Reporting) -> NextChallenge:
    """A station passes on what a card answered; what the hub found is shown at the desk, not to the reader."""
    hub = services(request)
    random = bytes.fromhex(body.random)
    _, following = hub.stations.presented(station, body.answer, random=random, run=body.run)
    return _next(station, following)


@router.post("/station/read-faults")
def not_read(body: NotRead, request: Request, station: Reporting) -> NextChallenge:
    """A station says that it could not read a card."""
    _, following = services(request).stations.not_read(station, body.fault, run=body.run)
    return _next(station, following)


def _next(station: store.Station, following: Following) -> NextChallenge:
    challenge = following.challenge
    return NextChallenge(
        station_id=station.id,
        kind=station.kind,
        reader_identifier=challenge.reader_identifier.hex(),
        at=challenge.at,
        random=challenge.random.hex(),
        valid_s=round(CHALLENGE_LIFETIME.total_seconds()),
        heartbeat_s=round(HEARTBEAT.total_seconds()),
        signed_on=following.signed_on,
    )
