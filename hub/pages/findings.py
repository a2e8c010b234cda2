"""What a controller found on itself, in the words of whoever reads; a finding that this hub does not know, in the controller's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup, escape

from hub.pages import words
from hub.pages.rendering import Pages
from hub.pages.words import N_
from pacs.findings import CODES, Value
from pacs.messages import ReportedFinding

_ALARMS: Final = {kind.value: text for kind, text in (*words.EVENTS.items(), *words.ALARMS.items())}
_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "mode": {mode.value: text for mode, text in words.MODE_NAMES.items()},
    "strike": {"locked": N_("locked"), "released": N_("released")},
    "contact": {
        "open": N_("open"),
        "closed": N_("closed"),
        "unknown": N_("not known"),
        "not_fitted": N_("not fitted"),
    },
    "state": words.READER_STATES,
    "phase": {
        "starting": N_("starting"),
        "connecting": N_("connecting"),
        "online": N_("online"),
        "waiting": N_("waiting"),
        "stopped": N_("stopped"),
    },
    "distrust": words.CLOCK_DISTRUSTS,
    "then": {each.value: text for each, text in words.WHEN_TOO_OLD.items()},
}
"""Values that are words of a closed set, by their name; another word is shown as it was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """``language``: of ``name``, ``what`` and ``advice``, where they are not in the reader's own; else empty."""

    tone: str
    level: str
    name: str
    what: str
    advice: str
    language: str = ""


def told(pages: Pages, finding: ReportedFinding) -> Told:
    """One line of the doctor."""
    tone, level = words.LEVELS[finding.level]
    level = pages.gettext(level)
    code = CODES.get(finding.code)
    if code is not None and code.value.fits(finding.values):
        try:
            values = {name: _said(pages, name, value) for name, value in finding.values.items()}
        except (ValueError, OverflowError, OSError):
            pass  # a moment out of the calendar
        else:
            name = f"{pages.gettext(code.value.check.words)} {finding.subject}".rstrip()
            what, advice = (
                escape(pages.gettext(text)) % values for text in (code.value.what, code.value.advice)
            )
            return Told(tone=tone, level=level, name=name, what=what, advice=advice)
    return Told(
        tone=tone,
        level=level,
        name=finding.name,
        what=finding.what,
        advice=finding.advice,
        language="" if pages.language.code == "en" else "en",
    )


def _said(pages: Pages, name: str, value: Value) -> str | Markup:
    if isinstance(value, int):
        if name.endswith("_at"):
            return pages.moment(datetime.fromtimestamp(value, UTC))
        return pages.language.duration(value) if name.endswith("_s") else str(value)
    if name in _WORDS:
        return _word(pages, _WORDS[name].get(value, value))
    if name == "alarms":
        return ", ".join(_word(pages, _ALARMS.get(each, each)) for each in value.split(", "))
    return pages.gettext(value) if name in ("problem", "advice") else value


def _word(pages: Pages, text: str) -> str:
    said = pages.gettext(text)
    return said[:1].lower() + said[1:]
