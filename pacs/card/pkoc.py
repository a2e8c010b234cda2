"""The reader's side of PKOC 2.0.1: SE V2 (validated) first, SE V1 where it is allowed.

On the wire: SELECT, GET DATA (certificate), INTERNAL AUTHENTICATE. INFO is not sent: a card that has
no certificate says so to GET DATA. A card that hands one over is committed to V2; nothing that goes
wrong after that leads back to V1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pacs.card import cvc, p256, tlv
from pacs.card.apdu import SHORT_LE, CommandAPDU, ResponseAPDU
from pacs.card.dialogue import Dialogue, Step, nothing
from pacs.credential import Presentation, Technology
from pacs.errors import CardError, CardMisbehaves, MalformedData
from pacs.reason import ReadFault

AID: Final = bytes.fromhex("A000000898000001")
LABEL: Final = b"Drempel PKOC challenge 1"
READER_IDENTIFIER_BYTES: Final = 32
RANDOM_BYTES: Final = 16

VERSIONS_V1: Final = (b"\x01\x01", b"\x01\x00")  # newest first
TAG_VERSION: Final = 0x5C
TAG_TRANSACTION: Final = 0x4C
TAG_READER: Final = 0x4D
TAG_PUBLIC_KEY: Final = 0x5A
TAG_SIGNATURE: Final = 0x9E

SELECT: Final = CommandAPDU(cla=0x00, ins=0xA4, p1=0x04, data=AID, le=SHORT_LE)
GET_CERTIFICATE: Final = CommandAPDU(cla=0x00, ins=0xCA, p1=0x7F, p2=0x21, le=SHORT_LE)

NOT_SELECTABLE: Final = frozenset({0x6A81, 0x6A82, 0x6A86, 0x6D00, 0x6E00})
NO_CERTIFICATE: Final = frozenset({0x6A81, 0x6A86, 0x6A88, 0x6B00, 0x6D00, 0x6E00})

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def reader_identifier(site: str, reader: str) -> bytes:
    """16 bytes of the site ‖ 16 bytes of the reader, derived from their names; 32 bytes."""
    return hashlib.sha256(site.encode()).digest()[:16] + hashlib.sha256(reader.encode()).digest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What a card is asked to sign: bound to one reader and one moment, and fresh.

    A signature obtained elsewhere does not verify over it. Kept with the signature it is evidence of
    where and when. ``at`` is aware, used with millisecond resolution; ``random`` is 16 fresh bytes
    from a cryptographic source. Raises ``MalformedData`` for a wrong length or a naive time.
    """

    reader_identifier: bytes
    at: datetime
    random: bytes

    def __post_init__(self) -> None:
        if len(self.reader_identifier) != READER_IDENTIFIER_BYTES or len(self.random) != RANDOM_BYTES:
            raise MalformedData("challenge: reader identifier of 32 bytes and random of 16 expected")
        if self.at.tzinfo is None or self.at < _EPOCH:
            raise MalformedData("challenge: an aware time after 1970 expected")

    def __bytes__(self) -> bytes:
        """SHA-256(label ‖ reader identifier ‖ milliseconds since 1970, 8 bytes ‖ random): 32 bytes."""
        at_ms = (self.at - _EPOCH) // timedelta(milliseconds=1)
        whole = LABEL + self.reader_identifier + at_ms.to_bytes(8, "big") + self.random
        return hashlib.sha256(whole).digest()

    @property
    def transaction_identifier(self) -> bytes:
        """What a V1 card signs: the first 16 bytes of the challenge."""
        return bytes(self)[:16]


def present(
    challenge: Challenge, *, allow_v1: bool, on_certificate: Callable[[bytes], object]
) -> Dialogue[Presentation]:
    """One transaction with whatever PKOC card is in the field.

    ``on_certificate`` receives the certificate's exact bytes while the card signs and must not raise
    (``Verifier.prefetch``). Needs ``get_response`` around the transceive for long certificates.

    Raises ``CardError``: NOT_PKOC (no such application), TECHNOLOGY_UNSUPPORTED (no certificate and V1
    not allowed, or no V1 version in common), STATUS_WORD, and ``CardMisbehaves(ANSWER_MALFORMED)``.
    """
    selected = yield Step(command=SELECT)
    if selected.status_word in NOT_SELECTABLE:
        raise CardError(ReadFault.NOT_PKOC, status_word=selected.status_word)
    offered = data_of(selected, "SELECT")
    answer = yield Step(command=GET_CERTIFICATE)
    if answer.status_word in NO_CERTIFICATE:
        if not allow_v1:
            why = "no certificate on the card, and PKOC V1 is not allowed here"
            raise CardError(ReadFault.TECHNOLOGY_UNSUPPORTED, why, status_word=answer.status_word)
        return (yield from authenticate(challenge, parse_versions(offered)))
    certificate = parse_certificate(data_of(answer, "GET DATA"))
    message = bytes(challenge)

    def certified() -> None:
        on_certificate(certificate)

    signature = yield from internal_authenticate(message, meanwhile=certified)
    return Presentation(
        technology=Technology.PKOC_V2, message=message, signature=signature, certificate=certificate
    )


