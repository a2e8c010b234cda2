"""The reader beside a desk, with an antenna and a hub that are played: what is passed on, what is said, and when."""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.desk.hub import DeskHub, Given, HubAway, HubRefuses
from edge.desk.program import ATTEMPTS, DeskReader, Said
from pacs.card.pkoc import Challenge
from pacs.credential import Presentation, Verifier
from pacs.errors import CardError, CardGone, MalformedData, ReaderBroken
from pacs.identifiers import CredentialId, SiteId, StationId
from pacs.reason import ReadFault
from provisioning.site import create_site
from simulator.card_deck import Recipe, deal
from simulator.virtual_card import VirtualCard
from tests.pacs.card.material import ISSUER, ISSUER_KEY, TRUST


class PlayedHub:
    """Draws challenges and keeps what it is told; ``fault`` is what it raises."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.heartbeats: list[tuple[str, bool]] = []
        self.taps: list[tuple[str, Challenge, Presentation | ReadFault]] = []
        self.signed_on: bool | None = True

    def heartbeat(self, run: str, *, works: bool) -> Given:
        given = self._given()
        self.heartbeats.append((run, works))
        return given

    def presented(self, run: str, challenge: Challenge, presentation: Presentation) -> Given:
        given = self._given()
        self.taps.append((run, challenge, presentation))
        return given

    def not_read(self, run: str, fault: ReadFault) -> Given:
        given = self._given()
        self.taps.append((run, given.challenge, fault))
        return given

    def _given(self) -> Given:
        if self.fault is not None:
            raise self.fault
        challenge = Challenge(
            reader_identifier=bytes(32), at=datetime.now(UTC), random=secrets.token_bytes(16)
        )
        return Given(
            station_id=StationId("desk"),
            challenge=challenge,
            valid_s=50,
            heartbeat_s=20,
            signed_on=self.signed_on,
        )


class PlayedCard:
    """A card in the field; ``faults`` are what happens instead of the next activations."""

    identity = b"\x04card"

    def __init__(self, field: Field, card: VirtualCard) -> None:
        self._field = field
        self._card = card
        self.faults: list[CardError] = []

    def activate(self, deadline_ns: int) -> None:
        self._card.reset()
        if self.faults:
            raise self.faults.pop(0)

    def transceive(self, command: bytes, meanwhile: Callable[[], None]) -> bytes:
        meanwhile()
        return self._card.answer(command)

    def while_waiting(self, work: Callable[[], float | None] | None) -> None:
        raise NotImplementedError

    def is_present(self) -> bool:
        return self._field.card is self

    def release(self) -> None:
        self._field.released += 1


class Field:
    """An antenna and a clock; a poll takes as long as it may when nothing is there."""

    device, baud = "played", None

    def __init__(self) -> None:
        self.now_ns = 10**12
        self.card: PlayedCard | None = None
        self.fault: ReaderBroken | None = None
        self.released = 0

    def open(self) -> None:
        self._maybe()

    def close(self) -> None:
        pass

    def check(self) -> str:
        self._maybe()
        return "a played reader"

    def poll(self, until_ns: int) -> PlayedCard | None:
        self._maybe()
        if self.card is None:
            self.now_ns = until_ns
        return self.card

    def rest(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    def _maybe(self) -> None:
        if self.fault is not None:
            raise self.fault


class Desk:
    """The program, turned by hand."""

    def __init__(self) -> None:
        self.field, self.hub = Field(), PlayedHub()
        self.said: list[Said] = []
        self.reader = DeskReader(
            self.field,
            self.hub,
            say=self._hear,
            monotonic_ns=lambda: self.field.now_ns,
            rest=self.field.rest,
        )
        self.turn(2)
        assert self.said.pop(0) is Said.READY

    def _hear(self, said: Said, text: str, marks: Mapping[str, int]) -> None:
        assert text
        self.said.append(said)

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.reader.turn()

    def hold(self, kind: str = "genuine") -> PlayedCard:
        self.field.card = card = PlayedCard(self.field, deal(kind, recipe()))
        return card

    def lift(self) -> None:
        self.field.card = None
        self.turn(3)


def recipe() -> Recipe:
    today = datetime.now(UTC).date()
    return Recipe(
        issuer_key=ISSUER_KEY,
        issuer=ISSUER,
        credential_id=CredentialId(secrets.token_bytes(16)),
        valid_from=today - timedelta(days=1),
        valid_until=today + timedelta(days=9),
        today=today,
    )


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize("kind", ["genuine", "v1"])
def test_a_card_is_passed_on_once_until_it_is_lifted(desk: Desk, kind: str) -> None:
    """It answers the hub's newest challenge; however long it lies there, and again when it comes back."""
    desk.hold(kind)
    desk.turn(20)
    desk.lift()
    desk.hold(kind)
    desk.turn(2)
    assert desk.said == [Said.PASSED_ON] * 2
    (first, second) = desk.hub.taps
    assert first[1].random != second[1].random
    for _, challenge, presentation in (first, second):
        assert isinstance(presentation, Presentation)
        assert presentation.message in (bytes(challenge), challenge.transaction_identifier)
        Verifier(TRUST).verify(presentation)


