"""What a page says of each rule of a door: its label, its unit, what it means; and how a form reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from dataclasses import fields as fields_of
from enum import StrEnum
from typing import Any

from hub.pages import words
from hub.pages.words import N_
from pacs.rules import (
    MAX_ADMITTED,
    MAX_UNLOCK_MS,
    Antipassback,
    Door,
    DoorMode,
    WhenClockUntrusted,
    WhenHubAway,
    WhenTooOld,
    WhenUnlisted,
)

_NUMBER = re.compile(r"[0-9]{1,7}([.,][0-9]{1,4})?")

DEFAULTS: Mapping[str, Any] = {
    each.name: each.default_factory()
    if each.default is MISSING and each.default_factory is not MISSING
    else each.default
    for each in fields_of(Door)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; ``kind`` says how a form asks for it, ``help`` what it means."""

    name: str
    label: str
    help: str = ""
    kind: str

    @property
    def fault(self) -> str:
        """What to do about a value that cannot be."""
        return N_("Choose one of those there are.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Number(Rule):
    """A number from ``least`` to ``most`` as people type it; the rule counts in a ``scale``-th of that unit."""

    kind: str = "number"
    unit: str = N_("seconds")
    least: float = 1
    most: float
    scale: float = 1

    def typed(self, value: int) -> str:
        """As it stands in a field."""
        return f"{value / self.scale:.4f}".rstrip("0").rstrip(".")

    def read(self, typed: str) -> int | None:
        """The value; None for what is no number in range."""
        found = _NUMBER.fullmatch(typed.strip())
        number = float(found[0].replace(",", ".")) if found else -1
        return round(number * self.scale) if self.least <= number <= self.most else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Rule):
    """One member of a closed set, each with its words."""

    kind: str = "choice"
    of: type[StrEnum]
    said: Mapping[Any, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag(Rule):
    """Yes or no."""

    kind: str = "flag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named(Rule):
    """One of the site's things, or none; ``things`` says which."""

    kind: str = "named"
    things: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Several(Rule):
    """Some of the site's things; ``things`` says which, ``empty`` what to do when there are none."""

    kind: str = "several"
    things: str
    empty: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rules that belong together; shut until asked for unless it is ``usual`` or something in it is not as usual."""

    key: str
    title: str
    rules: tuple[Rule, ...]
    usual: bool = False


_NO_LEVELS = N_("There are no access levels yet.")

GROUPS = (
    Group(
        key="mode",
        title=N_("Mode and opening"),
        usual=True,
        rules=(
            Choice(
                name="mode",
                label=N_("Mode while no schedule gives another one"),
                of=DoorMode,
                said=words.MODES,
            ),
            Number(
                name="unlock_ms",
                label=N_("Stays unlocked for"),
                help=N_("After each grant, unless it is relocked before."),
                least=0.001,
                most=MAX_UNLOCK_MS / 1000,
                scale=1000,
            ),
            Number(
                name="extended_unlock_ms",
                label=N_("Stays unlocked for who needs longer"),
                help=N_("For people of whom that was agreed."),
                least=0.001,
                most=MAX_UNLOCK_MS / 1000,
                scale=1000,
            ),
        ),
    ),
    Group(
        key="standing",
        title=N_("Standing open"),
        usual=True,
        rules=(
            Number(
                name="held_open_after_s",
                label=N_("Alarm when it stands open for"),
                most=3600,
            ),
            Number(
                name="held_warning_s",
                label=N_("The door warns before that"),
                help=N_("It sounds so long before the alarm, at most half of the time; 0: not at all."),
                least=0,
                most=3600,
            ),
            Number(
                name="extended_held_open_after_s",
                label=N_("Alarm after who needs longer"),
                help=N_("How long it may stand open when it was opened for somebody who needs longer."),
                most=3600,
            ),
            Flag(
                name="relock_on_open",
                label=N_("Locks as soon as it opens"),
                help=N_("So that nobody pulls it open again in the time that is left."),
            ),
        ),
    ),
    Group(
        key="attended",
        title=N_("When a person decides"),
        rules=(
            Number(
                name="attended_timeout_s",
                label=N_("How long somebody waits for an answer"),
                help=N_("After that they are refused, and may tap again."),
                most=600,
            ),
            Several(
                name="admitting_levels",
                label=N_("Whose cards admit others"),
                help=N_("At this door they answer for people of whom a person decides, without the hub."),
                things="levels",
                empty=_NO_LEVELS,
            ),
            Number(
                name="admits_at_most",
                label=N_("How many people one such tap admits"),
                unit=N_("people"),
                most=MAX_ADMITTED,
            ),
            Choice(
                name="when_hub_away",
                label=N_("When the hub cannot be asked for an answer"),
                of=WhenHubAway,
                said=words.WHEN_HUB_AWAY,
            ),
            Number(
                name="hub_away_max_s",
                label=N_("For so long after the hub was last heard"),
                unit=N_("minutes"),
                help=N_("After that they are refused until the hub can be asked again."),
                least=0.5,
                most=24 * 60,
                scale=60,
            ),
        ),
    ),
    Group(
        key="areas",
        title=N_("Areas and anti-passback"),
        rules=(
            Named(
                name="area",
                label=N_("Leads into"),
                help=N_("For the roll call and for anti-passback."),
                things="areas",
            ),
            Named(
                name="outside",
                label=N_("Leads out into"),
                help=N_("When one leaves into another area."),
                things="areas",
            ),
            Choice(
                name="antipassback",
                label=N_("Who entered and was not seen leaving"),
                of=Antipassback,
                said=words.ANTIPASSBACK,
            ),
            Number(
                name="antipassback_s",
                label=N_("Refused for so long after entering"),
                help=N_("Only where anti-passback is for a time; else 0."),
                least=0,
                most=86_400,
            ),
        ),
    ),
    Group(
        key="together",
        title=N_("People and doors together"),
        rules=(
            Several(
                name="first_person_levels",
                label=N_("Who has to come first"),
                help=N_(
                    "Until one of them came nobody else is admitted, and no schedule unlocks the door. None: everybody may."
                ),
                things="levels",
                empty=_NO_LEVELS,
            ),
            Number(
                name="escort_window_s",
                label=N_("An escort may be ahead or behind by"),
                most=600,
            ),
            Several(
                name="interlock_with",
                label=N_("Opens only while these are shut"),
                help=N_("Doors of the same controller, at most three. The way out of each stays free."),
                things="doors",
                empty=N_("Its controller has no other door."),
            ),
        ),
    ),
    Group(
        key="alone",
        title=N_("Without the hub"),
        rules=(
            Number(
                name="max_policy_age_s",
                label=N_("How old its rules may become"),
                unit=N_("minutes"),
                help=N_("When nothing newer arrives for so long, the next rule holds."),
                most=31 * 24 * 60,
                scale=60,
            ),
            Choice(
                name="when_too_old", label=N_("When they are older"), of=WhenTooOld, said=words.WHEN_TOO_OLD
            ),
            Choice(
                name="when_clock_untrusted",
                label=N_("When its clock cannot be trusted"),
                of=WhenClockUntrusted,
                said=words.WHEN_CLOCK_UNTRUSTED,
            ),
            Choice(
                name="when_unlisted",
                label=N_("For a genuine card made since its rules"),
                of=WhenUnlisted,
                said=words.WHEN_UNLISTED,
            ),
        ),
    ),
    Group(
        key="cards",
        title=N_("Privacy and cards"),
        rules=(
            Flag(
                name="private",
                label=N_("A private room"),
                help=N_("Taps are counted, but nobody is recorded."),
            ),
            Flag(
                name="allow_v1",
                label=N_("Also opens for cards without a certificate"),
                help=N_("Enrolled by their key alone (PKOC V1)."),
            ),
        ),
    ),
)
RULES: Mapping[str, Rule] = {rule.name: rule for group in GROUPS for rule in group.rules}

Names = Mapping[str, Mapping[str, str]]
"""Kind of thing → id → what it is called."""


def said(rule: Rule, value: Any, gettext: Callable[[str], str], names: Names) -> str:
    """The value of a rule in words."""
    if isinstance(rule, Number):
        return f"{rule.typed(value)} {gettext(rule.unit)}"
    if isinstance(rule, Choice):
        return gettext(rule.said[rule.of(value)])
    if isinstance(rule, Flag):
        return gettext(N_("yes") if value else N_("no"))
    if isinstance(rule, Named):
        return names[rule.things].get(value, value) if value else gettext(N_("none"))
    if isinstance(rule, Several):
        return ", ".join(sorted(names[rule.things].get(each, each) for each in value)) or gettext(N_("none"))
    raise TypeError(rule)
