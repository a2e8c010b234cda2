from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from provisioning import audit_log
from provisioning.cli import main

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def log(directory: Path, *acts: str) -> Path:
    for act in acts:
        audit_log.append(directory, act, at=NOW, outcome="done", facts={"door": "front"})
    return directory / audit_log.FILE


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_each_act_is_a_line_that_follows_the_one_before(tmp_path: Path) -> None:
    """Who, when and what; the file is its owner's, and in order."""
    path = log(tmp_path, "reader add", "card issue")
    audit = audit_log.verify(path.read_bytes())
    assert ([entry["what"] for entry in audit.entries], audit.faults) == (["reader add", "card issue"], ())
    assert all(entry["who"] and entry["at"] == "2026-03-01T12:00:00+00:00" for entry in audit.entries)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("change", ["changed", "taken out", "put in"])
def test_a_line_that_was_rewritten_is_found(tmp_path: Path, change: str) -> None:
    """The line after it says so."""
    path = log(tmp_path, "one", "two", "three", "four")
    lines = path.read_bytes().splitlines(keepends=True)
    changed = {
        "changed": [lines[0], lines[1].replace(b"two", b"2"), *lines[2:]],
        "taken out": [lines[0], *lines[2:]],
        "put in": [*lines[:2], lines[1], *lines[2:]],
    }[change]
    assert "does not follow the line before" in audit_log.verify(b"".join(changed)).faults[0]


def test_lines_cut_off_at_the_end_are_found_by_a_head_noted_before(tmp_path: Path) -> None:
    """What is left is in order, but does not hold the head."""
    path = log(tmp_path, "one", "two")
    head = audit_log.verify(path.read_bytes()).head
    log(tmp_path, "three")
    assert audit_log.holds(path.read_bytes(), head)
    cut = path.read_bytes().splitlines(keepends=True)[0]
    assert audit_log.verify(cut).faults == ()
    assert not audit_log.holds(cut, head)


def test_a_line_torn_by_a_power_cut_stops_nobody(tmp_path: Path) -> None:
    """The next act goes on after it, and the torn line is told and alone at fault."""
    path = log(tmp_path, "one", "two")
    path.write_bytes(path.read_bytes()[:-20])
    log(tmp_path, "three", "four")
    audit = audit_log.verify(path.read_bytes())
    assert [entry["what"] for entry in audit.entries] == ["one", "three", "four"]
    assert audit.faults == ("line 2: not an entry; was its writing cut off?",)


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b"{}", b"[]", b'"x"', b'{"previous": 1}'])).map(b"\n".join)
)
def test_any_bytes_are_verified(data: bytes) -> None:
    """Whatever stands in the file, what is wrong is said; none of these is a log."""
    audit = audit_log.verify(data)
    assert (audit.entries, bool(audit.faults)) == ((), True)


def test_what_was_done_with_a_sites_keys_can_be_read(tmp_path: Path) -> None:
    """Acts and failed ones stand there, dry runs do not; a rewritten log ends with status 1."""
    site = tmp_path / "site"
    add = ["reader", "add", "c-1", "--door", "front", "--offline", "--site-dir", site]
    for arguments in (["site", "create", site, "--site", "s"], [*add, "--dry-run"], add, add):
        run(*arguments)
    shown = run("site", "audit", site, "--format", "json")
    found = json.loads(shown.stdout)
    said = [(entry["what"], entry["outcome"]) for entry in found["entries"]]
    assert said == [("site create", "done"), ("reader add", "done"), ("reader add", "failed: StoreError")]
    assert found["entries"][1]["facts"]["doors"] == ["front"]
    assert run("site", "audit", site, "--expect", found["head"]).exit_code == 0
    path = site / audit_log.FILE
    path.write_bytes(path.read_bytes().replace(b"front", b"back"))
    changed = run("site", "audit", site, "--expect", found["head"])
    assert (changed.exit_code, "line 3: does not follow" in changed.output) == (1, True), changed.output
    assert f"does not hold {found['head']}" in changed.output


def test_nothing_is_done_that_cannot_be_recorded(tmp_path: Path) -> None:
    """With something else where the log belongs no controller is made."""
    site = tmp_path / "site"
    run("site", "create", site, "--site", "s")
    (site / audit_log.FILE).unlink()
    (site / audit_log.FILE).mkdir()
    refused = run("reader", "add", "c-1", "--door", "front", "--offline", "--site-dir", site)
    assert (refused.exit_code, "audit.jsonl: cannot be written" in refused.output) == (1, True), (
        refused.output
    )
    assert not (site / "controllers").exists()
