"""The doctor finds each thing that can be wrong with a controller, and says in one line what to do."""

from __future__ import annotations

import compileall
import errno
import json
import os
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge import doctor, doctor_door, doctor_hub, doctor_machine
from edge.__main__ import main
from edge.config import Backend, Config
from edge.config_file import load
from edge.doctor import examine, examine_itself, examine_user
from edge.doctor_door import examine_pins, examine_readers
from edge.doctor_hub import examine_broker, examine_certificates, examine_policy
from edge.doctor_machine import (
    examine_clock,
    examine_disk,
    examine_hardware,
    examine_program,
    examine_watchdog,
    filesystem_of,
)
from edge.finding import Check, Finding, Level
from edge.keystore import read_certificate
from edge.nfc.pn532 import OPENINGS, Pn532
from edge.snapshot import ControllerSnapshot
from edge.status_socket import StatusServer
from pacs import bundle
from pacs.errors import ReaderBroken
from provisioning.authority import Authority, Purpose, certificate_pem, generate_key
from provisioning.site import Site
from simulator.pn532 import VirtualPn532
from simulator.virtual_door import VirtualPins
from tests.edge.installed import NOW, install, keep_documents
from tests.edge.small_site import FRONT
from tests.edge.test_status import SNAPSHOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with one controller."""
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def config(site: Site, tmp_path: Path) -> Config:
    """That controller, with documents and a state of its own."""
    shutil.copytree(site.directory.parent / "controller", tmp_path / "controller")
    keep_documents(site, tmp_path / "controller")
    return load(tmp_path / "controller" / "controller.toml")


def snapshot_of(config: Config) -> ControllerSnapshot:
    """What a controller with this configuration says."""
    reader = replace(SNAPSHOT.readers[0], device=str(config.doors[0].readers[0].device))
    return replace(SNAPSHOT, readers=(reader,))


def status(**changes: Any) -> dict[str, Any]:
    return SNAPSHOT.document(100.0) | changes


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    found = {finding.name: finding for finding in findings}
    for finding in found.values():
        assert "\n" not in finding.line()
        assert (finding.level is Level.OK) is (not finding.advice)
    return found


def levels(findings: Iterator[Finding]) -> dict[str, str]:
    return {name: finding.level.value for name, finding in by_name(findings).items()}


# ---- the command


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["doctor", *arguments])


def test_a_controller_that_is_set_up_and_offline(config: Config) -> None:
    """Text: one line each, level first; exit status 1, for its reader and broker are not there."""
    result = run("--config", str(config.path))
    assert result.exit_code == 1
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    assert {level for level, _ in lines} == {"ok", "warn", "fail"}
    failed = [rest.split("  ")[0] for level, rest in lines if level == "fail"]
    assert failed == [f"reader {FRONT}/entry", "broker tcp"]
    assert all("→" in rest for level, rest in lines if level != "ok")


def test_the_json_form_says_the_same(config: Config) -> None:
    """For a program: format, ok, findings of six texts each, and each check is one that docs/status.md names."""
    result = run("--config", str(config.path), "--format", "json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["format"], document["ok"]) == (1, 1, False)
    keys = {"level", "check", "code", "subject", "values", "name", "what", "advice"}
    assert all(set(finding) == keys for finding in document["findings"])
    of_readers = [finding for finding in document["findings"] if finding["check"] == "reader"]
    assert [finding["subject"] for finding in of_readers] == [f"{FRONT}/entry"]
    described = (Path(__file__).resolve().parents[2] / "docs" / "status.md").read_text(encoding="utf-8")
    assert [check for check in Check if f"`{check}`" not in described] == []
    assert {finding["level"] for finding in document["findings"]} == {"ok", "warn", "fail"}


def test_a_configuration_that_is_wrong_is_all_there_is_to_say(tmp_path: Path) -> None:
    """One line for each problem, and nothing else is examined."""
    path = tmp_path / "controller.toml"
    path.write_text("[controller]\n")
    found = list(examine(path, now=NOW))
    assert {(finding.level, finding.name) for finding in found} == {(Level.FAIL, "configuration")}
    assert len(found) > 3


def test_a_running_controller_is_asked_and_loses_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its serial port nor its pins are opened; what it says of them is told."""

    def never(*_: object, **__: object) -> None:
        pytest.fail("taken from a running controller")

    monkeypatch.setattr(doctor_door, "antenna_of", never)
    monkeypatch.setattr(doctor_door, "open_pins", never)
    monkeypatch.setattr("edge.journal.Journal.__init__", never)
    server = StatusServer(config.state_dir)
    server.publish(snapshot_of(config))
    server.start()
    try:
        found = by_name(examine(config.path, now=NOW, consent=never))
    finally:
        server.stop()
    assert found["controller"].level is Level.OK
    assert found[f"reader {FRONT}/entry"].what.startswith("PN532 v1.6; cards: 7 read, 2 not")
    assert found["pins"].advice.startswith("systemctl stop")
    assert found[f"pins {FRONT}"].what == "secured, strike locked, contact closed"
    assert found["journal"].what == "events waiting for the hub: 3"
    assert found["hub link"].what == "waiting, again in 8 s: check cable"


