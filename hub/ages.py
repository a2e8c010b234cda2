"""How old the documents are that doors go by, and when each door's own bound stops the cards there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from sqlalchemy import Connection

from hub.documents import LIFETIME
from hub.store import documents, doors
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.messages import DocumentKind
from pacs.rules import Door, WhenTooOld

VERSIONS_LOOKED_AT: Final = 200

Made: TypeAlias = Mapping[DocumentKind, list[tuple[int, datetime]]]
"""The newest versions of each kind with the moment each was made, the oldest first."""


def made(connection: Connection, site_id: SiteId) -> Made:
    """When the documents of a site were made."""
    return {
        kind: [
            (each["version"], each["created_at"])
            for each in reversed(documents.history(connection, site_id, kind, limit=VERSIONS_LOOKED_AT))
        ]
        for kind in DocumentKind
    }


class Kept:
    """When the documents of every site were made, read again where there are newer ones; one thread's."""

    def __init__(self) -> None:
        self._newest: dict[tuple[SiteId, DocumentKind], int] = {}
        self._made: dict[SiteId, Made] = {}

    def of_sites(self, connection: Connection) -> Mapping[SiteId, Made]:
        """Site → its documents; nothing for a site that has none yet."""
        newest = documents.newest_versions(connection)
        for site_id in {channel[0] for channel, _ in newest.items() - self._newest.items()}:
            self._made[site_id] = made(connection, site_id)
        self._newest = newest
        return self._made


def held_since(versions: Collection[tuple[int, datetime]], held: int) -> datetime | None:
    """When version ``held`` was made; when it is not kept, the next one: it is no younger. None: nothing is known."""
    if not held:
        return None
    exact = next((at for version, at in versions if version == held), None)
    return exact or next((at for version, at in versions if version > held), None)


def stops_at(door: Door, oldest: datetime) -> datetime:
    """When a door refuses every card by documents of which the older one was made at ``oldest``.

    A door that continues beyond its bound goes on until the documents expire.
    """
    expiry = oldest + LIFETIME
    return (
        min(expiry, oldest + timedelta(seconds=door.max_policy_age_s))
        if door.when_too_old is WhenTooOld.DENY
        else expiry
    )


def stops(connection: Connection, site_id: SiteId) -> Mapping[DoorId, datetime | None]:
    """Every door of a site → when its bound stops cards at the latest, if it confirms nothing more; None: not known.

    A door that has nothing opens for nobody, and has none either.
    """
    versions = made(connection, site_id)
    confirmed = documents.confirmed_versions(connection)

    def oldest(controller_id: ControllerId) -> datetime | None:
        known = [held_since(versions[kind], confirmed.get((controller_id, kind), 0)) for kind in DocumentKind]
        there = [at for at in known if at is not None]
        return min(there) if len(there) == len(known) else None

    return {
        named.door.id: stops_at(named.door, since) if since else None
        for named in doors.list_all(connection, sites=(site_id,))
        for since in [oldest(named.door.controller_id)]
    }
