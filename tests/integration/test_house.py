"""The house as a whole: started again, without network, with damaged files, with a full disk."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pacs.events import EventKind
from pacs.reason import Reason
from simulator.scenario import Holder
from simulator.site import VirtualSite
from tests.walks.house import (
    DENIED,
    GATE,
    GRANTED,
    KITCHEN,
    House,
    credential_of,
    is_locked,
    journal_of,
    resident_card,
    running_house,
    strikes,
    tap_once_locked,
    wait_until_all_is_stored,
)

pytestmark = [pytest.mark.walk, pytest.mark.timeout(300)]

LISTS = ("/cards", "/cardholders", "/access-levels", "/schedules", "/controllers")
TMPFS_KIB = 256
MOST_EVENTS_IN_A_PAGE = 60
"""A full file system still takes what fits into the journal's last page; an event has at least 80 bytes."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house; every test leaves it whole."""
    with running_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(scope="module")
def holder(house: House) -> Holder:
    """A card that opens every door."""
    card = resident_card(house.site)
    house.site.wait_until_confirmed()
    return card


@pytest.fixture(scope="module")
def lost(house: House) -> Holder:
    """A card that is blocked."""
    card = resident_card(house.site)
    house.site.block(credential_of(card), "suspended")
    house.site.wait_until_confirmed()
    return card


def check_decides(house: House, holder: Holder, lost: Holder) -> None:
    """The kitchen admits the one and refuses the other."""
    tap, releases = tap_once_locked(house.site, holder, KITCHEN)
    assert (tap.outcome, tap.reason, len(releases)) == (GRANTED, "entitled", 1)
    tap, releases = tap_once_locked(house.site, lost, KITCHEN)
    assert (tap.outcome, tap.reason, releases) == (DENIED, "credential_suspended", [])


# ---- started again


def everything(site: VirtualSite) -> dict[str, Any]:
    """What the hub knows, apart from who is connected."""
    known: dict[str, Any] = {path: site.api.get(path) for path in LISTS}
    known["documents"] = site.api.get("/documents")["documents"]
    known["doors"] = [
        {name: door[name] for name in ("rules", "policy_version", "revocations_version")}
        for door in site.doors()
    ]
    return known


def test_a_hub_that_is_started_again_has_everything(house: House, holder: Holder, lost: Holder) -> None:
    """People, cards, rules, versions, confirmations and events outlive the process, and doors come back."""
    site = house.site
    check_decides(house, holder, lost)
    wait_until_all_is_stored(site)
    site.wait_until_confirmed()
    known, events = everything(site), site.events()
    assert all(known[path][path.strip("/").replace("-", "_")] for path in LISTS)
    assert len(events) > 3
    site.hub.stop()
    site.hub.start()
    assert everything(site) == known
    assert site.events()[: len(events)] == events
    site.wait_until_confirmed()
    check_decides(house, holder, lost)
    wait_until_all_is_stored(site)


@contextmanager
def restarted_alone(house: House, meanwhile: Callable[[Path], None]) -> Iterator[int]:
    """The kitchen's controller, started again without network after ``meanwhile`` saw to its state directory.

    Gives the last sequence before the start.
    """
    station = house.kitchen
    with house.cable.pulled():
        station.controller.stop()
        last = max(journal_of(station).drafts)
        meanwhile(station.config.parent / "state")
        station.controller.start()
        yield last


def test_a_controller_started_without_network_decides_by_what_it_has(
    house: House, holder: Holder, lost: Holder
) -> None:
    """Policy and revocations on disk are enough; what happened arrives when the network is back."""
    with restarted_alone(house, lambda _state: None):
        check_decides(house, holder, lost)
    wait_until_all_is_stored(house.site)


