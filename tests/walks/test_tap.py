"""The walk of a tap: each kind of card at a real door, its strike, its journal and the hub's record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pacs.identifiers import DoorId
from pacs.reason import Reason
from pacs.rules import DoorMode
from simulator.card_issuing import Profile
from simulator.controller_process import ControllerProcess
from simulator.link_faults import LinkFault, LinkOptions
from simulator.scenario import Holder
from simulator.site import VirtualSite
from simulator.station import DoorStation
from simulator.virtual_card import ReplayingCard
from tests.walks.house import (
    DENIED,
    GATE,
    GRANTED,
    KITCHEN,
    NOT_READ,
    WORKSHOP,
    about_people,
    credential_of,
    dealt,
    event_at_hub,
    journal_of,
    resident_card,
    running_house,
    says_somebody_came,
    strikes,
    tap_once_locked,
)

pytestmark = [pytest.mark.walk, pytest.mark.timeout(300)]

FIVE_HOURS_S = 5 * 3600.0
"""Longer than a door believes its policy."""

CARDS: dict[str, tuple[DoorId, str, Reason]] = {
    "granted": (GATE, GRANTED, Reason.ENTITLED),
    "V1, enrolled": (WORKSHOP, GRANTED, Reason.ENTITLED),
    "revoked": (GATE, DENIED, Reason.CREDENTIAL_REVOKED),
    "suspended": (GATE, DENIED, Reason.CREDENTIAL_SUSPENDED),
    "expired": (KITCHEN, DENIED, Reason.CERTIFICATE_EXPIRED),
    "not-yet-valid": (KITCHEN, DENIED, Reason.CERTIFICATE_NOT_YET_VALID),
    "forged": (GATE, DENIED, Reason.CERTIFICATE_FORGED),
    "unknown-issuer": (KITCHEN, DENIED, Reason.ISSUER_UNKNOWN),
    "cloned": (GATE, DENIED, Reason.SIGNATURE_INVALID),
    "V1, not enrolled": (WORKSHOP, DENIED, Reason.CARD_NOT_ENROLLED),
    "V1 at a door without": (GATE, DENIED, Reason.TECHNOLOGY_NOT_ALLOWED),
    "genuine, not registered": (KITCHEN, DENIED, Reason.CREDENTIAL_UNLISTED),
    "no access level": (WORKSHOP, DENIED, Reason.NO_ACCESS_LEVEL),
    "outside schedule": (WORKSHOP, DENIED, Reason.OUTSIDE_SCHEDULE),
}
"""Each card, the door it is held to, and what must follow."""

NAMELESS = {"forged", "unknown-issuer"}
"""Nothing proves whose these are, so their events do not say."""

HOSTILE = {
    "pulled mid-tap": (LinkOptions(fault=LinkFault.PULLED, after=2), "card_gone"),
    "garbage for blocks": (LinkOptions(fault=LinkFault.GARBAGE), "protocol_error"),
    "endless waiting time": (LinkOptions(fault=LinkFault.ENDLESS_WAIT), "wait_limit"),
    "endless chaining": (LinkOptions(fault=LinkFault.ENDLESS_CHAINING), "length_limit"),
    "1-byte ATS": (LinkOptions(fault=LinkFault.ATS_ONE_BYTE), "ats_invalid"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualSite]:
    """One house for all cards."""
    with running_house(tmp_path_factory.mktemp("tap")) as house:
        yield house.site


@pytest.fixture(scope="module")
def cards(site: VirtualSite) -> dict[str, Holder]:
    """Every card of ``CARDS``, those of residents known at every door."""
    enrolled = resident_card(site, profile=Profile.V1)
    found = {
        "granted": resident_card(site),
        "V1, enrolled": enrolled,
        "V1 at a door without": enrolled,
        "V1, not enrolled": resident_card(site, profile=Profile.V1, register=False),
        "revoked": resident_card(site),
        "suspended": resident_card(site),
        "genuine, not registered": resident_card(site, register=False),
        "no access level": resident_card(site, 1),
        "outside schedule": resident_card(site, 0),
        **{
            kind: dealt(site, kind)
            for kind in ("expired", "not-yet-valid", "forged", "unknown-issuer", "cloned")
        },
    }
    for status in ("revoked", "suspended"):
        site.block(credential_of(found[status]), status)
    site.wait_until_confirmed()
    return found


def check_event(
    site: VirtualSite, door_id: DoorId, sequence: int | None, outcome: str, reason: Reason
) -> str | None:
    """The journal and the hub say the same of this tap; returns whose card they say it was."""
    assert sequence is not None
    chain = journal_of(site.stations[door_id])
    chain.prove()
    draft = chain.drafts[sequence]
    assert (draft.kind.value, draft.reason, draft.door_id) == (outcome, reason, door_id)
    at_hub = event_at_hub(site, door_id, sequence)
    credential = str(draft.credential_id) if draft.credential_id else None
    assert at_hub["journal_id"] == chain.journal_id
    assert (at_hub["kind"], at_hub["reason"], at_hub["door_id"]) == (outcome, reason.value, door_id)
    assert at_hub["credential_id"] == credential
    return credential


def check_tap(site: VirtualSite, holder: Holder, door_id: DoorId, outcome: str, reason: Reason) -> str | None:
    """At the strike's pin, in the journal and at the hub; returns whose card the events say it was."""
    tap, releases = tap_once_locked(site, holder, door_id)
    assert (tap.outcome, tap.reason) == (outcome, reason.value)
    if outcome == GRANTED:
        assert [release["door"] for release in releases] == [door_id]
        assert tap.marks["journal"] <= releases[0]["at_ns"]
    else:
        assert releases == []
    return check_event(site, door_id, tap.sequence, outcome, reason)


