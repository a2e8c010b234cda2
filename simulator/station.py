"""One door of a running site, and a tap as it saw it."""

from __future__ import annotations

import queue
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pacs.identifiers import DoorId
from pacs.rules import Door, Side
from simulator.controller_process import ControllerProcess
from simulator.pn532_process import ApduReport, Pn532Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """One tap as the door saw it. ``marks``: when each phase ended, CLOCK_MONOTONIC in ns.

    ``inserted_ns``: the card entered the field. ``strike_ns``: the strike's pin released, None when it did not.
    ``sequence``: of its event, None for a card not read.
    """

    door_id: DoorId
    outcome: str
    reason: str
    sequence: int | None
    credential: str | None
    inserted_ns: int
    marks: dict[str, int]
    exchanges: tuple[ApduReport, ...]
    strike_ns: int | None

    @property
    def to_strike_ms(self) -> float | None:
        """From field-enter to the strike's pin; None when it was not released."""
        return None if self.strike_ns is None else (self.strike_ns - self.inserted_ns) / 1e6


@dataclass(slots=True, kw_only=True)
class DoorStation:
    """One door with its readers and its controller, which doors of one controller share.

    ``reports``: what its controllers said about it, or of themselves, restarts included.
    """

    door: Door
    readers: dict[Side, Pn532Process]
    config: Path
    controller: ControllerProcess
    traces: queue.SimpleQueue[dict[str, Any]] = field(default_factory=queue.SimpleQueue)
    reports: list[dict[str, Any]] = field(default_factory=list)
    exchanges: list[ApduReport] = field(default_factory=list)
    empty_since_s: float = 0.0
    released_ns: int | None = None
    is_released: bool = False
    is_open: bool = False

    @property
    def reader(self) -> Pn532Process:
        """The one outside."""
        return self.readers[Side.ENTRY]

    def hear(self, report: dict[str, Any]) -> None:
        """Keep what a controller says; a presentation is handed to whoever waits for it."""
        self.reports.append(report)
        if "trace" in report:
            self.traces.put({**report, "released_ns": self.released_ns})
        elif "ready" in report:
            self.is_released = False
        elif report.get("pin") == "strike":
            self.is_released = report["released"]
            if self.is_released:
                self.released_ns = report["at_ns"]
        elif report.get("pin") == "contact":
            self.is_open = bool(report["level"])  # ``wire`` leaves the contact normally closed


def strike_ns(released_ns: int | None, marks: dict[str, int]) -> int | None:
    """When the strike's pin changed; when it was released already, when the controller released it again."""
    if released_ns is not None and released_ns >= marks["decide"]:
        return released_ns
    return marks.get("strike")
