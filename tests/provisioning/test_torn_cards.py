"""A card pulled away, power lost and the program killed, at every single APDU and at every step of the journal."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.card.card_keys import CardSerial
from pacs.card.personalisation import Life, Made
from pacs.errors import CardError, CardGone, StoreError
from pacs.identifiers import SiteId
from provisioning import card_journal
from provisioning.card_journal import DIRECTORY_NAME, CardJournal
from provisioning.card_keys import replace_secret
from provisioning.encoder import IssuedCard, Issuer, issue_card, issue_v1_card, reset_card
from provisioning.site import create_site
from simulator.card_issuing import Profile
from simulator.virtual_card import VirtualCard

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FROM, UNTIL = date(2026, 3, 1), date(2027, 3, 1)
APDUS = {Profile.V2: 13, Profile.V1: 10}
"""Of one issue, the tap at its end included."""


class Killed(BaseException):
    """The program ends here: nothing it would have done after this is done."""


class Tear(StrEnum):
    COMMAND_LOST = "the card never got the command"
    ANSWER_LOST = "the card did it, and was pulled before it answered"
    KILLED = "the program was killed before it heard the answer"


@dataclass
class Torn:
    """The way to a card, torn at one APDU."""

    card: VirtualCard
    at: int
    tear: Tear
    count: int = 0

    def __call__(self, command: bytes, meanwhile: Callable[[], None]) -> bytes:
        self.count += 1
        is_here = self.count == self.at
        if is_here and self.tear is Tear.COMMAND_LOST:
            raise CardGone
        answer = self.card.answer(command)
        meanwhile()
        if is_here:
            raise Killed if self.tear is Tear.KILLED else CardGone
        return answer


@dataclass
class Desk:
    """An issuing desk whose program can be started again, on the same journal."""

    issuer: Issuer
    now: datetime
    directory: Path
    certified: list[str] = field(default_factory=list)

    def restarted(self) -> Issuer:
        self.issuer = replace(self.issuer, journal=CardJournal(self.directory))
        return self.issuer

    def issue(self, card: VirtualCard, at: int = 0, tear: Tear = Tear.COMMAND_LOST) -> IssuedCard:
        card.reset()
        link = Torn(card, at, tear)
        if card.profile is Profile.V1:
            return issue_v1_card(link, self.restarted(), now=self.now)
        return issue_card(link, self.restarted(), valid_from=FROM, valid_until=UNTIL, now=self.now)

    def log(self, what: str) -> list[str]:
        """The credential ids of the lines that say so."""
        path = self.directory / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split()[-1] for line in lines if f" {what} " in line]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    site = create_site(tmp_path_factory.mktemp("issuer") / "site", SiteId("wilgenoord"), now=NOW)
    issuer = Issuer.of(site, site.passphrase())
    return replace(issuer, keys=issuer.keys.with_simulated_batch())


@pytest.fixture
def desk(issuer: Issuer, tmp_path: Path) -> Desk:
    return Desk(issuer, NOW, tmp_path / DIRECTORY_NAME)


def check(desk: Desk, card: VirtualCard, issued: IssuedCard) -> None:
    """One credential is on the card; every other that was certified is void; nothing is left to do."""
    assert card.life is Life.LOCKED
    assert card.credential_id == issued.credential_id
    certified, void = desk.log("certified"), desk.log("void")
    assert certified.count(str(issued.credential_id)) == 1
    assert set(certified) - {str(issued.credential_id)} == set(void)
    assert [str(each) for each in desk.restarted().journal.voids()] == sorted(void)
    desk.issuer.journal.given_out(issued.serial)
    assert desk.issuer.journal.all_unfinished() == []
    with pytest.raises(CardError) as caught:
        desk.issue(card)
    assert caught.value.status_word == 0x6985


@pytest.mark.parametrize("profile", Profile)
def test_the_table_is_exhaustive(desk: Desk, profile: Profile) -> None:
    """An issue has so many APDUs and no more, so that the tables below tear at each of them."""
    card = VirtualCard(profile=profile)
    link = Torn(card, 0, Tear.COMMAND_LOST)
    if profile is Profile.V1:
        issue_v1_card(link, desk.issuer, now=desk.now)
    else:
        issue_card(link, desk.issuer, valid_from=FROM, valid_until=UNTIL, now=desk.now)
    assert link.count == APDUS[profile]


@pytest.mark.parametrize("tear", Tear)
@pytest.mark.parametrize(
    ("profile", "at"),
    [(profile, at) for profile, count in APDUS.items() for at in range(1, count + 1)],
    ids=str,
)
def test_torn_at_every_apdu(desk: Desk, profile: Profile, at: int, tear: Tear) -> None:
    """Torn anywhere, a card is finished when it is presented again: with the same certificate, once there was one."""
    card = VirtualCard(profile=profile)
    with pytest.raises((CardGone, Killed)):
        desk.issue(card, at, tear)
    certified = desk.log("certified")
    issued = desk.issue(card)
    assert issued.resumed is bool(certified)
    assert certified in ([], [str(issued.credential_id)])
    assert desk.log("void") == []
    check(desk, card, issued)


@pytest.mark.parametrize("second", range(1, APDUS[Profile.V2] + 1))
@pytest.mark.parametrize("first", [5, 6, 7, 9, 10, 11])
def test_torn_twice(desk: Desk, first: int, second: int) -> None:
    """A card that is torn again while it is finished is finished the third time, still with one certificate."""
    card = VirtualCard()
    with pytest.raises(CardGone):
        desk.issue(card, first, Tear.ANSWER_LOST)
    try:
        issued = desk.issue(card, second, Tear.ANSWER_LOST)
    except CardGone:
        issued = desk.issue(card)
    assert len(desk.log("certified")) == 1
    check(desk, card, issued)


def killed_at(number: int) -> Callable[..., Any]:
    """``replace_secret``, after whose ``number``-th call the program is no more; before it, when negative."""
    calls = itertools.count(1)
    real = replace_secret

    def write(path: Path, data: bytes) -> None:
        call = next(calls)
        if call == -number:
            raise Killed
        real(path, data)
        if call == number:
            raise Killed

    return write


@pytest.mark.parametrize("number", [-1, 1, -2, 2])
def test_killed_at_every_step_of_the_journal(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Before or after each file is written, what was certified is on the card, or in the journal, or on no card."""
    card = VirtualCard()
    with monkeypatch.context() as patch:
        patch.setattr(card_journal, "replace_secret", killed_at(number))
        with pytest.raises(Killed):
            desk.issue(card)
    if number == -1:  # it stands in the log alone: the certificate was in no file and on no card
        (desk.directory / "log").unlink()
    check(desk, card, desk.issue(card))


