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
from edge.finding import Finding
from edge.nfc.pn532 import Pn532
from edge.status import duration
from edge.strike import Strike
from edge.timetable import Timetable
from edge.wiring import antenna_of
from pacs.errors import ReaderBroken

PULSE_S: Final = 1.0
_POLL_NS: Final = 200_000_000
_GROUP: Final = "usermod -aG dialout,gpio drempel, then sign in again"


def examine_readers(config: Config, status: dict[str, Any] | None) -> Iterator[Finding]:
    """Each reader: by itself, or as the running controller sees it."""
    seen = {(reader["door"], reader["side"]): reader for reader in (status or {}).get("readers", ())}
    for door in config.doors:
        for reader in door.readers:
            name = f"reader {door.id}/{reader.side.value}"
            if found := seen.get((door.id, reader.side.value)):
                yield _seen(name, found)
            elif status is not None:
                yield Finding.warn(name, "not examined: the controller has it and does not tell", "ask again")
            else:
                yield _asked(name, reader)


def _seen(name: str, found: dict[str, Any]) -> Finding:
    if found["state"] == "lost":
        since = duration(found["state_s"])
        return Finding.fail(name, f"lost for {since}: {found['cause']}", _reader_advice(found["cause"] or ""))
    if found["state"] != "ok":
        return Finding.warn(name, f"{found['state']} for {duration(found['state_s'])}", "ask again")
    firmware = found["firmware"] or found["device"]
    reads, failures = found["reads"], sum(found["faults"].values())
    what = f"{firmware}; {reads} cards read, {failures} not, lost {found['losses']} times"
    if failures > 10 and failures > reads:
        return Finding.warn(
            name, what, "keep metal and other readers away from the antenna; look at its cable"
        )
    return Finding.ok(name, what)


def _asked(name: str, reader: ReaderConfig) -> Finding:
    antenna = antenna_of(reader)
    try:
        antenna.open()
        firmware = antenna.check()
        contact = antenna.poll(time.monotonic_ns() + _POLL_NS)  # the field is on for this
        card = "a card is in the field" if contact else "the field is on, no card in it"
        if contact:
            contact.release()
    except ReaderBroken as error:
        return Finding.fail(name, str(error), _reader_advice(str(error)))
    finally:
        antenna.close()
    if isinstance(antenna, Pn532) and antenna.baud < reader.baud:
        advice = "shorten the cable, or lower baud: every tap takes longer than it could"
        return Finding.warn(name, f"{firmware}, {reader.baud} wanted; {card}", advice)
    return Finding.ok(name, f"{firmware}; {card}")


def _reader_advice(cause: str) -> str:
    if "No such file" in cause:
        return "plug it in; correct device; for a UART enable_uart=1 in /boot/firmware/config.txt"
    if "Permission denied" in cause:
        return _GROUP
    if "busy" in cause or "lock" in cause or "unavailable" in cause:
        return "another program has it: end that one, and systemctl disable serial-getty@ for this port"
    return "look at supply, TX and RX, and that the switches of the PN532 are set to HSU"


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
                yield Finding.fail(
                    f"pins {door['door']}", f"{what}, {', '.join(door['alarms'])}", "look at the door"
                )
            else:
                yield Finding.ok(f"pins {door['door']}", what)
        if consent or "doors" not in status:
            advice = "systemctl stop drempel-edge, then again with --with-pins"
            yield Finding.warn("pins", "the controller has them", advice)
        return
    if consent is None:
        advice = "with somebody at the door: drempel-edge doctor --with-pins"
        yield Finding.warn("pins", "not examined: nobody allowed it", advice)
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
            yield Finding.fail("pins", f"{type(error).__name__}: {error}", advice)


def _door_pins(
    door: DoorConfig,
    factory: Any,
    timetable: Timetable,
    consent: Callable[[str], bool],
    sleep: Callable[[float], None],
) -> Iterator[Finding]:
    name = f"strike {door.id}"
    strike = Strike(door, factory, timetable)
    try:
        if consent(door.id):
            strike.release(round(PULSE_S * 1000))
            sleep(PULSE_S)
            what = f"pin {door.strike_pin} released for {PULSE_S:g} s and locked"
            yield Finding.ok(name, f"{what}; did it move? if not, look at its driver and supply")
        else:
            yield Finding.warn(name, "not moved: nobody allowed it", "again, with somebody at the door")
    finally:
        strike.close()
    for what in ("contact", "rex", "tamper"):
        pin, wiring = getattr(door, f"{what}_pin"), getattr(door, f"{what}_wiring")
        if pin is not None:
            circuit = Circuit(pin, wiring, factory, timetable, _nobody)
            try:
                yield _level(f"{what} {door.id}", what, wiring, active=circuit.active)
            finally:
                circuit.close()


def _nobody(*, active: bool) -> None:
    """Hears of what changes while it is looked at."""


def _level(name: str, what: str, wiring: Wiring, *, active: bool) -> Finding:
    at_rest, otherwise = {
        "contact": ("door closed", "door open"),
        "rex": ("not pressed", "pressed"),
        "tamper": ("case closed", "case open"),
    }[what]
    if not active:
        return Finding.ok(name, at_rest)
    advice = f"if that is not so: a wire is cut, or {what}_wiring is not {wiring.value}"
    return Finding.warn(name, otherwise, advice)
