from __future__ import annotations

import shutil
import ssl
import stat
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from edge.config_file import load
from hub.settings import Settings, passphrase_file
from pacs import envelope
from pacs.certificates import identity
from pacs.errors import MalformedData, StoreError
from pacs.identifiers import ControllerId, DoorId, SiteId
from provisioning.authority import Authority, Purpose, generate_key
from provisioning.keystore import Passphrase, read_key, read_public_key
from provisioning.readers import DoorWiring, add_controller, read_controller
from provisioning.site import BROKER_NAME, Site, create_site

DOORS = [
    DoorWiring(id=DoorId("front"), device="/dev/ttyAMA0"),
    DoorWiring(id=DoorId("back"), device="/dev/ttyUSB0"),
]


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def policy(site: Site, at: datetime) -> PolicyBuilder:
    return PolicyBuilder().store(Store([certificate(site.directory / "root.cert.pem")])).time(at)


def chain(path: Path) -> tuple[x509.Certificate, list[x509.Certificate]]:
    leaf, *above = x509.load_pem_x509_certificates(path.read_bytes())
    return leaf, above


@pytest.mark.parametrize(
    ("file", "host"),
    [
        ("broker", x509.DNSName("hub.example")),
        ("broker", x509.DNSName("localhost")),
        ("broker", x509.DNSName("broker")),
        ("web", x509.DNSName("hub.example")),
        ("web", x509.IPAddress(ip_address("192.0.2.7"))),
    ],
)
def test_the_hubs_certificates_lead_to_the_root(
    site: Site, now: datetime, file: str, host: x509.DNSName | x509.IPAddress
) -> None:
    """Path validation (RFC 5280 §6) accepts broker and pages under each of their names, by what their files hold."""
    leaf, above = chain(site.hub_directory / f"{file}.cert.pem")
    verified = policy(site, now).build_server_verifier(host).verify(leaf, above)
    assert len(verified) == 3


def test_what_certifies_pages_certifies_nothing_that_connects(site: Site, now: datetime) -> None:
    """A client certificate below the web authority leads to no root, so that its key opens no broker."""
    web = site.web_authority(site.passphrase())
    leaf = web.certify(name="hub", public_key=generate_key().public_key(), purpose=Purpose.CLIENT, now=now)
    with pytest.raises(VerificationError):
        policy(site, now).build_client_verifier().verify(leaf, [web.certificate])


def test_an_intermediate_certifies_no_further_authority(site: Site, now: datetime) -> None:
    """Whoever holds the hub's key for devices cannot make an authority of their own."""
    devices = site.authority(site.passphrase())
    deeper = devices.intermediate("another", Purpose.NODE, now)
    leaf = deeper.certify(name="hub", public_key=generate_key().public_key(), purpose=Purpose.CLIENT, now=now)
    with pytest.raises(VerificationError):
        policy(site, now).build_client_verifier().verify(leaf, [deeper.certificate, devices.certificate])


def test_daily_work_needs_no_root(site: Site, passphrase: Passphrase, now: datetime) -> None:
    """With the root's directory taken away controllers are added and certificates for pages are made."""
    shutil.rmtree(site.root_directory)
    add_controller(site, site.authority(passphrase), ControllerId("c-front"), DOORS, now=now)
    site.web_authority(passphrase)
    with pytest.raises(StoreError, match="root/passphrase: cannot be read"):
        site.root()


