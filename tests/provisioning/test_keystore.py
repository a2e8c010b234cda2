from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from pacs.errors import StoreError
from provisioning.keystore import (
    NewFile,
    Passphrase,
    PrivateKey,
    make_directory,
    open_key,
    read_secret,
    seal_key,
)

CHOSEN = Passphrase(secret=b"correct horse battery")


def plain(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("passphrase", [CHOSEN, Passphrase.generate()], ids=["chosen", "random"])
@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()],
    ids=["p256", "ed25519"],
)
def test_a_sealed_key_opens_with_its_passphrase_and_shows_nothing_without(
    key: PrivateKey, passphrase: Passphrase
) -> None:
    """What is written is encrypted, comes back the same, and any PKCS#8 reader can open it."""
    sealed = seal_key(key, passphrase)
    assert sealed.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert plain(open_key(sealed, passphrase, "key")) == plain(key)
    other = load_pem_private_key(sealed, passphrase.secret)
    assert isinstance(other, type(key))


def test_a_chosen_passphrase_is_stretched_with_scrypt() -> None:
    """The object identifier of scrypt stands in the file when a person chose the passphrase."""
    key = ec.generate_private_key(ec.SECP256R1())
    scrypt = bytes.fromhex("06092B06010401DA47040B")
    der = b"".join(seal_key(key, CHOSEN).splitlines()[1:-1])
    assert scrypt in base64.b64decode(der)


def test_a_wrong_passphrase_is_named() -> None:
    """The message says which file the passphrase does not open."""
    sealed = seal_key(ec.generate_private_key(ec.SECP256R1()), CHOSEN)
    with pytest.raises(StoreError, match=r"root\.key\.pem: the passphrase does not open this key"):
        open_key(sealed, Passphrase(secret=b"something else"), "root.key.pem")


def test_an_unencrypted_key_is_refused() -> None:
    """A key in the clear is not used."""
    key = ec.generate_private_key(ec.SECP256R1())
    clear = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(StoreError, match="encrypted"):
        open_key(clear, CHOSEN, "key")


@pytest.mark.parametrize(
    ("mode", "content", "problem"),
    [
        (0o644, b"long enough for us\n", "chmod 600"),
        (0o600, b"short\n", "at least 12"),
        (None, b"", "cannot be read"),
    ],
)
def test_a_bad_passphrase_file_is_refused(
    tmp_path: Path, mode: int | None, content: bytes, problem: str
) -> None:
    """Readable by others, too short or absent: each is said."""
    path = tmp_path / "passphrase"
    if mode is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(StoreError, match=problem):
        Passphrase.from_file(path)


def test_a_passphrase_does_not_show_in_its_repr(tmp_path: Path) -> None:
    """Printing a passphrase, or the file that will hold it, does not reveal it."""
    passphrase = Passphrase.generate()
    secret = passphrase.secret.decode()
    assert secret not in repr(passphrase)
    assert secret not in repr(passphrase.file)
    path = tmp_path / "passphrase"
    path.write_bytes(passphrase.file.data)
    path.chmod(0o600)
    assert read_secret(path) == passphrase.secret


def test_a_directory_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    """When one file cannot be written, nothing stays behind."""
    bad = [NewFile(path=Path("a"), data=b"1"), NewFile(path=Path("a"), data=b"2")]
    with pytest.raises(StoreError, match="cannot be made"):
        make_directory(tmp_path / "site", bad)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A directory that exists is left as it is."""
    (tmp_path / "site").mkdir()
    with pytest.raises(StoreError, match="exists already"):
        make_directory(tmp_path / "site", [NewFile(path=Path("a"), data=b"1")])
    assert list((tmp_path / "site").iterdir()) == []


def test_modes_are_private(tmp_path: Path) -> None:
    """Directories are 0700, secrets 0600, the rest 0644."""
    files = [NewFile(path=Path("in/key"), data=b"k", is_secret=True), NewFile(path=Path("cert"), data=b"c")]
    make_directory(tmp_path / "site", files)
    modes = {
        p.name: stat.S_IMODE(p.stat().st_mode) for p in [tmp_path / "site", *(tmp_path / "site").rglob("*")]
    }
    assert modes == {"site": 0o700, "in": 0o700, "key": 0o600, "cert": 0o644}
