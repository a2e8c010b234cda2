"""The real controller process on mock pins, with virtual doors, driven by JSON lines; and the client that starts one.

It is told, one object a line, ``{"door": ID, "do": DEED}`` or, of the whole controller, ``{"do": DEED}``:

================  =============================================================================
``pull``          open the door if its strike lets go; it stands open until ``close``
``close``         let it fall shut
``force``         open it whatever its strike does
``hold``          whoever is let in next leaves it standing open until ``close``
``turn_away``     whoever is let in next does not enter
``press_rex``     press the request-to-exit button
``tamper``        take the cover off a reader
``mend``          put it on again
``fire``          the fire alarm's contact opens; of the controller
``fire_over``     it closes again; of the controller
================  =============================================================================

``hold`` and ``turn_away`` need a person (``--person``). Of itself it says:

* ``{"ready": true, "pid": …, "at_ns": …}``: the readers are on their way, the doors are locked
* ``{"pin": "strike" | "contact" | "rex" | "tamper" | "sounder" | "fire" | "green" | "red" | "buzzer" | "reset",
  "door": …, "side": …, "level": …, "at_ns": …}``, a strike also with ``"released"``; ``fire`` has no door
* ``{"trace": OUTCOME, "reason": …, "door": …, "side": …, "credential": …, "sequence": …, "marks": {PHASE: ns}}``: one
  presentation, after its strike
* ``{"did": …, "door": …, "open": …}``, of the controller ``{"did": …}``: an order was carried out;
  ``{"error": …}``: it was not

Instants are CLOCK_MONOTONIC in ns. SIGTERM, SIGINT and the end of its input stop the controller as it stops in earnest.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Self, TextIO

import click

from edge.config_file import load
from pacs.errors import PacsError

if TYPE_CHECKING:
    from simulator.controller_world import World

START_WITHIN_S: Final = 20.0
STOP_WITHIN_S: Final = 15.0


@click.command("controller")
@click.option(
    "--config", "path", type=click.Path(path_type=Path), required=True, help="The controller's TOML file."
)
@click.option("--person/--no-person", default=True, help="Somebody walks through each door that releases.")
@click.option("--delay-s", type=click.FloatRange(0), default=0.8, show_default=True, help="Release to pull.")
@click.option("--open-s", type=click.FloatRange(0), default=1.5, show_default=True, help="Pull to closed.")
@click.option(
    "--clock-ahead-s", type=float, default=0.0, help="How far its wall clock is ahead of the machine's."
)
def controller_command(
    path: Path, *, person: bool, delay_s: float, open_s: float, clock_ahead_s: float
) -> None:
    """Run a real controller on mock pins, with a virtual door, until its input ends.

    Standard output carries JSON lines: pins, presentations, orders carried out. Exit status as drempel-edge run.

    Example: drempel-sim controller --config site/controllers/c1/controller.toml
    """
    from edge.wiring import run_controller
    from simulator.controller_world import Printer, World
    from simulator.virtual_door import Person

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    printer = Printer(sys.stdout)
    try:
        config = load(path)
        world = World(config, printer.say, person=Person(delay_s=delay_s, open_s=open_s) if person else None)
        world.timetable.start()
        threading.Thread(target=_obey_then_stop, args=(world,), name="orders", daemon=True).start()
        ahead = timedelta(seconds=clock_ahead_s)
        run_controller(
            config,
            factory=world.pins,
            on_trace=world.report_trace,
            on_ready=world.report_ready,
            wall=lambda: datetime.now(UTC) + ahead,
        )
    except PacsError as error:
        click.echo(f"drempel-sim controller: {error}", err=True)
        sys.exit(1)
    finally:
        printer.close()


def _obey_then_stop(world: World) -> None:
    # unbuffered: a thread that waits in a buffered reader would hinder the end of the interpreter
    with open(0, "rb", buffering=0, closefd=False) as orders:
        world.obey(orders)
    os.kill(os.getpid(), signal.SIGTERM)


class ControllerProcess:
    """A context manager around one such process.

    ``on_report`` is called with each line in the client's reading thread; ``wait_for`` looks at all of them.
    Methods raise RuntimeError when the process has ended or does not answer in time.
    """

    def __init__(
        self,
        config: Path,
        *,
        person: bool = True,
        delay_s: float = 0.8,
        open_s: float = 1.5,
        clock_ahead_s: float = 0.0,
        on_report: Callable[[dict[str, Any]], None] | None = None,
        stderr: IO[Any] | int | None = None,
    ) -> None:
        self._arguments = [f"--config={config}", f"--delay-s={delay_s}", f"--open-s={open_s}"]
        self._arguments += ["--person" if person else "--no-person", f"--clock-ahead-s={clock_ahead_s}"]
        self._on_report = on_report
        self._stderr = stderr
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None
        self._heard = threading.Condition()
        self._ended = False
        self.reports: list[dict[str, Any]] = []
        """Everything it said since its last start."""

    @property
    def pid(self) -> int:
        """The process's id. Raises RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError("the controller does not run")
        return self._process.pid

    def start(self) -> Self:
        """Start it; returns once it is ready."""
        self._ended, self.reports = False, []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "simulator.controller_process", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            start_new_session=True,  # Ctrl-C is for whoever started this
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()
        try:
            self.wait_for(lambda report: "ready" in report, within_s=START_WITHIN_S)
        except RuntimeError:
            self.kill()
            raise
        return self

    def order(self, door_id: str | None, deed: str) -> None:
        """Have something done at a door, or with None at the controller; the deeds are the module's table."""
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the controller does not run")
        try:
            self._process.stdin.write(
                json.dumps({"do": deed} | ({"door": door_id} if door_id else {})) + "\n"
            )
            self._process.stdin.flush()
        except OSError as error:
            raise RuntimeError("the controller has ended") from error

    def wait_for(
        self, matches: Callable[[dict[str, Any]], bool], *, within_s: float = 10.0, since: int = 0
    ) -> dict[str, Any]:
        """The first report from number ``since`` on that matches; waits for it if need be."""
        looked_at = since
        deadline_s = time.monotonic() + within_s
        with self._heard:
            while True:
                for report in self.reports[looked_at:]:
                    if matches(report):
                        return report
                looked_at = max(looked_at, len(self.reports))
                if self._ended:
                    raise RuntimeError("the controller has ended")
                if not self._heard.wait(max(0.0, deadline_s - time.monotonic())):
                    raise RuntimeError(f"the controller did not say so within {within_s} s")

    def stop(self) -> int:
        """Stop it with SIGTERM, after 15 s by force; returns its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once with SIGKILL."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.stop()

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            raise RuntimeError("the controller does not run")
        process.send_signal(number)
        try:
            status = process.wait(timeout=STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if self._listener is not None:
            self._listener.join()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return status

    def _listen(self, output: TextIO) -> None:
        for line in output:
            report = json.loads(line)
            with self._heard:
                self.reports.append(report)
                self._heard.notify_all()
            if self._on_report is not None:
                self._on_report(report)
        with self._heard:
            self._ended = True
            self._heard.notify_all()


if __name__ == "__main__":
    controller_command()
