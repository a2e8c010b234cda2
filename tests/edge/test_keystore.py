"""The keystore: each way in which a controller's keys can be wrong is named, with the file and what to do."""

from __future__ import annotations

import errno
import os
import re
import shutil
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from edge.config import KeyPaths
from edge.keystore import Keystore, read_passphrase, read_policy_keys
from pacs.envelope import key_id
from pacs.errors import StoreError
from pacs.identifiers import ControllerId
from provisioning.authority import Authority, Purpose, certificate_pem
from provisioning.keystore import Passphrase, seal_key

C1 = ControllerId("c1")
PASSPHRASE = b"correct horse battery staple"
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def write_key(path: Path, key: PrivateKey, passphrase: bytes | None = PASSPHRASE) -> None:
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    path.chmod(0o600)


def public_pem(key: ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A controller's directory as it is provisioned."""
    directory = tmp_path_factory.mktemp("controller")
    authority = Authority.create("root", datetime.now(UTC))
    device_key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.certify(
        name=C1, public_key=device_key.public_key(), purpose=Purpose.CLIENT, now=datetime.now(UTC)
    )
    write_key(directory / "device.key.pem", device_key)
    write_key(directory / "event.key.pem", ed25519.Ed25519PrivateKey.generate())
    (directory / "device.cert.pem").write_bytes(certificate_pem(certificate))
    (directory / "root.cert.pem").write_bytes(certificate_pem(authority.certificate))
    (directory / "policy.pub.pem").write_bytes(public_pem(ed25519.Ed25519PrivateKey.generate().public_key()))
    (directory / "passphrase").write_bytes(PASSPHRASE + b"\n")
    (directory / "passphrase").chmod(0o600)
    return directory


@pytest.fixture
def paths(site: Path, tmp_path: Path) -> KeyPaths:
    """A copy of it, to be spoiled."""
    directory = tmp_path / "keys"
    shutil.copytree(site, directory)
    return KeyPaths(
        device_certificate=directory / "device.cert.pem",
        device_key=directory / "device.key.pem",
        event_key=directory / "event.key.pem",
        root_certificate=directory / "root.cert.pem",
        policy_public_key=directory / "policy.pub.pem",
        passphrase_file=directory / "passphrase",
    )


def test_everything_in_order(paths: KeyPaths) -> None:
    """What was provisioned can be used: event key, policy keys, and mutual TLS with the server's name checked."""
    keystore = Keystore.open(paths, C1)
    keystore.event_key.public_key().verify(keystore.event_key.sign(b"head"), b"head")
    assert len(keystore.policy_keys) == 1
    context = keystore.tls_context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert "Ed25519PrivateKey" not in repr(keystore)


def test_renewed_certificate(paths: KeyPaths) -> None:
    """TLS is set up once for the same files, and again when one of them was renewed."""
    keystore = Keystore.open(paths, C1)
    context = keystore.tls_context()
    assert keystore.tls_context() is context
    os.utime(paths.device_certificate, ns=(1, 1))
    assert keystore.tls_context() is not context


def test_key_under_a_chosen_passphrase(paths: KeyPaths) -> None:
    """A key that provisioning stretched with scrypt is read, by this code and by TLS."""
    device_key = ec.generate_private_key(ec.SECP256R1())
    authority = Authority.create("root", datetime.now(UTC))
    certificate = authority.certify(
        name=C1, public_key=device_key.public_key(), purpose=Purpose.CLIENT, now=datetime.now(UTC)
    )
    paths.device_certificate.write_bytes(certificate_pem(certificate))
    paths.device_key.write_bytes(seal_key(device_key, Passphrase(secret=PASSPHRASE)))
    assert Keystore.open(paths, C1).tls_context().check_hostname


def advice_of(error: StoreError) -> str:
    """The next step stands behind the semicolon."""
    return str(error).partition("; ")[2]


SECRETS = ("device_key", "event_key", "passphrase_file")
ANY = (*SECRETS, "device_certificate", "policy_public_key")


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_secret_that_others_can_reach(paths: KeyPaths, name: str, mode: int) -> None:
    """A secret that the group or the world can read or change is refused, with the command that mends it."""
    path: Path = getattr(paths, name)
    path.chmod(mode)
    with pytest.raises(StoreError, match=re.escape(f"chmod 600 {path}")):
        Keystore.open(paths, C1)


@pytest.mark.parametrize("name", ANY)
@pytest.mark.parametrize("content", [None, b"", b"\xff\x00garbage"])
def test_missing_or_damaged_file(paths: KeyPaths, name: str, content: bytes | None) -> None:
    """A file that is missing, empty or no PEM is named."""
    path: Path = getattr(paths, name)
    path.unlink() if content is None else path.write_bytes(content)
    named = paths.device_key if name == "passphrase_file" and content else path
    with pytest.raises(StoreError, match=re.escape(str(named))) as caught:
        Keystore.open(paths, C1)
    assert advice_of(caught.value)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda paths: write_key(paths.event_key, ed25519.Ed25519PrivateKey.generate(), None),
            "not encrypted",
        ),
        (lambda paths: write_key(paths.event_key, ed25519.Ed25519PrivateKey.generate(), b"x"), "passphrase"),
        (lambda paths: shutil.copy(paths.device_key, paths.event_key), "Ed25519"),
        (lambda paths: shutil.copy(paths.event_key, paths.device_key), "P-256"),
        (lambda paths: write_key(paths.device_key, ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (lambda paths: write_key(paths.device_key, ec.generate_private_key(ec.SECP256R1())), "another key"),
        (
            lambda paths: paths.policy_public_key.write_bytes(
                public_pem(ec.generate_private_key(ec.SECP256R1()).public_key())
            ),
            "Ed25519",
        ),
    ],
)
def test_wrong_key(paths: KeyPaths, spoil: Callable[[KeyPaths], object], says: str) -> None:
    """A key that is unencrypted, another's, or of another kind is refused by name."""
    spoil(paths)
    with pytest.raises(StoreError, match=says) as caught:
        Keystore.open(paths, C1)
    assert advice_of(caught.value)