@pytest.mark.parametrize("kind", CARDS)
def test_each_card_has_its_own_outcome_and_reason(
    site: VirtualSite, cards: dict[str, Holder], kind: str
) -> None:
    """Granted cards release the strike, after their event; others leave it, and each says why."""
    door_id, outcome, reason = CARDS[kind]
    holder = cards[kind]
    said = check_tap(site, holder, door_id, outcome, reason)
    assert said == (None if kind in NAMELESS else str(holder.card.credential_id))


def test_a_recorded_answer_is_refused_when_it_is_played_back(site: VirtualSite) -> None:
    """The recording's original is granted, the recording is not."""
    holder = resident_card(site)
    holder.card = ReplayingCard.restore(holder.card.state() | {"recorded": ""})
    site.wait_until_confirmed()
    check_tap(site, holder, KITCHEN, GRANTED, Reason.ENTITLED)
    check_tap(site, holder, KITCHEN, DENIED, Reason.ANSWER_REPLAYED)


def test_a_door_out_of_service_admits_nobody(site: VirtualSite, cards: dict[str, Holder]) -> None:
    """A card that opens the door is refused while the door is out of service, and opens it again afterwards."""
    site.switch(GATE, DoorMode.OUT_OF_SERVICE)
    try:
        check_tap(site, cards["granted"], GATE, DENIED, Reason.DOOR_OUT_OF_SERVICE)
    finally:
        site.switch(GATE, DoorMode.SECURED)
    check_tap(site, cards["granted"], GATE, GRANTED, Reason.ENTITLED)


@contextmanager
def in_the_future(station: DoorStation, ahead_s: float) -> Iterator[None]:
    """The door's controller, started again with its clock so far ahead; the real one afterwards."""
    present = station.controller
    present.stop()
    try:
        with ControllerProcess(station.config, clock_ahead_s=ahead_s, on_report=station.hear) as future:
            station.controller = future
            yield
    finally:
        station.controller = present
        present.start()


def test_a_policy_that_is_too_old_admits_nobody(site: VirtualSite, cards: dict[str, Holder]) -> None:
    """Five hours after its policy was issued a door refuses whom it admitted before.

    Back in the present its clock was set back, which it does not believe until a document that is signed now says
    so too.
    """
    with in_the_future(site.stations[KITCHEN], FIVE_HOURS_S):
        check_tap(site, cards["granted"], KITCHEN, DENIED, Reason.POLICY_TOO_OLD)
    check_tap(site, cards["granted"], KITCHEN, DENIED, Reason.CLOCK_UNTRUSTED)
    for mode in (DoorMode.UNLOCKED, DoorMode.SECURED):
        site.switch(KITCHEN, mode)
    check_tap(site, cards["granted"], KITCHEN, GRANTED, Reason.ENTITLED)


# ---- not read: nobody's event


