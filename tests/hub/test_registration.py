"""When a duty to report in occurs, and what may be said of whom: no absence without proof."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import registration
from hub.registration import Hole, KioskRecord, Standing, Stretch, Timing
from hub.store.cardholders import Category
from hub.store.duties import Duty, Exemption, Whom
from hub.store.reports import Correction, CorrectionKind, Occurrence, Report
from pacs.errors import MalformedData
from pacs.identifiers import AccessLevelId, CardholderId, SiteId
from pacs.schedule import ALL_DAYS, Window

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
ADA, BEN, CEM = CardholderId("ada"), CardholderId("ben"), CardholderId("cem")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
OPENS = datetime(2026, 3, 2, 8, tzinfo=UTC)
OCCURRENCE = Occurrence(
    duty_id="0123456789abcdef",
    day=date(2026, 3, 2),
    opens_at=OPENS,
    starts_at=OPENS + HOUR,
    ends_at=OPENS + 2 * HOUR,
    closes_at=OPENS + 3 * HOUR,
    fixed_at=OPENS,
)
LATER = OCCURRENCE.closes_at + DAY
WHOLE = KioskRecord(
    station_id="hall",
    name="Hall",
    since=LONG_AGO,
    until=None,
    worked=(Stretch(since=LONG_AGO, until=LATER),),
)


def duty(**changed: Any) -> Duty:
    made: dict[str, Any] = {
        "id": "0123456789abcdef",
        "site_id": SiteId("test-site"),
        "name": "Morning",
        "whom": Whom.CATEGORY,
        "category": Category.RESIDENT,
        "window": Window(weekdays=ALL_DAYS, start_minute=9 * 60, end_minute=11 * 60),
        "first_day": date(2026, 1, 1),
        "in_force_since": LONG_AGO,
        "created_at": LONG_AGO,
    }
    return Duty(**made | changed)


def window(start: str, end: str, weekdays: frozenset[int] = ALL_DAYS) -> Window:
    def minutes(said: str) -> int:
        hours, _, rest = said.partition(":")
        return int(hours) * 60 + int(rest)

    return Window(weekdays=weekdays, start_minute=minutes(start), end_minute=minutes(end))


def on_day(made: Duty, day: date, zone: str = "Europe/Amsterdam") -> Occurrence | None:
    middle = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    found = registration.occurrences_of(
        made, zone, frozenset(), since=middle - 2 * DAY, until=middle + 2 * DAY
    )
    return next((each for each in found if each.day == day), None)


@pytest.mark.parametrize(
    ("zone", "day", "start", "end", "starts_at", "ends_at"),
    [
        ("Europe/Amsterdam", date(2026, 1, 15), "09:00", "11:00", "2026-01-15T08:00", "2026-01-15T10:00"),
        ("Europe/Amsterdam", date(2026, 7, 15), "09:00", "11:00", "2026-07-15T07:00", "2026-07-15T09:00"),
        ("Europe/Amsterdam", date(2026, 3, 28), "22:00", "27:30", "2026-03-28T21:00", "2026-03-29T01:30"),
        # the hour from 2 to 3 is skipped on 29 March …
        ("Europe/Amsterdam", date(2026, 3, 29), "02:30", "04:00", "2026-03-29T01:00", "2026-03-29T02:00"),
        ("Europe/Amsterdam", date(2026, 3, 29), "01:00", "02:30", "2026-03-29T00:00", "2026-03-29T01:00"),
        ("Europe/Amsterdam", date(2026, 3, 29), "02:10", "02:50", None, None),
        # … and comes twice on 25 October: it lasts from its first beginning to its last end
        ("Europe/Amsterdam", date(2026, 10, 25), "02:30", "02:45", "2026-10-25T00:30", "2026-10-25T01:45"),
        ("Europe/Amsterdam", date(2026, 10, 25), "01:00", "03:30", "2026-10-24T23:00", "2026-10-25T02:30"),
        ("Asia/Kathmandu", date(2026, 3, 29), "00:00", "00:15", "2026-03-28T18:15", "2026-03-28T18:30"),
    ],
)
def test_a_window_is_on_the_wall_clock_of_the_site(
    zone: str, day: date, start: str, end: str, starts_at: str | None, ends_at: str | None
) -> None:
    """Windows of ordinary days, over midnight, on both nights of the clocks' change and in an odd zone."""
    found = on_day(duty(window=window(start, end)), day, zone)
    if starts_at is None or ends_at is None:
        assert found is None
        return
    assert found is not None
    expected = (datetime.fromisoformat(starts_at), datetime.fromisoformat(ends_at))
    assert (found.starts_at.replace(tzinfo=None), found.ends_at.replace(tzinfo=None)) == expected


