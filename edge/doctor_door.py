"""What ``drempel-edge doctor`` looks at on the door itself: readers and pins."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from edge.circuits import Circuit
from edge.config import Config, DoorConfig, ReaderConfig
from edge.door_io import open_pins
from edge.finding import Code, Finding
from edge.nfc.pn532 import OPENINGS, Pn532
from edge.nfc.reader import Antenna
from edge.strike import Strike
from edge.timetable import Timetable
from edge.wiring import antenna_of
from pacs.errors import ReaderBroken

PULSE_S: Final = 1.0
_POLL_NS: Final = 200_000_000
_LEVELS: Final = {
    "contact": (Code.CONTACT_AT_REST, Code.CONTACT_OPEN),
    "rex": (Code.REX_AT_REST, Code.REX_PRESSED),
    "tamper": (Code.TAMPER_AT_REST, Code.TAMPER_OPEN),
}
"""Each input, at rest and otherwise."""
FEW_LOSSES: Final = 2
LOSSES_AN_HOUR: Final = 1.0
"""A sound reader is lost when somebody works on it; more often than this is its cable or its supply."""


def examine_readers(config: Config, status: dict[str, Any] | None) -> Iterator[Finding]:
    """Each reader: by itself, or as the running controller sees it."""
    told = (status or {}).get("readers")
    seen = {(found["door"], found["side"], found["device"]): found for found in told or ()}
    for door in config.doors:
        for reader in door.readers:
            subject = f"{door.id}/{reader.side.value}"
            if reader.changes_name:
                yield Finding.of(Code.DEVICE_MOVES, device=reader.device, subject=subject)
            if status is None:
                yield _asked(subject, reader)
            elif told is None:
                yield Finding.of(Code.READER_UNTOLD, subject=subject)
            elif found := seen.get((door.id, reader.side.value, str(reader.device))):
                yield _seen(subject, reader, found, status["uptime_s"])
            else:
                yield Finding.of(Code.READER_UNUSED, device=reader.device, subject=subject)


def _seen(subject: str, reader: ReaderConfig, found: dict[str, Any], uptime_s: float) -> Finding:
    state, state_s = found["state"], found["state_s"]
    if state == "lost":
        problem, advice = found["cause"], found.get("advice") or ""
        return Finding.of(Code.READER_LOST, lost_s=state_s, problem=problem, advice=advice, subject=subject)
    if state != "ok":
        return Finding.of(Code.READER_STARTING, state=state, state_s=state_s, subject=subject)
    chip = found["firmware"] or found["device"]
    reads, failures, losses = found["reads"], sum(found["faults"].values()), found["losses"]
    code = Code.READER_SEEN
    if losses > FEW_LOSSES and losses * 3_600 > LOSSES_AN_HOUR * uptime_s:
        code = Code.READER_OFTEN_LOST
    elif failures > 10 and failures > reads:
        code = Code.READER_OFTEN_FAILS
    elif _is_slow(reader, found.get("baud")):
        return Finding.of(Code.READER_SLOW, chip=chip, baud=reader.baud, subject=subject)
    return Finding.of(
        code,
        chip=chip,
        reads=reads,
        failures=failures,
        losses=losses,
        running_s=uptime_s,
        subject=subject,
    )


def _asked(subject: str, reader: ReaderConfig) -> Finding:
    antenna = antenna_of(reader)
    try:
        _open(antenna)
        firmware = antenna.check()
        contact = antenna.poll(time.monotonic_ns() + _POLL_NS)  # the field is on for this
        code = Code.READER_ASKED_CARD if contact else Code.READER_ASKED
        if contact:
            contact.release()
        baud = antenna.baud
    except ReaderBroken as error:
        return Finding.of(Code.READER_BROKEN, problem=error, advice=error.advice, subject=subject)
    finally:
        antenna.close()
    if _is_slow(reader, baud):
        return Finding.of(Code.READER_SLOW, chip=firmware, baud=reader.baud, subject=subject)
    return Finding.of(code, chip=firmware, subject=subject)


def _open(antenna: Antenna) -> None:
    """As the controller does, each time with more patience. Raises ``ReaderBroken``."""
    for _ in range(OPENINGS - 1 if isinstance(antenna, Pn532) else 0):
        with contextlib.suppress(ReaderBroken):
            return antenna.open()
    return antenna.open()


def _is_slow(reader: ReaderConfig, baud: int | None) -> bool:
    return baud is not None and baud < reader.baud


def examine_pins(
    config: Config,
    status: dict[str, Any] | None,
    consent: Callable[[str], bool] | None,
    *,
    factory: Any = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Finding]:
    """The doors as the running controller sees them; or, with consent, each strike for a second and every input."""
    if status is not None:
        for door in status.get("doors", ()):
            stands = {name: door[name] for name in ("mode", "strike", "contact")}
            if alarms := ", ".join(door["alarms"]):
                yield Finding.of(Code.PINS_ALARM, alarms=alarms, subject=door["door"], **stands)
            else:
                yield Finding.of(Code.PINS_STAND, subject=door["door"], **stands)
        if consent or "doors" not in status:
            yield Finding.of(Code.PINS_TAKEN)
        return
    if consent is None:
        yield Finding.of(Code.PINS_UNASKED)
        return
    with contextlib.ExitStack() as parts:
        directory = Path(parts.enter_context(TemporaryDirectory()))
        timetable = Timetable()
        parts.callback(timetable.stop)
        timetable.start()
        try:
            factory = factory or open_pins(config.pins, directory)
            for door in config.doors:
                yield from _door_pins(door, factory, timetable, consent, sleep)
        except Exception as error:  # noqa: BLE001 - gpiozero's and lgpio's errors have no common root
            yield Finding.of(Code.PINS_FAILED, problem=f"{type(error).__name__}: {error}")


def _door_pins(
    door: DoorConfig,
    factory: Any,
    timetable: Timetable,
    consent: Callable[[str], bool],
    sleep: Callable[[float], None],
) -> Iterator[Finding]:
    strike = Strike(door, factory, timetable)
    try:
        if consent(door.id):
            strike.release(round(PULSE_S * 1000))
            sleep(PULSE_S)
            pin = door.strike_pin
            yield Finding.of(Code.STRIKE_MOVED, pin=pin, pulse_s=PULSE_S, subject=door.id)
        else:
            yield Finding.of(Code.STRIKE_LEFT, subject=door.id)
    finally:
        strike.close()
    for name, (at_rest, otherwise) in _LEVELS.items():
        pin, wiring = getattr(door, f"{name}_pin"), getattr(door, f"{name}_wiring")
        if pin is not None:
            circuit = Circuit(pin, wiring, factory, timetable, _nobody)
            try:
                if circuit.active:
                    yield Finding.of(otherwise, wiring=wiring.value, subject=door.id)
                else:
                    yield Finding.of(at_rest, subject=door.id)
            finally:
                circuit.close()


def _nobody(*, active: bool) -> None:
    """Hears of what changes while it is looked at."""