def internal_authenticate(message: bytes, *, meanwhile: Callable[[], None] = nothing) -> Dialogue[bytes]:
    """The card's signature r‖s over ``message`` (32 bytes), not verified. Raises ``CardError``."""
    command = CommandAPDU(cla=0x00, ins=0x88, data=message, le=SHORT_LE)
    answer: ResponseAPDU = yield Step(command=command, meanwhile=meanwhile)
    data = data_of(answer, "INTERNAL AUTHENTICATE")
    try:
        return tlv.require(tlv.parse(data), TAG_SIGNATURE, p256.SIGNATURE_BYTES)
    except MalformedData as error:
        raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, f"INTERNAL AUTHENTICATE: {error}") from error


def authenticate(challenge: Challenge, versions: tuple[bytes, ...]) -> Dialogue[Presentation]:
    """AUTHENTICATE of SE V1 with the newest version both sides know; nothing of it is verified.

    Raises ``CardError(TECHNOLOGY_UNSUPPORTED)`` when there is none, else as ``present``.
    """
    version = next((known for known in VERSIONS_V1 if known in versions), None)
    if version is None:
        offered = ", ".join(v.hex() for v in versions[:8]) or "none"
        raise CardError(ReadFault.TECHNOLOGY_UNSUPPORTED, f"PKOC V1 versions offered: {offered}")
    message = challenge.transaction_identifier
    fields = [
        tlv.Tlv.build(TAG_VERSION, version),
        tlv.Tlv.build(TAG_TRANSACTION, message),
        tlv.Tlv.build(TAG_READER, challenge.reader_identifier),
    ]
    data = b"".join(field.raw for field in fields)
    command = CommandAPDU(cla=0x80, ins=0x80, p2=0x01, data=data, le=SHORT_LE)
    answer = yield Step(command=command)
    items = _parse_lenient(data_of(answer, "AUTHENTICATE"))
    try:
        public_key = tlv.require(items, TAG_PUBLIC_KEY, p256.POINT_BYTES)
        signature = tlv.require(items, TAG_SIGNATURE, p256.SIGNATURE_BYTES)
    except MalformedData as error:
        raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, f"AUTHENTICATE: {error}") from error
    return Presentation(
        technology=Technology.PKOC_V1, message=message, signature=signature, public_key=public_key
    )


def data_of(answer: ResponseAPDU, command: str) -> bytes:
    """The answer's data. Raises ``CardError(STATUS_WORD)`` unless the card answered 9000."""
    if not answer.ok:
        message = f"{command} answered {answer.status_word:04X}"
        raise CardError(ReadFault.STATUS_WORD, message, status_word=answer.status_word)
    return answer.data


def _parse_lenient(data: bytes) -> tuple[tlv.Tlv, ...]:
    """One-byte tags and lengths as SE V1 writes them, else BER-TLV: cards add objects of either kind."""
    try:
        return tlv.parse_one_byte(data)
    except MalformedData:
        pass
    try:
        return tlv.parse(data)
    except MalformedData as error:
        raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, str(error)) from error


def parse_versions(data: bytes) -> tuple[bytes, ...]:
    """The two-byte versions of SELECT's answer; none when the card names none. Raises ``CardMisbehaves``."""
    try:
        value = tlv.find(_parse_lenient(data), TAG_VERSION)
    except MalformedData as error:
        raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, f"SELECT: {error}") from error
    if value is None:
        return ()
    if not value or len(value) % 2:
        raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, "SELECT: versions of two bytes expected")
    return tuple(value[i : i + 2] for i in range(0, len(value), 2))


def parse_certificate(data: bytes) -> bytes:
    """The exact bytes of the 7F21 TLV in ``data``; its content is the verifier's matter. Raises ``CardMisbehaves``."""
    try:
        items = tlv.parse(data)
        if tlv.find(items, cvc.CERTIFICATE) is None:
            raise MalformedData("no 7F21")
    except MalformedData as error:
        raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, f"certificate: {error}") from error
    return next(item.raw for item in items if item.tag == cvc.CERTIFICATE)
