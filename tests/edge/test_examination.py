"""The running controller examines itself: what of that is sent, and when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from edge.examination import Examination, report_of
from edge.finding import Code, Finding, Level
from pacs.identifiers import DoorId
from pacs.messages import MAX_FINDINGS, Report
from tests.edge.hub_end import until

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ROOM = DoorId("room-12")
NOBODY: frozenset[DoorId] = frozenset()
COUNTS = {"chip": "PN532", "reads": 12, "failures": 0, "losses": 0, "running_s": 60}


def test_the_worst_is_sent_first_and_no_more_than_a_message_holds() -> None:
    """Failures before warnings before what is in order; lines that are too many or too long are cut; any text is sent."""
    fine = [Finding.of(Code.DISK_SPACE_ENOUGH, mib=10**20, path="ü" * 400)] * 60
    bad = [
        Finding.of(Code.CONTROLLER_STOPPED),
        Finding.of(Code.READER_BROKEN, problem="lost\n\x00", advice="plug", subject="front/entry"),
    ]
    report = report_of([*fine, *bad], NOON, NOBODY)
    assert [each.level for each in report.findings[:3]] == [Level.FAIL, Level.WARN, Level.OK]
    assert report.findings[0].name == "reader front/entry"
    assert report.findings[0].values == {"problem": "lost  ", "advice": "plug"}
    assert len(report.findings) <= MAX_FINDINGS
    assert Report.from_bytes(bytes(report)) == report


def test_nothing_is_told_of_who_comes_and_goes_at_a_private_door() -> None:
    """Neither cards read nor the contact (rule R7); what is broken is."""
    findings = [
        Finding.of(Code.READER_SEEN, subject=f"{ROOM}/entry", **COUNTS),
        Finding.of(Code.READER_OFTEN_FAILS, subject=f"{ROOM}/entry", **COUNTS),
        Finding.of(Code.PINS_STAND, mode="secured", strike="locked", contact="open", subject=ROOM),
        Finding.of(Code.READER_LOST, lost_s=180, problem="silent", advice="", subject=f"{ROOM}/exit"),
        Finding.of(Code.READER_SEEN, subject="front/entry", **COUNTS),
    ]
    told = report_of(findings, NOON, frozenset({ROOM})).findings
    open_to_all = [each for each in told if each.what != "not told of a private door"]
    assert [(each.code, each.subject) for each in open_to_all] == [
        ("reader_lost", f"{ROOM}/exit"),
        ("reader_seen", "front/entry"),
    ]
    assert [each.values for each in told if each not in open_to_all] == [{}, {}, {}]


@pytest.mark.parametrize(
    "values", [{}, {"lost_s": 1, "problem": "", "advice": "", "more": 1}, {"lost_s": "soon"}]
)
def test_a_finding_takes_the_values_of_its_code_and_no_others(values: dict[str, Any]) -> None:
    """A value that is missing, too many or of another kind is a fault of ours, told at once."""
    with pytest.raises(ValueError, match="READER_LOST takes"):
        Finding.of(Code.READER_LOST, **values)


def test_every_code_has_its_words_in_english() -> None:
    """Each fills in all that it takes, and says what to do where something is to be done."""
    for code in Code:
        values: dict[str, Any] = dict.fromkeys(code.value.values, 61)
        finding = Finding.of(code, **values)
        assert "%" not in finding.line()
        assert (finding.level is Level.OK) is (not finding.advice)


def test_it_examines_itself_after_the_start_and_whenever_it_is_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each gives another report; one that fails is logged, and the next is made all the same."""
    turns: list[int] = []

    def examine() -> Iterator[Finding]:
        turns.append(1)
        if len(turns) == 2:
            raise RuntimeError
        yield Finding.of(Code.DISK_FILESYSTEM_KEEPS, filesystem=f"turn {len(turns)}")

    def said(what: str) -> bool:
        return examination.latest is not None and examination.latest.findings[0].what == what

    examination = Examination(examine, private=lambda: NOBODY, clock=lambda: NOON, after_s=0.0)
    examination.start()
    until(lambda: said("turn 1"), "the first")
    examination.ask()
    until(lambda: "could not examine itself" in caplog.text, "the failure")
    examination.ask()
    until(lambda: said("turn 3"), "the next")
    examination.stop()
