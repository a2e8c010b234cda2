"""What an issuer does to a virtual card: how far it is, the channel's opening, and what goes through it (docs/protocol.md)."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from pacs.card import cvc, p256, personalisation, secure_channel
from pacs.card.apdu import CommandAPDU
from pacs.card.card_keys import CardSerial
from pacs.card.personalisation import CardStatus, Life
from pacs.card.secure_channel import KeySet
from pacs.card.tlv import Tlv
from pacs.errors import MalformedData
from simulator.card_answers import (
    CONDITIONS,
    NO_DATA,
    NOT_AUTHENTICATED,
    WRONG_DATA,
    WRONG_LENGTH,
    WRONG_P1P2,
    Refusal,
)
from simulator.card_channel import CardChannel

TRIES: Final = 10
CURVE: Final = ec.SECP256R1()


@unique
class Profile(StrEnum):
    """Which PKOC secure element the card is; V2 answers V1 readers as well."""

    V1 = "v1"
    V2 = "v2"


class IssuingHalf:
    """The handlers of the issuer's instructions, over what they change on the card."""

    profile: Profile
    serial: CardSerial
    keys: KeySet
    tries_left: int
    key: ec.EllipticCurvePrivateKey | None
    certificate: bytes
    locked: bool
    _channel: CardChannel
    _chain: bytes
    _blocks: int

    @property
    def public_key(self) -> bytes:
        """The card's point, 65 bytes; empty while it has no key."""
        return p256.encode_point(self.key.public_key()) if self.key else b""

    @property
    def life(self) -> Life:
        """How far it has come."""
        if self.locked:
            return Life.LOCKED
        if self.certificate:
            return Life.CERTIFIED
        return Life.KEY_MADE if self.key else Life.BLANK

    def get_status(self, _command: CommandAPDU) -> bytes:
        """Whoever asks is told how far it is, its serial number and how many tries are left."""
        return bytes(CardStatus(life=self.life, serial=self.serial, tries_left=self.tries_left))

    def initialize_update(self, command: CommandAPDU) -> bytes:
        """A challenge for the issuer, and proof of the card's keys; ends a channel that was open."""
        if len(command.data) != secure_channel.CHALLENGE_BYTES:
            raise Refusal(WRONG_LENGTH)
        if command.p1 not in (0, self.keys.version):
            raise Refusal(NO_DATA)
        if not self.tries_left:
            raise Refusal(personalisation.DEAD)
        self._channel = CardChannel(self.keys, bytes(self.serial))
        return self._channel.greet(command.data)

    def external_authenticate(self, command: CommandAPDU) -> bytes:
        """Believe the issuer, or not. The try is taken before the proof is looked at: pulling the card saves none."""
        if not self._channel.is_greeting:
            raise Refusal(CONDITIONS)
        self.tries_left -= 1
        if not self._channel.open(command):
            raise Refusal(NOT_AUTHENTICATED)
        self.tries_left = TRIES
        return b""

    def generate_key(self, command: CommandAPDU) -> bytes:
        """Make a new key; a certificate on the card belongs to the old one and goes."""
        self._require_unlocked()
        if command.data:
            raise Refusal(WRONG_LENGTH)
        self.certificate = b""
        self.key = ec.generate_private_key(CURVE)
        point = Tlv.build(personalisation.TAG_POINT, self.public_key)
        return Tlv.build(personalisation.TAG_KEY, [point]).raw

    def store_data(self, command: CommandAPDU) -> bytes:
        """Take the certificate of this very key, block after block."""
        self._require_unlocked()
        if command.p2 == 0:
            self._chain, self._blocks = b"", 0
        if command.p2 != self._blocks or command.p1 not in (0x00, personalisation.LAST_BLOCK):
            raise Refusal(WRONG_P1P2)
        self._blocks += 1
        self._chain += command.data
        if len(self._chain) > cvc.MAX_CERTIFICATE_BYTES:
            raise Refusal(WRONG_LENGTH)
        if not command.p1:
            return b""
        whole, self._chain, self._blocks = self._chain, b"", 0
        try:
            certificate = cvc.Certificate.from_bytes(whole)
        except MalformedData as error:
            raise Refusal(WRONG_DATA) from error
        if certificate.public_key != self.public_key:
            raise Refusal(WRONG_DATA)
        self.certificate = whole
        return b""

    def lock(self, command: CommandAPDU) -> bytes:
        """End personalisation, and take the issuer's keys of administration, in one step."""
        self._require_unlocked()
        if self.key is None or (self.profile is Profile.V2 and not self.certificate):
            raise Refusal(CONDITIONS)
        size = (len(command.data) - 1) // 2
        try:
            self.keys = KeySet(
                version=command.data[0] if command.data else 0,
                enc=command.data[1 : 1 + size],
                mac=command.data[1 + size :],
            )
        except MalformedData as error:
            raise Refusal(WRONG_DATA) from error
        self.locked = True
        return b""

    def wipe(self, command: CommandAPDU) -> bytes:
        """Destroy key and certificate: the card is blank, under the keys it has."""
        if command.data:
            raise Refusal(WRONG_LENGTH)
        self.key, self.certificate, self.locked = None, b"", False
        return b""

    def _require_unlocked(self) -> None:
        if self.locked:
            raise Refusal(CONDITIONS)
