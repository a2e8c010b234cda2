"""Releases over HTTPS, from a real server: who is believed, what is followed, how much is read."""

from __future__ import annotations

import functools
import http.server
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge.updating.source import Source
from pacs.errors import MalformedData, StoreError
from provisioning.authority import Authority, Purpose, certificate_pem, generate_key


class Server(http.server.SimpleHTTPRequestHandler):
    """Static files; ``/moved`` is somewhere else."""

    def do_GET(self) -> None:
        """As any server of files."""
        if self.path == "/moved":
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", "/file")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing is said."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("https")


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    """Where a server answers whose certificate ``root/ca.pem`` vouches for."""
    now, key = datetime.now(UTC), generate_key()
    authority = Authority.create("updates", now=now)
    certificate = authority.certify(
        name="localhost", public_key=key.public_key(), purpose=Purpose.SERVER, now=now, hosts=("localhost",)
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (root / "server.pem").write_bytes(certificate_pem(certificate) + pem)
    (root / "ca.pem").write_bytes(certificate_pem(authority.certificate))
    (root / "files").mkdir()
    (root / "files" / "file").write_bytes(b"12345")
    handler = functools.partial(Server, directory=str(root / "files"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(root / "server.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"https://localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def believed(root: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Source:
    """The server, whose authority this machine has been told of."""
    monkeypatch.setenv("SSL_CERT_FILE", str(root / "ca.pem"))
    return Source(address)


def test_files_come_over_https(believed: Source, tmp_path: Path) -> None:
    """Read whole, and saved; a longer one than was signed is not read on."""
    assert believed.read("file", at_most=5) == b"12345"
    believed.save("file", tmp_path / "saved", at_most=5)
    assert (tmp_path / "saved").read_bytes() == b"12345"
    with pytest.raises(MalformedData, match="longer than the 4 bytes"):
        believed.read("file", at_most=4)


@pytest.mark.parametrize(("name", "why"), [("absent", "404"), ("moved", "302")])
def test_what_is_not_there_is_not_looked_for_elsewhere(believed: Source, name: str, why: str) -> None:
    """A file that is missing and an answer that sends elsewhere are refusals."""
    with pytest.raises(StoreError, match=why):
        believed.read(name, at_most=5)


def test_a_server_that_nobody_vouches_for_is_not_listened_to(address: str) -> None:
    """Its authority is not one of this machine's."""
    with pytest.raises(StoreError, match="cannot be had"):
        Source(address).read("file", at_most=5)
