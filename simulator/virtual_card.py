"""A PKOC card without plastic: the card's half of ``docs/protocol.md``, driven by a table of instructions.

What an issuer does to it is in ``simulator.card_issuing``, over ``simulator.card_channel``. A ``VirtualCard`` sees command APDUs only; blocks, frames and the field are ``simulator.rf_link``'s.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar, Final, Self

from cryptography.hazmat.primitives.asymmetric import ec

from pacs.card import card_keys, cvc, p256, personalisation, pkoc, secure_channel
from pacs.card.apdu import SHORT_LE, CommandAPDU, ResponseAPDU
from pacs.card.card_keys import CardSerial
from pacs.card.secure_channel import KeySet
from pacs.card.tlv import Tlv, parse_one_byte, require
from pacs.errors import MalformedData
from pacs.identifiers import CredentialId
from simulator.card_answers import (
    CONDITIONS,
    NO_DATA,
    NOT_FOUND,
    SECURITY_STATUS,
    UNKNOWN_CLA,
    UNKNOWN_INS,
    WRONG_LENGTH,
    WRONG_P1P2,
    WRONG_P1P2_V1,
    Refusal,
)
from simulator.card_channel import CardChannel, ChannelRefuses
from simulator.card_issuing import CURVE, TRIES, IssuingHalf, Profile

SIGNING_MS: Final = 33.0  # JCOP4 P71
CHANNEL_MS: Final = 20.0
"""An estimate of what a session's keys and one cryptogram take a chip."""
KEY_MAKING_MS: Final = 500.0
"""An estimate: a key pair of P-256 takes a chip several signatures' time, and a varying one."""
WRITING_MS: Final = 15.0
"""An estimate of a write to the chip's own memory."""
INFO: Final = bytes.fromhex("7F63045C020200")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One row of the table; ``p1p2`` None means the handler looks at them, ``signs`` that it takes a signature's time.

    ``takes_ms``: what else it computes. ``secure``: only in the issuer's channel, in whose class it is.
    """

    cla: int
    handler: Callable[[Any, CommandAPDU], bytes]
    p1p2: int | None = 0x0000
    profiles: frozenset[Profile] = frozenset(Profile)
    signs: bool = False
    takes_ms: float = 0.0
    secure: bool = False
    ends_channel: bool = False


class VirtualCard(IssuingHalf):
    """One card, blank unless it is given a key. ``signing_ms`` is what a signature would take it.

    ``versions`` are those SELECT answers, newest first, each two bytes. ``serial``: drawn from the simulated batch
    unless given; ``keys``: the transport keys of that batch unless given.
    """

    variant: ClassVar[str] = "plain"
    variants: ClassVar[dict[str, type[VirtualCard]]] = {}

    def __init__(
        self,
        *,
        profile: Profile = Profile.V2,
        key: ec.EllipticCurvePrivateKey | None = None,
        certificate: bytes = b"",
        locked: bool = False,
        versions: tuple[bytes, ...] = (b"\x01\x00",),
        signing_ms: float = SIGNING_MS,
        serial: CardSerial | None = None,
        keys: KeySet | None = None,
        tries_left: int = TRIES,
    ) -> None:
        self.profile = profile
        self.serial = serial or CardSerial(card_keys.SIMULATED_BATCH.encode() + os.urandom(6))
        self.keys = keys or card_keys.diversify(
            card_keys.SIMULATED_MASTER, card_keys.TRANSPORT_VERSION, self.serial
        )
        self.tries_left = tries_left
        self.key = key
        self.certificate = certificate
        self.locked = locked
        self.versions = versions
        self.signing_ms = signing_ms
        self.reset()

    def __init_subclass__(cls) -> None:
        VirtualCard.variants[cls.variant] = cls

    @property
    def credential_id(self) -> CredentialId | None:
        """The credential a reader would find on it, if any."""
        if self.profile is Profile.V1:
            return CredentialId(self.public_key[1:33]) if self.key else None
        try:
            return cvc.Certificate.from_bytes(self.certificate).credential_id
        except MalformedData:
            return None

    def reset(self) -> None:
        """Forget what a card forgets when it leaves the field."""
        self._selected = False
        self._rest = b""
        self._chain = b""
        self._blocks = 0
        self._channel = CardChannel(self.keys, bytes(self.serial))

    # ------------------------------------------------------------ answering

    def answer(self, command: bytes) -> bytes:
        """Answer one command APDU; any bytes get a status word, nothing raises."""
        try:
            return bytes(self._answer(CommandAPDU.from_bytes(command)))
        except MalformedData:
            return bytes(ResponseAPDU(status_word=WRONG_LENGTH))
        except Refusal as refusal:
            return bytes(ResponseAPDU(status_word=refusal.status_word))

    def computing_ms(self, command: bytes) -> float:
        """How long a real card would compute before its answer to ``command``."""
        try:
            row = INSTRUCTIONS.get(CommandAPDU.from_bytes(command).ins)
        except MalformedData:
            return 0.0
        if row is None or not self._selected:
            return 0.0
        return row.takes_ms + (self.signing_ms if row.signs else 0.0)

    def _answer(self, command: CommandAPDU) -> ResponseAPDU:
        row = INSTRUCTIONS.get(command.ins)
        if command.cla not in (0x00, 0x80, secure_channel.CLA_SECURE):
            raise Refusal(UNKNOWN_CLA)
        if row is None or self.profile not in row.profiles:
            raise Refusal(UNKNOWN_INS)
        if not self._selected and command.ins != 0xA4:
            raise Refusal(CONDITIONS)
        if row.secure and command.cla == secure_channel.CLA:
            raise Refusal(SECURITY_STATUS)
        if command.cla != row.cla:
            raise Refusal(UNKNOWN_CLA)
        if row.p1p2 is not None and row.p1p2 != command.p1 << 8 | command.p2:
            raise Refusal(WRONG_P1P2_V1 if self.profile is Profile.V1 else WRONG_P1P2)
        if command.ins != 0xC0:
            self._rest = b""
        if row.secure:
            return self._answer_issuer(row, command)
        data = row.handler(self, command)
        room = SHORT_LE if command.le is None else command.le
        if room < len(data) <= SHORT_LE and command.ins != 0xC0:
            raise Refusal(0x6C00 | len(data) & 0xFF)
        return self._first_part(data, room)

    def _answer_issuer(self, row: Instruction, command: CommandAPDU) -> ResponseAPDU:
        """A command in the channel: refused unless its MAC fits, and any refusal ends the channel."""
        channel = self._channel
        try:
            answer = channel.wrap(row.handler(self, channel.unwrap(command)))
            if row.ends_channel:
                channel.close()
            return answer
        except ChannelRefuses as error:
            raise Refusal(error.status_word) from error
        except Refusal:
            channel.close()
            raise

    def _first_part(self, data: bytes, room: int) -> ResponseAPDU:
        """At most ``room`` bytes; 61xx announces the rest for GET RESPONSE."""
        self._rest = data[room:]
        if not self._rest:
            return ResponseAPDU(data=data)
        return ResponseAPDU(data=data[:room], status_word=0x6100 | min(len(self._rest), SHORT_LE) & 0xFF)

    def sign(self, message: bytes) -> bytes:
        """The card's signature r‖s; hostile cards differ here."""
        if self.key is None:
            raise Refusal(CONDITIONS)
        return p256.sign(self.key, message)

    # ------------------------------------------------------------ the instructions

    def select(self, command: CommandAPDU) -> bytes:
        """Choose the PKOC application; its answer lists the versions."""
        if command.data != pkoc.AID:
            raise Refusal(NOT_FOUND)
        self._selected = True
        return Tlv.build(pkoc.TAG_VERSION, b"".join(self.versions)).raw

    def get_data(self, command: CommandAPDU) -> bytes:
        """INFO, or the certificate."""
        match command.p1 << 8 | command.p2:
            case 0x7F63:
                return INFO
            case cvc.CERTIFICATE if self.certificate:
                return self.certificate
            case cvc.CERTIFICATE:
                raise Refusal(NO_DATA)
            case _:
                raise Refusal(WRONG_P1P2)

    def get_response(self, _command: CommandAPDU) -> bytes:
        """What the answer before this command left over (ISO/IEC 7816-4 §7.6.1)."""
        if not self._rest:
            raise Refusal(CONDITIONS)
        return self._rest

    def internal_authenticate(self, command: CommandAPDU) -> bytes:
        """Sign a challenge of 32 bytes (SE V2)."""
        if len(command.data) != 32:
            raise Refusal(WRONG_LENGTH)
        return Tlv.build(pkoc.TAG_SIGNATURE, self.sign(command.data)).raw

    def authenticate(self, command: CommandAPDU) -> bytes:
        """Sign the transaction identifier alone (SE V1)."""
        try:
            fields = parse_one_byte(command.data)
            version = require(fields, pkoc.TAG_VERSION, 2)
            transaction = require(fields, pkoc.TAG_TRANSACTION, 16)
            require(fields, pkoc.TAG_READER, 32)
        except MalformedData as error:
            raise Refusal(WRONG_LENGTH) from error
        if version not in self.versions or self.key is None:
            raise Refusal(CONDITIONS)
        signature = self.sign(transaction)
        return (
            Tlv.build(pkoc.TAG_PUBLIC_KEY, self.public_key).raw + Tlv.build(pkoc.TAG_SIGNATURE, signature).raw
        )

    # ------------------------------------------------------------ to another process

    def to_json(self) -> str:
        """Everything the card is, its private key included: it is a simulator's."""
        return json.dumps(self.state())

    def state(self) -> dict[str, Any]:
        """Give what ``restore`` reads: JSON types only."""
        scalar = f"{self.key.private_numbers().private_value:064x}" if self.key else None
        return {
            "variant": self.variant,
            "profile": self.profile.value,
            "private_key": scalar,
            "certificate": self.certificate.hex(),
            "locked": self.locked,
            "versions": [version.hex() for version in self.versions],
            "signing_ms": self.signing_ms,
            "serial": str(self.serial),
            "key_version": self.keys.version,
            "enc": self.keys.enc.hex(),
            "mac": self.keys.mac.hex(),
            "tries_left": self.tries_left,
        }

    @classmethod
    def from_json(cls, text: str) -> VirtualCard:
        """The card that ``to_json`` wrote, of the same variant. Raises ``MalformedData``."""
        try:
            state = json.loads(text)
            return VirtualCard.variants[state["variant"]].restore(state)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MalformedData("virtual card: not a card's JSON") from error

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Read one variant's own state."""
        scalar = state["private_key"]
        return cls(
            profile=Profile(state["profile"]),
            key=ec.derive_private_key(int(scalar, 16), CURVE) if scalar else None,
            certificate=bytes.fromhex(state["certificate"]),
            locked=bool(state["locked"]),
            versions=tuple(bytes.fromhex(version) for version in state["versions"]),
            signing_ms=float(state["signing_ms"]),
            serial=CardSerial.parse(state["serial"]),
            keys=KeySet(
                version=state["key_version"],
                enc=bytes.fromhex(state["enc"]),
                mac=bytes.fromhex(state["mac"]),
            ),
            tries_left=int(state["tries_left"]),
        )


