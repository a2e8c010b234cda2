"""A list of people, card after card: what interrupts it, and that nobody gets two."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.card import personalisation
from pacs.errors import CardError, CardGone, MalformedData, StoreError
from pacs.identifiers import CardholderId, CredentialId, SiteId
from provisioning.card_batch import FAILURES_IN_A_ROW, Batch, BatchFile, Line, Outcome, Said
from provisioning.card_journal import CardJournal
from provisioning.card_list import CardList, Person
from provisioning.encoder import IssuedCard, Issuer, issue_card
from provisioning.hub_client import HubAway, HubError
from provisioning.site import create_site
from simulator.virtual_card import VirtualCard

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PEOPLE = CardList.from_bytes(b"external_id\nc-1\nc-2\nc-3\n").people


TEARS = (personalisation.INS_GENERATE_KEY, personalisation.INS_STORE_DATA, personalisation.INS_LOCK)
"""Tears at every APDU are those of test_torn_cards.py."""


class Killed(BaseException):
    """The program ends here."""


@dataclass
class World:
    """Hub, pile of cards, and the moment at which the program ends: before or after its ``end``-th step."""

    issuer: Issuer
    directory: Path
    end: int = 0
    step: int = 0
    registered: dict[str, list[str]] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    pile: list[VirtualCard] = field(default_factory=list)
    lying: VirtualCard | None = None
    known: set[str] = field(default_factory=lambda: {person.key for person in PEOPLE})
    said: list[Said] = field(default_factory=list)
    fault: HubError | None = None

    def tick(self) -> None:
        self.step += 1
        if self.step == self.end:
            raise Killed

    # ---- provisioning.card_batch.Hub

    def find_cardholder(self, key: str, *, by_id: bool) -> CardholderId | None:
        return CardholderId(key) if key in self.known and not by_id else None

    def has_card(self, cardholder: CardholderId) -> bool:
        return any(card not in self.revoked for card in self.registered.get(cardholder, []))

    def register(self, registration: Mapping[str, str], cardholder: CardholderId) -> None:
        self.tick()
        if self.fault is not None:
            raise self.fault
        cards = self.registered.setdefault(cardholder, [])
        if registration["credential_id"] not in cards:
            cards.append(registration["credential_id"])
        self.tick()

    def void_card(self, credential_id: CredentialId, cardholder: CardholderId) -> None:
        self.revoked.add(str(credential_id))
        self.registered.setdefault(cardholder, []).append(str(credential_id))

    # ---- provisioning.card_batch.Cards

    def make(self) -> IssuedCard:
        if self.lying is None:
            self.lying = next((each for each in self.pile if not each.locked), None)
        if self.lying is None:
            self.lying = VirtualCard()
            self.pile.append(self.lying)
        card = self.lying
        card.reset()

        def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
            meanwhile()
            answer = card.answer(command)
            if command[1] in TEARS:
                self.tick()
            return answer

        issued = issue_card(
            transceive, self.issuer, valid_from=date(2026, 3, 1), valid_until=date(2027, 3, 1), now=NOW
        )
        self.tick()
        return issued

    def next(self) -> None:
        self.tick()
        self.lying = None
        self.tick()

    # ----

    def run(self, end: int = 0, people: tuple[Person, ...] = PEOPLE) -> BatchFile:
        """Start the program, which ends at a step; again on the same files."""
        self.step, self.end = 0, end
        journal = CardJournal(self.directory / "journal")
        self.issuer = replace(self.issuer, journal=journal)
        world = self

        class File(BatchFile):
            def add(self, line: Line) -> None:
                world.tick()
                super().add(line)
                world.tick()

        file = File(self.directory / "batch.jsonl")
        Batch(self, self, journal, file, say=lambda said, _person, _text: self.said.append(said)).run(people)
        return file

    def check(self, people: tuple[Person, ...] = PEOPLE, *, put_away: bool = False) -> None:
        """Each person has one card that works, and each card that was issued is one person's; the rest is listed.

        ``put_away``: somebody took the card away when the program had ended, so that it may be unfinished still.
        """
        valid = {
            who: [card for card in cards if card not in self.revoked]
            for who, cards in self.registered.items()
        }
        assert {who: len(cards) for who, cards in valid.items()} == {person.key: 1 for person in people}
        given = [card for cards in valid.values() for card in cards]
        begun = [str(each.credential_id) for each in self.issuer.journal.all_unfinished()]
        locked = [str(card.credential_id) for card in self.pile if card.locked]
        assert len(set(given)) == len(given)
        assert set(locked) - set(begun) == set(given)
        if not put_away:
            assert (begun, len(locked)) == ([], len(self.pile))
        assert self.issuer.journal.voids() == []


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    site = create_site(tmp_path_factory.mktemp("batch") / "site", SiteId("wilgenoord"), now=NOW)
    issuer = Issuer.of(site, site.passphrase())
    return replace(issuer, keys=issuer.keys.with_simulated_batch())


@pytest.fixture
def world(issuer: Issuer, tmp_path: Path) -> World:
    return World(issuer, tmp_path)


def test_everybody_gets_one_card(world: World) -> None:
    """Card after card in the list's order; begun again, nothing more is done."""
    world.run()
    world.check()
    assert world.said == [Said.NEXT, Said.DONE] * 3
    steps = world.step
    world.run()
    assert (world.step, len(world.pile), steps) == (0, 3, 39)


