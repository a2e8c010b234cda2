"""Secrets and files of the bureau: private keys encrypted at rest, files that are never overwritten.

A key is PKCS#8 (RFC 5958) under PBES2 with AES-256-CBC. A passphrase that a person chose is stretched
with scrypt (RFC 7914); one of 256 random bits needs no stretching, and a small controller then starts
quickly. OpenSSL and ``cryptography`` read both. Nothing here prints or logs.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from pacs.card.tlv import Tlv
from pacs.errors import StoreError

PASSPHRASE_VARIABLE: Final = "DREMPEL_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable, not a secret
SHORTEST_PASSPHRASE: Final = 12

# scrypt costs 16 MiB and five passes; more memory than 32 MiB is beyond OpenSSL's default limit.
_N, _R, _P = 1 << 14, 8, 5
_SEQUENCE, _INTEGER, _OCTETS, _OID = 0x30, 0x02, 0x04, 0x06
_PBES2: Final = bytes.fromhex("2A864886F70D01050D")  # 1.2.840.113549.1.5.13
_SCRYPT: Final = bytes.fromhex("2B06010401DA47040B")  # 1.3.6.1.4.1.11591.4.11
_AES256_CBC: Final = bytes.fromhex("60864801650304012A")  # 2.16.840.1.101.3.4.1.42

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file to be made: ``path`` relative to its directory; ``is_secret`` files are 0600, others 0644."""

    path: Path
    data: bytes
    is_secret: bool = False

    def __repr__(self) -> str:
        return f"NewFile({self.path}, {len(self.data)} bytes)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passphrase:
    """What opens a directory's keys; ``is_random`` when it holds 256 random bits."""

    secret: bytes = field(repr=False)
    is_random: bool = False

    @classmethod
    def generate(cls) -> Self:
        """256 random bits as text."""
        return cls(secret=secrets.token_urlsafe(32).encode("ascii"), is_random=True)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """The content of a file without white space at its ends.

        Raises ``StoreError`` when it cannot be read, is readable by others, or is shorter than
        ``SHORTEST_PASSPHRASE`` bytes.
        """
        secret = read_secret(path)
        if len(secret) < SHORTEST_PASSPHRASE:
            raise StoreError(f"{path}: a passphrase of at least {SHORTEST_PASSPHRASE} characters expected")
        return cls(secret=secret)

    @property
    def file(self) -> NewFile:
        """The file ``passphrase`` that holds it."""
        return NewFile(path=Path("passphrase"), data=self.secret + b"\n", is_secret=True)


def seal_key(key: PrivateKey, passphrase: Passphrase) -> bytes:
    """PEM of the private key, encrypted with ``passphrase``."""
    if passphrase.is_random:
        return key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.secret)
        )
    return _seal_with_scrypt(key, passphrase.secret)


def _seal_with_scrypt(key: PrivateKey, passphrase: bytes) -> bytes:
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    salt, vector = secrets.token_bytes(16), secrets.token_bytes(16)
    padder = PKCS7(128).padder()
    encryptor = Cipher(
        algorithms.AES256(Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(passphrase)),
        modes.CBC(vector),
    ).encryptor()
    encrypted = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    # RFC 7914 §7: scrypt-params; RFC 8018 §6.2: PBES2-params
    costs = [Tlv.build(_INTEGER, n.to_bytes(n.bit_length() // 8 + 1, "big")) for n in (_N, _R, _P)]
    derivation = Tlv.build(
        _SEQUENCE, [Tlv.build(_OID, _SCRYPT), Tlv.build(_SEQUENCE, [Tlv.build(_OCTETS, salt), *costs])]
    )
    scheme = Tlv.build(_SEQUENCE, [Tlv.build(_OID, _AES256_CBC), Tlv.build(_OCTETS, vector)])
    algorithm = Tlv.build(_SEQUENCE, [Tlv.build(_OID, _PBES2), Tlv.build(_SEQUENCE, [derivation, scheme])])
    return pem("ENCRYPTED PRIVATE KEY", Tlv.build(_SEQUENCE, [algorithm, Tlv.build(_OCTETS, encrypted)]).raw)


def open_key(data: bytes, passphrase: Passphrase, name: str) -> PrivateKey:
    """The private key in the PEM file called ``name``.

    Raises ``StoreError`` when it is not encrypted, the passphrase does not open it, or it is a key
    of another kind than P-256 or Ed25519.
    """
    if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" not in data:
        raise StoreError(f"{name}: an encrypted PKCS#8 key in PEM expected")
    try:
        key = load_pem_private_key(data, passphrase.secret)
    except (ValueError, TypeError) as error:
        raise StoreError(f"{name}: the passphrase does not open this key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise StoreError(f"{name}: a P-256 or Ed25519 key expected")
    return key


def read_key(path: Path, passphrase: Passphrase) -> PrivateKey:
    """``open_key`` of a file; raises ``StoreError`` also when it cannot be read."""
    return open_key(read_file(path), passphrase, str(path))


def public_pem(key: PublicKey) -> bytes:
    """PEM of a public key (SubjectPublicKeyInfo)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_public_key(path: Path) -> PublicKey:
    """The P-256 or Ed25519 public key in a PEM file; raises ``StoreError``."""
    try:
        key = load_pem_public_key(read_file(path))
    except ValueError as error:
        raise StoreError(f"{path}: not a public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise StoreError(f"{path}: a P-256 or Ed25519 key expected")
    return key


def pem(label: str, der: bytes) -> bytes:
    """RFC 7468 text of DER bytes."""
    text = base64.b64encode(der).decode("ascii")
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode("ascii")


def read_file(path: Path) -> bytes:
    """The bytes of a file; raises ``StoreError`` naming it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error


def read_secret(path: Path) -> bytes:
    """What a file of mode 0600 holds, without white space at its ends; raises ``StoreError``."""
    secret = read_file(path).strip()
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise StoreError(f"{path}: others can read it; run: chmod 600 {path}")
    return secret


def make_directory(directory: Path, files: Iterable[NewFile]) -> None:
    """Make ``directory`` (0700) with these files, all of them or nothing.

    Raises ``StoreError`` when it exists already, or cannot be made; then nothing is left behind.
    """
    refuse_existing(directory)
    partial = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.partial")
    try:
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial.mkdir(mode=0o700)
        for file in files:
            _make_file(partial, file)
        partial.rename(directory)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise StoreError(f"{directory}: cannot be made ({error.strerror})") from error


def refuse_existing(directory: Path) -> None:
    """Raise ``StoreError`` when ``directory`` exists."""
    if directory.exists():
        raise StoreError(f"{directory}: exists already; keys are never overwritten, name another directory")


def put_file(directory: Path, file: NewFile) -> None:
    """Make a file hold exactly this, durably, whatever it held; raises ``StoreError``, and then it holds what it held."""
    partial = replace(file, path=file.path.with_name(f".{file.path.name}.{secrets.token_hex(4)}.partial"))
    try:
        _make_file(directory, partial)
        (directory / partial.path).replace(directory / file.path)
        fd = os.open((directory / file.path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        (directory / partial.path).unlink(missing_ok=True)
        raise StoreError(f"{directory / file.path}: cannot be written ({error.strerror})") from error


def _make_file(directory: Path, file: NewFile) -> None:
    for parent in reversed(file.path.parents[:-1]):
        (directory / parent).mkdir(mode=0o700, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(directory / file.path, flags, 0o600 if file.is_secret else 0o644)
    with os.fdopen(fd, "wb") as target:
        target.write(file.data)
        target.flush()
        os.fsync(fd)
