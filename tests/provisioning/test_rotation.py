"""Changing keys by command: what is written where, what stays good, and what a thief no longer finds."""

from __future__ import annotations

import contextlib
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from pacs.key_statement import KeyStatement, open_statement
from provisioning import rotation
from provisioning.authority import generate_key
from provisioning.keystore import Passphrase, read_key
from provisioning.site import Site, generate_issuer
from tests.provisioning.test_cli import result_of, run


def said(site: Site) -> KeyStatement:
    found = rotation.stated(site)
    assert found
    return found


def state(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def at(site: Site) -> str:
    return f"--site-dir={site.directory}"


@pytest.mark.parametrize("which", ["policy", "card-issuer", "devices", "web", "root"])
def test_a_dry_run_writes_nothing(site: Site, which: str) -> None:
    """It names the files and what stops, and leaves every byte as it was."""
    before = state(site.directory)
    would = result_of("key", "rotate", which, at(site), "--dry-run")
    assert (would["made"], would["delivered"]) == (False, [])
    assert would["files"]
    assert would["notes"]
    assert state(site.directory) == before


def test_a_policy_key_and_its_end(site: Site) -> None:
    """Two keys are stated, at the site and at its hub; the old one's file goes when it is retired, and both may be done again."""
    first = site.policy_key_id
    new = str(result_of("key", "rotate", "policy", at(site))["key"])
    assert [name.hex() for name in said(site).accepted] == [first, new]
    assert Site.open(site.directory).policy_key_id == new
    assert (site.directory / "policy.pub.pem").read_text().count("BEGIN PUBLIC KEY") == 2
    for name in ("keys.signed", "policy.pub.pem"):
        assert (site.hub_directory / name).read_bytes() == (site.directory / name).read_bytes()
    hubs = Passphrase.from_file(site.hub_directory / "passphrase")
    read_key(site.hub_directory / f"policy-{new}.key.pem", hubs)
    again = run("key", "rotate", "policy", at(site))
    assert (again.exit_code, "not over" in again.output) == (1, True)
    assert run("key", "retire", "policy", at(site)).exit_code == 2, "nobody was asked"
    result_of("key", "retire", "policy", at(site), "--force", "--reason=a test")
    for directory in (site.directory, site.hub_directory):
        assert [path.name for path in directory.glob("policy*.key.pem")] == [f"policy-{new}.key.pem"]
    assert [name.hex() for name in said(site).accepted] == [new]
    assert {name.hex() for name in said(site).kept} == {first, new}
    assert run("key", "retire", "policy", at(site), "--force", "--reason=again").exit_code == 1
    third = str(result_of("key", "rotate", "policy", at(site), "--now")["key"])
    assert [name.hex() for name in said(site).kept] == [third, first], (
        "what was stolen is not believed at all"
    )


def test_a_card_issuer_and_its_end(site: Site, passphrase: Passphrase) -> None:
    """New cards are made by the new one and both are believed; the one in use is not retired, and the old one's key goes."""
    old_key, old = site.card_issuer_key(passphrase), site.issuer
    new = str(result_of("key", "rotate", "card-issuer", at(site))["key"])
    changed = Site.open(site.directory)
    assert changed.issuer == new
    assert changed.card_issuer_key(passphrase).public_key() == changed.card_issuer_public_key()
    assert rotation.trusted_issuers(changed) == {
        old: old_key.public_key(),
        new: changed.card_issuer_public_key(),
    }
    force = ("--force", "--reason=a test")
    for name, word in ((new, "change it first"), ("STRANGER00000001", "not an issuer")):
        refused = run("key", "retire", "card-issuer", name, at(site), *force)
        assert (refused.exit_code, word in refused.output) == (1, True)
    result_of("key", "retire", "card-issuer", old, at(site), *force)
    assert set(rotation.trusted_issuers(changed)) == {new}
    assert {path.name for path in site.directory.glob("card-issuer*")} == {
        f"card-issuer-{new}.key.pem",
        f"card-issuer-{new}.pub.pem",
    }
    last = str(result_of("key", "rotate", "card-issuer", at(site), "--now")["key"])
    assert set(rotation.trusted_issuers(changed)) == {last}


def test_a_root_and_its_end(site: Site, tmp_path: Path) -> None:
    """Both are believed, the new one states, the hub is given both; then one is left, and the old one's key is gone."""
    safe = tmp_path / "safe"
    old = x509.load_pem_x509_certificate((site.directory / "root.cert.pem").read_bytes())
    result_of("key", "rotate", "root", at(site), f"--new-root-dir={safe}")
    for directory in (site.directory, site.hub_directory):
        new, before = x509.load_pem_x509_certificates((directory / "root.cert.pem").read_bytes())
        assert (new.subject, before) == (old.subject, old)
    assert said(site).root_change is not None
    # how a machine that was given the old root alone sees what the hub shows from now on
    alone = ssl.create_default_context(cadata=old.public_bytes(Encoding.PEM).decode())
    assert shows(site.hub_directory, "web", alone) == "web"
    again = run("key", "rotate", "root", at(site), f"--root-dir={safe}")
    assert (again.exit_code, "not over" in again.output) == (1, True)
    stale = run("key", "rotate", "policy", at(site), f"--root-dir={site.directory / 'root'}")
    assert (stale.exit_code, "newest root" in stale.output) == (1, True)
    result_of("key", "rotate", "policy", at(site), f"--root-dir={safe}")
    assert run("key", "retire", "root", at(site), f"--root-dir={safe}").exit_code == 2, "nobody was asked"
    force = ("--force", "--reason=a test")
    result_of("key", "retire", "root", at(site), f"--root-dir={safe}", *force)
    for directory in (site.directory, site.hub_directory):
        assert x509.load_pem_x509_certificates((directory / "root.cert.pem").read_bytes()) == [new]
    assert not any((site.directory / "root").iterdir())
    assert run("key", "retire", "root", at(site), f"--root-dir={safe}", *force).exit_code == 1
    result_of("key", "rotate", "root", at(site), f"--root-dir={safe}")
    assert shows(site.hub_directory, "web", alone) == "web"
    first = old.public_key()
    assert isinstance(first, EllipticCurvePublicKey)
    open_statement((site.hub_directory / "keys.signed").read_bytes(), first)


def shows(directory: Path, name: str, trusting: ssl.SSLContext) -> str:
    """Whose certificate a machine accepts that trusts so, of a server with these files: its common name."""
    secret = (directory / "passphrase").read_text().strip()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(directory / f"{name}.cert.pem", directory / f"{name}.key.pem", secret)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = trusting.wrap_bio(to_client, to_server, server_hostname="localhost")
    there = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (here, there):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    shown = x509.load_der_x509_certificate(here.getpeercert(binary_form=True) or b"")
    return str(shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def test_a_hub_that_was_not_at_hand(site: Site, tmp_path: Path) -> None:
    """What changed meanwhile is given to it afterwards, once; a directory of somebody else's is refused."""
    away = site.hub_directory.rename(tmp_path / "hub-machine")
    result = result_of("key", "rotate", "policy", at(site))
    assert result["hub_directory"] is None
    result_of("key", "rotate", "card-issuer", at(site))
    result_of("key", "rotate", "web", at(site))
    assert run("key", "deliver", at(site)).exit_code == 2
    assert run("key", "deliver", at(site), f"--hub-dir={tmp_path}").exit_code == 1
    files = ["keys.signed", f"policy-{result['key']}.key.pem", "policy.pub.pem", "web.cert.pem"]
    assert result_of("key", "deliver", at(site), f"--hub-dir={away}", "--dry-run")["files"] == files
    assert result_of("key", "deliver", at(site), f"--hub-dir={away}")["files"] == files
    assert result_of("key", "deliver", at(site), f"--hub-dir={away}")["files"] == []


def hosts(certificate: x509.Certificate) -> list[x509.GeneralName]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [name for name in names if isinstance(name, (x509.DNSName, x509.IPAddress))]


@pytest.mark.parametrize(
    ("which", "leaves"), [("devices", ["broker", "client"]), ("web", ["web"])], ids=["devices", "web"]
)
def test_an_authority_below_the_root(site: Site, which: str, leaves: list[str]) -> None:
    """The hub's own keys are certified anew, under the same names, by a new authority that the root certified."""
    hub = site.hub_directory
    before = {
        name: x509.load_pem_x509_certificates((hub / f"{name}.cert.pem").read_bytes()) for name in leaves
    }
    result_of("key", "rotate", which, at(site))
    root = x509.load_pem_x509_certificate((site.directory / "root.cert.pem").read_bytes())
    for name, (old, old_authority) in before.items():
        leaf, authority = x509.load_pem_x509_certificates((hub / f"{name}.cert.pem").read_bytes())
        leaf.verify_directly_issued_by(authority)
        authority.verify_directly_issued_by(root)
        old_authority.verify_directly_issued_by(root)
        assert authority.public_key() != old_authority.public_key()
        assert leaf.public_key() == old.public_key()
        assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME) == old.subject.get_attributes_for_oid(
            NameOID.COMMON_NAME
        )
        usage = x509.ExtendedKeyUsage
        assert leaf.extensions.get_extension_for_class(usage) == old.extensions.get_extension_for_class(usage)
        assert hosts(leaf) == hosts(old)
    if which == "devices":
        secret = (hub / "passphrase").read_bytes().strip()
        key = load_pem_private_key((hub / "devices.key.pem").read_bytes(), secret)
        assert isinstance(key, EllipticCurvePrivateKey)
        certificate = x509.load_pem_x509_certificate((hub / "devices.cert.pem").read_bytes())
        assert key.public_key() == certificate.public_key()
    assert run("key", "rotate", which, "--now", at(site)).exit_code == 2


def test_versions_only_rise(site: Site, passphrase: Passphrase, tmp_path: Path) -> None:
    """Also when the site's directory was put back from a copy: no version is given twice, whatever the clock says."""
    now = datetime.now(UTC)
    shutil.copytree(site.directory, tmp_path / "copy")
    versions = []
    for directory, later_s in ((site.directory, 0), (site.directory, -5), (tmp_path / "copy", 10)):
        opened = Site.open(directory)
        change = rotation.rotate_issuer(
            opened,
            opened.root(),
            passphrase,
            now + timedelta(seconds=later_s),
            at_once=False,
            issuer=generate_issuer(),
            key=generate_key(),
        )
        change.carry_out(directory)
        versions.append(said(opened).version)
    assert versions == sorted(set(versions))
