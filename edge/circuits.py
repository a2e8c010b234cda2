"""The inputs: contact, request to exit, tamper switch, fire alarm."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final, Protocol

from edge.config import Wiring
from edge.timetable import Timetable

log = logging.getLogger(__name__)

STABLE_S: Final = 0.025
"""How long an input has to keep its level to be believed."""
CHATTER_S: Final = 0.25
"""An input that never settles is reported as it is after this time, so that chatter hides nothing."""


class Report(Protocol):
    """Who hears of an input."""

    def __call__(self, *, active: bool) -> None:
        """``active``: the circuit left its state of rest."""
        ...


class Circuit:
    """One input, debounced: a circuit to ground, at rest closed or open."""

    def __init__(self, pin: int, wiring: Wiring, factory: Any, timetable: Timetable, report: Report) -> None:
        from gpiozero import DigitalInputDevice

        # the circuit goes to ground, so a level of 0 is a closed circuit, which gpiozero calls active
        self._rest = wiring is Wiring.NORMALLY_CLOSED
        self._report = report
        self._timetable = timetable
        self._guard = threading.Lock()
        self._restless_since_s: float | None = None
        self._edge_s, self._seen = 0.0, False
        self._device = DigitalInputDevice(pin, pull_up=True, pin_factory=factory)
        self.active = self._level()
        """What was last reported, or found at the start."""
        self._device.when_activated = self._edge
        self._device.when_deactivated = self._edge
        if self._level() is not self.active:
            self._edge()

    def close(self) -> None:
        """Let go of the line."""
        self._device.close()

    def _level(self) -> bool:
        return bool(self._device.value) is not self._rest

    def _edge(self) -> None:
        try:
            self._take_edge()
        except Exception:  # raised here it would end the thread that watches every pin
            self._timetable.failed = True
            log.exception("an input could not be followed")

    def _take_edge(self) -> None:
        now_s = self._timetable.now_s()
        with self._guard:
            if self._restless_since_s is not None and now_s - self._edge_s >= STABLE_S:
                self._believe(self._seen)  # it was stable; only nobody has come to look
            if self._restless_since_s is None:
                self._restless_since_s = now_s
            self._edge_s, self._seen = now_s, self._level()
            look_s = min(now_s + STABLE_S, self._restless_since_s + CHATTER_S)
        self._timetable.set(self, look_s, self._settle)

    def _settle(self) -> None:
        with self._guard:
            self._believe(self._level())

    def _believe(self, level: bool) -> None:  # noqa: FBT001 - a level is all there is to say
        self._restless_since_s = None
        if level is not self.active:
            self.active = level
            self._report(active=level)
