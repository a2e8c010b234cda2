"""Replacing a card, and ending its validity: one transaction, with the documents that carry it to every door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from hub import audit, carriers
from hub.documents import IssuesDocuments
from hub.revocation import CardRevoked, DoorConfirmation
from hub.store import card_ends, cardholders, cards, webhook_arrivals, webhooks
from hub.store.cards import Card, CardStatus
from hub.store.people import sites_of
from hub.store.transfers import Carried
from hub.store.webhooks import Told
from pacs.errors import MalformedData
from pacs.identifiers import CredentialId
from pacs.messages import DocumentKind


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCard:
    """A card as the bureau made it; ``public_key``: its 65-byte P-256 point when known."""

    credential_id: CredentialId
    technology: str
    issuer: str | None = None
    public_key: bytes | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardChange:
    """A card after a change, the versions that carry it, and every concerned door's word on its site's policy."""

    card: Card
    carried: tuple[Carried, ...]
    confirmations: tuple[DoorConfirmation, ...]


class CardChanges(IssuesDocuments):
    """Replaces and expires cards."""

    def replace(self, old: CredentialId, new: NewCard, *, reason: str, actor: str) -> CardChange:
        """Give the holder of a card another one, valid at once, and revoke the old one.

        Raises ``NotFound`` when the old one is not there, ``AlreadyExists`` when the new one is. A card that is revoked
        already may be replaced, too.
        """
        with self._database.write() as connection:
            changed = self.replace_in(connection, old, new, reason=reason, actor=actor)
        self.push()
        return changed

    def replace_in(
        self, connection: Connection, old: CredentialId, new: NewCard, *, reason: str, actor: str
    ) -> CardChange:
        """The same within somebody else's transaction, after whose commit ``push`` is called."""
        now = self._clock()
        before = cards.get(connection, old)
        card = cards.add(
            connection,
            credential_id=new.credential_id,
            cardholder_id=before.cardholder_id,
            technology=new.technology,
            now=now,
            issuer=new.issuer,
            public_key=new.public_key,
            valid_from=new.valid_from,
            valid_until=new.valid_until,
        )
        if before.status is not CardStatus.REVOKED:
            cards.set_status(connection, old, CardStatus.REVOKED, now=now)
        audit.record(
            connection,
            now=now,
            actor=actor,
            action="card.replace",
            subject=f"card:{old}",
            reason=reason,
            detail={"by": str(new.credential_id), "before": before.status.value},
        )
        changed = self._carry(connection, card, "card.replace", actor, now)
        facts = {"credential_id": str(old), "by": str(new.credential_id)}
        _tell(connection, Told.CARD_REPLACED, before, "revoked", facts, changed, now)
        return changed

    def push(self) -> None:
        """Send what was committed to the doors."""
        self._issued()

    def expire(
        self, credential_id: CredentialId, *, at: datetime | None = None, reason: str, actor: str
    ) -> CardChange:
        """End a card's validity, at this moment or ``at`` a later one.

        Raises ``NotFound``, ``CardRevoked``, and ``MalformedData`` when it would end before it begins, or ends earlier
        already.
        """
        now = self._clock()
        ends = at or now.replace(microsecond=0)
        with self._database.write() as connection:
            before = cards.get(connection, credential_id)
            if before.status is CardStatus.REVOKED:
                raise CardRevoked("this card was revoked, which is for good")
            if before.valid_from is not None and ends <= before.valid_from:
                raise MalformedData("at: lies before the card's validity begins; block the card instead")
            if before.valid_until is not None and ends > before.valid_until:
                raise MalformedData(
                    f"at: the card's validity ends at {before.valid_until.isoformat()} already"
                )
            cards.set_end(connection, credential_id, ends)
            audit.record(
                connection,
                now=now,
                actor=actor,
                action="card.expire",
                subject=f"card:{credential_id}",
                reason=reason,
                detail={"at": ends.isoformat()},
            )
            card = cards.get(connection, credential_id)
            changed = self._carry(connection, card, "card.expire", actor, now)
            facts = {"credential_id": str(credential_id), "at": ends.isoformat()}
            _tell(connection, Told.CARD_EXPIRED, before, "expired", facts, changed, now)
            for ended in card_ends.untold(connection, now, limit=1, credential_id=credential_id):
                card_ends.take(connection, ended)  # by somebody, of which that told
        self._issued()
        return changed

    def _carry(self, connection: Connection, card: Card, cause: str, actor: str, now: datetime) -> CardChange:
        concerned = sites_of(connection, card.cardholder_id)
        carried = carriers.issue(
            connection, self._site_documents, concerned, cause=cause, actor=actor, now=now
        )
        return CardChange(
            card=card,
            carried=tuple(carried),
            confirmations=carriers.confirmations(connection, carried, now),
        )


def _tell(
    connection: Connection,
    kind: Told,
    card: Card,
    status: str,
    facts: Mapping[str, str],
    changed: CardChange,
    now: datetime,
) -> None:
    """Have webhooks told of what became of ``card``, and later of its arrival."""
    site_id = cardholders.get(connection, card.cardholder_id).site_id
    webhooks.tell(connection, kind, facts, now=now, site_id=site_id)
    carried = [
        pair
        for each in changed.carried
        for pair in (
            (each.site_id, DocumentKind.POLICY, each.policy_version),
            (each.site_id, DocumentKind.REVOCATIONS, each.revocations_version),
        )
    ]
    webhook_arrivals.expect(connection, card.credential_id, status, carried, site_id=site_id, now=now)
