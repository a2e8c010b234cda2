"""Blocking a card, and saying where the block has arrived.

One transaction holds the card's status, the audit entry and the revocation lists that carry it, one of each site that
lists the card; they are pushed at once. Nothing here ever says "revoked" without saying at which doors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from hub import ages, audit
from hub.documents import IssuesDocuments
from hub.store import cardholders, cards, controllers, documents, doors, sites, webhook_arrivals, webhooks
from hub.store.cards import Card, CardStatus
from hub.store.people import sites_of
from hub.store.webhooks import Told
from pacs.errors import StoreError
from pacs.identifiers import ControllerId, CredentialId, DoorId, SiteId
from pacs.messages import DocumentKind


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorConfirmation:
    """One door: since when it enforces at least ``version``; ``confirmed_at`` None: not known to.

    ``confirmed_version``: the highest version it ever confirmed, 0 for none. ``stops_at``: when its own bound on the age
    of its documents stops every card there, at the latest, if it confirms nothing more; None: it has confirmed the
    version, or nothing is known.
    """

    door_id: DoorId
    site_id: SiteId
    controller_id: ControllerId
    version: int
    confirmed_at: datetime | None
    confirmed_version: int
    online: bool
    last_seen: datetime | None
    stops_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardDistribution:
    """A card's status, the version at each site that carries it, and every door's confirmation of its site's.

    ``versions``: 0 at a site where the status never changed.
    """

    card: Card
    kind: DocumentKind
    versions: Mapping[SiteId, int]
    confirmations: tuple[DoorConfirmation, ...]

    @property
    def was_changed(self) -> bool:
        """Whether the status was ever another one."""
        return any(self.versions.values())

    def seen_by(self, sees: Callable[[SiteId], bool]) -> CardDistribution:
        """The part of it that concerns these sites."""
        return replace(
            self,
            versions={site_id: version for site_id, version in self.versions.items() if sees(site_id)},
            confirmations=tuple(each for each in self.confirmations if sees(each.site_id)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Voided:
    """How many cards of a site were revoked in one act, the version of its revocations that carries it, and its doors' word."""

    site_id: SiteId
    cards: int
    version: int
    confirmations: tuple[DoorConfirmation, ...]


class CardRevoked(StoreError):
    """A revoked card cannot become anything else."""


