"""How a running controller is asked how it goes: a Unix socket in its state directory, one line of JSON, no more.

The thread that owns the state only publishes a value; a thread of its own answers, one caller after the other.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from edge.snapshot import FORMAT, ControllerSnapshot
from pacs.errors import StoreError

log = logging.getLogger(__name__)

NAME: Final = "status.sock"
PATIENCE_S: Final = 1.0
"""What a caller gets to take its answer, and a controller to give it."""
MAX_ANSWER_BYTES: Final = 64 * 1024
_WAITING_CALLERS: Final = 4


class NotRunning(StoreError):
    """No controller answers for this state directory."""


class StatusServer:
    """``publish`` from one thread, ``start`` and ``stop`` once. Nothing a caller does reaches the publishing thread."""

    def __init__(
        self,
        state_dir: Path,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """``state_dir``: no other controller uses it."""
        self._state_dir = state_dir
        self._monotonic_s = monotonic_s
        self._patience_s = patience_s
        self._snapshot: ControllerSnapshot | None = None
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="status", daemon=True)

    def publish(self, snapshot: ControllerSnapshot) -> None:
        """Answer with this from here on; never waits."""
        self._snapshot = snapshot

    def start(self) -> None:
        """Begin to answer. What stands in the way is logged: no door depends on this."""
        try:
            self._listener = self._listen()
        except OSError as error:
            log.warning("%s: %s; drempel-edge status will not answer", self._state_dir / NAME, error.strerror)
            return
        self._thread.start()

    def stop(self) -> None:
        """Answer nobody any more."""
        if self._listener:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._thread.join(2 * self._patience_s)
            self._listener.close()
            with contextlib.suppress(OSError):
                (self._state_dir / NAME).unlink()

    def _listen(self) -> socket.socket:
        (self._state_dir / NAME).unlink(missing_ok=True)  # left by one that was killed
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _short_address(self._state_dir) as address:
                listener.bind(address)
            (self._state_dir / NAME).chmod(0o600)  # its directory is 0700 already
            listener.listen(_WAITING_CALLERS)
        except OSError:
            listener.close()
            raise
        return listener

    def _serve(self) -> None:
        assert self._listener  # noqa: S101 - the thread starts after it is there
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:  # stopped
                return
            with caller, contextlib.suppress(OSError):
                caller.settimeout(self._patience_s)
                caller.sendall(self._answer())

    def _answer(self) -> bytes:
        snapshot = self._snapshot
        document = (
            snapshot.document(self._monotonic_s()) if snapshot else {"format": FORMAT, "starting": True}
        )
        return json.dumps(document, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def ask(state_dir: Path, *, patience_s: float = 3.0) -> dict[str, Any]:
    """The document of the controller that runs with this state directory.

    Raises ``NotRunning`` when there is none, ``StoreError`` when it does not answer, or not this user.
    """
    received = b""
    until_s = time.monotonic() + patience_s
    try:
        with _short_address(state_dir) as address, socket.socket(socket.AF_UNIX) as server:
            server.settimeout(patience_s)
            _connect(server, address, until_s)
            while not received.endswith(b"\n") and len(received) <= MAX_ANSWER_BYTES:
                server.settimeout(max(0.01, until_s - time.monotonic()))
                part = server.recv(MAX_ANSWER_BYTES)
                if not part:
                    break
                received += part
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise NotRunning(f"{state_dir}: no controller is running; start it") from error
    except PermissionError as error:
        raise StoreError(f"{state_dir}: not for this user; ask as the one the controller runs as") from error
    except TimeoutError as error:
        raise StoreError(f"{state_dir}: the controller runs and does not answer; look at its log") from error
    except OSError as error:
        raise StoreError(f"{state_dir}: {error.strerror}; look at the controller's log") from error
    return _read(received, state_dir)


def _connect(server: socket.socket, address: str, until_s: float) -> None:
    while True:
        try:
            server.connect(address)
        except BlockingIOError:  # as many wait already as may
            if time.monotonic() >= until_s:
                raise TimeoutError from None
            time.sleep(0.01)
        else:
            return


def _read(received: bytes, state_dir: Path) -> dict[str, Any]:
    try:
        document = json.loads(received)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{state_dir}: the controller's answer is no JSON; look at its log") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise StoreError(f"{state_dir}: the controller is of another version; ask with its own drempel-edge")
    return document


@contextlib.contextmanager
def _short_address(state_dir: Path) -> Iterator[str]:
    """The socket's address by way of a descriptor: a path of any length fits into the 108 bytes of an address."""
    fd = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{NAME}"
    finally:
        os.close(fd)
