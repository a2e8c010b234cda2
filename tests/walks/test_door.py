"""The walk of a door: what people do to it, on its pins, in its journal and in the hub's record."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from edge.door_state import OPENING_GRACE_S
from pacs.events import EventDraft
from pacs.identifiers import DoorId
from pacs.reason import Reason
from pacs.rules import Side
from simulator.centre import DAY_ROOM, GATE, OFFICE, ROOM, SLUICE, reception_centre
from simulator.scenario import Holder
from simulator.site import VirtualSite
from simulator.station import DoorStation
from tests.walks.house import (
    DENIED,
    GRANTED,
    credential_of,
    dealt,
    is_locked,
    journal_of,
    resident_card,
    strikes,
)

pytestmark = [pytest.mark.walk, pytest.mark.timeout(300)]

UNLOCK_MS = 3_000
"""Long enough for the person, who pulls 0.8 s after the strike."""
VISITOR, ESCORT = -1, -2
"""The indices of who is admitted with an escort only, and of who may be one."""
REFERRED = "access_referred"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualSite]:
    """One centre for all walks; every one leaves its doors closed, locked and quiet."""
    directory = tmp_path_factory.mktemp("door")
    described = reception_centre(
        datetime.now(UTC), unlock_ms=UNLOCK_MS, held_open_after_s=4, held_warning_s=2
    )
    with (
        (directory / "processes.log").open("wb") as log,
        VirtualSite(described, directory, timing="none", log=log) as site,
    ):
        yield site


@pytest.fixture(scope="module")
def holder(site: VirtualSite) -> Holder:
    """A resident's card, known at every door."""
    holder = resident_card(site, 0)
    site.wait_until_confirmed()
    return holder


def has_been_locked(station: DoorStation) -> bool:
    """Whether the strike is locked, and was for so long that no opening belongs to its release any more."""
    grace_ns = int(2 * OPENING_GRACE_S * 1e9)
    locked_ns = max((report["at_ns"] for report in station.reports if "released" in report), default=0)
    return is_locked(station) and time.monotonic_ns() - locked_ns > grace_ns


class Watch:
    """What is recorded of a door from here on, and what its pins do."""

    def __init__(self, site: VirtualSite, door_id: DoorId) -> None:
        self.site = site
        self.door_id = door_id
        self.station: DoorStation = site.stations[door_id]
        locked_doors = [station for name, station in site.stations.items() if name != DAY_ROOM]
        site.wait_until(lambda: all(map(has_been_locked, locked_doors)), "every other door locked")
        self._since = max(journal_of(self.station).drafts)
        self._reports = len(self.station.reports)

    def do(self, deed: str) -> None:
        """Have it done at this door."""
        self.station.controller.order(self.door_id, deed)

    def tap(self, holder: Holder, side: Side = Side.ENTRY) -> tuple[str, str]:
        """Outcome and reason of a tap at this door."""
        tap = self.site.tap(holder, self.door_id, side)
        return tap.outcome, tap.reason

    def at_hub(self) -> list[dict[str, Any]]:
        """The hub's events of this door, and of the controller as a whole."""
        return [
            event
            for event in self.site.events()
            if event["controller_id"] == self.station.door.controller_id
            and event["sequence"] > self._since
            and event["door_id"] in (None, self.door_id)
        ]

    def expect(self, *kinds: str) -> list[EventDraft]:
        """Wait until the hub's record of this door is exactly this; returns what the journal says of it."""
        found: list[dict[str, Any]] = []

        def told() -> bool:
            found[:] = self.at_hub()
            return len(found) >= len(kinds)

        self.site.wait_until(told, f"{len(kinds)} events of {self.door_id} at the hub")
        assert [event["kind"] for event in found] == list(kinds)
        drafts = journal_of(self.station).drafts
        return [drafts[event["sequence"]] for event in found]

    def reports(self, pin: str) -> list[int]:
        """The levels of an output since this began."""
        return [
            report["level"]
            for report in self.station.reports[self._reports :]
            if report.get("pin") == pin and report["door"] == self.door_id
        ]

    def releases(self) -> list[bool]:
        """What the strike did: True released, False locked."""
        return strikes([r for r in self.station.reports[self._reports :] if r.get("door") == self.door_id])

    def wait_for_tone(self) -> None:
        """Until the sounder comes on."""
        before = sum(self.reports("sounder"))
        self.site.wait_until(lambda: sum(self.reports("sounder")) > before, f"{self.door_id} sounding")

    def check_silent(self) -> None:
        """No tone while somebody leaves by the button, which takes longer than the pause of any signal."""
        self.site.wait_until(lambda: is_locked(self.station), f"{self.door_id} locked")
        self.site.wait_until(lambda: not (self.reports("sounder") or [0])[-1], "the end of a tone")
        before, releases = sum(self.reports("sounder")), len(self.releases())
        self.do("press_rex")
        self.site.wait_until(lambda: self.releases()[releases:] == [True, False], "somebody having left")
        assert sum(self.reports("sounder")) == before


