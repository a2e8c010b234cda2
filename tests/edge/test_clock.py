"""The clock says what time it is and whether to believe it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from edge.clock import TOLERANCE, Clock, utc_now
from tests.edge.small_site import NOON


def clock_at(at: datetime, not_before: datetime) -> Clock:
    return Clock(not_before, wall=lambda: at, monotonic_s=lambda: 7.0)


@pytest.mark.parametrize(
    ("late", "trusted"),
    [
        (timedelta(0), True),
        (timedelta(days=400), True),
        (-TOLERANCE, True),
        (-TOLERANCE - timedelta(milliseconds=1), False),
        (-timedelta(days=20_000), False),
    ],
)
def test_wall_time_is_trusted_unless_it_is_before_what_is_proven(late: timedelta, *, trusted: bool) -> None:
    """A clock that shows less than a moment known to have passed is not believed."""
    now = clock_at(NOON + late, NOON).now()
    assert (now.clock.at, now.clock.trusted, now.monotonic_s) == (NOON + late, trusted, 7.0)


def test_the_issue_of_a_document_counts_while_it_is_held() -> None:
    """A signer whose clock was ahead is forgotten with its document; what was proven at the start stays."""
    clock = clock_at(NOON, NOON)
    clock.issued(NOON + timedelta(hours=1))
    assert not clock.now().clock.trusted
    clock.issued(NOON - timedelta(hours=1))
    assert clock.now().clock.trusted
    late = clock_at(NOON - timedelta(hours=1), NOON)
    late.issued(NOON - timedelta(hours=2))
    assert not late.now().clock.trusted


def test_a_clock_that_was_ahead_is_believed_again_when_a_signer_agrees() -> None:
    """Only a document that has just arrived, issued at what this clock shows, undoes what was proven."""
    ahead = NOON + timedelta(days=365)
    clock = clock_at(NOON, ahead)
    clock.issued(NOON)
    assert not clock.now().clock.trusted
    clock.issued(NOON - timedelta(hours=1), just_arrived=True)
    assert not clock.now().clock.trusted
    clock.issued(NOON - timedelta(minutes=1), just_arrived=True)
    assert clock.now().clock.trusted


def test_the_real_clocks_are_aware_and_move() -> None:
    """Wall time carries its zone, and monotonic time does not go back."""
    clock = Clock(NOON)
    first, second = clock.now(), clock.now()
    assert utc_now().utcoffset() == timedelta(0)
    assert second.monotonic_s >= first.monotonic_s
