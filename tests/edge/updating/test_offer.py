"""An update up to its trial: what is taken, what is refused and why, and where it may be cut off."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from edge.__main__ import main
from edge.updating.archive import unpack
from edge.updating.offer import Offer
from edge.updating.source import Source
from edge.updating.trial import Releases, Trial, at_start
from pacs.errors import MalformedData, PacsError
from pacs.release import NEWEST
from tests.edge.updating.releases import KEY, TRUSTED, archive_of, controller, program, publish

STEPS = ("tidied", "manifest proven", "archive proven", "unpacked", "tried out", "laid down", "offered")


def offer(root: Path, shelf: Path, *, steps: int = len(STEPS)) -> list[str]:
    """The steps done, of at most so many; what is left is never done, as after a power cut."""
    done = []
    for step, _ in zip(Offer(root, Source(str(shelf)), TRUSTED).steps(), range(steps), strict=False):
        done.append(step)
    return done


def files_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_a_newer_release_is_laid_down_and_offered_and_nothing_is_switched(tmp_path: Path) -> None:
    """It lies complete beside the one that runs, and what switches is told of it."""
    releases = controller(tmp_path / "opt")
    publish(tmp_path / "shelf", "0.2.0")
    assert tuple(offer(releases.root, tmp_path / "shelf")) == STEPS
    assert releases.linked("current") == "0.1.0"
    assert releases.trial() == Trial(version="0.2.0", previous="0.1.0")
    assert releases.is_whole("0.2.0")


@pytest.mark.parametrize("steps", range(1, len(STEPS) + 1))
def test_a_power_cut_after_any_step_leaves_the_release_that_runs_and_the_next_update_takes(
    tmp_path: Path, steps: int
) -> None:
    """After each step the machine starts with what it ran; another attempt then goes through from the beginning."""
    releases = controller(tmp_path / "opt")
    publish(tmp_path / "shelf", "0.2.0")
    assert offer(releases.root, tmp_path / "shelf", steps=steps)[-1] == STEPS[steps - 1]
    at_start(releases)
    assert (releases.linked("current"), releases.trial()) == ("0.1.0", None)
    assert tuple(offer(releases.root, tmp_path / "shelf")) == STEPS
    assert not (releases.root / "incoming" / "archive").exists()


def test_one_release_is_kept_beside_the_one_that_runs(tmp_path: Path) -> None:
    """The next update removes what neither link names."""
    releases = controller(tmp_path / "opt", "0.3.0")
    for version in ("0.1.0", "0.2.0"):
        controller(releases.root, version)
    releases.link("current", "0.3.0")
    releases.link("previous", "0.2.0")
    releases.tidy()
    assert {path.name for path in (releases.root / "releases").iterdir()} == {"0.3.0", "0.2.0"}


def refusal(root: Path, shelf: Path) -> str:
    """Why nothing was taken; the controller's directory is as it was."""
    with pytest.raises(PacsError) as refused:
        offer(root, shelf)
    releases = Releases(root)
    assert releases.trial() is None
    assert [path.name for path in (root / "releases").iterdir()] == [releases.linked("current")]
    return str(refused.value)


def test_what_another_key_signed_is_refused(tmp_path: Path) -> None:
    """The manifest's signer has to be the release key."""
    publish(tmp_path / "shelf", "0.2.0", key=Ed25519PrivateKey.generate())
    assert "signer_unknown" in refusal(controller(tmp_path / "opt").root, tmp_path / "shelf")


def test_a_forged_manifest_is_refused(tmp_path: Path) -> None:
    """One changed bit of what was signed."""
    publish(tmp_path / "shelf", "0.2.0")
    manifest = tmp_path / "shelf" / NEWEST
    manifest.write_bytes(manifest.read_bytes().replace(b"0.2.0", b"0.2.1"))
    assert "signature_invalid" in refusal(controller(tmp_path / "opt").root, tmp_path / "shelf")


def test_a_forged_archive_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    """Another archive of the same length under a true manifest is not unpacked."""
    release = publish(tmp_path / "shelf", "0.2.0")
    archive = tmp_path / "shelf" / release.archive_name
    content = bytearray(archive.read_bytes())
    content[-1] ^= 1
    archive.write_bytes(content)
    root = controller(tmp_path / "opt").root
    assert "not the archive that was signed" in refusal(root, tmp_path / "shelf")
    assert files_below(root / "incoming") == {"archive"}


@pytest.mark.parametrize(("change", "why"), [(-1, "cut short"), (1, "longer than")])
def test_an_archive_of_another_length_is_refused(tmp_path: Path, change: int, why: str) -> None:
    """Truncated, and longer: no more is read than the manifest allows."""
    release = publish(tmp_path / "shelf", "0.2.0")
    archive = tmp_path / "shelf" / release.archive_name
    content = archive.read_bytes()
    archive.write_bytes(content[:change] if change < 0 else content + b"\0")
    assert why in refusal(controller(tmp_path / "opt").root, tmp_path / "shelf")


