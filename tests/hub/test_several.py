from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.commands import Order
from hub.inbox import Message
from hub.keys import HubKeys
from hub.link import ControllerLink
from hub.live import AlarmsChanged, Confirmed, ControllerChanged, EventStored, LiveBus
from hub.news import MAX_CONTROLLERS, News
from hub.station_taps import StationTap, TapResult
from hub.store import alarms, cards, controllers, events
from hub.store.alarms import AlarmKind, Subject
from hub.store.cards import CardStatus
from pacs.commands import Action
from pacs.errors import MalformedData
from pacs.events import EventKind
from pacs.identifiers import ControllerId, DoorId, SiteId, StationId
from pacs.messages import DocumentKind
from pacs.topics import SHARDS, Up, UpTopic
from tests.hub.controller import FakeController, SmallHub, eventually, small_hub
from tests.hub.test_distribution import CARD, add_person

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ["gate", *(f"door-{number}" for number in range(7))]


@contextmanager
def beside(hub: SmallHub) -> Iterator[ControllerLink]:
    """Another process on the same database, without a broker of its own."""
    keys = HubKeys.load(hub.directory / "site" / "hub", hub.directory / "site" / "hub" / "passphrase")
    servers = [("127.0.0.1", hub.port)]
    clock = lambda: datetime.now(UTC)  # noqa: E731
    link = ControllerLink(hub.database, keys, None, servers=servers, live=LiveBus(), clock=clock)
    link.start()
    try:
        yield link
    finally:
        link.stop()


@pytest.fixture(scope="module")
def database_kind(request: pytest.FixtureRequest) -> Iterator[None]:
    from tests.hub import databases

    databases.in_use.append(request.getfixturevalue("postgresql"))
    yield
    databases.in_use.pop()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, database_kind: None) -> Iterator[SmallHub]:
    with small_hub(tmp_path_factory.mktemp("hub"), *NAMES) as hub:
        with hub.database.write() as connection:
            add_person(connection)
        hub.link.site_changed()
        yield hub


@pytest.fixture(scope="module")
def other(hub: SmallHub) -> Iterator[ControllerLink]:
    """The second process, once both have a share and are connected for it."""
    with beside(hub) as other:
        eventually(lambda: shared(hub.link, other), "two shares")
        yield other


@pytest.fixture(scope="module")
def fakes(hub: SmallHub, other: ControllerLink) -> Iterator[dict[str, FakeController]]:
    """All controllers, connected and with their first documents."""
    fakes = {name: hub.controller(name) for name in NAMES}
    for fake in fakes.values():
        fake.connect()
        fake.wait_online()
    eventually(lambda: all(min(fake.versions.values()) for fake in fakes.values()), "first documents")
    for fake in fakes.values():
        fake.until_acknowledged()
    yield fakes
    for fake in fakes.values():
        fake.disconnect()


def shared(*links: ControllerLink) -> bool:
    """Every link has a fair share, and its connections."""
    sizes = [len(link.leases.standing.shards) for link in links]
    ready = all(link.health["connection"] for link in links)
    return ready and sum(sizes) == SHARDS and max(sizes) - min(sizes) <= 1


def served_by(link: ControllerLink) -> list[str]:
    return [name for name in NAMES if link.leases.standing.holds(ControllerId(name))]


def test_each_stores_its_share_and_pages_of_both_see_all_once(
    hub: SmallHub, other: ControllerLink, fakes: dict[str, FakeController]
) -> None:
    """Whichever process stores an event, a viewer at either sees it once, and each door's in order."""
    assert served_by(hub.link)
    assert served_by(other)
    assert not {*served_by(hub.link)} & {*served_by(other)}
    counted = [link.ingest.counts.stored for link in (hub.link, other)]

    viewers = [Heard(link.live) for link in (hub.link, other)]
    for _ in range(10):
        for fake in fakes.values():
            fake.record()
    for fake in fakes.values():
        fake.until_acknowledged()
    with hub.database.read() as connection:
        stored = events.listing(connection, limit=10_000)
    for viewer in viewers:
        seen = viewer.until_stored(10 * len(NAMES))
        ids = [each.id for each in seen]
        assert ids == sorted(set(ids))
        for name in NAMES:
            mine = [each.id for each in stored if each.controller_id == name][-10:]
            assert [each.id for each in seen if each.controller_id == name] == mine
    for link, before in zip((hub.link, other), counted, strict=True):
        assert link.ingest.counts.stored - before == 10 * len(served_by(link))
    for name, fake in fakes.items():
        assert [each.data for each in stored if each.controller_id == name] == fake.journal.encoded


