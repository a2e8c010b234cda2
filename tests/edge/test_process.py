"""A whole controller as a real process: a card at an emulated PN532 moves a mock pin, and the journal knows."""

from __future__ import annotations

import itertools
import logging
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from gpiozero.pins.mock import MockFactory

from edge import late_uplink, wiring
from edge.__main__ import COMMANDS, main
from edge.circuits import STABLE_S
from edge.config_file import load
from edge.inputs import PartFailed
from edge.journal import Journal
from edge.late_uplink import LateUplink
from edge.policy_store import PolicyStore
from edge.signers import Signers
from edge.status_socket import ask
from edge.wiring import run_controller
from pacs import bundle
from pacs.card.p256 import encode_point
from pacs.decision import ClockReading
from pacs.envelope import trusted_keys
from pacs.errors import StoreError
from pacs.events import Event, EventDraft, EventKind, event_hash, genesis
from pacs.identifiers import CredentialId
from pacs.messages import DocumentKind
from provisioning.keystore import read_key
from provisioning.readers import DoorWiring, add_controller
from provisioning.site import Site, create_site
from simulator.card_deck import Recipe, deal
from simulator.controller_process import ControllerProcess
from simulator.link_faults import LinkFault, LinkOptions, card_on_link
from simulator.pn532 import ApduSent, ReaderFault, VirtualPn532
from simulator.virtual_card import VirtualCard
from tests.edge.small_site import CONTROLLER, FRONT, RESIDENT, REVOKED, SITE, STRANGER, policy, revocations

NOW = datetime.now(UTC)
UNLOCK_MS = 400
UIDS = (b"\x04" + number.to_bytes(6, "big") for number in itertools.count(1))


