"""The languages of the pages: catalogues, and how moments, ages and numbers are written in each.

A catalogue is the translators' own file, ``locale/…/hub.po``, read when the hub starts; there is nothing to compile.
"""

from __future__ import annotations

import gettext
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Literal

from babel import Locale, UnknownLocaleError, dates, numbers, units
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

SOURCE = "en"
LANGUAGES = (SOURCE, "nl")
CATALOGUES = Path(__file__).with_name("locale")
DOMAIN = "hub"


@dataclass(frozen=True, slots=True)
class Language:
    """One language: ``code`` as in HTML, its texts and its manners."""

    code: str
    texts: gettext.NullTranslations
    locale: Locale

    @property
    def name(self) -> str:
        """What its speakers call it."""
        return (self.locale.language_name or self.code).capitalize()

    @property
    def direction(self) -> str:
        """``ltr`` or ``rtl``."""
        return self.locale.text_direction

    def gettext(self, text: str) -> str:
        """``text`` in this language; itself where there is no translation."""
        return self.texts.gettext(text) if text else ""

    def ngettext(self, one: str, many: str, number: int) -> str:
        """The form that goes with ``number``."""
        return self.texts.ngettext(one, many, number)

    def knows(self, text: str) -> bool:
        """Whether ``text`` is written in this language, or translated into it."""
        return self.code == SOURCE or not text or self.texts.gettext(text) != text

    def day(self, local: date, *, year: bool = True) -> str:
        """A day: ``3 Nov 2026``."""
        return dates.format_date(local, "d MMM y" if year else "d MMM", self.locale)

    def day_and_time(self, local: datetime, *, year: bool = True) -> str:
        """A day and a time, to the minute."""
        return f"{self.day(local, year=year)} {local:%H:%M}"

    def weekday(self, number: int, *, short: bool = False) -> str:
        """The name of a weekday; 0 is Monday."""
        width: Literal["wide", "abbreviated"] = "abbreviated" if short else "wide"
        return str(dates.get_day_names(width, "stand-alone", self.locale)[number])

    def age(self, passed: timedelta) -> str:
        """How long ago: ``40 min. ago``, in the largest unit that fits, rounded down."""
        passed_s = max(1, int(passed.total_seconds()))
        unit_s = next((size for _unit, size in dates.TIMEDELTA_UNITS if passed_s >= size), 1)
        whole = timedelta(seconds=passed_s // unit_s * unit_s)
        return dates.format_timedelta(
            -whole, threshold=1, add_direction=True, format="short", locale=self.locale
        )

    def duration(self, seconds: int) -> str:
        """How long: ``2 hr 5 min``, in the two largest units that say something."""
        rest = max(0, seconds)
        parts: list[str] = []
        for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
            count, rest = divmod(rest, size)
            if count or (unit == "second" and not parts):
                parts.append(units.format_unit(count, f"duration-{unit}", "short", locale=self.locale))
        return " ".join(parts[:2])

    def called(self, tag: str) -> str:
        """What a language (BCP 47) is called in this one; the tag where there is no word for it."""
        try:
            return Locale.parse(tag, sep="-").get_display_name(self.locale) or tag
        except (UnknownLocaleError, ValueError):
            return tag

    def number(self, value: float) -> str:
        """A number with this language's separators."""
        return numbers.format_decimal(value, locale=self.locale)


@cache
def language(code: str) -> Language:
    """One of ``LANGUAGES``."""
    if code not in LANGUAGES:
        raise KeyError(code)
    texts = gettext.NullTranslations() if code == SOURCE else gettext.GNUTranslations(_compiled(code))
    return Language(code, texts, Locale.parse(code))


def catalogue_path(code: str) -> Path:
    """Where the translators' file of a language is."""
    return CATALOGUES / code / "LC_MESSAGES" / f"{DOMAIN}.po"


def _compiled(code: str) -> BytesIO:
    with catalogue_path(code).open("rb") as file:
        catalogue = read_po(file, locale=code, domain=DOMAIN)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return compiled


def preferred(accepted: str) -> str | None:
    """The language that an ``Accept-Language`` header (RFC 9110 §12.5.4) likes best of those there are; None: none."""
    liked = sorted(_ranges(accepted), key=lambda each: -each[1])
    return next((code for code, quality in liked if code in LANGUAGES and quality > 0), None)


def _ranges(accepted: str) -> Iterable[tuple[str, float]]:
    for each in accepted[:1000].split(","):
        tag, _, parameter = each.partition(";")
        name, _, value = parameter.partition("=")
        try:
            quality = float(value) if name.strip() == "q" else 1.0
        except ValueError:
            quality = 0.0
        yield tag.strip().partition("-")[0].lower(), quality