def interrupted(desk: Desk) -> Iterator[tuple[str, VirtualCard]]:
    """Cards that were certified and not finished, and then are not what they were."""
    for tear_at in (6, 7, 8, 10):
        for what in ("reset elsewhere", "reset here", *(["begun elsewhere"] if tear_at < 10 else [])):
            card = VirtualCard()
            with pytest.raises(CardGone):
                desk.issue(card, tear_at, Tear.ANSWER_LOST)
            yield what, card


def test_what_cannot_be_finished_is_void(desk: Desk, tmp_path: Path) -> None:
    """A card that lost the certified key meanwhile gets another certificate, and the first is never used."""
    elsewhere = replace(desk.issuer, journal=CardJournal(tmp_path / "other"))
    for what, card in interrupted(desk):
        before = set(desk.log("certified"))
        if what == "begun elsewhere":
            with pytest.raises(CardGone):
                issue_card(
                    Torn(card, 6, Tear.ANSWER_LOST),
                    elsewhere,
                    valid_from=FROM,
                    valid_until=UNTIL,
                    now=desk.now,
                )
        else:
            reset_card(
                Torn(card, 0, Tear.COMMAND_LOST), elsewhere if "elsewhere" in what else desk.restarted()
            )
        issued = desk.issue(card)
        assert str(issued.credential_id) not in before
        assert not issued.resumed
        desk.issuer.journal.given_out(issued.serial)
    given = set(desk.log("given out"))
    assert set(desk.log("certified")) - given == set(desk.log("void"))
    assert desk.issuer.journal.all_unfinished() == []


@pytest.mark.parametrize("at", [6, 8, 10, 13])
def test_what_was_begun_for_other_days_is_void(desk: Desk, at: int) -> None:
    """A torn card that is now wanted for other days is issued anew, also when it was locked already."""
    card = VirtualCard()
    with pytest.raises(CardGone):
        desk.issue(card, at, Tear.ANSWER_LOST)
    link = Torn(card, 0, Tear.COMMAND_LOST)
    issued = issue_card(link, desk.restarted(), valid_from=FROM, valid_until=FROM, now=desk.now)
    assert (issued.valid_until, issued.resumed, issued.serial) == (FROM, False, card.serial)
    assert set(desk.log("certified")) == {*desk.log("void"), str(issued.credential_id)}
    check(desk, card, issued)


def test_a_void_credential_is_never_finished(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between saying that it is void and forgetting it, the journal does not bring it back."""
    card = VirtualCard()
    with pytest.raises(CardGone):
        desk.issue(card, 9, Tear.ANSWER_LOST)
    (begun,) = desk.restarted().journal.all_unfinished()
    with monkeypatch.context() as patch:
        patch.setattr(card_journal, "replace_secret", killed_at(1))
        with pytest.raises(Killed):
            desk.issuer.journal.void(begun.serial, begun.credential_id)
    assert desk.restarted().journal.unfinished(begun.serial) is None
    issued = desk.issue(card)
    assert issued.credential_id != begun.credential_id
    assert desk.issuer.journal.voids() == [begun.credential_id]
    desk.issuer.journal.reported(begun.credential_id)
    assert desk.issuer.journal.voids() == []


def test_the_journal_holds_no_name_and_is_read_by_its_owner(desk: Desk) -> None:
    """Its folder is 0700 and its files 0600; they hold chips, keys, certificates and dates."""
    with pytest.raises(CardGone):
        desk.issue(VirtualCard(), 9, Tear.ANSWER_LOST)
    desk.issuer.journal.void(
        CardSerial(b"SIM0" + bytes(6)), desk.issuer.journal.all_unfinished()[0].credential_id
    )
    assert desk.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in desk.directory.iterdir()} == {0o600}


@given(st.binary(max_size=60))
def test_any_file_of_the_journal(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """A damaged file is named; it is never taken for an empty one."""
    directory = tmp_path_factory.mktemp("journal")
    serial = CardSerial(b"SIM0" + bytes(6))
    journal = CardJournal(directory)
    journal.certified(serial, Made(public_key=bytes(65), certificate=None))
    (directory / f"{serial}.json").write_bytes(data)
    with pytest.raises(StoreError, match="SIM0-000000000000"):
        journal.unfinished(serial)