def test_a_card_lets_somebody_through(site: VirtualSite, holder: Holder) -> None:
    """Granted, opened, closed; the strike locks as soon as the door opens."""
    watch = Watch(site, GATE)
    assert watch.tap(holder) == (GRANTED, "entitled")
    watch.expect(GRANTED, "door_opened", "door_closed")
    assert watch.releases() == [True, False]


def test_a_forced_door_is_an_alarm_until_it_is_closed(site: VirtualSite) -> None:
    """It sounds, and neither the alarm nor its end comes near the strike."""
    watch = Watch(site, SLUICE)
    watch.do("force")
    watch.wait_for_tone()
    watch.wait_for_tone()
    watch.expect("door_forced")
    watch.do("close")
    watch.expect("door_forced", "door_closed", "door_alarm_cleared")
    assert watch.releases() == []
    watch.check_silent()


def test_a_door_held_open_warns_first_and_clears_when_it_closes(site: VirtualSite, holder: Holder) -> None:
    """Warning and alarm each sound; both are recorded; the closing ends it."""
    watch = Watch(site, SLUICE)
    watch.do("hold")
    assert watch.tap(holder)[0] == GRANTED
    watch.wait_for_tone()
    watch.expect(GRANTED, "door_opened", "door_held_warning")
    watch.expect(GRANTED, "door_opened", "door_held_warning", "door_held")
    watch.wait_for_tone()
    watch.do("close")
    watch.expect(
        GRANTED, "door_opened", "door_held_warning", "door_held", "door_closed", "door_alarm_cleared"
    )
    watch.check_silent()


def test_a_door_closed_at_its_warning_is_no_alarm(site: VirtualSite, holder: Holder) -> None:
    """Whoever heeds the warning is done with it."""
    watch = Watch(site, SLUICE)
    watch.do("hold")
    assert watch.tap(holder)[0] == GRANTED
    watch.wait_for_tone()
    watch.do("close")
    watch.expect(GRANTED, "door_opened", "door_held_warning", "door_closed")
    watch.check_silent()
    assert "door_held" not in [event["kind"] for event in watch.at_hub()]


def test_tampering_is_recorded_when_it_begins_and_ends(site: VirtualSite) -> None:
    """At a private door too: it is about the door, not about a person."""
    for door_id in (GATE, ROOM):
        watch = Watch(site, door_id)
        watch.do("tamper")
        watch.expect("tamper_opened")
        watch.do("mend")
        watch.expect("tamper_opened", "tamper_closed")
        assert watch.releases() == []


