"""Stations: who may report, what is made of each card, and for which times a record is whole."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.live import LiveBus
from hub.roles import Role
from hub.station_taps import REFUSALS, StationTap, TapResult
from hub.stations import CardAnswer, Stations
from hub.store import stations
from hub.store.stations import Station
from pacs.credential import Technology
from pacs.errors import MalformedData
from pacs.identifiers import CardholderId, SiteId, StationId
from tests.hub.running import RunningHub, running_hub
from tests.hub.station import FakeStation, card_of
from tests.pacs.strategies import credential_ids, moments, names


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("stations")) as running:
        yield running


@pytest.fixture(scope="module")
def desk(hub: RunningHub) -> FakeStation:
    return FakeStation(hub, "front-desk")


@pytest.fixture
def told(hub: RunningHub) -> Iterator[list[StationTap]]:
    """Every tap that is published meanwhile."""
    found: list[StationTap] = []
    live: LiveBus = hub.app.state.services.live
    live.relay = lambda events: found.extend(each for each in events if isinstance(each, StationTap))
    yield found
    live.relay = None


# -- what is made of a card -------------------------------------------------------------------------


def test_a_good_card_is_its_holders(hub: RunningHub, desk: FakeStation, told: list[StationTap]) -> None:
    """The tap names credential, person, station and site; the reader learns nothing of it."""
    credential = hub.card()
    answer = desk.tap(card_of(hub, credential))
    assert answer.status_code == 200, answer.text
    (tap,) = told
    assert (tap.result, tap.credential_id) == (TapResult.VALID, credential)
    assert (tap.station_id, tap.site_id) == ("front-desk", "test-site")
    with hub.token() as program:
        assert tap.cardholder_id == program.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
    heard = desk.heartbeat().json()
    assert answer.json() | {"at": "", "random": ""} == heard | {"at": "", "random": ""}


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        ("genuine", TapResult.UNKNOWN),
        ("v1", TapResult.UNKNOWN),
        ("forged", TapResult.FORGED),
        ("cloned", TapResult.FORGED),
        ("unknown-issuer", TapResult.ISSUER_UNKNOWN),
    ],
)
def test_a_card_that_is_nobodys_names_nobody(
    hub: RunningHub, desk: FakeStation, told: list[StationTap], kind: str, result: TapResult
) -> None:
    """What is not authentic names no credential; what is authentic and not enrolled names no person."""
    desk.tap(card_of(hub, kind=kind))
    (tap,) = told
    assert (tap.result, tap.cardholder_id) == (result, None)
    assert (tap.credential_id is not None) is (result is TapResult.UNKNOWN)


@pytest.mark.parametrize(
    ("kind", "result"),
    [("expired", TapResult.EXPIRED), ("not-yet-valid", TapResult.NOT_YET_VALID)],
)
def test_a_cards_own_days_count(
    hub: RunningHub, desk: FakeStation, told: list[StationTap], kind: str, result: TapResult
) -> None:
    """The days in the certificate, whatever the hub has registered; whose it is stays known."""
    desk.tap(card_of(hub, hub.card(), kind))
    assert (told[0].result, told[0].cardholder_id is not None) == (result, True)


@pytest.mark.parametrize("status", ["suspended", "revoked"])
def test_a_blocked_card_says_so(
    hub: RunningHub, desk: FakeStation, told: list[StationTap], status: str
) -> None:
    """Whoever found it may be somebody else: the person is named, so that a guard can compare."""
    credential = hub.card()
    with hub.token() as program:
        block = {"status": status, "reason": "Lost in the bus"}
        assert program.post(f"/api/v1/cards/{credential}/block", json=block).is_success
    desk.tap(card_of(hub, credential))
    assert (told[0].result, told[0].cardholder_id is not None) == (TapResult(status), True)


def test_a_card_ends_with_its_holders_stay(
    hub: RunningHub, desk: FakeStation, told: list[StationTap]
) -> None:
    """What the hub says of person and card bounds the card, to the moment."""
    credential = hub.card()
    with hub.token() as program:
        person = program.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
        for change, result in (
            ({"valid_until": "2020-01-01T00:00:00Z"}, TapResult.EXPIRED),
            ({"valid_until": None, "valid_from": "2099-01-01T00:00:00Z"}, TapResult.NOT_YET_VALID),
        ):
            assert program.patch(f"/api/v1/cardholders/{person}", json=change).status_code == 200
            desk.tap(card_of(hub, credential))
            assert told.pop().result is result


def test_a_card_of_another_site_is_not_known(
    hub: RunningHub, desk: FakeStation, told: list[StationTap]
) -> None:
    """It answers as if it were not there."""
    with hub.token() as program:
        program.post("/api/v1/sites", json={"id": "elsewhere", "name": "Elsewhere"})
    desk.tap(card_of(hub, hub.card(site="elsewhere")))
    assert (told[0].result, told[0].cardholder_id) == (TapResult.UNKNOWN, None)


@pytest.mark.parametrize(
    ("fault", "result"), [("card_gone", TapResult.NOT_READ), ("not_pkoc", TapResult.NOT_OURS)]
)
def test_a_card_that_is_not_read_says_so(
    desk: FakeStation, told: list[StationTap], fault: str, result: TapResult
) -> None:
    """To be held again, or of a kind that is not read at all."""
    assert desk.not_read(fault).status_code == 200
    assert told[0].result is result


# -- freshness --------------------------------------------------------------------------------------


def test_a_recorded_answer_is_worth_nothing(
    hub: RunningHub, desk: FakeStation, told: list[StationTap]
) -> None:
    """Not again, not for a later challenge, not at another station, not after its time."""
    card = card_of(hub, hub.card())
    recorded = desk.answered(card)
    desk.pass_on(recorded)
    desk.pass_on(recorded)
    desk.pass_on(recorded | {"random": desk.following["random"]})
    other = FakeStation(hub, "back-desk")
    other.heartbeat()
    other.pass_on(recorded)
    other.pass_on(recorded | {"random": other.following["random"]})
    assert [tap.result for tap in told] == [TapResult.VALID, *[TapResult.REPLAYED] * 4]
    late = desk.answered(card)
    hub.clock.ahead += timedelta(minutes=2)
    desk.pass_on(late)
    hub.clock.ahead -= timedelta(minutes=2)
    assert told[-1].result is TapResult.REPLAYED


def test_the_hub_checks_what_it_asked_for(hub: RunningHub, desk: FakeStation, told: list[StationTap]) -> None:
    """An answer to a challenge of one's own choice is forged, however good the card."""
    desk.heartbeat()
    issued = desk.following
    desk.following = issued | {"random": secrets.token_hex(16)}
    own = desk.answered(card_of(hub, hub.card()))
    desk.pass_on(own | {"random": issued["random"]})
    assert (told[0].result, told[0].credential_id) == (TapResult.FORGED, None)


