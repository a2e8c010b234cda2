"""The network between a controller and the broker: a port of its own, with a cable that can be pulled."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

PIECE_BYTES = 65_536


class NetworkCable:
    """Passes bytes on to ``port`` of the loopback address while it is plugged in; a context manager.

    Pulled, it drops every connection and accepts none.
    """

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._plugged_in = True
        self._other_end: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="network cable")
        self.port: int = self._listening.getsockname()[1]
        """Where the controller finds it."""

    @contextmanager
    def pulled(self) -> Iterator[None]:
        """Without network for as long as this lasts."""
        self._plug(plugged_in=False)
        try:
            yield
        finally:
            self._plug(plugged_in=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._wake_writer.send(b"\0")
        self._thread.join()
        for each in (self._listening, self._wake_reader, self._wake_writer, *self._other_end):
            each.close()
        self._selector.close()

    def _plug(self, *, plugged_in: bool) -> None:
        self._plugged_in = plugged_in
        self._wake_writer.send(b"\0")

    def _run(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select():
                ready = key.fileobj
                if ready is self._wake_reader:
                    self._wake_reader.recv(PIECE_BYTES)
                elif ready is self._listening:
                    self._accept()
                elif isinstance(ready, socket.socket) and ready in self._other_end:
                    self._pass_on(ready)
            if not self._plugged_in:
                for each in list(self._other_end):
                    self._drop(each)

    def _accept(self) -> None:
        near, _ = self._listening.accept()
        try:
            far = socket.create_connection(self._to, timeout=5)
        except OSError:  # nobody there
            near.close()
            return
        for each, other in ((near, far), (far, near)):
            self._other_end[each] = other
            self._selector.register(each, selectors.EVENT_READ)

    def _pass_on(self, ready: socket.socket) -> None:
        try:
            piece = ready.recv(PIECE_BYTES)
            if piece:
                self._other_end[ready].sendall(piece)
                return
        except OSError:
            pass  # one end has gone
        self._drop(ready)

    def _drop(self, each: socket.socket) -> None:
        other = self._other_end.pop(each, None)
        if other is None:
            return
        del self._other_end[other]
        for end in (each, other):
            self._selector.unregister(end)
            with contextlib.suppress(OSError):
                end.close()
