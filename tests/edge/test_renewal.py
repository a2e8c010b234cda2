"""Renewal of the controller's certificate: what is asked, what is adopted and when, and every way in which that goes wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from edge.config import KeyPaths
from edge.device_keys import sealed
from edge.keystore import Keystore, read_certificate
from edge.renewal import FIRST_RETRY_S, LONGEST_RETRY_S, MOST_TRIES, Renewal
from pacs.certificates import requested_key, serial_hex
from pacs.errors import MalformedData
from pacs.identifiers import ControllerId
from pacs.messages import RenewalRequest
from provisioning.authority import Authority, Purpose, certificate_pem
from tests.edge.test_keystore import public_pem, write_key

C1 = ControllerId("c1")
MADE = datetime(2026, 3, 1, tzinfo=UTC)
DUE = timedelta(days=61)
PASSPHRASE = b"correct horse battery staple"
AUTHORITY = Authority.create("root", MADE - timedelta(days=1))


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device's directory, its certificate of ``MADE`` for ninety days."""
    directory = tmp_path_factory.mktemp("device")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = AUTHORITY.certify(
        name=C1, public_key=key.public_key(), purpose=Purpose.CLIENT, now=MADE, days=90
    )
    (directory / "device.cert.pem").write_bytes(certificate_pem(certificate))
    write_key(directory / "device.key.pem", key)
    write_key(directory / "event.key.pem", ed25519.Ed25519PrivateKey.generate())
    (directory / "root.cert.pem").write_bytes(certificate_pem(AUTHORITY.certificate))
    (directory / "policy.pub.pem").write_bytes(public_pem(ed25519.Ed25519PrivateKey.generate().public_key()))
    (directory / "passphrase").write_bytes(PASSPHRASE)
    (directory / "passphrase").chmod(0o600)
    return directory


class Device:
    """A controller's renewal over its files; ``wall`` and ``now_s`` are moved by the test."""

    def __init__(self, directory: Path) -> None:
        self.paths = KeyPaths(
            device_certificate=directory / "device.cert.pem",
            device_key=directory / "device.key.pem",
            event_key=directory / "event.key.pem",
            root_certificate=directory / "root.cert.pem",
            policy_public_key=directory / "policy.pub.pem",
            passphrase_file=directory / "passphrase",
            renewed=directory / "device.pem",
        )
        self.next = directory / "device.pem.next"
        self.key = directory / "device.pem.key"
        self.renewed = directory / "device.pem"
        self.wall = MADE + DUE
        self.now_s = 1000.0
        self.starts()
        self.first = self.renewal.standing.serial

    def starts(self) -> None:
        """The process, perhaps after it was killed."""
        self.renewal = Renewal(Keystore.open(self.paths, C1), C1, lambda: self.wall)

    def asks(self) -> RenewalRequest | None:
        asked = self.renewal.request(self.now_s)
        return None if asked is None else RenewalRequest.from_bytes(asked)

    def connects(self) -> str:
        """With which certificate."""
        self.renewal.tls_context(self.now_s)
        return self.renewal.connected_with.serial

    def fails(self) -> None:
        """The connection ends, and the hub has not answered on it."""
        self.renewal.ended(self.now_s)

    def steps(self) -> list[Callable[[], object]]:
        """A renewal that goes well, one step after the other."""
        return [
            lambda: self.asks() if not self.next.exists() else None,
            lambda: self.key.exists() and self.renewal.received(answer_to(self.key)),
            self.connects,
            self.renewal.answered,
        ]


def chain(
    key: ec.EllipticCurvePublicKey, *, name: str = C1, authority: Authority = AUTHORITY, days_on: float = 61
) -> str:
    """A certificate for ninety days, issued so many days after the first one."""
    made = authority.certify(
        name=name, public_key=key, purpose=Purpose.CLIENT, now=MADE + timedelta(days=days_on), days=90
    )
    return authority.chain_pem(made).decode()


def answer_to(key_file: Path) -> str:
    """What the hub answers to the key in this file."""
    key = load_pem_private_key(key_file.read_bytes(), PASSPHRASE)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return chain(key.public_key())


def asked_key(asked: RenewalRequest | None) -> ec.EllipticCurvePublicKey:
    assert asked is not None
    return requested_key(asked.certificate_request)


