"""The controller's keys and trust anchors, read once at the start.

Private keys are PKCS#8 PEM, encrypted with the passphrase of a file that only its owner can read. Where a TPM keeps them,
the device's is a blob of the TPM's, and so is that file: a card without the TPM it was made with holds no key.
"""

from __future__ import annotations

import errno
import logging
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from edge.config import KeyPaths
from edge.tpm_blobs import is_sealed, key_in
from pacs.envelope import trusted_keys
from pacs.errors import MalformedData, StoreError, VerificationError
from pacs.identifiers import ControllerId
from pacs.key_statement import open_statement

if TYPE_CHECKING:  # what no first tap needs is imported where it is used
    import ssl

    from cryptography import x509

_log = logging.getLogger(__name__)

_PUBLIC_KEY = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)
_MAX_FILE_BYTES = 64 * 1024
_AGAIN = "when nobody is at the doors: sudo systemctl restart drempel-edge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keystore:
    """``event_key`` signs event heads; ``policy_keys`` are those whose documents are believed, by key id."""

    event_key: Ed25519PrivateKey = field(repr=False)
    policy_keys: Mapping[bytes, Ed25519PublicKey]
    device_certificate: x509.Certificate
    paths: KeyPaths

    @classmethod
    def open(cls, paths: KeyPaths, controller_id: ControllerId) -> Self:
        """Read and check every key.

        Raises ``StoreError`` naming the file and what to do: it is missing, others can read it, the passphrase
        is not its own, it holds another kind of key, or the certificate is another controller's or another key's.
        """
        from cryptography.x509 import OID_COMMON_NAME

        passphrase = read_passphrase(paths.passphrase_file)
        paths = in_force(paths)
        device_key = read_private_key(paths.device_key, passphrase)
        event_key = read_event_key(paths.event_key, passphrase)
        if not isinstance(device_key, EllipticCurvePrivateKey) or not isinstance(device_key.curve, SECP256R1):
            raise StoreError(f"{paths.device_key}: not a P-256 key; copy the right one")
        certificate = read_certificate(paths.device_certificate)
        if certificate.public_key() != device_key.public_key():
            raise StoreError(
                f"{paths.device_certificate}: belongs to another key than {paths.device_key.name}; copy both again"
            )
        names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(OID_COMMON_NAME)]
        if names != [controller_id]:
            raise StoreError(
                f"{paths.device_certificate}: not of controller {controller_id}; copy the right one"
            )
        return cls(
            event_key=event_key,
            policy_keys=read_policy_keys(paths.policy_public_key),
            device_certificate=certificate,
            paths=paths,
        )

    def tls_context(self) -> ssl.SSLContext:
        """Mutual TLS 1.2 or later against the site's root, with the server's name checked.

        Made again when one of its files, or the roots, have changed. Raises ``StoreError`` naming the file.
        """
        return context_of(in_force(self.paths))


def context_of(paths: KeyPaths) -> ssl.SSLContext:
    """As ``Keystore.tls_context``, with exactly these files."""
    from cryptography.hazmat.primitives.serialization import Encoding

    roots = "".join(each.public_bytes(Encoding.PEM).decode("ascii") for each in roots_in_force(paths))
    if is_kept_by_tpm(paths.device_key):  # loaded anew each time: a TPM that was reset has forgotten it
        from edge import tpm

        tpm.provide()
        return _made_context(paths, roots, tpm.NO_PASSWORD)
    files = (paths.device_certificate, paths.device_key)
    return _tls_context(paths, roots, tuple(_changed_ns(path) for path in files))


def in_force(paths: KeyPaths) -> KeyPaths:
    """The same paths, with the renewed certificate and its key as the device's while they are newer than the configured.

    A renewed file that cannot be read is as if it were not there: the configured certificate may still be good.
    """
    renewed = paths.renewed
    try:
        if renewed is None or not renewed.exists():
            return paths
        newer = read_certificate(renewed)
        if newer.not_valid_before_utc <= read_certificate(paths.device_certificate).not_valid_before_utc:
            return paths
    except (StoreError, OSError) as error:
        _log.warning("the renewed certificate is not used: %s", error)
        return paths
    return replace(paths, device_certificate=renewed, device_key=renewed)


@lru_cache(maxsize=1)
def _tls_context(paths: KeyPaths, roots: str, _changed: tuple[int, ...]) -> ssl.SSLContext:
    return _made_context(paths, roots, read_passphrase(paths.passphrase_file))


def _made_context(paths: KeyPaths, roots: str, password: bytes) -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=roots)
    except (ValueError, ssl.SSLError) as error:
        raise _useless(paths.root_certificate) from error
    try:
        context.load_cert_chain(paths.device_certificate, paths.device_key, password=password)
    except (OSError, ssl.SSLError) as error:
        read_certificate(paths.device_certificate)  # says so where it is that
        if not password:
            read_private_key(paths.device_key, password)  # and what the TPM says
            raise StoreError("the TPM: TLS lost it; " + _AGAIN) from error
        raise _useless(paths.device_key) from error
    return context


