"""The running controller examines itself: what of that is sent, and when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from edge.examination import Examination, report_of
from edge.finding import Check, Finding, Level
from pacs.identifiers import DoorId
from pacs.messages import MAX_FINDINGS, Report
from tests.edge.hub_end import until

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ROOM = DoorId("room-12")
NOBODY: frozenset[DoorId] = frozenset()


def test_the_worst_is_sent_first_and_no_more_than_a_message_holds() -> None:
    """Failures before warnings before what is in order; lines that are too many or too long are cut; any text is sent."""
    fine = [Finding.ok(Check.DISK_SPACE, "ü" * 400)] * 60
    bad = [
        Finding.warn(Check.POLICY, "old", "connect"),
        Finding.fail(Check.READER, "lost\n\x00", "plug", subject="front/entry"),
    ]
    report = report_of([*fine, *bad], NOON, NOBODY)
    assert [each.level for each in report.findings[:3]] == [Level.FAIL, Level.WARN, Level.OK]
    assert report.findings[0].name == "reader front/entry"
    assert len(report.findings) <= MAX_FINDINGS
    assert Report.from_bytes(bytes(report)) == report


def test_nothing_is_told_of_who_comes_and_goes_at_a_private_door() -> None:
    """Neither cards read nor the contact (rule R7); what is broken is."""
    findings = [
        Finding.ok(Check.READER, "PN532; 12 cards read, 0 not", subject=f"{ROOM}/entry"),
        Finding.ok(Check.PINS, "secured, strike locked, contact open", subject=ROOM),
        Finding.fail(Check.READER, "lost for 3 min", "plug it in", subject=f"{ROOM}/exit"),
        Finding.ok(Check.READER, "PN532; 7 cards read, 0 not", subject="front/entry"),
    ]
    said = [each.what for each in report_of(findings, NOON, frozenset({ROOM})).findings]
    kept = ["lost for 3 min", "PN532; 7 cards read, 0 not"]
    assert sorted(said) == sorted([*kept, *["not told of a private door"] * 2])


def test_it_examines_itself_after_the_start_and_whenever_it_is_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each gives another report; one that fails is logged, and the next is made all the same."""
    turns: list[int] = []

    def examine() -> Iterator[Finding]:
        turns.append(1)
        if len(turns) == 2:
            raise RuntimeError
        yield Finding.ok(Check.CLOCK, f"turn {len(turns)}")

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