def test_a_duty_falls_on_its_days() -> None:
    """Weekdays, first and last day, and holidays only where it says so."""
    made = duty(
        window=window("09:00", "10:00", frozenset({0, 2})),
        first_day=date(2026, 3, 4),
        last_day=date(2026, 3, 16),
    )
    span = {"since": datetime(2026, 3, 1, tzinfo=UTC), "until": datetime(2026, 3, 31, tzinfo=UTC)}
    holidays = frozenset({date(2026, 3, 11)})

    def days(each: Duty) -> list[int]:
        found = registration.occurrences_of(each, "Europe/Amsterdam", holidays, **span)
        return [occurrence.day.day for occurrence in found]

    assert days(made) == [4, 9, 16]
    assert days(duty(**{name: getattr(made, name) for name in ("window", "first_day", "last_day")}, on_holidays=True)) == [4, 9, 11, 16]  # fmt: skip


def test_a_duty_counts_from_when_it_was_laid_down() -> None:
    """One whose window is over has not occurred; one that is open opens at that moment."""
    for since, opens_at in (
        (datetime(2026, 3, 2, 7, tzinfo=UTC), datetime(2026, 3, 2, 7, 30, tzinfo=UTC)),
        (datetime(2026, 3, 2, 9, tzinfo=UTC), datetime(2026, 3, 2, 9, tzinfo=UTC)),
        (datetime(2026, 3, 2, 10, tzinfo=UTC), None),
    ):
        made = duty(in_force_since=since, early_min=30, late_min=15)
        found = on_day(made, date(2026, 3, 2))
        assert (found and found.opens_at) == opens_at


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (-MINUTE, None),
        (timedelta(), Timing.EARLY),
        (HOUR - MINUTE, Timing.EARLY),
        (HOUR, Timing.ON_TIME),
        (2 * HOUR - MINUTE, Timing.ON_TIME),
        (2 * HOUR, Timing.LATE),
        (3 * HOUR - MINUTE, Timing.LATE),
        (3 * HOUR, None),
    ],
)
def test_early_on_time_and_late(after: timedelta, expected: Timing | None) -> None:
    """Each margin begins with its first moment and ends before its last."""
    assert registration.timing(OCCURRENCE, OPENS + after) is expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"whom": Whom.PEOPLE},
        {"category": None},
        {"whom": Whom.ACCESS_LEVEL, "category": None},
        {"access_level_id": AccessLevelId("residents")},
        {"people": (ADA,)},
        {"early_min": -1},
        {"late_min": 721},
        {"last_day": date(2025, 12, 31)},
    ],
)
def test_a_duty_that_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    """For whom it is is said once, margins are bounded, and it does not end before it begins."""
    with pytest.raises(MalformedData):
        duty(**wrong)


# -- what may be said -------------------------------------------------------------------------------


def report(person: CardholderId, at: datetime, by: CardholderId | None = None) -> Report:
    return Report(
        duty_id=OCCURRENCE.duty_id,
        day=OCCURRENCE.day,
        cardholder_id=person,
        reported_by=by or person,
        station_id="hall",
        at=at,
        receipt=registration.new_receipt(),
    )


def correction(person: CardholderId, kind: CorrectionKind, at: datetime) -> Correction:
    return Correction(
        duty_id=OCCURRENCE.duty_id,
        day=OCCURRENCE.day,
        cardholder_id=person,
        kind=kind,
        reason="Was at the desk",
        made_by="operator:one",
        at=at,
    )