@pytest.fixture
def device(enrolled: Path, tmp_path: Path) -> Device:
    shutil.copytree(enrolled, tmp_path / "device")
    return Device(tmp_path / "device")


@pytest.mark.parametrize(
    ("wall", "asks"),
    [
        (MADE + timedelta(days=59), False),
        (MADE + timedelta(days=61), True),
        (MADE + timedelta(days=100), True),  # nobody lets it in any more, but asking costs nothing
        (datetime(1970, 1, 1, tzinfo=UTC), False),  # no clock yet
        (datetime(2090, 1, 1, tzinfo=UTC), True),  # a wrong one: the hub limits how often
    ],
)
def test_it_is_asked_for_from_two_thirds_of_its_life_on(device: Device, wall: datetime, asks: bool) -> None:
    """By this controller's clock, whatever that says."""
    device.wall = wall
    assert (device.asks() is not None) is asks


def test_it_is_asked_again_less_and_less_often(device: Device) -> None:
    """After 1, 2, 4 … minutes, an hour at most, for the same key, over restarts too."""
    key = asked_key(device.asks())
    waits = []
    for _ in range(8):
        before_s = device.now_s
        while (asked := device.asks()) is None:
            device.now_s += FIRST_RETRY_S / 2
        assert asked_key(asked) == key
        waits.append(device.now_s - before_s)
    assert waits == [60, 120, 240, 480, 960, 1920, LONGEST_RETRY_S, LONGEST_RETRY_S]
    device.starts()
    assert asked_key(device.asks()) == key


def test_a_new_certificate_is_adopted_once_the_hub_has_answered_on_it(device: Device) -> None:
    """Tried with the next connection, in force only after the answer; the configured files stay as they are."""
    assert device.renewal.received(chain(asked_key(device.asks())))
    tried = device.connects()
    assert tried != device.first
    assert (device.renewal.standing.serial, device.renewed.exists()) == (device.first, False)
    device.renewal.answered()
    assert serial_hex(read_certificate(device.renewed)) == tried == device.renewal.standing.serial
    assert not device.next.exists()
    assert not device.key.exists()
    assert device.renewed.stat().st_mode & 0o777 == 0o600
    assert device.asks() is None
    assert device.connects() == tried


def test_the_present_one_is_used_while_the_new_one_does_not_work(device: Device) -> None:
    """Tried three times, each time later; then, the hub having answered on the present one, another key is asked for."""
    key = asked_key(device.asks())
    device.renewal.received(chain(key))
    tried = device.connects()
    waits = []
    for _ in range(MOST_TRIES):
        device.fails()
        assert device.connects() == device.first
        device.renewal.answered()
        failed_s = device.now_s
        while device.next.exists() and not device.renewal.is_to_be_tried(device.now_s):
            device.now_s += FIRST_RETRY_S / 2
        waits.append(device.now_s - failed_s)
        device.fails()
        if device.next.exists():
            assert device.connects() == tried
    assert waits == [60, 120, 0]
    device.now_s += LONGEST_RETRY_S
    assert asked_key(device.asks()) != key


def test_a_hub_that_is_away_gives_nothing_up(device: Device) -> None:
    """A new one that fails as often as the present one may be the only good one: the hub may go by it already."""
    device.renewal.received(chain(asked_key(device.asks())))
    for _ in range(3 * MOST_TRIES):
        device.connects()
        device.fails()
        device.now_s += FIRST_RETRY_S
    device.now_s += LONGEST_RETRY_S
    assert device.connects() != device.first
    device.renewal.answered()
    assert device.renewed.exists()


@pytest.mark.parametrize("killed_after", range(4))
def test_a_killed_controller_goes_on_where_it_was(device: Device, killed_after: int) -> None:
    """After each step the process ends, and another one completes the renewal from the files."""
    for step in device.steps()[:killed_after]:
        step()
    device.now_s = 0.0
    device.starts()
    for step in device.steps():
        step()
    assert device.renewal.standing.serial != device.first
    assert not device.key.exists()
    assert not device.next.exists()


