"""A card at the other end of two pipes: a command a line, an answer a line, both hex.

The other end is ``drempel-sim card --stdio``, or any program that relays lines to a card in a reader.
"""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pacs.errors import CardGone, CardMisbehaves, ReaderBroken
from pacs.reason import ReadFault

ANSWER_S: Final = 10.0
LONGEST_LINE_BYTES: Final = 2 * 65538 + 2
_STOP_S: Final = 2.0


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
        ``CardMisbehaves`` when the answer is not a line of hex.
        """
        line = command.hex().upper().encode("ascii") + b"\n"
        try:
            while line:
                line = line[os.write(self._commands, line) :]
        except OSError as error:
            raise ReaderBroken(f"nothing takes the card's commands ({error.strerror})") from error
        meanwhile()
        try:
            return bytes.fromhex(self._line().decode("ascii"))
        except ValueError as error:
            raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, "a line of hex expected") from error

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