def said(
    *,
    now: datetime = LATER,
    kiosks: list[KioskRecord] | None = None,
    reports: list[Report] | None = None,
    corrections: list[Correction] | None = None,
    exemptions: list[Exemption] | None = None,
    occurrence: Occurrence = OCCURRENCE,
) -> dict[CardholderId, Standing]:
    lines = registration.listed(
        occurrence,
        {ADA, BEN},
        reports={each.cardholder_id: [each] for each in reports or ()},
        corrections={each.cardholder_id: [each] for each in corrections or ()},
        exemptions=exemptions or (),
        holes=registration.holes_of(occurrence, [WHOLE] if kiosks is None else kiosks, now),
        now=now,
    )
    return {line.cardholder_id: line.standing for line in lines}


def worked(*stretches: tuple[timedelta, timedelta]) -> KioskRecord:
    return KioskRecord(
        station_id="hall",
        name="Hall",
        since=LONG_AGO,
        until=None,
        worked=tuple(Stretch(since=OPENS + since, until=OPENS + until) for since, until in stretches),
    )


def test_absence_is_said_only_when_it_is_proven() -> None:
    """With a whole record: not yet while there is time, until kiosks spoke of its end, and not reported after."""
    assert said(now=OPENS + HOUR)[ADA] is Standing.NOT_YET
    assert said(now=OCCURRENCE.closes_at + MINUTE)[ADA] is Standing.NOT_YET
    assert said(now=OCCURRENCE.closes_at + registration.SETTLING)[ADA] is Standing.NOT_REPORTED
    assert said(kiosks=[])[ADA] is Standing.CANNOT_BE_TOLD


@pytest.mark.parametrize(
    "stretches",
    [
        [(timedelta(seconds=1), 4 * HOUR)],  # late by a second
        [(-HOUR, 3 * HOUR - timedelta(seconds=1))],  # not heard at the very end
        [(-HOUR, HOUR), (HOUR + timedelta(seconds=40), 4 * HOUR)],
        [(-2 * HOUR, -HOUR)],
        [],
    ],
)
def test_a_hole_of_any_length_leaves_it_open(stretches: list[tuple[timedelta, timedelta]]) -> None:
    """Nobody is said not to have reported when the kiosk did not work for a moment of the time."""
    assert set(said(kiosks=[worked(*stretches)]).values()) == {Standing.CANNOT_BE_TOLD}


def test_what_a_kiosk_has_not_spoken_of_yet_is_no_hole() -> None:
    """A minute of silence is ordinary while the window is open; a longer one is not."""
    kiosk = [worked((-HOUR, HOUR))]
    assert said(now=OPENS + HOUR + MINUTE, kiosks=kiosk)[ADA] is Standing.NOT_YET
    assert said(now=OPENS + HOUR + 2 * MINUTE, kiosks=kiosk)[ADA] is Standing.CANNOT_BE_TOLD


def test_every_kiosk_counts_while_it_is_in_use() -> None:
    """Somebody may have come to the one that was broken; one that was added later or taken away makes no hole."""
    broken = KioskRecord(station_id="gate", name="Gate", since=LONG_AGO, until=None, worked=())
    assert said(kiosks=[WHOLE, broken])[ADA] is Standing.CANNOT_BE_TOLD
    for since, until in ((LATER, None), (LONG_AGO, OPENS)):
        other = KioskRecord(station_id="gate", name="Gate", since=since, until=until, worked=())
        assert said(kiosks=[WHOLE, other])[ADA] is Standing.NOT_REPORTED
        alone = registration.holes_of(OCCURRENCE, [other], LATER)
        assert alone == [Hole(since=OPENS, until=OCCURRENCE.closes_at)]


def test_whom_it_expected_was_laid_down_too_late() -> None:
    """When the hub was away until it was over, nothing is said of anybody who did not report."""
    late = Occurrence(
        **{name: getattr(OCCURRENCE, name) for name in Occurrence.__slots__ if name != "fixed_at"},
        fixed_at=OCCURRENCE.closes_at,
    )
    assert said(occurrence=late)[ADA] is Standing.CANNOT_BE_TOLD


