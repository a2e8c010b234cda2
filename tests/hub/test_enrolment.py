from __future__ import annotations

import base64
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hub.api.problems import Code
from hub.inbox import Message
from hub.roles import Role
from hub.store import audit, controllers, device_certificates, events
from pacs import certificates
from pacs.enrolment import EnrolmentCode, proof_of
from pacs.events import EventKind
from pacs.identifiers import ControllerId, DoorId
from pacs.messages import RenewalRequest
from pacs.topics import Up, UpTopic
from pacs.wiring import proposal
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, running_hub
from tests.hub.test_broker import Probe

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def technician(hub: RunningHub) -> Iterator[httpx.Client]:
    hub.app.state.services.attempts._limiter.storage.reset()
    with hub.token(Role.TECHNICIAN) as program:
        yield program


class Device:
    """A device's keys, and what it proves with them."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.event_key = Ed25519PrivateKey.generate()

    def asked(self, **changes: Any) -> dict[str, Any]:
        request = certificates.request(self.key)
        return {
            "certificate_request": base64.b64encode(request).decode(),
            "event_public_key": self.event_key.public_key().public_bytes_raw().hex(),
            "proof": self.event_key.sign(proof_of(request)).hex(),
            **changes,
        }

    def enrol(self, hub: RunningHub, code: str, **changes: Any) -> httpx.Response:
        """Send it, again while the hub makes its documents."""
        secret = EnrolmentCode.parse(code).secret.hex()

        def answer() -> httpx.Response | None:
            with hub.client(authorization=f"Bearer {secret}") as client:
                got = client.post("/api/v1/enrolment", json=self.asked(**changes))
            return None if got.status_code == 503 else got

        found: httpx.Response = eventually(answer)
        return found


def a_place(technician: httpx.Client) -> str:
    """A registered place with one door of the same id."""
    name = f"c-{secrets.token_hex(4)}"
    wiring = proposal([(DoorId(name), "/dev/ttyAMA0")]).fields
    place = {"id": name, "wiring": wiring}
    made = technician.post("/api/v1/controllers", json=place)
    assert made.status_code == 201, made.text
    assert (made.json()["event_public_key"], made.json()["wiring"]) == (None, wiring)
    assert technician.post("/api/v1/controllers", json=place).status_code == 200
    door = {"id": name, "controller_id": name, "name": name}
    assert technician.post("/api/v1/doors", json=door).status_code == 201
    return name


def a_code(technician: httpx.Client, place: str, purpose: str = "first") -> str:
    made = technician.post(f"/api/v1/controllers/{place}/enrolment-codes", json={"purpose": purpose})
    assert made.status_code == 201, made.text
    return str(made.json()["code"])


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["code"])


def test_a_code_gives_a_device_everything_it_needs(hub: RunningHub, technician: httpx.Client) -> None:
    """Certificate, root, policy keys, broker, wiring and documents; and the place is the device's from then on."""
    place, device = a_place(technician), Device()
    code = a_code(technician, place)
    parsed = EnrolmentCode.parse(code)
    answer = device.enrol(hub, code)
    assert answer.status_code == 200, answer.text
    given = answer.json()
    chain = certificates.read_chain(given["certificates"].encode())
    (root,) = certificates.read_chain(given["root"].encode())
    certificates.check_device_chain(chain, [root], name=place, public_key=device.key.public_key())
    assert (chain[0].not_valid_after_utc - hub.clock()).days == certificates.DEVICE_DAYS - 1
    assert (given["controller_id"], given["doors"]) == (place, [place])
    assert set(given["documents"]) == {"policy", "revocations"}
    assert given["broker"] == {"host": "localhost", "port": hub.app.state.link.broker.port}
    known = technician.get("/api/v1/controllers", params={"limit": 500}).json()["controllers"]
    (mine,) = (each for each in known if each["id"] == place)
    assert mine["event_public_key"] == device.asked()["event_public_key"]
    assert mine["certificate_serial"] == certificates.serial_hex(chain[0])
    with hub.database.read() as connection:
        admitted = device_certificates.admitted(connection)
        entries = audit.page(connection, before=None, limit=50)
    assert (ControllerId(place), mine["certificate_serial"]) in admitted
    assert not any(parsed.secret.hex() in str(entry) for entry in entries)
    assert {"code.create", "controller.enrol"} <= {entry.action for entry in entries}


def test_the_same_device_may_ask_again_and_no_other(hub: RunningHub, technician: httpx.Client) -> None:
    """An answer that was lost is given again, the same certificate; another key is told that the code was used."""
    place, device = a_place(technician), Device()
    code = a_code(technician, place)
    first, again = device.enrol(hub, code), device.enrol(hub, code)
    assert first.json()["certificates"] == again.json()["certificates"]
    assert code_of(Device().enrol(hub, code)) == Code.CODE_USED.wire
    with hub.database.read() as connection:
        found = device_certificates.of_controller(connection, ControllerId(place))
    assert len(found) == 1