# -- who may report ---------------------------------------------------------------------------------


def test_a_token_reports_and_nothing_else(hub: RunningHub) -> None:
    """A station reads nothing, an operator's token reports nothing, a new token ends the old one, retiring all."""
    station = FakeStation(hub, "side-desk")
    assert station.heartbeat().status_code == 200
    with station.client() as thief:
        for path in ("/api/v1/stations", "/api/v1/cardholders", "/api/v1/events", "/"):
            assert thief.get(path).status_code in (303, 401), path
    with hub.token() as program:
        body = {"run": "0" * 32, "works": True}
        assert program.post("/api/v1/station/heartbeat", json=body).status_code == 401
        renewed = program.post("/api/v1/stations/side-desk/token").json()["token"]
        assert station.heartbeat().status_code == 401
        station.token = renewed
        assert station.heartbeat().status_code == 200
        assert program.delete("/api/v1/stations/side-desk").status_code == 204
        assert program.delete("/api/v1/stations/side-desk").status_code == 204
        assert program.post("/api/v1/stations/side-desk/token").status_code == 404
    answer = station.heartbeat()
    assert (answer.status_code, "No station in use" in answer.json()["detail"]) == (401, True)


def test_stations_are_made_by_those_who_set_up_doors(hub: RunningHub) -> None:
    """A technician of the site makes and sees them, a guard does not, nor whoever has another site."""
    station = {"id": "made-by-hand", "kind": "kiosk", "name": "Kiosk", "site_id": "test-site"}
    with hub.token(Role.GUARD) as guard:
        assert guard.post("/api/v1/stations", json=station).status_code == 403
    with hub.token(Role.TECHNICIAN, frozenset({SiteId("test-site")})) as technician:
        made = technician.post("/api/v1/stations", json=station)
        assert made.status_code == 201, made.text
        assert technician.post("/api/v1/stations", json=station).status_code == 409
        listed = technician.get("/api/v1/stations").json()["stations"]
        mine = next(each for each in listed if each["id"] == "made-by-hand")
        assert (mine["kind"], mine["heard_at"]) == ("kiosk", None)
        assert made.json()["token"] not in str(listed)
    with hub.token() as admin:
        admin.post("/api/v1/sites", json={"id": "further", "name": "Further"})
    with hub.token(Role.TECHNICIAN, frozenset({SiteId("further")})) as stranger:
        assert stranger.get("/api/v1/stations").json()["stations"] == []
        assert stranger.delete("/api/v1/stations/made-by-hand").status_code == 404


