"""A reader's field and the card that lies in it, by instants of CLOCK_MONOTONIC in nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass

from simulator import airtime
from simulator.rf_link import AirFrame, Answer, Card
from simulator.timing import Timing


@dataclass(slots=True, kw_only=True)
class _Presence:
    """A card and from when until when it is there; ``until_ns`` None: it stays."""

    card: Card
    since_ns: int
    until_ns: int | None


class RfField:
    """Power and presence; a card hears nothing before its guard time in the field is over."""

    def __init__(self, timing: Timing) -> None:
        self._guard_ns = timing.of(airtime.FIELD_GUARD_MS)
        self._on_since_ns: int | None = None
        self._presence: _Presence | None = None
        self.overheated = False
        """The drivers have switched themselves off and cannot be switched on."""

    @property
    def on(self) -> bool:
        """Whether the carrier is there."""
        return self._on_since_ns is not None

    def occupied_at(self, at_ns: int) -> bool:
        """Whether a card lies in the field then."""
        there = self._presence
        return (
            there is not None
            and there.since_ns <= at_ns
            and (there.until_ns is None or at_ns < there.until_ns)
        )

    def switch(self, *, on: bool, at_ns: int) -> int:
        """Switch the carrier; returns the instant from which a card that was there can be spoken to."""
        if not on:
            self._on_since_ns = None
            self._power_off_card()
        elif self._on_since_ns is None and not self.overheated:
            self._on_since_ns = at_ns
            return at_ns + self._guard_ns
        return at_ns

    def insert(self, card: Card, *, at_ns: int, until_ns: int | None = None) -> None:
        """A card comes in, in place of one that may be there; at ``until_ns`` it is pulled."""
        self._power_off_card()
        card.power_off()
        self._presence = _Presence(card=card, since_ns=at_ns, until_ns=until_ns)

    def remove(self) -> None:
        """The card is pulled, if there is one."""
        self._power_off_card()
        self._presence = None

    def deliver(self, frame: AirFrame, *, started_ns: int, ended_ns: int) -> Answer | None:
        """Let the card hear a frame; it needs its guard time before the first bit, and to be there at the last."""
        there, on_since_ns = self._presence, self._on_since_ns
        if there is None or on_since_ns is None or not self.occupied_at(ended_ns):
            return None
        if started_ns < max(there.since_ns, on_since_ns) + self._guard_ns:
            return None
        return there.card.receive(frame)

    def _power_off_card(self) -> None:
        if self._presence is not None:
            self._presence.card.power_off()