VirtualCard.variants[VirtualCard.variant] = VirtualCard


class ReplayingCard(VirtualCard):
    """Signs once, then gives that answer to every challenge: a recording of a genuine card."""

    variant = "replaying"
    recorded = b""

    def sign(self, message: bytes) -> bytes:
        """Record the first signature, repeat it ever after."""
        self.recorded = self.recorded or super().sign(message)
        return self.recorded

    def state(self) -> dict[str, Any]:
        """Give the recording too."""
        return {**super().state(), "recorded": self.recorded.hex()}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Read the recording too."""
        card = super().restore(state)
        card.recorded = bytes.fromhex(state["recorded"])
        return card


class GarbageCard(VirtualCard):
    """Answers the first ``genuine_answers`` commands in a field properly, then noise that ends in 9000."""

    variant = "garbage"
    genuine_answers = 0

    def reset(self) -> None:
        """Begin to behave again."""
        super().reset()
        self._answered = 0

    def answer(self, command: bytes) -> bytes:
        """Answer genuinely or with noise that depends on the command alone."""
        self._answered += 1
        if self._answered <= self.genuine_answers:
            return super().answer(command)
        return hashlib.sha256(b"garbage" + command).digest() + b"\x90\x00"

    def state(self) -> dict[str, Any]:
        """Give the number too."""
        return {**super().state(), "genuine_answers": self.genuine_answers}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Read the number too."""
        card = super().restore(state)
        card.genuine_answers = int(state["genuine_answers"])
        return card


