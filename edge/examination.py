"""The running controller examines itself, as ``drempel-edge doctor`` does, and has the findings for the hub.

It has a thread of its own, which may wait for disk and network: nothing waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

from edge.finding import Code, Finding, Level
from pacs.findings import Value
from pacs.identifiers import DoorId
from pacs.messages import (
    MAX_FINDING_CHARACTERS,
    MAX_FINDING_NUMBER,
    MAX_FINDINGS,
    MAX_MESSAGE_BYTES,
    Report,
    ReportedFinding,
)

FIRST_AFTER_S: Final = 20.0
"""After the start: doors, readers and the connection to the hub stand by then."""
_WORST_FIRST: Final = (Level.FAIL, Level.WARN, Level.OK)
_COUNTING: Final = {
    Code.READER_SEEN: Code.READER_PRIVATE,
    Code.READER_OFTEN_LOST: Code.READER_PRIVATE_AMISS,
    Code.READER_OFTEN_FAILS: Code.READER_PRIVATE_AMISS,
    Code.PINS_STAND: Code.PINS_PRIVATE,
}
"""What has counts or positions in it, and what a private door tells in its place."""

log = logging.getLogger(__name__)


class Examination:
    """``start`` once, ``stop`` once; ``ask`` and ``latest`` from any thread, and they never wait."""

    def __init__(
        self,
        examine: Callable[[], Iterable[Finding]],
        *,
        private: Callable[[], frozenset[DoorId]],
        clock: Callable[[], datetime],
        after_s: float = FIRST_AFTER_S,
    ) -> None:
        """``private``: doors of which neither counts nor positions are told. ``after_s``: until the first, unasked one."""
        self._examine = examine
        self._private = private
        self._clock = clock
        self._after_s = after_s
        self._asked = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="examination", daemon=True)
        self.latest: Report | None = None
        """What was found last; None before the first."""

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def ask(self) -> None:
        """Examine now; while one goes on, once more behind it."""
        self._asked.set()

    def stop(self) -> None:
        """Begin no other; one that waits for the network is left to itself."""
        self._stopping = True
        self._asked.set()

    def _run(self) -> None:
        self._asked.wait(self._after_s)
        while not self._stopping:
            self._asked.clear()
            at = self._clock()
            try:
                self.latest = report_of(self._examine(), at, self._private())
            except Exception:
                log.exception("the controller could not examine itself")
            self._asked.wait()


def report_of(findings: Iterable[Finding], at: datetime, private: frozenset[DoorId]) -> Report:
    """What is sent of these: the worst first, as many as a message holds, of a private door no counts and no positions."""
    told = [_without_counts(finding, private) for finding in findings]
    told.sort(key=lambda finding: _WORST_FIRST.index(finding.level))
    found = [
        ReportedFinding(
            level=each.level,
            name=_short(each.name),
            what=_short(each.what),
            advice=_short(each.advice),
            code=each.code.word,
            subject=_short(each.subject),
            values={name: _sendable(value) for name, value in each.values.items()},
        )
        for each in told[:MAX_FINDINGS]
    ]
    report = Report(examined_at=at, findings=tuple(found))
    while len(bytes(report)) > MAX_MESSAGE_BYTES:
        report = replace(report, findings=report.findings[:-1])
    return report


def _without_counts(finding: Finding, private: frozenset[DoorId]) -> Finding:
    door, _, _ = finding.subject.partition("/")
    told = _COUNTING.get(finding.code)
    return finding if told is None or door not in private else Finding.of(told, subject=finding.subject)


def _short(text: str) -> str:
    printable = "".join(each if each.isprintable() else " " for each in text)
    return printable[:MAX_FINDING_CHARACTERS]


def _sendable(value: Value) -> Value:
    return (
        _short(value) if isinstance(value, str) else max(-MAX_FINDING_NUMBER, min(value, MAX_FINDING_NUMBER))
    )