def _unreadable(path: Path, error: OSError) -> StoreError:
    match error.errno:
        case errno.EACCES:
            advice = f"run this as the controller's user, or give it to that one: sudo chown drempel {path}"
        case errno.EIO:
            advice = "replace the memory card, which cannot be read any more"
        case _:
            advice = "copy it from the site directory"
    return StoreError(f"{path}: {error.strerror}; {advice}")


def _useless(path: Path) -> StoreError:
    return StoreError(f"{path}: cannot be used for TLS; copy it again")


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise _unreadable(path, error) from error


def read_passphrase(path: Path) -> bytes:
    """What a file that only its owner can read holds, without white space around it, or what the TPM sealed into it.

    Raises ``StoreError``.
    """
    passphrase = _read_secret(path).strip()
    if is_sealed(passphrase):
        from edge import tpm

        passphrase = tpm.unseal(passphrase).strip()
    if not passphrase:
        raise StoreError(f"{path}: empty; copy the passphrase from the site directory")
    return passphrase


def read_policy_keys(path: Path) -> Mapping[bytes, Ed25519PublicKey]:
    """Every Ed25519 public key in the PEM file, by key id: two of them while the hub changes its key.

    Raises ``StoreError``.
    """
    keys = []
    for block in _PUBLIC_KEY.findall(_read(path)):
        try:
            key = load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise StoreError(f"{path}: not a public key; copy it from the site directory") from error
        if not isinstance(key, Ed25519PublicKey):
            raise StoreError(f"{path}: not an Ed25519 key; copy it from the site directory")
        keys.append(key)
    if not keys:
        raise StoreError(f"{path}: no public key; copy it from the site directory")
    return trusted_keys(*keys)


def read_root_keys(path: Path) -> list[EllipticCurvePublicKey]:
    """The P-256 keys of the root certificates in the file, the newest first; raises ``StoreError``."""
    return root_keys_of(_read(path), str(path))


def root_keys_of(pem: bytes, name: str = "the root certificate") -> list[EllipticCurvePublicKey]:
    """The P-256 keys of root certificates in PEM; raises ``StoreError`` with their ``name``."""
    from cryptography import x509

    try:
        keys = [each.public_key() for each in x509.load_pem_x509_certificates(pem)]
    except ValueError as error:
        raise StoreError(f"{name}: not a certificate; copy it from the site directory") from error
    found = [
        key for key in keys if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    ]
    if len(found) < len(keys):
        raise StoreError(f"{name}: not of a P-256 key; copy it from the site directory")
    return found


def roots_in_force(paths: KeyPaths) -> list[x509.Certificate]:
    """Whom to believe that certifies, the newest first: the configured roots, and what the key statement says followed them.

    A statement that cannot be used says nothing. Raises ``StoreError`` for the configured ones.
    """
    configured = read_certificates(paths.root_certificate)
    try:
        data = paths.statement.read_bytes() if paths.statement else b""
        change = open_statement(data, *read_root_keys(paths.root_certificate)).root_change if data else None
    except (OSError, MalformedData, VerificationError):
        change = None
    if change is None:
        return configured
    new = change.root
    return [new, *(each for each in configured if change.former_is_believed and each != new)]


def is_kept_by_tpm(path: Path) -> bool:
    """Whether the private key in the file is one of a TPM; raises ``StoreError``."""
    return key_in(_read_secret(path)) is not None


def read_private_key(path: Path, passphrase: bytes) -> PrivateKeyTypes:
    """The encrypted private key in the file, or the TPM's, which needs no passphrase; raises ``StoreError``."""
    data = _read_secret(path)
    if key_in(data):
        from edge import tpm

        return tpm.TpmKey(data)
    try:
        return load_pem_private_key(data, passphrase)
    except TypeError as error:
        raise StoreError(f"{path}: not encrypted; provision this controller again") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        what = "damaged, or encrypted with another passphrase"
        raise StoreError(f"{path}: {what}; copy this key and its passphrase file again") from error


def read_event_key(path: Path, passphrase: bytes) -> Ed25519PrivateKey:
    """The encrypted Ed25519 key in the file; raises ``StoreError``."""
    key = read_private_key(path, passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"{path}: not an Ed25519 key; copy the right one")
    return key


def read_certificate(path: Path) -> x509.Certificate:
    """The first PEM certificate in the file; raises ``StoreError``."""
    return read_certificates(path)[0]


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Every PEM certificate in the file, one at least, each followed by its issuer's; raises ``StoreError``."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise StoreError(f"{path}: not a certificate; copy it from the site directory") from error


def _read_secret(path: Path) -> bytes:
    data, mode = _read_with_mode(path)
    if mode & 0o077:
        raise StoreError(f"{path}: others can read or change it; run: chmod 600 {path}")
    return data


def _read(path: Path) -> bytes:
    return _read_with_mode(path)[0]


def _read_with_mode(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES), stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise _unreadable(path, error) from error
