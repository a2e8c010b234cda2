"""Certificates that end: the hub renews its own on a clock, follows the others, and says whose turn it is."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from hub.certificates import OwnCertificates, Part, site_certificates
from hub.device_authority import DeviceAuthority
from hub.store import audit
from hub.verification import certificates_due
from pacs.identifiers import SiteId
from provisioning import rotation
from provisioning.keystore import Passphrase
from provisioning.site import Site, create_site
from tests.hub.controller import eventually
from tests.hub.running import RunningHub

LONG_AGO = timedelta(days=500)
"""More than two thirds of two years."""


@pytest.fixture(scope="module")
def old_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Made so long ago that the hub's certificates are due, and those above them are not."""
    directory = tmp_path_factory.mktemp("certificates")
    return create_site(directory / "site", SiteId("test-site"), now=datetime.now(UTC) - LONG_AGO)


@pytest.fixture
def fresh_site(tmp_path: Path) -> Site:
    return create_site(tmp_path / "site", SiteId("s"), now=datetime.now(UTC))


def held(site: Site, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((site.hub_directory / f"{name}.cert.pem").read_bytes())


def served(port: int) -> int:
    """The serial number of the certificate that a server shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain) as secure,
    ):
        return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"").serial_number


def test_a_hub_that_runs_goes_by_new_certificates(old_site: Site) -> None:
    """Renewed when it starts and while it runs, served by broker and pages without a stop, and noted in the audit log."""
    before = {name: held(old_site, name).serial_number for name in ("broker", "client", "web")}
    directory = old_site.hub_directory
    hub = RunningHub(
        old_site.directory.parent,
        site=old_site,
        certificate=directory / "web.cert.pem",
        key=directory / "web.key.pem",
    )
    try:
        link = hub.app.state.link
        assert link.client.is_connected, "with the certificate that was made at the start"
        first = {name: held(old_site, name).serial_number for name in before}
        assert (first["web"], first["broker"] == before["broker"], first["client"] == before["client"]) == (
            before["web"],
            False,
            False,
        )
        pid, web_port = link.broker.pid, int(hub.url.rpartition(":")[2])
        assert (served(link.broker.port), served(web_port)) == (first["broker"], first["web"])
        # while it runs: the hub by itself, the pages from the bureau
        hub.clock.ahead = LONG_AGO
        eventually(lambda: held(old_site, "broker").serial_number != first["broker"], "renewed once more")
        eventually(lambda: served(link.broker.port) == held(old_site, "broker").serial_number, "served")
        hubs = Passphrase.from_file(directory / "passphrase")
        change = rotation.deliver(old_site, old_site.passphrase(), directory, hubs, hub.clock())
        assert [str(file.path) for file in change.files] == ["web.cert.pem"]
        change.carry_out(directory)
        eventually(lambda: served(web_port) == held(old_site, "web").serial_number, "served by the pages")
        assert held(old_site, "web").serial_number != first["web"]
        assert link.broker.pid == pid
        assert link.client.is_connected
        with hub.database.read() as connection:
            noted = [
                each.subject for each in audit.oldest_first(connection) if each.action == "certificate.renew"
            ]
        assert noted.count("certificate:broker") == noted.count("certificate:client") == 2
    finally:
        hub.stop()


def test_five_years_of_days(fresh_site: Site) -> None:
    """The hub's certificates are good every day until their authority ends, under the same names, made a few times only."""
    directory = fresh_site.hub_directory
    passphrase = Passphrase.from_file(directory / "passphrase")
    authority = DeviceAuthority.load(directory, passphrase.secret.decode())
    assert authority
    start, day = datetime.now(UTC), timedelta(days=0)
    own = OwnCertificates(
        directory,
        passphrase.secret.decode(),
        authority,
        clock=lambda: start + day,
        changed=lambda: None,
    )
    names = {name: san(held(fresh_site, name)) for name in ("broker", "client")}
    seen: dict[str, set[int]] = {name: set() for name in names}
    while start + day + timedelta(days=11) < authority.certificate.not_valid_after_utc:
        own.look()
        for name, numbers in seen.items():
            certificate = held(fresh_site, name)
            assert certificate.not_valid_before_utc <= start + day < certificate.not_valid_after_utc
            assert san(certificate) == names[name]
            numbers.add(certificate.serial_number)
        day += timedelta(days=10)
    assert all(len(numbers) <= 5 for numbers in seen.values())


def san(certificate: x509.Certificate) -> list[object]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [each for each in names if not isinstance(each, x509.UniformResourceIdentifier)]


def test_an_authority_of_which_half_is_there(fresh_site: Site) -> None:
    """Until both of its files are there the one before goes on certifying."""
    directory = fresh_site.hub_directory
    hubs = Passphrase.from_file(directory / "passphrase")
    told: list[bool] = []
    before = DeviceAuthority.load(directory, hubs.secret.decode())
    own = OwnCertificates(
        directory,
        hubs.secret.decode(),
        before,
        clock=lambda: datetime.now(UTC),
        changed=lambda: told.append(True),
    )
    now, passphrase = datetime.now(UTC), fresh_site.passphrase()
    rotation.rotate_intermediate(fresh_site, fresh_site.root(), "devices", passphrase, now).carry_out(
        fresh_site.directory
    )
    change = rotation.deliver(fresh_site, passphrase, directory, hubs, now)
    key, *others = change.files
    assert str(key.path) == "devices.key.pem"
    rotation.Change(key="", files=[key]).carry_out(directory)
    own.look()
    assert own.authority() is before
    assert told == []
    rotation.Change(key="", files=others).carry_out(directory)
    own.look()
    after = own.authority()
    assert after is not None
    assert after.certificate == x509.load_pem_x509_certificate(
        (fresh_site.directory / "devices.cert.pem").read_bytes()
    )
    assert told == [True]


def test_whose_turn_it_is(old_site: Site) -> None:
    """From two thirds of its life on, each is named with its days and what to type; the root is not due yet."""
    directory = old_site.hub_directory
    found = site_certificates(directory, directory / "web.cert.pem")
    assert {each.part for each in found} == set(Part) - {Part.FORMER_ROOT}
    later = datetime.now(UTC) + timedelta(days=1300) - LONG_AGO
    due = {fault.detail.partition(":")[0]: fault.detail for fault in certificates_due(found, later)}
    for part, command in ((Part.DEVICES, "key rotate devices"), (Part.WEB_AUTHORITY, "key rotate web")):
        assert command in due[part]
        assert "days left" in due[part]
    assert Part.ROOT not in due
