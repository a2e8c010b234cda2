"""Blocking a card, and saying where the block has arrived.

One transaction holds the card's status, the audit entry and the revocation list that carries it; the list
is pushed at once. Nothing here ever says "revoked" without saying at which doors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from hub import audit
from hub.documents import SiteDocuments
from hub.store import cards, controllers, documents, doors
from hub.store.cards import Card, CardStatus
from hub.store.database import Database
from pacs.errors import StoreError
from pacs.identifiers import ControllerId, CredentialId, DoorId
from pacs.messages import DocumentKind


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorConfirmation:
    """One door: since when it enforces at least ``version``; ``confirmed_at`` None: not known to.

    ``confirmed_version``: the highest version it ever confirmed, 0 for none.
    """

    door_id: DoorId
    controller_id: ControllerId
    version: int
    confirmed_at: datetime | None
    confirmed_version: int
    online: bool
    last_seen: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardDistribution:
    """A card's status, the version that carries it, and every door's confirmation of that version."""

    card: Card
    kind: DocumentKind
    version: int
    confirmations: tuple[DoorConfirmation, ...]


class CardRevoked(StoreError):
    """A revoked card cannot become anything else."""


class Revocation:
    """Suspends, revokes and reinstates cards."""

    def __init__(
        self,
        database: Database,
        site_documents: SiteDocuments,
        *,
        clock: Callable[[], datetime],
        issued: Callable[[], None],
    ) -> None:
        """``issued`` is called after each commit of a version: push it."""
        self._database = database
        self._site_documents = site_documents
        self._clock = clock
        self._issued = issued

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
                cards.set_status(connection, credential_id, status, version=0, now=now)
                document = self._site_documents.issue(
                    connection, DocumentKind.REVOCATIONS, cause=action, now=now, actor=actor
                )
                cards.set_status(connection, credential_id, status, version=document.version, now=now)
            result = _distribution(connection, credential_id, now)
        if changed:
            self._issued()
        return result


def confirmations_of(
    connection: Connection, kind: DocumentKind, version: int, now: datetime
) -> list[DoorConfirmation]:
    """Every door, by id, with its confirmation of at least this version."""
    confirmed = documents.confirmed_at(connection, kind, version)
    highest = documents.confirmed_versions(connection)
    states = controllers.states(connection, now)
    return [
        DoorConfirmation(
            door_id=door.id,
            controller_id=door.controller_id,
            version=version,
            confirmed_at=confirmed.get(door.controller_id),
            confirmed_version=highest.get((door.controller_id, kind), 0),
            online=states[door.controller_id].online,
            last_seen=states[door.controller_id].last_seen,
        )
        for door in (named.door for named in doors.list_all(connection))
    ]


def _distribution(connection: Connection, credential_id: CredentialId, now: datetime) -> CardDistribution:
    card = cards.get(connection, credential_id)
    kind = DocumentKind.REVOCATIONS
    return CardDistribution(
        card=card,
        kind=kind,
        version=card.status_version,
        confirmations=tuple(confirmations_of(connection, kind, card.status_version, now)),
    )