@dataclass(frozen=True, kw_only=True)
class Place:
    """A provisioned controller with its documents on disk, and the issuer of its cards."""

    directory: Path
    recipe: Recipe

    @property
    def config(self) -> Path:
        return self.directory / "controller.toml"

    def card(self, kind: str = "genuine", credential_id: CredentialId = RESIDENT) -> VirtualCard:
        return deal(kind, replace(self.recipe, credential_id=credential_id))

    def events(self) -> list[Event]:
        """Everything in the journal, its chain proven; for when the controller has ended."""
        journal = Journal(self.directory / "state" / "journal", controller_id=CONTROLLER)
        try:
            outgoing = journal.outgoing
            encoded = journal.read(outgoing.journal_id, 1, max_events=1_000, max_bytes=10**6)
        finally:
            journal.close()
        events = [Event.from_bytes(data) for data in encoded]
        previous = genesis(CONTROLLER, outgoing.journal_id)
        for event, data in zip(events, encoded, strict=True):
            assert event.previous_hash == previous
            previous = event_hash(data)
        return events

    def drafts(self) -> list[EventDraft]:
        """Without the confirmations of the documents held at the start."""
        drafts = [event.draft for event in self.events()]
        return [draft for draft in drafts if draft.kind is not EventKind.POLICY_APPLIED]

    def kinds(self) -> list[EventKind]:
        return [draft.kind for draft in self.drafts()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One site for all tests: its keys take a moment."""
    directory = tmp_path_factory.mktemp("bureau") / "site"
    return create_site(directory, SITE, now=NOW, broker_hosts=("localhost",))


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader is plugged in."""
    return tmp_path_factory.mktemp("dev") / "reader"


@pytest.fixture(scope="module")
def provisioned(site: Site, device: Path) -> Place:
    """A controller whose hub is not there."""
    passphrase = site.passphrase()
    controller = add_controller(
        site,
        site.authority(passphrase),
        CONTROLLER,
        [DoorWiring(id=FRONT, device=str(device))],
        now=NOW,
        pins="mock",
        broker_host="localhost",
        broker_port=9,
    )
    recipe = Recipe(
        issuer_key=site.card_issuer_key(passphrase),
        issuer=site.issuer,
        credential_id=RESIDENT,
        valid_from=date(2020, 1, 1),
        valid_until=NOW.date() + timedelta(days=365),
        today=NOW.date(),
        signing_ms=0,
    )
    return Place(directory=controller.directory, recipe=recipe)


@pytest.fixture
def place(provisioned: Place, site: Site, tmp_path: Path) -> Place:
    """That controller with an empty journal, and the small site's documents under the site's key."""
    directory = tmp_path / "controller"
    shutil.copytree(provisioned.directory, directory)
    signer = read_key(site.directory / "policy.key.pem", site.passphrase())
    assert isinstance(signer, Ed25519PrivateKey)
    (directory / "state").mkdir(mode=0o700)
    store = PolicyStore(
        directory / "state" / "policy", site_id=SITE, signers=Signers(trusted_keys(signer.public_key()))
    )
    held = replace(
        policy(issued_at=NOW, unlock_ms=UNLOCK_MS),
        issuers={site.issuer: encode_point(site.card_issuer_public_key())},
    )
    clock = ClockReading(at=NOW, trusted=True)
    store.accept(DocumentKind.POLICY, bundle.seal(held, signer), clock)
    store.accept(DocumentKind.REVOCATIONS, revocations(issued_at=NOW).seal(signer), clock)
    return replace(provisioned, directory=directory)


@pytest.fixture
def reader(device: Path) -> Iterator[VirtualPn532]:
    """A PN532 without waits at the place the configuration names."""
    with VirtualPn532(link=device) as reader:
        yield reader


def on_air(card: VirtualCard, link: LinkOptions | None = None) -> Any:
    """A card with a UID of its own, so that the reader need not see the one before depart."""
    return card_on_link(card, replace(link or LinkOptions(), uid=next(UIDS)))


def tap(
    process: ControllerProcess, reader: VirtualPn532, card: VirtualCard, link: LinkOptions | None = None
) -> dict[str, Any]:
    """Hold a card to the reader until its presentation is decided, and take it away."""
    before = len(process.reports)
    reader.insert(on_air(card, link))
    try:
        return process.wait_for(lambda report: "trace" in report, since=before, within_s=20)
    finally:
        reader.remove()


def leave(process: ControllerProcess) -> None:
    """Press the button; once the strike releases, every input before it has been handled."""
    before = len(process.reports)
    process.order(FRONT, "press_rex")
    process.wait_for(lambda report: bool(report.get("released")), since=before)


def strikes(process: ControllerProcess) -> list[bool]:
    return [report["released"] for report in process.reports if report.get("pin") == "strike"]


def test_a_card_opens_the_door_and_somebody_walks_through(place: Place, reader: VirtualPn532) -> None:
    """Card, decision, event, strike, contact, and an orderly end with status 0."""
    process = ControllerProcess(place.config, delay_s=0.05, open_s=0.05)
    with process:
        trace = tap(process, reader, place.card())
        released = process.wait_for(lambda report: report.get("pin") == "strike" and report["released"])
        process.wait_for(lambda report: report.get("pin") == "strike" and not report["released"])
        process.wait_for(lambda report: report.get("pin") == "contact" and not report["level"])
        leave(process)
        status = process.stop()
    assert (trace["trace"], trace["reason"], trace["credential"]) == (
        "access_granted",
        "entitled",
        str(RESIDENT),
    )
    phases = list(trace["marks"])
    assert phases == [
        "detect",
        "activate",
        "select",
        "certificate",
        "sign",
        "verify",
        "decide",
        "journal",
        "strike",
    ]
    instants = list(trace["marks"].values())
    assert instants == sorted(instants)
    assert trace["marks"]["journal"] <= released["at_ns"] <= trace["marks"]["strike"]
    assert status == 0
    kinds = place.kinds()
    assert kinds[:5] == [
        EventKind.CONTROLLER_STARTED,
        EventKind.ACCESS_GRANTED,
        EventKind.DOOR_OPENED,
        EventKind.DOOR_CLOSED,
        EventKind.EXIT_REQUESTED,
    ]
    assert kinds[-1] is EventKind.CONTROLLER_STOPPED
    # whoever left may be on the way through the door when the controller stops
    assert set(kinds[5:-1]) <= {EventKind.DOOR_OPENED, EventKind.DOOR_CLOSED}


def test_what_is_held_is_confirmed_at_every_start(place: Place, reader: VirtualPn532) -> None:
    """Whatever ended the controller between keeping a document and saying so, the hub hears of it."""
    for _ in range(2):
        with ControllerProcess(place.config, person=False) as process:
            leave(process)
            process.stop()
    confirmed = [
        event.draft.details for event in place.events() if event.draft.kind is EventKind.POLICY_APPLIED
    ]
    held = place.directory / "state" / "policy"
    expected = [
        {
            "kind": kind,
            "version": 1,
            "digest": sha256((held / f"{kind}.signed").read_bytes()).digest()[:8],
        }
        for kind in ("policy", "revocations")
    ]
    assert confirmed == expected * 2


def test_every_bad_card_has_its_own_reason_and_moves_nothing(place: Place, reader: VirtualPn532) -> None:
    """Denied with a reason in the journal, or not read and no event about a person."""
    pulled = LinkOptions(fault=LinkFault.PULLED, after=2)
    with ControllerProcess(place.config, person=False) as process:
        found = [
            (trace["trace"], trace["reason"])
            for trace in (
                tap(process, reader, place.card(credential_id=REVOKED)),
                tap(process, reader, place.card(credential_id=STRANGER)),
                tap(process, reader, place.card("forged")),
                tap(process, reader, place.card("unknown-issuer")),
                tap(process, reader, place.card("cloned")),
                tap(process, reader, place.card("expired")),
                tap(process, reader, place.card("not-yet-valid")),
                tap(process, reader, place.card("v1")),
                tap(process, reader, place.card("garbage")),
                tap(process, reader, place.card(), pulled),
            )
        ]
        process.stop()
    assert found == [
        ("access_denied", "credential_revoked"),
        ("access_denied", "credential_unlisted"),
        ("access_denied", "certificate_forged"),
        ("access_denied", "issuer_unknown"),
        ("access_denied", "signature_invalid"),
        ("access_denied", "certificate_expired"),
        ("access_denied", "certificate_not_yet_valid"),
        ("access_denied", "technology_not_allowed"),
        ("not_read", "answer_malformed"),
        ("not_read", "card_gone"),
    ]
    assert True not in strikes(process)
    assert [draft.reason and draft.reason.value for draft in place.drafts()[1:-1]] == [
        reason for outcome, reason in found if outcome == "access_denied"
    ]


def test_a_killed_controller_has_recorded_every_strike(place: Place, reader: VirtualPn532) -> None:
    """SIGKILL the moment a strike moves: its event is there, and the next start says it was unclean."""
    process = ControllerProcess(place.config, person=False).start()
    for _ in range(3):
        tap(process, reader, place.card())
    before = len(process.reports)
    reader.insert(on_air(place.card()))
    process.wait_for(lambda report: bool(report.get("released")) or "trace" in report, since=before)
    process.kill()
    reader.remove()
    granted = [trace["sequence"] for trace in process.reports if trace.get("trace") == "access_granted"]
    with process:
        process.stop()
    drafts = {event.sequence: event.draft for event in place.events()}
    assert all(drafts[sequence].kind is EventKind.ACCESS_GRANTED for sequence in granted)
    assert [draft.kind for draft in drafts.values()].count(EventKind.ACCESS_GRANTED) == 4
    starts = [draft.details for draft in drafts.values() if draft.kind is EventKind.CONTROLLER_STARTED]
    assert [details["unclean"] for details in starts] == [False, True]


def test_a_stop_while_released_locks_first(place: Place, reader: VirtualPn532) -> None:
    """SIGTERM in the middle of a release: the last level of the strike is locked."""
    with ControllerProcess(place.config, person=False) as process:
        tap(process, reader, place.card())
        assert process.stop() == 0
    assert strikes(process)[-1] is False


SLOW_TO_BEGIN = """
import sys
from pathlib import Path
from edge.circuits import STABLE_S
from edge.config_file import load
from edge.wiring import run_controller
from simulator.virtual_door import VirtualPins

def say(trace):
    print(trace.outcome, trace.reason, flush=True)

run_controller(load(Path(sys.argv[1])), factory=VirtualPins(), on_trace=say, on_ready=sys.stdin.readline)
"""


def test_a_card_that_is_there_before_the_controller_is_judged_by_the_held_policy(
    place: Place, device: Path
) -> None:
    """What a reader reads before the first input is handled is verified with the policy's issuers."""
    signed = threading.Event()

    def heard(sent: ApduSent) -> None:
        if sent.apdu.command[1] == 0x88:
            signed.set()

    command = [sys.executable, "-c", SLOW_TO_BEGIN, str(place.config)]
    pipe = subprocess.PIPE
    with (
        VirtualPn532(link=device, on_apdu=heard) as reader,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process,
    ):
        try:
            reader.insert(on_air(place.card()))
            assert signed.wait(30)
            assert process.stdin
            assert process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline().split() == ["access_granted", "entitled"]
        finally:
            process.terminate()


def test_an_input_while_the_controller_still_starts_is_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Pins report before there is anybody to decide; that breaks nothing."""
    config = load(place.config)
    rex_pin = config.doors[0].rex_pin
    factory: Any = MockFactory()

    def press_and_fail(*_: object) -> None:
        for drive in (factory.pin(rex_pin).drive_low, factory.pin(rex_pin).drive_high) * 2:
            drive()
            believed_s = time.monotonic() + STABLE_S
            while time.monotonic() < believed_s:
                time.sleep(STABLE_S / 5)
        raise StoreError("far enough")

    monkeypatch.setattr(wiring, "read_policy_keys", press_and_fail)
    with pytest.raises(StoreError, match="far enough"):
        run_controller(config, factory=factory)
    assert caplog.records == []


def test_the_clock_is_not_believed_before_what_was_journalled(place: Place, reader: VirtualPn532) -> None:
    """A board that begins in the past says so, whatever the documents' age."""
    journal = Journal(place.directory / "state" / "journal", controller_id=CONTROLLER)
    later = NOW + timedelta(days=1)
    journal.append(EventDraft(kind=EventKind.DOOR_CLOSED, occurred_at=later, clock_trusted=True))
    journal.close()
    with ControllerProcess(place.config, person=False) as process:
        trace = tap(process, reader, place.card())
        process.stop()
    assert (trace["trace"], trace["reason"]) == ("access_denied", "clock_untrusted")


def test_an_uplink_that_cannot_be_built_is_an_alarm_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once in the record, as often as it takes; what became durable meanwhile is told to it."""
    monkeypatch.setattr(late_uplink, "UPLINK_AGAIN_S", 0.01)
    told: list[Any] = []
    built = threading.Event()
    failures = iter([OSError(), ZeroDivisionError()])

    class Built:
        def start(self) -> None:
            told.append("start")

        def notify(self) -> None:
            built.set()

        def stop(self) -> None:
            told.append("stop")

    def build() -> Any:
        for failure in failures:
            raise failure
        return Built()

    uplink = LateUplink(build, told.append)
    with caplog.at_level(logging.CRITICAL):
        uplink.start()
        assert built.wait(10)
        uplink.stop()
    assert told == [PartFailed(part="uplink", error="OSError"), "start", "stop"]


def test_an_uplink_that_is_never_built_delays_no_stop(caplog: pytest.LogCaptureFixture) -> None:
    """Waiting for the next attempt ends at once."""
    failed = threading.Event()

    def build() -> Any:
        raise OSError

    uplink = LateUplink(build, lambda _: failed.set())
    with caplog.at_level(logging.CRITICAL):
        uplink.start()
        assert failed.wait(10)
        uplink.stop()
    uplink.notify()


def test_orders_to_the_virtual_door_reach_the_controller(place: Place, reader: VirtualPn532) -> None:
    """A forced door and a request to exit become events; nonsense is refused and changes nothing."""
    with ControllerProcess(place.config, person=False) as process:
        process.order(FRONT, "force")
        process.wait_for(lambda report: report.get("did") == "force" and report["open"])
        process.wait_for(lambda report: report.get("pin") == "contact" and report["level"] == 1)
        leave(process)
        process.order("nowhere", "pull")
        process.wait_for(lambda report: "error" in report)
        process.stop()
    assert place.kinds()[1:-1] == [EventKind.DOOR_FORCED, EventKind.EXIT_REQUESTED]


def test_a_reader_that_vanishes_is_recorded_and_heals(place: Place, reader: VirtualPn532) -> None:
    """Unplugged and plugged in again: two events, and cards are read as before."""
    with ControllerProcess(place.config, person=False) as process:
        tap(process, reader, place.card())
        reader.fault(ReaderFault.UNPLUG)
        reader.fault(ReaderFault.PLUG)
        assert tap(process, reader, place.card())["trace"] == "access_granted"
        process.stop()
    kinds = [kind for kind in place.kinds() if "reader" in kind]
    assert kinds == [EventKind.READER_LOST, EventKind.READER_RESTORED]


def wait_for_status(place: Place, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask the running controller until its answer is so."""
    until_s = time.monotonic() + 20
    while True:
        found = ask(place.directory / "state")
        if condition(found):
            return found
        assert time.monotonic() < until_s, found
        time.sleep(0.05)


# ---- the command line


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, arguments)


