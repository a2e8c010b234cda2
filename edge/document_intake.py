"""Policy documents on their way in: verified and kept by a thread of its own, so that no card waits for it."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import threading
from collections.abc import Callable
from queue import Full, Queue
from typing import Final, Protocol

from edge.allowance import Allowance
from edge.clock import Clock
from edge.inputs import DocumentAccepted, DocumentReceived, DocumentRefused
from pacs.decision import ClockReading
from pacs.errors import VerificationError
from pacs.messages import DocumentKind
from pacs.reason import Reason
from pacs.revocation import StatusList
from pacs.rules import Policy

log = logging.getLogger(__name__)

WAITING_DOCUMENTS: Final = 16
REFUSALS_AT_ONCE: Final = 30
REFUSALS_PER_S: Final = 0.1
"""In the long run: a flood of documents that are not the hub's does not fill the journal."""


class HeldDocuments(Protocol):
    """What a door decides by."""

    @property
    def policy(self) -> Policy | None:
        """None: never received."""
        ...

    @property
    def revocations(self) -> StatusList | None:
        """None: never received."""
        ...

    def version(self, kind: DocumentKind) -> int:
        """0 when there is none."""
        ...

    def digest(self, kind: DocumentKind) -> bytes:
        """What tells this document from another of the same version."""
        ...


class Documents(Protocol):
    """Verifies and keeps policy documents; used by one thread."""

    def accept(self, kind: DocumentKind, data: bytes, clock: ClockReading) -> HeldDocuments | None:
        """Return what is held with the document; None when it was held already.

        Raises ``VerificationError`` with the reason of a refusal, ``StoreError`` when the disk fails.
        """
        ...


class DocumentIntake:
    """Puts ``DocumentAccepted`` or ``DocumentRefused`` for each document it takes that is not held already."""

    def __init__(
        self,
        documents: Documents,
        *,
        clock: Clock,
        put: Callable[[DocumentAccepted | DocumentRefused], None],
    ) -> None:
        self._documents = documents
        self._clock = clock
        self._put = put
        self._queue: Queue[DocumentReceived | None] = Queue(WAITING_DOCUMENTS)
        self._refused: dict[DocumentKind, tuple[bytes, Reason]] = {}
        self._tellable = Allowance(burst=REFUSALS_AT_ONCE, per_s=REFUSALS_PER_S)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="documents", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after what it has in hand."""
        self._stopping.set()
        with contextlib.suppress(Full):  # it comes round as soon as it has taken one
            self._queue.put_nowait(None)
        self._thread.join()

    def take(self, received: DocumentReceived) -> None:
        """Have this document verified; never waits. One too many is dropped: the hub sends it again."""
        with contextlib.suppress(Full):
            self._queue.put_nowait(received)

    def _run(self) -> None:
        while not self._stopping.is_set() and (received := self._queue.get()) is not None:
            try:
                result = self._verified(received)
                if result:
                    self._put(result)
            except Exception:  # the next one may revoke a card
                log.exception("a document of kind %s is not served", received.kind.value)

    def _verified(self, received: DocumentReceived) -> DocumentAccepted | DocumentRefused | None:
        kind = received.kind
        try:
            held = self._documents.accept(kind, received.data, self._clock.now().clock)
        except VerificationError as error:
            return self._refusal(received, error.reason)
        except Exception:
            log.exception("a document of kind %s cannot be kept", kind.value)
            return self._refusal(received, Reason.INTERNAL_FAULT)
        if held is None:
            return None
        self._refused.pop(kind, None)
        try:
            self._clock.issued(
                max(document.issued_at for document in (held.policy, held.revocations) if document),
                just_arrived=True,
            )
        except Exception:  # it is held: the door has to decide by it all the same
            log.exception("the time of a document of kind %s is not used", kind.value)
        gc.collect()  # garbage would be kept with it
        gc.freeze()  # a policy lives long: no collection has to walk through it
        return DocumentAccepted(
            kind=kind,
            version=held.version(kind),
            digest=held.digest(kind),
            policy=held.policy,
            revocations=held.revocations,
        )

    def _refusal(self, received: DocumentReceived, reason: Reason) -> DocumentRefused | None:
        """None for one that was refused just before, since the hub repeats what is not confirmed; and in a flood."""
        refused = (hashlib.sha256(received.data).digest(), reason)
        if self._refused.get(received.kind) == refused:
            return None
        if not self._tellable.take(self._clock.now().monotonic_s):
            log.warning("a document of kind %s was refused: %s", received.kind.value, reason.value)
            return None
        self._refused[received.kind] = refused
        return DocumentRefused(kind=received.kind, reason=reason)
