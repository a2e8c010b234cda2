"""Documents on their way in: what a flood of them costs, and what it does not."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

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
