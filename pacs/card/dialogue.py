"""Running a conversation with a card.

A dialogue is a generator: it yields a ``Step`` and receives the card's ``ResponseAPDU``. It knows
nothing of the antenna, of ``61xx`` or of command chaining; those are wrappers over ``Transceive``.

::

    run(present(...), get_response(command_chaining(contact.transceive)))
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

from pacs.card.apdu import SHORT_DATA_BYTES, SHORT_LE, CommandAPDU, ResponseAPDU
from pacs.errors import CardMisbehaves, MalformedData
from pacs.reason import ReadFault

MAX_ANSWER_BYTES: Final = 4096
MAX_GET_RESPONSES: Final = 32
CHAINING_CLA: Final = 0x10
CHANNEL_CLA: Final = 0x03


def nothing() -> None:
    """Do nothing: the default of ``Step.meanwhile``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command, and work to do while the card computes its answer.

    ``meanwhile`` must not raise and must return well before a card's answer is due (tens of ms).
    """

    command: CommandAPDU
    meanwhile: Callable[[], None] = nothing


T = TypeVar("T")
Dialogue = Generator[Step, ResponseAPDU, T]


class Transceive(Protocol):
    """The way to one card in the field."""

    def __call__(self, command: bytes, meanwhile: Callable[[], None]) -> bytes:
        """Send ``command``, run ``meanwhile`` once it is out, return the answer with its status word.

        Raises ``CardError`` for the card or the link, ``ReaderBroken`` for the reader.
        """
        ...  # pragma: no cover


def run(dialogue: Dialogue[T], transceive: Transceive) -> T:
    """Carry ``dialogue`` to its end and return its value.

    Raises what ``transceive`` and the dialogue raise, and ``CardMisbehaves`` for an answer without
    a status word. The dialogue is closed in every case.
    """
    try:
        step = next(dialogue)
        while True:
            answer = parse_answer(transceive(bytes(step.command), step.meanwhile))
            step = dialogue.send(answer)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        dialogue.close()


def parse_answer(raw: bytes) -> ResponseAPDU:
    """``ResponseAPDU.from_bytes`` for bytes that a card sent: raises ``CardMisbehaves``."""
    try:
        return ResponseAPDU.from_bytes(raw)
    except MalformedData as error:
        raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, str(error)) from error


def get_response(transceive: Transceive, *, max_answer_bytes: int = MAX_ANSWER_BYTES) -> Transceive:
    """Follow ``61xx`` with GET RESPONSE and ``6Cxx`` with the right Le (ISO/IEC 7816-4 §5.6).

    Raises ``CardMisbehaves(LENGTH_LIMIT)`` above ``max_answer_bytes`` or ``MAX_GET_RESPONSES``
    rounds, ``CardMisbehaves(PROTOCOL_ERROR)`` when ``6Cxx`` answers its own correction.
    """

    def follow(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        answer = parse_answer(_with_exact_le(transceive, command, meanwhile))
        data = answer.data
        rounds = 0
        while True:
            if len(data) > max_answer_bytes:
                raise CardMisbehaves(ReadFault.LENGTH_LIMIT, f"answer of more than {max_answer_bytes} bytes")
            if answer.status_word >> 8 != 0x61:
                return data + answer.status_word.to_bytes(2, "big")
            if rounds == MAX_GET_RESPONSES:
                raise CardMisbehaves(ReadFault.LENGTH_LIMIT, f"more than {rounds} rounds of 61xx")
            rounds += 1
            le = answer.status_word & 0xFF or SHORT_LE
            more = CommandAPDU(cla=command[0] & CHANNEL_CLA, ins=0xC0, le=le)
            answer = parse_answer(_with_exact_le(transceive, bytes(more), nothing))
            data += answer.data

    return follow


def _with_exact_le(transceive: Transceive, command: bytes, meanwhile: Callable[[], None]) -> bytes:
    raw = transceive(command, meanwhile)
    if len(raw) < 2 or raw[-2] != 0x6C:
        return raw
    corrected = replace(CommandAPDU.from_bytes(command), le=raw[-1] or SHORT_LE)
    raw = transceive(bytes(corrected), nothing)
    if len(raw) >= 2 and raw[-2] == 0x6C:
        raise CardMisbehaves(ReadFault.PROTOCOL_ERROR, "6Cxx after the Le it asked for")
    return raw


def command_chaining(transceive: Transceive) -> Transceive:
    """Send a command whose data exceeds 255 bytes as a chain of short ones (ISO/IEC 7816-4 §5.3.3).

    ``meanwhile`` runs during the last link. The first answer other than 9000 to an inner link ends
    the chain and is returned. Shorter commands pass unchanged.
    """

    def chain(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        if len(command) <= 4 + 1 + SHORT_DATA_BYTES:
            return transceive(command, meanwhile)
        whole = CommandAPDU.from_bytes(command)
        if len(whole.data) <= SHORT_DATA_BYTES:
            return transceive(command, meanwhile)
        parts = [whole.data[i : i + SHORT_DATA_BYTES] for i in range(0, len(whole.data), SHORT_DATA_BYTES)]
        for part in parts[:-1]:
            link = replace(whole, cla=whole.cla | CHAINING_CLA, data=part, le=None)
            answer = transceive(bytes(link), nothing)
            if not parse_answer(answer).ok:
                return answer
        le = None if whole.le is None else min(whole.le, SHORT_LE)
        return transceive(bytes(replace(whole, data=parts[-1], le=le)), meanwhile)

    return chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One command and its answer; times are those of the clock given to ``observed``."""

    command: bytes
    answer: bytes
    sent_ns: int
    answered_ns: int


def observed(
    transceive: Transceive, on_exchange: Callable[[Exchange], None], monotonic_ns: Callable[[], int]
) -> Transceive:
    """Report each exchange that ended with an answer to ``on_exchange``, for traces and timing."""

    def watch(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        sent_ns = monotonic_ns()
        answer = transceive(command, meanwhile)
        on_exchange(Exchange(command=command, answer=answer, sent_ns=sent_ns, answered_ns=monotonic_ns()))
        return answer

    return watch
