"""From a blank device to a door that opens, and a spare in the place of one that died; all by real processes."""

from __future__ import annotations

import json
import queue
import re
import subprocess
import sys
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec

from edge.config_file import load
from edge.device_keys import sealed
from edge.keystore import read_certificate, read_passphrase, read_private_key
from edge.status_socket import ask
from edge.tpm_blobs import key_in
from pacs.certificates import serial_hex
from pacs.errors import StoreError
from pacs.identifiers import ScheduleId, SiteId
from pacs.schedule import ALWAYS, Schedule
from provisioning.authority import Purpose
from provisioning.card_keys import CardKeys
from provisioning.cli import main
from provisioning.encoder import Issuer, issue_card
from provisioning.site import Site, create_site
from simulator.controller_process import ControllerProcess
from simulator.hub_process import HubApi, HubProcess
from simulator.link_faults import LinkOptions
from simulator.pn532_process import Pn532Process
from simulator.scenario import schedule_body
from simulator.virtual_card import VirtualCard
from tests.edge.software_tpm import SoftwareTpm, needs_tpm
from tests.hub.controller import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.walk, pytest.mark.timeout(400)]
PLACE, DOOR = "c-front", "front"
OTHER_PLACE, OTHER_DOOR = "c-back", "back"
TLS = """
import sys
from pathlib import Path
from edge.config_file import load
from edge.keystore import context_of, in_force

context_of(in_force(load(Path(sys.argv[1])).keys))
"""
"""In a process of its own: once it uses a TPM for TLS, a process does so to its end."""