def check_nobody_came(site: VirtualSite, witness: Holder, holder: Holder, fault: str) -> None:
    """No strike, and neither the journal nor the hub has an event about a person."""
    station = site.stations[GATE]
    before = about_people(journal_of(station))
    tap, releases = tap_once_locked(site, holder, GATE)
    assert (tap.outcome, tap.reason, tap.sequence, tap.credential) == (NOT_READ, fault, None, None)
    assert releases == []
    granted, _ = tap_once_locked(site, witness, GATE)
    assert granted.outcome == GRANTED
    after = about_people(journal_of(station))
    assert after.keys() - before.keys() == {granted.sequence}
    # once the witness has arrived, everything before has
    event_at_hub(site, GATE, granted.sequence or 0)
    at_hub = {
        event["sequence"]
        for event in site.events()
        if event["controller_id"] == station.door.controller_id
        and says_somebody_came(event["kind"], bool(event["credential_id"]))
    }
    assert at_hub == after.keys()


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_card_that_breaks_the_link_is_not_read(
    site: VirtualSite, cards: dict[str, Holder], kind: str
) -> None:
    """A genuine chip behind a broken link is nobody's event, and the reader reads the next card."""
    link, fault = HOSTILE[kind]
    card = resident_card(site, register=False).card
    check_nobody_came(site, cards["granted"], Holder(label=kind, card=card, link=link), fault)


@pytest.mark.parametrize("kind", ["garbage", "garbage-certificate", "garbage-signature"])
def test_a_card_that_talks_garbage_is_not_read(
    site: VirtualSite, cards: dict[str, Holder], kind: str
) -> None:
    """Noise for an answer, at whichever step, says nothing about a person."""
    check_nobody_came(site, cards["granted"], dealt(site, kind), "answer_malformed")


# ---- what the person at the door sees and hears


def lights(reports: list[dict[str, Any]]) -> tuple[int, list[tuple[tuple[int, int], tuple[int, int]]]]:
    """How often both lights came on in silence first; then for each tone green and red at its start and its end.

    A step of a signal switches green, then red, then the buzzer, so that a tone's edges find the lights in place.
    """
    green = red = silent = 0
    starts: list[tuple[int, int]] = []
    ends: list[tuple[int, int]] = []
    for report in reports:
        match report:
            case {"pin": "green", "level": level}:
                green = level
            case {"pin": "red", "level": level}:
                red = level
                silent += bool(green and red and not starts)
            case {"pin": "buzzer", "level": 1}:
                starts.append((green, red))
            case {"pin": "buzzer", "level": 0}:
                ends.append((green, red))
    return silent, list(zip(starts, ends, strict=True))


def is_dark(station: DoorStation) -> bool:
    """Whether lights and buzzer are off."""
    levels = {report["pin"]: report["level"] for report in station.reports if "pin" in report}
    return not any(levels.get(pin) for pin in ("green", "red", "buzzer"))


def shown(
    site: VirtualSite, holder: Holder, tones: int
) -> tuple[int, list[tuple[tuple[int, int], tuple[int, int]]]]:
    """What the gate's reader shows for a card, from dark to dark, and until somebody has left by the button."""
    station = site.stations[GATE]
    site.wait_until(lambda: is_dark(station), "the gate dark")
    before = len(station.reports)
    site.tap(holder, GATE)

    def ended() -> bool:
        reports = station.reports[before:]
        sounded = sum(report.get("pin") == "buzzer" and not report["level"] for report in reports)
        return sounded >= tones and is_dark(station)

    site.wait_until(ended, "the signal's end")
    # somebody leaves by the button: the strike's release lasts longer than a signal's pauses, so another tone would show
    left = len(station.reports)
    station.controller.order(GATE, "press_rex")
    site.wait_until(lambda: strikes(station.reports[left:]) == [True, False], "somebody having left")
    return lights(station.reports[before:])


def test_each_outcome_looks_and_sounds_its_own(site: VirtualSite, cards: dict[str, Holder]) -> None:
    """Reading, granted, refused and not read are four different patterns of green, red and buzzer."""
    pulled = Holder(
        label="pulled", card=cards["granted"].card, link=LinkOptions(fault=LinkFault.PULLED, after=2)
    )
    _, granted = shown(site, cards["granted"], 1)
    _, refused = shown(site, cards["revoked"], 3)
    reading, not_read = shown(site, pulled, 2)
    assert granted == [((1, 0), (1, 0))]
    assert refused == [((0, 1), (0, 0))] * 3
    assert not_read == [((1, 1), (1, 1))] * 2
    assert reading > 0