def test_a_block_made_at_one_reaches_the_doors_of_the_other(
    hub: SmallHub, other: ControllerLink, fakes: dict[str, FakeController]
) -> None:
    """Every door confirms it, and a viewer at either process is told of each confirmation."""
    heard = Heard(hub.live)
    blocked = other.revocation.block(CARD, CardStatus.SUSPENDED, reason="lost", actor="operator:test")
    version = blocked.versions[hub.site.id]
    eventually(lambda: all_hold(fakes, version), "every door has it")

    def confirmed() -> bool:
        told = {each.controller_id for each in heard.found if isinstance(each, Confirmed)}
        return told == {*fakes} and all(
            each.confirmed_at for each in hub.link.revocation.distribution_of(CARD).confirmations
        )

    eventually(confirmed, "all confirmed, and told")
    heard.stop()
    with hub.database.read() as connection:
        assert cards.get(connection, CARD).status is CardStatus.SUSPENDED


def test_a_command_given_at_one_reaches_a_door_of_the_other_and_is_repeated_there(
    hub: SmallHub, other: ControllerLink, fakes: dict[str, FakeController]
) -> None:
    """It comes at once; and from then on who serves the door repeats it, and nobody else."""
    (name, *_) = served_by(hub.link)
    order = Order(door_id=DoorId(name), action=Action.UNLOCK_ONCE)
    other.commands.give(order, reason="", actor="operator:test")
    eventually(lambda: len(fakes[name].commands) >= 3, "the command, twice repeated")
    assert not other.commands._repetitions
    assert len(set(fakes[name].commands)) == 1


def test_what_one_says_of_controllers_and_alarms_is_seen_at_the_other(
    hub: SmallHub, other: ControllerLink, fakes: dict[str, FakeController]
) -> None:
    """A controller that drops, and an alarm somebody took note of."""
    (name, *_) = served_by(other)
    heard = Heard(hub.live)
    fakes[name].drop()
    eventually(
        lambda: any(
            isinstance(each, ControllerChanged) and each.controller_id == name for each in heard.found
        )
    )
    now = datetime.now(UTC)
    subject = Subject(kind=AlarmKind.TAMPER, controller_id=ControllerId(name))
    with hub.database.write() as connection:
        alarms.raised(connection, subject, since=now, now=now)
        (alarm,) = [
            each for each in alarms.standing(connection).values() if each.subject.kind is subject.kind
        ]
    told = StationTap(
        tap_id="0" * 32,
        station_id=StationId("desk"),
        site_id=SiteId("site"),
        at=now.replace(microsecond=0),
        result=TapResult.VALID,
    )
    other.live.publish(told)
    eventually(lambda: told in heard.found, "a card at a station of the other process")
    other.alarms.acknowledge(alarm.id, note="seen", actor="operator:test")
    eventually(
        lambda: any(isinstance(each, AlarmsChanged) and name in each.controllers for each in heard.found)
    )
    heard.stop()
    fakes[name].connect()
    fakes[name].wait_online()


