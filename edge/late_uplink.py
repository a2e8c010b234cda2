"""The uplink begins when the doors already work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from edge.inputs import LinkChanged, PartFailed
from edge.snapshot import LinkSnapshot
from pacs.errors import PacsError

if TYPE_CHECKING:
    from edge.uplink import Uplink

log = logging.getLogger(__name__)

UPLINK_AGAIN_S: Final = 1.0
UPLINK_AGAIN_MAX_S: Final = 60.0


class LateUplink:
    """The uplink, which no tap needs: imported, built and started by a thread of its own, until that succeeds."""

    def __init__(self, build: Callable[[Callable[[Any], None]], Uplink], put: Callable[[Any], None]) -> None:
        """``build`` makes the uplink, which puts what comes from the hub. ``put`` also hears of the first failure."""
        self._build = build
        self._put = put
        self._online = False
        self._cause: str | None = None
        self._stopping = threading.Event()
        self._uplink: Uplink | None = None
        self._thread = threading.Thread(target=self._run, name="uplink start", daemon=True)

    def start(self) -> None:
        """Begin to try; returns at once."""
        self._thread.start()

    def notify(self) -> None:
        """More events became durable; never waits."""
        if self._uplink:
            self._uplink.notify()

    def link(self) -> LinkSnapshot:
        """How the connection stands; never waits."""
        if self._online:
            return LinkSnapshot(state="online")
        if self._uplink is None and self._cause is None:
            return LinkSnapshot(state="starting")
        return LinkSnapshot(state="offline", cause=self._cause)

    def stop(self) -> None:
        """Give up trying, or stop what was started."""
        self._stopping.set()
        self._thread.join()
        if self._uplink:
            self._uplink.stop()

    def _received(self, received: Any) -> None:
        if isinstance(received, LinkChanged):
            self._online = received.online
        self._put(received)

    def _run(self) -> None:
        wait_s = UPLINK_AGAIN_S
        while not self._uplink:
            try:
                uplink = self._build(self._received)
                uplink.start()
            except Exception as error:
                if isinstance(error, PacsError):
                    log.error("the uplink cannot be started: %s", error)  # noqa: TRY400 - the message says it all
                else:
                    log.exception("the uplink cannot be started")
                self._cause = str(error) if isinstance(error, PacsError) else type(error).__name__
                if wait_s == UPLINK_AGAIN_S:
                    self._put(PartFailed(part="uplink", error=type(error).__name__))
                if self._stopping.wait(wait_s):
                    return
                wait_s = min(2 * wait_s, UPLINK_AGAIN_MAX_S)
            else:
                self._uplink, self._cause = uplink, None
                uplink.notify()
