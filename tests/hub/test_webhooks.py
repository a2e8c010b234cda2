"""Webhooks, against a receiver that listens: signed, at least once, and nowhere they should not go."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hub import webhooks
from hub.roles import Role
from hub.store import card_ends, webhook_arrivals
from hub.store import webhooks as store
from hub.store.alarms import AlarmKind, Clearance, Subject, cleared, raised
from hub.store.webhooks import Told
from hub.webhooks import NotAllowed
from pacs.identifiers import ControllerId
from pacs.reason import Reason
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, running_hub, tap

LOOPBACK = ("127.0.0.0/8",)
CARDS = ["card.blocked", "card.reinstated"]
REASON = {"status": "suspended", "reason": "Zzyzx lost it"}


class Receiver:
    """A server of somebody else's: keeps what it is sent, answers ``status``."""

    def __init__(self, port: int = 0) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status, self.location, self.delay_s, self.size = 204, "", 0.0, 0
        self.release = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                outer.release.wait(outer.delay_s)
                self.send_response(outer.status)
                if outer.location:
                    self.send_header("location", outer.location)
                self.send_header("content-length", str(outer.size))
                self.end_headers()
                try:
                    for _ in range(outer.size // 65_536):
                        self.wfile.write(b"x" * 65_536)
                except OSError:
                    return

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    listening = Receiver(port)
    try:
        yield listening
    finally:
        listening.stop()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("webhooks"), webhooks_allow=LOOPBACK) as running:
        running.door("front", "Front door")
        yield running