def _changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("policy", _changed, Reason.SIGNATURE_INVALID),
        ("policy", _cut_short, Reason.DOCUMENT_MALFORMED),
        ("revocations", _cut_short, Reason.DOCUMENT_MALFORMED),
    ],
)
def test_a_controller_with_a_damaged_document_refuses_until_it_has_another(
    house: House, holder: Holder, name: str, damage: Callable[[Path], None], reason: Reason
) -> None:
    """Every tap is refused as ``policy_missing``, the damage is recorded, and the hub's copy heals the door."""
    station = house.kitchen
    with restarted_alone(house, lambda state: damage(state / "policy" / f"{name}.signed")) as last:
        tap, releases = tap_once_locked(house.site, holder, KITCHEN)
        assert (tap.outcome, tap.reason, releases) == (DENIED, "policy_missing", [])
        recorded = {number: draft for number, draft in journal_of(station).drafts.items() if number > last}
        refusals = [
            (draft.reason, draft.details)
            for draft in recorded.values()
            if draft.kind is EventKind.POLICY_REFUSED
        ]
        assert refusals == [(reason, {"kind": name})]

    def healed() -> bool:
        return any(
            draft.kind is EventKind.POLICY_APPLIED and draft.details["kind"] == name
            for number, draft in journal_of(station).drafts.items()
            if number > max(recorded)
        )

    house.site.wait_until(healed, f"another {name}")
    tap, _ = tap_once_locked(house.site, holder, KITCHEN)
    assert tap.outcome == GRANTED
    wait_until_all_is_stored(house.site)


# ---- no room for events


@contextmanager
def a_limited_file_size(house: House) -> Iterator[Callable[[], None]]:
    """The gate's controller may make no file longer than its journal is; gives what ends that."""
    station = house.site.stations[GATE]
    journal = station.config.parent / "state" / "journal"
    longest = max(path.stat().st_size for path in journal.rglob("*") if path.is_file())
    pid = station.controller.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (longest, before[1]))
    yield lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, before) and None


@contextmanager
def a_full_disk(house: House) -> Iterator[Callable[[], None]]:
    """The gate's state on a small file system of its own, filled up; gives what makes room again."""
    station = house.site.stations[GATE]
    state = station.config.parent / "state"
    station.controller.stop()
    aside = state.with_name("state-aside")
    shutil.copytree(state, aside)
    options = f"size={TMPFS_KIB}k,mode=0700"
    command = ["mount", "-t", "tmpfs", "-o", options, "drempel-test", str(state)]
    mounted = os.getuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        if not mounted:
            pytest.skip("a full disk needs root to mount a small one; a limited file size was tested instead")
        shutil.copytree(aside, state, dirs_exist_ok=True)
        station.controller.start()
        filler = state / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield filler.unlink
    finally:
        if mounted:
            with contextlib.suppress(RuntimeError):
                station.controller.stop()
            shutil.copytree(state, aside, dirs_exist_ok=True)
            subprocess.run(["umount", str(state)], check=True)
            shutil.rmtree(state)
            aside.rename(state)
        else:
            shutil.rmtree(aside)
        station.controller.start()


@pytest.mark.parametrize("full", [a_limited_file_size, a_full_disk])
def test_without_room_for_events_nobody_gets_in_and_everybody_gets_out(
    house: House, holder: Holder, full: Callable[[House], AbstractContextManager[Callable[[], None]]]
) -> None:
    """No strike without an event at entry, the exit opens; once there is room both are recorded."""
    site, station = house.site, house.site.stations[GATE]
    with full(house) as make_room:
        for _ in range(MOST_EVENTS_IN_A_PAGE):
            tap, releases = tap_once_locked(site, holder, GATE)
            if tap.sequence is None:
                break
            assert (tap.outcome, len(releases)) == (GRANTED, 1)
        assert (tap.outcome, tap.reason, tap.sequence) == (DENIED, "journal_failed", None)
        assert releases == []
        last = max(journal_of(station).drafts)
        site.wait_until(lambda: is_locked(station), "the gate locked")
        since = len(station.reports)
        station.controller.order(GATE, "press_rex")
        site.wait_until(lambda: strikes(station.reports[since:]) == [True, False], "somebody having left")
        assert max(journal_of(station).drafts) == last
        make_room()

        def recorded() -> list[tuple[str, str | None]]:
            return [
                (draft.kind.value, draft.reason and draft.reason.value)
                for number, draft in journal_of(station).drafts.items()
                if number > last and draft.kind in (EventKind.ACCESS_DENIED, EventKind.EXIT_REQUESTED)
            ]

        wanted = [("access_denied", "journal_failed"), ("exit_requested", "exit_free")]
        site.wait_until(lambda: recorded() == wanted, "what happened in the journal")
        tap, releases = tap_once_locked(site, holder, GATE)
        assert (tap.outcome, len(releases)) == (GRANTED, 1)
    wait_until_all_is_stored(site)
