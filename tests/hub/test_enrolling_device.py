from __future__ import annotations

import secrets
import ssl
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from click.testing import CliRunner

from edge.__main__ import main
from edge.config_file import load
from edge.enrolment import Enrolment
from edge.enrolment_hub import EnrolmentRefused, HubUnreachable, Place
from edge.keystore import Keystore, in_force
from hub.roles import Role
from pacs.enrolment import EnrolmentCode
from pacs.errors import MalformedData, StoreError
from pacs.identifiers import ControllerId, SiteId
from provisioning.site import create_site
from tests.hub.running import RunningHub, running_hub
from tests.hub.test_enrolment import a_code, a_place

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub that its site's own certificate vouches for."""
    directory = tmp_path_factory.mktemp("hub")
    site = create_site(directory / "site", SiteId("test-site"), now=datetime.now(UTC))
    files = {"certificate": site.hub_directory / "web.cert.pem", "key": site.hub_directory / "web.key.pem"}
    with running_hub(directory, site=site, **files) as hub:
        hub.url = hub.url.replace("http://127.0.0.1", "https://localhost")
        trust = ssl.create_default_context(cafile=site.directory / "root.cert.pem")
        hub.client = lambda **headers: httpx.Client(  # type: ignore[method-assign]
            base_url=hub.url, headers=headers, timeout=20, verify=trust
        )
        yield hub


