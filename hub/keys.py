"""The hub's keys: its directory of a site as ``drempel-provision site create`` makes it.

Private keys stand there encrypted (PKCS#8). They are opened once, with the passphrase; nothing here is logged.
"""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from hub.device_authority import DeviceAuthority
from pacs.envelope import key_id
from pacs.errors import MalformedData, StoreError, VerificationError
from pacs.identifiers import SiteId
from pacs.key_statement import KeyStatement, open_statement

STATEMENT: Final = "keys.signed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """What documents and commands are signed with.

    ``statement``: the key statement that goes with every document, and its ``version``; empty and 0: there is none.
    """

    key: Ed25519PrivateKey = field(repr=False)
    statement: bytes = field(default=b"", repr=False)
    version: int = 0

    @property
    def id(self) -> bytes:
        """As in the envelopes that it signs."""
        return key_id(self.key.public_key())


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyKeys:
    """The policy keys in a hub's directory by id, each in a file ``policy*.key.pem``; what the root states of keys.

    ``statement``: as it travels; empty, and ``stated`` None: there is none yet.
    """

    keys: Mapping[bytes, Ed25519PrivateKey] = field(repr=False)
    statement: bytes = field(default=b"", repr=False)
    stated: KeyStatement | None = None

    @classmethod
    def load(cls, site_dir: Path, passphrase: str) -> PolicyKeys:
        """Raises ``StoreError`` naming the file: it cannot be used, or none of the keys may sign what doors believe."""
        files = sorted(site_dir.glob("policy*.key.pem")) or [site_dir / "policy.key.pem"]
        keys = {key_id(key.public_key()): key for key in (_ed25519_key(path, passphrase) for path in files)}
        path = site_dir / STATEMENT
        if not path.exists():
            if len(keys) > 1:
                raise StoreError(f"{path}: is missing; it says which of the policy keys here doors believe")
            return cls(keys=keys)
        data = _read(path)
        try:
            roots = [each.public_key() for each in _certificates(site_dir / "root.cert.pem")]
            stated = open_statement(data, *(key for key in roots if isinstance(key, EllipticCurvePublicKey)))
        except (MalformedData, VerificationError) as error:
            raise StoreError(f"{path}: not what this site's root signed ({error})") from error
        if not stated.accepted.keys() & keys.keys():
            raise StoreError(
                f"{path}: names no policy key that is here; copy the key files that came with it"
            )
        return cls(keys=keys, statement=data, stated=stated)

    @property
    def usable(self) -> Sequence[bytes]:
        """The ids of the keys here that doors believe, the one to sign with last."""
        if self.stated is None:
            return tuple(self.keys)
        return tuple(key for key in self.stated.accepted if key in self.keys)

    def signing(self, key: bytes) -> SigningKey:
        """One of the usable keys, to sign with."""
        version = self.stated.version if self.stated else 0
        return SigningKey(key=self.keys[key], statement=self.statement, version=version)

    @property
    def trusted(self) -> Mapping[bytes, Ed25519PublicKey]:
        """Whose signature on a document in the database says that a hub of this site made it."""
        return {
            **{name: key.public_key() for name, key in self.keys.items()},
            **(self.stated.kept if self.stated else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HubKeys:
    """What one hub is trusted with.

    ``issuer``: its site's card issuer, reference and 65-byte P-256 point, which is trusted before there is a key
    statement. ``broker_key_pem`` is not encrypted: it only ever goes to the broker's private runtime directory.
    ``broker_host``: how controllers reach its machine. ``device_authority``: what certifies them; None in the
    directory of a site made without.
    """

    site_id: SiteId
    site_dir: Path
    issuer: tuple[str, bytes]
    policy: PolicyKeys
    broker_key_pem: bytes = field(repr=False)
    passphrase: str = field(repr=False)
    root_certificate: Path
    broker_certificate: Path
    client_certificate: Path
    client_key: Path
    policy_public_key: Path
    broker_host: str
    device_authority: DeviceAuthority | None

    @classmethod
    def load(cls, site_dir: Path, passphrase_file: Path) -> HubKeys:
        """Read and open everything. Raises ``StoreError`` naming the file and what to do about it."""
        passphrase = read_passphrase(passphrase_file)
        description = _read(site_dir / "site.toml").decode("utf-8", "replace")
        try:
            table = tomllib.loads(description)
            site_id, issuer = SiteId(table["site"]), str(table["issuer"])
        except (tomllib.TOMLDecodeError, KeyError, MalformedData) as error:
            raise StoreError(f"{site_dir / 'site.toml'}: site and issuer expected") from error
        for name in ("root", "broker", "client"):
            _certificates(site_dir / f"{name}.cert.pem")
        _p256_key(site_dir / "client.key.pem", passphrase)
        broker_key = _p256_key(site_dir / "broker.key.pem", passphrase)
        return cls(
            site_id=site_id,
            site_dir=site_dir,
            issuer=(issuer, _point(site_dir / "card-issuer.pub.pem")),
            policy=PolicyKeys.load(site_dir, passphrase),
            broker_key_pem=broker_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            passphrase=passphrase,
            root_certificate=site_dir / "root.cert.pem",
            broker_certificate=site_dir / "broker.cert.pem",
            client_certificate=site_dir / "client.cert.pem",
            client_key=site_dir / "client.key.pem",
            policy_public_key=site_dir / "policy.pub.pem",
            broker_host=str(table.get("broker_host", "localhost")),
            device_authority=DeviceAuthority.load(site_dir, passphrase),
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error


def read_passphrase(path: Path) -> str:
    """What opens the hub's keys. Raises ``StoreError`` when others can read it, or it is empty or not there."""
    passphrase = _read(path).decode("utf-8", "replace").strip()
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise StoreError(f"{path}: others can read it; run: chmod 600 {path}")
    if not passphrase:
        raise StoreError(f"{path}: is empty")
    return passphrase


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise StoreError(f"{path}: not a certificate in PEM") from error


def _private_key(path: Path, passphrase: str) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(_read(path), passphrase.encode())
    except (ValueError, TypeError) as error:
        raise StoreError(f"{path}: not an encrypted key that this passphrase opens") from error


def _p256_key(path: Path, passphrase: str) -> EllipticCurvePrivateKey:
    key = _private_key(path, passphrase)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise StoreError(f"{path}: a P-256 key expected")
    return key


def _ed25519_key(path: Path, passphrase: str) -> Ed25519PrivateKey:
    key = _private_key(path, passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"{path}: an Ed25519 key expected")
    return key


def _point(path: Path) -> bytes:
    try:
        key = load_pem_public_key(_read(path))
    except ValueError as error:
        raise StoreError(f"{path}: not a public key in PEM") from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise StoreError(f"{path}: a P-256 key expected")
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
