"""``drempel-desk bridge``: the card in a reader, for another program, line by line.

A line of hex is a command for the card, and its answer a line of hex: what ``drempel-sim card --stdio`` says too. Beyond
that a program may ask ``?card SECONDS`` and is answered ``?card`` or ``?none``; ``?lifted SECONDS``, and is answered
``?lifted`` or ``?card``. What goes wrong is a line ``!fault detail``; the next command begins with whatever card is there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import BinaryIO, Final

from edge.config import Backend
from edge.nfc.reader import Antenna
from edge.nfc.transaction import Contact
from pacs.card.dialogue import nothing
from pacs.errors import CardError, CardGone, MalformedData, ReaderBroken

MAX_LINE_BYTES: Final = 2 * (4 + 3 + 65535 + 2) + 2
CARD_S: Final = 5.0
"""How long a command waits for a card to be sent to."""
LONGEST_WAIT_S: Final = 8.0
CONVERSATION_S: Final = 30.0
"""How long one card may be spoken to, from the first command on."""
DEPARTURE_S: Final = 0.3
_POLL_S: Final = 0.25
_WATCH_S: Final = 0.05
_NOT_HEX: Final = b"6f00"


def parse_reader(text: str) -> tuple[Backend, str]:
    """``pn532:/dev/ttyUSB0`` or ``pcsc:NAME``. Raises ``MalformedData``."""
    kind, colon, device = text.partition(":")
    if kind not in set(Backend) or not colon or not device:
        raise MalformedData(
            f"reader: {' or '.join(f'{each}:DEVICE' for each in Backend)} expected, as pn532:/dev/ttyUSB0"
        )
    return Backend(kind), device


class Bridge:
    """One antenna behind lines. ``answer`` never raises for card or reader."""

    def __init__(
        self,
        antenna: Antenna,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        rest: Callable[[float], object] = time.sleep,
    ) -> None:
        self._antenna = antenna
        self._monotonic_ns = monotonic_ns
        self._rest = rest
        self._is_open = False
        self._contact: Contact | None = None
        self._is_active = False

    def serve(self, commands: BinaryIO, answers: BinaryIO) -> None:
        """Answer each line with one, until the end of input; then the reader is given back."""
        try:
            while line := commands.readline(MAX_LINE_BYTES + 1):
                answers.write(self.answer(line) + b"\n")
                answers.flush()
        finally:
            self._antenna.close()

    def answer(self, line: bytes) -> bytes:
        """The answer to one line, without its end."""
        try:
            if line.startswith(b"?"):
                return self._ask(line.decode("ascii", "replace").split())
            try:
                command = bytes.fromhex(line.decode("ascii"))
            except ValueError:
                return _NOT_HEX
            return self._send(command).hex().encode()
        except ReaderBroken as error:
            self._broke()
            return _fault("reader_broken", f"{error}{f'; {error.advice}' if error.advice else ''}")
        except CardError as error:
            self._let_go()
            return _fault(error.fault.value, str(error))

    # ---- what may be asked

    def _ask(self, words: list[str]) -> bytes:
        try:
            what, seconds = words
            until_ns = self._monotonic_ns() + round(min(max(float(seconds), 0.0), LONGEST_WAIT_S) * 1e9)
        except ValueError:
            return _NOT_HEX
        if what == "?card":
            return b"?card" if self._found(until_ns) else b"?none"
        if what == "?lifted":
            return b"?lifted" if self._is_lifted(until_ns) else b"?card"
        return _NOT_HEX

    def _send(self, command: bytes) -> bytes:
        contact = self._found(self._monotonic_ns() + round(CARD_S * 1e9))
        if contact is None:
            raise CardGone(f"no card within {CARD_S:g} s")
        if not self._is_active:
            contact.activate(self._monotonic_ns() + round(CONVERSATION_S * 1e9))
            self._is_active = True
        return contact.transceive(command, nothing)

    # ---- the field

    def _found(self, until_ns: int) -> Contact | None:
        """The card that is spoken to already, or the first to come until then."""
        if not self._is_open:
            self._antenna.open()
            self._is_open = True
        while self._contact is None:
            slice_ns = min(self._monotonic_ns() + round(_POLL_S * 1e9), until_ns)
            self._contact = self._antenna.poll(slice_ns)
            if self._contact is None and self._monotonic_ns() >= until_ns:
                break
        return self._contact

    def _is_lifted(self, until_ns: int) -> bool:
        """Whether no card has lain there for ``DEPARTURE_S`` before ``until_ns``."""
        while self._monotonic_ns() < until_ns:
            if self._contact is not None and self._is_active and self._contact.is_present():
                self._rest(_WATCH_S)
                continue
            self._let_go()
            if self._found(self._monotonic_ns() + round(DEPARTURE_S * 1e9)) is None:
                return True
            self._rest(_WATCH_S)
        return False

    def _let_go(self) -> None:
        contact, self._contact, self._is_active = self._contact, None, False
        if contact is not None:
            try:
                contact.release()
            except ReaderBroken:
                self._broke()

    def _broke(self) -> None:
        self._contact, self._is_active, self._is_open = None, False, False
        with contextlib.suppress(ReaderBroken):
            self._antenna.close()


def _fault(name: str, detail: str) -> bytes:
    return f"!{name} {' '.join(detail.split())}".encode("ascii", "replace")
