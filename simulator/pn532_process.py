"""A virtual PN532 in a process of its own, driven by JSON lines, and the client that starts one.

Its first line is ``{"path": …}``. It is told, one object a line, and answers each with one:

* ``{"insert": <VirtualCard.state()>, "link": <LinkOptions.state(), may be missing>}`` → ``{"inserted": ns}``
* ``{"remove": true}`` → ``{"removed": ns, "card": <state the card left with, or null>}``
* ``{"fault": <ReaderFault>, "times": n (may be missing)}`` → ``{"fault": …, "path": …}``
* anything else → ``{"error": …}``

In between come ``{"apdu": n, "sent_ns": …, "command": hex, "answer": hex, "computing_ms": …}``: an answer's last byte was
handed to the terminal. Instants are CLOCK_MONOTONIC in ns. The end of its input ends the process.
"""

from __future__ import annotations

import ctypes
import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO

import click

from pacs.errors import MalformedData
from simulator.link_faults import LinkOptions, card_on_link
from simulator.pn532 import ApduSent, ReaderFault, VirtualPn532
from simulator.timing import Timing
from simulator.virtual_card import VirtualCard

PR_SET_TIMERSLACK = 29
REPLY_WITHIN_S = 20.0


class _Server:
    """One reader, its orders and its reports."""

    def __init__(self, timing: Timing, link: Path | None, output: TextIO) -> None:
        self._reader = VirtualPn532(timing=timing, link=link, on_apdu=self.report_apdu)
        self._output = output
        self._lock = threading.Lock()
        self._card: VirtualCard | None = None

    def run(self, orders: Iterable[str]) -> None:
        """Be a reader until the orders end. Raises OSError when there is no terminal to be had."""
        with self._reader:
            self.say({"path": self._reader.path})
            for line in orders:
                self.say(self.obey(line))

    def say(self, report: dict[str, Any]) -> None:
        """One line out, from either thread."""
        line = json.dumps(report, separators=(",", ":")) + "\n"
        with self._lock:
            self._output.write(line)
            self._output.flush()

    def report_apdu(self, sent: ApduSent) -> None:
        """An answer's last byte has left."""
        apdu = sent.apdu
        self.say(
            {
                "apdu": apdu.number,
                "sent_ns": sent.sent_ns,
                "command": apdu.command.hex(),
                "answer": apdu.answer.hex(),
                "computing_ms": apdu.computing_ms,
            }
        )

    def obey(self, line: str) -> dict[str, Any]:
        """Do one order; what is wrong with it is in the report, nothing raises."""
        try:
            order: Any = json.loads(line)
            match order:
                case {"insert": dict(state), **rest} if rest.keys() <= {"link"}:
                    options = LinkOptions.restore(order.get("link", {}))
                    self._card = VirtualCard.from_json(json.dumps(state))
                    card = card_on_link(self._card, options)
                    at_ns = self._reader.insert(card, pulled_after_ms=options.pulled_after_ms)
                    return {"inserted": at_ns}
                case {"remove": True, **rest} if not rest:
                    at_ns = self._reader.remove()
                    card_left, self._card = self._card, None
                    return {"removed": at_ns, "card": card_left.state() if card_left else None}
                case {"fault": str(name), **rest} if rest.keys() <= {"times"}:
                    self._reader.fault(ReaderFault(name), times=int(order.get("times", -1)))
                    return {"fault": name, "path": self._reader.path}
                case _:
                    return {"error": "not an order: insert, remove or fault"}
        except (ValueError, TypeError, OSError, MalformedData) as error:
            return {"error": str(error)}


