"""Documents on their way in: what a flood of them costs, and what it does not."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from datetime import UTC, datetime
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from edge.clock import Clock
from edge.document_intake import REFUSALS_AT_ONCE, WAITING_DOCUMENTS, DocumentIntake
from edge.inputs import DocumentReceived, DocumentRefused
from pacs.decision import ClockReading
from pacs.errors import VerificationError
from pacs.messages import DocumentKind
from pacs.reason import Reason

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEADLINE_S = 20.0


class Refusing:
    """Nothing is the hub's; ``accept`` waits while it is held."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.free.set()
        self.seen = 0

    def accept(self, _kind: DocumentKind, data: bytes, _clock: ClockReading) -> None:
        assert self.free.wait(DEADLINE_S)
        self.seen += 1
        if data != b"held already":
            raise VerificationError(Reason.SIGNER_UNKNOWN)


def document(number: int) -> DocumentReceived:
    return DocumentReceived(kind=DocumentKind.POLICY, data=number.to_bytes(4, "big"))


def test_a_flood_of_forged_documents_is_told_in_part() -> None:
    """Of a thousand different ones thirty are put, and more as time goes by; every one is verified."""
    documents, put, now_s = Refusing(), SimpleQueue[Any](), [1_000.0]
    clock = Clock(NOON, wall=lambda: NOON, monotonic_s=lambda: now_s[0])
    intake = DocumentIntake(documents, clock=clock, put=put.put)
    refusals = [intake._verified(document(number)) for number in range(1_000)]
    refused = DocumentRefused(kind=DocumentKind.POLICY, reason=Reason.SIGNER_UNKNOWN)
    assert [each for each in refusals if each] == [refused] * REFUSALS_AT_ONCE
    assert documents.seen == 1_000
    now_s[0] += 10.0
    assert intake._verified(document(1_000)) == refused
    assert intake._verified(document(1_001)) is None


def test_whoever_hands_one_over_never_waits() -> None:
    """While the disk holds the intake up, what does not fit is dropped; then it goes on."""
    documents, put = Refusing(), SimpleQueue[Any]()
    intake = DocumentIntake(documents, clock=Clock(NOON, wall=lambda: NOON), put=put.put)
    documents.free.clear()
    intake.start()
    for number in range(10 * WAITING_DOCUMENTS):
        intake.take(document(number))
    documents.free.set()
    for _ in range(WAITING_DOCUMENTS):
        assert isinstance(put.get(timeout=DEADLINE_S), DocumentRefused)
    intake.stop()
    assert documents.seen <= WAITING_DOCUMENTS + 1


class Held:
    """One policy, issued at noon."""

    policy = SimpleNamespace(issued_at=NOON)
    revocations = None

    def version(self, _kind: DocumentKind) -> int:
        return 3

    def digest(self, _kind: DocumentKind) -> bytes:
        return bytes(8)


class Accepting:
    """Holds whatever comes."""

    def accept(self, _kind: DocumentKind, _data: bytes, _clock: ClockReading) -> Any:
        return Held()


class Garbage:
    """Refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def test_a_clock_that_fails_keeps_no_document_from_the_door(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is held is decided by, and the thread serves the next one."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    put, clock = SimpleQueue[Any](), Clock(NOON, wall=lambda: NOON)
    monkeypatch.setattr(clock, "issued", broken)
    intake = DocumentIntake(Accepting(), clock=clock, put=put.put)
    with caplog.at_level(logging.CRITICAL):
        intake.start()
        for number in range(2):
            intake.take(document(number))
            assert put.get(timeout=DEADLINE_S).version == 3
        intake.stop()


def test_a_thread_outlives_what_nobody_foresaw(caplog: pytest.LogCaptureFixture) -> None:
    """The second document is put although putting the first one failed."""
    put = SimpleQueue[Any]()
    failures = [ZeroDivisionError()]

    def choosy(result: Any) -> None:
        if failures:
            raise failures.pop()
        put.put(result)

    intake = DocumentIntake(Accepting(), clock=Clock(NOON, wall=lambda: NOON), put=choosy)
    with caplog.at_level(logging.CRITICAL):
        intake.start()
        for number in range(2):
            intake.take(document(number))
        assert put.get(timeout=DEADLINE_S).version == 3
        intake.stop()


def test_no_garbage_is_kept_with_a_document() -> None:
    """What nobody refers to is let go of before everything that is there is taken for lasting."""
    garbage = Garbage()
    seen = weakref.ref(garbage)
    intake = DocumentIntake(Accepting(), clock=Clock(NOON, wall=lambda: NOON), put=lambda _: None)
    del garbage
    try:
        intake._verified(document(1))
    finally:
        gc.unfreeze()
    assert seen() is None
