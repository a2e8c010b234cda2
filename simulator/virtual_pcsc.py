"""A PC/SC service with one virtual reader: pcscd and vsmartcard's vpcd, and a card that they take for a chip.

The service runs in a network of its own, which has only a loopback: vpcd listens on every address it finds. It needs
root, and no other service on the machine: there is one socket for all of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from simulator.iso_dep_card import Handler

DRIVER: Final = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
SERVICE_SOCKET: Final = Path("/run/pcscd/pcscd.comm")
NAME: Final = "Virtual PCD 00 00"
ATR: Final = bytes.fromhex("3b80800101")
"""Of a contactless card that says nothing about itself (PC/SC part 3, §3.1.3.2.3)."""

_PORT: Final = 0x8C7B
_CLONE_NEWNET: Final = 0x40000000
_GET_UID: Final = bytes.fromhex("ffca000000")
_READY_S: Final = 10.0


def missing() -> str | None:
    """Why there can be no such service here; None: there can."""
    if shutil.which("pcscd") is None or not DRIVER.exists():
        return "pcscd and vpcd are missing; run: apt-get install pcscd vsmartcard-vpcd"
    if os.geteuid() != 0:
        return "only root can give a service a network of its own"
    if not (shutil.which("unshare") and shutil.which("ip")):
        return "unshare and ip are missing; run: apt-get install util-linux iproute2"
    if _answers(SERVICE_SOCKET):
        return "a PC/SC service is running; stop it first"
    return None


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """While no other process of the simulator has a service: waits for its end."""
    with (Path(tempfile.gettempdir()) / "drempel-pcsc.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _answers(path: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as service:
        service.connect(str(path))
        return True
    return False


class VirtualPcsc:
    """A context manager: the service runs and its reader, ``NAME``, is plugged in. Raises RuntimeError when it does not start."""

    def __init__(self) -> None:
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._card: _Card | None = None

    def insert(self, handler: Handler, *, uid: bytes | None = None) -> None:
        """Lay a card on the reader, which tells its ``uid`` if there is one; the service sees it within half a second."""
        self.remove()
        process = self._process
        if process is None:
            raise RuntimeError("the service does not run")
        self._card = _Card(handler, uid, process.pid)

    def remove(self) -> None:
        """Take it away. A card that comes before the service has noticed, by ``SCardGetStatusChange``, may not be seen."""
        card, self._card = self._card, None
        if card is not None:
            card.close()

    def lift(self, *, within_s: float) -> None:
        """Take the card away and wait until the service says so. Needs pyscard. Raises RuntimeError."""
        from smartcard import scard

        self.remove()
        deadline = time.monotonic() + within_s
        code, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
        while code == scard.SCARD_S_SUCCESS:
            code, states = scard.SCardGetStatusChange(context, 0, [(NAME, scard.SCARD_STATE_UNAWARE)])
            if states and states[0][1] & scard.SCARD_STATE_EMPTY:
                break
            if time.monotonic() > deadline:
                raise RuntimeError("pcscd does not notice that the card is gone")
            time.sleep(0.02)
        scard.SCardReleaseContext(context)

    def stop(self) -> None:
        """End the service, as when it dies."""
        process, self._process = self._process, None
        self.remove()
        if process is not None:
            process.terminate()
            process.wait(timeout=_READY_S)

    def start(self) -> None:
        """Run the service."""
        SERVICE_SOCKET.parent.mkdir(exist_ok=True)
        command = f"ip link set lo up && exec pcscd --foreground --config {self._folder}"
        unshare = shutil.which("unshare") or "unshare"
        self._process = subprocess.Popen(
            [unshare, "--net", "/bin/sh", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _READY_S
        while not _answers(SERVICE_SOCKET):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("pcscd does not start")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="drempel-pcsc-"))
        (self._folder / "vpcd").write_text(
            f'FRIENDLYNAME "Virtual PCD"\nDEVICENAME /dev/null:{_PORT:#x}\nLIBPATH {DRIVER}\nCHANNELID {_PORT:#x}\n'
        )
        try:
            self.start()
        except RuntimeError:
            shutil.rmtree(self._folder)
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder)


class _Card:
    """vpcd's peer: it is told power, reset, ATR and APDUs, each after two bytes of length."""

    def __init__(self, handler: Handler, uid: bytes | None, service_pid: int) -> None:
        self._handler = handler
        self._uid = uid
        self._gone = threading.Event()
        self._connected = threading.Event()
        self._service_pid = service_pid
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="pcsc card", daemon=True)
        self._thread.start()
        if not self._connected.wait(_READY_S):
            raise RuntimeError("vpcd takes no card")

    def close(self) -> None:
        self._gone.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        _enter_network(self._service_pid)
        deadline = time.monotonic() + _READY_S
        while not self._gone.is_set() and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", _PORT)) as service:
                service.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socket = service
                self._connected.set()
                self._serve(service)
                return
            self._gone.wait(0.02)

    def _serve(self, service: socket.socket) -> None:
        while not self._gone.is_set():
            # the length comes in a segment of its own, which the other end wants acknowledged first
            service.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            request = _receive(service, int.from_bytes(_receive(service, 2)))
            answer = self._answer(request)
            if answer is not None:
                service.sendall(len(answer).to_bytes(2) + answer)

    def _answer(self, request: bytes) -> bytes | None:
        if request in (b"\x00", b"\x01", b"\x02"):  # power off, power on, reset
            self._handler.reset()
            return None
        if request == b"\x04":
            return ATR
        if request == _GET_UID:
            return b"\x6a\x81" if self._uid is None else self._uid + b"\x90\x00"
        if self._gone.wait(self._handler.computing_ms(request) / 1000):
            return None
        return self._handler.answer(request)


def _receive(service: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = service.recv(size - len(data))
        if not more:
            raise ConnectionError
        data += more
    return data


def _enter_network(pid: int) -> None:
    """Take this thread, and no other, into the network of a process."""
    with Path(f"/proc/{pid}/ns/net").open("rb") as network:
        if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
