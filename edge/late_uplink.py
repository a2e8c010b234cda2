"""The uplink begins when the doors already work."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from edge.inputs import PartFailed
from edge.snapshot import CertificateSnapshot, LinkSnapshot
from pacs.errors import PacsError

if TYPE_CHECKING:
    from edge.uplink import Uplink

log = logging.getLogger(__name__)

UPLINK_AFTER_S: Final = 0.5
"""Readers open meanwhile, and a card that was there before the controller is read."""
UPLINK_AGAIN_S: Final = 1.0
UPLINK_AGAIN_MAX_S: Final = 60.0


class LateUplink:
    """The uplink, which no tap needs: imported, built and started by a thread of its own, until that succeeds."""

    def __init__(
        self,
        build: Callable[[], Uplink],
        put: Callable[[PartFailed], None],
        *,
        after_s: float = UPLINK_AFTER_S,
    ) -> None:
        """``put``: hears of the first failure. ``after_s``: how long the doors have the machine for themselves."""
        self._after_s = after_s
        self._build = build
        self._put = put
        self._failures = 0
        self._words = ""
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
        uplink = self._uplink
        if uplink is None:
            failed = self._failures > 0
            return LinkSnapshot(
                state="waiting" if failed else "starting",
                failures=self._failures,
                cause="not_built" if failed else None,
                words=self._words,
            )
        state = uplink.state
        retry_s = state.next_attempt_s
        return LinkSnapshot(
            state=state.phase.value,
            answered=state.answered,
            failures=state.failures,
            retry_in_s=None if retry_s is None else round(max(0.0, retry_s - time.monotonic()), 1),
            cause=state.cause.value if state.cause else None,
            words=state.words,
        )

    def certificate(self) -> CertificateSnapshot | None:
        """The one that the hub is met with; None: not known yet, or it cannot be read. Never waits."""
        found = self._uplink.certificate if self._uplink else None
        if found is None:
            return None
        return CertificateSnapshot(serial=found.serial, ends_at=found.ends_at, renews_at=found.renews_at)

    def stop(self) -> None:
        """Give up trying, or stop what was started."""
        self._stopping.set()
        self._thread.join()
        if self._uplink:
            self._uplink.stop()

    def _run(self) -> None:
        if self._stopping.wait(self._after_s):
            return
        wait_s = UPLINK_AGAIN_S
        while not self._uplink:
            try:
                uplink = self._build()
                uplink.start()
            except Exception as error:
                if isinstance(error, PacsError):
                    log.error("the uplink cannot be started: %s", error)  # noqa: TRY400 - the message says it all
                else:
                    log.exception("the uplink cannot be started")
                self._failures += 1
                self._words = str(error) if isinstance(error, PacsError) else type(error).__name__
                if self._failures == 1:
                    self._put(PartFailed(part="uplink", error=type(error).__name__))
                if self._stopping.wait(wait_s):
                    return
                wait_s = min(2 * wait_s, UPLINK_AGAIN_MAX_S)
            else:
                self._uplink = uplink
                uplink.notify()
