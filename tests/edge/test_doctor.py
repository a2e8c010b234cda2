"""The doctor finds each thing that can be wrong with a controller, and says in one line what to do."""

from __future__ import annotations

import compileall
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

from edge import doctor_door, doctor_hub, doctor_machine
from edge.__main__ import main
from edge.config import Config
from edge.config_file import load
from edge.doctor import examine
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
from edge.finding import Finding, Level
from edge.keystore import read_certificate
from edge.status_socket import StatusServer
from provisioning.authority import Authority, Purpose, certificate_pem, generate_key
from provisioning.site import Site
from simulator.pn532 import VirtualPn532
from simulator.virtual_door import VirtualPins
from tests.edge.installed import NOW, install, keep_documents
from tests.edge.small_site import CONTROLLER, FRONT
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
    """For a program: format, ok, findings of four texts each."""
    result = run("--config", str(config.path), "--format", "json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["format"], document["ok"]) == (1, 1, False)
    assert all(set(finding) == {"level", "name", "what", "advice"} for finding in document["findings"])
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
    server.publish(SNAPSHOT)
    server.start()
    try:
        found = by_name(examine(config.path, now=NOW, consent=never))
    finally:
        server.stop()
    assert found["controller"].level is Level.OK
    assert found[f"reader {FRONT}/entry"].what.startswith("PN532 v1.6; 7 cards read, 2 not")
    assert found["pins"].advice.startswith("systemctl stop")
    assert found[f"pins {FRONT}"].what == "secured, strike locked, contact closed"
    assert found["journal"].what == "3 events wait for the hub"
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
    assert found["policy"].what == "could not be examined: ZeroDivisionError: division by zero"
    assert "disk space" in found


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
        ({"state": "lost", "cause": "cannot open: No such file"}, Level.FAIL, "plug it in"),
        ({"state": "lost", "cause": "Permission denied"}, Level.FAIL, "usermod"),
        ({"state": "lost", "cause": "device is busy"}, Level.FAIL, "another program"),
        ({"state": "lost", "cause": "no frame"}, Level.FAIL, "HSU"),
        ({"state": "starting"}, Level.WARN, "ask again"),
        ({"faults": {"card_gone": 50}}, Level.WARN, "antenna"),
        ({}, Level.OK, ""),
    ],
)
def test_what_a_running_controller_says_of_its_reader(
    config: Config, changes: dict[str, Any], level: Level, words: str
) -> None:
    """Each cause has its own way out."""
    said = status()
    said["readers"] = [said["readers"][0] | changes]
    (found,) = examine_readers(config, said)
    assert found.level is level
    assert words in found.advice


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
    assert set(found) == {"disk space", "disk writable", "disk filesystem", "journal"}
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
    assert levels(examine_disk(absent, None)) == {"disk": "warn"}


def test_the_file_system_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    """A mount inside another one wins, also with a space in its name."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        "2 1 0:2 / /var/lib\\040drempel rw - tmpfs tmpfs rw\n"
        "nonsense\n".replace("nonsense\n", "")
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
    assert found["certificate dates"].what.startswith("20 days left")


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
        certificate_pem(certificate) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
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
        found = levels(examine_broker(at_port(config, port), None))
    assert found == {"broker tcp": "ok", "broker tls": "ok", "broker mqtt": "ok"}
    assert heard[0][:9] == b"\x10\x23\x00\x04MQTT\x04"
    assert b"doctor-" in heard[0]
    assert CONTROLLER.encode() not in heard[0]


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
        found = by_name(examine_broker(at_port(config, port), None))
    assert found["broker tls"].level is Level.OK
    assert found["broker mqtt"].level is Level.FAIL
    assert words in found["broker mqtt"].what


def test_a_broker_of_another_name_and_one_without_tls(
    config: Config, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second step fails: which name, which port."""
    monkeypatch.setattr(doctor_hub, "STEP_S", 10.0)
    with broker(site, b"", host="elsewhere") as (port, _):
        found = by_name(examine_broker(at_port(config, port), None))
    assert (set(found), "check [hub] host" in found["broker tls"].advice) == (
        {"broker tcp", "broker tls"},
        True,
    )
    with broker(site, b"220 hello\r\n", tls=False) as (port, _):
        found = by_name(examine_broker(at_port(config, port), None))
    assert found["broker tls"].level is Level.FAIL


def test_nobody_there_and_no_such_name(config: Config) -> None:
    """The first step fails."""
    found = by_name(examine_broker(at_port(config, 9), None))
    assert (set(found), "port" in found["broker tcp"].advice) == ({"broker tcp"}, True)
    found = by_name(examine_broker(replace(config, hub_host="nowhere.invalid"), None))
    assert "name" in found["broker tcp"].advice


def test_keys_that_cannot_be_used_end_it_before_tls(config: Config, site: Site) -> None:
    """Not a fault of the broker's."""
    config.keys.device_key.write_bytes(b"no key")
    with broker(site, b"") as (port, _):
        found = by_name(examine_broker(at_port(config, port), None))
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
