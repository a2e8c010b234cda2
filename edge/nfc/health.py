"""What is known about a reader's well-being: one value, taken at any time from any thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique

from pacs.reason import ReadFault


@unique
class ReaderState(StrEnum):
    """Where a reader stands."""

    STARTING = "starting"
    """It has not worked yet, and has not been given up either."""
    OK = "ok"
    LOST = "lost"
    """An alarm was given; the thread goes on trying."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderHealth:
    """One reader at one instant.

    ``since_s``: when ``state`` began (``time.monotonic()``). ``cause``: why it is lost; ``advice``: what to do about that.
    ``firmware``: one line on the hardware as last seen; ``baud``: the speed of its line, None where it has none.
    ``last_card_age_s``: since a card was last seen. Since the process began: ``reads`` that
    ended in a verdict about a card, ``faults`` of those that did not, ``losses``, and ``resets`` of the hardware.
    """

    device: str
    state: ReaderState
    since_s: float
    cause: str | None
    advice: str | None
    firmware: str | None
    baud: int | None
    last_card_age_s: float | None
    reads: int
    faults: Mapping[ReadFault, int]
    losses: int
    resets: int


class ReaderRecord:
    """What the reader's thread notes and ``taken`` reads, without a lock: each note is one assignment."""

    def __init__(self, device: str, now_ns: int) -> None:
        self._device = device
        self._state: tuple[ReaderState, int, str | None] = (ReaderState.STARTING, now_ns, None)
        self._faults = dict.fromkeys(ReadFault, 0)  # every key from the start: its size never changes
        self.advice: str | None = None
        self.firmware: str | None = None
        self.baud: int | None = None
        self.last_card_ns: int | None = None
        self.reads = self.losses = self.resets = 0

    @property
    def state(self) -> ReaderState:
        """Where it stands."""
        return self._state[0]

    def lost(self, cause: str, now_ns: int) -> None:
        """The alarm was given."""
        self._state = (ReaderState.LOST, now_ns, cause)
        self.losses += 1

    def still_lost(self, cause: str) -> None:
        """The last attempt failed as well; lost since the first, with one alarm."""
        self._state = (ReaderState.LOST, self._state[1], cause)

    def works(self, now_ns: int) -> None:
        """Its hardware answers."""
        self._state = (ReaderState.OK, now_ns, None)

    def failed(self, fault: ReadFault) -> None:
        """A card was not read."""
        self._faults[fault] += 1

    def taken(self, now_ns: int) -> ReaderHealth:
        """The value at ``now_ns``; safe from any thread."""
        state, since_ns, cause = self._state
        seen_ns = self.last_card_ns
        return ReaderHealth(
            device=self._device,
            state=state,
            since_s=since_ns / 1e9,
            cause=cause,
            advice=self.advice if cause else None,
            firmware=self.firmware,
            baud=self.baud,
            last_card_age_s=None if seen_ns is None else max(0, now_ns - seen_ns) / 1e9,
            reads=self.reads,
            faults={fault: number for fault, number in self._faults.items() if number},
            losses=self.losses,
            resets=self.resets,
        )
