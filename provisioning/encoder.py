"""Putting a credential on a card, and looking at what is on one.

The key is made on the card and never leaves it. A card that was issued here has also passed the tap
that a reader would do.
"""

from __future__ import annotations

import os
import secrets
import uuid
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from pacs.card.cvc import UUID_OID, Certificate, issue
from pacs.card.dialogue import Transceive, command_chaining, get_response, run
from pacs.card.personalisation import personalise, personalise_v1
from pacs.card.pkoc import RANDOM_BYTES, Challenge, present, reader_identifier
from pacs.credential import Technology, TrustAnchors, VerifiedCredential, Verifier
from pacs.identifiers import CredentialId

READER_IDENTIFIER: Final = reader_identifier("", "issuing desk")  # no door has it
_SUBJECT_CHARACTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who signs card certificates: the reference written in them, and the key."""

    reference: str
    key: ec.EllipticCurvePrivateKey

    @property
    def trust(self) -> TrustAnchors:
        """Anchors that believe this issuer alone."""
        return TrustAnchors(issuers={self.reference: self.key.public_key()})


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCard:
    """A card that is ready: personalised, locked, and verified by a whole tap.

    ``public_key`` is the point 04‖x‖y; the dates are None for PKOC V1, which carries none.
    """

    credential_id: CredentialId
    technology: Technology
    public_key: bytes
    valid_from: date | None
    valid_until: date | None

    @property
    def registration(self) -> dict[str, str]:
        """What the hub has to be told, beside the cardholder."""
        return {
            "credential_id": str(self.credential_id),
            "technology": self.technology.value,
            "public_key": self.public_key.hex(),
        }


def issue_card(
    transceive: Transceive, issuer: Issuer, *, valid_from: date, valid_until: date, now: datetime
) -> IssuedCard:
    """Personalise a blank card with a fresh random credential id, lock it, and tap it once.

    Dates are inclusive days. Raises ``CardError`` (STATUS_WORD 6985: not blank), ``ReaderBroken``,
    ``VerificationError``, and ``MalformedData`` for days no certificate can hold.
    """
    credential_id = CredentialId(uuid.uuid4().bytes)
    card = _wrapped(transceive)

    def certify(public_key: bytes) -> Certificate:
        return issue(
            issuer_key=issuer.key,
            issuer=issuer.reference,
            public_key=public_key,
            subject="".join(secrets.choice(_SUBJECT_CHARACTERS) for _ in range(16)).encode("ascii"),
            valid_from=valid_from,
            valid_until=valid_until,
            extensions=[(UUID_OID, bytes(credential_id))],
        )

    made = run(personalise(_challenge(now), certify), card)
    credential = read_card(transceive, issuer.trust, now=now)
    return IssuedCard(
        credential_id=credential.credential_id,
        technology=Technology.PKOC_V2,
        public_key=made.public_key,
        valid_from=credential.valid_from,
        valid_until=credential.valid_until,
    )


def issue_v1_card(transceive: Transceive, *, now: datetime) -> IssuedCard:
    """Make the key of a blank PKOC V1 card, lock it, and tap it once; raises as ``issue_card``.

    Its credential id is its key, so it opens nothing until it is enrolled at the hub.
    """
    made = run(personalise_v1(_challenge(now)), _wrapped(transceive))
    credential = read_card(transceive, TrustAnchors(issuers={}), now=now)
    return IssuedCard(
        credential_id=credential.credential_id,
        technology=Technology.PKOC_V1,
        public_key=made.public_key,
        valid_from=None,
        valid_until=None,
    )


def read_card(transceive: Transceive, trust: TrustAnchors, *, now: datetime) -> VerifiedCredential:
    """Do the tap that a reader does, and return whose card it is; its dates are not looked at.

    Raises ``CardError``, ``ReaderBroken`` and ``VerificationError`` with the reader's own reasons.
    """
    verifier = Verifier(trust)
    dialogue = present(_challenge(now), allow_v1=True, on_certificate=verifier.prefetch)
    return verifier.verify(run(dialogue, _wrapped(transceive)))


def _wrapped(transceive: Transceive) -> Transceive:
    return get_response(command_chaining(transceive))


def _challenge(now: datetime) -> Challenge:
    return Challenge(reader_identifier=READER_IDENTIFIER, at=now, random=os.urandom(RANDOM_BYTES))