def test_reports_exemptions_and_corrections() -> None:
    """A report counts even from a broken kiosk's time; the newest word counts; who came though exempt has reported."""
    mine = report(ADA, OPENS + MINUTE)
    assert said(reports=[mine], kiosks=[]) == {ADA: Standing.REPORTED, BEN: Standing.CANNOT_BE_TOLD}
    withdrawn = correction(ADA, CorrectionKind.WITHDRAWN, OPENS + HOUR)
    assert said(reports=[mine], corrections=[withdrawn])[ADA] is Standing.NOT_REPORTED
    again = report(ADA, OPENS + 2 * HOUR)
    assert said(reports=[again], corrections=[withdrawn])[ADA] is Standing.REPORTED
    marked = correction(BEN, CorrectionKind.REPORTED, LATER)
    assert said(corrections=[marked]) == {ADA: Standing.NOT_REPORTED, BEN: Standing.REPORTED}
    exempt = Exemption(
        id="0" * 32,
        cardholder_id=ADA,
        duty_id=None,
        first_day=OCCURRENCE.day,
        last_day=OCCURRENCE.day,
        reason="In hospital",
        given_by="operator:one",
        given_at=OPENS,
    )
    assert said(exemptions=[exempt])[ADA] is Standing.EXEMPT
    assert said(exemptions=[exempt], reports=[mine])[ADA] is Standing.REPORTED
    assert said(reports=[report(CEM, OPENS)])[CEM] is Standing.REPORTED


_SECONDS = st.integers(-600, 4 * 3600)


@given(
    attempts=st.lists(st.integers(0, 3 * 3600 - 1), min_size=1, max_size=3),
    ends=st.lists(_SECONDS, max_size=8, unique=True),
    second=st.booleans(),
    asked=st.integers(0, 5 * 3600),
)
def test_who_came_is_never_said_to_be_absent(
    attempts: list[int], ends: list[int], second: bool, asked: int
) -> None:
    """Whenever somebody came to a kiosk, and whenever it worked: they reported, or it cannot be told, or there is time."""
    ends = sorted(ends)
    spans = list(zip(ends[::2], ends[1::2], strict=False))
    kiosk = worked(*((timedelta(seconds=since), timedelta(seconds=until)) for since, until in spans))
    now = OPENS + timedelta(seconds=asked)
    came = [at for at in attempts if at <= asked]
    taken = [at for at in came if any(since <= at < until for since, until in spans)]
    reports = [report(ADA, OPENS + timedelta(seconds=taken[0]))] if taken else []
    standing = said(now=now, kiosks=[kiosk, WHOLE] if second else [kiosk], reports=reports)
    if came:
        assert standing[ADA] is not Standing.NOT_REPORTED
    whole = any(since <= 0 and until >= 3 * 3600 for since, until in spans)
    if whole and asked >= 3 * 3600 + 90:
        assert standing[BEN] is Standing.NOT_REPORTED


# -- receipts ---------------------------------------------------------------------------------------


def test_a_receipt_is_read_as_people_type_it() -> None:
    """In lower case, with or without the stroke, with letters for the digits they look like."""
    receipt = registration.new_receipt()
    written = registration.written_receipt(receipt)
    assert len(written) == 11
    for typed in (written, receipt, written.lower(), f" {written[:3]} {written[3:]} "):
        assert registration.read_receipt(typed) == receipt
    lookalike = receipt.replace("0", "o").replace("1", "l")
    assert registration.read_receipt(lookalike) == receipt


@given(position=st.integers(0, 9), other=st.sampled_from("0123456789ABCDEFGHJKMNPQRSTVWXYZ"))
def test_a_wrong_character_is_noticed(position: int, other: str) -> None:
    """No receipt differs from another in one character."""
    receipt = registration.new_receipt()
    if receipt[position] == other:
        return
    with pytest.raises(MalformedData):
        registration.read_receipt(receipt[:position] + other + receipt[position + 1 :])


@given(st.text(max_size=30))
def test_anything_typed_is_read_or_refused(typed: str) -> None:
    """Nothing but ``MalformedData`` comes of text that is no receipt's number."""
    with contextlib.suppress(MalformedData):
        assert len(registration.read_receipt(typed)) == 10
