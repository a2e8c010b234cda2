"""The world around one controller process: its doors, who obeys orders, and what is reported.

``simulator.controller_process`` documents the lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TextIO

from edge.config import Config, DoorConfig
from edge.timetable import Timetable
from simulator.virtual_door import Manner, Person, VirtualDoor, VirtualFireAlarm, VirtualPins

if TYPE_CHECKING:
    from edge.service import Trace


class Printer:
    """Prints reports in a thread of its own, so that whoever switches a pin does not wait for a pipe."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._reports: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)
        self._thread.start()
        self.say = self._reports.put

    def close(self) -> None:
        """Print what was said so far, and no more."""
        self._reports.put(None)
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            while (report := self._reports.get()) is not None:
                self._output.write(json.dumps(report, separators=(",", ":")) + "\n")
                if self._reports.empty():
                    self._output.flush()


class World:
    """The doors of one controller, what is reported about them, and who obeys orders."""

    def __init__(
        self, config: Config, say: Callable[[dict[str, Any]], None], *, person: Person | None
    ) -> None:
        self._say = say
        self.timetable = Timetable()
        self.pins = VirtualPins()
        self._doors = {
            door.id: VirtualDoor(door, self.pins, self.timetable, person=person) for door in config.doors
        }
        self._fire_alarm = VirtualFireAlarm(config.fire, self.pins)
        self._places = {pin: place for door in config.doors for pin, place in _places(door)}
        if config.fire:
            self._places[config.fire.pin] = ("fire", None, None)
        self.pins.on_level = self._report_level

    def report_trace(self, trace: Trace) -> None:
        """One presentation was decided."""
        self._say(
            {
                "trace": trace.outcome,
                "reason": trace.reason,
                "door": trace.door_id,
                "side": trace.side,
                "credential": str(trace.credential_id) if trace.credential_id else None,
                "sequence": trace.sequence,
                "marks": dict(trace.marks),
            }
        )

    def report_ready(self) -> None:
        """The controller runs."""
        self._say({"ready": True, "pid": os.getpid(), "at_ns": time.monotonic_ns()})

    def obey(self, orders: Iterable[bytes]) -> None:
        """Do what each line says until they end."""
        for line in orders:
            try:
                self._say(self._do(json.loads(line)))
            except (ValueError, KeyError, TypeError) as error:
                self._say({"error": f"not an order: {error}"})

    def _do(self, order: dict[str, Any]) -> dict[str, Any]:
        deed = order["do"]
        if "door" not in order:
            {"fire": self._fire_alarm.begin, "fire_over": self._fire_alarm.end}[deed]()
            return {"did": deed}
        door = self._doors[order["door"]]
        deeds: dict[str, Callable[[], object]] = {
            "pull": door.pull,
            "close": door.close,
            "force": door.force,
            "hold": lambda: door.next_person(Manner.HOLD_OPEN),
            "turn_away": lambda: door.next_person(Manner.TURN_AWAY),
            "press_rex": door.press_rex,
            "tamper": door.open_housing,
            "mend": door.close_housing,
        }
        deeds[deed]()
        return {"did": deed, "door": door.id, "open": door.is_open}

    def _report_level(self, pin: int, level: bool, at_ns: int) -> None:  # noqa: FBT001 - OnLevel
        role, door_id, side = self._places.get(pin, ("", None, None))
        if not role:
            return
        report: dict[str, Any] = {
            "pin": role,
            "door": door_id,
            "side": side,
            "level": int(level),
            "at_ns": at_ns,
        }
        if role == "strike":
            report["released"] = self._doors[door_id].is_released
        self._say(report)
        if door_id is not None:
            self._doors[door_id].level_changed(pin)


def _places(door: DoorConfig) -> list[tuple[int, tuple[str, Any, str | None]]]:
    """Each pin of a door: its number, role, door and side."""
    found: list[tuple[int | None, str, str | None]] = [
        (door.strike_pin, "strike", None),
        (door.contact_pin, "contact", None),
        (door.rex_pin, "rex", None),
        (door.tamper_pin, "tamper", None),
        (door.sounder_pin, "sounder", None),
    ]
    for reader in door.readers:
        found += [
            (getattr(reader, f"{role}_pin"), role, reader.side.value)
            for role in ("green", "red", "buzzer", "reset")
        ]
    return [(pin, (role, door.id, side)) for pin, role, side in found if pin is not None]
