"""Moving people from one site to another: all of them in one transaction, with one bundle of documents for each site.

The sites they leave stop opening for them, and the site they come to begins to, with those versions; where they have
arrived is told door by door.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from hub import audit, carriers
from hub.documents import IssuesDocuments
from hub.revocation import DoorConfirmation
from hub.store import access_levels, cardholders, transfers
from hub.store.cardholders import Cardholder
from hub.store.errors import NotFound
from hub.store.people import sites_of
from hub.store.transfers import Carried, Transfer
from pacs.errors import StoreError
from pacs.identifiers import AccessLevelId, CardholderId, SiteId

CAUSE = "transfer"


class NothingToTransfer(StoreError):
    """Everybody named belongs to that site already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferState:
    """A transfer, the versions that carry it, and every concerned door's confirmation of its site's policy."""

    transfer: Transfer
    carried: tuple[Carried, ...]
    confirmations: tuple[DoorConfirmation, ...]


class Transfers(IssuesDocuments):
    """Moves people between sites."""

    def move(
        self,
        people: Sequence[CardholderId],
        to: SiteId,
        *,
        levels: Sequence[AccessLevelId],
        may_move_from: Callable[[SiteId], bool],
        reason: str,
        actor: str,
    ) -> TransferState:
        """Make people belong to the site ``to``, holding ``levels`` there and none of the sites they leave; no room.

        Levels of further sites stay. Raises ``NotFound`` when somebody, a level of that site or the site is not there,
        or somebody belongs to a site that ``may_move_from`` refuses, and ``NothingToTransfer``.
        """
        now = self._clock()
        with self._database.write() as connection:
            site_of = access_levels.site_of(connection, levels)
            if missing := [level for level in levels if site_of.get(level) != to]:
                raise NotFound(f"access level {missing[0]} is not there at site {to}")
            found = [cardholders.get(connection, each) for each in dict.fromkeys(people)]
            if hidden := [each.id for each in found if not may_move_from(each.site_id)]:
                raise NotFound(f"cardholder {hidden[0]} is not there")
            moving = [each for each in found if each.site_id != to]
            if not moving:
                raise NothingToTransfer("everybody named belongs to that site already")
            concerned = {to}
            for person in moving:
                concerned |= set(sites_of(connection, person.id))
            moved = [_moved(connection, person, to, levels) for person in moving]
            cardholders.change_many(connection, moved, with_other_levels=[person.id for person in moved])
            transfer = Transfer(
                id=secrets.token_hex(16),
                to_site_id=to,
                people=len(moved),
                given_by=actor,
                reason=reason,
                at=now,
            )
            carried = carriers.issue(
                connection, self._site_documents, concerned, cause=CAUSE, actor=actor, now=now
            )
            transfers.add(connection, transfer, carried)
            for person in moving:
                audit.record(
                    connection,
                    now=now,
                    actor=actor,
                    action="cardholder.transfer",
                    subject=f"cardholder:{person.id}",
                    reason=reason,
                    detail={"from": str(person.site_id), "to": str(to), "transfer": transfer.id},
                )
            state = _state(connection, transfer, now)
        self._issued()
        return state

    def state(self, transfer_id: str) -> TransferState:
        """How far a transfer has arrived; raises ``NotFound``."""
        with self._database.read() as connection:
            return _state(connection, transfers.get(connection, transfer_id), self._clock())


def _moved(
    connection: Connection, person: Cardholder, to: SiteId, levels: Sequence[AccessLevelId]
) -> Cardholder:
    site_of = access_levels.site_of(connection, person.access_level_ids)
    elsewhere = [each for each in person.access_level_ids if site_of[each] not in (person.site_id, to)]
    return replace(person, site_id=to, access_level_ids=tuple(sorted({*elsewhere, *levels})), room=None)


def _state(connection: Connection, transfer: Transfer, now: datetime) -> TransferState:
    carried = tuple(transfers.carried(connection, transfer.id))
    return TransferState(
        transfer=transfer,
        carried=carried,
        confirmations=carriers.confirmations(connection, carried, now),
    )
