"""Putting a credential on a card, taking it off again, and looking at what is on one.

The key is made on the card and never leaves it. A card that was issued here has also passed the tap
that a reader would do.
"""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec

from pacs.card.card_keys import CardSerial
from pacs.card.cvc import UUID_OID, Certificate, issue
from pacs.card.dialogue import Transceive, get_response, run
from pacs.card.personalisation import (
    NOT_BLANK,
    CardStatus,
    Made,
    PersonalisedCard,
    Progress,
    Stage,
    look,
    personalise,
    reset,
    untold,
)
from pacs.card.pkoc import RANDOM_BYTES, Challenge, present, reader_identifier
from pacs.card.secure_channel import CHALLENGE_BYTES, Greeting, KeySet
from pacs.credential import Technology, TrustAnchors, VerifiedCredential, Verifier
from pacs.errors import CardError, CardMisbehaves
from pacs.identifiers import CredentialId
from pacs.reason import ReadFault
from provisioning.card_journal import DIRECTORY_NAME, CardJournal, credential_of
from provisioning.card_keys import CardKeys
from provisioning.keystore import Passphrase
from provisioning.site import Site

DEFAULT_DAYS: Final = 365
"""How long a card is valid unless somebody says otherwise."""
READER_IDENTIFIER: Final = reader_identifier("", "issuing desk")  # no door has it
_SUBJECT_CHARACTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who issues cards: the reference written in their certificates and the key that signs them, the keys by which
    cards know the issuer, and what is not finished yet.
    """

    reference: str
    key: ec.EllipticCurvePrivateKey
    keys: CardKeys
    journal: CardJournal

    @classmethod
    def of(cls, site: Site, passphrase: Passphrase, *, key: ec.EllipticCurvePrivateKey | None = None) -> Self:
        """The issuer of a site, from its directory; ``key`` when it is kept elsewhere. Raises ``StoreError``."""
        return cls(
            reference=site.issuer,
            key=key or site.card_issuer_key(passphrase),
            keys=CardKeys.read(site.directory, passphrase),
            journal=CardJournal(site.directory / DIRECTORY_NAME),
        )

    @property
    def trust(self) -> TrustAnchors:
        """Anchors that believe this issuer alone."""
        return TrustAnchors(issuers={self.reference: self.key.public_key()})


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCard:
    """A card that is ready: personalised, locked, and verified by a whole tap.

    ``public_key`` is the point 04‖x‖y; dates and issuer are None for PKOC V1, which carries none. ``resumed``: it had been
    begun before, and was finished with what was certified then.
    """

    credential_id: CredentialId
    technology: Technology
    public_key: bytes
    valid_from: date | None
    valid_until: date | None
    serial: CardSerial
    resumed: bool = False
    issuer: str | None = None

    @property
    def registration(self) -> dict[str, str]:
        """What the hub has to be told, beside the cardholder."""
        return {
            "credential_id": str(self.credential_id),
            "technology": self.technology.value,
            "public_key": self.public_key.hex(),
            **({"issuer": self.issuer} if self.issuer else {}),
        }


class _Bureau:
    """``pacs.card.personalisation.Bureau`` of one issuer; ``certificate_of`` certifies a key, None for V1.

    ``days``: what was certified for others is void, and ``has_voided`` then.
    """

    def __init__(
        self,
        issuer: Issuer,
        certificate_of: Callable[[bytes], Certificate | None],
        days: tuple[date, date] | None = None,
    ) -> None:
        self._issuer = issuer
        self._certificate_of = certificate_of
        self._days = days
        self.has_voided = False

    def keys(self, greeting: Greeting) -> KeySet:
        return self._issuer.keys.keys(greeting)

    def administration(self, serial: CardSerial) -> KeySet:
        return self._issuer.keys.newest_administration(serial)

    def unfinished(self, serial: CardSerial) -> Made | None:
        known = self._issuer.journal.unfinished(serial)
        if known is None:
            return None
        certificate = known.made.certificate
        if certificate is not None and (certificate.valid_from, certificate.valid_until) != self._days:
            self.void(serial, known.made)
            return None
        return known.made

    def certify(self, serial: CardSerial, public_key: bytes) -> Made:
        made = Made(public_key=public_key, certificate=self._certificate_of(public_key))
        self._issuer.journal.certified(serial, made)
        return made

    def void(self, serial: CardSerial, made: Made) -> None:
        self.has_voided = True
        self._issuer.journal.void(serial, credential_of(made))


def issue_card(
    transceive: Transceive,
    issuer: Issuer,
    *,
    valid_from: date,
    valid_until: date,
    now: datetime,
    progress: Progress = untold,
) -> IssuedCard:
    """Personalise a blank card with a fresh random credential id, lock it, and tap it once; or finish one begun before.

    Dates are inclusive days; what was begun for other days is void, and the card issued anew. The journal holds the card
    until ``CardJournal.given_out``: presented again before that, the same card is answered.

    Raises ``CardError`` (STATUS_WORD 6985: it is issued already), ``ReaderBroken``, ``VerificationError``,
    ``KeyMissing``, ``StoreError``, and ``MalformedData`` for days no certificate can hold.
    """

    def certificate_of(public_key: bytes) -> Certificate:
        return issue(
            issuer_key=issuer.key,
            issuer=issuer.reference,
            public_key=public_key,
            subject="".join(secrets.choice(_SUBJECT_CHARACTERS) for _ in range(16)).encode("ascii"),
            valid_from=valid_from,
            valid_until=valid_until,
            extensions=[(UUID_OID, uuid.uuid4().bytes)],
        )

    bureau = _Bureau(issuer, certificate_of, (valid_from, valid_until))
    return _issue(transceive, issuer, bureau, issuer.trust, certified=True, now=now, progress=progress)


def issue_v1_card(
    transceive: Transceive, issuer: Issuer, *, now: datetime, progress: Progress = untold
) -> IssuedCard:
    """Make the key of a blank PKOC V1 card, lock it, and tap it once; raises as ``issue_card``.

    Its credential id is its key, so it opens nothing until it is enrolled at the hub.
    """
    trust = TrustAnchors(issuers={})
    bureau = _Bureau(issuer, lambda _key: None)
    return _issue(transceive, issuer, bureau, trust, certified=False, now=now, progress=progress)


def _issue(
    transceive: Transceive,
    issuer: Issuer,
    bureau: _Bureau,
    trust: TrustAnchors,
    *,
    certified: bool,
    now: datetime,
    progress: Progress,
) -> IssuedCard:
    card = get_response(transceive)

    def attempt() -> PersonalisedCard:
        challenge, host_challenge = _challenge(now), os.urandom(CHALLENGE_BYTES)
        return run(
            personalise(challenge, host_challenge, bureau, certified=certified, progress=progress), card
        )

    try:
        made = attempt()
    except CardError as error:
        if error.status_word != NOT_BLANK or not bureau.has_voided:
            raise
        run(reset(os.urandom(CHALLENGE_BYTES), bureau), card)  # locked, with what was voided now
        made = attempt()
    credential = read_card(transceive, trust, now=now)
    if credential.credential_id != credential_of(made.made):
        raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, "another card was tapped than the one issued")
    issuer.journal.completed(made.serial)
    progress(Stage.CHECKED)
    return IssuedCard(
        credential_id=credential.credential_id,
        technology=credential.technology,
        public_key=made.made.public_key,
        valid_from=credential.valid_from,
        valid_until=credential.valid_until,
        serial=made.serial,
        resumed=made.resumed,
        issuer=credential.issuer,
    )


def reset_card(transceive: Transceive, issuer: Issuer) -> CardStatus:
    """Destroy a card's key and certificate; it is a blank card again. Returns what it was.

    What had been begun with it is voided first. Raises as ``issue_card``.
    """
    _, status = run(look(), get_response(transceive))
    known = issuer.journal.unfinished(status.serial)
    if known is not None:
        issuer.journal.void(known.serial, known.credential_id)
    bureau = _Bureau(issuer, lambda _key: None)
    return run(reset(os.urandom(CHALLENGE_BYTES), bureau), get_response(transceive))


def read_card(transceive: Transceive, trust: TrustAnchors, *, now: datetime) -> VerifiedCredential:
    """Do the tap that a reader does, and return whose card it is; its dates are not looked at.

    Raises ``CardError``, ``ReaderBroken`` and ``VerificationError`` with the reader's own reasons.
    """
    verifier = Verifier(trust)
    dialogue = present(_challenge(now), allow_v1=True, on_certificate=verifier.prefetch)
    return verifier.verify(run(dialogue, get_response(transceive)))


def _challenge(now: datetime) -> Challenge:
    return Challenge(reader_identifier=READER_IDENTIFIER, at=now, random=os.urandom(RANDOM_BYTES))
