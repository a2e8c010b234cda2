"""A real hub in a process of its own, and its REST interface as a client sees it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any, Final, Self

import httpx

START_WITHIN_S: Final = 60.0
STOP_WITHIN_S: Final = 20.0
_LOOPBACK: Final = "127.0.0.1"
_LOWEST_PORT: Final = 16_000
_HIGHEST_PORT: Final = 32_000
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def free_ports(count: int) -> list[int]:
    """TCP ports of the loopback address on which nobody listens.

    They lie below those that the system hands out, so that nobody takes one while the hub is away.
    """
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(_LOWEST_PORT, _HIGHEST_PORT)
        with contextlib.suppress(OSError), socket.create_server((_LOOPBACK, port)):
            found.add(port)
    return list(found)


class HubProcess:
    """A context manager around ``drempel-hub run``.

    ``site_dir`` is the hub's part of a site directory; ``environment`` adds settings. Ports stay the same over ``stop`` and ``start``.
    Raises RuntimeError when the hub does not start, or ends unasked.
    """

    def __init__(
        self,
        site_dir: Path,
        data_dir: Path,
        *,
        stderr: IO[Any] | int | None = None,
        environment: Mapping[str, str] = _NOTHING,
    ) -> None:
        self.http_port, self.mqtt_port = free_ports(2)
        self._stderr = stderr
        self._environment = environment
        self._site_dir = site_dir
        self.data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its pages are."""
        return f"http://{_LOOPBACK}:{self.http_port}"

    @property
    def pid(self) -> int:
        """The process's id. Raises RuntimeError when it does not run."""
        if self._process is None:
            raise RuntimeError("the hub does not run")
        return self._process.pid

    @property
    def broker_pid(self) -> int:
        """The id of its broker's process. Raises RuntimeError while there is none."""
        try:
            return int((self.data_dir / "broker" / "broker.pid").read_text())
        except (OSError, ValueError) as error:
            raise RuntimeError("no broker runs") from error

    def start(self) -> Self:
        """Start it; returns once it is ready."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "hub", "run"),
                f"--site-dir={self._site_dir}",
                f"--data-dir={self.data_dir}",
                f"--http={_LOOPBACK}:{self.http_port}",
                f"--mqtt={_LOOPBACK}:{self.mqtt_port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a first-run link, which is nobody's but the operator's
            stderr=self._stderr,
            env={**os.environ, **self._environment},
            start_new_session=True,  # Ctrl-C is for whoever started this, who then ends it in order
        )
        deadline_s = time.monotonic() + START_WITHIN_S
        while not self._is_ready():
            if self._process.poll() is not None:
                status, self._process = self._process.returncode, None
                raise RuntimeError(f"the hub ended with status {status}")
            if time.monotonic() > deadline_s:
                self.kill()
                raise RuntimeError(f"the hub was not ready within {START_WITHIN_S} s")
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End it as a service manager does; after 20 s by force."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once with SIGKILL."""
        self._end(signal.SIGKILL)

    def command(self, *arguments: str) -> str:
        """What a ``drempel-hub`` command prints, run beside the hub; raises RuntimeError when it fails."""
        ran = subprocess.run(
            [sys.executable, "-m", "hub", *arguments, f"--data-dir={self.data_dir}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
        )
        if ran.returncode != 0:
            raise RuntimeError(ran.stderr.strip())
        return ran.stdout.strip()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.stop()

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=1.0).is_success
        except httpx.HTTPError:
            return False

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        os.kill(process.pid, number)
        try:
            process.wait(timeout=STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class HubApi:
    """The hub's REST interface, with an API token; a context manager. ``trust``: whom to believe, of an ``https`` address."""

    def __init__(self, url: str, token: str, trust: ssl.SSLContext | None = None) -> None:
        headers = {"authorization": f"Bearer {token}"}
        verify = True if trust is None else trust
        self._client = httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=10.0, verify=verify)

    def get(self, path: str, **query: str | int) -> Any:
        """The answer to a GET; raises RuntimeError with what the hub said when it refuses."""
        return self._answer(self._client.get(path, params=query))

    def put(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a PUT; raises RuntimeError likewise."""
        return self._answer(self._client.put(path, json=body))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a POST; raises RuntimeError likewise."""
        return self._answer(self._client.post(path, json=body))

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a PATCH; raises RuntimeError likewise."""
        return self._answer(self._client.patch(path, json=body))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        if not response.is_success:
            raise RuntimeError(f"{response.request.url.path}: {response.status_code} {response.text}")
        return response.json()