@pytest.mark.parametrize("put_away", [False, True])
def test_killed_at_every_step(
    issuer: Issuer, tmp_path_factory: pytest.TempPathFactory, put_away: bool
) -> None:
    """Ended before or after each step of a card, each line of its file and each word to the hub, it goes on and doubles nothing."""
    people = PEOPLE[:2]
    for end in itertools.count(1):
        world = World(issuer, tmp_path_factory.mktemp("killed"))
        try:
            world.run(end, people)
        except Killed:
            if put_away:
                world.lying = None
            world.run(people=people)
            world.check(people, put_away=put_away)
        else:
            assert end == 27, "every step was an end"
            return


def test_somebody_who_has_a_card_and_somebody_unknown(world: World) -> None:
    """Neither is given one; the unknown is tried again by the next run, when the hub may know them."""
    world.registered["c-1"] = ["theirs"]
    world.known.remove("c-2")
    lines = world.run().lines
    assert [lines[key].outcome for key in ("c-1", "c-2", "c-3")] == [
        Outcome.HAS_A_CARD,
        Outcome.UNKNOWN,
        Outcome.ISSUED,
    ]
    world.known.add("c-2")
    assert world.run().lines["c-2"].outcome is Outcome.ISSUED
    assert len(world.pile) == 2


def test_the_hub_is_away_when_the_card_is_made(world: World) -> None:
    """The card is registered first when it is back, and needs not be on the reader."""
    world.fault = HubAway("no answer")
    with pytest.raises(HubAway):
        world.run()
    (made,) = world.pile
    world.fault = None
    world.pile, world.registered, world.lying = [], {}, None
    world.run()
    assert world.registered["c-1"] == [str(made.credential_id)]
    world.pile.insert(0, made)
    world.check()


def test_a_card_the_hub_refuses_is_void(world: World) -> None:
    """It is nobody's for good; the row is tried again by the next run, with another card."""
    world.fault = HubError("this person was erased")
    assert {line.outcome for line in world.run().lines.values()} == {Outcome.REFUSED}
    assert len(world.issuer.journal.voids()) == 3
    world.fault = None
    world.run()
    assert (len(world.revoked), world.issuer.journal.voids()) == (3, [])
    assert len(world.pile) == 6


