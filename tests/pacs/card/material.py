"""Keys, certificates and recorded conversations that the card tests share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from pacs.card import cvc, p256, pkoc
from pacs.card.dialogue import Transceive, get_response
from pacs.credential import TrustAnchors, Verifier
from pacs.errors import CardGone
from pacs.identifiers import CredentialId

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "pkoc.json").read_text("utf-8"))
ISSUER = "TESTISSUER000001"
ISSUER_KEY = ec.derive_private_key(0x1551, ec.SECP256R1())
CARD_KEY = ec.derive_private_key(0xCA4D, ec.SECP256R1())
CREDENTIAL_ID = CredentialId.parse("3e1a9c53-6d1f-4c55-9f0e-6a2f7c0b1d11")
TODAY = date(2027, 6, 15)
NOON = datetime(2027, 6, 15, 12, tzinfo=UTC)
TRUST = TrustAnchors(issuers={ISSUER: ISSUER_KEY.public_key()})
CHALLENGE = pkoc.Challenge(
    reader_identifier=pkoc.reader_identifier("site", "reader"), at=NOON, random=bytes(range(16))
)


def certificate(
    *,
    issuer_key: ec.EllipticCurvePrivateKey = ISSUER_KEY,
    card_key: ec.EllipticCurvePrivateKey = CARD_KEY,
    **changes: Any,
) -> cvc.Certificate:
    """A genuine certificate, except for ``changes``."""
    fields: dict[str, Any] = {
        "issuer": ISSUER,
        "public_key": p256.encode_point(card_key.public_key()),
        "subject": b"0" * 16,
        "valid_from": date(2027, 1, 1),
        "valid_until": date(2028, 12, 31),
        "extensions": ((cvc.UUID_OID, bytes(CREDENTIAL_ID)),),
    }
    return cvc.issue(issuer_key=issuer_key, **(fields | changes))


def verifier() -> Verifier:
    """A fresh one that trusts ISSUER."""
    return Verifier(TRUST)


def scripted(answers: Iterable[bytes]) -> Transceive:
    """A link whose card gives these answers in turn, then leaves."""
    remaining: Iterator[bytes] = iter(answers)

    def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        meanwhile()
        try:
            return next(remaining)
        except StopIteration:
            raise CardGone from None

    return transceive


def wired(answer: Callable[[bytes], bytes], log: list[tuple[bytes, bytes]] | None = None) -> Transceive:
    """A link to a card's ``answer``, with 61xx handled; ``log`` collects commands and answers."""

    def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        meanwhile()
        reply = answer(command)
        if log is not None:
            log.append((command, reply))
        return reply

    return get_response(transceive)
