"""The walk of an approval at the door: cards at an emulated reader whose controller has no network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pacs.identifiers import AccessLevelId, ControllerId
from pacs.rules import AccessLevel, DoorMode
from simulator.scenario import Description, Holder, small_site
from simulator.site import VirtualSite
from simulator.station import DoorStation
from tests.walks.house import (
    DENIED,
    GRANTED,
    KITCHEN,
    UNLOCK_MS,
    Chain,
    credential_of,
    journal_of,
    resident_card,
    tap_once_locked,
    wait_until_all_is_stored,
)
from tests.walks.network_cable import NetworkCable

pytestmark = [pytest.mark.walk, pytest.mark.timeout(300)]

REFERRED = "access_referred"
GUARDS = AccessLevelId("guards")
GUARD, PEOPLE = 11, (2, 3, 5)
"""The indices of who admits others, and of three who wait to be."""
WINDOW_S, AT_MOST = 4, 2
AWAY_MAX_S = 30


def attended_kitchen(now: datetime) -> Description:
    """The small site without its other doors; a guard admits two people at the kitchen."""
    described = small_site(now)
    (door,) = (each for each in described.doors if each.id == KITCHEN)
    guarded = replace(
        door,
        mode=DoorMode.ATTENDED,
        unlock_ms=UNLOCK_MS,
        admitting_levels=frozenset({GUARDS}),
        admits_at_most=AT_MOST,
        escort_window_s=WINDOW_S,
        attended_timeout_s=60,
    )
    people = list(described.residents)
    people[GUARD] = replace(people[GUARD], category="staff", levels=(*people[GUARD].levels, GUARDS))
    return replace(
        described,
        doors=(guarded,),
        names={KITCHEN: "Kitchen"},
        access_levels=(
            *(
                replace(level, rules=tuple(rule for rule in level.rules if rule.door_id == KITCHEN))
                for level in described.access_levels
            ),
            AccessLevel(id=GUARDS, rules=()),
        ),
        residents=tuple(people),
    )


@dataclass(kw_only=True)
class Kitchen:
    """A running site of one door, the cards of its people, and its cable. ``window_over_s``: of the last tap that can admit others."""

    site: VirtualSite
    cable: NetworkCable
    guard: Holder
    people: Sequence[Holder]
    window_over_s: float = 0.0

    @property
    def station(self) -> DoorStation:
        return self.site.stations[KITCHEN]

    def tap(self, holder: Holder) -> tuple[str, str, int]:
        """Outcome, reason, and how often the strike let go."""
        tap, releases = tap_once_locked(self.site, holder, KITCHEN)
        if holder not in self.people:
            self.window_over_s = time.monotonic() + WINDOW_S
        return tap.outcome, tap.reason, len(releases)

    def wait_out_the_window(self) -> None:
        """Until nobody passes by a guard's last tap."""
        self.site.wait_until(lambda: time.monotonic() > self.window_over_s, "the end of the window")

    def since(self, sequence: int) -> list[tuple[str, str | None, dict[str, Any]]]:
        """Kind, reason and details of what was recorded about people after this event."""
        return [
            (draft.kind.value, draft.reason.value if draft.reason else None, dict(draft.details))
            for number, draft in journal_of(self.station).drafts.items()
            if number > sequence and draft.credential_id and draft.kind != "door_not_entered"
        ]

    @property
    def last(self) -> int:
        """The newest event's sequence."""
        return max(journal_of(self.station).drafts)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kitchen]:
    """One site for all walks."""
    directory = tmp_path_factory.mktemp("local-approval")
    cables: list[NetworkCable] = []
    with (directory / "processes.log").open("wb") as log, ExitStack() as parts:

        def cable(_controller_id: ControllerId, port: int) -> int:
            cables.append(parts.enter_context(NetworkCable(port)))
            return cables[0].port

        described = attended_kitchen(datetime.now(UTC))
        site = parts.enter_context(VirtualSite(described, directory, timing="none", log=log, cable=cable))
        guard, *people = (resident_card(site, number) for number in (GUARD, *PEOPLE))
        site.wait_until_confirmed()
        yield Kitchen(site=site, cable=cables[0], guard=guard, people=people)


def test_without_a_network_a_guards_card_admits_who_waits_and_who_comes(kitchen: Kitchen) -> None:
    """Who waits and one more; the third waits, until the guard's next tap; the hub learns by whose card when it can."""
    first, second, third = kitchen.people
    with kitchen.cable.pulled():
        before = kitchen.last
        assert kitchen.tap(first) == (REFERRED, "door_attended", 0)
        assert kitchen.tap(kitchen.guard) == (GRANTED, "entitled", 1)
        assert kitchen.tap(second) == (GRANTED, "local_grant", 1)
        assert kitchen.tap(third) == (REFERRED, "door_attended", 0)
        assert kitchen.tap(kitchen.guard) == (GRANTED, "entitled", 1)
        recorded = kitchen.since(before)
    by = {"by": bytes(credential_of(kitchen.guard))}
    asked = [details["request"] for kind, _, details in recorded if kind == REFERRED]
    assert [each for each in recorded if each[0] == GRANTED] == [
        (GRANTED, "entitled", {}),
        (GRANTED, "local_grant", {"request": asked[0], **by}),
        (GRANTED, "local_grant", by),
        (GRANTED, "entitled", {}),
        (GRANTED, "local_grant", {"request": asked[1], **by}),
    ]
    ended = [details for kind, _, details in recorded if kind == "referral_ended"]
    assert ended == [{"request": request, "outcome": "granted"} for request in asked]
    chains: dict[ControllerId, Chain] = wait_until_all_is_stored(kitchen.site)
    assert len(chains) == 1


