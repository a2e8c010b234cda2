"""Nothing is lost: processes killed at any moment, and doors that go on without broker and hub."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from pacs.events import EventDraft, EventKind
from pacs.identifiers import ControllerId, DoorId
from simulator.scenario import Holder
from simulator.site import VirtualSite
from simulator.station import DoorStation
from tests.walks.house import (
    DENIED,
    DOORS,
    GRANTED,
    Chain,
    dealt,
    resident_card,
    rows,
    running_house,
    stored,
    tap_once_locked,
    wait_until_all_is_stored,
)

pytestmark = [pytest.mark.walk, pytest.mark.timeout(600)]

log = logging.getLogger(__name__)

SEED = int(os.environ.get("DREMPEL_SEED") or random.SystemRandom().randrange(10**6))
"""Of the kills; the order of everything else is the machine's."""
KILLS = ("broker", "hub", *DOORS, "broker", "hub", DOORS[0])
PAUSE_S = (0.2, 1.5)
EXPECTED_ANOMALIES = {"not_running", "unclean_start"}
RELEASING = (EventKind.ACCESS_GRANTED, EventKind.EXIT_REQUESTED)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualSite]:
    """One house; every test leaves it whole."""
    with running_house(tmp_path_factory.mktemp("nothing-lost")) as house:
        yield house.site


@pytest.fixture(scope="module")
def hands(site: VirtualSite) -> dict[DoorId, tuple[Holder, Holder]]:
    """At each door somebody who may enter, and somebody with a forged card."""
    found = {door_id: (resident_card(site), dealt(site, "forged")) for door_id in DOORS}
    site.wait_until_confirmed()
    return found


# ---- what must hold of the record, whatever happened


def check_strikes(station: DoorStation, chain: Chain) -> int:
    """Between each release of a strike and the one before stands an event that explains it; returns how many."""
    wall_minus_monotonic_s = time.time() - time.monotonic()
    grants = [draft.occurred_at.timestamp() for draft in chain.drafts.values() if draft.kind in RELEASING]
    tolerance_s = 0.005  # events are kept to the millisecond
    releases = [report["at_ns"] / 1e9 for report in station.reports if report.get("released")]
    before_s = 0.0
    for at_s in (release + wall_minus_monotonic_s for release in releases):
        assert any(before_s < grant <= at_s + tolerance_s for grant in grants), "a strike without an event"
        before_s = at_s
    return len(releases)


def check_traces(station: DoorStation, chain: Chain) -> Counter[str]:
    """Each tap that was decided is the event it said it was; returns how many of each outcome."""
    traces = [report for report in station.reports if report.get("sequence")]
    for trace in traces:
        draft = chain.drafts[trace["sequence"]]
        assert (draft.kind.value, draft.reason and draft.reason.value) == (trace["trace"], trace["reason"])
    return Counter(trace["trace"] for trace in traces)


def starts(chain: Chain) -> list[EventDraft]:
    """Every start of the controller."""
    return [draft for draft in chain.drafts.values() if draft.kind is EventKind.CONTROLLER_STARTED]


def check_hub(site: VirtualSite) -> None:
    """The hub set nothing aside, and found nothing wrong but processes that were away."""
    assert rows(site, "SELECT topic, cause FROM quarantine") == []
    assert {kind for (kind,) in rows(site, "SELECT kind FROM anomalies")} <= EXPECTED_ANOMALIES
    site.wait_until(lambda: all(door["complete"] for door in site.doors()), "every door's record complete")


# ---- kill -9


class People:
    """Somebody at each door all the time, one thread a door; a context manager."""

    def __init__(self, site: VirtualSite, hands: dict[DoorId, tuple[Holder, Holder]]) -> None:
        self._site = site
        self._gone_home = threading.Event()
        self._threads = [
            threading.Thread(target=self._at, args=(door_id, *hands[door_id]), name=f"people {door_id}")
            for door_id in DOORS
        ]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._gone_home.set()
        for thread in self._threads:
            thread.join()

    def _at(self, door_id: DoorId, resident: Holder, stranger: Holder) -> None:
        while not self._gone_home.is_set():
            for holder in (resident, resident, stranger):
                with contextlib.suppress(RuntimeError):  # the door was dead for as long as somebody waits
                    self._site.tap(holder, door_id)


def broker_pid(site: VirtualSite) -> int:
    """The running broker's; 0 when there is none."""
    with contextlib.suppress(RuntimeError, OSError):
        pid = site.hub.broker_pid
        if b"nats-server" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return 0


