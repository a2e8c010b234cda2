"""A site of real processes, and its record as the doors' journals and the hub's database hold it."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edge.journal import Journal
from pacs.events import Event, EventDraft, event_hash, genesis
from pacs.identifiers import ControllerId, CredentialId, DoorId, JournalId
from simulator.card_deck import Recipe, deal
from simulator.scenario import Holder, small_site
from simulator.site import VirtualSite
from simulator.station import DoorStation, Tap
from tests.walks.network_cable import NetworkCable

GATE, KITCHEN, WORKSHOP = DoorId("main-entrance"), DoorId("kitchen"), DoorId("workshop")
DOORS = (GATE, KITCHEN, WORKSHOP)
KITCHEN_CONTROLLER = ControllerId("kitchen-1")
UNLOCK_MS = 400
EVERYWHERE = 2
"""The index of a resident whom every door admits at any time."""
GRANTED, DENIED, NOT_READ = "access_granted", "access_denied", "not_read"


@dataclass(frozen=True, kw_only=True)
class House:
    """A running site, where its keys are, and the cable between its kitchen and its broker."""

    site: VirtualSite
    keys: Path
    cable: NetworkCable

    @property
    def kitchen(self) -> DoorStation:
        """The door at the end of the cable."""
        return self.site.stations[KITCHEN]


@contextmanager
def running_house(directory: Path) -> Iterator[House]:
    """A small site whose strikes let go for a moment only, so that each release is seen."""
    description = small_site(datetime.now(UTC))
    doors = tuple(replace(door, unlock_ms=UNLOCK_MS) for door in description.doors)
    cables: list[NetworkCable] = []
    with (directory / "processes.log").open("wb") as log, ExitStack() as parts:

        def cable(controller_id: ControllerId, port: int) -> int:
            if controller_id != KITCHEN_CONTROLLER:
                return port
            cables.append(parts.enter_context(NetworkCable(port)))
            return cables[0].port

        described = replace(description, doors=doors)
        site = parts.enter_context(VirtualSite(described, directory, timing="none", log=log, cable=cable))
        yield House(site=site, keys=directory / "site", cable=cables[0])


def resident_card(site: VirtualSite, number: int = EVERYWHERE, **how: Any) -> Holder:
    """A card issued to one of the residents."""
    return site.issue(site.description.residents[number], **how)


def dealt(site: VirtualSite, kind: str) -> Holder:
    """A card of the deck that claims to be of this site."""
    today = datetime.now(UTC).date()
    recipe = Recipe(
        issuer_key=site.issuer.key,
        issuer=site.issuer.reference,
        credential_id=CredentialId(secrets.token_bytes(16)),
        valid_from=today - timedelta(days=1),
        valid_until=today + timedelta(days=300),
        today=today,
    )
    return Holder(label=kind, card=deal(kind, recipe))


def credential_of(holder: Holder) -> CredentialId:
    """What is registered at the hub for this card."""
    assert holder.credential is not None
    return holder.credential.credential_id


# ---- at the door


def strikes(reports: Sequence[dict[str, Any]]) -> list[bool]:
    """What the strike did: True released, False locked."""
    return [report["released"] for report in reports if report.get("pin") == "strike"]


def is_locked(station: DoorStation) -> bool:
    """Whether the strike's last report said so; every controller starts with it locked."""
    released = False
    for report in station.reports:
        if report.get("pin") == "strike" or "ready" in report:
            released = report.get("released", False)
    return not released


def tap_once_locked(site: VirtualSite, holder: Holder, door_id: DoorId) -> tuple[Tap, list[dict[str, Any]]]:
    """A tap at a locked door, so that a release shows; with the releases that came before its outcome."""
    station = site.stations[door_id]
    site.wait_until(lambda: is_locked(station), f"{door_id} locked")
    before = len(station.reports)
    tap = site.tap(holder, door_id)
    return tap, [report for report in station.reports[before:] if report.get("released")]


# ---- the record