def test_when_the_window_is_over_whoever_comes_waits(kitchen: Kitchen) -> None:
    """Counted from the guard's tap."""
    assert kitchen.tap(kitchen.guard)[0] == GRANTED
    kitchen.wait_out_the_window()
    assert kitchen.tap(kitchen.people[0]) == (REFERRED, "door_attended", 0)
    assert kitchen.tap(kitchen.guard)[2] == 1


def test_a_guards_card_that_is_blocked_admits_nobody(kitchen: Kitchen) -> None:
    """From the moment the door has the list, also who was to follow the last tap."""
    resident, other = kitchen.people[:2]
    guard = resident_card(kitchen.site, GUARD)
    kitchen.site.wait_until_confirmed()
    assert kitchen.tap(guard)[:2] == (GRANTED, "entitled")
    assert kitchen.tap(resident)[:2] == (GRANTED, "local_grant")
    kitchen.site.block(credential_of(guard), "revoked")
    kitchen.site.wait_until_confirmed()
    assert kitchen.tap(other) == (REFERRED, "door_attended", 0)
    assert kitchen.tap(guard) == (DENIED, "credential_revoked", 0)


def test_who_is_blocked_is_not_admitted_by_a_card(kitchen: Kitchen) -> None:
    """Their own refusal stands, a moment after the guard's tap."""
    resident = resident_card(kitchen.site, PEOPLE[0])
    kitchen.site.block(credential_of(resident), "suspended")
    kitchen.site.wait_until_confirmed()
    assert kitchen.tap(kitchen.guard)[0] == GRANTED
    assert kitchen.tap(resident) == (DENIED, "credential_suspended", 0)


def when_hub_away(kitchen: Kitchen, behaviour: str) -> None:
    """The kitchen's rule from here on, at its door, when nobody passes by a guard's card any more."""
    kitchen.wait_out_the_window()
    rules = {"when_hub_away": behaviour, "hub_away_max_s": AWAY_MAX_S}
    kitchen.site.api.patch(f"/doors/{KITCHEN}", rules)
    kitchen.site.wait_until_confirmed()


def attendance(kitchen: Kitchen) -> list[Any]:
    """Who decided at the kitchen, one after the other, as its journal has it."""
    return [
        draft.details["attendance"]
        for draft in journal_of(kitchen.station).drafts.values()
        if draft.kind == "door_attendance_changed"
    ]


def wait_for(kitchen: Kitchen, who_decides: str) -> None:
    """Until the journal says so."""
    kitchen.site.wait_until(lambda: attendance(kitchen)[-1:] == [who_decides], f"{who_decides} deciding")


def test_without_a_hub_nobody_is_told_to_wait_for_somebody(kitchen: Kitchen) -> None:
    """Who waits is told after a moment, who comes later at once; when the hub is back they are asked about again."""
    resident = kitchen.people[0]
    when_hub_away(kitchen, "deny")
    with kitchen.cable.pulled():
        before = kitchen.last
        assert kitchen.tap(resident) == (REFERRED, "door_attended", 0)
        wait_for(kitchen, "nobody")
        assert kitchen.since(before)[-1][:2] == ("referral_ended", "hub_away")
        assert kitchen.tap(resident) == (DENIED, "hub_away", 0)
    wait_for(kitchen, "hub")
    kitchen.site.wait_until(
        lambda: kitchen.site.api.get("/doors")["doors"][0]["attendance"] == "hub", "the hub having heard it"
    )
    assert kitchen.tap(resident) == (REFERRED, "door_attended", 0)


def test_the_hub_comes_back_while_somebody_waits_for_a_card(kitchen: Kitchen) -> None:
    """One request, which says each time for whom it waits; a guard's card ends it."""
    resident = kitchen.people[1]
    when_hub_away(kitchen, "local")
    before = kitchen.last
    with kitchen.cable.pulled():
        assert kitchen.tap(resident) == (REFERRED, "door_attended", 0)
        wait_for(kitchen, "local")
    wait_for(kitchen, "hub")
    request = kitchen.since(before)[0][2]["request"]

    def told() -> list[tuple[str, str | None]]:
        return [each[:2] for each in kitchen.since(before) if each[2].get("request") == request]

    asked = [(REFERRED, reason) for reason in ("door_attended", "local_awaited", "door_attended")]
    assert told() == asked
    assert kitchen.tap(kitchen.guard) == (GRANTED, "entitled", 1)
    kitchen.site.wait_until(lambda: len(told()) == 5, "the end of the request")
    assert told() == [*asked, (GRANTED, "local_grant"), ("referral_ended", None)]


def test_without_a_hub_a_door_is_unattended_for_so_long_and_no_longer(kitchen: Kitchen) -> None:
    """Who is entitled is admitted by their own card, until the bound; then nobody, until the hub is back."""
    resident = kitchen.people[2]
    when_hub_away(kitchen, "unattended")
    with kitchen.cable.pulled():
        assert kitchen.tap(resident) == (REFERRED, "door_attended", 0)
        wait_for(kitchen, "unattended")
        assert kitchen.tap(resident) == (GRANTED, "hub_away_admitted", 1)
        wait_for(kitchen, "nobody")
        assert kitchen.tap(resident) == (DENIED, "hub_away", 0)
    wait_for(kitchen, "hub")
    assert kitchen.tap(resident) == (REFERRED, "door_attended", 0)
