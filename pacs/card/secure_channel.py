"""The issuer's channel to a card: SCP03 (GlobalPlatform Card Specification 2.3, Amendment D 1.2), AES, 8-byte MACs.

Both sides prove that they hold the card's keys; then every command and every good answer is encrypted and carries a
MAC that chains it to the one before, so that nothing can be added, left out, moved or taken from another session.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Self

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode

from pacs.card.apdu import SHORT_DATA_BYTES, SHORT_LE, CommandAPDU, ResponseAPDU
from pacs.card.dialogue import Dialogue, Step
from pacs.errors import CardError, CardNotGenuine, MalformedData
from pacs.reason import ReadFault

CLA: Final = 0x80
CLA_SECURE: Final = 0x84
INS_INITIALIZE_UPDATE: Final = 0x50
INS_EXTERNAL_AUTHENTICATE: Final = 0x82
SECURITY_LEVEL: Final = 0x33  # C-MAC, C-DECRYPTION, R-MAC, R-ENCRYPTION
SERIAL_BYTES: Final = 10
CHALLENGE_BYTES: Final = 8
MAC_BYTES: Final = 8
BLOCK_BYTES: Final = 16
MAX_DATA_BYTES: Final = 239
"""What one short command holds: with padding and MAC it fills 248 bytes."""

_CARD_CRYPTOGRAM, _HOST_CRYPTOGRAM = 0x00, 0x01  # Amendment D, table 4-1
_S_ENC, _S_MAC, _S_RMAC = 0x04, 0x06, 0x07
_SCP03: Final = 0x03
_SEQUENCE_BYTES: Final = 3  # after the answer of a card whose challenges are pseudo-random


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """One card's keys: ``version`` (1 to 127) names them; ``enc`` and ``mac`` are AES keys of one length."""

    version: int
    enc: bytes = field(repr=False)
    mac: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if (
            not 1 <= self.version <= 127
            or len(self.enc) not in (16, 24, 32)
            or len(self.mac) != len(self.enc)
        ):
            raise MalformedData("key set: a version of 1 to 127 and two AES keys of one length expected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a card answers to INITIALIZE UPDATE; it proves nothing yet.

    ``serial`` (10 bytes) is what its keys are diversified by, ``key_version`` the set it uses.
    """

    serial: bytes
    key_version: int
    challenge: bytes
    cryptogram: bytes

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read 29 bytes, or 32 with a sequence counter. Raises ``MalformedData``."""
        if len(raw) not in (29, 29 + _SEQUENCE_BYTES):
            raise MalformedData("INITIALIZE UPDATE: 29 or 32 bytes expected")
        if raw[11] != _SCP03:
            raise MalformedData("INITIALIZE UPDATE: a card of SCP03 expected")
        return cls(serial=raw[:10], key_version=raw[10], challenge=raw[13:21], cryptogram=raw[21:29])


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Keys of one session, derived from a card's keys and both challenges, and the two cryptograms."""

    enc: bytes = field(repr=False)
    mac: bytes = field(repr=False)
    rmac: bytes = field(repr=False)
    card_cryptogram: bytes
    host_cryptogram: bytes

    @classmethod
    def derive(cls, keys: KeySet, host_challenge: bytes, card_challenge: bytes) -> Self:
        """Amendment D §6.2: SP 800-108 in counter mode with CMAC."""
        context = host_challenge + card_challenge
        size = len(keys.mac)
        mac = _derive(keys.mac, _S_MAC, size, context)
        return cls(
            enc=_derive(keys.enc, _S_ENC, size, context),
            mac=mac,
            rmac=_derive(keys.mac, _S_RMAC, size, context),
            card_cryptogram=_derive(mac, _CARD_CRYPTOGRAM, MAC_BYTES, context),
            host_cryptogram=_derive(mac, _HOST_CRYPTOGRAM, MAC_BYTES, context),
        )


def _derive(key: bytes, constant: int, size: int, context: bytes) -> bytes:
    label = bytes(11) + bytes((constant, 0x00)) + (8 * size).to_bytes(2, "big")
    return KBKDFCMAC(
        algorithms.AES,
        Mode.CounterMode,
        size,
        rlen=1,
        llen=None,
        location=CounterLocation.MiddleFixed,
        label=None,
        context=None,
        fixed=label + context,
        break_location=len(label),
    ).derive(key)


def cmac(key: bytes, data: bytes) -> bytes:
    """AES-CMAC (RFC 4493), 16 bytes."""
    mac = CMAC(algorithms.AES(key))
    mac.update(data)
    return mac.finalize()


def command_mac(keys: SessionKeys, chaining: bytes, command: CommandAPDU) -> bytes:
    """The whole MAC over a short ``command``, whose length field counts its MAC in; its first half is sent (§6.2.4).

    Raises ``MalformedData`` when it has no room for one.
    """
    if len(command.data) + MAC_BYTES > SHORT_DATA_BYTES:
        raise MalformedData("secure channel: short commands only")
    head = bytes((command.cla, command.ins, command.p1, command.p2, len(command.data) + MAC_BYTES))
    return cmac(keys.mac, chaining + head + command.data)


def answer_mac(keys: SessionKeys, chaining: bytes, answer: ResponseAPDU) -> bytes:
    """What stands at the end of an answer (§6.2.5)."""
    return cmac(keys.rmac, chaining + bytes(answer))[:MAC_BYTES]


def crypt(keys: SessionKeys, counter: int, data: bytes, *, is_answer: bool, decrypt: bool) -> bytes:
    """CBC under a vector made of the command's number, without padding (§6.2.6, §6.2.7)."""
    number = bytearray(counter.to_bytes(BLOCK_BYTES, "big"))
    number[0] |= 0x80 if is_answer else 0
    first = Cipher(algorithms.AES(keys.enc), modes.ECB()).encryptor()  # noqa: S305 - one block, as specified
    cipher = Cipher(algorithms.AES(keys.enc), modes.CBC(first.update(bytes(number)) + first.finalize()))
    work = cipher.decryptor() if decrypt else cipher.encryptor()
    return work.update(data) + work.finalize()


def pad(data: bytes) -> bytes:
    """80, then zeros up to whole blocks (ISO/IEC 9797-1, method 2)."""
    return data + b"\x80" + bytes(-(len(data) + 1) % BLOCK_BYTES)


def unpad(data: bytes) -> bytes:
    """Take the padding off. Raises ``MalformedData``."""
    body = data.rstrip(b"\x00")
    if not data or len(data) % BLOCK_BYTES or body[-1:] != b"\x80" or len(data) - len(body) >= BLOCK_BYTES:
        raise MalformedData("secure channel: padding expected")
    return body[:-1]


KeysOf = Callable[[Greeting], KeySet]
"""The keys of the card that greets so; raises ``PacsError`` when there are none."""


class SecureChannel:
    """An open session with one card; it ends with the first answer that is not authentic."""

    def __init__(self, keys: SessionKeys, chaining: bytes) -> None:
        self._keys = keys
        self._chaining = chaining
        self._counter = 0
        self._is_open = True

    def wrap(self, command: CommandAPDU) -> CommandAPDU:
        """The command as it is sent. Raises ``MalformedData`` above ``MAX_DATA_BYTES``."""
        if len(command.data) > MAX_DATA_BYTES:
            raise MalformedData(f"secure channel: at most {MAX_DATA_BYTES} bytes in one command")
        self._counter += 1
        data = command.data
        if data:
            data = crypt(self._keys, self._counter, pad(data), is_answer=False, decrypt=False)
        sent = replace(command, cla=CLA_SECURE, data=data)
        self._chaining = command_mac(self._keys, self._chaining, sent)
        return replace(sent, data=data + self._chaining[:MAC_BYTES])

    def unwrap(self, answer: ResponseAPDU) -> bytes:
        """The data of a good answer. Raises ``CardNotGenuine`` unless the card made it, to this command."""
        body, mac = answer.data[:-MAC_BYTES], answer.data[-MAC_BYTES:]
        expected = answer_mac(self._keys, self._chaining, replace(answer, data=body))
        if not self._is_open or not hmac.compare_digest(mac, expected):
            self._is_open = False
            raise CardNotGenuine("an answer in the issuer's channel is not the card's")
        if not body:
            return b""
        try:
            if len(body) % BLOCK_BYTES:
                raise MalformedData("secure channel: whole blocks expected")
            return unpad(crypt(self._keys, self._counter, body, is_answer=True, decrypt=True))
        except MalformedData as error:
            self._is_open = False
            raise CardNotGenuine(str(error)) from error

    def send(self, command: CommandAPDU, name: str) -> Dialogue[bytes]:
        """Exchange one command. Raises ``CardError(STATUS_WORD)`` for a bad answer, which carries no MAC."""
        answer: ResponseAPDU = yield Step(command=self.wrap(command))
        self._is_open = self._is_open and answer.ok
        _require(answer, name)
        return self.unwrap(answer)


def initialize_update(host_challenge: bytes) -> CommandAPDU:
    """Ask for the card's challenge and its proof that it knows its keys; P1 00: whichever set it uses."""
    return CommandAPDU(cla=CLA, ins=INS_INITIALIZE_UPDATE, data=host_challenge, le=SHORT_LE)


def external_authenticate(keys: SessionKeys) -> tuple[CommandAPDU, bytes]:
    """The issuer's proof, and the MAC that the session's chain begins with."""
    command = CommandAPDU(
        cla=CLA_SECURE, ins=INS_EXTERNAL_AUTHENTICATE, p1=SECURITY_LEVEL, data=keys.host_cryptogram
    )
    chaining = command_mac(keys, bytes(BLOCK_BYTES), command)
    return replace(command, data=command.data + chaining[:MAC_BYTES]), chaining


def open_channel(keys_of: KeysOf, host_challenge: bytes) -> Dialogue[tuple[Greeting, SecureChannel]]:
    """Authenticate both sides with the selected card. ``host_challenge``: 8 fresh bytes.

    The card proves itself first: one that does not is told nothing and loses no try. Raises ``CardNotGenuine``,
    ``CardError(STATUS_WORD)`` (6300: it does not believe us; 6983: it believes nobody any more), what ``keys_of`` raises.
    """
    answer: ResponseAPDU = yield Step(command=initialize_update(host_challenge))
    _require(answer, "INITIALIZE UPDATE")
    try:
        greeting = Greeting.from_bytes(answer.data)
    except MalformedData as error:
        raise CardNotGenuine(str(error)) from error
    session = SessionKeys.derive(keys_of(greeting), host_challenge, greeting.challenge)
    if not hmac.compare_digest(session.card_cryptogram, greeting.cryptogram):
        raise CardNotGenuine("the card does not hold the keys of its serial number")
    command, chaining = external_authenticate(session)
    answer = yield Step(command=command)
    _require(answer, "EXTERNAL AUTHENTICATE")
    return greeting, SecureChannel(session, chaining)


def _require(answer: ResponseAPDU, name: str) -> None:
    if not answer.ok:
        message = f"{name} answered {answer.status_word:04X}"
        raise CardError(ReadFault.STATUS_WORD, message, status_word=answer.status_word)