def test_what_nobody_told_is_found_in_the_database(
    hub: SmallHub,
    other: ControllerLink,
    fakes: dict[str, FakeController],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With no word between the processes, events, blocks and commands still arrive within seconds."""
    for link in (hub.link, other):
        monkeypatch.setattr(link.following, "_tell", lambda _: None)
    heard = Heard(hub.live)
    (name, *_) = served_by(other)
    fakes[name].record()
    eventually(lambda: heard.stored, "the event")
    heard.stop()
    back = other.revocation.reinstate(CARD, reason="found", actor="operator:test")
    version = back.versions[hub.site.id]
    eventually(lambda: all_hold(fakes, version), "every door has it")


def test_a_controller_retired_at_one_is_put_out_of_the_broker_of_the_other(
    hub: SmallHub, other: ControllerLink, fakes: dict[str, FakeController]
) -> None:
    """The process that runs the broker hears of it."""
    gone = fakes[NAMES[-1]]
    with hub.database.write() as connection:
        controllers.retire(connection, gone.id, datetime.now(UTC))
    other.site_changed()
    eventually(lambda: not gone._online.is_set(), "put out")
    gone.disconnect()


def test_nobody_is_gone_because_a_shard_changes_hands(
    hub: SmallHub, other: ControllerLink, fakes: dict[str, FakeController]
) -> None:
    """While a third process comes and goes, every controller that is connected stays online."""
    online = [ControllerId(name) for name in NAMES[:-1]]
    for name in online:
        fakes[name].heartbeat()
    eventually(lambda: all_online(hub, online), "all online")
    with beside(hub) as third:
        eventually(lambda: shared(hub.link, other, third), "three shares")
        assert all_online(hub, online)
    eventually(lambda: shared(hub.link, other), "two shares again")
    assert all_online(hub, online)


def all_online(hub: SmallHub, names: list[ControllerId]) -> bool:
    with hub.database.read() as connection:
        states = controllers.states(connection, datetime.now(UTC))
    return all(states[name].online for name in names)


def test_heads_that_another_moved_are_read_again(hub: SmallHub, other: ControllerLink) -> None:
    """A process that still thinks it serves a controller neither stores twice nor acknowledges what is not stored."""
    name = NAMES[0]
    fake = hub.controller(name)
    fake.confirms = False
    for _ in range(6):
        fake.journal.append(EventKind.DOOR_OPENED)
    topic = str(UpTopic(fake.id, Up.EVENTS))
    sent = [Message(topic, fake.journal.batch(fake.event_key, number, number)) for number in range(1, 7)]
    stale, owner = (other, hub.link) if hub.link.leases.standing.holds(fake.id) else (hub.link, other)
    stale.ingest._holds = lambda _: True
    try:
        stale.ingest._take(stale.ingest._read(sent[:2]))
        owner.ingest._take(owner.ingest._read(sent[:4]))
        stale.ingest._take(stale.ingest._read(sent[2:5]))
        owner.ingest._take(owner.ingest._read(sent))
    finally:
        stale.ingest._holds = stale._holds
    with hub.database.read() as connection:
        stored = [each.data for each in events.listing(connection, controller_id=fake.id, limit=10_000)]
    assert stored[-6:] == fake.journal.encoded


def all_hold(fakes: dict[str, FakeController], version: int) -> bool:
    return all(fake.versions[DocumentKind.REVOCATIONS] >= version for fake in fakes.values())


class Heard:
    """What a viewer is told, gathered from an event loop of its own."""

    def __init__(self, live: LiveBus) -> None:
        self.found: list[Any] = []
        self._live = live
        self._stop = threading.Event()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._follow()), daemon=True)
        self._thread.start()
        assert self._begun.wait(30)

    async def _follow(self) -> None:
        with self._live.subscribe() as subscription:
            self._begun.set()
            while not self._stop.is_set():
                try:
                    async with asyncio.timeout(0.1):
                        self.found += await subscription.batch()
                except TimeoutError:
                    continue

    @property
    def stored(self) -> list[EventStored]:
        events_heard = [each for each in self.found if isinstance(each, EventStored)]
        return [each for each in events_heard if each.kind is EventKind.DOOR_OPENED]

    def until_stored(self, count: int) -> list[EventStored]:
        eventually(lambda: len(self.stored) >= count, f"{count} events seen")
        self.stop()
        return self.stored

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)


names = st.lists(st.sampled_from(NAMES).map(ControllerId), max_size=20, unique=True).map(tuple)

station_taps = st.lists(
    st.builds(
        StationTap,
        tap_id=st.text(max_size=4),
        station_id=st.just(StationId("desk")),
        site_id=st.just(SiteId("site")),
        at=st.just(datetime(2027, 3, 1, tzinfo=UTC)),
        result=st.sampled_from(TapResult),
    ),
    max_size=3,
).map(tuple)


@given(
    flags=st.tuples(*[st.booleans()] * 5),
    changed=names,
    alarmed=names,
    process=st.text(max_size=20),
    taps=station_taps,
)
def test_news_comes_as_it_was_told(
    flags: tuple[bool, ...],
    changed: tuple[Any, ...],
    alarmed: tuple[Any, ...],
    process: str,
    taps: tuple[Any, ...],
) -> None:
    """Round trip."""
    said: dict[str, Any] = dict(
        zip(("events", "documents", "registry", "commands", "attended"), flags, strict=True)
    )
    news = News(process=process, changed=changed, alarmed=alarmed, taps=taps, **said)
    assert News.from_bytes(bytes(news)) == news


@given(data=st.binary(max_size=200))
def test_what_is_no_news_is_refused(data: bytes) -> None:
    """Whatever the bytes: news or ``MalformedData``."""
    try:
        News.from_bytes(data)
    except MalformedData:
        return


def test_too_much_news_is_refused() -> None:
    """More controllers than one message may name."""
    many = tuple(ControllerId(f"c{number}") for number in range(MAX_CONTROLLERS + 1))
    with pytest.raises(MalformedData):
        News.from_bytes(bytes(News(process="", changed=many)))
