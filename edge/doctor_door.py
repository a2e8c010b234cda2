"""What ``drempel-edge doctor`` looks at on the door itself: readers and pins."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from edge.circuits import Circuit
from edge.config import Config, DoorConfig, ReaderConfig, Wiring
from edge.door_io import open_pins
from edge.finding import Check, Finding
from edge.nfc.pn532 import OPENINGS, Pn532
from edge.nfc.reader import Antenna
from edge.status import counted, duration
from edge.strike import Strike
from edge.timetable import Timetable
from edge.wiring import antenna_of
from pacs.errors import ReaderBroken

PULSE_S: Final = 1.0
_POLL_NS: Final = 200_000_000
_GROUP: Final = "sudo usermod -aG gpio drempel, then sudo systemctl restart drempel-edge"
_LEVELS: Final = {
    Check.CONTACT: ("door closed", "door open"),
    Check.REX: ("not pressed", "pressed"),
    Check.TAMPER: ("case closed", "case open"),
}
"""Each input, at rest and otherwise."""
RESTART: Final = "sudo systemctl restart drempel-edge"
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
                what = f"{reader.device} is whichever adapter was found in that order"
                advice = "name the socket: device = one of /dev/drempel-reader-* or /dev/serial/by-path/*"
                yield Finding.warn(Check.DEVICE, what, advice, subject=subject)
            if status is None:
                yield _asked(subject, reader)
            elif told is None:
                what = "not examined: the controller has it and does not tell"
                yield Finding.warn(Check.READER, what, "ask again", subject=subject)
            elif found := seen.get((door.id, reader.side.value, str(reader.device))):
                yield _seen(subject, reader, found, status["uptime_s"])
            else:
                what = f"{reader.device} is not used: the controller was started with another configuration"
                yield Finding.warn(Check.READER, what, RESTART, subject=subject)


def _seen(subject: str, reader: ReaderConfig, found: dict[str, Any], uptime_s: float) -> Finding:
    since = duration(found["state_s"])
    if found["state"] == "lost":
        what = f"lost for {since}: {found['cause']}"
        return Finding.fail(Check.READER, what, found.get("advice") or "", subject=subject)
    if found["state"] != "ok":
        return Finding.warn(Check.READER, f"{found['state']} for {since}", "ask again", subject=subject)
    reads, failures, losses = found["reads"], sum(found["faults"].values()), found["losses"]
    lost = f"lost {counted(losses, 'time')} in {duration(uptime_s)}"
    what = f"{found['firmware'] or found['device']}; {counted(reads, 'card')} read, {failures} not, {lost}"
    if losses > FEW_LOSSES and losses * 3_600 > LOSSES_AN_HOUR * uptime_s:
        advice = "look at its cable, plugs and supply: fix what is loose, shorten what is long"
        return Finding.warn(Check.READER, what, advice, subject=subject)
    if failures > 10 and failures > reads:
        advice = "keep metal and other readers away from the antenna; look at its cable"
        return Finding.warn(Check.READER, what, advice, subject=subject)
    return _at_speed(subject, reader, found.get("baud"), what)


def _asked(subject: str, reader: ReaderConfig) -> Finding:
    antenna = antenna_of(reader)
    try:
        _open(antenna)
        firmware = antenna.check()
        contact = antenna.poll(time.monotonic_ns() + _POLL_NS)  # the field is on for this
        card = "a card is in the field" if contact else "the field is on, no card in it"
        if contact:
            contact.release()
        baud = antenna.baud
    except ReaderBroken as error:
        return Finding.fail(Check.READER, str(error), error.advice, subject=subject)
    finally:
        antenna.close()
    return _at_speed(subject, reader, baud, f"{firmware}; {card}")


def _open(antenna: Antenna) -> None:
    """As the controller does, each time with more patience. Raises ``ReaderBroken``."""
    for _ in range(OPENINGS - 1 if isinstance(antenna, Pn532) else 0):
        with contextlib.suppress(ReaderBroken):
            return antenna.open()
    return antenna.open()


def _at_speed(subject: str, reader: ReaderConfig, baud: int | None, what: str) -> Finding:
    if baud is not None and baud < reader.baud:
        advice = "shorten the cable, or lower baud: every tap takes longer than it could"
        return Finding.warn(Check.READER, f"{what}; {reader.baud} baud wanted", advice, subject=subject)
    return Finding.ok(Check.READER, what, subject=subject)


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
            what = f"{door['mode']}, strike {door['strike']}, contact {door['contact']}"
            if door["alarms"]:
                what += f", {', '.join(door['alarms'])}"
                yield Finding.fail(Check.PINS, what, "look at the door", subject=door["door"])
            else:
                yield Finding.ok(Check.PINS, what, subject=door["door"])
        if consent or "doors" not in status:
            advice = "systemctl stop drempel-edge, then again with --with-pins"
            yield Finding.warn(Check.PINS, "the controller has them", advice)
        return
    if consent is None:
        advice = "with somebody at the door: drempel-edge doctor --with-pins"
        yield Finding.warn(Check.PINS, "not examined: nobody allowed it", advice)
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
            advice = f"is this a Raspberry Pi? is another program using a pin? {_GROUP}"
            yield Finding.fail(Check.PINS, f"{type(error).__name__}: {error}", advice)


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
            what = f"pin {door.strike_pin} released for {PULSE_S:g} s and locked"
            what += "; did it move? if not, look at its driver and supply"
            yield Finding.ok(Check.STRIKE, what, subject=door.id)
        else:
            advice = "again, with somebody at the door"
            yield Finding.warn(Check.STRIKE, "not moved: nobody allowed it", advice, subject=door.id)
    finally:
        strike.close()
    for check in _LEVELS:
        pin, wiring = getattr(door, f"{check}_pin"), getattr(door, f"{check}_wiring")
        if pin is not None:
            circuit = Circuit(pin, wiring, factory, timetable, _nobody)
            try:
                yield _level(check, door, wiring, active=circuit.active)
            finally:
                circuit.close()


def _nobody(*, active: bool) -> None:
    """Hears of what changes while it is looked at."""


def _level(check: Check, door: DoorConfig, wiring: Wiring, *, active: bool) -> Finding:
    at_rest, otherwise = _LEVELS[check]
    if not active:
        return Finding.ok(check, at_rest, subject=door.id)
    advice = f"if that is not so: a wire is cut, or {check}_wiring is not {wiring.value}"
    return Finding.warn(check, otherwise, advice, subject=door.id)
