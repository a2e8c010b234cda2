"""What a reader does while a card signs."""

from __future__ import annotations

import pytest

from edge.nfc.rehearsal import LOAD, PAUSE_S, TIMES, Rehearsal
from pacs.card import p256


@pytest.mark.parametrize("step_ns", [0, 500_000])
def test_it_claims_a_bounded_number_of_times_and_rests_in_between(step_ns: int) -> None:
    """``TIMES`` for one card, at most a ``LOAD``-th of the time, and again as often for the next card."""
    now_ns = 0

    def clock_ns() -> int:
        nonlocal now_ns
        now_ns += step_ns
        return now_ns

    one = Rehearsal(clock_ns)
    for _card in range(2):
        claims: list[int] = []
        once = one.of(lambda: claims.append(now_ns))  # noqa: B023 - called within this turn
        pauses, begun_ns = [once()], now_ns
        while pauses[-1] is not None:
            begun_ns = now_ns
            pauses.append(once())
            taken_s = (now_ns - begun_ns - step_ns) / 1e9
            assert pauses[-1] is None or pauses[-1] == pytest.approx(max(PAUSE_S, LOAD * taken_s))
        assert len(claims) == len(pauses) == TIMES


def test_it_verifies_a_signature_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rehearsal that skips the costly part would be for nothing."""
    verified: list[bytes] = []
    monkeypatch.setattr(p256, "verify", lambda _key, signature, *_: verified.append(signature))
    once = Rehearsal(lambda: 0).of(lambda: None)
    once()
    once()
    assert len(verified) == 2
    assert {len(signature) for signature in verified} == {64}
