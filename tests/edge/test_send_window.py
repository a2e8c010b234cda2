"""Go-back-N: what is sent, when the hub is asked again, and where sending goes on from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.send_window import Patience, SendWindow
from pacs.identifiers import JournalId
from pacs.messages import Acknowledgement

A, B = JournalId("a" * 32), JournalId("b" * 32)
PATIENCE = Patience(batches=2, first_s=5.0, longest_s=20.0)


def acknowledgement(sequence: int, journal_id: JournalId = A) -> Acknowledgement:
    return Acknowledgement(journal_id=journal_id, sequence=sequence)


def answered(sequence: int = 0, now_s: float = 0.0) -> SendWindow:
    """A window whose hello was answered."""
    window = SendWindow(PATIENCE)
    window.asked(A, now_s)
    window.acknowledged(acknowledgement(sequence), now_s)
    return window


def test_nothing_before_the_answer() -> None:
    """A hello is due at once and nothing may be sent until it is answered; then from behind the answer."""
    window = SendWindow(PATIENCE)
    assert window.must_ask(A, 0.0)
    window.asked(A, 0.0)
    assert not window.must_ask(A, 4.9)
    assert not window.open(A)
    window.acknowledged(acknowledgement(7), 1.0)
    assert window.open(A)
    assert window.next_sequence == 8
    assert not window.must_ask(A, 1e6)


def test_hello_is_repeated_ever_more_slowly() -> None:
    """An unanswered hello is repeated after 5, 10, 20, 20 … seconds."""
    window, now_s, waits = SendWindow(PATIENCE), 100.0, []
    window.asked(A, now_s)
    for _ in range(4):
        asked_s = now_s
        while not window.must_ask(A, now_s):
            now_s += 1
        waits.append(now_s - asked_s)
        window.asked(A, now_s)
    assert waits == [5, 10, 20, 20]


def test_only_so_many_batches() -> None:
    """The window closes at its bound and opens again with an acknowledgement of the first batch."""
    window = answered()
    window.sent(10, 0.0)
    assert window.open(A)
    window.sent(20, 0.0)
    assert not window.open(A)
    window.acknowledged(acknowledgement(9), 1.0)
    assert not window.open(A)
    window.acknowledged(acknowledgement(10), 1.0)
    assert window.open(A)
    assert window.next_sequence == 21


def test_silence_after_sending() -> None:
    """Without an acknowledgement the hub is asked again, and its answer says where to go back to."""
    window = answered()
    window.sent(10, 3.0)
    window.sent(20, 6.0)
    assert not window.must_ask(A, 7.9)
    assert window.must_ask(A, 8.0)
    window.asked(A, 8.0)
    assert not window.open(A)
    window.acknowledged(acknowledgement(4), 9.0)
    assert window.next_sequence == 5


def test_another_journal() -> None:
    """Another journal needs a hello of its own; acknowledgements of the one before mean nothing then."""
    window = answered(3)
    assert not window.open(B)
    assert window.must_ask(B, 0.0)
    window.asked(B, 0.0)
    window.acknowledged(acknowledgement(9), 0.0)
    assert not window.open(B)
    window.acknowledged(acknowledgement(0, B), 0.0)
    assert window.open(B)
    assert window.next_sequence == 1


@given(st.lists(st.tuples(st.sampled_from("shtl"), st.integers(0, 30)), max_size=60))
def test_every_event_is_stored_in_the_end(script: list[tuple[str, int]]) -> None:
    """Whatever is lost on the way, both of events and of acknowledgements: a hub that listens again has them all."""
    total, stored, now_s = 40, 0, 0.0
    window = SendWindow(PATIENCE)
    for act, number in [
        *script,
        *[("s", 3), ("h", 0)] * total,
        *[("t", 0), ("h", 0), ("s", 9), ("h", 0)] * 40,
    ]:
        now_s += 0.01
        if window.must_ask(A, now_s):
            window.asked(A, now_s)
        if act == "s" and window.open(A) and window.next_sequence <= total:
            first, last = window.next_sequence, min(total, window.next_sequence + number)
            window.sent(last, now_s)
            if number % 4 and first <= stored + 1:  # else the batch is lost, or not the next one
                stored = max(stored, last)
        elif act == "h":
            window.acknowledged(acknowledgement(stored), now_s)
        elif act == "l":
            window.acknowledged(acknowledgement(min(stored, number)), now_s)
        elif act == "t":
            now_s += PATIENCE.longest_s
    assert stored == total