def test_a_controller_that_cannot_start_says_why_and_exits_1(place: Place) -> None:
    """Wrong configuration and wrong keys: exit status 1, with the key or the file named."""
    broken = place.directory / "broken.toml"
    broken.write_text(place.config.read_text().replace("strike_pin", "strike_pni"))
    for command in (("run", "--allow-root"), ("check-config",)):
        result = run(*command, "--config", str(broken))
        assert (result.exit_code, "strike_pni: unknown" in result.stderr) == (1, True)
    (place.directory / "policy.pub.pem").write_text("no key\n")
    for command in (("run", "--allow-root"), ("check-config",)):
        result = run(*command, "--config", str(place.config))
        assert (result.exit_code, "policy.pub.pem" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda keys: (keys / "passphrase").write_text("another passphrase\n"), "device.key.pem"),
        (lambda keys: (keys / "passphrase").unlink(), "passphrase"),
        (lambda keys: (keys / "device.key.pem").unlink(), "device.key.pem"),
        (lambda keys: (keys / "device.cert.pem").unlink(), "device.cert.pem"),
        (lambda keys: (keys / "event.key.pem").chmod(0o644), "event.key.pem"),
    ],
    ids=["another passphrase", "no passphrase", "no device key", "no certificate", "event key for all"],
)
def test_a_controller_without_its_own_keys_decides_all_the_same(
    place: Place, reader: VirtualPn532, spoil: Callable[[Path], object], named: str
) -> None:
    """They are the uplink's: the doors work, the record says what is wrong, and check-config names the file."""
    spoil(place.directory)
    result = run("check-config", "--config", str(place.config))
    assert (result.exit_code, named in result.stderr) == (1, True)
    with ControllerProcess(place.config, person=False) as process:
        assert tap(process, reader, place.card())["trace"] == "access_granted"
        answer = wait_for_status(place, lambda found: found["link"]["cause"] == "not_built")
        assert process.stop() == 0
    assert named in answer["link"]["words"]
    faults = [draft.details for draft in place.drafts() if draft.kind is EventKind.INTERNAL_FAULT]
    about_uplink = [fault for fault in faults if fault["about"] == "uplink"]
    assert about_uplink == [{"about": "uplink", "error": "StoreError"}]


def test_a_configuration_in_order_is_confirmed(place: Place) -> None:
    """What provisioning writes is accepted, and names its doors."""
    result = run("check-config", "--config", str(place.config))
    assert (result.exit_code, "doors front" in result.stdout) == (0, True)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_an_example_and_its_exit_statuses(command: str) -> None:
    """The help says how to call it and what its status means."""
    text = " ".join(run(command, "--help").output.split())
    assert re.search(f"Example: (sudo -u drempel )?drempel-edge {command}", text)
    assert "Exit status" in text
    assert command in run("--help").output