def test_an_older_release_is_refused_however_well_signed(tmp_path: Path) -> None:
    """0.9.0 is older than 0.10.0; a downgrade would bring back what was repaired."""
    publish(tmp_path / "shelf", "0.9.0")
    assert "older than 0.10.0" in refusal(controller(tmp_path / "opt", "0.10.0").root, tmp_path / "shelf")


def test_what_was_given_up_is_not_offered_again(tmp_path: Path) -> None:
    """A release that failed here is not tried each night."""
    releases = controller(tmp_path / "opt")
    releases.refuse("0.2.0")
    publish(tmp_path / "shelf", "0.2.0")
    assert "given up" in refusal(releases.root, tmp_path / "shelf")


def test_a_release_that_does_not_run_here_is_not_offered(tmp_path: Path) -> None:
    """It is started once without privileges before anything is switched: another machine's program fails there."""
    publish(tmp_path / "shelf", "0.2.0", files={"bin/drempel-edge": b"\x7fELF of another machine"})
    assert "does not run on this machine" in refusal(controller(tmp_path / "opt").root, tmp_path / "shelf")


def test_a_release_that_is_another_than_its_manifest_says_is_not_offered(tmp_path: Path) -> None:
    """The program's own version is the manifest's."""
    publish(tmp_path / "shelf", "0.2.0", files=program("0.1.5"))
    assert "another version" in refusal(controller(tmp_path / "opt").root, tmp_path / "shelf")


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """An archive of one member."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = kind, link, 0o4755
        info.size = 4 if kind == tarfile.REGTYPE else 0
        archive.addfile(info, io.BytesIO(b"evil"))
    return made.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        member("../evil"),
        member("/etc/evil"),
        member("a/../../evil"),
        member("a//evil"),
        member("./evil"),
        member("bin/ev\nil"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("link", tarfile.LNKTYPE, "../../etc/passwd"),
        member("device", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
)
def test_no_member_of_an_archive_leaves_its_directory(tmp_path: Path, data: bytes) -> None:
    """Path traversal, absolute names, links and devices are refused, and nothing is written outside."""
    (tmp_path / "archive").write_bytes(data)
    (tmp_path / "in").mkdir()
    with pytest.raises(MalformedData):
        unpack(tmp_path / "archive", tmp_path / "in", unpacked_bytes=4)
    assert files_below(tmp_path) <= {"archive", "in", "in/a", "in/bin"}


@pytest.mark.parametrize("said", [3, 5])
def test_an_archive_holds_what_its_manifest_says(tmp_path: Path, said: int) -> None:
    """Neither more, as a bomb would, nor less."""
    (tmp_path / "archive").write_bytes(archive_of({"a/file": b"four"}))
    (tmp_path / "in").mkdir()
    with pytest.raises(MalformedData, match="than its manifest says"):
        unpack(tmp_path / "archive", tmp_path / "in", unpacked_bytes=said)


def test_no_member_of_an_archive_replaces_another(tmp_path: Path) -> None:
    """The second of one name is refused, and no file becomes a directory."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name in ("a", "a"):
            archive.addfile(tarfile.TarInfo(name))
    (tmp_path / "archive").write_bytes(made.getvalue())
    (tmp_path / "in").mkdir()
    with pytest.raises(MalformedData, match="one name"):
        unpack(tmp_path / "archive", tmp_path / "in", unpacked_bytes=0)


@given(
    data=st.binary(max_size=200)
    | st.binary(max_size=600).map(lambda tail: archive_of({"a": tail})[:-9] + tail)
)
def test_any_bytes_unpack_or_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """No archive raises anything but its own error."""
    directory = tmp_path_factory.mktemp("any")
    (directory / "archive").write_bytes(data)
    (directory / "in").mkdir()
    with pytest.raises(MalformedData):
        unpack(directory / "archive", directory / "in", unpacked_bytes=1000)


@pytest.mark.parametrize("place", ["http://updates.example", "relative", "https://", "ftp://a"])
def test_releases_come_over_https_or_from_a_directory(place: str) -> None:
    """Nothing else is asked, whatever the setting says."""
    with pytest.raises(MalformedData):
        Source(place)


def test_the_command_says_what_it_did_and_why_it_did_not(tmp_path: Path) -> None:
    """Offered the first time; on trial the second; a directory without releases is an error."""
    releases = controller(tmp_path / "opt")
    publish(tmp_path / "shelf", "0.2.0")
    key = tmp_path / "release.pub.pem"
    key.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def update(shelf: str) -> tuple[int, str]:
        arguments = [
            "update",
            "--from",
            str(tmp_path / shelf),
            "--key",
            str(key),
            "--root",
            str(releases.root),
        ]
        result = CliRunner().invoke(main, arguments)
        return result.exit_code, result.output

    assert update("shelf") == (0, "\n".join(STEPS) + "\n")
    assert update("shelf") == (0, "a release is on trial already\n")
    releases.end_trial()
    status, said = update("nothing")
    assert (status, "newest.manifest: cannot be had" in said) == (1, True)