class Street:
    """A site with its hub, one reader on a virtual line, and whichever controller runs on it."""

    def __init__(self, directory: Path, parts: ExitStack) -> None:
        self.directory = directory
        self.log = parts.enter_context((directory / "processes.log").open("wb"))
        self.site: Site = create_site(directory / "site", SiteId("street"), now=datetime.now(UTC))
        passphrase = self.site.passphrase()
        CardKeys.read(self.site.directory, passphrase).with_simulated_batch().write(
            self.site.directory, passphrase
        )
        self.hub = parts.enter_context(
            HubProcess(self.site.hub_directory, directory / "hub-data", stderr=self.log)
        )
        token = self.hub.command("token", "create", "--name=bureau", "--role=administrator")
        self.token_file = directory / "token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(token)
        self.api = parts.enter_context(HubApi(self.hub.url, token))
        self.line = directory / "reader"
        self.reader = parts.enter_context(Pn532Process(timing="none", link=self.line))
        self.traces: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._parts = parts
        self._controllers: list[ControllerProcess] = []
        self.codes = {
            place: self.bureau("add", place, f"--door={door}", f"--device={self.line}", "--pins=mock")["code"]
            for place, door in ((PLACE, DOOR), (OTHER_PLACE, OTHER_DOOR))
        }
        self.card = self._issued_card()

    def bureau(self, *arguments: str) -> dict[str, Any]:
        """What ``drempel-provision reader`` says, as JSON."""
        where = [f"--hub={self.hub.url}", f"--token-file={self.token_file}", "--format=json"]
        ran = CliRunner().invoke(main, ["reader", *arguments, *where])
        assert ran.exit_code == 0, ran.output
        said: dict[str, Any] = json.loads(ran.stdout)
        return said

    def enrol(self, device: str, code: str) -> subprocess.CompletedProcess[str]:
        """``drempel-edge enrol`` on this device."""
        command = [sys.executable, "-m", "edge", "enrol", code, f"--dir={self.directory / device}"]
        return subprocess.run([*command, "--allow-root"], capture_output=True, text=True, check=False)

    def doctor(self, device: str) -> str:
        """What ``drempel-edge doctor`` says to the technician."""
        command = [
            sys.executable,
            "-m",
            "edge",
            "doctor",
            f"--config={self.directory / device / 'controller.toml'}",
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def expire(self, device: str) -> None:
        """As after a year without power: the device's own key, certified as it was then, long over."""
        file = self.directory / device / "device.pem"
        passphrase = read_passphrase(self.directory / device / "passphrase")
        key = read_private_key(file, passphrase)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        devices = self.site.authority(self.site.passphrase())
        year_ago = datetime.now(UTC) - timedelta(days=366)
        certificate = devices.certify(
            name=PLACE, public_key=key.public_key(), purpose=Purpose.CLIENT, now=year_ago, days=90
        )
        file.write_bytes(devices.chain_pem(certificate) + sealed(key, passphrase))
        (self.directory / device / "state" / "device.pem").unlink(missing_ok=True)

    def controller(self) -> dict[str, Any]:
        """What the hub knows of the place."""
        found = self.api.get("/controllers")["controllers"]
        return dict(next(each for each in found if each["id"] == PLACE))

    def run(self, device: str, *, clock_ahead_s: float = 0.0) -> ControllerProcess:
        """The controller of this device."""

        def hear(report: dict[str, Any]) -> None:
            if "trace" in report:
                self.traces.put(report)

        config = self.directory / device / "controller.toml"
        controller = ControllerProcess(
            config, stderr=self.log, on_report=hear, person=False, clock_ahead_s=clock_ahead_s
        ).start()
        self._controllers.append(controller)
        self._parts.callback(_stop, controller)
        return controller

    def stop_controllers(self) -> None:
        """Of all devices."""
        while self._controllers:
            _stop(self._controllers.pop())

    def tap(self, card: VirtualCard) -> tuple[str, bool]:
        """What the door decides about this card, and whether its strike let go."""
        while not self.traces.empty():
            self.traces.get()
        self.reader.insert(card, LinkOptions())
        try:
            trace = self.traces.get(timeout=20)
        finally:
            self.reader.remove()
        return trace["trace"], "strike" in trace["marks"]

    def link(self, device: str) -> dict[str, Any]:
        """How this device's controller stands with the hub."""
        try:
            found: dict[str, Any] = ask(self.directory / device / "state")["link"]
        except (StoreError, KeyError):
            return {"state": "unknown", "answered": False, "cause": None, "words": ""}
        return found

    def door(self, door_id: str = DOOR) -> dict[str, Any]:
        """What the hub knows of the door."""
        found = self.api.get("/doors")["doors"]
        return dict(next(each for each in found if each["id"] == door_id))

    def _issued_card(self) -> VirtualCard:
        """Of a resident who may go in at any time."""
        self.api.post(
            "/schedules",
            schedule_body(Schedule(id=ScheduleId("ever"), windows=(ALWAYS,), holiday_windows=(ALWAYS,))),
        )
        rules = [{"door_id": door, "schedule_id": "ever"} for door in (DOOR, OTHER_DOOR)]
        self.api.post("/access-levels", {"id": "all", "name": "All", "rules": rules})
        person = {
            "id": "ama",
            "category": "resident",
            "given_name": "Ama",
            "family_name": "M",
            "access_level_ids": ["all"],
        }
        self.api.post("/cardholders", person)
        card = VirtualCard()

        def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
            meanwhile()
            return card.answer(command)

        today = datetime.now(UTC).date()
        issuer = Issuer.of(self.site, self.site.passphrase())
        issued = issue_card(
            transceive,
            issuer,
            valid_from=today - timedelta(days=1),
            valid_until=today + timedelta(days=30),
            now=datetime.now(UTC),
        )
        self.api.post("/cards", {**issued.registration, "cardholder_id": "ama"})
        return card


def _stop(controller: ControllerProcess) -> None:
    with suppress(RuntimeError):
        controller.stop()


@pytest.fixture(scope="module")
def kept_street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    with ExitStack() as parts:
        yield Street(tmp_path_factory.mktemp("street"), parts)


@pytest.fixture
def street(kept_street: Street) -> Iterator[Street]:
    yield kept_street
    kept_street.stop_controllers()


def test_a_blank_device_opens_and_a_spare_takes_its_place(street: Street) -> None:
    """Enrolled by a code it opens for its first tap without a hub; a spare opens after the swap, the dead one is refused.

    After a year without power, in which its certificate ended, one code brings the spare back; it renews the next one itself.
    """
    first_code, card = street.codes[PLACE], street.card
    enrolled = street.enrol("first", first_code)
    assert enrolled.returncode == 0, enrolled.stdout + enrolled.stderr
    assert not (street.directory / "first" / ".enrolling").exists()
    street.hub.stop()
    first = street.run("first")
    assert street.tap(card) == ("access_granted", True)
    street.hub.start()
    eventually(lambda: street.link("first")["answered"], within_s=60)
    eventually(lambda: street.door()["complete"], within_s=60)

    first.kill()
    code = street.bureau("swap", PLACE)["code"]
    refused = street.enrol("spare", first_code)
    assert (refused.returncode, "Another device has used the code" in refused.stderr) == (1, True)
    swapped = street.enrol("spare", code)
    assert swapped.returncode == 0, swapped.stdout + swapped.stderr
    spare = street.run("spare")
    assert street.tap(card) == ("access_granted", True)
    eventually(lambda: street.link("spare")["answered"], within_s=60)

    def causes() -> set[str]:
        return {hole["cause"] for hole in street.door()["holes"]}

    eventually(lambda: "journal_replaced" in causes(), within_s=60)
    dead = street.run("first")
    eventually(lambda: street.link("first")["cause"] == "not_admitted", within_s=60)
    dead.stop()
    assert street.link("spare")["answered"]

    spare.stop()
    street.expire("spare")
    spare = street.run("spare")
    eventually(lambda: street.link("spare")["cause"] == "certificate_refused", within_s=60)
    assert ask(street.directory / "spare" / "state")["certificate"]["left_s"] < 0
    assert "drempel-provision reader re-enrol" in street.link("spare")["words"]
    assert re.search(
        r"certificate dates +expired on .* → .*drempel-provision reader re-enrol", street.doctor("spare")
    )
    assert street.tap(card) == ("access_granted", True)
    brought_back = street.enrol("spare", street.bureau("re-enrol", PLACE)["code"])
    assert brought_back.returncode == 0, brought_back.stdout + brought_back.stderr
    eventually(lambda: street.link("spare")["answered"], "the running controller takes it", within_s=60)
    eventually(lambda: street.door()["complete"], within_s=60)

    spare.stop()
    issued = street.controller()["certificate_serial"]
    street.run("spare", clock_ahead_s=61 * 86_400)
    renewed = street.directory / "spare" / "state" / "device.pem"
    eventually(
        lambda: (
            issued not in (street.controller()["certificate_serial"], serial_hex(read_certificate(renewed)))
        ),
        "renewed: two thirds of the certificate's life are over",
        within_s=60,
    )
    eventually(lambda: street.link("spare")["answered"], within_s=60)


@needs_tpm
def test_a_tpm_keeps_the_keys_and_the_door_opens_without_it(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enrolled, connected, restarted and renewed by keys in a TPM; its card in another device has none of them, and without the TPM its door opens."""
    with SoftwareTpm() as chip, SoftwareTpm() as other:
        for name, value in chip.environment.items():
            monkeypatch.setenv(name, value)
        enrolled = street.enrol("sealed", street.codes[OTHER_PLACE])
        assert enrolled.returncode == 0, enrolled.stdout + enrolled.stderr
        assert "the TPM keeps them" in enrolled.stdout
        assert "keeps the device key and the passphrase of the event key" in enrolled.stdout
        device = street.directory / "sealed"
        config = load(device / "controller.toml")
        on_card = b"".join(path.read_bytes() for path in device.rglob("*") if path.is_file())
        assert read_passphrase(config.keys.passphrase_file) not in on_card
        assert (on_card.count(b"BEGIN TSS2 PRIVATE KEY"), on_card.count(b"BEGIN ENCRYPTED PRIVATE KEY")) == (
            1,
            1,
        )

        chip.power_cut()
        controller = street.run("sealed")
        eventually(lambda: "the TPM:" in street.link("sealed")["words"], within_s=60)
        assert street.tap(street.card) == ("access_granted", True)
        chip.power()
        eventually(lambda: street.link("sealed")["answered"], "the TPM is back", within_s=90)
        eventually(lambda: street.door(OTHER_DOOR)["complete"], within_s=60)

        controller.stop()
        street.run("sealed", clock_ahead_s=61 * 86_400)
        renewed = device / "state" / "device.pem"
        eventually(renewed.exists, "two thirds of the certificate's life are over", within_s=60)
        eventually(lambda: street.link("sealed")["answered"], within_s=60)
        assert key_in(renewed.read_bytes())

        for name, value in other.environment.items():
            monkeypatch.setenv(name, value)
        for read in (read_passphrase, lambda _: read_private_key(renewed, b"")):
            with pytest.raises(StoreError, match="made by another one"):
                read(config.keys.passphrase_file)
        refused = subprocess.run(
            [sys.executable, "-c", TLS, str(device / "controller.toml")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "made by another one" in refused.stderr