def test_cards_that_cannot_be_issued_are_put_aside(world: World) -> None:
    """A dead card is said and taken away, and the person gets the next one; a pile of nothing else ends it."""
    world.pile = [VirtualCard(tries_left=0)]
    was = world.next

    def taken_away() -> None:
        if world.lying is not None and not world.lying.tries_left:
            world.pile.remove(world.lying)
        was()

    world.next = taken_away  # type: ignore[method-assign]
    world.run(people=PEOPLE[:1])
    assert world.said == [Said.NEXT, Said.NOT_USABLE, Said.DONE]
    world.pile = [VirtualCard(tries_left=0) for _ in range(FAILURES_IN_A_ROW)]
    with pytest.raises(CardError):
        world.run()


def test_a_card_that_is_somebodys_already(world: World) -> None:
    """It was registered by another program that was killed then: it is theirs, and neither given out twice nor voided."""
    theirs = world.make()
    world.lying = None
    world.fault = HubError("card exists with other content", "already_exists")
    world.lying = world.pile[0]
    assert world.run(people=PEOPLE[:1]).lines["c-1"].outcome is Outcome.REFUSED
    assert (world.issuer.journal.all_unfinished(), world.issuer.journal.voids()) == ([], [])
    world.fault = None
    world.run()
    assert str(theirs.credential_id) not in itertools.chain(*world.registered.values())


def test_a_line_that_was_cut_off(world: World) -> None:
    """Of a power cut in the middle of a line nothing is left; damage anywhere else is named, and nothing is issued."""
    world.run(people=PEOPLE[:1])
    path = world.directory / "batch.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"row": 3, "ke')
    world.run()
    world.check()
    path.write_bytes(b"\x00\x00\n" + whole)
    with pytest.raises(StoreError, match="line 1"):
        world.run()
    assert path.stat().st_mode & 0o777 == 0o600


@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.lists(st.text(max_size=8), max_size=4), max_size=5).map(
            lambda rows: ("external_id,given_name\n" + "\n".join(",".join(row) for row in rows)).encode(
                "utf-8", "surrogatepass"
            )
        ),
    )
)
def test_any_list(raw: bytes) -> None:
    """A list is read or refused; what is read names each person once, in the order of the rows."""
    try:
        listed = CardList.from_bytes(raw)
    except MalformedData:
        return
    keys = [person.key for person in listed.people]
    assert len(set(keys)) == len(keys) > 0
    assert [person.row for person in listed.people] == sorted({person.row for person in listed.people})


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "first row"),
        (b"name\nx\n", "first row"),
        (b"external_id,external_id\nx,y\n", "first row"),
        (b"external_id\n", "people expected"),
        (b"external_id\nx\nx\n", "rows 2 and 3"),
        (b"external_id,given_name\n,Ama\n", "row 2"),
        (b"external_id\n\xff\n", "UTF-8"),
    ],
)
def test_lists_that_are_refused(raw: bytes, problem: str) -> None:
    """Each fault of a list is named, with its row."""
    with pytest.raises(MalformedData, match=problem):
        CardList.from_bytes(raw)


def test_lists_of_both_kinds() -> None:
    """Names make it one that the hub imports; ids of the hub's own do for people it knows; Excel's marks do not matter."""
    names = CardList.from_bytes("\ufeffexternal_id;given_name;family_name\r\nc-1;Ama;Mensah\r\n".encode())
    assert (names.names_people, names.people[0].name, names.people[0].by_id) == (True, "Ama Mensah", False)
    ids = CardList.from_bytes(b"cardholder_id\nr-1\n\nr-2\n")
    assert (ids.names_people, [person.row for person in ids.people], ids.people[0].by_id) == (
        False,
        [2, 4],
        True,
    )


def test_a_card_pulled_away_is_asked_for_again(world: World) -> None:
    """Torn cards are begun anew for the same person; too many in a row end it, and it goes on later."""
    made, tears = world.make, itertools.count()

    def torn() -> IssuedCard:
        if next(tears) < 2:
            raise CardGone
        return made()

    world.make = torn  # type: ignore[method-assign]
    world.run(people=PEOPLE[:1])
    assert world.said == [Said.NEXT, Said.TORN, Said.TORN, Said.DONE]
