"""``drempel-edge safe-pins``: every strike without current, when no controller is there to see to it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from edge.command_line import config_option, give_up
from edge.config_outline import ConfigOutline
from edge.door_io import PinsUnavailable, open_pins
from edge.status_socket import NotRunning, ask
from pacs.errors import PacsError, StoreError


def drive_low(factory: Any, pins: tuple[int, ...]) -> dict[int, str]:
    """Drive each pin low and let it go; every pin is tried. Returns what went wrong, by pin."""
    from gpiozero import OutputDevice

    failed = {}
    for pin in pins:
        try:
            OutputDevice(pin, initial_value=False, pin_factory=factory).close()
        except Exception as error:  # noqa: BLE001 - gpiozero's and lgpio's errors have no common root
            failed[pin] = f"{type(error).__name__}: {error}"
    return failed


@click.command("safe-pins")
@config_option
def safe_pins_command(path: Path) -> None:
    """Take the current from every strike: a fail-secure one is locked then, a fail-safe one open.

    For ExecStopPost: after a kill the pins keep their last level, and a strike that was released stays released.
    Only strike_pin of each door is read, so that this works where the rest of the file is wrong.

    Exit status: 0 every strike is without current; 1 not, and standard error says which and why, or a controller is
    running; 2 wrong usage.

    Example: drempel-edge safe-pins --config /etc/drempel/controller.toml
    """
    try:
        outline = ConfigOutline.read(path)
        if outline.state_dir and _answers(outline.state_dir):
            raise StoreError("a controller is running and drives the strikes; stop it first")
        if not outline.strike_pins:
            raise PinsUnavailable(f"{path}: no [[door]] has a strike_pin of 2 to 27; correct the file")
        with tempfile.TemporaryDirectory() as directory:
            failed = drive_low(open_pins(outline.pins, Path(directory)), outline.strike_pins)
    except PacsError as error:
        give_up(error)
    for number in outline.pinless:
        click.echo(
            f"drempel-edge: {path}: [[door]] {number} has no strike_pin of 2 to 27, its strike keeps what it has; "
            "correct the file",
            err=True,
        )
    for pin, cause in failed.items():
        click.echo(f"drempel-edge: pin {pin}: {cause}; does another process have it?", err=True)
    if failed or outline.pinless:
        sys.exit(1)
    click.echo(f"without current: {', '.join(f'pin {pin}' for pin in outline.strike_pins)}")


def _answers(state_dir: Path) -> bool:
    try:
        ask(state_dir, patience_s=1.0)
    except NotRunning:
        return False
    except StoreError:  # one that hangs has the pins as well; the driver refuses then
        return False
    return True
