"""A card's serial number, and the keys that follow from it: one set for each card, diversified from a master.

NIST SP 800-108 r1 in counter mode with AES-CMAC; the label says which key, the context which set of which card. Whoever
opens one card learns nothing about another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode

from pacs.card.secure_channel import SERIAL_BYTES, KeySet
from pacs.errors import MalformedData

MASTER_BYTES: Final = 32
TRANSPORT_VERSION: Final = 0x30
FIRST_ADMINISTRATION_VERSION: Final = 0x31
LAST_ADMINISTRATION_VERSION: Final = 0x3F

SIMULATED_BATCH: Final = "SIM0"
SIMULATED_MASTER: Final = bytes(range(0x40, 0x60))
"""Printed here, so it protects nothing: the batch of the simulator's cards."""

_BATCH: Final = re.compile(r"[A-Z0-9]{4}")
_TEXT: Final = re.compile(r"([A-Z0-9]{4})-([0-9A-F]{12})")


@dataclass(frozen=True, slots=True)
class CardSerial:
    """The number a chip carries from its maker: ``value`` is 4 characters A–Z 0–9 of its batch and 6 bytes.

    It names a chip in the stock, never a person. Written ``B001-00000000002A``.
    """

    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != SERIAL_BYTES:
            raise MalformedData("card serial number: 10 bytes expected")
        check_batch(self.value[:4].decode("latin-1"))

    @property
    def batch(self) -> str:
        """Which delivery of blank cards it came with."""
        return self.value[:4].decode("ascii")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` writes. Raises ``MalformedData``."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise MalformedData("card serial number: BBBB-NNNNNNNNNNNN expected")
        return cls(match[1].encode("ascii") + bytes.fromhex(match[2]))

    def __bytes__(self) -> bytes:
        return self.value

    def __str__(self) -> str:
        return f"{self.batch}-{self.value[4:].hex().upper()}"


def check_batch(text: str) -> str:
    """``text`` if it names a batch: 4 characters A–Z 0–9. Raises ``MalformedData``."""
    if not _BATCH.fullmatch(text):
        raise MalformedData("batch of cards: 4 characters A-Z 0-9 expected")
    return text


def diversify(master: bytes, version: int, serial: CardSerial) -> KeySet:
    """The set ``version`` of one card's keys, two of 32 bytes. ``master``: 32 bytes. Raises ``MalformedData``."""
    if len(master) != MASTER_BYTES:
        raise MalformedData("master key: 32 bytes expected")
    context = bytes((version,)) + bytes(serial)
    return KeySet(
        version=version,
        enc=_derive(master, b"Drempel card ENC", context),
        mac=_derive(master, b"Drempel card MAC", context),
    )


def _derive(master: bytes, label: bytes, context: bytes) -> bytes:
    return KBKDFCMAC(
        algorithms.AES,
        Mode.CounterMode,
        MASTER_BYTES,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    ).derive(master)