_V2_ONLY: Final = frozenset({Profile.V2})


def _issuers(handler: Callable[[Any, CommandAPDU], bytes], **row: Any) -> Instruction:
    return Instruction(cla=secure_channel.CLA_SECURE, handler=handler, secure=True, **row)


INSTRUCTIONS: Final[dict[int, Instruction]] = {
    0xA4: Instruction(cla=0x00, handler=VirtualCard.select, p1p2=0x0400),
    0xCA: Instruction(cla=0x00, handler=VirtualCard.get_data, p1p2=None, profiles=_V2_ONLY),
    0xC0: Instruction(cla=0x00, handler=VirtualCard.get_response, profiles=_V2_ONLY),
    0x88: Instruction(cla=0x00, handler=VirtualCard.internal_authenticate, profiles=_V2_ONLY, signs=True),
    0x80: Instruction(cla=0x80, handler=VirtualCard.authenticate, p1p2=0x0001, signs=True),
    personalisation.INS_GET_STATUS: Instruction(cla=0x80, handler=VirtualCard.get_status),
    secure_channel.INS_INITIALIZE_UPDATE: Instruction(
        cla=0x80, handler=VirtualCard.initialize_update, p1p2=None, takes_ms=CHANNEL_MS
    ),
    secure_channel.INS_EXTERNAL_AUTHENTICATE: Instruction(
        cla=0x84,
        handler=VirtualCard.external_authenticate,
        p1p2=secure_channel.SECURITY_LEVEL << 8,
        takes_ms=CHANNEL_MS + WRITING_MS,
    ),
    personalisation.INS_GENERATE_KEY: _issuers(VirtualCard.generate_key, takes_ms=KEY_MAKING_MS),
    personalisation.INS_STORE_DATA: _issuers(
        VirtualCard.store_data, p1p2=None, takes_ms=WRITING_MS, profiles=_V2_ONLY
    ),
    personalisation.INS_LOCK: _issuers(VirtualCard.lock, takes_ms=WRITING_MS, ends_channel=True),
    personalisation.INS_RESET: _issuers(VirtualCard.wipe, takes_ms=WRITING_MS, ends_channel=True),
}


