"""``check-config`` finds what keeps a controller from starting, and what keeps it from its hub."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edge.__main__ import main
from edge.keystore import read_passphrase
from provisioning.authority import Purpose
from provisioning.site import Site
from tests.edge.installed import NOW, install
from tests.edge.small_site import CONTROLLER


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with one controller."""
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def directory(site: Site, tmp_path: Path) -> Path:
    """That controller's directory."""
    shutil.copytree(site.directory.parent / "controller", tmp_path / "controller")
    return tmp_path / "controller"


def check(directory: Path) -> Any:
    return CliRunner().invoke(main, ["check-config", "--config", str(directory / "controller.toml")])


def write(was: str, becomes: str) -> Callable[[Path], object]:
    """Changes a line of the configuration."""

    def change(directory: Path) -> None:
        file = directory / "controller.toml"
        text, times = re.subn(was, becomes, file.read_text(), count=1, flags=re.MULTILINE)
        assert times == 1
        file.write_text(text)

    return change


def share_a_device(directory: Path) -> None:
    (directory / "reader").touch()
    (directory / "alias").symlink_to("reader")
    write("^device = .*", 'device = "reader"')(directory)
    with (directory / "controller.toml").open("a") as file:
        file.write('\n[[door.reader]]\nside = "exit"\ndevice = "alias"\n')


@pytest.mark.parametrize("host", ["localhost", "hub.example.org", "192.0.2.7", "2001:db8::7", "hub_1"])
def test_what_provisioning_writes_is_in_order(directory: Path, host: str) -> None:
    """With a hub by name or by address."""
    write("^host = .*", f'host = "{host}"')(directory)
    result = check(directory)
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda at: (at / "root.cert.pem").write_text("nonsense"), "root.cert.pem"),
        (lambda at: (at / "policy.pub.pem").write_text("nonsense"), "policy.pub.pem"),
        (lambda at: (at / "event.key.pem").chmod(0o644), "chmod 600"),
        (lambda at: (at / "state").write_text("a file"), "no directory"),
        (write("^state_dir = .*", f'state_dir = "{"x" * 300}"'), "state_dir"),
        (write("^host = .*", 'host = "localhost:18483"'), "[hub] host"),
        (write("^host = .*", 'host = "tls://localhost"'), "[hub] host"),
        (share_a_device, "is the device of"),
    ],
)
def test_one_fault_is_one_line(directory: Path, spoil: Callable[[Path], object], named: str) -> None:
    """It says what it is, and exits 1."""
    spoil(directory)
    result = check(directory)
    (line,) = result.stderr.splitlines()[1:]
    assert (result.exit_code, named in line) == (1, True)


def test_a_certificate_that_has_expired_is_found(directory: Path, site: Site) -> None:
    """It belongs to the key and to the root, and no broker takes it."""
    key = load_pem_private_key(
        (directory / "device.key.pem").read_bytes(), read_passphrase(directory / "passphrase")
    )
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificate = site.authority(site.passphrase()).certify(
        name=CONTROLLER,
        public_key=key.public_key(),
        purpose=Purpose.CLIENT,
        now=NOW - timedelta(days=3),
        days=2,
    )
    (directory / "device.cert.pem").write_bytes(site.authority(site.passphrase()).chain_pem(certificate))
    result = check(directory)
    assert (result.exit_code, "expired" in result.stderr) == (1, True)


def test_all_faults_are_told_together(directory: Path) -> None:
    """One run is enough to know what has to be done."""
    write("^host = .*", 'host = "localhost:1"')(directory)
    (directory / "state").write_text("a file")
    (directory / "passphrase").unlink()
    assert len(check(directory).stderr.splitlines()) == 1 + 3


def test_a_device_that_another_adapter_can_become_is_named(directory: Path) -> None:
    """The file is usable until a restart gives its name to another door's reader."""
    write("^device = .*", 'device = "/dev/ttyUSB0"')(directory)
    result = check(directory)
    assert (result.exit_code, "/dev/drempel-reader-" in result.stderr) == (0, True)
