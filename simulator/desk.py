"""A desk: the real reader program at a virtual PN532, and the operator's page as a browser receives it."""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Literal, Self

import httpx

from simulator.link_faults import LinkOptions
from simulator.pn532_process import Pn532Process
from simulator.reporting_process import WITHIN_S, ReportingProcess
from simulator.virtual_card import VirtualCard
from simulator.virtual_pcsc import NAME, VirtualPcsc

_CHANGEOVER_S: Final = 0.5
"""How long the field is empty between two cards: longer than a card must be gone to be another."""
_ABOUT_A_CARD: Final = frozenset({"passed_on", "nobody_signed_on", "not_read", "not_passed_on"})


class DeskProcess:
    """A context manager around ``drempel-desk run``. Methods raise RuntimeError when it ends, or says nothing in time."""

    def __init__(
        self,
        directory: Path,
        hub_url: str,
        token: str,
        *,
        timing: Literal["none", "realistic"] = "none",
        log: IO[Any] | int | None = None,
        pcsc: VirtualPcsc | None = None,
    ) -> None:
        self.config = directory / "desk.toml"
        link = directory / "desk-reader"
        device, backend = (link, "pn532") if pcsc is None else (NAME, "pcsc")
        self.config.touch(0o600)
        self.config.write_text(
            f'hub = "{hub_url}"\ntoken = "{token}"\nbackend = "{backend}"\ndevice = "{device}"\n'
        )
        self.reader = Pn532Process(timing=timing, link=link) if pcsc is None else _PcscReader(pcsc)
        arguments = ["edge.desk", "run", f"--config={self.config}", "--format=json"]
        self._program = ReportingProcess(arguments, name="the desk's program", log=log)
        self.until = self._program.until
        self._empty_since_s = 0.0

    def __enter__(self) -> Self:
        self.reader.start()
        try:
            self._program.__enter__()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the program as a service manager does, and its reader."""
        self._program.stop()
        self.reader.stop()

    def tap(self, card: VirtualCard) -> tuple[dict[str, Any], VirtualCard]:
        """Hold a card to the reader until the program says what became of it; that, and the card as it left.

        ``inserted`` (CLOCK_MONOTONIC in ns) is added to what is said.
        """
        time.sleep(max(0.0, self._empty_since_s + _CHANGEOVER_S - time.monotonic()))
        inserted_ns = self.reader.insert(card, LinkOptions())
        try:
            report = self.until(*_ABOUT_A_CARD)
        finally:
            _, left = self.reader.remove()
            self._empty_since_s = time.monotonic()
        return report | {"inserted": inserted_ns}, left or card


class _PcscReader:
    """A reader behind PC/SC as ``DeskProcess`` uses one; the service is its owner's."""

    def __init__(self, service: VirtualPcsc) -> None:
        self._service = service
        self._card: VirtualCard | None = None

    def start(self) -> None:
        """The service runs already."""

    def insert(self, card: VirtualCard, _link: LinkOptions | None = None) -> int:
        """Lay a card on it; returns the instant."""
        self._card = card
        at_ns = time.monotonic_ns()
        self._service.insert(card)
        return at_ns

    def remove(self) -> tuple[int, VirtualCard | None]:
        """Take the card away, and wait until the service has noticed; the instant and the card."""
        at_ns = time.monotonic_ns()
        self._service.lift(within_s=WITHIN_S)
        left, self._card = self._card, None
        return at_ns, left

    def stop(self) -> None:
        """Leave no card."""
        self._service.remove()


class DeskPage:
    """An operator's browser at the desk's page: follows a one-time link, signs on, and receives what is shown."""

    def __init__(self, hub_url: str, link: str, name: str = "Operator") -> None:
        self._browser = httpx.Client(base_url=hub_url, headers={"origin": hub_url}, timeout=WITHIN_S)
        answer = self._browser.post(link, data={"name": name})
        if answer.status_code != httpx.codes.SEE_OTHER:
            raise RuntimeError(f"the link leads nowhere: {answer.status_code}")

    def close(self) -> None:
        """Leave."""
        self._browser.close()

    def sign_on(self, station: str, *, take_over: bool = False) -> int:
        """Press the button beside a desk; the status of the answer."""
        form = {"csrf_token": self._token(), "station": station, "take_over": str(take_over).lower()}
        return self._browser.post("/desk/sign-on", data=form).status_code

    def sign_off(self) -> None:
        """Leave the desk."""
        self._browser.post("/desk/sign-off", data={"csrf_token": self._token()})

    def press(self, path: str, **form: str) -> int:
        """Press the button of another form, which goes to this path; the status of the answer."""
        return self._browser.post(path, data={"csrf_token": self._token(), **form}).status_code

    def get(self, path: str) -> httpx.Response:
        """Something that the page shows."""
        return self._browser.get(path)

    @contextmanager
    def watching(
        self, path: str = "/desk/stream"
    ) -> Iterator[queue.SimpleQueue[tuple[int, str, dict[str, Any]]]]:
        """What the page, or that of another stream, receives while it is open: when (CLOCK_MONOTONIC in ns), the kind of event, and its data."""
        received: queue.SimpleQueue[tuple[int, str, dict[str, Any]]] = queue.SimpleQueue()
        with self._browser.stream("GET", path, timeout=None) as stream:
            if stream.status_code != httpx.codes.OK:
                raise RuntimeError(f"no stream: {stream.status_code}")
            thread = threading.Thread(target=_receive, args=(stream, received), daemon=True)
            thread.start()
            received.get(timeout=WITHIN_S)  # how it stands: the page is open
            yield received
            stream.close()

    def _token(self) -> str:
        found = re.search(r'name="csrf_token" value="([0-9a-f]+)"', self._browser.get("/desk").text)
        if found is None:
            raise RuntimeError("not signed in")
        return found[1]


def _receive(stream: httpx.Response, received: queue.SimpleQueue[tuple[int, str, dict[str, Any]]]) -> None:
    kind = ""
    try:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                received.put((time.monotonic_ns(), kind, json.loads(line.removeprefix("data: "))))
    except (httpx.HTTPError, httpx.StreamError, OSError):
        return