def test_a_station_that_floods_is_slowed_down(hub: RunningHub) -> None:
    """More reports than people can tap cards are refused, with the time to wait."""
    station = FakeStation(hub, "mad-desk")
    with hub.database.read() as connection:
        counted = stations.get(connection, StationId("mad-desk"))
    for _ in range(119):
        hub.app.state.services.attempts.count_report(counted)
    assert station.heartbeat().status_code == 200
    refused = station.heartbeat()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")


@pytest.mark.parametrize(
    "change",
    [
        {"certificate": None, "public_key": None},
        {"technology": "pkoc-v1"},
        {"signature": "00"},
        {"random": "zz"},
        {"certificate": "0"},
        {"name": "Ama"},
    ],
)
def test_a_presentation_that_is_none_is_refused(
    hub: RunningHub, desk: FakeStation, told: list[StationTap], change: dict[str, Any]
) -> None:
    """With the name of the field, and without using up the challenge."""
    answered = desk.answered(card_of(hub, hub.card()))
    assert desk.pass_on(answered | change).status_code == 422
    assert desk.pass_on(answered).status_code == 200
    assert [tap.result for tap in told] == [TapResult.VALID]


@pytest.fixture(scope="module")
def hostile(hub: RunningHub) -> Station:
    found: Station | None = hub.app.state.services.stations.by_token(FakeStation(hub, "hostile-desk").token)
    assert found is not None
    return found


@given(certificate=st.binary(min_size=1, max_size=300), signature=st.binary(min_size=64, max_size=64))
def test_whatever_a_card_sends_has_a_result(
    hub: RunningHub, hostile: Station, certificate: bytes, signature: bytes
) -> None:
    """Bytes of a hostile card end in a named result, never in an error."""
    heard: Stations = hub.app.state.services.stations
    challenge = heard.heartbeat(hostile, run="0" * 32, works=True).challenge
    answer = CardAnswer(technology=Technology.PKOC_V2, signature=signature, certificate=certificate)
    tap, _ = heard.presented(hostile, answer, random=challenge.random, run="0" * 32)
    assert (tap.result in REFUSALS.values(), tap.credential_id) == (True, None)


def test_a_reader_that_does_not_work_is_not_heard(hub: RunningHub) -> None:
    """Its program says that it is there, which proves nothing about cards."""
    station = FakeStation(hub, "broken-desk")
    assert station.heartbeat(works=False).status_code == 200
    with hub.token() as program:
        listed = program.get("/api/v1/stations").json()["stations"]
    assert next(each for each in listed if each["id"] == "broken-desk")["heard_at"] is None


# -- between processes ------------------------------------------------------------------------------

taps = st.builds(
    StationTap,
    tap_id=st.text(max_size=32),
    station_id=names.map(StationId),
    site_id=names.map(SiteId),
    at=moments,
    result=st.sampled_from(TapResult),
    credential_id=st.none() | credential_ids,
    cardholder_id=st.none() | names.map(CardholderId),
)


@given(tap=taps)
def test_a_tap_comes_as_it_was_told(tap: StationTap) -> None:
    """Round trip."""
    assert StationTap.from_bytes(bytes(tap)) == tap


@given(data=st.binary(max_size=200))
def test_what_is_no_tap_is_refused(data: bytes) -> None:
    """Whatever the bytes: a tap or ``MalformedData``."""
    with suppress(MalformedData):
        StationTap.from_bytes(data)


async def _ends(live: LiveBus) -> list[Any]:
    with live.subscribe() as subscription:
        live.close()
        return await subscription.batch()


def test_whoever_listens_hears_that_the_hub_stops() -> None:
    """A stream ends by itself, so that the server can stop."""
    assert len(asyncio.run(_ends(LiveBus()))) == 1
