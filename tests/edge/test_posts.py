"""A post at a door: who is admitted while somebody watches, what is recorded of it, and what ends it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from edge.controller import DoorController
from edge.effects import Effect
from edge.hub_contact import SILENT_S
from edge.inputs import Acknowledged, CommandAccepted, Started
from pacs.commands import Action
from pacs.events import EventKind
from pacs.identifiers import CredentialId, JournalId
from pacs.reason import Reason
from pacs.rules import DoorMode, Side, WhenHubAway
from tests.edge.at_the_door import (
    answered,
    closed_door,
    commanded,
    details,
    drafts,
    kinds,
    presented,
    reasons,
    released,
    ticked,
)
from tests.edge.small_site import ATTENDED, GUARD, GUARDS_LEVEL, NOON, RESIDENT, REVOKED, STAFF, now

OPENED, CLOSED, MODE = EventKind.POST_OPENED, EventKind.POST_CLOSED, EventKind.DOOR_MODE_CHANGED
STORED = Acknowledged(journal_id=JournalId("0" * 32), sequence=1)
FOR_S = 60


def opening(for_s: float = FOR_S) -> CommandAccepted:
    return commanded(Action.OPEN_POST, until=NOON + timedelta(seconds=for_s))


def watched(**rules: Any) -> DoorController:
    """A controller at whose attended front door somebody has opened the post for a minute."""
    controller = closed_door(**{"mode": DoorMode.ATTENDED} | rules)
    controller.on(opening(), now())
    return controller


def tap(controller: DoorController, who: CredentialId, after_s: float = 1.0, **where: Any) -> list[Effect]:
    return controller.on(presented(who, **where), now(after_s))


def test_an_open_post_is_recorded_and_makes_the_door_secured() -> None:
    """Whose command opened it, and for how long; the mode says why."""
    controller = closed_door(mode=DoorMode.ATTENDED)
    command = opening()
    effects = controller.on(command, now())
    command_id = command.command.command_id
    assert kinds(effects) == [EventKind.COMMAND_EXECUTED, OPENED, MODE]
    assert details(effects, OPENED) == [{"command": command_id, "for_s": FOR_S}]
    assert details(effects, MODE) == [{"mode": "secured", "cause": "post", "by": command_id.hex()}]


def test_who_is_entitled_passes_while_somebody_watches() -> None:
    """By their own card, and the record says that they were watched; nothing else about whom the door admits changes."""
    controller = watched()
    (granted,) = drafts(tap(controller, RESIDENT))
    assert (granted.reason, granted.details) == (Reason.ENTITLED, {"watched": True})
    (denied,) = drafts(tap(controller, REVOKED))
    assert (denied.reason, denied.details) == (Reason.CREDENTIAL_REVOKED, {"watched": True})
    (left,) = drafts(tap(controller, RESIDENT, side=Side.EXIT))
    assert (left.reason, left.details) == (Reason.EXIT_FREE, {})


def test_of_whom_a_person_decides_a_person_still_decides() -> None:
    """They are watched and asked about: by an answer, or by a card that admits others."""
    controller = watched(admitting_levels=frozenset({GUARDS_LEVEL}))
    (asked,) = drafts(tap(controller, ATTENDED))
    assert (asked.reason, asked.details["watched"]) == (Reason.CARDHOLDER_ATTENDED, True)
    admitted = drafts(tap(controller, GUARD, 2))[1]
    assert (admitted.reason, admitted.details["watched"]) == (Reason.LOCAL_GRANT, True)
    request = drafts(tap(controller, ATTENDED, 3))[0].details["request"]
    assert isinstance(request, bytes)
    assert released(controller.on(answered(Action.GRANT, request=request), now(4))) == [5_000]


def test_who_waits_when_the_post_opens_is_asked_to_present_the_card_again() -> None:
    """They would be let in from here on."""
    controller = closed_door(mode=DoorMode.ATTENDED)
    tap(controller, RESIDENT)
    effects = controller.on(opening(), now(2))
    assert details(effects, EventKind.REFERRAL_ENDED)[0]["outcome"] == "withdrawn"
    assert released(tap(controller, RESIDENT, 3)) == [5_000]


ENDS: dict[str, tuple[Any, float, str, str]] = {
    "its time": (None, FOR_S, "until", "attended"),
    "signing off": (Action.CLOSE_POST, 10, "command", "attended"),
    "an order": (DoorMode.LOCKDOWN, 10, "order", "lockdown"),
    "an order to be attended": (DoorMode.ATTENDED, 10, "order", "attended"),
}


@pytest.mark.parametrize(("end", "at_s", "cause", "mode"), ENDS.values(), ids=ENDS.keys())
def test_a_post_ends_once_and_the_door_returns_to_its_own_mode(
    end: Any, at_s: float, cause: str, mode: str
) -> None:
    """Its time, a command, or another order; it is not open again when that order ends."""
    controller = watched()
    assert ticked(controller, at_s - 0.1) == []
    if end is None:
        effects = ticked(controller, at_s)
    elif isinstance(end, DoorMode):
        effects = controller.on(commanded(Action.SET_MODE, mode=end), now(at_s))
    else:
        effects = controller.on(commanded(end), now(at_s))
    assert [each["cause"] for each in details(effects, CLOSED)] == [cause]
    assert [each["mode"] for each in details(effects, MODE)] == [mode]
    controller.on(commanded(Action.CLEAR_MODE), now(at_s + 1))
    assert reasons(tap(controller, RESIDENT, at_s + 2)) == [Reason.DOOR_ATTENDED]
    assert kinds(controller.on(commanded(Action.CLOSE_POST), now(at_s + 3))) == [EventKind.COMMAND_EXECUTED]


@pytest.mark.parametrize("wall_after_s", [0.0, 3_600.0])
def test_its_time_is_monotonic(wall_after_s: float) -> None:
    """No step of the wall clock lengthens or shortens it."""
    controller = watched(max_policy_age_s=86_400)
    for after_s, reason in ((FOR_S - 1, Reason.ENTITLED), (FOR_S, Reason.DOOR_ATTENDED)):
        effects = controller.on(presented(), now(after_s, wall_after_s=wall_after_s))
        assert reasons(effects)[-1] is reason


def test_opening_again_prolongs_or_shortens_it() -> None:
    """The newest command holds; it is the same post to who waits, and in the record."""
    controller = watched()
    assert kinds(controller.on(opening(120), now(50))) == [EventKind.COMMAND_EXECUTED]
    assert reasons(tap(controller, RESIDENT, 110)) == [Reason.ENTITLED]
    controller.on(opening(115), now(111))
    assert CLOSED in kinds(ticked(controller, 115))


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"mode": DoorMode.LOCKDOWN}, Reason.COMMAND_OUT_OF_PLACE),
        ({"mode": DoorMode.OUT_OF_SERVICE}, Reason.COMMAND_OUT_OF_PLACE),
        ({"mode": DoorMode.ATTENDED, "private": True}, Reason.COMMAND_OUT_OF_PLACE),
    ],
)
def test_no_post_lifts_a_lockdown(rules: dict[str, Any], reason: Reason) -> None:
    """Nor is there one where nobody is told who passes."""
    controller = closed_door(**rules)
    effects = controller.on(opening(), now())
    assert (kinds(effects), reasons(effects)) == ([EventKind.COMMAND_REFUSED], [reason])


def test_a_command_that_comes_behind_the_posts_end_opens_none() -> None:
    """Refused by name."""
    controller = closed_door(mode=DoorMode.ATTENDED)
    assert reasons(controller.on(opening(5), now(5))) == [Reason.COMMAND_EXPIRED]


@pytest.mark.parametrize(
    ("action", "more"), [(Action.CLOSE_POST, {}), (Action.SET_MODE, {"mode": DoorMode.ATTENDED})]
)
def test_a_command_that_was_overtaken_opens_none(action: Action, more: dict[str, Any]) -> None:
    """Given before the post was closed and taken after it, when a link was away: nobody watches any more."""
    controller = watched()
    later = NOON + timedelta(seconds=20)
    controller.on(commanded(action, issued_at=later, **more), now(20))
    late = commanded(
        Action.OPEN_POST, issued_at=NOON + timedelta(seconds=10), until=NOON + timedelta(hours=1)
    )
    assert reasons(controller.on(late, now(21))) == [Reason.COMMAND_OUT_OF_PLACE]
    again = commanded(Action.OPEN_POST, issued_at=later, until=NOON + timedelta(hours=1))
    assert OPENED in kinds(controller.on(again, now(22)))
    late = commanded(Action.CLOSE_POST, issued_at=NOON + timedelta(seconds=10))
    assert reasons(controller.on(late, now(23))) == [Reason.COMMAND_OUT_OF_PLACE]


def test_at_a_door_that_asks_nobody_a_post_only_watches() -> None:
    """And an unlocked one stays so."""
    for mode, reason in (
        (DoorMode.SECURED, Reason.ENTITLED),
        (DoorMode.UNLOCKED, Reason.DOOR_UNLOCKED),
    ):
        controller = closed_door(mode=mode)
        assert MODE not in kinds(controller.on(opening(), now()))
        (granted,) = drafts(tap(controller, STAFF))
        assert (granted.reason, granted.details) == (reason, {"watched": True})


@pytest.mark.parametrize("when_hub_away", WhenHubAway)
def test_nobody_watches_without_the_hub(when_hub_away: WhenHubAway) -> None:
    """The post shows who passes at the hub: while it is away the door does what it does without, and goes on after."""
    controller = closed_door(
        mode=DoorMode.ATTENDED, when_hub_away=when_hub_away, admitting_levels=frozenset({GUARDS_LEVEL})
    )
    controller.on(Started(), now())
    controller.on(STORED, now())
    controller.on(opening(300), now())
    ticked(controller, SILENT_S + 1)
    found = drafts(tap(controller, RESIDENT, SILENT_S + 2))[-1]
    assert found.reason in (Reason.HUB_AWAY, Reason.LOCAL_AWAITED, Reason.HUB_AWAY_ADMITTED)
    assert "watched" not in found.details
    controller.on(STORED, now(SILENT_S + 3))
    (granted,) = drafts(tap(controller, RESIDENT, SILENT_S + 4))
    assert (granted.reason, granted.details) == (Reason.ENTITLED, {"watched": True})