def test_a_file_of_another_user(paths: KeyPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copying it again would not help: its owner has to change, or the one who asks."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StoreError, match="Permission denied") as caught:
        Keystore.open(paths, C1)
    assert "chown" in advice_of(caught.value)


def test_certificate_of_another_controller(paths: KeyPaths) -> None:
    """The device certificate must be this controller's."""
    with pytest.raises(StoreError, match="not of controller c2"):
        Keystore.open(paths, ControllerId("c2"))


def test_damaged_root(paths: KeyPaths) -> None:
    """Without a usable root there is no TLS."""
    keystore = Keystore.open(paths, C1)
    paths.root_certificate.write_bytes(b"")
    with pytest.raises(StoreError, match="not a certificate"):
        keystore.tls_context()
    with pytest.raises(StoreError, match="/nowhere: No such file"):
        replace(keystore, paths=replace(paths, root_certificate=Path("/nowhere"))).tls_context()


@pytest.mark.parametrize(
    ("name", "content"),
    [("root_certificate", b""), ("device_certificate", b"x"), ("device_key", b"x"), ("device_key", None)],
)
def test_the_file_that_tls_cannot_use_is_named(paths: KeyPaths, name: str, content: bytes | None) -> None:
    """Each by its own name: a new root does not mend a device key."""
    keystore = Keystore.open(paths, C1)
    path: Path = getattr(paths, name)
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        keystore.tls_context()
    assert str(caught.value).startswith(f"{path}: ")


def test_two_policy_keys(tmp_path: Path) -> None:
    """One file with two keys trusts both, while the hub changes its key."""
    keys = [ed25519.Ed25519PrivateKey.generate().public_key() for _ in range(2)]
    path = tmp_path / "policy.pub.pem"
    path.write_bytes(b"# old and new\n" + b"".join(map(public_pem, keys)))
    assert set(read_policy_keys(path)) == set(map(key_id, keys))


def test_passphrase_without_white_space(tmp_path: Path) -> None:
    """An editor's newline or blank is no part of the passphrase."""
    path = tmp_path / "passphrase"
    path.write_bytes(b" secret words \r\n")
    path.chmod(0o600)
    assert read_passphrase(path) == b"secret words"