def new_v2_card(
    *,
    issuer_key: ec.EllipticCurvePrivateKey,
    issuer: str,
    credential_id: CredentialId,
    valid_from: date,
    valid_until: date,
    subject: bytes = b"0000000000000000",
    extensions: tuple[tuple[bytes, bytes], ...] = (),
    signing_ms: float = SIGNING_MS,
) -> VirtualCard:
    """A personalised and locked V2 card. ``extensions`` stand after the UUID. Raises ``MalformedData``."""
    key = ec.generate_private_key(CURVE)
    certificate = cvc.issue(
        issuer_key=issuer_key,
        issuer=issuer,
        public_key=p256.encode_point(key.public_key()),
        subject=subject,
        valid_from=valid_from,
        valid_until=valid_until,
        extensions=((cvc.UUID_OID, bytes(credential_id)), *extensions),
    )
    return VirtualCard(key=key, certificate=certificate.raw, locked=True, signing_ms=signing_ms)


def new_v1_card(
    *, versions: tuple[bytes, ...] = (b"\x01\x01", b"\x01\x00"), signing_ms: float = SIGNING_MS
) -> VirtualCard:
    """A locked V1 card with a fresh key."""
    key = ec.generate_private_key(CURVE)
    return VirtualCard(profile=Profile.V1, key=key, locked=True, versions=versions, signing_ms=signing_ms)
