"""What webhooks are told, as stored: who gets which message, what is due to whom, what is forgotten, what has arrived."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hub.store import cardholders, cards, controllers, sites, webhook_arrivals
from hub.store import webhooks as store
from hub.store.cardholders import Cardholder, Category
from hub.store.cards import CardStatus
from hub.store.controllers import Controller
from hub.store.database import Database
from hub.store.sites import Site
from hub.store.webhooks import Told, Webhook
from hub.webhook_arrivals import Arrivals
from hub.webhook_ends import Ends
from pacs.identifiers import CardholderId, ControllerId, CredentialId, SiteId
from pacs.messages import DocumentKind
from tests.hub.databases import fresh_database

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HERE, THERE = SiteId("here"), SiteId("there")
CARD = CredentialId(bytes(16))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = fresh_database(tmp_path / "hub.sqlite")
    with database.write() as connection:
        for site_id in (HERE, THERE):
            sites.add(connection, Site(id=site_id, name=site_id, time_zone="UTC", created_at=NOW))
            controllers.register(
                connection,
                Controller(
                    id=ControllerId(site_id),
                    site_id=site_id,
                    event_public_key=bytes(32),
                    certificate_serial=None,
                    software=None,
                    registered_at=NOW,
                ),
            )
    yield database
    database.close()


def subscribed(database: Database, name: str, *kinds: Told, only: SiteId | None = None) -> str:
    webhook = Webhook(
        id=name,
        url="https://example.org/",
        kinds=kinds,
        sites=(only,) if only else None,
        secret="whsec_",
        previous_secret=None,
        previous_until=None,
        enabled=True,
        cause="",
        created_at=NOW,
    )
    with database.write() as connection:
        store.add(connection, webhook)
    return name


def tapped(site: SiteId, at: datetime = NOW) -> dict[str, Any]:
    return {
        "controller_id": ControllerId(site),
        "door_id": "door",
        "side": "entry",
        "kind": "access_granted",
        "reason": "entitled",
        "clock_trusted": True,
        "occurred_at": at,
        "credential_id": str(CARD),
    }


def told(database: Database, name: str) -> list[store.Delivery]:
    with database.read() as connection:
        return store.deliveries(connection, name, limit=99)


def test_taps_go_to_who_asks_for_them_at_their_sites(database: Database) -> None:
    """Without the card; not late ones, not to who asks for everything, not those of other sites."""
    every, one, anything = (
        subscribed(database, "every", Told.TAP, Told.PING),
        subscribed(database, "one", Told.TAP, only=THERE),
        subscribed(database, "anything"),
    )
    late = tapped(THERE, NOW - store.LATE - timedelta(seconds=1))
    with database.write() as connection:
        store.tell_taps(connection, [tapped(HERE), tapped(THERE), late], now=NOW)
    assert [len(told(database, name)) for name in (every, one, anything)] == [2, 1, 0]
    assert all(str(CARD) not in each.body for each in told(database, every))


def test_each_subscriber_has_its_own_queue(database: Database) -> None:
    """What is claimed is one subscriber's; the others' stays due; what was claimed is due to nobody."""
    first, second = subscribed(database, "first"), subscribed(database, "second")
    with database.write() as connection:
        for _ in range(3):
            store.tell(connection, Told.IMPORT_DONE, {}, now=NOW, site_id=HERE)
        assert store.due_for(connection, NOW) == [first, second]
        until = NOW + timedelta(seconds=60)
        taken = store.claim(connection, NOW, by="me", until=until, most=9, webhook_id=first)
        assert {delivery.webhook_id for delivery, _webhook in taken} == {first}
        assert len(taken) == 3
        assert store.due_for(connection, NOW) == [second]
        assert store.waiting_for(connection) == {first: 3, second: 3}
        store.give_up(connection, second, "gone")
        assert store.due_for(connection, until) == [first]
        assert store.disabled(connection) == 1


def test_an_arrival_is_told_once_and_only_of_the_last_state(database: Database) -> None:
    """Awaited where somebody wants it; what a card was before is forgotten; nothing is awaited for ever."""
    carried = [(HERE, DocumentKind.POLICY, 1), (THERE, DocumentKind.REVOCATIONS, 1)]
    with database.write() as connection:
        webhook_arrivals.expect(connection, CARD, "suspended", carried, site_id=HERE, now=NOW)
        assert webhook_arrivals.list_all(connection) == []  # nobody wants it
    name = subscribed(database, "name", Told.CARD_ARRIVED)
    with database.write() as connection:
        for status in ("suspended", "valid"):
            webhook_arrivals.expect(connection, CARD, status, carried, site_id=HERE, now=NOW)
        (awaited,) = webhook_arrivals.list_all(connection)
        assert (awaited.status, list(awaited.carried)) == ("valid", carried)
    Arrivals(database, lambda: NOW).look()  # no site has a door that lacks it
    assert [each.kind for each in told(database, name)] == [Told.CARD_ARRIVED]
    with database.write() as connection:
        assert not webhook_arrivals.remove(connection, awaited.id)
        webhook_arrivals.expect(connection, CARD, "revoked", carried, site_id=HERE, now=NOW)
        webhook_arrivals.forget_old(connection, NOW + webhook_arrivals.KEPT + timedelta(days=1))
        assert webhook_arrivals.list_all(connection) == []


def test_what_was_told_of_taps_is_forgotten_with_the_taps(database: Database) -> None:
    """However long a subscriber is away: what says when somebody passed is kept no longer than the tap."""
    name = subscribed(database, "name", Told.TAP, Told.PING)
    with database.write() as connection:
        store.tell_taps(connection, [tapped(HERE)], now=NOW)
        store.tell(connection, Told.PING, {}, now=NOW, only=name)
        store.forget_old(connection, NOW, taps_before=NOW + timedelta(seconds=1))
    assert [each.kind for each in told(database, name)] == [Told.PING]


def at_end(database: Database, **ends: datetime | None) -> None:
    """One card each for people here; ``card``, ``person``: when its validity ends."""
    with database.write() as connection:
        person = Cardholder(
            id=CardholderId("ada"),
            site_id=HERE,
            category=Category.RESIDENT,
            given_name="Ada",
            family_name="A",
            access_level_ids=(),
            created_at=NOW,
            valid_until=ends.get("person"),
        )
        cardholders.add(connection, person)
        cards.add(
            connection,
            credential_id=CARD,
            cardholder_id=person.id,
            technology="pkoc-v2",
            now=NOW,
            valid_until=ends.get("card"),
        )


def told_of_ends(database: Database, name: str) -> list[str]:
    return [
        json.loads(each.body)["data"]["at"] for each in told(database, name) if each.kind == Told.CARD_ENDED
    ]


@pytest.mark.parametrize("ends", [{"card": NOW}, {"person": NOW}, {"card": NOW + DAY, "person": NOW}])
def test_the_end_of_a_card_is_told_once_whoever_looks(database: Database, ends: dict[str, datetime]) -> None:
    """By two processes that look at the same moment, and not again after a restart; a moved end is another one."""
    subscribed(database, "them", only=HERE)
    at_end(database, **ends)
    Ends(database, lambda: NOW - timedelta(seconds=1)).look()
    assert told_of_ends(database, "them") == []
    together = threading.Barrier(2)
    processes = [Ends(database, lambda: NOW) for _ in range(2)]

    def look(process: Ends) -> None:
        together.wait(20)
        process.look()

    threads = [threading.Thread(target=look, args=(each,)) for each in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    Ends(database, lambda: NOW + DAY / 2).look()
    assert told_of_ends(database, "them") == [NOW.isoformat()]
    with database.write() as connection:
        cards.set_end(connection, CARD, NOW - DAY)
    Ends(database, lambda: NOW + DAY).look()
    assert told_of_ends(database, "them") == [NOW.isoformat(), (NOW - DAY).isoformat()]


def test_of_a_revoked_card_no_end_is_told(database: Database) -> None:
    """That it was revoked was."""
    subscribed(database, "them")
    at_end(database, card=NOW)
    with database.write() as connection:
        cards.set_status(connection, CARD, CardStatus.REVOKED, now=NOW)
    Ends(database, lambda: NOW + DAY).look()
    assert told_of_ends(database, "them") == []