def test_in_a_fire_nothing_is_forced(site: VirtualSite, holder: Holder) -> None:
    """Openings are recorded without alarm or sound, cards are still decided about, and its end is recorded."""
    watch = Watch(site, SLUICE)
    watch.station.controller.order(None, "fire")
    watch.expect("fire_reported")
    watch.do("force")
    _, opened = watch.expect("fire_reported", "door_opened")
    assert opened.details["fire"] is True
    watch.do("close")
    watch.expect("fire_reported", "door_opened", "door_closed")
    watch.station.controller.order(None, "fire_over")
    watch.expect("fire_reported", "door_opened", "door_closed", "fire_cleared")
    assert watch.reports("sounder") == []
    assert watch.releases() == []


def test_the_button_lets_somebody_out(site: VirtualSite) -> None:
    """The strike releases, and the opening is no forcing."""
    watch = Watch(site, GATE)
    watch.do("press_rex")
    requested, _, _ = watch.expect("exit_requested", "door_opened", "door_closed")
    assert (requested.reason, requested.credential_id) == (Reason.EXIT_FREE, None)
    assert watch.releases() == [True, False]


def test_who_was_granted_and_turned_away_did_not_enter(site: VirtualSite, holder: Holder) -> None:
    """The strike locks after its time, and the record says that nobody went in."""
    watch = Watch(site, SLUICE)
    watch.do("turn_away")
    assert watch.tap(holder)[0] == GRANTED
    granted, missed = watch.expect(GRANTED, "door_not_entered")
    assert granted.credential_id == missed.credential_id == credential_of(holder)
    assert watch.releases() == [True, False]


def test_the_exit_reader_lets_everybody_out(site: VirtualSite, holder: Holder) -> None:
    """A known card, and one that is no site's: neither is refused, only the known one is named."""
    watch = Watch(site, GATE)
    assert watch.tap(holder, Side.EXIT) == (GRANTED, "exit_free")
    granted, _, _ = watch.expect(GRANTED, "door_opened", "door_closed")
    assert (granted.side, granted.credential_id) == (Side.EXIT, credential_of(holder))
    stranger = Watch(site, GATE)
    stranger.tap(dealt(site, "forged"), Side.EXIT)
    requested, _, _ = stranger.expect("exit_requested", "door_opened", "door_closed")
    assert (requested.side, requested.credential_id) == (Side.EXIT, None)
    assert stranger.releases() == [True, False]


def test_of_two_interlocked_doors_one_opens_at_a_time(site: VirtualSite, holder: Holder) -> None:
    """While one stands open or is released the other admits nobody; it lets people out all the same."""
    gate, sluice = Watch(site, GATE), Watch(site, SLUICE)
    gate.do("turn_away")
    assert gate.tap(holder)[0] == GRANTED
    assert sluice.tap(holder) == (DENIED, "interlocked")
    gate.expect(GRANTED, "door_not_entered")
    gate.do("hold")
    assert gate.tap(holder)[0] == GRANTED
    gate.expect(GRANTED, "door_not_entered", GRANTED, "door_opened")
    assert sluice.tap(holder) == (DENIED, "interlocked")
    assert sluice.releases() == []
    gate.do("close")
    site.wait_until(
        lambda: gate.at_hub()[-1]["kind"] in ("door_closed", "door_alarm_cleared"), "the gate closed"
    )
    assert sluice.tap(holder)[0] == GRANTED
    assert gate.tap(holder) == (DENIED, "interlocked")
    gate.do("press_rex")
    sluice.expect(DENIED, DENIED, GRANTED, "door_opened", "door_closed")
    assert gate.releases() == [True, False] * 3
    site.wait_until(lambda: gate.at_hub()[-1]["kind"] == "door_closed", "whoever left by the gate")


def test_who_enters_twice_is_let_in_and_noted(site: VirtualSite) -> None:
    """Anti-passback that only says so; leaving by the exit reader makes the next entry an ordinary one."""
    card = resident_card(site, 1)
    site.wait_until_confirmed()
    for side, reason in (
        (Side.ENTRY, "entitled"),
        (Side.ENTRY, "antipassback_soft"),
        (Side.EXIT, "exit_free"),
        (Side.ENTRY, "entitled"),
    ):
        watch = Watch(site, GATE)
        assert watch.tap(card, side) == (GRANTED, reason)
        watch.expect(GRANTED, "door_opened", "door_closed")


