"""The release key and its signature, by command, as a controller then takes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.updating.offer import Offer
from edge.updating.source import Source
from pacs.envelope import trusted_keys
from pacs.errors import PacsError
from pacs.release import NEWEST
from provisioning import audit_log
from provisioning.cli import main
from provisioning.keystore import read_public_key
from provisioning.releases import open_release
from tests.edge.updating.releases import archive_of, controller, program


def run(*arguments: str | Path) -> dict[str, object]:
    result = CliRunner().invoke(main, [*map(str, arguments), "--format", "json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert isinstance(said, dict)
    return said


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A signed release, and the key beside it."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "drempel-0.2.0.tar.gz").write_bytes(archive_of(program("0.2.0")))
    run("release", "key", tmp_path / "key")
    assert (
        run("release", "seal", shelf / "drempel-0.2.0.tar.gz", "--key-dir", tmp_path / "key")["version"]
        == "0.2.0"
    )
    return shelf


def test_a_controller_takes_what_the_command_signed(shelf: Path, tmp_path: Path) -> None:
    """Key, seal, update: each is what the next one needs."""
    key = read_public_key(tmp_path / "key" / "release.pub.pem")
    releases = controller(tmp_path / "opt")
    entries = audit_log.verify((tmp_path / "key" / audit_log.FILE).read_bytes()).entries
    assert [entry["what"] for entry in entries] == ["release key", "release seal"]
    assert [*Offer(releases.root, Source(str(shelf)), trusted_keys(key)).steps()][-1] == "offered"  # type: ignore[arg-type]


def test_the_bureau_proves_an_archive_before_it_uses_it(shelf: Path, tmp_path: Path) -> None:
    """A changed archive, and another key, are refused as a controller would."""
    key = tmp_path / "key" / "release.pub.pem"
    assert str(open_release(shelf / NEWEST, key).version) == "0.2.0"
    run("release", "key", tmp_path / "other")
    with pytest.raises(PacsError):
        open_release(shelf / NEWEST, tmp_path / "other" / "release.pub.pem")
    (shelf / "drempel-0.2.0.tar.gz").write_bytes(b"another")
    with pytest.raises(PacsError):
        open_release(shelf / NEWEST, key)


@pytest.mark.parametrize(
    ("name", "content"), [("drempel-next.tar.gz", None), ("drempel-0.3.0.tar.gz", b"no archive")]
)
def test_only_a_releases_archive_is_signed(
    shelf: Path, tmp_path: Path, name: str, content: bytes | None
) -> None:
    """Its name says the version, and it can be unpacked."""
    (shelf / name).write_bytes(archive_of(program("0.3.0")) if content is None else content)
    result = CliRunner().invoke(
        main, ["release", "seal", str(shelf / name), "--key-dir", str(tmp_path / "key")]
    )
    assert result.exit_code == 1
