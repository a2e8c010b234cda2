"""Go-back-N over the journal: what to send next, and when to ask the hub again where it stands.

Nothing is sent before the hub has answered a hello; when acknowledgements stay away, the hello is repeated
at growing intervals and sending goes on from its answer. A hub that is away thus costs one small message now
and then, and no event is queued anywhere but in the journal. Times are monotonic seconds, given by the caller.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from pacs.identifiers import JournalId
from pacs.messages import Acknowledgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """``batches``: sent but not acknowledged at most. ``first_s`` to ``longest_s``: before a hello is repeated."""

    batches: int = 8
    first_s: float = 5.0
    longest_s: float = 60.0


class SendWindow:
    """One connection's view of one journal at a time; made anew with every connection."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._journal_id: JournalId | None = None
        self._answered = False
        self._sent: deque[int] = deque()
        self._wait_s = patience.first_s
        self._since_s = 0.0
        self._acknowledged = 0
        self.next_sequence = 0
        """The event to send next; meaningful while ``open``."""

    def must_ask(self, journal_id: JournalId, now_s: float) -> bool:
        """Whether a hello for this journal is due."""
        if journal_id != self._journal_id:
            return True
        waiting = not self._answered or bool(self._sent)
        return waiting and now_s - self._since_s >= self._wait_s

    def asked(self, journal_id: JournalId, now_s: float) -> None:
        """A hello was sent: wait for its answer, longer each time."""
        if journal_id != self._journal_id:
            self._wait_s = self._patience.first_s
        elif self._since_s:
            self._wait_s = min(2 * self._wait_s, self._patience.longest_s)
        self._journal_id = journal_id
        self._answered = False
        self._sent.clear()
        self._since_s = now_s

    def acknowledged(self, acknowledgement: Acknowledgement, now_s: float) -> None:
        """The hub said where it stands; the first time after a hello, also when that is further back."""
        if acknowledgement.journal_id != self._journal_id:
            return
        sequence = acknowledgement.sequence
        if not self._answered:
            self._answered = True
            self._acknowledged, self.next_sequence = sequence, sequence + 1
        elif sequence > self._acknowledged:
            self._acknowledged = sequence
            self.next_sequence = max(self.next_sequence, sequence + 1)
            while self._sent and self._sent[0] <= sequence:
                self._sent.popleft()
        else:
            return
        self._since_s, self._wait_s = now_s, self._patience.first_s

    def open(self, journal_id: JournalId) -> bool:
        """Whether another batch of this journal may be sent."""
        return self._answered and journal_id == self._journal_id and len(self._sent) < self._patience.batches

    def is_behind(self, journal_id: JournalId, last_sequence: int, batch_events: int) -> bool:
        """Whether the hub takes this journal, and the event of this sequence does not go up with the next batch of so many."""
        if not self._answered or journal_id != self._journal_id:
            return False
        waiting = last_sequence + 1 - self.next_sequence
        return waiting > (batch_events if self.open(journal_id) else 0)

    def sent(self, last_sequence: int, now_s: float) -> None:
        """A batch up to and with ``last_sequence`` was handed to the broker's connection."""
        if not self._sent:
            self._since_s = now_s
        self._sent.append(last_sequence)
        self.next_sequence = last_sequence + 1
