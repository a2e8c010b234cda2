"""The end of a site: what is known of its people deleted, with a statement that proves it.

The statement says what was deleted, when, why and by whom, and what is left; its counts are in the last entry of the audit
log, whose head it names. Whoever keeps it finds out with ``drempel-hub audit verify --expect`` whether the log still says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from hub import audit, erasure
from hub.erasure import HeldBack
from hub.store import cards, holds, site_ends, sites
from hub.store.database import Database
from pacs.errors import StoreError
from pacs.identifiers import SiteId

_PEOPLE_AT_A_TIME = 100


class StillOpen(StoreError):
    """A card or a controller of the site is still good; the message says what to do first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What was deleted of a site, and how many rows still say something of its people, by table.

    ``audit_head``: of the log after it. ``beyond_reach``: where it may still stand, to be destroyed by hand.
    """

    site_id: SiteId
    erased_at: datetime
    reason: str
    deleted: Mapping[str, int]
    remaining: Mapping[str, int]
    audit_head: str
    beyond_reach: Sequence[str]


def check(database: Database, site_id: SiteId, now: datetime) -> Mapping[str, int]:
    """How many rows there are to delete, by table. Raises ``NotFound``, ``StillOpen``, and ``HeldBack`` for a legal hold."""
    with database.read() as connection:
        sites.get(connection, site_id)
        if count := len(cards.usable_of(connection, site_id)):
            raise StillOpen(f"{count} cards of {site_id} are not revoked: drempel-provision card void-all")
        if believed := site_ends.believed_controllers(connection, site_id):
            names = ", ".join(believed)
            raise StillOpen(
                f"{site_id} has controllers that are let in: drempel-provision reader revoke {names}"
            )
        if any(hold.site_id == site_id for hold in holds.keeping(connection, now)):
            raise HeldBack(f"a legal hold keeps what is known at {site_id}; lift it, or wait for its end")
        return site_ends.remaining(connection, site_id)


def erase(
    database: Database, site_id: SiteId, *, reason: str, actor: str, clock: Callable[[], datetime]
) -> Statement:
    """Forget everybody of a site, and delete what its doors said of anybody; done again, it goes on where it was.

    Raises what ``check`` does, and ``StoreError`` when something is left at the end.
    """
    check(database, site_id, clock())
    deleted: dict[str, int] = {}
    while True:
        with database.write() as connection:
            removed = site_ends.remove_rows(connection, site_id)
        for table, count in removed.items():
            deleted[table] = deleted.get(table, 0) + count
        if not any(removed.values()):
            break
    deleted["cardholders"] = 0
    while True:
        with database.write() as connection:
            people = site_ends.known_people(connection, site_id, _PEOPLE_AT_A_TIME)
            for person in people:
                erasure.erase(connection, person, reason=reason, actor=actor, now=clock())
        deleted["cardholders"] += len(people)
        if not people:
            break
    with database.write() as connection:
        site_ends.remove_rows(connection, site_id)
        left = site_ends.remaining(connection, site_id)
        if wrong := {table: count for table, count in left.items() if count}:
            raise StoreError(f"not everything is gone, is the hub still running? {wrong}")
        at = clock()
        audit.record(
            connection,
            now=at,
            actor=actor,
            action="site.erase",
            subject=f"site:{site_id}",
            reason=reason,
            detail={**deleted, "remaining": sum(left.values())},
        )
        head = str(audit.newest(connection))
    return Statement(
        site_id=site_id,
        erased_at=at,
        reason=reason,
        deleted=deleted,
        remaining=left,
        audit_head=head,
        beyond_reach=[*database.rewrite(), "backups of the hub, and snapshots of its disk"],
    )