@pytest.fixture
def admin(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.token(Role.ADMINISTRATOR) as program:
        yield program
        for each in program.get("/api/v1/webhooks").json()["webhooks"]:
            program.delete(f"/api/v1/webhooks/{each['id']}")
    hub.clock.ahead = timedelta()


def subscribed(admin: httpx.Client, url: str, **more: Any) -> dict[str, str]:
    made = admin.post("/api/v1/webhooks", json={"url": url, "kinds": CARDS, **more})
    assert made.status_code == 201, made.text
    found: dict[str, str] = made.json()
    return found


def blocked(hub: RunningHub, admin: httpx.Client) -> str:
    card = str(hub.card("Zzyzx", "Quux"))
    assert admin.post(f"/api/v1/cards/{card}/block", json=REASON).status_code == 200
    return card


def verified(got: tuple[dict[str, str], bytes], secret: str) -> dict[str, Any]:
    """The content, after the check that the standard asks of a receiver."""
    headers, body = got
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert expected in headers["webhook-signature"].split(" ")
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 3 * 86_400
    content: dict[str, Any] = json.loads(body)
    return content


def log_of(admin: httpx.Client, webhook: dict[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin.get(f"/api/v1/webhooks/{webhook['id']}/deliveries").json()[
        "deliveries"
    ]
    return found


def test_the_signature_is_the_standards() -> None:
    """The example of Standard Webhooks 1.0."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    made = webhooks.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_block_is_told_signed_and_without_names(hub: RunningHub, admin: httpx.Client) -> None:
    """Who subscribed gets ids and facts; the reason and the person stay here."""
    with receiver() as there:
        webhook = subscribed(admin, there.url)
        card = blocked(hub, admin)
        eventually(lambda: there.got, "told")
        content = verified(there.got[0], webhook["secret"])
        assert content["type"] == "card.blocked"
        assert content["data"] == {"site_id": "test-site", "credential_id": card, "status": "suspended"}
        assert b"Zzyzx" not in there.got[0][1]
        eventually(lambda: log_of(admin, webhook)[0]["delivered_at"], "written down")
        assert log_of(admin, webhook)[0]["status"] == 204
    assert webhook["secret"] not in admin.get("/api/v1/webhooks").text


def test_only_what_was_asked_for_is_told(hub: RunningHub, admin: httpx.Client) -> None:
    """Kinds and sites are filters; a ping comes in any case."""
    with receiver() as there, receiver() as elsewhere:
        subscribed(admin, elsewhere.url, site_ids=["another-site"])
        webhook = subscribed(admin, there.url, kinds=["card.reinstated"])
        card = blocked(hub, admin)
        admin.post(f"/api/v1/cards/{card}/reinstate", json={"reason": "found again"})
        assert admin.post(f"/api/v1/webhooks/{webhook['id']}/ping").status_code == 202
        eventually(lambda: len(there.got) == 2, "both told")
        kinds = {verified(each, webhook["secret"])["type"] for each in there.got}
        assert kinds == {"card.reinstated", "ping"}
        assert elsewhere.got == []


def test_what_is_undone_is_not_told(hub: RunningHub, admin: httpx.Client) -> None:
    """The message is part of the transaction: rolled back with it, there with it."""
    webhook = subscribed(admin, "http://127.0.0.1:9/", kinds=[])
    subject = Subject(kind=AlarmKind.FORCED, controller_id=ControllerId("front"))
    now = hub.clock()
    with hub.database.read() as connection:  # what is written to it is rolled back
        raised(connection, subject, since=now, now=now)
    assert log_of(admin, webhook) == []
    with hub.database.write() as connection:
        raised(connection, subject, since=now, now=now)
        raised(connection, subject, since=now, now=now)
        cleared(connection, subject.controller_id, [AlarmKind.FORCED], at=now, now=now, how=Clearance.EVENT)
    assert [each["kind"] for each in log_of(admin, webhook)] == ["alarm.raised", "alarm.cleared"]


def test_a_receiver_that_was_away_is_told_later(hub: RunningHub, admin: httpx.Client) -> None:
    """Down, then failing, then there: one id throughout, and nothing is lost."""
    with receiver() as before:
        port, url = before.port, before.url
    webhook = subscribed(admin, url)
    blocked(hub, admin)
    eventually(lambda: log_of(admin, webhook)[0]["attempts"] == 1, "tried")
    assert log_of(admin, webhook)[0]["error"] == "ConnectError"
    with receiver(port) as there:
        there.status = 500
        hub.clock.ahead += webhooks.RETRY_AFTER[0]
        eventually(lambda: log_of(admin, webhook)[0]["attempts"] == 2, "tried again")
        there.status = 204
        hub.clock.ahead += webhooks.RETRY_AFTER[1]
        eventually(lambda: log_of(admin, webhook)[0]["delivered_at"], "told")
        ids = {headers["webhook-id"] for headers, _ in there.got}
        assert ids == {log_of(admin, webhook)[0]["message_id"]}


def test_who_stays_away_is_disabled_and_resumed_by_hand(hub: RunningHub, admin: httpx.Client) -> None:
    """After a day of attempts the subscription says why it is off; enabling it sends what was missed."""
    with receiver() as before:
        port, url = before.port, before.url
    webhook = subscribed(admin, url)
    blocked(hub, admin)

    def tried(times: int) -> bool:
        return bool(log_of(admin, webhook)[0]["attempts"] == times)

    for number, wait in enumerate((*webhooks.RETRY_AFTER, timedelta()), 1):
        eventually(partial(tried, number), f"attempt {number}")
        hub.clock.ahead += wait
    path = f"/api/v1/webhooks/{webhook['id']}"
    state = eventually(lambda: (s := admin.get(path).json())["enabled"] is False and s, "disabled")
    assert state["cause"] == "not reached for a day"
    assert sum(webhooks.RETRY_AFTER, timedelta()) >= timedelta(hours=24)
    with receiver(port) as there:
        assert admin.patch(path, json={"enabled": True}).json()["cause"] == ""
        eventually(lambda: there.got, "told after all")


def test_a_receiver_that_is_gone_is_not_asked_again(hub: RunningHub, admin: httpx.Client) -> None:
    """410 disables at once."""
    with receiver() as there:
        there.status = 410
        webhook = subscribed(admin, there.url)
        blocked(hub, admin)
        path = f"/api/v1/webhooks/{webhook['id']}"
        eventually(lambda: admin.get(path).json()["cause"] == "gone", "disabled")
        assert len(there.got) == 1


def test_both_secrets_sign_for_a_day(hub: RunningHub, admin: httpx.Client) -> None:
    """A receiver may change over when it likes; afterwards the old one is worth nothing."""
    with receiver() as there:
        webhook = subscribed(admin, there.url)
        path = f"/api/v1/webhooks/{webhook['id']}"
        rotated = admin.post(f"{path}/rotate").json()
        assert rotated["secret"] != webhook["secret"]
        admin.post(f"{path}/ping")
        eventually(lambda: there.got, "told")
        for secret in (webhook["secret"], rotated["secret"]):
            verified(there.got[0], secret)
        hub.clock.ahead += webhooks.OVERLAP
        admin.post(f"{path}/ping")
        eventually(lambda: len(there.got) == 2, "told again")
        verified(there.got[1], rotated["secret"])
        assert " " not in there.got[1][0]["webhook-signature"]


def test_one_that_never_answers_holds_up_nobody(hub: RunningHub, admin: httpx.Client) -> None:
    """Far more than a turn's messages wait for a receiver that hangs; each of another's is there at once."""
    with receiver() as hanging, receiver() as good:
        hanging.delay_s = 3600.0
        stuck = subscribed(admin, hanging.url)
        with hub.database.write() as connection:
            for _ in range(3 * webhooks.AT_ONCE):
                store.tell(connection, Told.PING, {}, now=hub.clock(), only=stuck["id"])
        eventually(lambda: len(hanging.got) == webhooks.AT_ONCE, "its lane is full")
        subscribed(admin, good.url)
        began_s = time.monotonic()
        for number in range(1, 4):
            blocked(hub, admin)
            eventually(partial(lambda wanted: len(good.got) >= wanted, number), "told")
        assert time.monotonic() - began_s < webhooks.TIMEOUT_S
        assert len(hanging.got) == webhooks.AT_ONCE
        hanging.release.set()


@pytest.mark.parametrize("manner", ["slow", "huge", "redirect"])
def test_a_hostile_receiver_costs_nothing_but_its_own(
    hub: RunningHub, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch, manner: str
) -> None:
    """One that does not answer, one that answers without end, one that points elsewhere: others are told meanwhile."""
    monkeypatch.setattr(webhooks, "TIMEOUT_S", 1.0)
    with receiver() as bad, receiver() as victim, receiver() as good:
        if manner == "slow":
            bad.delay_s = 5.0
        elif manner == "huge":
            bad.size = 1 << 34
        else:
            bad.status, bad.location = 307, victim.url
        hostile, friendly = subscribed(admin, bad.url), subscribed(admin, good.url)
        blocked(hub, admin)
        eventually(lambda: good.got, "the other is told")
        (entry,) = eventually(lambda: [e for e in log_of(admin, hostile) if e["attempts"]], "it ended")
        said = {"slow": (None, "no answer in time"), "huge": (204, ""), "redirect": (307, "")}[manner]
        assert (entry["status"], entry["error"]) == said
        assert victim.got == []
        assert log_of(admin, friendly)[0]["attempts"] == 1


def test_what_was_claimed_by_a_process_that_was_killed_is_sent_again(
    hub: RunningHub, admin: httpx.Client
) -> None:
    """A claim ends by itself; two processes never send the same at the same time; whoever lost it changes nothing."""
    with receiver() as there:
        webhook = subscribed(admin, there.url)
        now = hub.clock()
        with hub.database.write() as connection:  # claimed before the running dispatcher can
            store.tell(connection, Told.PING, {}, now=now, only=webhook["id"])
            ((delivery, _),) = store.claim(
                connection, now, by="killed", until=now + webhooks.CLAIM, most=9, webhook_id=webhook["id"]
            )
            assert store.claim(connection, now, by="other", until=now, most=9, webhook_id=webhook["id"]) == []
        assert there.got == []
        hub.clock.ahead += webhooks.CLAIM
        eventually(lambda: log_of(admin, webhook)[0]["delivered_at"], "sent by another")
        with hub.database.write() as connection:
            assert not store.tried(
                connection, delivery, by="killed", status=None, error="late", due_at=now, delivered_at=None
            )
        assert len(there.got) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://10.0.0.1/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://0.0.0.0/",
        "https://100.64.0.1/",
        "https://[fd00::1]/",
        "https://224.0.0.1/",
        "https://user:secret@8.8.8.8/",
        "https://2130706433/",
        "ftp://8.8.8.8/",
        "https:///x",
        "https://8.8.8.8:99999/",
    ],
)
def test_addresses_inside_are_refused(url: str) -> None:
    """Loopback, private, link-local, metadata, mapped and odd spellings: none of them is reached."""
    with pytest.raises(NotAllowed):
        webhooks.checked_address(url, ())


def test_public_and_allowed_addresses_are_reached() -> None:
    """A public one over https; one inside when its network is named."""
    assert webhooks.checked_address("https://8.8.8.8/x", ()) == ("8.8.8.8", 443, "8.8.8.8")
    allowed = webhooks.networks(["10.0.0.0/8"])
    assert webhooks.checked_address("http://10.1.2.3:8080/x", allowed) == ("10.1.2.3", 8080, "10.1.2.3")
    with pytest.raises(NotAllowed):
        webhooks.checked_address("http://8.8.8.8/x", allowed)


def test_an_address_inside_cannot_be_subscribed(admin: httpx.Client) -> None:
    """It is refused when it is given, with the reason."""
    answer = admin.post("/api/v1/webhooks", json={"url": "https://169.254.169.254/latest"})
    assert answer.status_code == 422
    assert "private network" in answer.json()["detail"]


def test_a_block_is_told_again_when_every_door_has_it(hub: RunningHub, admin: httpx.Client) -> None:
    """Not while one door lacks it; a card that is reinstated before is told of as reinstated alone."""
    hub.until_confirmed()
    front = hub.controllers["front"]
    with receiver() as there:
        webhook = subscribed(admin, there.url, kinds=["card.arrived"])
        front.confirms = False
        card = blocked(hub, admin)
        other = blocked(hub, admin)
        again = {"reason": "found again"}
        assert admin.post(f"/api/v1/cards/{other}/reinstate", json=again).status_code == 200
        assert log_of(admin, webhook) == []
        front.confirms = True
        front.hello()
        eventually(lambda: len(there.got) == 2, "both told")
        told = [verified(each, webhook["secret"])["data"] for each in there.got]
        assert {each["credential_id"]: (each["status"], each["doors"]) for each in told} == {
            card: ("suspended", 1),
            other: ("valid", 1),
        }
    with hub.database.read() as connection:
        assert webhook_arrivals.list_all(connection) == []


def test_what_becomes_of_a_card_is_told(hub: RunningHub, admin: httpx.Client) -> None:
    """Replaced, with the card that takes its place, and ended, with the time."""
    with receiver() as there:
        webhook = subscribed(admin, there.url, kinds=["card.replaced", "card.expired"])
        old, ending, new = hub.card(), hub.card(), str(uuid.uuid4())
        change = {"credential_id": new, "technology": "pkoc-v2", "reason": "Worn out"}
        assert admin.post(f"/api/v1/cards/{old}/replace", json=change).is_success
        assert admin.post(f"/api/v1/cards/{ending}/expire", json={"reason": "Left"}).is_success
        eventually(lambda: len(there.got) == 2, "told")
        told = {each["type"]: each["data"] for each in (verified(e, webhook["secret"]) for e in there.got)}
    assert (told["card.replaced"]["credential_id"], told["card.replaced"]["by"]) == (str(old), new)
    assert told["card.expired"]["credential_id"] == str(ending)
    with hub.database.read() as connection:
        assert card_ends.untold(connection, hub.clock(), limit=9, credential_id=ending) == []


def test_taps_are_told_only_to_who_asks_and_never_whose(hub: RunningHub, admin: httpx.Client) -> None:
    """Door, side, outcome and reason; no card. Who asks for everything gets none, and who may not see events may not ask."""
    with receiver() as there, receiver() as everything:
        webhook = subscribed(admin, there.url, kinds=["tap"])
        every = subscribed(admin, everything.url, kinds=[])
        card = hub.card("Zzyzx", "Quux")
        tap(hub.controllers["front"], card, Reason.OUTSIDE_SCHEDULE)
        eventually(lambda: there.got, "told")
        data = verified(there.got[0], webhook["secret"])["data"]
        assert (data["door_id"], data["side"], data["outcome"], data["reason"]) == (
            "front",
            "entry",
            "denied",
            "outside_schedule",
        )
        assert str(card).encode() not in there.got[0][1]
        assert "tap" not in {each["kind"] for each in log_of(admin, every)}
    limited = {"name": "hooks", "role": "administrator", "permissions": ["webhooks.manage"]}
    token = admin.post("/api/v1/tokens", json=limited).json()["token"]
    with hub.client(authorization=f"Bearer {token}") as program:
        asked = program.post("/api/v1/webhooks", json={"url": "https://8.8.8.8/", "kinds": ["tap"]})
        assert asked.status_code == 403, asked.text
        changed = program.patch(f"/api/v1/webhooks/{every['id']}", json={"kinds": ["tap"]})
        assert changed.status_code == 403


def test_a_receiver_is_trusted_by_its_certificate_for_its_name(tmp_path: Path) -> None:
    """Over https, by a CA of one's own: the right name is told, another name gets nothing."""
    ca, key_file = _certified(tmp_path, "localhost")
    with receiver() as right, receiver() as wrong:
        for server in (right, wrong):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(key_file)
            server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
        settings = {"webhooks_allow": LOOPBACK, "webhooks_ca_file": ca}
        with running_hub(tmp_path / "hub", **settings) as hub, hub.token(Role.ADMINISTRATOR) as admin:
            told = subscribed(admin, f"https://localhost:{right.port}/hook", kinds=["ping"])
            named = subscribed(admin, f"https://127.0.0.1:{wrong.port}/hook", kinds=["ping"])
            for each in (told, named):
                assert admin.post(f"/api/v1/webhooks/{each['id']}/ping").status_code == 202
            eventually(lambda: log_of(admin, told)[0]["delivered_at"], "told")
            (entry,) = eventually(lambda: [e for e in log_of(admin, named) if e["attempts"]], "tried")
        assert entry["error"] == "ConnectError"
        assert len(right.got) == 1
        assert wrong.got == []


def _certified(directory: Path, name: str) -> tuple[Path, Path]:
    """A file with a CA's certificate, and one with key and certificate of a server of this name."""
    now = datetime.now(UTC)

    def certificate(subject: str, key: Any, issuer: str, signer: Any, *, is_ca: bool) -> x509.Certificate:
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (subject, issuer)]
        builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1])
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
        return builder.sign(signer, hashes.SHA256())

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem = serialization.Encoding.PEM
    ca_file, key_file = directory / "ca.pem", directory / "server.pem"
    ca_file.write_bytes(certificate("test-ca", ca_key, "test-ca", ca_key, is_ca=True).public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    own = certificate(name, key, "test-ca", ca_key, is_ca=False).public_bytes(pem)
    key_file.write_bytes(private + own)
    return ca_file, key_file


def test_sending_never_holds_the_writer(tmp_path: Path, hub: RunningHub, admin: httpx.Client) -> None:
    """While a receiver keeps the hub waiting, others write to the database."""
    with receiver() as there:
        there.delay_s = 2.0
        subscribed(admin, there.url)
        blocked(hub, admin)
        eventually(lambda: there.got, "on its way")
        began_s = time.monotonic()
        with hub.database.write():
            assert time.monotonic() - began_s < there.delay_s
