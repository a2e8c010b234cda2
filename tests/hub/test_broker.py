from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from hub.broker import Broker, BrokerSettings, find_binary
from hub.keys import HubKeys
from hub.mqtt import client_id
from hub.store import controllers, device_certificates, events
from hub.store.device_certificates import DeviceCertificate
from pacs.errors import StoreError
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.topics import Down, DownTopic, Up, UpTopic
from provisioning.keystore import NewFile, make_directory
from provisioning.readers import DoorWiring, add_controller
from provisioning.site import create_site
from tests.hub.controller import FakeController, SmallHub, eventually, register, small_hub

if TYPE_CHECKING:
    from collections.abc import Iterator

GATE, YARD = ControllerId("gate"), ControllerId("yard")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallHub]:
    with small_hub(tmp_path_factory.mktemp("hub"), "gate", "yard", "west") as hub:
        yield hub


@pytest.fixture
def gate(hub: SmallHub) -> Iterator[FakeController]:
    gate = hub.controller("gate")
    yield gate
    gate.disconnect()


class Probe:
    """A bare MQTT client that tries what it should not."""

    def __init__(self, port: int, context: ssl.SSLContext, *, client_id: str = "probe") -> None:
        self.heard: list[str] = []
        self.granted: list[bool] = []
        self.let_in = False
        self.ended = threading.Event()
        self.client = Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv311
        )
        self.client.tls_set_context(context)
        self.client.on_connect = self._connected
        self.client.on_disconnect = lambda *_: self.ended.set()
        self.client.on_message = lambda _client, _data, message: self.heard.append(message.topic)
        self.client.on_subscribe = self._subscribed
        self.client.connect("localhost", port)
        self.client.loop_start()
        eventually(lambda: self.let_in or self.ended.is_set())

    def _connected(self, _client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.let_in = not reason.is_failure

    def _subscribed(self, _client: Client, _data: Any, _mid: Any, reasons: Any, _properties: Any) -> None:
        self.granted += [not reason.is_failure for reason in reasons]

    def subscribes(self, topic: str) -> bool:
        """Whether the broker grants it."""
        self.client.subscribe(topic, 0)
        eventually(lambda: self.granted or self.ended.is_set())
        return bool(self.granted and self.granted.pop())

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        del self.client  # frees it, and with it its sockets


def let_in(hub: SmallHub, context: ssl.SSLContext) -> Probe | None:
    """A probe that the broker lets in; None: not yet."""
    probe = Probe(hub.port, context)
    if probe.let_in:
        return probe
    probe.close()
    return None


def keys_of(hub: SmallHub) -> HubKeys:
    site = hub.directory / "site" / "hub"
    return HubKeys.load(site, site / "passphrase")


def test_events_arrive_over_mutual_tls(hub: SmallHub, gate: FakeController) -> None:
    """A controller connects with its certificate, says hello, and its events are stored and acknowledged."""
    gate.confirms = False
    gate.connect()
    gate.wait_online()
    for _ in range(20):
        gate.record()
    gate.until_acknowledged()
    with hub.database.read() as connection:
        stored = [event.data for event in events.listing(connection, controller_id=GATE, limit=1_000)]
        assert controllers.state(connection, GATE, datetime.now(UTC)).online
    assert stored == gate.journal.encoded


def test_without_a_certificate_of_the_site_nobody_is_let_in(hub: SmallHub, tmp_path: Path) -> None:
    """A client without a certificate, or with the hub's name under another root, is turned away."""
    bare = ssl.create_default_context(cafile=str(hub.directory / "site" / "root.cert.pem"))
    other = create_site(tmp_path / "other", SiteId("other"), now=datetime.now(UTC))
    foreign = ssl.create_default_context(cafile=str(hub.directory / "site" / "root.cert.pem"))
    foreign.load_cert_chain(
        other.hub_directory / "client.cert.pem",
        other.hub_directory / "client.key.pem",
        (other.hub_directory / "passphrase").read_bytes().strip(),
    )
    for context in (bare, foreign):
        try:
            probe = Probe(hub.port, context)
        except OSError:
            continue
        assert not probe.let_in
        probe.close()


@pytest.mark.parametrize("port", ["mqtt", "native"])
def test_nothing_is_spoken_without_encryption(hub: SmallHub, port: str) -> None:
    """Neither port of the broker answers a client that does not encrypt, whatever user it names."""
    number = hub.port if port == "mqtt" else hub.link.broker._client_port
    connect = b"\x10\x14\x00\x04MQTT\x04\x82\x00\x3c\x00\x03prb\x00\x03hub"
    native = b'CONNECT {"user":"hub","verbose":true}\r\nPING\r\n'
    with socket.create_connection(("127.0.0.1", number), timeout=15) as raw:
        raw.sendall(connect if port == "mqtt" else native)
        answer = b""
        try:
            while chunk := raw.recv(4_096):
                answer += chunk
        except ConnectionError:
            pass
    assert b"\x20\x02" not in answer
    assert b"PONG" not in answer
    assert b"+OK" not in answer


def test_a_controller_uses_its_own_topics_only(hub: SmallHub, gate: FakeController) -> None:
    """With one controller's certificate nothing of another's can be heard or said, nor everything at once."""
    west = hub.controller("west")
    west.confirms = False
    west.connect()
    eventually(lambda: west.acknowledgements)
    probe = Probe(hub.port, gate.context)
    for topic in (
        "#",
        "drempel/#",
        str(DownTopic(YARD, Down.DOCUMENT)),
        "drempel/up/#",
        "$MQTT/#",
        "drempel/down/+/document",
    ):
        assert not probe.subscribes(topic), topic
    assert probe.subscribes(str(DownTopic(GATE, Down.DOCUMENT)))
    probe.close()
    counts = hub.link.ingest.counts
    set_aside, dropped = counts.set_aside, counts.dropped
    acknowledged = len(west.acknowledgements)
    liar = Probe(hub.port, gate.context, client_id="liar")
    liar.client.publish(str(UpTopic(west.id, Up.EVENTS)), b"forged", qos=0)
    liar.client.publish(str(DownTopic(west.id, Down.ACKNOWLEDGED)), b"forged", qos=0)
    liar.client.publish(str(UpTopic(GATE, Up.STATUS)), b"on its own topic, behind the others", qos=0)
    eventually(lambda: counts.set_aside == set_aside + 1)
    assert counts.dropped == dropped
    assert len(west.acknowledgements) == acknowledged
    liar.close()
    west.disconnect()


def test_a_controller_is_let_in_when_registered_and_put_out_when_retired(
    hub: SmallHub, tmp_path: Path
) -> None:
    """Registering one lets it in without a restart; retiring it ends its connection at once."""
    authority = hub.site.authority(hub.site.passphrase())
    wiring = [DoorWiring(id=DoorId("late"), device="/dev/null")]
    provisioned = add_controller(hub.site, authority, ControllerId("late"), wiring, now=datetime.now(UTC))
    late = FakeController(provisioned, hub.port)
    early = Probe(hub.port, late.context)
    assert not early.let_in
    early.close()
    pid = hub.link.broker.pid
    with hub.database.write() as connection:
        register(connection, provisioned)
    hub.link.site_changed()
    late.connect()
    late.wait_online()
    late.record()
    late.until_acknowledged()
    with hub.database.write() as connection:
        controllers.retire(connection, late.id, datetime.now(UTC))
    hub.link.site_changed()
    eventually(lambda: not late._online.is_set(), "put out")
    late.disconnect()
    assert hub.link.broker.pid == pid


def test_of_two_certificates_of_a_controller_one_is_refused(hub: SmallHub, tmp_path: Path) -> None:
    """The connection of the certificate that is refused ends, and it comes in no more; the other's stays."""
    authority = hub.site.authority(hub.site.passphrase())
    devices = []
    for name in ("before", "after"):
        site = replace(hub.site, directory=tmp_path / name)
        needed = [(hub.site.directory / name) for name in ("policy.pub.pem", "root.cert.pem")]
        make_directory(
            site.directory, [NewFile(path=Path(each.name), data=each.read_bytes()) for each in needed]
        )
        devices.append(
            add_controller(
                site,
                authority,
                ControllerId("twice"),
                [DoorWiring(id=DoorId("twice"), device="/dev/null")],
                now=datetime.now(UTC),
            )
        )
    with hub.database.write() as connection:
        register(connection, devices[0])
        certificate = DeviceCertificate(
            serial=devices[1].certificate_serial, controller_id=devices[1].id, issued_at=datetime.now(UTC)
        )
        device_certificates.add(connection, certificate)
    hub.link.site_changed()
    contexts = [FakeController(device, hub.port).context for device in devices]
    before, after = (eventually(partial(let_in, hub, each)) for each in contexts)
    with hub.database.write() as connection:
        assert device_certificates.in_use(connection, devices[1].id, certificate.serial, datetime.now(UTC))
    hub.link.site_changed()
    assert before.ended.wait(20)
    again = Probe(hub.port, contexts[0])
    assert not again.let_in
    assert not after.ended.is_set()
    assert after.subscribes(str(DownTopic(ControllerId("twice"), Down.DOCUMENT)))
    for probe in (before, after, again):
        probe.close()


def test_the_key_is_readable_by_nobody_else(hub: SmallHub) -> None:
    """The decrypted key is in a private directory, and the configuration holds no secret."""
    runtime = hub.link.broker._runtime
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert (runtime / "key.pem").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE KEY" not in (hub.directory / "data" / "broker.conf").read_text()


def test_the_hubs_session_cannot_be_guessed(hub: SmallHub, tmp_path: Path) -> None:
    """The hub's client id is the same after a restart, and not that of another site's hub."""
    site = create_site(tmp_path / "other", SiteId("test-site"), now=datetime.now(UTC)).hub_directory
    other = HubKeys.load(site, site / "passphrase")
    assert client_id(keys_of(hub)) == client_id(keys_of(hub)) != client_id(other)


def test_only_one_hub_on_a_directory(hub: SmallHub) -> None:
    """A second hub on the same data is refused, and the first goes on."""
    settings = BrokerSettings(data_dir=hub.directory / "data", host="127.0.0.1", port=0)
    with pytest.raises(StoreError, match="another hub"):
        Broker(settings, keys_of(hub)).start([])
    assert hub.link.broker.is_up


def test_a_killed_broker_comes_back_and_nothing_is_lost(hub: SmallHub) -> None:
    """Killed in mid-stream, the broker is started again; whatever was not acknowledged is sent again."""
    west = hub.controller("west")
    west.confirms = False  # so that nothing is added to its journal while it is compared
    west.connect()
    west.wait_online()
    for _ in range(150):
        west.record()
    pid, restarts = hub.link.broker.pid, hub.link.broker.restarts
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    for _ in range(150):
        west.record()
    eventually(lambda: hub.link.broker.restarts > restarts and hub.link.broker.is_up, "restarted")
    west.until_acknowledged()
    with hub.database.read() as connection:
        listing = events.listing(connection, controller_id=west.id, limit=1_000)
    assert [
        event.data for event in listing if event.journal_id == west.journal.journal_id
    ] == west.journal.encoded
    west.disconnect()


def test_stopping_leaves_nothing_behind(tmp_path: Path) -> None:
    """After a stop the child, its key and its pid file are gone, and a start finds the same port."""
    with small_hub(tmp_path, "gate") as hub:
        runtime, pid, port = hub.link.broker._runtime, hub.link.broker.pid, hub.port
        hub.stop()
        assert not runtime.exists()
        assert not (tmp_path / "data" / "broker.pid").exists()
        assert not Path(f"/proc/{pid}").exists()
        hub.start()
        assert hub.port == port


RUN_ALONE = """
import sys, time
from pathlib import Path
from hub.broker import Broker, BrokerSettings
from hub.keys import HubKeys
from hub.mqtt import client_id
site = Path(sys.argv[1])
broker = Broker(
    BrokerSettings(data_dir=Path(sys.argv[2]), host="127.0.0.1", port=0),
    HubKeys.load(site, site / "passphrase"),
)
broker.start([])
print(broker.pid, flush=True)
time.sleep(600)
"""


def test_a_killed_hub_leaves_no_broker(tmp_path: Path) -> None:
    """When the hub is killed its broker goes with it, and the next start takes the decrypted key over."""
    create_site(tmp_path / "site", SiteId("s"), now=datetime.now(UTC))
    command = [sys.executable, "-c", RUN_ALONE, str(tmp_path / "site" / "hub"), str(tmp_path / "data")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "the broker is gone")
    with lone_broker(tmp_path / "site" / "hub", tmp_path / "data") as broker:
        assert broker.is_up
    assert not broker._runtime.exists()


@contextmanager
def lone_broker(site_dir: Path, data: Path) -> Iterator[Broker]:
    """A broker without controllers, stopped whatever happens."""
    broker = Broker(
        BrokerSettings(data_dir=data, host="127.0.0.1", port=0),
        HubKeys.load(site_dir, site_dir / "passphrase"),
    )
    try:
        broker.start([])
        yield broker
    finally:
        broker.stop()


def test_an_orphan_is_ended(tmp_path: Path) -> None:
    """A broker left running on this data, named by the pid file, is ended before another is started."""
    create_site(tmp_path / "site", SiteId("s"), now=datetime.now(UTC))
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "broker.conf").write_text('{"listen": "127.0.0.1:-1"}')
    command = [str(find_binary(None)), "-c", str(data / "broker.conf")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as orphan:
        try:
            eventually(Path(f"/proc/{orphan.pid}/cmdline").read_bytes, "its command line")
            (data / "broker.pid").write_text(str(orphan.pid))
            reaper = threading.Thread(target=orphan.wait, daemon=True)
            reaper.start()
            with lone_broker(tmp_path / "site" / "hub", data):
                reaper.join(10)
                assert orphan.returncode is not None
        finally:
            orphan.kill()


def test_another_process_of_that_number_is_left_alone(tmp_path: Path) -> None:
    """A stale pid file that names somebody else's process ends nothing."""
    create_site(tmp_path / "site", SiteId("s"), now=datetime.now(UTC))
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        (data / "broker.pid").write_text(str(other.pid))
        with lone_broker(tmp_path / "site" / "hub", data):
            assert other.poll() is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda site: (site / "passphrase").chmod(0o644), "chmod 600"),
        (lambda site: (site / "passphrase").write_text("not the passphrase"), "this passphrase opens"),
        (lambda site: (site / "policy.key.pem").unlink(), "policy.key.pem"),
        (lambda site: (site / "root.cert.pem").write_text("x"), "not a certificate"),
        (lambda site: (site / "card-issuer.pub.pem").write_text("x"), "not a public key"),
        (lambda site: (site / "site.toml").write_text("x = 1"), "site and issuer"),
        (lambda site: (site / "site.toml").write_text("x = "), "site and issuer"),
    ],
)
def test_a_spoilt_site_directory_is_named(tmp_path: Path, spoil: Any, message: str) -> None:
    """Each thing that can be wrong with the hub's keys is refused in a sentence that names it."""
    create_site(tmp_path / "site", SiteId("s"), now=datetime.now(UTC))
    site = tmp_path / "site" / "hub"
    spoil(site)
    with pytest.raises(StoreError, match=message):
        HubKeys.load(site, site / "passphrase")


@pytest.mark.parametrize("there", ["file", "link", "unwritable"])
def test_the_decrypted_key_is_put_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    """Where somebody else put something, or nothing can be made, the broker is not started, with a next step."""
    create_site(tmp_path / "site", SiteId("s"), now=datetime.now(UTC))
    memory, elsewhere = tmp_path / "memory", tmp_path / "elsewhere"
    memory.mkdir()
    elsewhere.mkdir()
    monkeypatch.setattr("hub.broker._MEMORY", memory)
    site = tmp_path / "site" / "hub"
    broker = Broker(
        BrokerSettings(data_dir=tmp_path / "data", host="127.0.0.1", port=0),
        HubKeys.load(site, site / "passphrase"),
    )
    if there == "file":
        broker._runtime.write_text("")
    elif there == "link":
        broker._runtime.symlink_to(elsewhere)
    else:
        memory.rmdir()
    with pytest.raises(StoreError, match="remove"):
        broker.start([])
    broker.stop()
    assert list(elsewhere.iterdir()) == []


def test_a_binary_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A broker program that cannot be run is refused before anything is made."""
    with pytest.raises(StoreError, match="not a program"):
        find_binary(tmp_path / "nats-server")
