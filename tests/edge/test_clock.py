"""The clock says what time it is, whether to believe it, and if not, why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import FAR_AHEAD, SOFTWARE_LIFETIME, SYNCHRONISED_AGAIN_S, TOLERANCE, Clock, utc_now
from edge.clock_steps import CLOCK_STEP_S, ClockSteps
from edge.effects import Record
from edge.inputs import Distrust, Now
from edge.time_sync import is_synchronised
from pacs.decision import ClockReading
from pacs.events import EventKind
from tests.edge.small_site import NOON

BUILT = NOON - timedelta(days=60)
JOURNALLED = NOON - timedelta(hours=1)
MOMENT = timedelta(milliseconds=1)


def clock_at(at: datetime, *, issued_at: datetime | None = NOON) -> Clock:
    """A clock that shows ``at``, with a journal and, unless said otherwise, a document of noon."""
    clock = Clock(BUILT, journalled=JOURNALLED, wall=lambda: at, monotonic_s=lambda: 7.0)
    if issued_at:
        clock.issued(issued_at)
    return clock


@pytest.mark.parametrize(
    ("at", "distrust"),
    [
        (NOON, None),
        (NOON - TOLERANCE, None),
        (NOON - TOLERANCE - MOMENT, Distrust.BEFORE_DOCUMENT),
        (JOURNALLED - TOLERANCE, Distrust.BEFORE_DOCUMENT),
        (JOURNALLED - TOLERANCE - MOMENT, Distrust.BEFORE_JOURNAL),
        (BUILT - TOLERANCE, Distrust.BEFORE_JOURNAL),
        (BUILT - TOLERANCE - MOMENT, Distrust.BEFORE_BUILD),
        (datetime(1970, 1, 1, tzinfo=UTC), Distrust.BEFORE_BUILD),
        (NOON + timedelta(hours=1), None),
        (NOON + timedelta(days=30), None),
        (NOON + FAR_AHEAD, None),
        (NOON + FAR_AHEAD + MOMENT, Distrust.FAR_AHEAD),
        (datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC), Distrust.FAR_AHEAD),
        (datetime(2099, 12, 31, tzinfo=UTC), Distrust.FAR_AHEAD),
    ],
)
def test_wall_time_is_trusted_unless_it_cannot_be_right(at: datetime, distrust: Distrust | None) -> None:
    """Less than a moment known to have passed, or far too much: not believed, and the reason has a name."""
    now = clock_at(at).now()
    assert (now.clock.at, now.clock.trusted, now.monotonic_s) == (at, distrust is None, 7.0)
    assert now.distrust is distrust


@pytest.mark.parametrize(
    ("at", "distrust"),
    [
        (JOURNALLED - TOLERANCE, None),
        (BUILT + SOFTWARE_LIFETIME, None),
        (BUILT + SOFTWARE_LIFETIME + MOMENT, Distrust.FAR_AHEAD),
        (datetime(2038, 1, 19, tzinfo=UTC), Distrust.FAR_AHEAD),
    ],
)
def test_without_a_document_the_software_and_the_journal_count(
    at: datetime, distrust: Distrust | None
) -> None:
    """A controller that never heard of a policy knows when its software was made."""
    assert clock_at(at, issued_at=None).now().distrust is distrust


def test_the_issue_of_a_document_counts_while_it_is_held() -> None:
    """A signer whose clock was ahead is forgotten with its document; what was proven at the start stays."""
    clock = clock_at(NOON, issued_at=None)
    clock.issued(NOON + timedelta(hours=1))
    assert not clock.now().clock.trusted
    clock.issued(NOON - timedelta(hours=1))
    assert clock.now().clock.trusted
    late = clock_at(JOURNALLED - timedelta(hours=1), issued_at=None)
    late.issued(NOON - timedelta(hours=2))
    assert late.now().distrust is Distrust.BEFORE_JOURNAL


def test_a_clock_that_was_ahead_is_believed_again_when_a_signer_agrees() -> None:
    """Only a document that has just arrived, issued at what this clock shows, undoes what the journal proved."""
    clock = Clock(BUILT, journalled=NOON + timedelta(days=365), wall=lambda: NOON)
    clock.issued(NOON)
    assert clock.now().distrust is Distrust.BEFORE_JOURNAL
    clock.issued(NOON - timedelta(hours=1), just_arrived=True)
    assert clock.now().distrust is Distrust.BEFORE_JOURNAL
    clock.issued(NOON - timedelta(minutes=1), just_arrived=True)
    assert clock.now().clock.trusted


def test_a_spare_from_the_cupboard_believes_its_clock_once_a_document_arrives() -> None:
    """Two years old documents make a right clock look far ahead, until the hub sends others."""
    later = NOON + timedelta(days=730)
    clock = clock_at(later)
    assert clock.now().distrust is Distrust.FAR_AHEAD
    clock.issued(later - timedelta(seconds=3), just_arrived=True)
    assert clock.now().clock.trusted


@pytest.mark.parametrize("not_yet", [False, None])
def test_a_clock_that_has_to_be_synchronised_is_asked_about_until_it_was(not_yet: bool | None) -> None:
    """Not believed before; not asked at every reading, nor ever again: a network that goes away takes nothing."""
    answers: list[bool | None] = [not_yet, not_yet, True]
    at_s, asked = 0.0, 0

    def synchronised() -> bool | None:
        nonlocal asked
        asked += 1
        return answers[asked - 1]

    clock = Clock(BUILT, synchronised=synchronised, wall=lambda: NOON, monotonic_s=lambda: at_s)
    for next_s, distrust, times in (
        (0.0, Distrust.NOT_SYNCHRONISED, 1),
        (SYNCHRONISED_AGAIN_S / 2, Distrust.NOT_SYNCHRONISED, 1),
        (SYNCHRONISED_AGAIN_S, Distrust.NOT_SYNCHRONISED, 2),
        (SYNCHRONISED_AGAIN_S * 2, None, 3),
        (SYNCHRONISED_AGAIN_S * 99, None, 3),
    ):
        at_s = next_s
        assert (clock.now().distrust, asked) == (distrust, times)


def test_a_clock_in_the_past_is_named_before_one_that_is_not_synchronised() -> None:
    """The reason a technician can act on comes first."""
    clock = Clock(BUILT, synchronised=lambda: False, wall=lambda: BUILT - timedelta(days=1))
    assert clock.now().distrust is Distrust.BEFORE_BUILD


def test_the_real_clocks_are_aware_and_move() -> None:
    """Wall time carries its zone, monotonic time does not go back, and the kernel is asked without a privilege."""
    clock = Clock(NOON)
    first, second = clock.now(), clock.now()
    assert utc_now().utcoffset() == timedelta(0)
    assert second.monotonic_s >= first.monotonic_s
    assert is_synchronised() in (True, False, None)


# ---- what it did


def reading(wall_s: float, monotonic_s: float, distrust: Distrust | None = None) -> Now:
    clock = ClockReading(at=NOON + timedelta(seconds=wall_s), trusted=distrust is None)
    return Now(clock=clock, monotonic_s=monotonic_s, distrust=distrust)


def seen(*readings: Now) -> list[Record]:
    """What the last of these readings brings about."""
    steps = ClockSteps()
    return [steps.seen(one) for one in readings][-1]


@pytest.mark.parametrize(
    ("last", "details"),
    [
        (reading(11, 10), None),
        (reading(10 - CLOCK_STEP_S + 0.1, 10), None),
        (reading(10 + CLOCK_STEP_S, 10), {"step_ms": 2_000}),
        (reading(10 + 3_600, 10), {"step_ms": 3_600_000}),
        (reading(10 - 3_600, 10), {"step_ms": -3_600_000}),
        (
            reading(10 - 3_600, 10, Distrust.BEFORE_DOCUMENT),
            {"step_ms": -3_600_000, "distrust": "before_document"},
        ),
        (reading(10, 10, Distrust.NOT_SYNCHRONISED), {"step_ms": 0, "distrust": "not_synchronised"}),
    ],
)
def test_a_step_or_a_change_of_trust_is_recorded(last: Now, details: dict[str, object] | None) -> None:
    """By how much the wall clock moved against the monotonic one, and why it is not believed; drift is not."""
    records = seen(reading(0, 0), last)
    assert [record.draft.details for record in records] == ([] if details is None else [details])
    assert all(record.draft.kind is EventKind.CLOCK_CHANGED for record in records)


def test_another_reason_for_distrust_is_recorded_too_and_the_same_one_is_not() -> None:
    """From 1970 to not synchronised: one event; and once more when it is believed."""
    past, unsynchronised = Distrust.BEFORE_BUILD, Distrust.NOT_SYNCHRONISED
    assert seen(reading(0, 0, past), reading(1, 1, past)) == []
    assert len(seen(reading(0, 0, past), reading(1, 1, unsynchronised))) == 1
    (believed,) = seen(reading(0, 0, unsynchronised), reading(1, 1))
    assert believed.draft.details == {"step_ms": 0}
    assert believed.draft.clock_trusted


def test_the_first_reading_is_only_remembered() -> None:
    """There is nothing it could have changed against."""
    assert seen(reading(0, 0, Distrust.BEFORE_BUILD)) == []


@given(st.lists(st.floats(min_value=-1e8, max_value=1e8), min_size=1, max_size=10))
def test_steps_add_up_to_where_the_clock_is(steps_s: list[float]) -> None:
    """Whatever it does, the recorded steps say by how much it moved, to what went unrecorded as drift."""
    steps, offset_s, recorded_s = ClockSteps(), 0.0, 0.0
    steps.seen(reading(0, 0))
    for number, step_s in enumerate(steps_s, start=1):
        offset_s += step_s
        for record in steps.seen(reading(number + offset_s, number)):
            step_ms = record.draft.details["step_ms"]
            assert isinstance(step_ms, int)
            recorded_s += step_ms / 1000
    assert abs(offset_s - recorded_s) <= (CLOCK_STEP_S + 0.01) * len(steps_s)
