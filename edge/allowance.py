"""A token bucket: so much at once, so much a second."""

from __future__ import annotations


class Allowance:
    """``burst`` at once, and ``per_s`` a second in the long run. Times are monotonic seconds, given by the caller."""

    __slots__ = ("_at_s", "_burst", "_left", "_per_s")

    def __init__(self, *, burst: int, per_s: float) -> None:
        self._burst, self._per_s = float(burst), per_s
        self._left, self._at_s = float(burst), 0.0

    def take(self, now_s: float) -> bool:
        """Whether one more is allowed; it then counts."""
        self._left = min(self._burst, self._left + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
