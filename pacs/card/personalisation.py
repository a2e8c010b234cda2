"""The issuer's side: authenticate to a card, have it make its key, certify it, write the certificate, lock the card.

PKOC leaves personalisation to the card's maker; these commands are those of ``docs/protocol.md``. Each step is taken
from what the card says it is, so that the same dialogue begins a blank card and ends one that was torn away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum, unique
from typing import Final, Protocol, Self

from pacs.card import p256, secure_channel, tlv
from pacs.card.apdu import SHORT_LE, CommandAPDU, ResponseAPDU
from pacs.card.card_keys import CardSerial
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
from pacs.card.secure_channel import CLA, Greeting, KeySet, SecureChannel, open_channel
from pacs.errors import CardError, CardMisbehaves, MalformedData, VerificationError
from pacs.reason import ReadFault, Reason

INS_GET_STATUS: Final = 0xF2
INS_GENERATE_KEY: Final = 0x47
INS_STORE_DATA: Final = 0xE2
INS_LOCK: Final = 0x44
INS_RESET: Final = 0xE4
LAST_BLOCK: Final = 0x80  # P1 of STORE DATA
TAG_STATUS: Final = 0xE3
TAG_LIFE: Final = 0x9F70
TAG_TRIES: Final = 0xC1
TAG_SERIAL: Final = 0xCF
TAG_KEY: Final = 0x7F49
TAG_POINT: Final = 0x86
DEAD: Final = 0x6983
NOT_BLANK: Final = 0x6985

GET_STATUS: Final = CommandAPDU(cla=CLA, ins=INS_GET_STATUS, le=SHORT_LE)


@unique
class Life(IntEnum):
    """How far a card has come; the values of its status."""

    BLANK = 0x01
    KEY_MADE = 0x03
    CERTIFIED = 0x07
    LOCKED = 0x0F


@unique
class Stage(StrEnum):
    """What has been done with a card when progress is told; the order in which it happens."""

    CARD_FOUND = "card_found"
    AUTHENTICATED = "authenticated"
    KEY_MADE = "key_made"
    KEY_PROVED = "key_proved"
    CERTIFICATE_WRITTEN = "certificate_written"
    LOCKED = "locked"
    CHECKED = "checked"


Progress = Callable[[Stage], None]


def untold(_stage: Stage) -> None:
    """Tell nobody: the default of ``progress``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardStatus:
    """What a card tells anybody: how far it is, its serial number, and how many wrong issuers it bears yet."""

    life: Life
    serial: CardSerial
    tries_left: int

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read one E3 object. Raises ``MalformedData``."""
        fields = tlv.parse(tlv.find(tlv.parse(raw), TAG_STATUS) or b"")
        life = tlv.require(fields, TAG_LIFE, 1)[0]
        if life not in set(Life):
            raise MalformedData(f"card status: no such state as {life:02X}")
        return cls(
            life=Life(life),
            tries_left=tlv.require(fields, TAG_TRIES, 1)[0],
            serial=CardSerial(tlv.require(fields, TAG_SERIAL, secure_channel.SERIAL_BYTES)),
        )

    def __bytes__(self) -> bytes:
        fields = [
            tlv.Tlv.build(TAG_LIFE, bytes((self.life,))),
            tlv.Tlv.build(TAG_TRIES, bytes((self.tries_left,))),
            tlv.Tlv.build(TAG_SERIAL, bytes(self.serial)),
        ]
        return tlv.Tlv.build(TAG_STATUS, fields).raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A key that a card made, and its certificate; None for PKOC V1, which has none."""

    public_key: bytes
    certificate: Certificate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalisedCard:
    """A card that proved its key and is locked. ``resumed``: with what had been certified for it before."""

    serial: CardSerial
    made: Made
    resumed: bool


class Bureau(Protocol):
    """What the issuer knows and remembers beside the card."""

    def keys(self, greeting: Greeting) -> KeySet:
        """The keys of the card that greets so. Raises ``PacsError`` when they are not ours."""
        ...

    def administration(self, serial: CardSerial) -> KeySet:
        """The keys it gets when it is locked."""
        ...

    def unfinished(self, serial: CardSerial) -> Made | None:
        """What was certified last for this card, unless that is finished or void."""
        ...

    def certify(self, serial: CardSerial, public_key: bytes) -> Made:
        """Certify a key that the card proved to hold; remembered, durably, before it returns."""
        ...

    def void(self, serial: CardSerial, made: Made) -> None:
        """Remember that this, which was ``unfinished`` or found on the card, will never be used."""
        ...