def test_an_attended_door_waits_for_a_person_and_then_no_longer(site: VirtualSite, holder: Holder) -> None:
    """Referred, and when nobody answers that is recorded; the strike stays locked."""
    watch = Watch(site, OFFICE)
    assert watch.tap(holder) == (REFERRED, "door_attended")
    referred, ended = watch.expect(REFERRED, "referral_ended")
    assert referred.credential_id == ended.credential_id == credential_of(holder)
    assert watch.releases() == []


def test_a_visitor_comes_in_with_an_escort(site: VirtualSite) -> None:
    """Alone they wait; their escort's card opens for both."""
    visitor, escort = resident_card(site, VISITOR), resident_card(site, ESCORT)
    site.wait_until_confirmed()
    watch = Watch(site, SLUICE)
    assert watch.tap(visitor) == (REFERRED, "escort_awaited")
    assert watch.releases() == []
    assert watch.tap(escort) == (GRANTED, "entitled")
    site.wait_until(lambda: watch.at_hub()[-1]["kind"] == "door_closed", "both inside")
    granted = {event["credential_id"] for event in watch.at_hub() if event["kind"] == GRANTED}
    assert granted == {str(credential_of(visitor)), str(credential_of(escort))}


def test_a_schedule_unlocks_a_door_and_says_so(site: VirtualSite) -> None:
    """Everybody opens the day room, whose change of mode is recorded with its cause."""
    station = site.stations[DAY_ROOM]
    (changed, *_) = [
        draft
        for draft in journal_of(station).drafts.values()
        if draft.kind == "door_mode_changed" and draft.door_id == DAY_ROOM
    ]
    assert (changed.details["mode"], changed.details["cause"]) == ("unlocked", "schedule")
    assert not is_locked(station)
    before = len(site.events())
    for deed, kinds in (("pull", ["door_opened"]), ("close", ["door_opened", "door_closed"])):
        station.controller.order(DAY_ROOM, deed)

        def told(kinds: list[str] = kinds) -> bool:
            return [
                event["kind"] for event in site.events()[before:] if event["door_id"] == DAY_ROOM
            ] == kinds

        site.wait_until(told, f"{kinds} at the day room")


def test_who_goes_into_a_private_room_is_counted_only(site: VirtualSite, holder: Holder) -> None:
    """The door opens; journal and hub know how many taps there were, not whose, and not when."""
    station = site.stations[ROOM]
    watch = Watch(site, ROOM)
    assert watch.tap(holder)[0] == "not_recorded"
    site.wait_until(lambda: watch.releases() == [True, False], "the room's door opened and locked")
    station.controller.stop()
    try:
        (counted,) = [draft for draft in journal_of(station).drafts.values() if draft.kind == "taps_counted"]
        assert (counted.door_id, counted.credential_id, counted.details["granted"]) == (ROOM, None, 1)
        about = {draft.kind for draft in journal_of(station).drafts.values() if draft.door_id == ROOM}
        assert about <= {"taps_counted", "tamper_opened", "tamper_closed"}
    finally:
        station.controller.start()


def test_a_stop_locks_a_fail_safe_strike_before_it_lets_go(site: VirtualSite) -> None:
    """Also in the middle of a release; the process ends as it should, and starts again with the strike locked."""
    watch = Watch(site, GATE)
    watch.do("turn_away")
    watch.do("press_rex")
    site.wait_until(lambda: watch.releases() == [True], "the gate released")
    assert watch.station.controller.stop() == 0
    assert watch.releases()[:2] == [True, False]
    watch.station.controller.start()
    assert is_locked(watch.station)
