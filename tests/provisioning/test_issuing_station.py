"""The issuing station's loop: what goes wrong at the card, the reader and the hub, and what it says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pacs.card.dialogue import Transceive
from pacs.credential import Technology
from pacs.errors import CardGone, ReaderBroken
from pacs.identifiers import CredentialId
from provisioning import desk_commands
from provisioning.authority import generate_key
from provisioning.card_journal import CardJournal
from provisioning.card_keys import CardKeys
from provisioning.encoder import Issuer
from provisioning.hub_client import HubAway, HubError
from provisioning.issuing_station import WAIT_FOR_CARD_S, Handed, IssuingStation
from provisioning.station_hub import Job, JobLost, StationHub
from simulator.card_issuing import Profile
from simulator.virtual_card import VirtualCard

TODAY = datetime.now(UTC).date()
KEY, KEYS = generate_key(), CardKeys.generate().with_simulated_batch()


class FakeHub(StationHub):
    """Gives one job, and keeps what it is told; ``says`` may raise at a step."""

    def __init__(self) -> None:
        super().__init__("http://localhost", "token")
        self.told: list[str] = []
        self.made: list[dict[str, str]] = []
        self.jobs = [job()]
        self.says: Callable[[str], None] = lambda _what: None

    def heartbeat(self, run: str, *, works: bool) -> tuple[str, float]:
        self.says("heartbeat")
        self.told.append(f"works={works}")
        return "desk", 0.0

    def take(self) -> Job | None:
        self.says("take")
        return self.jobs.pop(0) if self.jobs else None

    def step(self, job: Job, step: str, *, timeout_s: float = 0) -> None:
        self.says(step)
        self.told.append(step)

    def put_back(self, job: Job) -> None:
        self.told.append("put_back")

    def done(self, job_id: str, attempt: str, card: Any) -> None:
        self.says("done")
        self.told.append("done")
        self.made.append(dict(card))

    def voided(self, job_id: str, credential_id: CredentialId) -> None:
        self.says("voided")
        self.told.append(f"voided={credential_id} under={job_id[:4]}")

    def failed(self, job: Job, failure: str, *, spoilt: bool, card: Any = None) -> None:
        self.says("failed")
        self.told.append(f"failed={failure} spoilt={spoilt}")


def job(job_id: str = "1" * 32, days: int = 30) -> Job:
    return Job(
        id=job_id,
        attempt="2" * 32,
        technology=Technology.PKOC_V2,
        first_day=TODAY,
        last_day=TODAY + timedelta(days=days),
        lease_s=30,
    )


class Bench:
    """A station at a reader that holds, one after the other, what a test lays on it: a card, or what it raises."""

    def __init__(self, path: Path) -> None:
        self.hub = FakeHub()
        self.issuer = issuer_in(path)
        self.handed = Handed(path / "made.json", self.issuer.journal)
        self.laid: list[Callable[[], Transceive]] = []
        self.said: list[str] = []
        self.now = 0.0
        self.station = self.fresh()

    def fresh(self) -> IssuingStation:
        """The program, started again."""

        def issue(card: Transceive, job: Job, progress: Callable[[str], None]) -> Any:
            return desk_commands.issue(self.issuer, card, job, progress)

        return IssuingStation(
            self.hub,
            self._reader,
            issue,
            self.handed,
            say=lambda what, _text, _about: self.said.append(what),
            rest=self._rest,
            monotonic=lambda: self.now,
        )

    def _rest(self, seconds: float) -> None:
        self.now += seconds
        if not self.hub.jobs and any(
            each.startswith(("done", "failed", "put_back")) for each in self.hub.told
        ):
            self.station.stop()

    @contextmanager
    def _reader(self) -> Iterator[Transceive]:
        if not self.laid:
            raise CardGone("no card")
        yield (self.laid.pop(0) if len(self.laid) > 1 else self.laid[0])()

    @property
    def steps(self) -> list[str]:
        return [each for each in self.hub.told if not each.startswith("works")]


def whole(card: VirtualCard) -> Callable[[], Transceive]:
    return lambda: lambda command, _meanwhile: card.answer(command)


def pulled(card: VirtualCard, after: int) -> Callable[[], Transceive]:
    """The card leaves the field after so many answers."""

    def laid() -> Transceive:
        left = iter(range(after))

        def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
            meanwhile()
            if next(left, None) is None:
                raise CardGone("pulled")
            return card.answer(command)

        return transceive

    return laid


def broken() -> Transceive:
    raise ReaderBroken("unplugged")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def blank() -> VirtualCard:
    return VirtualCard(profile=Profile.V2)


def issued(path: Path) -> VirtualCard:
    card, issuer = blank(), issuer_in(path / "before")
    desk_commands.issue(issuer, whole(card)(), job(), lambda _step: None)
    return card


def issuer_in(path: Path) -> Issuer:
    return Issuer(reference="AGENCY0000000001", key=KEY, keys=KEYS, journal=CardJournal(path / "journal"))


def test_a_card_is_made_step_by_step(bench: Bench) -> None:
    """Each step is told once it is done, the card is handed in, and nothing stays written down."""
    bench.laid = [whole(blank())]
    bench.station.run()
    assert bench.steps == [
        "waiting_for_card",
        "card_found",
        "key_made",
        "certificate_written",
        "locked",
        "checked",
        "done",
    ]
    assert bench.handed.get() is None
    assert bench.said[-2:] == ["issued", "stopped"]


def test_an_issued_card_is_not_touched(bench: Bench, tmp_path: Path) -> None:
    """It is said once that it is not blank, and the blank one that follows is made; the hub can cancel meanwhile."""
    card = issued(tmp_path)
    before = card.certificate
    bench.laid = [whole(card), whole(card), whole(card), whole(blank())]
    bench.station.run()
    assert bench.said.count("card_not_blank") == 1
    assert card.certificate == before
    assert bench.steps[:3] == ["waiting_for_card", "card_found", "waiting_for_card"]
    assert bench.steps[-1] == "done"


def test_a_card_that_is_torn_away_is_asked_for_again(bench: Bench) -> None:
    """The same card laid down again is finished."""
    card = blank()
    bench.laid = [pulled(card, 8), whole(card)]
    bench.station.run()
    assert bench.said.count("card_torn") == 1
    assert bench.steps[-1] == "done"


def test_a_card_that_is_torn_away_time_and_again_ends_the_job(bench: Bench) -> None:
    """With the reason; the card is not spoilt, and is finished with the certificate it has by the next job."""
    card = blank()
    bench.laid = [pulled(card, 10)]
    bench.station.run()
    assert bench.steps[-1] == "failed=card_removed spoilt=False"
    (begun,) = bench.issuer.journal.all_unfinished()
    bench.hub.jobs, bench.hub.told, bench.laid = [job()], [], [whole(card)]
    bench.station = bench.fresh()
    bench.station.run()
    assert bench.hub.made[0]["credential_id"] == str(begun.credential_id)
    assert bench.issuer.journal.all_unfinished() == []


def test_the_hub_is_told_of_an_id_that_is_on_no_card(bench: Bench) -> None:
    """A torn card that is issued anew for other days: its first id is kept while the hub is away, and told after a restart."""
    card = blank()
    bench.laid = [pulled(card, 10)]
    bench.station.run()
    (begun,) = bench.issuer.journal.all_unfinished()

    def away(what: str) -> None:
        if what == "voided":
            bench.station.stop()
            raise HubAway("no route")

    bench.hub.jobs, bench.hub.told, bench.laid = [job("3" * 32, days=60)], [], [whole(card)]
    bench.hub.says, bench.station = away, bench.fresh()
    bench.station.run()
    assert bench.hub.made[0]["credential_id"] != str(begun.credential_id)
    assert bench.issuer.journal.voids() == [begun.credential_id]

    bench.hub.jobs, bench.hub.told = [job("4" * 32)], []
    bench.hub.says, bench.laid, bench.station = lambda _what: None, [whole(blank())], bench.fresh()
    bench.station.run()
    assert f"voided={begun.credential_id} under=4444" in bench.hub.told
    assert bench.issuer.journal.voids() == []


def test_a_card_that_the_hub_will_never_take_is_told_as_void(bench: Bench) -> None:
    """A job the hub has forgotten: with the next one it hears that this id is on no card in use."""

    def forgotten(what: str) -> None:
        if what == "done" and not bench.hub.made:
            bench.hub.says = lambda _what: None
            bench.hub.jobs = [job("5" * 32)]
            raise HubError("not there", "not_found")

    bench.hub.says, bench.laid = forgotten, [whole(card := blank()), whole(card), whole(blank())]
    bench.station.run()
    (void,) = [each for each in bench.hub.told if each.startswith("voided=")]
    assert bench.hub.made[0]["credential_id"] not in void


def test_nobody_lays_a_card_down(bench: Bench) -> None:
    """The job ends after its time, and no card is spoilt."""
    bench.station.run()
    assert bench.now >= WAIT_FOR_CARD_S
    assert bench.steps[-1] == "failed=no_card spoilt=False"
    assert bench.steps.count("waiting_for_card") > WAIT_FOR_CARD_S / 10


def test_a_broken_reader_is_waited_for(bench: Bench) -> None:
    """It is said once, the hub is told that the station does not work, and the card is made when the reader is back."""
    bench.laid = [broken, broken, whole(blank())]
    bench.station.run()
    assert bench.said.count("reader_broken") == bench.said.count("reader_works") == 1
    assert "works=False" in bench.hub.told
    assert bench.steps[-1] == "done"


def test_no_card_is_begun_while_the_hub_is_away(bench: Bench) -> None:
    """The card stays blank until the hub has said that it is still wanted."""
    card, silences = blank(), list(range(4))

    def away(what: str) -> None:
        if silences and (what == "card_found" or len(silences) < 4):
            silences.pop()
            assert not card.public_key
            raise HubAway("no route")

    bench.hub.says = away
    bench.laid = [whole(card)]
    bench.station.run()
    assert bench.said.count("hub_away") == bench.said.count("hub_back") == 1
    assert bench.steps[-1] == "done"


def test_a_card_that_was_begun_is_finished_without_the_hub(bench: Bench) -> None:
    """Written down until the hub is there; a program that ended meanwhile hands it in when it starts again."""

    def away(what: str) -> None:
        if what in ("key_made", "done"):
            bench.station.stop()
            raise HubAway("no route")

    bench.hub.says = away
    card = blank()
    bench.laid = [whole(card)]
    bench.station.run()
    assert card.locked
    assert bench.hub.made == []
    bench.hub.says = lambda _what: None
    bench.station = bench.fresh()
    bench.station.run()
    (made,) = bench.hub.made
    assert made["public_key"] == card.public_key.hex()
    assert bench.handed.get() is None


@pytest.mark.parametrize("at", ["card_found", "done"])
def test_a_job_that_ended_makes_no_card(bench: Bench, at: str) -> None:
    """Cancelled before it was begun, the card stays blank; after that it is void, and said so."""
    card = blank()

    def over(what: str) -> None:
        if what == at:
            bench.hub.told.append("done")
            raise JobLost("cancelled", "job_over")

    bench.hub.says = over
    bench.laid = [whole(card)]
    bench.station.run()
    assert card.locked is (at == "done")
    assert ("card_void" if at == "done" else "job_ended") in bench.said
    assert bench.hub.made == []


def test_stopping_gives_back_a_job_of_which_nothing_was_written(bench: Bench) -> None:
    """SIGTERM while it waits for a card."""
    bench.hub.says = lambda what: bench.station.stop() if what == "waiting_for_card" else None
    bench.station.run()
    assert bench.steps == ["waiting_for_card", "put_back"]


def test_a_hub_that_refuses_the_token_is_named(bench: Bench) -> None:
    """It is said once, and asked again: a technician may give the station another token."""
    refusals = iter(range(3))

    def refuse(what: str) -> None:
        if what == "heartbeat" and next(refusals, None) is not None:
            raise HubError("status 401", "not_signed_in")

    bench.hub.says = refuse
    bench.laid = [whole(blank())]
    bench.station.run()
    assert bench.said[0] == "hub_away"
    assert bench.said.count("hub_away") == 1
    assert bench.steps[-1] == "done"


def test_days_that_no_certificate_can_hold(bench: Bench) -> None:
    """The station says that it is at fault, and no card is spoilt."""
    bench.hub.jobs = [
        Job(
            id="1" * 32,
            attempt="2" * 32,
            technology=Technology.PKOC_V2,
            first_day=TODAY,
            last_day=date(2100, 1, 1),
            lease_s=30,
        )
    ]
    bench.laid = [whole(blank())]
    bench.station.run()
    assert bench.steps[-1] == "failed=issuer_fault spoilt=False"
