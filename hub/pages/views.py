"""From what is known to what a page says about it, in words that claim no more than is known."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from markupsafe import Markup

from hub.api.door_status import DoorStatus
from hub.api.feed import Variant
from hub.api.taps import EventAnswer
from hub.pages import words
from hub.pages.rendering import Pages
from hub.revocation import CardDistribution
from hub.store.cards import Card, CardStatus
from hub.store.controllers import ControllerState
from pacs.events import EventKind
from pacs.identifiers import ControllerId, DoorId

HOLES_SHOWN = 3

_OUTCOMES = {
    EventKind.ACCESS_GRANTED: "granted",
    EventKind.ACCESS_DENIED: "denied",
    EventKind.ACCESS_REFERRED: "referred",
}


def tap_context(pages: Pages, event: EventAnswer) -> dict[str, Any]:
    """What the tap fragment shows."""
    _ = pages.gettext
    outcome_text = _(words.EVENTS[event.kind])
    reason_text = ""
    if event.reason and event.kind is not EventKind.ACCESS_GRANTED:
        reason_text = _(words.REASONS[event.reason])
    door_name = event.door_name or event.door_id or ""
    return {
        "id": event.id,
        "at": event.occurred_at,
        "outcome": _OUTCOMES[event.kind],
        "outcome_text": outcome_text,
        "reason_text": reason_text,
        "person": event.person,
        "someone": _("Unknown card") if event.credential_id else _("Somebody"),
        "credential_id": event.credential_id if event.cardholder_id else None,
        "door_name": door_name,
        "side_text": _(words.SIDES[event.side]) if event.side else "",
        "announcement": ": ".join(part for part in (door_name, outcome_text, reason_text) if part),
    }


def door_context(pages: Pages, door: DoorStatus) -> dict[str, Any]:
    """What the door fragment shows."""
    last = door.last_event
    context = {name: getattr(door, name) for name in DoorStatus.model_fields}
    text = pages.gettext(words.EVENTS[last.kind]) if last else ""
    closed = [hole for hole in reversed(door.holes) if hole.until is not None]
    return context | {
        "holes": [
            {"since": hole.since, "until": hole.until, "text": pages.gettext(words.CAUSES[hole.cause])}
            for hole in closed[:HOLES_SHOWN]
        ],
        "anomalies": [
            {
                "text": pages.gettext(words.ANOMALIES[each.kind]),
                "times": each.times,
                "last_at": each.last_at,
            }
            for each in door.anomalies
        ],
        "further_holes": max(0, len(closed) - HOLES_SHOWN),
        "revocations_current": door.revocations_version >= door.revocations_newest,
        "last_event": {"at": last.occurred_at, "text": text} if last else None,
    }


def live_variant(pages: Pages, *, names: bool) -> Variant:
    """How the pages see the live stream: fragments of HTML, in JSON."""
    return Variant(tap=_TapFragment(pages), door=_DoorFragment(pages), names=names)


@dataclass(frozen=True)
class _TapFragment:
    pages: Pages

    def __call__(self, event: EventAnswer) -> str:
        return json.dumps({"html": self.pages.fragment("tap.html", tap=tap_context(self.pages, event))})


@dataclass(frozen=True)
class _DoorFragment:
    pages: Pages

    def __call__(self, door: DoorStatus) -> str:
        return json.dumps({"html": self.pages.fragment("door.html", door=door_context(self.pages, door))})


def card_context(card: Card, name: str | None, category: str) -> dict[str, Any]:
    """What the card page shows of the card itself."""
    return asdict(card) | {
        "credential_id": str(card.credential_id),
        "short_id": str(card.credential_id)[:8],
        "name": name,
        "category": category,
    }


def spread_context(
    pages: Pages,
    spread: CardDistribution,
    door_names: dict[DoorId, str],
    states: dict[ControllerId, ControllerState],
) -> dict[str, Any]:
    """Where a card's status has arrived: never "blocked" without saying where (rule R4)."""
    _ = pages.gettext
    blocked = spread.card.status is not CardStatus.VALID
    doors = [
        {
            "name": door_names.get(each.door_id, each.door_id),
            "online": each.online,
            "last_seen": each.last_seen,
            "since": states[each.controller_id].since,
            "confirmed_at": each.confirmed_at,
        }
        for each in spread.confirmations
    ]
    lacking = [each for each in doors if each["confirmed_at"] is None] if spread.version else []
    confirmed = len(doors) - len(lacking)
    lines = [_lacking_line(pages, each, blocked=blocked) for each in lacking]
    if not spread.version:
        headline, tone = _("Valid. This card was never blocked."), "good"
    else:
        counted = _("%d of %d doors confirmed") % (confirmed, len(doors))
        state = _("Blocked") if blocked else _("Reinstated")
        headline = f"{state}; {counted}."
        tone = "warn" if lacking or not doors else ("bad" if blocked else "good")
    return {
        "version": spread.version,
        "doors": max(1, len(doors)),
        "confirmed": confirmed,
        "confirmations": doors,
        "headline": headline,
        "lines": lines,
        "tone": tone,
        "icon": "warn" if tone == "warn" else ("block" if blocked else "good"),
    }


def _lacking_line(pages: Pages, door: dict[str, Any], *, blocked: bool) -> Markup:
    _ = pages.gettext
    name = Markup("<bdi>{}</bdi>").format(door["name"])
    if door["online"]:
        return Markup("{} {}").format(name, _("has not confirmed yet; it is being sent again."))
    if door["last_seen"] is None:
        return Markup("{} {}").format(name, _("was never connected."))
    since = pages.moment(door["since"])
    effect = _("The card may still open it.") if blocked else _("The card may not open it yet.")
    return Markup("{} {} {}. {}").format(name, _("is offline since"), since, effect)
