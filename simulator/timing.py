"""Which of a reader's times are played: none, or all of them as ``airtime`` computes them."""

from __future__ import annotations

from dataclasses import dataclass

from simulator import airtime

NS_PER_MS = 1_000_000


def ns(milliseconds: float) -> int:
    """Whole nanoseconds of a time in milliseconds."""
    return round(milliseconds * NS_PER_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long things take. Timeouts are waited for in either mode, or a host could not tell them from answers.

    ``modelled``: serial line, air, field guard and card computing take their time. ``firmware_ms``: the chip's own time
    for each command. ``poll_ms``: from one unanswered REQA of InListPassiveTarget to the next; an estimate.
    """

    modelled: bool
    firmware_ms: float = 0.0
    poll_ms: float = 5.0

    @classmethod
    def none(cls) -> Timing:
        """No waits."""
        return cls(modelled=False)

    @classmethod
    def realistic(cls, *, firmware_ms: float = 0.0, poll_ms: float = 5.0) -> Timing:
        """Everything takes its modelled time."""
        return cls(modelled=True, firmware_ms=firmware_ms, poll_ms=poll_ms)

    def of(self, milliseconds: float) -> int:
        """What a modelled time costs, in ns: 0 when times are not played."""
        return ns(milliseconds) if self.modelled else 0

    def serial(self, length: int, baud: int) -> int:
        """What ``length`` bytes cost on the serial line, in ns."""
        return self.of(airtime.serial_ms(length, baud))