def test_it_says_when_nobody_looks(desk: Desk) -> None:
    """At the reader, so that nobody waits for a page that shows nothing."""
    desk.hub.signed_on = False
    desk.hold()
    desk.turn()
    assert desk.said == [Said.NOBODY_SIGNED_ON]


def test_a_card_that_slips_is_read_again(desk: Desk) -> None:
    """Silently when it works in the end; what it signs is presented once."""
    desk.hold().faults = [CardGone(), CardError(ReadFault.PROTOCOL_ERROR)]
    desk.turn(5)
    assert desk.said == [Said.PASSED_ON]
    assert len(desk.hub.taps) == 1


@pytest.mark.parametrize(
    ("faults", "lifted", "told"),
    [
        ([CardError(ReadFault.DEADLINE)] * ATTEMPTS, False, ReadFault.DEADLINE),
        ([CardError(ReadFault.NOT_PKOC)], False, ReadFault.NOT_PKOC),
        ([CardGone()], True, ReadFault.CARD_GONE),
    ],
)
def test_a_card_that_is_not_read_is_told_once(
    desk: Desk, faults: list[CardError], lifted: bool, told: ReadFault
) -> None:
    """After its attempts, at once when another would not help, and when it vanished for good."""
    desk.hold().faults = faults
    desk.turn()
    if lifted:
        desk.field.card = None
    desk.turn(10)
    assert desk.said == [Said.NOT_READ]
    assert [fault for *_, fault in desk.hub.taps] == [told]


@pytest.mark.parametrize("fault", [HubAway("no route"), HubRefuses("no such token")])
def test_a_hub_that_is_away_is_said_at_the_reader(desk: Desk, fault: Exception) -> None:
    """Once, and of each card; when it is back cards are shown again, and the gap is a new run."""
    before = desk.hub.heartbeats[-1][0]
    desk.hub.fault = fault
    desk.hold()
    desk.turn(3)
    desk.lift()
    assert desk.said == [Said.HUB_AWAY, Said.NOT_PASSED_ON]
    desk.hub.fault = None
    for _ in range(100):
        desk.turn()
    assert desk.said[2:] == [Said.HUB_BACK]
    desk.hold()
    desk.turn()
    assert desk.said[3:] == [Said.PASSED_ON]
    assert desk.hub.taps[0][0] != before


def test_an_old_challenge_is_not_used(desk: Desk) -> None:
    """After a sleep of the machine the hub is asked for another before the card is."""
    desk.field.now_ns += 55 * 10**9
    desk.reader._heartbeat_ns = desk.field.now_ns + 10**9
    asked = len(desk.hub.heartbeats)
    desk.hold()
    desk.turn()
    assert desk.said == [Said.PASSED_ON]
    assert len(desk.hub.heartbeats) == asked + 1


