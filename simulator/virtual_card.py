"""A PKOC card without plastic: the card's half of ``docs/protocol.md``, driven by a table of instructions.

A ``VirtualCard`` sees command APDUs only; blocks, frames and the field are ``simulator.rf_link``'s.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum, unique
from typing import Any, ClassVar, Final, Self

from cryptography.hazmat.primitives.asymmetric import ec

from pacs.card import cvc, p256, personalisation, pkoc
from pacs.card.apdu import SHORT_LE, CommandAPDU, ResponseAPDU
from pacs.card.dialogue import CHAINING_CLA
from pacs.card.tlv import Tlv, parse_one_byte, require
from pacs.errors import MalformedData
from pacs.identifiers import CredentialId

SIGNING_MS: Final = 33.0  # JCOP4 P71
INFO: Final = bytes.fromhex("7F63045C020200")
CURVE: Final = ec.SECP256R1()

WRONG_LENGTH: Final = 0x6700
CONDITIONS: Final = 0x6985
WRONG_DATA: Final = 0x6A80
NOT_FOUND: Final = 0x6A82
WRONG_P1P2: Final = 0x6A86
NO_DATA: Final = 0x6A88
WRONG_P1P2_V1: Final = 0x6B00
UNKNOWN_INS: Final = 0x6D00
UNKNOWN_CLA: Final = 0x6E00
FAULT: Final = 0x6F00


@unique
class Profile(StrEnum):
    """Which PKOC secure element the card is; V2 answers V1 readers as well."""

    V1 = "v1"
    V2 = "v2"


class Refusal(Exception):
    """Ends a command with a status word."""

    def __init__(self, status_word: int) -> None:
        super().__init__(f"{status_word:04X}")
        self.status_word = status_word


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One row of the table; ``p1p2`` None means the handler looks at them, ``signs`` that it takes time."""

    cla: int
    handler: Callable[[Any, CommandAPDU], bytes]
    p1p2: int | None = 0x0000
    profiles: frozenset[Profile] = frozenset(Profile)
    signs: bool = False


class VirtualCard:
    """One card, blank unless it is given a key. ``signing_ms`` is what a signature would take it.

    ``versions`` are those SELECT answers, newest first, each two bytes.
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
    ) -> None:
        self.profile = profile
        self.key = key
        self.certificate = certificate
        self.locked = locked
        self.versions = versions
        self.signing_ms = signing_ms
        self.reset()

    def __init_subclass__(cls) -> None:
        VirtualCard.variants[cls.variant] = cls

    @property
    def public_key(self) -> bytes:
        """The card's point, 65 bytes; empty while it has no key."""
        return p256.encode_point(self.key.public_key()) if self.key else b""

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
        return self.signing_ms if row is not None and row.signs and self._selected else 0.0

    def _answer(self, command: CommandAPDU) -> ResponseAPDU:
        row = INSTRUCTIONS.get(command.ins)
        if command.cla & ~CHAINING_CLA not in (0x00, 0x80):
            raise Refusal(UNKNOWN_CLA)
        if row is None or self.profile not in row.profiles:
            raise Refusal(UNKNOWN_INS)
        chained = bool(command.cla & CHAINING_CLA)
        if command.cla & ~CHAINING_CLA != row.cla or (chained and command.ins != personalisation.INS_WRITE):
            raise Refusal(UNKNOWN_CLA)
        if row.p1p2 is not None and row.p1p2 != command.p1 << 8 | command.p2:
            raise Refusal(WRONG_P1P2_V1 if self.profile is Profile.V1 else WRONG_P1P2)
        if not self._selected and command.ins != 0xA4:
            raise Refusal(CONDITIONS)
        if command.ins != 0xC0:
            self._rest = b""
        if command.ins != personalisation.INS_WRITE:
            self._chain = b""
        data = row.handler(self, command)
        room = SHORT_LE if command.le is None else command.le
        if room < len(data) <= SHORT_LE and command.ins != 0xC0:
            raise Refusal(0x6C00 | len(data) & 0xFF)
        return self._first_part(data, room)

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

    def generate_key(self, command: CommandAPDU) -> bytes:
        """Make a new key; a certificate on the card belongs to the old one and goes."""
        self._require_unlocked()
        if command.data:
            raise Refusal(WRONG_LENGTH)
        self.key = ec.generate_private_key(CURVE)
        self.certificate = b""
        point = Tlv.build(personalisation.TAG_POINT, self.public_key)
        return Tlv.build(personalisation.TAG_KEY, [point]).raw

    def write(self, command: CommandAPDU) -> bytes:
        """Take the certificate of this very key, in one command or a chain."""
        self._require_unlocked()
        self._chain += command.data
        if len(self._chain) > cvc.MAX_CERTIFICATE_BYTES:
            self._chain = b""
            raise Refusal(WRONG_LENGTH)
        if command.cla & CHAINING_CLA:
            return b""
        whole, self._chain = self._chain, b""
        try:
            certificate = cvc.Certificate.from_bytes(whole)
        except MalformedData as error:
            raise Refusal(WRONG_DATA) from error
        if certificate.public_key != self.public_key:
            raise Refusal(WRONG_DATA)
        self.certificate = whole
        return b""

    def lock(self, _command: CommandAPDU) -> bytes:
        """End personalisation for ever."""
        self._require_unlocked()
        if self.key is None or (self.profile is Profile.V2 and not self.certificate):
            raise Refusal(CONDITIONS)
        self.locked = True
        return b""

    def _require_unlocked(self) -> None:
        if self.locked:
            self._chain = b""
            raise Refusal(CONDITIONS)

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

INSTRUCTIONS: Final[dict[int, Instruction]] = {
    0xA4: Instruction(cla=0x00, handler=VirtualCard.select, p1p2=0x0400),
    0xCA: Instruction(cla=0x00, handler=VirtualCard.get_data, p1p2=None, profiles=_V2_ONLY),
    0xC0: Instruction(cla=0x00, handler=VirtualCard.get_response, profiles=_V2_ONLY),
    0x88: Instruction(cla=0x00, handler=VirtualCard.internal_authenticate, profiles=_V2_ONLY, signs=True),
    0x80: Instruction(cla=0x80, handler=VirtualCard.authenticate, p1p2=0x0001, signs=True),
    personalisation.INS_GENERATE_KEY: Instruction(cla=0x80, handler=VirtualCard.generate_key),
    personalisation.INS_WRITE: Instruction(
        cla=0x80, handler=VirtualCard.write, p1p2=cvc.CERTIFICATE, profiles=_V2_ONLY
    ),
    personalisation.INS_LOCK: Instruction(cla=0x80, handler=VirtualCard.lock),
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