def test_a_controller_that_hangs_is_not_disturbed_either(config: Config) -> None:
    """Whoever holds the socket and says nothing has the reader and the pins."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(config.state_dir / "status.sock"))
        silent.listen()
        found = by_name(examine(config.path, now=NOW))
    assert found["controller"].level is Level.FAIL
    assert "look at its log" in found["controller"].advice
    assert found[f"reader {FRONT}/entry"].level is Level.WARN
    assert found["pins"].level is Level.WARN


def test_an_examination_that_fails_hides_no_other(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a finding of its own."""
    monkeypatch.setattr(doctor_hub, "_doors", lambda *_: 1 / 0)
    found = by_name(examine(config.path, now=NOW))
    assert found["examination policy"].what == "could not be done: ZeroDivisionError: division by zero"
    assert "disk space" in found


def test_a_running_controller_reads_its_documents_once_and_pauses(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card may be held to a reader meanwhile: a policy of thousands keeps it waiting for a slice at most."""
    pauses: list[Callable[[], None]] = []
    opened = bundle.open_bundle

    def open_bundle(data: bytes, trusted: Any, *, pause: Callable[[], None]) -> Any:
        pauses.append(pause)
        return opened(data, trusted, pause=pause)

    monkeypatch.setattr(bundle, "open_bundle", open_bundle)
    found = by_name(examine_itself(config, now=NOW))
    assert found["policy"].level is Level.OK
    assert pauses == [doctor.pause_for_taps]


# ---- readers and pins


def test_a_reader_is_opened_and_asked(config: Config, tmp_path: Path) -> None:
    """Its firmware, its speed, its field."""
    door = config.doors[0]
    reader = replace(door.readers[0], device=tmp_path / "reader")
    config = replace(config, doors=(replace(door, readers=(reader,)),))
    with VirtualPn532(link=tmp_path / "reader"):
        (found,) = examine_readers(config, None)
    assert found.level is Level.OK
    assert found.what.startswith("PN532 v1.6")
    assert "no card in it" in found.what
    (found,) = examine_readers(config, None)
    assert (found.level, "plug it in" in found.advice) == (Level.FAIL, True)


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"state": "lost", "cause": "no PC/SC service", "advice": "start it"}, Level.FAIL, "start it"),
        ({"state": "lost", "cause": "a busy lock"}, Level.FAIL, "look at the log"),
        ({"state": "starting"}, Level.WARN, "ask again"),
        ({"faults": {"card_gone": 50}}, Level.WARN, "antenna"),
        ({"losses": 500}, Level.WARN, "cable"),
        ({"losses": 3}, Level.WARN, "cable"),
        ({"losses": 2}, Level.OK, ""),
        ({"baud": 115_200}, Level.WARN, "shorten the cable"),
        ({"baud": None}, Level.OK, ""),
        ({"device": "/dev/spare"}, Level.WARN, "systemctl restart drempel-edge"),
        ({"side": "exit"}, Level.WARN, "systemctl restart drempel-edge"),
        ({}, Level.OK, ""),
    ],
)
def test_what_a_running_controller_says_of_its_reader(
    config: Config, changes: dict[str, Any], level: Level, words: str
) -> None:
    """What it says to do is passed on; often lost, slower than wanted, or not in use at all are findings."""
    said = snapshot_of(config).document(100.0)
    said["readers"] = [said["readers"][0] | changes]
    (found,) = examine_readers(config, said)
    assert found.level is level
    assert words in found.advice


def test_a_few_losses_in_a_long_time_are_none(config: Config) -> None:
    """The rate counts: somebody works on a reader now and then."""
    said = snapshot_of(config).document(100.0) | {"uptime_s": 100 * 3_600.0}
    for losses, level in ((99, Level.OK), (101, Level.WARN)):
        said["readers"] = [said["readers"][0] | {"losses": losses}]
        (found,) = examine_readers(config, said)
        assert found.level is level


class Patient:
    """A reader that a controller comes to terms with at its sixth attempt, at ``baud``."""

    device = "/dev/patient"

    def __init__(self, baud: int = 921_600, failures: int = 5) -> None:
        self.baud = baud
        self.failures = failures
        self.openings = 0

    def open(self) -> None:
        self.openings += 1
        if self.openings <= self.failures:
            raise ReaderBroken("no PN532 answers", "look at it")

    def close(self) -> None:
        pass

    def check(self) -> str:
        return "PN532 v1.6"

    def poll(self, until_ns: int) -> None:
        pass


@pytest.mark.parametrize(
    ("antenna", "level", "words"),
    [
        (Patient(), Level.OK, ""),
        (Patient(failures=6), Level.FAIL, "look at it"),
        (Patient(baud=115_200), Level.WARN, "shorten the cable"),
    ],
)
def test_a_reader_is_given_the_patience_the_controller_has(
    config: Config, monkeypatch: pytest.MonkeyPatch, antenna: Patient, level: Level, words: str
) -> None:
    """It is opened as often as each attempt is more patient than the last; slower than wanted is a warning."""
    monkeypatch.setattr(doctor_door, "antenna_of", lambda _: antenna)
    monkeypatch.setattr(doctor_door, "Pn532", Patient)
    (found,) = examine_readers(config, None)
    assert (found.level, words in found.advice, antenna.openings) == (level, True, 6)


def test_the_last_attempt_is_as_patient_as_any() -> None:
    """So a doctor who gives up does so where the controller would go on for ever in the same way."""
    antenna = Pn532("/dev/does-not-exist")
    searches = []
    for _ in range(OPENINGS + 1):
        searches.append(antenna._probe_ms)
        with pytest.raises(ReaderBroken):
            antenna.open()
    assert searches[-3] < searches[-2] == searches[-1]


@pytest.mark.parametrize(
    ("device", "backend", "warned"),
    [
        ("/dev/ttyUSB0", Backend.PN532, True),
        ("/dev/ttyACM11", Backend.PN532, True),
        ("/dev/ttyAMA0", Backend.PN532, False),
        ("/dev/drempel-reader-platform-usb-0_1_3", Backend.PN532, False),
        ("/dev/ttyUSB0", Backend.PCSC, False),
    ],
)
def test_a_name_that_another_adapter_can_get_is_found(
    config: Config, device: str, backend: Backend, warned: bool
) -> None:
    """Two adapters that change places after a restart would open each other's door."""
    door = config.doors[0]
    reader = replace(door.readers[0], device=Path(device), backend=backend)
    config = replace(config, doors=(replace(door, readers=(reader,)),))
    found = levels(examine_readers(config, {"unknown": True}))
    assert found.get(f"device {FRONT}/entry") == ("warn" if warned else None)


def test_a_door_the_running_controller_has_not_heard_of(config: Config) -> None:
    """The file was changed after the start: it takes a restart, and asking again does not help."""
    said = replace(snapshot_of(config), doors=(), readers=())
    server = StatusServer(config.state_dir)
    server.publish(said)
    server.start()
    try:
        found = by_name(examine(config.path, now=NOW))
    finally:
        server.stop()
    for name in ("controller", f"reader {FRONT}/entry"):
        assert found[name].level is Level.WARN
        assert found[name].advice == "sudo systemctl restart drempel-edge"


def test_a_file_in_place_of_the_state_directory(config: Config) -> None:
    """No controller runs there, and the file is what has to go."""
    shutil.rmtree(config.state_dir)
    config.state_dir.write_bytes(b"")
    found = by_name(examine(config.path, now=NOW))
    assert (found["controller"].level, found["controller"].what) == (Level.WARN, "not running")
    assert found["state dir"].level is Level.FAIL
    assert "is no directory" in found["state dir"].what
    under = by_name(examine_disk(replace(config, state_dir=config.state_dir / "deeper"), None))
    assert f"{config.state_dir} is no directory" in under["state dir"].what


def test_another_user_than_the_controller_is_warned(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """What root may do says nothing; state and keys of two owners cannot both be the controller's."""
    monkeypatch.setattr(os, "geteuid", lambda: config.state_dir.stat().st_uid)
    assert examine_user(config, config.path).level is Level.OK
    monkeypatch.setattr(os, "geteuid", lambda: 64_123)
    found = examine_user(config, config.path)
    assert (found.level, "64123" in found.what, "sudo -u" in found.advice) == (Level.WARN, True, True)
    if os.getuid() != 0:
        pytest.skip("NOT CHECKED: only root can give a file away")
    os.chown(config.keys.event_key, 64_124, 64_124)
    found = examine_user(config, config.path)
    assert (found.level, found.advice.endswith(f"{config.keys.event_key}")) == (Level.WARN, True)
    assert "64124" in found.what


def test_a_strike_moves_only_with_consent(config: Config) -> None:
    """Asked for each door; released, locked and let go; each input is read."""
    pins: Any = VirtualPins()
    door = config.doors[0]
    assert door.contact_pin
    assert door.rex_pin
    pins.pin(door.contact_pin).pull_to(False)
    asked: list[str] = []

    def consent(door_id: str) -> bool:
        asked.append(door_id)
        return len(asked) > 1

    moved: list[bool] = []

    def sleep(_: float) -> None:
        moved.append(bool(pins.pin(door.strike_pin).state))

    assert levels(examine_pins(config, None, None, factory=pins)) == {"pins": "warn"}
    refused = by_name(examine_pins(config, None, consent, factory=pins, sleep=sleep))
    assert (refused[f"strike {FRONT}"].level, moved) == (Level.WARN, [])
    found = by_name(examine_pins(config, None, consent, factory=pins, sleep=sleep))
    assert (asked, moved) == ([FRONT, FRONT], [True])
    assert pins.pin(door.strike_pin).function == "input"
    assert [state.state for state in pins.pin(door.strike_pin).states][-1] is False
    assert found[f"strike {FRONT}"].level is Level.OK
    assert found[f"contact {FRONT}"].what == "door closed"
    assert found[f"rex {FRONT}"].level is Level.WARN  # a button nobody wired reads as pressed


def test_pins_that_are_not_there_are_a_finding(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """No board, or another program that has a pin."""

    def refuse(*_: object) -> None:
        raise OSError("no gpiochip")

    monkeypatch.setattr(doctor_door, "open_pins", refuse)
    found = by_name(examine_pins(config, None, lambda _: True))
    assert "no gpiochip" in found["pins"].what


# ---- the machine


def test_a_clock_is_compared_with_what_has_passed(config: Config) -> None:
    """NTP, the build, the documents, the journal, the controller's own trust."""

    def clock(
        now: datetime, said: dict[str, Any] | None = None, *, synchronised: bool | None = True
    ) -> dict[str, str]:
        return levels(examine_clock(config, said, now, is_synchronised=lambda: synchronised))

    assert clock(NOW, synchronised=True) == {"clock ntp": "ok", "clock": "ok"}
    assert clock(NOW, synchronised=False) == {"clock ntp": "warn", "clock": "ok"}
    assert clock(NOW, synchronised=None)["clock ntp"] == "warn"
    assert clock(NOW - timedelta(hours=1))["clock"] == "fail"
    assert clock(datetime(2020, 1, 1, tzinfo=UTC))["clock"] == "fail"
    distrusted = {"at": "", "trusted": False, "distrust": "not_synchronised"}
    assert clock(NOW, status(clock=distrusted))["clock"] == "fail"
    (config.state_dir / "journal").mkdir()
    written = config.state_dir / "journal" / "segment"
    written.write_bytes(b"x")
    assert clock(NOW + timedelta(days=1))["clock"] == "ok"


def test_a_disk_is_free_writable_and_keeps_what_it_took(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Space, a file that is written, the file system, the events that wait."""
    found = levels(examine_disk(config, None))
    assert found["disk writable"] == "ok"
    assert set(found) == {"state dir", "disk space", "disk writable", "disk filesystem", "journal"}
    assert levels(examine_disk(config, status()))["journal"] == "ok"
    many = status(journal={"waiting": 20_000})
    assert levels(examine_disk(config, many))["journal"] == "warn"
    for limit, level in (("LITTLE_FREE_BYTES", "warn"), ("NO_FREE_BYTES", "fail")):
        monkeypatch.setattr(doctor_machine, limit, 1 << 62)
        assert levels(examine_disk(config, None))["disk space"] == level
    for kind, level in (("tmpfs", "warn"), ("vfat", "fail"), ("ext4", "ok")):
        monkeypatch.setattr(doctor_machine, "filesystem_of", lambda _, kind=kind: kind)
        assert levels(examine_disk(config, None))["disk filesystem"] == level
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(30, "read-only")))
    assert levels(examine_disk(config, None))["disk writable"] == "fail"
    assert list(config.state_dir.glob("tmp*")) == []
    absent = replace(config, state_dir=config.state_dir / "absent")
    assert levels(examine_disk(absent, None)) == {"state dir": "warn"}


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EACCES, "chown"), (errno.EROFS, "read-write"), (errno.EIO, "card")]
)
def test_a_disk_that_takes_nothing_says_why(
    config: Config, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    """Another owner, mounted read-only, worn out: each has its own way out."""

    def refuse(**_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    found = by_name(examine_disk(config, None))["disk writable"]
    assert (found.level, words in found.advice) == (Level.FAIL, True)


def test_the_file_system_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    """A mount inside another one wins, also with a space in its name; a line that is none is passed over."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        "2 1 0:2 / /var/lib\\040drempel rw - tmpfs tmpfs rw\n"
        "nonsense\n"
        "not enough - fields\n"
    )
    assert filesystem_of(Path("/var/lib drempel/state"), mounts) == "tmpfs"
    assert filesystem_of(Path("/var"), mounts) == "ext4"
    assert filesystem_of(Path("/var"), tmp_path / "absent") == ""


@pytest.mark.parametrize(("millidegrees", "level"), [("45000", "ok"), ("72000", "warn"), ("85000", "fail")])
def test_heat_and_undervoltage_are_found_where_they_are_measured(
    tmp_path: Path, millidegrees: str, level: str
) -> None:
    """From /sys; nothing is said where there is nothing to read."""
    assert list(examine_hardware(tmp_path)) == []
    zone, supply = tmp_path / "class/thermal/thermal_zone0", tmp_path / "class/hwmon/hwmon1"
    zone.mkdir(parents=True)
    supply.mkdir(parents=True)
    (zone / "temp").write_text(millidegrees + "\n")
    (supply / "name").write_text("rpi_volt\n")
    for alarm, expected in (("0\n", "ok"), ("1\n", "fail")):
        (supply / "in0_lcrit_alarm").write_text(alarm)
        assert levels(examine_hardware(tmp_path)) == {"temperature": level, "supply": expected}


def test_a_program_that_is_compiled_again_and_again_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that ends it; that command makes it so."""
    (tmp_path / "freshly_written.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert levels(examine_program(["freshly_written"])) == {"program": "warn"}
    compileall.compile_dir(tmp_path, quiet=1)
    assert levels(examine_program(["freshly_written"])) == {"program": "ok"}


def test_who_watches_is_said(tmp_path: Path) -> None:
    """Systemd over the controller, the hardware over systemd."""
    state = tmp_path / "class/watchdog/watchdog0/state"
    state.parent.mkdir(parents=True)
    state.write_text("inactive\n")
    watched = {"interval_s": 10.0, "fed_s_ago": 1.0, "stalled": []}
    for said, expected in (
        (watched, "ok"),
        (watched | {"interval_s": None}, "warn"),
        (watched | {"stalled": ["timetable"]}, "fail"),
    ):
        found = levels(examine_watchdog(status(watchdog=said), tmp_path))
        assert found == {"watchdog service": expected, "watchdog machine": "warn"}
    state.write_text("active\n")
    assert levels(examine_watchdog(None, tmp_path)) == {"watchdog machine": "ok"}


# ---- certificates


@pytest.mark.parametrize(
    ("later", "dates"),
    [
        (timedelta(0), "ok"),
        (timedelta(days=-2), "fail"),
        (timedelta(days=10_000), "fail"),
    ],
)
def test_the_dates_of_certificates(config: Config, later: timedelta, dates: str) -> None:
    """Valid, not yet valid, expired; the chain and the names are in order all the same."""
    found = levels(examine_certificates(config, NOW + later))
    assert found["certificate dates"] == found["root dates"] == dates
    assert {found[name] for name in ("keys", "certificate chain", "certificate names")} == {"ok"}


def test_a_certificate_is_about_to_expire(config: Config) -> None:
    """Somebody has to do something in its last month."""
    certificate = read_certificate(config.keys.device_certificate)
    at = certificate.not_valid_after_utc - timedelta(days=20)
    found = by_name(examine_certificates(config, at))
    assert found["certificate dates"].level is Level.WARN
    assert found["certificate dates"].what.endswith("days left: 20")


def test_a_certificate_of_another_root_or_another_name(config: Config) -> None:
    """What the broker would refuse is found here."""
    other = Authority.create("other", NOW)
    config.keys.root_certificate.write_bytes(certificate_pem(other.certificate))
    assert levels(examine_certificates(config, NOW))["certificate chain"] == "fail"
    config.keys.device_key.chmod(0o644)
    found = by_name(examine_certificates(config, NOW))
    assert (set(found), "chmod 600" in found["keys"].advice) == ({"keys"}, True)


# ---- the broker


@contextmanager
def broker(
    site: Site, answer: bytes | None, *, host: str = "localhost", tls: bool = True
) -> Iterator[tuple[int, list[bytes]]]:
    """Accepts one connection after the other, and answers what is sent first with ``answer``; None: never."""
    key = generate_key()
    authority = site.authority(site.passphrase())
    certificate = authority.certify(
        name=host, public_key=key.public_key(), purpose=Purpose.SERVER, now=datetime.now(UTC)
    )
    files = site.directory.parent
    (files / "server.pem").write_bytes(
        authority.chain_pem(certificate)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "server.pem")
    context.load_verify_locations(site.directory / "root.cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    heard: list[bytes] = []
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                plain, _ = listener.accept()
                with plain, context.wrap_socket(plain, server_side=True) if tls else plain as caller:
                    heard.append(caller.recv(200))
                    if answer is None:
                        over.wait(30)
                    elif answer:
                        caller.sendall(answer)
                        caller.recv(10)
            except OSError:
                continue

    with socket.create_server(("localhost", 0)) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], heard
        finally:
            over.set()
            thread.join(30)


def at_port(config: Config, port: int) -> Config:
    return replace(config, hub_host="localhost", hub_port=port)


def test_a_broker_that_takes_us_under_another_client_id(config: Config, site: Site) -> None:
    """TCP, TLS with its name checked, CONNECT accepted; the controller's own session is left alone."""
    with broker(site, b"\x20\x02\x00\x00") as (port, heard):
        found = levels(examine_broker(at_port(config, port), None, NOW))
    assert found == {"broker tcp": "ok", "broker tls": "ok", "broker mqtt": "ok"}
    assert heard[0][:9] == b"\x10\x23\x00\x04MQTT\x04"
    assert heard[0][14:].startswith(b"doctor-")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x20\x02\x00\x05", "does not let this controller in"),
        (b"\x20\x02\x00\x63", "refused with 99"),
        (b"HTTP/1.1 400", "no MQTT"),
        (b"", "ended by the broker"),
        (None, "silent"),
    ],
)
def test_a_broker_that_does_not_take_us(
    config: Config, site: Site, monkeypatch: pytest.MonkeyPatch, answer: bytes | None, words: str
) -> None:
    """The last step fails, and what it said is told."""
    monkeypatch.setattr(doctor_hub, "STEP_S", 0.5 if answer is None else 10.0)
    with broker(site, answer) as (port, _):
        found = by_name(examine_broker(at_port(config, port), None, NOW))
    assert found["broker tls"].level is Level.OK
    assert found["broker mqtt"].level is Level.FAIL
    assert words in found["broker mqtt"].what


def test_a_broker_of_another_name_and_one_without_tls(
    config: Config, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second step fails: which name, which port."""
    monkeypatch.setattr(doctor_hub, "STEP_S", 10.0)
    with broker(site, b"", host="elsewhere") as (port, _):
        found = by_name(examine_broker(at_port(config, port), None, NOW))
    assert (set(found), "check [hub] host" in found["broker tls"].advice) == (
        {"broker tcp", "broker tls"},
        True,
    )
    with broker(site, b"220 hello\r\n", tls=False) as (port, _):
        found = by_name(examine_broker(at_port(config, port), None, NOW))
    assert found["broker tls"].level is Level.FAIL


def test_nobody_there_and_no_such_name(config: Config) -> None:
    """The first step fails."""
    found = by_name(examine_broker(at_port(config, 9), None, NOW))
    assert (set(found), "port" in found["broker tcp"].advice) == ({"broker tcp"}, True)
    found = by_name(examine_broker(replace(config, hub_host="nowhere.invalid"), None, NOW))
    assert "name" in found["broker tcp"].advice


def test_keys_that_cannot_be_used_end_it_before_tls(config: Config, site: Site) -> None:
    """Not a fault of the broker's."""
    config.keys.device_key.write_bytes(b"no key")
    with broker(site, b"") as (port, _):
        found = by_name(examine_broker(at_port(config, port), None, NOW))
    assert "keys" in found["broker tls"].advice


# ---- the documents


def test_documents_by_which_the_doors_can_decide(config: Config) -> None:
    """Both are there, signed, young, and know the door."""
    found = by_name(examine_policy(config, NOW))
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert set(found) == {"policy", "revocations", f"door {FRONT}"}
    assert found["policy"].what.startswith("version 1, ")


def change_policy_file(change: Callable[[Path], object]) -> Callable[[Config], Config]:
    def apply(config: Config) -> Config:
        change(config.state_dir / "policy" / "policy.signed")
        return config

    return apply


@pytest.mark.parametrize(
    ("change", "later", "name", "level"),
    [
        (change_policy_file(Path.unlink), timedelta(0), "policy", "fail"),
        (change_policy_file(lambda path: path.write_bytes(b"x")), timedelta(0), "policy", "fail"),
        (lambda config: config, timedelta(days=4_000), "revocations", "fail"),
        (lambda config: config, timedelta(hours=30), f"door {FRONT}", "warn"),
        (lambda config: replace(config, site_id="other"), timedelta(0), "policy", "fail"),
        (lambda config: replace(config, controller_id="c2"), timedelta(0), f"door {FRONT}", "fail"),
        (
            lambda config: replace(config, doors=(replace(config.doors[0], id="attic"),)),
            timedelta(0),
            "door attic",
            "fail",
        ),
    ],
)
def test_what_is_wrong_with_the_documents(
    config: Config, change: Callable[[Config], Config], later: timedelta, name: str, level: str
) -> None:
    """Absent, damaged, expired, too old, of another site, of another controller, without the door."""
    assert levels(examine_policy(change(config), NOW + later))[name] == level


def test_the_documents_are_left_as_they_are(config: Config) -> None:
    """A file that cannot be used is not set aside: that is for the controller to do and to record."""
    path = config.state_dir / "policy" / "policy.signed"
    path.write_bytes(b"damaged")
    before = sorted(file.name for file in path.parent.iterdir())
    list(examine_policy(config, NOW))
    assert sorted(file.name for file in path.parent.iterdir()) == before