def test_each_code_that_does_not_work_says_why(hub: RunningHub, technician: httpx.Client) -> None:
    """Withdrawn, superseded, expired, and made for doors that the place no longer has."""
    place, device = a_place(technician), Device()
    before, code = a_code(technician, place), a_code(technician, place)
    assert code_of(device.enrol(hub, before)) == Code.CODE_WITHDRAWN.wire
    assert technician.delete(f"/api/v1/controllers/{place}/enrolment-codes").status_code == 204
    assert code_of(device.enrol(hub, code)) == Code.CODE_WITHDRAWN.wire
    code = a_code(technician, place)
    hub.clock.ahead = timedelta(days=7)
    try:
        assert code_of(device.enrol(hub, code)) == Code.CODE_EXPIRED.wire
    finally:
        hub.clock.ahead = timedelta()
    door = {"id": f"{place}-2", "controller_id": place, "name": "Second"}
    assert technician.post("/api/v1/doors", json=door).status_code == 201
    assert code_of(device.enrol(hub, code)) == Code.CODE_DOORS_CHANGED.wire
    listed = technician.get(f"/api/v1/controllers/{place}/enrolment-codes").json()["codes"]
    assert len(listed) == 3
    assert not any("secret" in key or key == "code" for each in listed for key in each)


def test_a_wrong_code_tells_a_stranger_nothing(hub: RunningHub, technician: httpx.Client) -> None:
    """Whatever is tried gives the same answer, and too many tries none at all."""
    device = Device()
    answers = set()
    for token in ("00" * 16, "ff" * 16, "zz", "00" * 400):
        with hub.client(authorization=f"Bearer {token}") as stranger:
            answer = stranger.post("/api/v1/enrolment", json=device.asked())
        answers.add((answer.status_code, *(answer.json()[key] for key in ("code", "detail", "next_step"))))
    assert len(answers) == 1
    assert {status for status, *_ in answers} == {403}
    with hub.client(authorization=f"Bearer {'00' * 16}") as stranger:
        for _ in range(40):
            answer = stranger.post("/api/v1/enrolment", json=device.asked())
    assert (answer.status_code, code_of(answer)) == (429, "too_many_attempts")


def test_a_device_proves_both_its_keys(hub: RunningHub, technician: httpx.Client) -> None:
    """A request that is signed by another key, or not with the event key, uses no code up."""
    place, device = a_place(technician), Device()
    code = a_code(technician, place)
    stranger = Device()
    for changes in (
        {"proof": stranger.asked()["proof"]},
        {"event_public_key": stranger.asked()["event_public_key"]},
        {"certificate_request": stranger.asked()["certificate_request"]},
        {"certificate_request": "AAAA"},
    ):
        assert code_of(device.enrol(hub, code, **changes)) == Code.INVALID.wire
    assert device.enrol(hub, code).status_code == 200


def test_the_same_device_or_another_only_by_the_code_for_it(
    hub: RunningHub, technician: httpx.Client
) -> None:
    """A place that is taken gets no first code; one for the same device serves no other, and none another place's."""
    place, device = a_place(technician), Device()
    path = f"/api/v1/controllers/{place}/enrolment-codes"
    for purpose in ("again", "swap"):
        refused = technician.post(path, json={"purpose": purpose})
        assert (refused.status_code, code_of(refused)) == (422, "invalid")
    assert device.enrol(hub, a_code(technician, place)).status_code == 200
    assert technician.post(path, json={"purpose": "first"}).status_code == 422
    code = a_code(technician, place, "again")
    assert code_of(Device().enrol(hub, code)) == Code.CODE_OTHER_DEVICE.wire
    assert code_of(device.enrol(hub, code, controller_id="another")) == Code.CODE_OTHER_PLACE.wire
    device.key = ec.generate_private_key(ec.SECP256R1())
    assert device.enrol(hub, code, controller_id=place).status_code == 200
    with hub.database.read() as connection:
        now, before = device_certificates.of_controller(connection, ControllerId(place))
    assert (before.revoked_because, now.revoked_at) == ("superseded", None)


def test_a_place_without_doors_or_wiring_gets_no_code(technician: httpx.Client) -> None:
    """What a device could not be told is said before a code is printed."""
    name = f"c-{secrets.token_hex(4)}"
    assert technician.post("/api/v1/controllers", json={"id": name}).status_code == 201
    path = f"/api/v1/controllers/{name}/enrolment-codes"
    assert "no door" in technician.post(path, json={}).json()["detail"]
    door = {"id": name, "controller_id": name, "name": name}
    assert technician.post("/api/v1/doors", json=door).status_code == 201
    assert "no wiring" in technician.post(path, json={}).json()["detail"]
    wiring = proposal([(DoorId("other"), "/dev/ttyAMA0")]).fields
    assert technician.put(f"/api/v1/controllers/{name}/wiring", json=wiring).status_code == 204
    assert "of doors other" in technician.post(path, json={}).json()["detail"]
    bad = technician.put(f"/api/v1/controllers/{name}/wiring", json={"doors": []})
    assert (bad.status_code, code_of(bad)) == (422, "invalid")