class Revocation(IssuesDocuments):
    """Suspends, revokes and reinstates cards."""

    def block(
        self, credential_id: CredentialId, status: CardStatus, *, reason: str, actor: str
    ) -> CardDistribution:
        """Suspend or revoke a card.

        Raises ``NotFound``, ``CardRevoked`` for suspending a revoked one, ``ValueError`` for the status ``valid``.
        """
        if status is CardStatus.VALID:
            raise ValueError("a block is suspended or revoked")
        return self._set(credential_id, status, action="card.block", reason=reason, actor=actor)

    def reinstate(self, credential_id: CredentialId, *, reason: str, actor: str) -> CardDistribution:
        """Make a suspended card valid again; raises ``NotFound`` and ``CardRevoked``."""
        return self._set(credential_id, CardStatus.VALID, action="card.reinstate", reason=reason, actor=actor)

    def void_site(self, site_id: SiteId, *, reason: str, actor: str) -> Voided:
        """Revoke for good every card of the people who belong to a site, in one transaction; raises ``NotFound``."""
        now, kind = self._clock(), DocumentKind.REVOCATIONS
        with self._database.write() as connection:
            sites.get(connection, site_id)
            found = cards.usable_of(connection, site_id)
            concerned = {card.cardholder_id: sites_of(connection, card.cardholder_id) for card in found}
            for card in found:
                cards.set_status(connection, card.credential_id, CardStatus.REVOKED, now=now)
            if found:
                audit.record(
                    connection,
                    now=now,
                    actor=actor,
                    action="site.void_cards",
                    subject=f"site:{site_id}",
                    reason=reason,
                    detail={"cards": len(found)},
                )
            carried = {
                each: self._site_documents.issue(
                    connection, each, kind, cause="site.void_cards", now=now, actor=actor
                ).version
                for each in sorted({each for known in concerned.values() for each in known})
            }
            for card in found:
                told = [(each, kind, carried[each]) for each in concerned[card.cardholder_id]]
                _tell(connection, card, CardStatus.REVOKED, told, now)
            newest = documents.newest(connection, site_id, kind)
            version = newest.version if newest else 0
            done = Voided(
                site_id=site_id,
                cards=len(found),
                version=version,
                confirmations=tuple(confirmations_of(connection, site_id, kind, version, now)),
            )
        if found:
            self._issued()
        return done

    def usable_cards(self, site_id: SiteId) -> int:
        """How many cards ``void_site`` would revoke; raises ``NotFound``."""
        with self._database.read() as connection:
            sites.get(connection, site_id)
            return len(cards.usable_of(connection, site_id))

    def distribution_of(self, credential_id: CredentialId) -> CardDistribution:
        """Where this card's status has arrived; raises ``NotFound``."""
        with self._database.read() as connection:
            return _distribution(connection, credential_id, self._clock())

    def _set(
        self, credential_id: CredentialId, status: CardStatus, *, action: str, reason: str, actor: str
    ) -> CardDistribution:
        now = self._clock()
        with self._database.write() as connection:
            card = cards.get(connection, credential_id)
            if card.status is CardStatus.REVOKED is not status:
                raise CardRevoked("this card was revoked, which is for good")
            audit.record(
                connection,
                now=now,
                actor=actor,
                action=action,
                subject=f"card:{credential_id}",
                reason=reason,
                detail={"status": status.value, "before": card.status.value},
            )
            changed = card.status is not status
            if changed:
                cards.set_status(connection, credential_id, status, now=now)
                carried = []
                for site_id in sites_of(connection, card.cardholder_id):
                    document = self._site_documents.issue(
                        connection, site_id, DocumentKind.REVOCATIONS, cause=action, now=now, actor=actor
                    )
                    cards.set_carried(connection, site_id, document.version, also=credential_id)
                    carried.append((site_id, DocumentKind.REVOCATIONS, document.version))
                _tell(connection, card, status, carried, now)
            result = _distribution(connection, credential_id, now)
        if changed:
            self._issued()
        return result


def _tell(
    connection: Connection,
    card: Card,
    status: CardStatus,
    carried: list[tuple[SiteId, DocumentKind, int]],
    now: datetime,
) -> None:
    """Have webhooks told of the change, and later of its arrival."""
    site_id = cardholders.get(connection, card.cardholder_id).site_id
    kind = Told.CARD_REINSTATED if status is CardStatus.VALID else Told.CARD_BLOCKED
    facts = {"credential_id": str(card.credential_id), "status": status.value}
    webhooks.tell(connection, kind, facts, now=now, site_id=site_id)
    webhook_arrivals.expect(connection, card.credential_id, status.value, carried, site_id=site_id, now=now)


def confirmations_of(
    connection: Connection, site_id: SiteId, kind: DocumentKind, version: int, now: datetime
) -> list[DoorConfirmation]:
    """Every door of a site, by id, with its confirmation of at least this version."""
    confirmed = documents.confirmed_at(connection, site_id, kind, version)
    highest = documents.confirmed_versions(connection)
    states = controllers.states(connection, now)
    stops = ages.stops(connection, site_id)
    return [
        DoorConfirmation(
            door_id=door.id,
            site_id=site_id,
            controller_id=door.controller_id,
            version=version,
            confirmed_at=confirmed.get(door.controller_id),
            confirmed_version=highest.get((door.controller_id, kind), 0),
            online=states[door.controller_id].online,
            last_seen=states[door.controller_id].last_seen,
            stops_at=None if confirmed.get(door.controller_id) else stops[door.id],
        )
        for door in (named.door for named in doors.list_all(connection, sites=(site_id,)))
    ]


def _distribution(connection: Connection, credential_id: CredentialId, now: datetime) -> CardDistribution:
    card = cards.get(connection, credential_id)
    kind = DocumentKind.REVOCATIONS
    carried = cards.status_versions(connection, credential_id)
    versions = {site_id: carried.get(site_id, 0) for site_id in sites_of(connection, card.cardholder_id)}
    return CardDistribution(
        card=card,
        kind=kind,
        versions=versions,
        confirmations=tuple(
            each
            for site_id, version in versions.items()
            for each in confirmations_of(connection, site_id, kind, version, now)
        ),
    )