def test_a_broken_reader_is_said_and_opened_again(desk: Desk) -> None:
    """Meanwhile the hub hears that it does not work; its run is another afterwards."""
    before = desk.hub.heartbeats[-1]
    assert before[1]
    desk.field.fault = ReaderBroken("no PN532 answers", "look at the cable")
    desk.turn(5)
    assert desk.said == [Said.READER_BROKEN]
    assert not desk.hub.heartbeats[-1][1]
    desk.field.fault = None
    desk.turn(3)
    assert desk.said == [Said.READER_BROKEN, Said.READER_WORKS]
    run, works = desk.hub.heartbeats[-1]
    assert (works, run != before[0]) == (True, True)


# -- what the hub answers ---------------------------------------------------------------------------

ANSWER = {
    "station_id": "front-desk",
    "kind": "desk",
    "reader_identifier": "ab" * 32,
    "at": "2027-03-01T12:00:00.123456Z",
    "random": "cd" * 16,
    "valid_s": 60,
    "heartbeat_s": 20,
    "signed_on": True,
}


def test_an_answer_is_read() -> None:
    """A challenge, how long it can be used, and whether anybody looks."""
    given = Given.from_bytes(json.dumps(ANSWER).encode())
    assert (given.station_id, given.valid_s, given.heartbeat_s, given.signed_on) == (
        "front-desk",
        50,
        20,
        True,
    )
    assert given.challenge.random == bytes.fromhex("cd" * 16)


@given(
    change=st.dictionaries(
        st.sampled_from([*ANSWER]), st.none() | st.integers() | st.floats() | st.text(max_size=9), min_size=1
    ),
    data=st.binary(max_size=60),
)
def test_an_answer_that_is_none_is_refused(change: dict[str, Any], data: bytes) -> None:
    """Whatever stands in a field, and whatever the bytes: an answer or ``MalformedData``."""
    for said in (json.dumps(ANSWER | change).encode(), data):
        with suppress(MalformedData):
            Given.from_bytes(said)


@pytest.mark.parametrize(
    ("status", "body", "raised"),
    [
        (200, b"<html>", HubRefuses),
        (401, b"", HubRefuses),
        (404, b"", HubRefuses),
        (429, b"", HubAway),
        (503, b"", HubAway),
        (None, b"", HubAway),
    ],
)
def test_what_is_wrong_with_the_hub_has_a_name(
    status: int | None, body: bytes, raised: type[Exception]
) -> None:
    """To be waited for, or to be mended; the token is in no message."""

    def answer(request: httpx.Request) -> httpx.Response:
        if status is None:
            raise httpx.ConnectError("no route", request=request)
        return httpx.Response(status, content=body)

    with (
        DeskHub("https://hub", "secret", transport=lambda _: httpx.MockTransport(answer)) as hub,
        pytest.raises(raised) as found,
    ):
        hub.heartbeat("0" * 32, works=True)
    assert "secret" not in str(found.value)


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server of HTTPS that refuses every token; its address, and the certificate that vouches for it."""
    site = create_site(tmp_path / "site", SiteId("s"), now=datetime.now(UTC), broker_hosts=["127.0.0.1"])
    keys = site.hub_directory
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    passphrase = (keys / "passphrase").read_text().strip()
    context.load_cert_chain(keys / "broker.cert.pem", keys / "broker.key.pem", passphrase)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                    heard = b""
                    while not heard.endswith(b"}"):  # to close before all is read would end the answer, too
                        more = connection.recv(65_536)
                        if not more:
                            break
                        heard += more
                    connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
                plain.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}", keys / "root.cert.pem"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def test_a_certificate_that_is_not_believed_is_said(encrypted: tuple[str, Path]) -> None:
    """With what to write into the file; once it stands there the hub is heard."""
    address, root = encrypted
    with DeskHub(address, "secret") as hub, pytest.raises(HubRefuses, match="as authority"):
        hub.heartbeat("0" * 32, works=True)
    with DeskHub(address, "secret", root) as hub, pytest.raises(HubRefuses, match="this token"):
        hub.heartbeat("0" * 32, works=True)
