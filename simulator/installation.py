"""The fitter's work at a virtual controller: what hangs on which pin, written into its configuration.

``provisioning.readers.add_controller`` proposes pins for a door with one reader; here each door gets what its
``Fittings`` say, a tamper switch, and the controller a fire alarm's contact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from edge.config import EnergiseTo
from pacs.identifiers import DoorId
from pacs.rules import Side
from simulator.scenario import Fittings

BAUD: Final = 921600
_SERIAL_PORT: Final = (14, 15)


def wire(
    config: Path, doors: Sequence[tuple[DoorId, Fittings]], devices: Mapping[tuple[DoorId, Side], Path]
) -> None:
    """Rewrite the doors of a provisioned ``controller.toml``; ``devices`` says which readers there are.

    Raises ValueError when the controller has too few pins.
    """
    head = config.read_text(encoding="utf-8").split("[[door]]", 1)[0]
    pins = (pin for pin in range(2, 28) if pin not in _SERIAL_PORT)
    try:
        lines = ["[fire]", f"pin = {next(pins)}"]
        for door_id, fittings in doors:
            lines += _door(door_id, fittings, pins)
            for side in Side:
                if device := devices.get((door_id, side)):
                    lines += _reader(side, device, pins)
    except StopIteration:
        raise ValueError(f"{config}: the controller has too few pins") from None
    config.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


def _door(door_id: DoorId, fittings: Fittings, pins: Iterator[int]) -> list[str]:
    energise_to = EnergiseTo.LOCK if fittings.fail_safe else EnergiseTo.UNLOCK
    lines = ["", "[[door]]", f'id = "{door_id}"', f'energise_to = "{energise_to}"']
    names = ["strike", "contact", "rex", "tamper", *(["sounder"] if fittings.sounder else [])]
    return lines + [f"{name}_pin = {next(pins)}" for name in names]


def _reader(side: Side, device: Path, pins: Iterator[int]) -> list[str]:
    lines = ["", "[[door.reader]]", f'side = "{side}"', f'device = "{device}"', f"baud = {BAUD}"]
    return lines + [f"{name}_pin = {next(pins)}" for name in ("green", "red", "buzzer")]
