"""The card's half of the issuer's channel (SCP03): it greets, believes or does not, and then checks every MAC."""

from __future__ import annotations

import hmac
import os
from contextlib import suppress
from dataclasses import replace

from pacs.card.apdu import CommandAPDU, ResponseAPDU
from pacs.card.secure_channel import (
    BLOCK_BYTES,
    CHALLENGE_BYTES,
    MAC_BYTES,
    KeySet,
    SessionKeys,
    answer_mac,
    command_mac,
    crypt,
    pad,
    unpad,
)
from pacs.errors import MalformedData

SECURE_MESSAGING_INCORRECT = 0x6988
SECURITY_STATUS = 0x6982
_INFORMATION = bytes((0x03, 0x60))  # SCP03; random challenges, R-MAC and R-ENCRYPTION


class ChannelRefuses(Exception):
    """A command that does not belong in this channel; ``status_word`` says why. The channel has ended."""

    def __init__(self, status_word: int) -> None:
        super().__init__(f"{status_word:04X}")
        self.status_word = status_word


class CardChannel:
    """One session; it can be greeted in once, opened once, and ends with the first thing that is wrong."""

    def __init__(self, keys: KeySet, serial: bytes) -> None:
        self._card_keys = keys
        self._serial = serial
        self._keys: SessionKeys | None = None
        self._chaining = bytes(BLOCK_BYTES)
        self._counter = 0
        self._is_open = False

    @property
    def is_greeting(self) -> bool:
        """Whether the issuer's proof is awaited."""
        return self._keys is not None and not self._is_open

    def greet(self, host_challenge: bytes) -> bytes:
        """What INITIALIZE UPDATE answers."""
        challenge = os.urandom(CHALLENGE_BYTES)
        self._keys = SessionKeys.derive(self._card_keys, host_challenge, challenge)
        head = self._serial + bytes((self._card_keys.version,)) + _INFORMATION
        return head + challenge + self._keys.card_cryptogram

    def open(self, command: CommandAPDU) -> bool:
        """Whether EXTERNAL AUTHENTICATE is the issuer's; if not, the session has ended."""
        keys = self._keys
        if keys is None:
            return False
        proof, mac = command.data[:-MAC_BYTES], command.data[-MAC_BYTES:]
        with suppress(MalformedData):
            self._chaining = command_mac(keys, self._chaining, replace(command, data=proof))
        self._is_open = hmac.compare_digest(proof + mac, keys.host_cryptogram + self._chaining[:MAC_BYTES])
        if not self._is_open:
            self.close()
        return self._is_open

    def close(self) -> None:
        """End the session."""
        self._keys = None
        self._is_open = False

    def unwrap(self, command: CommandAPDU) -> CommandAPDU:
        """The command that the issuer meant. Raises ``ChannelRefuses``."""
        keys = self._keys
        if keys is None or not self._is_open:
            raise ChannelRefuses(SECURITY_STATUS)
        body, mac = command.data[:-MAC_BYTES], command.data[-MAC_BYTES:]
        self._counter += 1
        try:
            self._chaining = command_mac(keys, self._chaining, replace(command, data=body))
            if not hmac.compare_digest(mac, self._chaining[:MAC_BYTES]):
                raise MalformedData("another MAC")
            if len(body) % BLOCK_BYTES:
                raise MalformedData("not whole blocks")
            plain = unpad(crypt(keys, self._counter, body, is_answer=False, decrypt=True)) if body else b""
        except MalformedData as error:
            self.close()
            raise ChannelRefuses(SECURE_MESSAGING_INCORRECT) from error
        return replace(command, data=plain)

    def wrap(self, data: bytes) -> ResponseAPDU:
        """The good answer that carries ``data``. Raises ``ChannelRefuses`` when the session has ended."""
        keys = self._keys
        if keys is None:
            raise ChannelRefuses(SECURITY_STATUS)
        body = crypt(keys, self._counter, pad(data), is_answer=True, decrypt=False) if data else b""
        return ResponseAPDU(data=body + answer_mac(keys, self._chaining, ResponseAPDU(data=body)))