def kill_broker(site: VirtualSite) -> None:
    """SIGKILL, and wait until the hub has started another."""
    site.wait_until(lambda: broker_pid(site) > 0, "a broker")
    killed = broker_pid(site)
    os.kill(killed, signal.SIGKILL)
    site.wait_until(lambda: broker_pid(site) not in (0, killed), "another broker")


def kill_and_start(site: VirtualSite, victim: str, rest_s: float) -> None:
    """SIGKILL, and a new process after ``rest_s``; of a controller, wait until it has decided a tap."""
    if victim == "broker":
        kill_broker(site)
    elif victim == "hub":
        site.hub.kill()
        time.sleep(rest_s)
        site.hub.start()
    else:
        station = site.stations[DoorId(victim)]
        station.controller.kill()
        since = len(station.reports)
        station.controller.start()
        site.wait_until(
            lambda: any("trace" in report for report in station.reports[since:]), f"a tap at {victim}"
        )


def test_kills_at_any_moment_lose_nothing(
    site: VirtualSite, hands: dict[DoorId, tuple[Holder, Holder]]
) -> None:
    """Every journalled event is stored once and in order, chains verify, and no strike is without its event."""
    log.warning("DREMPEL_SEED=%d", SEED)
    dice = random.Random(SEED)
    victims = dice.sample(KILLS, len(KILLS))
    with People(site, hands):
        for victim in victims:
            time.sleep(dice.uniform(*PAUSE_S))
            log.warning("killing %s", victim)
            kill_and_start(site, victim, dice.uniform(*PAUSE_S))
    chains = wait_until_all_is_stored(site)
    check_hub(site)
    for door_id, station in site.stations.items():
        chain = chains[station.door.controller_id]
        assert check_strikes(station, chain) >= 3
        outcomes = check_traces(station, chain)
        assert outcomes[GRANTED] >= 3
        assert outcomes[DENIED] >= 2
        unclean = [start.details["unclean"] for start in starts(chain)]
        assert unclean == [False] + [True] * victims.count(door_id)
        holes = next(door["holes"] for door in site.doors() if door["id"] == door_id)
        assert [hole["cause"] for hole in holes].count("unclean_start") == victims.count(door_id)


# ---- without hub, without broker


@contextmanager
def hub_and_broker_stopped(site: VirtualSite) -> Iterator[None]:
    """Neither runs."""
    site.hub.stop()
    try:
        yield
    finally:
        site.hub.start()


@contextmanager
def hub_frozen(site: VirtualSite) -> Iterator[None]:
    """The broker takes what doors send; nobody stores or acknowledges it."""
    os.kill(site.hub.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(site.hub.pid, signal.SIGCONT)


@contextmanager
def broker_frozen_then_killed(site: VirtualSite) -> Iterator[None]:
    """Connections stay, nothing moves on them; then all of them break."""
    pid = broker_pid(site)
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)


def taps(chains: Mapping[ControllerId, Chain]) -> dict[ControllerId, list[str]]:
    """The outcomes of each controller's taps, in order."""
    return {
        name: [draft.kind.value for draft in chain.drafts.values() if draft.kind.value in (GRANTED, DENIED)]
        for name, chain in chains.items()
    }


@pytest.mark.parametrize("away", [hub_and_broker_stopped, hub_frozen, broker_frozen_then_killed])
def test_doors_decide_alone_and_everything_arrives_afterwards(
    site: VirtualSite,
    hands: dict[DoorId, tuple[Holder, Holder]],
    away: Callable[[VirtualSite], contextlib.AbstractContextManager[None]],
) -> None:
    """Strikes move and strangers are refused while nobody listens; later the hub has it all, once and in order."""
    before = wait_until_all_is_stored(site)
    with away(site):
        for _ in range(2):
            for door_id, (resident, stranger) in hands.items():
                tap, releases = tap_once_locked(site, resident, door_id)
                assert (tap.outcome, len(releases)) == (GRANTED, 1)
                tap, releases = tap_once_locked(site, stranger, door_id)
                assert (tap.outcome, releases) == (DENIED, [])
        assert taps(stored(site)) == taps(before)
    chains = wait_until_all_is_stored(site)
    check_hub(site)
    for station in site.stations.values():
        check_strikes(station, chains[station.door.controller_id])
    known = taps(before)
    for name, came in taps(chains).items():
        assert came == known[name] + [GRANTED, DENIED] * 2
