"""A real broker for tests: nats-server with JetStream and MQTT over mutual TLS, on a free loopback port.

``with TestBroker(tmp_path) as broker:`` starts and stops it; ``kill``, ``stop`` and ``start`` in between keep its
port and its stored messages. ``identity(name)`` makes a client's key and certificate.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sysconfig
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from pacs.identifiers import ControllerId
from pacs.topics import down_root, up_root
from provisioning.authority import Authority, Purpose, certificate_pem, generate_key

BINARY = Path(sysconfig.get_path("scripts")) / "nats-server"
PASSPHRASE = b"a passphrase for throw-away keys"
START_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A client's files; the key is encrypted with the passphrase in ``passphrase_file``."""

    certificate: Path
    key: Path
    root: Path
    passphrase_file: Path

    def tls_context(self) -> ssl.SSLContext:
        """Mutual TLS for a test's own client."""
        context = ssl.create_default_context(cafile=str(self.root))
        context.load_cert_chain(self.certificate, self.key, password=PASSPHRASE)
        return context


class TestBroker:
    """``port`` speaks MQTT. ``controllers`` may use their own topics only, the user "hub" every one."""

    __test__ = False

    def __init__(self, directory: Path, *, controllers: tuple[str, ...] = ("c1",)) -> None:
        self.directory = directory / "broker"
        self.directory.mkdir(mode=0o700)
        self.authority = Authority.create("test root", datetime.now(UTC))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._root = self.directory / "root.cert.pem"
        self._root.write_bytes(certificate_pem(self.authority.certificate))
        self._certify("localhost", Purpose.SERVER, NoEncryption())
        self._configure(controllers)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Return once it accepts connections."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [BINARY, "--config", self.directory / "nats.conf"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        self.stop()
        raise AssertionError((self.directory / "log").read_text(errors="replace")[-4000:])

    def stop(self) -> None:
        """End it properly."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def identity(self, name: str, *, expired: bool = False) -> Identity:
        """A client certificate for ``name``, signed by the broker's root, with an encrypted key; or a day too old."""
        passphrase_file = self.directory / "passphrase"
        passphrase_file.touch(mode=0o600)
        passphrase_file.write_bytes(PASSPHRASE + b"\n")
        certificate, key = self._certify(
            name, Purpose.CLIENT, BestAvailableEncryption(PASSPHRASE), issued_days_ago=3 if expired else 0
        )
        return Identity(certificate=certificate, key=key, root=self._root, passphrase_file=passphrase_file)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(timeout=START_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _certify(
        self,
        name: str,
        purpose: Purpose,
        encryption: KeySerializationEncryption,
        *,
        issued_days_ago: int = 0,
    ) -> tuple[Path, Path]:
        key = generate_key()
        hosts = ("127.0.0.1",) if purpose is Purpose.SERVER else ()
        certificate = self.authority.certify(
            name=name,
            public_key=key.public_key(),
            purpose=purpose,
            now=datetime.now(UTC) - timedelta(days=issued_days_ago),
            hosts=hosts,
            days=2,
        )
        certificate_path = self.directory / f"{name}.cert.pem"
        certificate_path.write_bytes(certificate_pem(certificate))
        key_path = self.directory / f"{name}.key.pem"
        fd = os.open(key_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return certificate_path, key_path

    def _configure(self, controllers: tuple[str, ...]) -> None:
        users: list[dict[str, object]] = [{"user": "hub"}]
        for name in controllers:
            up, down = (root(ControllerId(name)).replace("/", ".") for root in (up_root, down_root))
            allowed = {"publish": [up, f"{up}.>"], "subscribe": [down, f"{down}.>"]}
            users.append({"user": name, "permissions": allowed})
        configuration = {
            "server_name": "test",
            "host": "127.0.0.1",
            "port": -1,
            "jetstream": {"store_dir": str(self.directory / "store")},
            "mqtt": {
                "host": "127.0.0.1",
                "port": self.port,
                "ack_wait": "5s",
                "tls": {
                    "cert_file": str(self.directory / "localhost.cert.pem"),
                    "key_file": str(self.directory / "localhost.key.pem"),
                    "ca_file": str(self._root),
                    "verify_and_map": True,
                },
            },
            "authorization": {"users": users},
        }
        # the server reads JSON as one form of its configuration language
        (self.directory / "nats.conf").write_text(json.dumps(configuration, indent=1))


def free_port() -> int:
    """A loopback port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