@click.command("pn532")
@click.option("--timing", type=click.Choice(["none", "realistic"]), default="none", show_default=True)
@click.option(
    "--link",
    type=click.Path(path_type=Path),
    help="Make this symbolic link to the terminal; one that is there is replaced.",
)
@click.option("--firmware-ms", type=click.FloatRange(0), default=0.0, help="The chip's own time per command.")
@click.option("--poll-ms", type=click.FloatRange(0.5), default=5.0, help="Between two unanswered REQA.")
def pn532_command(
    timing: Literal["none", "realistic"], link: Path | None, firmware_ms: float, poll_ms: float
) -> None:
    r"""Run a virtual PN532 on a pseudo-terminal until its input, orders as JSON lines, ends.

    Its first line says where the terminal is. Orders: {"insert": card}, {"remove": true}, {"fault": name}; each is
    answered with one line.

    Exit status: 0 its input ended; 1 there is no terminal to be had, or --link is taken; 2 wrong usage.

    Example: (sleep 5; printf '{"insert": %s}\n' "$(cat card.json)"; sleep 5) | drempel-sim pn532 --link /tmp/reader
    """
    # Waits end when they should, not up to 50 µs later.
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    played = Timing.realistic(firmware_ms=firmware_ms, poll_ms=poll_ms)
    try:
        _Server(played if timing == "realistic" else Timing.none(), link, sys.stdout).run(sys.stdin)
    except OSError as error:
        click.echo(f"drempel-sim: {error.filename or link}: {error.strerror}", err=True)
        sys.exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApduReport:
    """One APDU a card answered; ``sent_ns``: when the answer's last byte was handed to the terminal."""

    number: int
    sent_ns: int
    command: bytes
    answer: bytes
    computing_ms: float


class Pn532Process:
    """A context manager around one such process. ``on_apdu`` is called in the client's reading thread.

    Methods raise RuntimeError when the process refuses an order, has ended, or does not reply within 20 s.
    """

    def __init__(
        self,
        *,
        timing: Literal["none", "realistic"] = "realistic",
        link: Path | None = None,
        firmware_ms: float = 0.0,
        poll_ms: float = 5.0,
        on_apdu: Callable[[ApduReport], None] | None = None,
    ) -> None:
        self._arguments = [f"--timing={timing}", f"--firmware-ms={firmware_ms}", f"--poll-ms={poll_ms}"]
        if link is not None:
            self._arguments.append(f"--link={link}")
        self._on_apdu = on_apdu
        self._replies: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None
        self.path = ""
        """The terminal's name; changes when the reader is plugged in again, ``link`` does not."""

    @property
    def pid(self) -> int:
        """The process's id. Raises RuntimeError when it was not started."""
        if self._process is None:
            raise RuntimeError("the virtual PN532 was not started")
        return self._process.pid

    def start(self) -> Self:
        """Start it; returns when it can be opened."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "simulator.pn532_process", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt on the terminal is for whoever plays the world
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()
        try:
            self.path = self._reply("path")["path"]
        except RuntimeError:
            self.stop()
            raise
        return self

    def insert(self, card: VirtualCard, link: LinkOptions | None = None) -> int:
        """Lay a card into the field; returns the instant."""
        order = {"insert": card.state(), "link": (link or LinkOptions()).state()}
        return int(self._order(order, "inserted")["inserted"])

    def remove(self) -> tuple[int, VirtualCard | None]:
        """Pull the card; returns the instant and the card as it left."""
        report = self._order({"remove": True}, "removed")
        card = report["card"]
        return int(report["removed"]), None if card is None else VirtualCard.from_json(json.dumps(card))

    def fault(self, fault: ReaderFault, *, times: int = -1) -> None:
        """Make something be wrong with the reader; see ``VirtualPn532.fault``."""
        self.path = self._order({"fault": fault.value, "times": times}, "fault")["path"]

    def stop(self) -> None:
        """End the process by ending its input; after 5 s by force."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._listener is not None:
            self._listener.join()
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _order(self, order: dict[str, Any], key: str) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the virtual PN532 was not started")
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise RuntimeError("the virtual PN532 has ended") from error
        return self._reply(key)

    def _reply(self, key: str) -> dict[str, Any]:
        try:
            report = self._replies.get(timeout=REPLY_WITHIN_S)
        except queue.Empty:
            raise RuntimeError("the virtual PN532 does not reply") from None
        if report is None:
            raise RuntimeError("the virtual PN532 has ended")
        if key not in report:
            raise RuntimeError(f"the virtual PN532 refused: {report.get('error')}")
        return report

    def _listen(self, output: TextIO) -> None:
        for line in output:
            report = json.loads(line)
            if "apdu" not in report:
                self._replies.put(report)
            elif self._on_apdu is not None:
                self._on_apdu(
                    ApduReport(
                        number=report["apdu"],
                        sent_ns=report["sent_ns"],
                        command=bytes.fromhex(report["command"]),
                        answer=bytes.fromhex(report["answer"]),
                        computing_ms=report["computing_ms"],
                    )
                )
        self._replies.put(None)


if __name__ == "__main__":
    pn532_command()
