"""Events from the journal to the hub, and the hub's documents to the queue, over MQTT with mutual TLS.

One thread does everything and may wait for the network as long as it likes; ``notify`` is all that other
threads call. It connects by itself, again and again; the journal is the only queue.
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.hub_connection import Counts, EventSource, HubConnection, Parts, Received, UplinkSettings
from edge.link_state import LinkCause, LinkLog, LinkState, cause_of
from edge.renewal import CertificateStanding, Renewal
from pacs.errors import StoreError
from pacs.messages import ControllerStatus, Report

__all__ = ["Counts", "EventSource", "LinkState", "Uplink", "UplinkSettings"]

_log = logging.getLogger(__name__)


class Uplink:
    """``start`` once, ``stop`` once."""

    def __init__(
        self,
        settings: UplinkSettings,
        *,
        journal: EventSource,
        event_key: Ed25519PrivateKey,
        tls_context: Callable[[], ssl.SSLContext],
        put: Callable[[Received], None],
        status: Callable[[], ControllerStatus],
        counts: Counts | None = None,
        standing: Callable[[], object] = lambda: None,
        has_expired: Callable[[], bool] = lambda: False,
        renewal: Renewal | None = None,
        report: Callable[[], Report | None] = lambda: None,
    ) -> None:
        """All are called by the uplink's thread; ``put`` must not wait. ``counts``: to count in. ``standing``: what the
        hub hears of at once, by a heartbeat, when it changes.

        ``tls_context`` is called for every connection, so that a renewed certificate is used; ``has_expired``: whether ours
        has, asked when a broker ends a connection without a word. ``report``: the newest one, sent once on each connection.
        """
        self._settings = settings
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._parts = Parts(
            settings=settings,
            journal=journal,
            event_key=event_key,
            tls_context=tls_context,
            put=put,
            status=status,
            standing=standing,
            has_expired=has_expired,
            wake=self._wake_reader,
            stopping=threading.Event(),
            counts=counts or Counts(),
            log=LinkLog(),
            renewal=renewal,
            report=report,
        )
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)

    @property
    def counts(self) -> Counts:
        """What happened since the start."""
        return self._parts.counts

    @property
    def state(self) -> LinkState:
        """How the link stands at this moment; from any thread."""
        return self._parts.log.state

    @property
    def certificate(self) -> CertificateStanding | None:
        """The one in force; from any thread."""
        return self._parts.renewal.standing if self._parts.renewal else None

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def notify(self) -> None:
        """More events became durable; from any thread, never waits."""
        with contextlib.suppress(OSError):  # full: the thread is about to wake up anyway
            self._wake_writer.send(b"\0")

    def stop(self, timeout_s: float = 5.0) -> None:
        """Say goodbye to the hub and end the thread; what was not acknowledged stays in the journal."""
        self._parts.stopping.set()
        self.notify()
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._wake_reader.close()
            self._wake_writer.close()

    def _run(self) -> None:
        bound_s = self._settings.reconnect_min_s
        while not self._parts.stopping.is_set():
            if self._connect_once():
                bound_s = self._settings.reconnect_min_s
            # drawn, so that the doors of a site do not all return at once; no secret
            wait_s = bound_s * random.uniform(0.5, 1.0)  # noqa: S311
            self._parts.log.waiting(wait_s)
            self._parts.stopping.wait(wait_s)
            bound_s = min(2 * bound_s, self._settings.reconnect_max_s)
        self._parts.log.stopped()

    def _connect_once(self) -> bool:
        """Return whether the hub has answered."""
        link, connection = self._parts.log, None
        link.connecting()
        try:
            connection = HubConnection(self._parts)
            connection.serve()
            cause, words = connection.ended_by
        except (OSError, StoreError) as error:
            cause, words = cause_of(error), str(error)
            _log.info("no connection to the hub: %s (%s)", cause.value, error)
        except Exception as error:  # noqa: BLE001 - the doors go on without the hub, and the hub is tried again
            cause, words = LinkCause.INTERNAL_FAULT, type(error).__name__
            _log.exception("the connection to the hub ended by a fault of our own")
        link.ended(cause, words)
        if connection is None:
            return False
        connection.close()
        if self._parts.renewal:
            self._parts.renewal.ended(time.monotonic())
        return connection.was_answered
