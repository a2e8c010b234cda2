"""Who is signed on to which desk, on which of their pages, and what one look at a photograph is for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, delete, insert, select, update

from hub.store.schema import desk_looks, desk_sign_ons, operators, sessions
from pacs.identifiers import CardholderId, StationId


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOn:
    """A browser's session at a desk. ``used_at``: the last card, or sign of the operator.

    ``page``: the one of its pages that shows cards; None: none is open.
    """

    station_id: StationId
    session_hash: bytes
    operator_id: str
    operator_name: str
    since: datetime
    used_at: datetime
    page: str | None


def sign_on(connection: Connection, station_id: StationId, session_hash: bytes, now: datetime) -> None:
    """Sign a session on, in the place of whoever is there, and off from any other desk."""
    columns = desk_sign_ons.c
    either = (columns.station_id == station_id) | (columns.session_hash == session_hash)
    connection.execute(delete(desk_sign_ons).where(either))
    row = {"station_id": station_id, "session_hash": session_hash, "since": now, "used_at": now}
    connection.execute(insert(desk_sign_ons).values(row))


def sign_off(connection: Connection, session_hash: bytes) -> StationId | None:
    """Sign a session off; from where, or None."""
    found = of_session(connection, session_hash)
    connection.execute(delete(desk_sign_ons).where(desk_sign_ons.c.session_hash == session_hash))
    connection.execute(delete(desk_looks).where(desk_looks.c.session_hash == session_hash))
    return found.station_id if found else None


def at_station(connection: Connection, station_id: StationId) -> SignOn | None:
    """Who is signed on there."""
    return _one(connection, _query().where(desk_sign_ons.c.station_id == station_id))


def of_session(connection: Connection, session_hash: bytes) -> SignOn | None:
    """Where this session is signed on."""
    return _one(connection, _query().where(desk_sign_ons.c.session_hash == session_hash))


def touch(connection: Connection, station_id: StationId, now: datetime) -> None:
    """Somebody is at work there."""
    mine = desk_sign_ons.c.station_id == station_id
    connection.execute(update(desk_sign_ons).where(mine).values(used_at=now))


def open_page(connection: Connection, session_hash: bytes, page: str) -> None:
    """Cards are shown on this page of the session from now on, and on no other."""
    mine = desk_sign_ons.c.session_hash == session_hash
    connection.execute(update(desk_sign_ons).where(mine).values(page=page))


def close_page(connection: Connection, page: str) -> None:
    """This page shows no cards any more."""
    connection.execute(update(desk_sign_ons).where(desk_sign_ons.c.page == page).values(page=None))


def add_look(
    connection: Connection,
    look_hash: bytes,
    session_hash: bytes,
    cardholder_id: CardholderId,
    *,
    now: datetime,
    until: datetime,
) -> None:
    """Let this session see this person's photograph once, until then; looks whose time is over are forgotten."""
    connection.execute(delete(desk_looks).where(desk_looks.c.expires_at <= now))
    row = {"look_hash": look_hash, "session_hash": session_hash, "cardholder_id": cardholder_id}
    connection.execute(insert(desk_looks).values(row | {"expires_at": until}))


def take_look(
    connection: Connection, look_hash: bytes, session_hash: bytes, now: datetime
) -> CardholderId | None:
    """Whose photograph this look is for, which is used up by it; None: not of this session, used, or too late."""
    columns = desk_looks.c
    mine = (columns.look_hash == look_hash) & (columns.session_hash == session_hash)
    found = connection.scalar(select(columns.cardholder_id).where(mine, columns.expires_at > now))
    connection.execute(delete(desk_looks).where(mine))
    return None if found is None else CardholderId(found)


def _query() -> Select[tuple[object, ...]]:
    joined = desk_sign_ons.join(sessions).join(operators, operators.c.id == sessions.c.operator_id)
    return select(
        desk_sign_ons, operators.c.id.label("operator_id"), operators.c.name.label("operator_name")
    ).select_from(joined)


def _one(connection: Connection, query: Select[tuple[object, ...]]) -> SignOn | None:
    row = connection.execute(query).first()
    if row is None:
        return None
    return SignOn(
        station_id=StationId(row.station_id),
        session_hash=row.session_hash,
        operator_id=row.operator_id,
        operator_name=row.operator_name,
        since=row.since,
        used_at=row.used_at,
        page=row.page,
    )
