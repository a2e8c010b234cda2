"""The issuer's side: make a key on the card, certify it, write the certificate, lock the card.

PKOC leaves personalisation to the card's maker; these commands (class 80) are those of
``docs/protocol.md``. An unlocked card obeys whoever holds it, so it is personalised in a room where
nobody else can reach it and locked before it leaves; a locked card answers 6985 for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pacs.card import p256, tlv
from pacs.card.apdu import SHORT_LE, CommandAPDU, ResponseAPDU
from pacs.card.cvc import Certificate
from pacs.card.dialogue import Dialogue, Step
from pacs.card.pkoc import (
    GET_CERTIFICATE,
    NO_CERTIFICATE,
    SELECT,
    Challenge,
    authenticate,
    data_of,
    internal_authenticate,
    parse_certificate,
    parse_versions,
)
from pacs.errors import CardError, CardMisbehaves, MalformedData, VerificationError
from pacs.reason import ReadFault, Reason

CLA: Final = 0x80
INS_GENERATE_KEY: Final = 0x47
INS_WRITE: Final = 0xDA
INS_LOCK: Final = 0x44
TAG_KEY: Final = 0x7F49
TAG_POINT: Final = 0x86

GENERATE_KEY: Final = CommandAPDU(cla=CLA, ins=INS_GENERATE_KEY, le=SHORT_LE)
LOCK: Final = CommandAPDU(cla=CLA, ins=INS_LOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalisedCard:
    """A card that was personalised, proved its key and is locked. ``certificate`` is None for PKOC V1."""

    public_key: bytes
    certificate: Certificate | None


def personalise(challenge: Challenge, certify: Callable[[bytes], Certificate]) -> Dialogue[PersonalisedCard]:
    """Personalise a blank V2 card and lock it.

    ``certify`` receives the public key (65 bytes) only after the card proved possession of the
    private one, and returns its certificate. The certificate is read back before the card is locked.
    Needs ``command_chaining`` and ``get_response`` around the transceive.

    Raises ``CardError`` (STATUS_WORD 6985: the card is locked), ``CardMisbehaves(ANSWER_MALFORMED)``
    when it hands back another certificate, ``VerificationError(SIGNATURE_INVALID)`` when it lacks its key.
    """
    data_of((yield Step(command=SELECT)), "SELECT")
    public_key = yield from _generate_key()
    message = bytes(challenge)
    signature = yield from internal_authenticate(message)
    _prove(public_key, signature, message)
    certificate = certify(public_key)
    write = CommandAPDU(cla=CLA, ins=INS_WRITE, p1=0x7F, p2=0x21, data=certificate.raw)
    data_of((yield Step(command=write)), "write certificate")
    if (yield from read_certificate()) != certificate.raw:
        raise CardMisbehaves(
            ReadFault.ANSWER_MALFORMED, "the card holds another certificate than the one written"
        )
    data_of((yield Step(command=LOCK)), "lock")
    return PersonalisedCard(public_key=public_key, certificate=certificate)


def personalise_v1(challenge: Challenge) -> Dialogue[PersonalisedCard]:
    """Make the key of a blank V1 card, let it prove possession, lock it. Raises as ``personalise``."""
    versions = parse_versions(data_of((yield Step(command=SELECT)), "SELECT"))
    public_key = yield from _generate_key()
    presentation = yield from authenticate(challenge, versions)
    if presentation.public_key != public_key:
        raise CardMisbehaves(
            ReadFault.ANSWER_MALFORMED, "the card answers with another key than the one it made"
        )
    _prove(public_key, presentation.signature, presentation.message)
    data_of((yield Step(command=LOCK)), "lock")
    return PersonalisedCard(public_key=public_key, certificate=None)


def inspect() -> Dialogue[bytes | None]:
    """What a card shows to anybody: its certificate's exact bytes, or None when it has none.

    Raises ``CardError`` as ``pkoc.present``.
    """
    data_of((yield Step(command=SELECT)), "SELECT")
    try:
        return (yield from read_certificate())
    except CardError as error:
        if error.status_word in NO_CERTIFICATE:
            return None
        raise


def read_certificate() -> Dialogue[bytes]:
    """The certificate's exact bytes from a selected card. Raises ``CardError``."""
    answer: ResponseAPDU = yield Step(command=GET_CERTIFICATE)
    return parse_certificate(data_of(answer, "GET DATA"))


def _generate_key() -> Dialogue[bytes]:
    answer: ResponseAPDU = yield Step(command=GENERATE_KEY)
    data = data_of(answer, "generate key")
    try:
        key = tlv.find(tlv.parse(data), TAG_KEY)
        point = tlv.require(tlv.parse(key or b""), TAG_POINT, p256.POINT_BYTES)
        p256.parse_point(point)
    except MalformedData as error:
        raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, f"generate key: {error}") from error
    return point


def _prove(public_key: bytes, signature: bytes, message: bytes) -> None:
    try:
        p256.verify(p256.parse_point(public_key), signature, message, Reason.SIGNATURE_INVALID)
    except VerificationError as error:
        why = "the card does not hold the private key of the public key it gave"
        raise VerificationError(error.reason, why) from error
