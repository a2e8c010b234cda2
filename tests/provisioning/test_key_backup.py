from __future__ import annotations

import json
import shutil
import stat
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from pacs.errors import MalformedData
from pacs.identifiers import SiteId
from provisioning import key_backup
from provisioning.cli import main
from provisioning.key_backup import Archive, KeyBackup
from provisioning.key_shares import WORDS, Share
from provisioning.keystore import NewFile

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FILES = [
    NewFile(path=Path("site.toml"), data=b"site"),
    NewFile(path=Path("hub/policy.key.pem"), data=b"key", is_secret=True),
]


@cache
def backup(number: int) -> KeyBackup:
    """One of several, always the same for one number."""
    return key_backup.make(FILES, SiteId(f"s{number}"), shares=5, threshold=3, now=NOW)


def share(number: int, of: int = 0) -> Share:
    return Share(name=f"share-{number}.txt", words=backup(of).shares[number - 1])


def run(*arguments: object, typed: str = "") -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=typed)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a controller, whose hub ran where it was made."""
    made = tmp_path_factory.mktemp("backup") / "site"
    assert run("site", "create", made, "--site", "wilgenoord").exit_code == 0
    assert run("reader", "add", "c-1", "--door", "a", "--offline", "--site-dir", made).exit_code == 0
    (made / "hub" / "data").mkdir()
    (made / "hub" / "data" / "hub.sqlite").write_bytes(b"people")
    return made


@pytest.fixture(scope="module")
def out(directory: Path) -> Path:
    """Its backup."""
    made = directory.parent / "backup"
    result = run("site", "backup", directory, "--shares", "5", "--threshold", "3", "--out", made)
    assert result.exit_code == 0, result.output
    return made


def shares_of(out: Path, *numbers: int) -> list[object]:
    return [part for n in numbers for part in ("--share", out / f"share-{n}.txt")]


def below(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(directory)): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in directory.rglob("*")
        if path.is_file() and path.name != "audit.jsonl" and "data" not in path.parts
    }


def test_what_was_lost_comes_back(directory: Path, out: Path, tmp_path: Path) -> None:
    """Three of five shares bring back every file with its mode, and the site issues certificates again."""
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in out.iterdir())
    assert len(list(out.iterdir())) == 1 + 5
    back = tmp_path / "back"
    restored = run("site", "restore", out / "wilgenoord.keys", back, *shares_of(out, 5, 2, 1))
    assert restored.exit_code == 0, restored.output
    assert below(back) == below(directory)
    assert not (back / "hub" / "data").exists()
    added = run("reader", "add", "c-2", "--door", "b", "--offline", "--site-dir", back)
    assert added.exit_code == 0, added.output


def test_words_can_be_typed_from_paper(out: Path, tmp_path: Path) -> None:
    """Without files the words are asked for, a mistake is told at once, and nothing typed is shown."""
    words = [" ".join(Share.parse((out / f"share-{n}.txt").read_text(), "x").words) for n in (1, 3, 4)]
    typed = "\n".join([words[0], words[0], "not a share", words[1], words[2], ""])
    restored = run("site", "restore", out / "wilgenoord.keys", tmp_path / "back", typed=typed)
    assert restored.exit_code == 0, restored.output
    assert "the same share as one before" in restored.output
    assert words[1] not in restored.output


def test_the_root_can_stay_apart(directory: Path, out: Path, tmp_path: Path) -> None:
    """A root that is elsewhere goes into the backup when it is named, is missed by name when not, and comes back apart."""
    site, away = tmp_path / "site", tmp_path / "stick"
    shutil.copytree(directory, site)
    (site / "root").rename(away)
    would = json.loads(
        run("site", "backup", site, "--out", tmp_path / "b", "--dry-run", "--format=json").stdout
    )
    assert would["lacks"] == ["the key of the root; name where it is with --root-dir"]
    assert not (tmp_path / "b").exists()
    named = [
        "site",
        "backup",
        directory,
        "--root-dir",
        directory / "root",
        "--out",
        tmp_path / "x",
        "--dry-run",
    ]
    twice = json.loads(run(*named, "--format=json").stdout)["files"]
    assert len(twice) == len(set(twice))
    made = run("site", "backup", site, "--root-dir", away, "--out", tmp_path / "b", "--format=json")
    assert (made.exit_code, json.loads(made.stdout)["lacks"]) == (0, []), made.output
    back = [
        "site",
        "restore",
        tmp_path / "b" / "wilgenoord.keys",
        tmp_path / "back",
        "--root-dir",
        tmp_path / "safe",
    ]
    restored = run(*back, *shares_of(tmp_path / "b", 1, 2, 3))
    assert restored.exit_code == 0, restored.output
    assert below(tmp_path / "safe") == below(away)
    assert not (tmp_path / "back" / "root").exists()


def test_a_passphrase_kept_apart_is_in_the_backup(tmp_path: Path) -> None:
    """Shares and file are all that a restore needs, also where somebody knew a passphrase by heart."""
    chosen, site = tmp_path / "chosen", tmp_path / "site"
    chosen.write_text("a passphrase of ours\n")
    chosen.chmod(0o600)
    opened = ["--passphrase-file", chosen]
    assert run("site", "create", site, "--site", "s", *opened).exit_code == 0
    assert run("site", "backup", site, "--out", tmp_path / "b", *opened).exit_code == 0
    restored = run(
        "site", "restore", tmp_path / "b" / "s.keys", tmp_path / "back", *shares_of(tmp_path / "b", 1, 2, 4)
    )
    assert restored.exit_code == 0, restored.output
    assert (tmp_path / "back" / "passphrase").read_bytes() == chosen.read_bytes()


def test_nothing_is_overwritten(directory: Path, out: Path, tmp_path: Path) -> None:
    """Neither a site nor a backup that is there, whatever is in it; a dry run writes nothing."""
    before = below(directory)
    restored = run("site", "restore", out / "wilgenoord.keys", directory, *shares_of(out, 1, 2, 3))
    assert (restored.exit_code, "exists already" in restored.output) == (1, True)
    again = run("site", "backup", directory, "--out", out)
    assert (again.exit_code, "exists already" in again.output) == (1, True)
    assert below(directory) == before
    to = tmp_path / "to"
    dry = run("site", "restore", out / "wilgenoord.keys", to, *shares_of(out, 1, 2, 3), "--dry-run")
    assert (dry.exit_code, to.exists()) == (0, False), dry.output


def test_what_is_wrong_with_the_shares_is_said(out: Path, tmp_path: Path) -> None:
    """By the command: too few, and which file is a mistyped one; nothing is written."""
    archive, to = out / "wilgenoord.keys", tmp_path / "to"
    few = run("site", "restore", archive, to, *shares_of(out, 1, 2))
    assert (few.exit_code, "2 shares; 3 of the 5 open this file" in few.output) == (1, True), few.output
    mistyped = tmp_path / "typed.txt"
    mistyped.write_text((out / "share-3.txt").read_text().replace(" 7. ", " 7. x"))
    wrong = run("site", "restore", archive, to, *shares_of(out, 1, 2), "--share", mistyped)
    assert (wrong.exit_code, f"{mistyped}: word 7, " in wrong.output) == (1, True), wrong.output
    assert not to.exists()


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ([share(1), share(2)], "2 shares; 3 of the 5"),
        ([share(1), share(2), share(2)], "share-2.txt: the same share as one before"),
        ([share(1), share(2), share(3, of=1)], "share-3.txt: a share of another backup"),
    ],
    ids=["too few", "one twice", "another backup's"],
)
def test_shares_that_do_not_open_it_are_named(chosen: list[Share], said: str) -> None:
    """Each is told by the name of its file."""
    with pytest.raises(MalformedData, match=said):
        Archive.from_bytes(backup(0).archive).open(chosen)


def test_a_word_of_the_list_in_a_wrong_place_is_found() -> None:
    """The checksum tells that one is wrong, and which place it can be; a word of no list is named with its likeness."""
    words = list(backup(0).shares[0])
    wrong = [*words[:11], "academic" if words[11] != "academic" else "acid", *words[12:]]
    with pytest.raises(MalformedData, match=r"a word is not the one on the page.*look at word .*\b12\b"):
        Share.parse(" ".join(wrong), "mine")
    with pytest.raises(MalformedData, match=r"mine: word 3, 'academik', is none of the list; is it academic"):
        Share.parse(" ".join([*words[:2], "academik", *words[3:]]), "mine")
    with pytest.raises(MalformedData, match="mine: 32 words; a share has 33"):
        Share.parse(" ".join(words[:-1]), "mine")


@given(at=st.integers(0, 10_000), by=st.integers(1, 255))
def test_a_changed_byte_opens_nothing(at: int, by: int) -> None:
    """Wherever it is: header, nonce or what is sealed."""
    damaged = bytearray(backup(0).archive)
    damaged[at % len(damaged)] ^= by
    with pytest.raises(MalformedData):
        Archive.from_bytes(bytes(damaged)).open([share(1), share(2), share(3)])


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_no_backup(data: bytes, has_name: bool) -> None:
    """What is no backup is refused by name, and nothing else happens."""
    with pytest.raises(MalformedData):
        Archive.from_bytes(key_backup.MAGIC * has_name + data).open([share(1), share(2), share(3)])


@given(
    st.text(max_size=300)
    | st.lists(st.sampled_from(backup(0).shares[0]), min_size=WORDS, max_size=WORDS).map(" ".join)
)
def test_any_text_is_a_share_or_refused(text: str) -> None:
    """A person may type anything."""
    try:
        share = Share.parse(text, "typed")
    except MalformedData as refused:
        named = str(refused).startswith("typed: ")
    else:
        named = len(share.words) == WORDS
    assert named


@pytest.mark.parametrize(("shares", "threshold"), [(1, 1), (5, 1), (2, 3), (17, 3)])
def test_a_secret_that_one_person_holds_is_not_split(shares: int, threshold: int) -> None:
    """One share that opens it, more needed than there are, and more than the words can number are refused."""
    with pytest.raises(MalformedData, match="2 at least"):
        key_backup.make(FILES, SiteId("s"), shares=shares, threshold=threshold, now=NOW)


def test_a_path_that_leads_out_is_refused() -> None:
    """Whoever holds the shares of one archive cannot have it write beside its directory."""
    for path in ("../x", "/etc/x"):
        with pytest.raises(MalformedData, match="leads out"):
            key_backup.make([NewFile(path=Path(path), data=b"")], SiteId("s"), shares=2, threshold=2, now=NOW)
