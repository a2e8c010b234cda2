from __future__ import annotations

import json
import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hub.muster_copies import CopySettings, MusterCopies, replace_copies
from hub.roles import Role
from tests.hub.controller import eventually
from tests.hub.running import running_hub
from tests.hub.test_muster_page import inhabited

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SHEET = "muster-house.html"


class Watch:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def copies(clock: Watch, *folders: Path, made: Mapping[str, bytes] | None = None) -> MusterCopies:
    return MusterCopies(CopySettings(folders=folders), lambda: made or {SHEET: b"list"}, clock)


def copied(kept: MusterCopies, which: int = 0) -> bool:
    return kept.states[which].copied_at is not None


def test_a_copy_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """One current copy, readable by its owner only; what an earlier round or a crash left is gone, other files stay."""
    for name in ("muster-closed-site.html", ".muster-house.html.77.being-written", "holiday.html"):
        (tmp_path / name).write_text("old")
    (tmp_path / SHEET).write_text("old")
    replace_copies(tmp_path, {SHEET: b"new"}, 0o600)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday.html", SHEET]
    assert (tmp_path / SHEET).read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / SHEET).stat().st_mode) == 0o600


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A stick that is not plugged in is a failure that is seen, and the other folders get their copy."""
    clock = Watch()
    stick, share = tmp_path / "stick", tmp_path / "share"
    share.mkdir()
    kept = copies(clock, stick, share)
    kept.write()
    eventually(lambda: copied(kept, 1) and kept.states[0].problem, "both were tried")
    assert not stick.exists()
    assert kept.late() == []
    clock.now += timedelta(minutes=12)
    assert {state.folder for state in kept.late()} == {stick, share}
    kept.write()
    eventually(lambda: kept.states[1].copied_at == clock.now, "copied again")
    assert [state.folder for state in kept.late()] == [stick]


def test_a_share_that_hangs_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own thread waits; rounds go on, other folders are written, the hub can stop, and it recovers."""
    clock, hangs, fine = Watch(), tmp_path / "hangs", tmp_path / "fine"
    hangs.mkdir()
    fine.mkdir()
    answered = threading.Event()
    opened = os.open

    def slow(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).parent == hangs:
            answered.wait(30)
        return opened(path, flags, mode)

    monkeypatch.setattr("hub.muster_copies.os.open", slow)
    kept = copies(clock, hangs, fine)
    for _ in range(3):
        kept.write()
        eventually(lambda: copied(kept, 1), "the other one is written")
    assert kept.states[0].problem == "it does not answer"
    kept.lookout.stop()
    answered.set()
    eventually(lambda: copied(kept), "it recovered")


def test_a_copy_stands_by_itself_and_says_how_old_it_is(tmp_path: Path) -> None:
    """The hub writes it: names, no address of anything else, when it was made; a folder that vanishes is shown."""
    share = tmp_path / "share"
    share.mkdir()
    settings = CopySettings(folders=(share,), every=timedelta(seconds=1))
    with running_hub(tmp_path / "hub", muster_copies=settings) as hub:
        inhabited(hub)
        page = share / "muster-test-site.html"
        eventually(lambda: page.exists() and "Ama Mensah" in page.read_text(), "the copy has her name")
        text = page.read_text()
        assert "do not rely on it" in text
        assert not any(mark in text for mark in ("src=", "href=", "url(", "@import", "<script"))
        table = json.loads((share / "muster-test-site.json").read_text())
        assert table["site_id"] == "test-site"
        with hub.signed_in(Role.GUARD) as guard:
            assert "Copies of this list are old" not in guard.get("/muster").text
            share.rename(tmp_path / "taken away")
            hub.clock.ahead += timedelta(minutes=12)
            eventually(lambda: "Copies of this list are old" in guard.get("/muster").text, "it is said")

            def state() -> dict[str, object]:
                (found,) = guard.get("/api/v1/muster/copies").json()["copies"]
                return dict(found)

            eventually(lambda: state()["problem"], "why is said")
            assert state()["late"]
    assert not share.exists()