@dataclass(frozen=True, kw_only=True)
class Chain:
    """One journal's events from the first on, as bytes."""

    controller_id: ControllerId
    journal_id: JournalId
    encoded: tuple[bytes, ...]

    @property
    def events(self) -> list[Event]:
        return [Event.from_bytes(data) for data in self.encoded]

    @property
    def drafts(self) -> dict[int, EventDraft]:
        """What happened, by sequence."""
        return {event.sequence: event.draft for event in self.events}

    def prove(self) -> None:
        """Every event has the next number and carries the hash of the bytes before it."""
        previous = genesis(self.controller_id, self.journal_id)
        for number, (event, data) in enumerate(zip(self.events, self.encoded, strict=True), 1):
            assert (event.sequence, event.previous_hash) == (number, previous)
            previous = event_hash(data)


def journal_of(station: DoorStation) -> Chain:
    """Everything in a door's journal, read from a copy: the journal itself stays as it was left."""
    controller_id = station.door.controller_id
    with TemporaryDirectory() as directory:
        copy = Path(directory) / "journal"
        shutil.copytree(station.config.parent / "state" / "journal", copy)
        with closing(Journal(copy, controller_id=controller_id)) as journal:
            outgoing = journal.outgoing
            assert (outgoing.journal_id, outgoing.first_sequence) == (journal.journal_id, 1)
            encoded = journal.read(outgoing.journal_id, 1, max_events=100_000, max_bytes=10**8)
    return Chain(controller_id=controller_id, journal_id=outgoing.journal_id, encoded=tuple(encoded))


def rows(site: VirtualSite, query: str) -> list[tuple[Any, ...]]:
    """What the hub's database answers, read beside the hub."""
    path = site.hub.data_dir / "hub.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()


def stored(site: VirtualSite) -> dict[ControllerId, Chain]:
    """What the hub has stored of each controller, in the order of arrival."""
    found: dict[tuple[str, str], list[bytes]] = {}
    for controller_id, journal_id, data in rows(
        site, "SELECT controller_id, journal_id, data FROM events ORDER BY id"
    ):
        found.setdefault((controller_id, journal_id), []).append(data)
    assert len({controller_id for controller_id, _ in found}) == len(found), "more than one journal a door"
    return {
        ControllerId(controller_id): Chain(
            controller_id=ControllerId(controller_id),
            journal_id=JournalId(journal_id),
            encoded=tuple(encoded),
        )
        for (controller_id, journal_id), encoded in found.items()
    }


def wait_until_all_is_stored(site: VirtualSite) -> dict[ControllerId, Chain]:
    """Wait until the hub has what the journals have, byte for byte, in order, once; return it proven."""
    chains: dict[ControllerId, Chain] = {}

    def same() -> bool:
        journals = [journal_of(station) for station in site.stations.values()]
        chains.update({chain.controller_id: chain for chain in journals})
        return stored(site) == chains

    site.wait_until(same, "the hub having what the journals have")
    for chain in chains.values():
        chain.prove()
    return chains


def event_at_hub(site: VirtualSite, door_id: DoorId, sequence: int) -> dict[str, Any]:
    """One event as the hub's interface gives it; waits until it is there."""
    controller_id = site.stations[door_id].door.controller_id
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [
            event
            for event in site.events()
            if (event["controller_id"], event["sequence"]) == (controller_id, sequence)
        ]
        return bool(found)

    site.wait_until(there, f"event {sequence} of {controller_id} at the hub")
    assert len(found) == 1
    return found[0]


def about_people(chain: Chain) -> dict[int, EventDraft]:
    """Those that say somebody came, by sequence."""
    return {
        number: draft
        for number, draft in chain.drafts.items()
        if says_somebody_came(draft.kind, bool(draft.credential_id))
    }


def says_somebody_came(kind: str, names_a_credential: bool) -> bool:
    """An outcome, or anything else with a credential but what a door does after a grant (opened, not entered)."""
    return kind.startswith("access_") or (names_a_credential and not kind.startswith("door_"))
