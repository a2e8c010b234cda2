"""The status words that a virtual card refuses with."""

from __future__ import annotations

from typing import Final

WRONG_LENGTH: Final = 0x6700
NOT_AUTHENTICATED: Final = 0x6300
SECURITY_STATUS: Final = 0x6982
CONDITIONS: Final = 0x6985
WRONG_DATA: Final = 0x6A80
NOT_FOUND: Final = 0x6A82
WRONG_P1P2: Final = 0x6A86
NO_DATA: Final = 0x6A88
WRONG_P1P2_V1: Final = 0x6B00
UNKNOWN_INS: Final = 0x6D00
UNKNOWN_CLA: Final = 0x6E00
FAULT: Final = 0x6F00


class Refusal(Exception):
    """Ends a command with a status word."""

    def __init__(self, status_word: int) -> None:
        super().__init__(f"{status_word:04X}")
        self.status_word = status_word