def personalise(
    challenge: Challenge,
    host_challenge: bytes,
    bureau: Bureau,
    *,
    certified: bool,
    progress: Progress = untold,
) -> Dialogue[PersonalisedCard]:
    """Make an issued card of a blank one, or of one that this was begun with; ``certified``: PKOC V2, else V1.

    ``host_challenge``: 8 fresh bytes. ``Bureau.certify`` is called only after the card proved possession of the
    private key. A card that was torn away is finished with the certificate that it was given, if it still holds the
    key of it; else that certificate is voided before another is made. Needs ``get_response`` around the transceive.

    Raises ``CardError`` (STATUS_WORD 6985: it is issued already; 6983: it bears no issuer any more), ``CardNotGenuine``,
    ``CardMisbehaves(ANSWER_MALFORMED)`` when it hands back another certificate,
    ``VerificationError(SIGNATURE_INVALID)`` when it lacks its key, and what ``bureau`` raises.
    """
    versions, status = yield from look()
    progress(Stage.CARD_FOUND)
    proof = _Proof(challenge=challenge, versions=versions, certified=certified)
    known = bureau.unfinished(status.serial)
    fits = known is not None and (known.certificate is not None) is certified
    if status.life is Life.LOCKED:
        if known is None or not fits or (certified and (yield from read_certificate()) != _raw(known)):
            message = f"card {status.serial} is issued already"
            raise CardError(ReadFault.STATUS_WORD, message, status_word=NOT_BLANK)
        yield from proof.require(known.public_key)
        return PersonalisedCard(serial=status.serial, made=known, resumed=True)
    if not status.tries_left:
        message = f"card {status.serial} bears no issuer any more: too many wrong ones have tried"
        raise CardError(ReadFault.STATUS_WORD, message, status_word=DEAD)
    greeting, channel = yield from open_channel(bureau.keys, host_challenge)
    if greeting.serial != bytes(status.serial):
        raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, "the card has two serial numbers")
    progress(Stage.AUTHENTICATED)
    resumed = False
    if known is not None and fits and status.life is not Life.BLANK:
        resumed = yield from proof.holds(known.public_key)
    if known is None or not resumed:
        yield from _void_what_is_left(status, known, bureau)
        public_key = parse_key((yield from channel.send(_GENERATE_KEY, "GENERATE KEY")))
        progress(Stage.KEY_MADE)
        yield from proof.require(public_key)
        known = bureau.certify(status.serial, public_key)
    progress(Stage.KEY_PROVED)
    if known.certificate is not None:
        yield from _write(channel, known.certificate.raw)
        progress(Stage.CERTIFICATE_WRITTEN)
    yield from _lock(channel, bureau.administration(status.serial))
    progress(Stage.LOCKED)
    return PersonalisedCard(serial=status.serial, made=known, resumed=resumed)


def reset(host_challenge: bytes, bureau: Bureau) -> Dialogue[CardStatus]:
    """Destroy a card's key and certificate, whatever state it is in; it is blank then and keeps the issuer's keys.

    Returns what it was. Raises as ``personalise``.
    """
    _, status = yield from look()
    _, channel = yield from open_channel(bureau.keys, host_challenge)
    yield from channel.send(CommandAPDU(cla=CLA, ins=INS_RESET), "RESET")
    return status


def look() -> Dialogue[tuple[tuple[bytes, ...], CardStatus]]:
    """Select the card: its versions of PKOC V1, and its status. Raises ``CardError``."""
    versions = parse_versions(data_of((yield Step(command=SELECT)), "SELECT"))
    data = data_of((yield Step(command=GET_STATUS)), "GET STATUS")
    try:
        return versions, CardStatus.from_bytes(data)
    except MalformedData as error:
        raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, f"GET STATUS: {error}") from error


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


def parse_key(data: bytes) -> bytes:
    """The point in GENERATE KEY's answer, 65 bytes. Raises ``CardMisbehaves``."""
    try:
        key = tlv.find(tlv.parse(data), TAG_KEY)
        point = tlv.require(tlv.parse(key or b""), TAG_POINT, p256.POINT_BYTES)
        p256.parse_point(point)
    except MalformedData as error:
        raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, f"GENERATE KEY: {error}") from error
    return point


_GENERATE_KEY: Final = CommandAPDU(cla=CLA, ins=INS_GENERATE_KEY, le=SHORT_LE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proof:
    """How a card of this profile shows that it holds a key."""

    challenge: Challenge
    versions: tuple[bytes, ...]
    certified: bool

    def require(self, public_key: bytes) -> Dialogue[None]:
        """Raise ``VerificationError`` or ``CardMisbehaves`` unless the card holds the private key of this one."""
        message = bytes(self.challenge)
        if self.certified:
            signature = yield from internal_authenticate(message)
        else:
            presentation = yield from authenticate(self.challenge, self.versions)
            message, signature = presentation.message, presentation.signature
            if presentation.public_key != public_key:
                why = "the card answers with another key than the one it made"
                raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, why)
        try:
            p256.verify(p256.parse_point(public_key), signature, message, Reason.SIGNATURE_INVALID)
        except VerificationError as error:
            why = "the card does not hold the private key of the public key it gave"
            raise VerificationError(error.reason, why) from error

    def holds(self, public_key: bytes) -> Dialogue[bool]:
        """Whether it does. Raises ``CardError`` when it cannot be asked."""
        try:
            yield from self.require(public_key)
        except (VerificationError, CardMisbehaves):
            return False
        return True


def _void_what_is_left(status: CardStatus, known: Made | None, bureau: Bureau) -> Dialogue[None]:
    """The key that the card holds ends now, and every certificate of it."""
    if known is not None:
        bureau.void(status.serial, known)
    if status.life is Life.CERTIFIED:
        raw = yield from read_certificate()
        if known is None or raw != _raw(known):
            try:
                found = Certificate.from_bytes(raw)
            except MalformedData as error:
                raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, str(error)) from error
            bureau.void(status.serial, Made(public_key=found.public_key, certificate=found))


def _write(channel: SecureChannel, raw: bytes) -> Dialogue[None]:
    size = secure_channel.MAX_DATA_BYTES
    blocks = [raw[start : start + size] for start in range(0, len(raw), size)]
    for number, block in enumerate(blocks):
        p1 = LAST_BLOCK if number == len(blocks) - 1 else 0x00
        command = CommandAPDU(cla=CLA, ins=INS_STORE_DATA, p1=p1, p2=number, data=block)
        yield from channel.send(command, "STORE DATA")
    if (yield from read_certificate()) != raw:
        message = "the card holds another certificate than the one written"
        raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, message)


def _lock(channel: SecureChannel, keys: KeySet) -> Dialogue[None]:
    data = bytes((keys.version,)) + keys.enc + keys.mac
    yield from channel.send(CommandAPDU(cla=CLA, ins=INS_LOCK, data=data), "LOCK")


def _raw(made: Made) -> bytes:
    return b"" if made.certificate is None else made.certificate.raw
