"""From what is known to what a page says about it, in words that claim no more than is known."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from markupsafe import Markup

from hub.api.alarms import AlarmAnswer, AlarmState, urgency
from hub.api.door_status import DoorStatus
from hub.api.feed import Variant
from hub.api.orders import Arrival, OrderAnswer, OrderAtDoor
from hub.api.taps import EventAnswer
from hub.pages import words
from hub.pages.rendering import Pages
from hub.revocation import CardDistribution
from hub.store.alarms import AlarmKind
from hub.store.cards import Card, CardStatus
from hub.store.controllers import ControllerState
from hub.store.door_state import Contact
from hub.store.journals import AnomalyKind
from pacs.events import EventKind
from pacs.identifiers import ControllerId, DoorId
from pacs.messages import DocumentKind
from pacs.reason import Reason
from pacs.rules import DoorMode
from pacs.situation import Attendance

HOLES_SHOWN = 3
LATE = timedelta(minutes=1)
"""What took longer to arrive is said to be late."""

_OUTCOMES = {
    EventKind.ACCESS_GRANTED: "granted",
    EventKind.ACCESS_DENIED: "denied",
    EventKind.ACCESS_REFERRED: "referred",
}
_TONES = {
    EventKind.ACCESS_GRANTED: "good",
    EventKind.ACCESS_DENIED: "bad",
    EventKind.ACCESS_REFERRED: "warn",
    EventKind.FIRE_REPORTED: "bad",
    EventKind.DOOR_FORCED: "bad",
    EventKind.TAMPER_OPENED: "bad",
    EventKind.DOOR_HELD: "warn",
    EventKind.READER_LOST: "warn",
    EventKind.JOURNAL_GAP: "warn",
    EventKind.JOURNAL_FULL: "warn",
    EventKind.INTERNAL_FAULT: "warn",
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
        "hidden": False,
        "at": event.occurred_at,
        "outcome": _OUTCOMES[event.kind],
        "outcome_text": outcome_text,
        "reason_text": reason_text,
        "person": event.person,
        "someone": _("Unknown card") if event.credential_id else _("Somebody"),
        "credential_id": event.credential_id if event.cardholder_id else None,
        "door_id": event.door_id or "",
        "door_name": door_name,
        "side_text": _(words.SIDES[event.side]) if event.side else "",
        "announcement": ": ".join(part for part in (door_name, outcome_text, reason_text) if part),
    }


def event_context(pages: Pages, event: EventAnswer) -> dict[str, Any]:
    """What a line of the list of events shows."""
    _ = pages.gettext
    outcome = _OUTCOMES.get(event.kind)
    return {
        "id": event.id,
        "at": event.occurred_at,
        "coarse": event.coarse,
        "clock_trusted": event.clock_trusted,
        "received_at": event.received_at,
        "late": event.received_at - event.occurred_at > LATE,
        "outcome": outcome,
        "tone": _TONES.get(event.kind, ""),
        "text": _(words.EVENTS[event.kind]),
        "reason_text": _(words.REASONS[event.reason]) if event.reason else "",
        "person": event.person,
        "cardholder_id": event.cardholder_id,
        "unknown_card": event.credential_id is not None and event.cardholder_id is None,
        "place": event.door_name or event.door_id or event.controller_id,
        "side_text": _(words.SIDES[event.side]) if event.side else "",
    }


def door_context(pages: Pages, door: DoorStatus) -> dict[str, Any]:
    """What the door fragment shows."""
    last = door.last_event
    context = {name: getattr(door, name) for name in DoorStatus.model_fields}
    text = pages.gettext(words.EVENTS[last.kind]) if last else ""
    closed = [hole for hole in reversed(door.holes) if hole.until is not None]
    return context | {
        "hidden": False,
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
        "stands": _stands(pages, door),
        "decides": _decides(pages, door),
        "alarms": [pages.gettext(words.ALARMS[kind]) for kind in door.alarms],
        "revocations_current": door.revocations_version >= door.revocations_newest,
        "last_event": {"at": last.occurred_at, "text": text} if last else None,
    }


def _stands(pages: Pages, door: DoorStatus) -> dict[str, Any]:
    """How a door stands: as it is while it is heard, else as it was, with its age (rule R2)."""
    _ = pages.gettext
    known = door.last_known
    cause = known.mode_cause or ""
    return {
        "current": door.online,
        "as_of": known.as_of,
        "mode": known.mode,
        "mode_text": _(words.MODES[known.mode]) if known.mode else None,
        "cause_text": _(words.MODE_CAUSES[cause]) if cause in words.MODE_CAUSES else "",
        "mode_since": known.mode_since,
        "contact": known.contact,
        "contact_text": _(words.CONTACTS[known.contact]) if known.contact else None,
        "contact_since": known.contact_since,
        "lock_text": _(words.LOCKS[known.lock]) if known.lock and known.contact is not Contact.OPEN else None,
    }


def _decides(pages: Pages, door: DoorStatus) -> dict[str, Any] | None:
    """Who decides where a person has to, if it is not those who are asked here."""
    if door.without_hub:
        return {
            "text": pages.gettext(words.ATTENDANCE[door.without_hub.attendance]),
            "until": door.without_hub.until,
        }
    if door.attendance in (None, Attendance.HUB) or door.effective_mode != DoorMode.ATTENDED:
        return None
    return {"text": pages.gettext(words.ATTENDANCE[door.attendance]), "until": None}


def alarm_context(pages: Pages, alarm: AlarmAnswer) -> dict[str, Any]:
    """What the alarm fragment shows."""
    _ = pages.gettext
    title = _(words.ALARMS[alarm.kind])
    names = ", ".join(door.name for door in alarm.doors) or alarm.controller_id
    state, kind, _number = urgency(alarm)
    return {name: getattr(alarm, name) for name in AlarmAnswer.model_fields} | {
        "hidden": False,
        "title": title,
        "state_text": _("Reminder") if alarm.reminder else _(words.ALARM_STATES[alarm.state]),
        "advice": _(words.ADVICE[alarm.kind]) if alarm.state == AlarmState.STANDING else "",
        "names": [door.name for door in alarm.doors] or [alarm.controller_id],
        "door_ids": " ".join(door.id for door in alarm.doors),
        "detail_text": _detail(pages, alarm),
        "clearance_text": _(words.CLEARANCES[alarm.clearance]) if alarm.clearance else "",
        "rank": f"{state}{kind:02}",
        "ring": f"{alarm.id}:{alarm.remind_at.timestamp():.0f}" if alarm.remind_at else str(alarm.id),
        "announcement": f"{title}: {names}",
    }


def _detail(pages: Pages, alarm: AlarmAnswer) -> str:
    _ = pages.gettext
    if alarm.side:
        return _(words.SIDES[alarm.side])
    if alarm.kind is AlarmKind.RECORD_BROKEN and alarm.detail in (*AnomalyKind,):
        return _(words.ANOMALIES[AnomalyKind(alarm.detail)])
    if alarm.kind is AlarmKind.POLICY_UNCONFIRMED and alarm.detail in (*DocumentKind,):
        return _(words.DOCUMENTS[DocumentKind(alarm.detail)])
    return ""


def order_context(pages: Pages, order: OrderAnswer) -> dict[str, Any]:
    """Where an order has arrived, in a sentence and door by door."""
    _ = pages.gettext
    lacking = [door for door in order.doors if door.state is not Arrival.EXECUTED]
    what = _(words.MODE_NAMES[order.mode]) if order.mode else _(words.ACTIONS[order.action])
    counted = _("executed at %d of %d doors") % (order.executed, len(order.doors))
    return {
        "id": order.id,
        "issued_at": order.issued_at,
        "headline": f"{what}: {counted}.",
        "tone": "warn" if lacking or not order.doors else "good",
        "pending": any(door.state is Arrival.SENT for door in order.doors),
        "executed": order.executed,
        "total": max(1, len(order.doors)),
        "lacking": [_order_line(pages, door) for door in lacking],
        "doors": [
            {"name": door.name, "done": door.state is Arrival.EXECUTED, "at": door.outcome_at, "text": text}
            for door in order.doors
            for text in [arrival_text(pages, door.state, door.refusal)]
        ],
    }


def _order_line(pages: Pages, door: OrderAtDoor) -> Markup:
    _ = pages.gettext
    name = Markup("<bdi>{}</bdi>").format(door.name)
    if door.online or door.since is None or door.state in (Arrival.REFUSED, Arrival.NOT_GIVEN):
        return Markup("{}: {}").format(name, arrival_text(pages, door.state, door.refusal))
    since = pages.moment(door.since)
    return Markup("{} {} {}. {}").format(
        name,
        _("is offline since"),
        since,
        _("Whether it carries this out is not known; send somebody there."),
    )


def arrival_text(pages: Pages, state: Arrival, refusal: Reason | None) -> str:
    """What became of a command."""
    text = pages.gettext(words.ARRIVALS[state])
    return f"{text}: {pages.gettext(words.REASONS[refusal])}" if refusal else text


def live_variant(pages: Pages, *, names: bool) -> Variant:
    """How the pages see the live stream: fragments of HTML, in JSON."""
    return Variant(
        tap=_TapFragment(pages), door=_DoorFragment(pages), names=names, alarm=_AlarmFragment(pages)
    )


@dataclass(frozen=True)
class _AlarmFragment:
    pages: Pages

    def __call__(self, alarm: AlarmAnswer) -> str:
        context = alarm_context(self.pages, alarm)
        return json.dumps({"id": alarm.id, "html": self.pages.fragment("alarm.html", alarm=context)})


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
            "stops_at": each.stops_at,
        }
        for each in spread.confirmations
    ]
    lacking = [each for each in doors if each["confirmed_at"] is None] if spread.was_changed else []
    confirmed = len(doors) - len(lacking)
    lines = [_lacking_line(pages, each, blocked=blocked) for each in lacking]
    if not spread.was_changed:
        headline, tone = _("Valid. This card was never blocked."), "good"
    else:
        counted = _("%d of %d doors confirmed") % (confirmed, len(doors))
        state = _("Blocked") if blocked else _("Reinstated")
        headline = f"{state}; {counted}."
        tone = "warn" if lacking or not doors else ("bad" if blocked else "good")
    return {
        "version": max(spread.versions.values(), default=0),
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
    said = Markup("{} {} {}. {}").format(name, _("is offline since"), since, effect)
    if blocked and door["stops_at"]:
        bound = _("Its own bound stops every card there, at the latest at")
        said += Markup(" {} {}.").format(bound, pages.moment(door["stops_at"]))
    return said