def test_the_root_goes_where_it_is_told(tmp_path: Path, now: datetime) -> None:
    """Its key and passphrase are in the directory of its own only; a site that cannot be made leaves no root."""
    away = tmp_path / "stick" / "root"
    made = create_site(tmp_path / "s", SiteId("s"), now=now, root_directory=away)
    assert not made.root_directory.exists()
    assert made.root(away).is_root
    with pytest.raises(StoreError, match="exists already"):
        create_site(tmp_path / "s", SiteId("s"), now=now, root_directory=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_controllers_certificate_leads_to_the_root(
    site: Site, passphrase: Passphrase, now: datetime
) -> None:
    """It is a client certificate whose common name and DNS name are the controller's id, with its serial number as URI."""
    made = add_controller(site, site.authority(passphrase), ControllerId("c-front"), DOORS, now=now)
    leaf, above = chain(made.directory / "device.cert.pem")
    verified = policy(site, now).build_client_verifier().verify(leaf, above)
    assert verified.subjects == [
        x509.DNSName("c-front"),
        x509.UniformResourceIdentifier(identity(made.certificate_serial)),
    ]
    assert leaf.subject.rfc4514_string() == "CN=c-front"
    assert f"{leaf.serial_number:x}" == made.certificate_serial


def test_a_client_is_no_server_and_a_server_no_client(site: Site, now: datetime) -> None:
    """The hub's client certificate cannot play the broker; the broker's is a client of nobody but other brokers."""
    with pytest.raises(VerificationError):
        policy(site, now).build_server_verifier(x509.DNSName("hub")).verify(
            *chain(site.hub_directory / "client.cert.pem")
        )
    broker = certificate(site.hub_directory / "broker.cert.pem")
    names = broker.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert [name.value for name in names] == [BROKER_NAME]  # nobody whom a broker admits as hub or controller


def test_a_device_cannot_certify_another(site: Site, passphrase: Passphrase, now: datetime) -> None:
    """A certificate signed with a controller's key does not lead to the root."""
    made = add_controller(site, site.authority(passphrase), ControllerId("c-front"), DOORS, now=now)
    key = read_key(made.directory / "device.key.pem", Passphrase.from_file(made.directory / "passphrase"))
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    rogue = Authority(certificate(made.directory / "device.cert.pem"), key)
    forged = rogue.certify(
        name="c-other", public_key=generate_key().public_key(), purpose=Purpose.CLIENT, now=now
    )
    with pytest.raises(VerificationError):
        policy(site, now).build_client_verifier().verify(
            forged, [rogue.certificate, site.authority(passphrase).certificate]
        )


def test_certificates_end_with_the_root(site: Site, passphrase: Passphrase) -> None:
    """No certificate outlives what vouches for it."""
    root, devices = site.root(), site.authority(passphrase)
    late = devices.certificate.not_valid_after_utc - timedelta(days=10)
    leaf = devices.certify(name="c", public_key=generate_key().public_key(), purpose=Purpose.CLIENT, now=late)
    assert leaf.not_valid_after_utc <= devices.certificate.not_valid_after_utc
    late = root.certificate.not_valid_after_utc - timedelta(days=10)
    last = root.intermediate("last", Purpose.NODE, late)
    assert last.certificate.not_valid_after_utc <= root.certificate.not_valid_after_utc


def test_openssl_accepts_the_chains_in_a_handshake(
    site: Site, passphrase: Passphrase, now: datetime, tmp_path: Path
) -> None:
    """A controller and a broker with these files complete mutual TLS 1.3."""
    today = create_site(tmp_path / "today", SiteId("s"), now=datetime.now(now.tzinfo))
    made = add_controller(
        today, today.authority(today.passphrase()), ControllerId("c"), DOORS, now=datetime.now(now.tzinfo)
    )
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.verify_mode = ssl.CERT_REQUIRED
    for context, directory, name in (
        (server, today.hub_directory, "broker"),
        (client, made.directory, "device"),
    ):
        secret = (directory / "passphrase").read_text().strip()
        context.load_cert_chain(
            directory / f"{name}.cert.pem", directory / f"{name}.key.pem", password=secret
        )
        context.load_verify_locations(directory / "root.cert.pem")
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    names = ends[1].getpeercert()
    assert names is not None
    assert names["subjectAltName"] == (("DNS", "c"), ("URI", identity(made.certificate_serial)))


def test_no_private_key_is_on_disk_in_the_clear(site: Site, passphrase: Passphrase, now: datetime) -> None:
    """The secret number of no key occurs in any file; files that hold keys are 0600, directories 0700."""
    made = add_controller(site, site.authority(passphrase), ControllerId("c-front"), DOORS, now=now)
    secrets: list[bytes] = []
    for directory in (site.directory, site.root_directory, site.hub_directory, made.directory):
        opens = Passphrase.from_file(directory / "passphrase")
        for path in directory.glob("*.key.pem"):
            key = read_key(path, opens)
            if isinstance(key, ed25519.Ed25519PrivateKey):
                secrets.append(key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))
            else:
                secrets.append(key.private_numbers().private_value.to_bytes(32, "big"))
    assert len(secrets) == 4 + 1 + 5 + 2
    for path in site.directory.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700, path
            continue
        assert mode == (
            0o600 if path.name in ("passphrase", "card-keys") or path.name.endswith(".key.pem") else 0o644
        ), path
        data = path.read_bytes()
        assert b"BEGIN PRIVATE KEY" not in data
        assert b"BEGIN EC PRIVATE KEY" not in data
        for secret in secrets:
            assert secret not in data
            assert secret.hex().encode() not in data.lower()