@contextmanager
def technician(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.token(Role.TECHNICIAN) as program:
        yield program


@pytest.fixture
def place(hub: RunningHub) -> str:
    hub.app.state.services.attempts._limiter.storage.reset()
    with technician(hub) as program:
        return a_place(program)


def a_printed_code(hub: RunningHub, place: str, purpose: str = "first") -> EnrolmentCode:
    with technician(hub) as program:
        return replace(EnrolmentCode.parse(a_code(program, place, purpose)), address=hub.url)


def attempt(code: EnrolmentCode, directory: Path, said: list[str] | None = None) -> Enrolment:
    lines = said if said is not None else []
    return Enrolment(
        code=code,
        directory=directory,
        state_dir=directory / "state",
        now=datetime.now(UTC),
        say=lines.append,
    )


def test_a_device_is_enrolled_over_https(hub: RunningHub, place: str, tmp_path: Path) -> None:
    """Keys 0600, a configuration that loads, and both documents held; the code is in none of the files."""
    code = a_printed_code(hub, place)
    rehearsed = CliRunner().invoke(
        main, ["enrol", str(code), "--dir", str(tmp_path / "etc"), "--allow-root", "--dry-run"]
    )
    assert (rehearsed.exit_code, (tmp_path / "etc").exists()) == (0, False), rehearsed.output
    path = attempt(code, tmp_path / "etc").run()
    config = load(path)
    assert (config.controller_id, config.hub_host) == (place, "localhost")
    Keystore.open(config.keys, config.controller_id).tls_context()
    assert {file.name for file in (config.state_dir / "policy").iterdir()} >= {
        "policy.signed",
        "revocations.signed",
    }
    files = [file for file in (tmp_path / "etc").rglob("*") if file.is_file()]
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert not any(code.secret.hex() in file.read_text("latin-1") for file in files)
    said: list[str] = []
    assert attempt(code, tmp_path / "etc", said).run() == path
    assert said == ["Enrolled with this code before."]


@contextmanager
def impostor(hub: RunningHub, directory: Path) -> Iterator[tuple[str, list[str]]]:
    """Somebody who shows the hub's root, which is no secret, behind a certificate of another site; and what is sent there."""
    site = create_site(directory / "other", SiteId("other"), now=datetime.now(UTC))
    with hub.client() as client:
        roots = client.get("/.well-known/est/cacerts").content
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.requestline)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(roots)

        def do_POST(self) -> None:
            asked.append(f"{self.requestline} {self.headers}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secret = (site.hub_directory / "passphrase").read_text().strip()
    context.load_cert_chain(site.hub_directory / "web.cert.pem", site.hub_directory / "web.key.pem", secret)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_nothing_is_sent_to_a_hub_that_the_code_does_not_name(
    hub: RunningHub, place: str, tmp_path: Path
) -> None:
    """Another root, somebody who only shows the right one, and nobody at all: each is said, and the code is still good."""
    code = a_printed_code(hub, place)
    other = replace(code, fingerprint=secrets.token_bytes(16))
    with pytest.raises(EnrolmentRefused, match=r"root certificate is another\. Nothing secret was sent"):
        attempt(other, tmp_path / "a").run()
    with impostor(hub, tmp_path) as (address, asked):
        with pytest.raises(EnrolmentRefused, match="is not believed"):
            attempt(replace(code, address=address), tmp_path / "b").run()
        assert asked == ["GET /.well-known/est/cacerts HTTP/1.1"]
    with pytest.raises(HubUnreachable, match="does not answer"):
        attempt(replace(code, address="https://localhost:1"), tmp_path / "c").run()
    attempt(code, tmp_path / "d").run()


@pytest.mark.parametrize("after", ["Made keys", "Certified as", "Holds policy"])
def test_interrupted_it_goes_on_with_the_same_keys(
    hub: RunningHub, place: str, tmp_path: Path, after: str
) -> None:
    """Wherever it was cut off, the same code on the same device ends in one certificate and a whole configuration."""
    code = a_printed_code(hub, place)

    class CutOffError(Exception):
        pass

    def cut(line: str) -> None:
        if line.startswith(after):
            raise CutOffError

    with pytest.raises(CutOffError):
        replace(attempt(code, tmp_path / "etc"), say=cut).run()
    assert not (tmp_path / "etc" / "controller.toml").exists()
    said: list[str] = []
    config = load(attempt(code, tmp_path / "etc", said).run())
    assert config.controller_id == place
    assert any(line.startswith("Going on with the keys") for line in said) == (after != "Made keys")
    with pytest.raises(EnrolmentRefused, match="Another device has used the code"):
        attempt(code, tmp_path / "other").run()


def test_the_same_device_comes_back_as_it_was(hub: RunningHub, place: str, tmp_path: Path) -> None:
    """With another code it keeps its configuration and event key, and goes by another certificate; no other place's code."""
    config = load(attempt(a_printed_code(hub, place), tmp_path / "etc").run())
    before = Keystore.open(config.keys, config.controller_id)
    config.path.write_text(config.path.read_text().replace("strike_pin = 17", "strike_pin = 9"))
    with technician(hub) as program:
        other = a_place(program)
    with pytest.raises(EnrolmentRefused, match="another controller's place"):
        attempt(a_printed_code(hub, other), tmp_path / "etc").run()
    attempt(a_printed_code(hub, place, "again"), tmp_path / "etc").run()
    config = load(config.path)
    after = Keystore.open(config.keys, ControllerId(place))
    assert config.doors[0].strike_pin == 9
    assert after.event_key.private_bytes_raw() == before.event_key.private_bytes_raw()
    assert after.device_certificate.serial_number != before.device_certificate.serial_number
    assert in_force(config.keys).device_key == config.state_dir / "device.pem"
    (config.state_dir / "device.pem").write_text("damaged")
    assert Keystore.open(config.keys, ControllerId(place)).device_certificate == before.device_certificate


def test_a_spare_does_not_go_on_with_another_controllers_journal(
    hub: RunningHub, place: str, tmp_path: Path
) -> None:
    """Events of a controller that was on the device before are not silently taken over, nor lost."""
    (tmp_path / "etc" / "state" / "journal").mkdir(parents=True)
    (tmp_path / "etc" / "state" / "journal" / "segment").touch()
    with pytest.raises(StoreError, match="was here before"):
        attempt(a_printed_code(hub, place), tmp_path / "etc").run()


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"wiring": 1}', b"\xff", b'{"wiring": null, "controller_id": "a b"}']
)
def test_an_answer_that_is_none_is_refused(data: bytes) -> None:
    """Whatever the hub sends, nothing but ``MalformedData`` comes of it."""
    with pytest.raises(MalformedData):
        Place.from_bytes(data)


def test_a_mistyped_code_is_found_before_anybody_is_asked(tmp_path: Path) -> None:
    """The command says so and exits 1; nothing is made."""
    code = str(EnrolmentCode(address="https://nowhere.example", secret=bytes(16), fingerprint=bytes(16)))
    mistyped = code[:-1] + ("7" if code[-1] == "8" else "8")
    ran = CliRunner().invoke(main, ["enrol", mistyped, "--dir", str(tmp_path / "etc"), "--allow-root"])
    assert (ran.exit_code, "mistyped" in ran.stderr) == (1, True)
    assert not (tmp_path / "etc").exists()
