"""A week of windows: as it is typed into a form row by row, and as it is drawn and told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hub.api.access_levels import Window
from hub.pages.rendering import Pages
from hub.pages.words import N_
from pacs.schedule import DAY_MINUTES

_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(:00)?")
_MIDNIGHT = "24:00"
_NO_DAY = N_("Choose at least one day.")
_NO_TIME = N_("Write both times, such as 07:00 and 23:00.")


@dataclass(slots=True, kw_only=True)
class Row:
    """One window as typed; ``fault`` says what is wrong with it. An end that is not after the start is the next day's."""

    start: str = ""
    end: str = ""
    days: list[int] = field(default_factory=list)
    fault: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was typed into it."""
        return not (self.start or self.end or self.days)


def rows_typed(starts: Sequence[str], ends: Sequence[str], days: Iterable[str] = ()) -> list[Row]:
    """The rows of a form: row by row where each starts and ends, and ``row:weekday`` for each box that is ticked."""
    ticked = set(days)
    return [
        Row(
            start=start.strip(),
            end=end.strip(),
            days=[day for day in range(7) if f"{number}:{day}" in ticked],
        )
        for number, (start, end) in enumerate(zip(starts, ends, strict=False))
    ]


def rows_of(windows: Iterable[Window]) -> list[Row]:
    """The rows that say these windows."""
    return [
        Row(start=_clock(each.start_minute), end=_clock(each.end_minute), days=sorted(each.weekdays))
        for each in windows
    ]


def windows_of(rows: Iterable[Row], *, of_holidays: bool = False) -> list[Window]:
    """The windows that the rows say, empty rows left out; marks the rows that say none."""
    found = []
    for row in rows:
        if row.is_empty:
            continue
        start, end = _minute(row.start), _minute(row.end)
        if start is None or end is None or start == DAY_MINUTES:
            row.fault = _NO_TIME
        elif not row.days and not of_holidays:
            row.fault = _NO_DAY
        else:
            days = list(range(7)) if of_holidays else row.days
            end = end if end > start else end + DAY_MINUTES
            found.append(Window(weekdays=days, start_minute=start, end_minute=end))
    return found


def drawn(pages: Pages, windows: Iterable[Window], of_holidays: Iterable[Window]) -> list[dict[str, Any]]:
    """A row for each weekday and one for holidays: its name, its bars in minutes, and its windows in words."""
    ordinary, special = list(windows), list(of_holidays)
    days = []
    for day in range(7):
        starting = [each for each in ordinary if day in each.weekdays]
        running_on = [each for each in ordinary if (day - 1) % 7 in each.weekdays]
        days.append(
            {
                "name": pages.language.weekday(day),
                "bars": [*_bars(starting), *_bars(running_on, DAY_MINUTES)],
                "said": [told(pages, each) for each in sorted(starting, key=lambda each: each.start_minute)],
            }
        )
    holiday = {
        "name": pages.gettext("Holidays"),
        "bars": list(_bars(special)),
        "said": [told(pages, each) for each in special],
    }
    return [*days, holiday]


def summary(pages: Pages, windows: Iterable[Window]) -> list[str]:
    """Each window in a few words: ``Mon–Fri 07:00–23:00``."""
    return [f"{_days(pages, each.weekdays)} {told(pages, each)}" for each in windows]


def _days(pages: Pages, days: Iterable[int]) -> str:
    """Runs of weekdays as a span, the others one by one."""
    runs: list[list[int]] = []
    for day in sorted(days):
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    name = partial(pages.language.weekday, short=True)
    spans = [f"{name(run[0])}–{name(run[-1])}" if len(run) > 2 else ", ".join(map(name, run)) for run in runs]
    return ", ".join(spans)


def told(pages: Pages, window: Window) -> str:
    """From when until when, in words."""
    if window.end_minute - window.start_minute == DAY_MINUTES and window.start_minute == 0:
        return pages.gettext("all day")
    end = _MIDNIGHT if window.end_minute == DAY_MINUTES else _clock(window.end_minute)
    said = f"{_clock(window.start_minute)}–{end}"
    if window.end_minute > DAY_MINUTES:
        return pages.gettext("%s the next day") % said
    return said


def _bars(windows: Iterable[Window], since: int = 0) -> Iterable[tuple[int, int]]:
    """Where each window covers the day that begins ``since`` minutes after its own: from which minute, how many."""
    for each in windows:
        start, end = max(each.start_minute, since), min(each.end_minute, since + DAY_MINUTES)
        if start < end:
            yield start - since, end - start


def _clock(minute: int) -> str:
    return f"{minute // 60 % 24:02}:{minute % 60:02}"


def _minute(typed: str) -> int | None:
    if typed == _MIDNIGHT:
        return DAY_MINUTES
    found = _TIME.fullmatch(typed)
    return None if found is None else int(found[1]) * 60 + int(found[2])
