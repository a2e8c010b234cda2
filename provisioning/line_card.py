"""A card at the other end of two pipes: a command a line, an answer a line, both hex.

The other end is ``drempel-desk bridge``, ``drempel-sim card --stdio``, or any program that relays lines to a card in a
reader. One that knows can be asked whether a card lies there, and says in words what is wrong.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pacs.errors import CardError, CardGone, CardMisbehaves, MalformedData, ReaderBroken
from pacs.reason import ReadFault

ANSWER_S: Final = 10.0
LONGEST_LINE_BYTES: Final = 2 * 65538 + 2
_STOP_S: Final = 2.0
_ASK_S: Final = 5.0
_READER: Final = re.compile(r"(pn532|pcsc):.+")


class LineCard:
    """A ``Transceive`` over two file descriptors, with ``answer_s`` seconds for each answer."""

    def __init__(self, *, commands: int, answers: int, answer_s: float = ANSWER_S) -> None:
        self._commands = commands
        self._answers = answers
        self._answer_s = answer_s
        self._received = b""

    def __call__(self, command: bytes, meanwhile: Callable[[], None]) -> bytes:
        """Exchange one command for its answer.

        Raises ``ReaderBroken`` when nothing takes the command, ``CardGone`` when no answer comes,
        ``CardMisbehaves`` when the answer is not a line of hex, and what the other end says is wrong.
        """
        self._say(command.hex().upper())
        meanwhile()
        try:
            return bytes.fromhex(self._answer())
        except ValueError as error:
            raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, "a line of hex expected") from error

    def await_card(self, limit_s: float) -> bool:
        """Whether a card lies there before ``limit_s`` is over; one that cannot tell has one. Raises as a command."""
        return self._ask("?card", "?none", limit_s)

    def await_lift(self, limit_s: float) -> bool:
        """Whether the card is taken away before ``limit_s`` is over; one that cannot tell says so at once."""
        return self._ask("?lifted", "?card", limit_s)

    def _ask(self, question: str, not_yet: str, limit_s: float) -> bool:
        until = time.monotonic() + limit_s
        while True:
            left_s = until - time.monotonic()
            self._say(f"{question} {min(max(left_s, 0.0), _ASK_S):.1f}")
            if self._answer() != not_yet:
                return True
            if left_s <= 0:
                return False

    def _say(self, text: str) -> None:
        line = text.encode("ascii") + b"\n"
        try:
            while line:
                line = line[os.write(self._commands, line) :]
        except OSError as error:
            raise ReaderBroken(f"nothing takes the card's commands ({error.strerror})") from error

    def _answer(self) -> str:
        """A line; one that begins with ! is raised as what it says."""
        text = self._line().decode("ascii", "replace").strip()
        if not text.startswith("!"):
            return text
        name, _, detail = text[1:].partition(" ")
        if name == ReadFault.CARD_GONE:
            raise CardGone(detail)
        if name in set(ReadFault):
            raise CardError(ReadFault(name), detail)
        raise ReaderBroken(detail or name)

    def _line(self) -> bytes:
        deadline = time.monotonic() + self._answer_s
        while b"\n" not in self._received:
            if len(self._received) > LONGEST_LINE_BYTES:
                raise CardMisbehaves(
                    ReadFault.LENGTH_LIMIT, f"a line of more than {LONGEST_LINE_BYTES} bytes"
                )
            if not select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise CardGone(f"no answer within {self._answer_s:g} s")
            chunk = os.read(self._answers, 65536)
            if not chunk:
                raise CardGone("the other end closed its output")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line


def check_reader(text: str) -> str:
    """``text`` if it is ``pn532:DEVICE`` or ``pcsc:NAME``. Raises ``MalformedData``."""
    if not _READER.fullmatch(text):
        raise MalformedData("reader: pn532:DEVICE or pcsc:NAME expected, as pn532:/dev/ttyUSB0")
    return text


def bridge_command(reader: str) -> str:
    """What starts the program that speaks to the card in ``reader`` (``pn532:DEVICE``, ``pcsc:NAME``).

    Raises ``ReaderBroken`` when it is not installed.
    """
    beside = Path(sys.executable).with_name("drempel-desk")
    program = str(beside) if beside.exists() else shutil.which("drempel-desk")
    if program is None:
        raise ReaderBroken("drempel-desk is not installed here", "pip install 'drempel[desk]'")
    return shlex.join([program, "bridge", "--reader", reader])


@contextmanager
def card_process(command_line: str) -> Iterator[LineCard]:
    """Start a program that is a card, and stop it afterwards; what it says on standard error is dropped.

    Raises ``ReaderBroken`` when it cannot be started.
    """
    try:
        arguments = shlex.split(command_line)
        process = subprocess.Popen(  # noqa: S603 - the operator names the program
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except (OSError, ValueError, IndexError) as error:
        raise ReaderBroken(f"card process {command_line!r}: cannot be started ({error})") from error
    if process.stdin is None or process.stdout is None:
        raise ReaderBroken(f"card process {command_line!r}: has no pipes")
    with process:
        try:
            yield LineCard(commands=process.stdin.fileno(), answers=process.stdout.fileno())
        finally:
            process.stdin.close()  # end of input is how it is asked to stop
            try:
                process.wait(timeout=_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