def test_a_kill_between_its_last_two_steps_leaves_what_is_still_tried(device: Device) -> None:
    """The new key's file is gone, the new certificate with its key is not in force yet."""
    device.renewal.received(chain(asked_key(device.asks())))
    device.key.unlink()
    device.starts()
    assert device.asks() is None
    assert device.connects() != device.first
    device.renewal.answered()
    assert device.renewed.exists()


def test_a_key_that_was_certified_before_is_not_used_again(device: Device) -> None:
    """The hub would give the same certificate again, and the controller would end with it."""
    key = asked_key(device.asks())
    left_behind = device.key.read_bytes()
    device.renewal.received(chain(key, days_on=0.5))
    device.connects()
    device.renewal.answered()
    device.key.write_bytes(left_behind)
    device.key.chmod(0o600)
    with pytest.raises(MalformedData, match="no later"):
        device.renewal.received(chain(asked_key(device.asks()), days_on=0.5))
    device.now_s += LONGEST_RETRY_S
    assert asked_key(device.asks()) != key


STRANGER = ec.generate_private_key(ec.SECP256R1()).public_key()


@pytest.mark.parametrize(
    ("nonsense", "why"),
    [
        (lambda _: "", "1 to"),
        (lambda _: "no certificate", "1 to"),
        (lambda key: chain(key)[:300], "1 to"),
        (lambda key: chain(key).replace("MII", "MIX", 1), "not X.509"),
        (lambda key: chain(key) * 20, "1 to"),
        (lambda _: chain(STRANGER), "another key"),
        (lambda key: chain(key, name="c2"), "not of controller c1"),
        (lambda key: chain(key, authority=Authority.create("root", MADE)), "site's root"),
        (lambda key: chain(key, days_on=-30), "no later"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_changes_nothing(
    device: Device, nonsense: Callable[[ec.EllipticCurvePublicKey], str], why: str
) -> None:
    """It is refused by name, the present certificate is used, and the hub is asked again."""
    key = asked_key(device.asks())
    with pytest.raises(MalformedData, match=why):
        device.renewal.received(nonsense(key))
    assert not device.next.exists()
    assert device.connects() == device.first
    device.now_s += LONGEST_RETRY_S
    assert device.asks() is not None


def test_an_answer_that_nobody_asked_for_is_left(device: Device) -> None:
    """There is no key that it could be for."""
    assert not device.renewal.received(chain(STRANGER))
    assert not device.next.exists()


@pytest.mark.parametrize("kept", [0.0, 0.2, 0.5, 0.8, 0.99])
def test_a_damaged_file_is_not_tried_and_another_is_asked_for(device: Device, kept: float) -> None:
    """Of a memory card that lost part of what was written: certificate, key, or both."""
    device.renewal.received(chain(asked_key(device.asks())))
    for file in (device.next, device.key):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(len(whole) * kept)])
    device.starts()
    assert device.connects() == device.first
    assert not device.next.exists()
    assert device.renewal.received(chain(asked_key(device.asks())))
    assert device.connects() != device.first


def test_what_was_written_halfway_beside_it_is_not_looked_at(device: Device) -> None:
    """A write that was cut off is under another name."""
    device.next.with_name(f"{device.next.name}.part").write_bytes(b"half")
    assert device.connects() == device.first
    assert device.renewal.received(chain(asked_key(device.asks())))


def test_an_enrolment_meanwhile_counts_more(device: Device) -> None:
    """A certificate that waited to be tried does not come in the way of one that was given by a code since."""
    device.renewal.received(chain(asked_key(device.asks())))
    by_code = ec.generate_private_key(ec.SECP256R1())
    enrolled = chain(by_code.public_key(), days_on=90).encode() + sealed(by_code, PASSPHRASE)
    device.renewed.write_bytes(enrolled)
    device.renewed.chmod(0o600)
    assert device.connects() == serial_hex(read_certificate(device.renewed))
    assert not device.next.exists()
    device.wall = MADE + timedelta(days=90) + DUE
    device.now_s += LONGEST_RETRY_S
    assert device.asks() is not None


def test_who_keeps_no_renewed_certificate_asks_and_tries_nothing(device: Device) -> None:
    """A configuration without a state directory for it."""
    device.paths = replace(device.paths, renewed=None)
    device.starts()
    assert device.connects() == device.first
    device.renewal.answered()
    assert device.renewal.standing.serial == device.first