def test_the_hub_and_a_door_cannot_open_the_sites_keys(
    site: Site, passphrase: Passphrase, now: datetime
) -> None:
    """Each directory has a passphrase of its own, and the hub holds of the authorities' keys that of devices only."""
    made = add_controller(site, site.authority(passphrase), ControllerId("c-front"), DOORS, now=now)
    for directory in (site.hub_directory, made.directory, site.root_directory):
        with pytest.raises(StoreError, match="does not open"):
            site.authority(Passphrase.from_file(directory / "passphrase"))
    keys = {path.name.removesuffix(".key.pem") for path in site.hub_directory.glob("*.key.pem")}
    assert keys == {"broker", "client", "devices", "policy", "web"}
    assert {path.name for path in made.directory.glob("*.key.pem")} == {"device.key.pem", "event.key.pem"}


def test_the_hub_reads_its_settings(site: Site) -> None:
    """The hub's own reader accepts hub.toml and finds keys and passphrase beside it."""
    settings = Settings.from_toml(site.hub_directory / "hub.toml")
    assert settings.site_dir == site.hub_directory
    opens = Passphrase.from_file(passphrase_file(settings))
    assert isinstance(read_key(site.hub_directory / "policy.key.pem", opens), ed25519.Ed25519PrivateKey)
    assert str(settings.mqtt) == "0.0.0.0:8883"
    assert (str(settings.http), settings.public_origin) == ("0.0.0.0:8443", "https://hub.example:8443")
    assert settings.certificate == site.hub_directory / "web.cert.pem"


def test_a_controller_reads_its_configuration(site: Site, passphrase: Passphrase, now: datetime) -> None:
    """The edge's own reader accepts controller.toml, for one door and for as many as fit."""
    four = [DoorWiring(id=DoorId(f"d{n}"), device=f"/dev/ttyUSB{n}") for n in range(4)]
    for name, doors in (("c-one", DOORS[:1]), ("c-four", four)):
        made = add_controller(
            site, site.authority(passphrase), ControllerId(name), doors, now=now, pins="mock"
        )
        loaded = load(made.directory / "controller.toml", environment={})
        assert (loaded.controller_id, loaded.site_id, loaded.hub_host) == (name, "wilgenoord", "hub.example")
        assert [door.id for door in loaded.doors] == [door.id for door in doors]


def test_what_was_added_can_be_read_again(site: Site, passphrase: Passphrase, now: datetime) -> None:
    """A controller's directory holds all that the hub needs to know of it."""
    made = add_controller(site, site.authority(passphrase), ControllerId("c-front"), DOORS, now=now)
    assert read_controller(site, ControllerId("c-front")) == made


@pytest.mark.parametrize("count", [0, 5])
def test_a_controller_has_one_to_four_doors(
    site: Site, passphrase: Passphrase, now: datetime, count: int
) -> None:
    """Another number is refused before anything is made."""
    doors = [DoorWiring(id=DoorId(f"d{n}"), device=f"/dev/ttyUSB{n}") for n in range(count)]
    with pytest.raises(MalformedData, match="1 to 4 doors"):
        add_controller(site, site.authority(passphrase), ControllerId("c"), doors, now=now)
    assert not (site.directory / "controllers").exists()


def test_the_description_names_the_policy_key(site: Site) -> None:
    """site.toml carries the id by which envelopes name their signer."""
    key = read_public_key(site.directory / "policy.pub.pem")
    assert isinstance(key, ed25519.Ed25519PublicKey)
    assert site.policy_key_id == envelope.key_id(key).hex()


def test_a_damaged_description_is_no_site(site: Site) -> None:
    """A site without its description, or with a bad one, is an error and not an empty site."""
    (site.directory / "site.toml").write_text('site = "wilgenoord"\n')
    with pytest.raises(StoreError, match="not a site's description"):
        Site.open(site.directory)
    (site.directory / "site.toml").unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        Site.open(site.directory)


def test_a_bad_host_makes_nothing(tmp_path: Path, now: datetime) -> None:
    """A host that is neither a name nor an address is refused before a file is written."""
    with pytest.raises(MalformedData, match="host"):
        create_site(tmp_path / "s", SiteId("s"), now=now, broker_hosts=("höb.example",))
    assert not (tmp_path / "s").exists()