def test_two_certificates_of_one_serial_number_are_refused(technician: httpx.Client) -> None:
    """The broker would have to take one controller for the other."""
    serial = secrets.token_hex(8)
    for number, expected in ((1, 201), (2, 409)):
        body = {
            "id": f"c-{serial}-{number}",
            "event_public_key": secrets.token_bytes(32).hex(),
            "certificate_serial": serial,
        }
        assert technician.post("/api/v1/controllers", json=body).status_code == expected


def test_a_revoked_device_is_refused_at_once(hub: RunningHub, technician: httpx.Client) -> None:
    """Its connection ends and none is made again, no command waits for it, and what it still sends is set aside by name."""
    name = f"c-{secrets.token_hex(4)}"
    device = hub.door(name)
    hub.until_confirmed()
    with hub.token(Role.GUARD) as guard:
        order = {"action": "unlock_once", "reason": "Delivery"}
        given = guard.post(f"/api/v1/doors/{name}/commands", json=order)
        assert given.status_code == 202, given.text
        answer = technician.post(f"/api/v1/controllers/{name}/revoke", json={"reason": "Stolen"})
        assert answer.status_code == 204, answer.text
        refused = guard.post(f"/api/v1/doors/{name}/commands", json=order)
        assert "revoked" in refused.json()["detail"]
        waiting = guard.get(f"/api/v1/doors/{name}/commands").json()["commands"]
    assert {each["state"] for each in waiting} == {"unanswered"}
    eventually(lambda: not device._online.is_set(), "the broker ended the connection")
    probe = Probe(device.port, device.context)
    assert not probe.let_in
    probe.close()
    late = device.journal.append(EventKind.DOOR_FORCED, door_id=DoorId(name))
    last = device.journal.last_sequence
    payload = device.journal.batch(device.event_key, last, last)
    topic = str(UpTopic(ControllerId(name), Up.EVENTS))
    hub.app.state.link.ingest.put([Message(topic, payload)])

    def anomalies() -> set[str]:
        doors = technician.get("/api/v1/doors", params={"limit": 500}).json()["doors"]
        return {each["kind"] for door in doors if door["id"] == name for each in door["anomalies"]}

    eventually(lambda: "controller_revoked" in anomalies())
    with hub.database.read() as connection:
        stored = [
            event.data for event in events.listing(connection, controller_id=ControllerId(name), limit=1_000)
        ]
    assert late not in stored
    assert technician.post(f"/api/v1/controllers/{name}/revoke", json={"reason": "Again"}).status_code == 204
    with hub.database.read() as connection:
        entries = list(audit.page(connection, before=None, limit=50))
    assert sum(entry.action == "controller.revoke" for entry in entries) == 1


def test_a_revoked_place_is_taken_again_by_a_code(hub: RunningHub, technician: httpx.Client) -> None:
    """A code that was out is worth nothing any more; a new one lets a device in, and the place is believed again."""
    place, device = a_place(technician), Device()
    assert device.enrol(hub, a_code(technician, place)).status_code == 200
    before = a_code(technician, place, "swap")
    assert (
        technician.post(f"/api/v1/controllers/{place}/revoke", json={"reason": "Stolen"}).status_code == 204
    )
    spare = Device()
    assert code_of(spare.enrol(hub, before)) == Code.CODE_WITHDRAWN.wire
    assert spare.enrol(hub, a_code(technician, place, "swap")).status_code == 200
    with hub.database.read() as connection:
        found = device_certificates.of_controller(connection, ControllerId(place))
        known = controllers.get(connection, ControllerId(place))
    assert [each.revoked_because for each in found] == [None, "revoked"]
    assert known.revoked_at is None


def test_a_renewed_certificate_holds_beside_the_one_before_until_it_is_used(
    hub: RunningHub, technician: httpx.Client
) -> None:
    """The same request gives the same; both are admitted until the controller says that it goes by the new one."""
    place, device = a_place(technician), Device()
    assert device.enrol(hub, a_code(technician, place)).status_code == 200
    mine, renew = ControllerId(place), hub.app.state.services.enrolment.renew

    def asked(by: Device) -> RenewalRequest:
        request = certificates.request(by.key)
        return RenewalRequest(certificate_request=request, proof=by.event_key.sign(proof_of(request)))

    stranger = Device()
    device.key = ec.generate_private_key(ec.SECP256R1())
    with hub.database.write() as connection:
        assert renew(connection, mine, asked(stranger)) is None
        chain = renew(connection, mine, asked(device))
        assert chain == renew(connection, mine, asked(device))
        now, before = device_certificates.of_controller(connection, mine)
        assert {serial for each, serial in device_certificates.admitted(connection) if each == mine} == {
            now.serial,
            before.serial,
        }
        assert not device_certificates.in_use(connection, mine, "00", hub.clock())
        assert device_certificates.in_use(connection, mine, now.serial, hub.clock())
        assert not device_certificates.in_use(connection, mine, now.serial, hub.clock())
        now, before = device_certificates.of_controller(connection, mine)
        assert (now.revoked_at, before.revoked_because) == (None, "superseded")
        for _ in range(10):
            device.key = ec.generate_private_key(ec.SECP256R1())
            renew(connection, mine, asked(device))
        assert len(device_certificates.of_controller(connection, mine)) < 10
