from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from pacs.card.card_keys import LAST_ADMINISTRATION_VERSION
from pacs.errors import MalformedData, StoreError
from provisioning import audit_log, key_backup
from provisioning.card_keys import FILE_NAME, CardKeys
from provisioning.cli import main
from provisioning.keystore import Passphrase
from provisioning.site import Site

CHOSEN = Passphrase(secret=b"a passphrase of ours")
RANDOM = Passphrase.generate()
KEYS = CardKeys.generate().with_simulated_batch()


@pytest.mark.parametrize("passphrase", [CHOSEN, RANDOM], ids=["chosen", "random"])
def test_kept_in_a_file(tmp_path: Path, passphrase: Passphrase) -> None:
    """What is written under a passphrase is read with it, from a file only its owner reads; a key is in no text of it."""
    KEYS.write(tmp_path, passphrase)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert CardKeys.read(tmp_path, Passphrase(secret=passphrase.secret)) == KEYS
    assert KEYS.transport["SIM0"].hex().encode() not in file.read_bytes()
    assert KEYS.transport["SIM0"].hex() not in repr(KEYS)
    with pytest.raises(StoreError, match="does not open"):
        CardKeys.read(tmp_path, Passphrase(secret=b"another passphrase"))


@given(st.binary(max_size=100), st.integers(0, 1000))
def test_any_file(noise: bytes, at: int) -> None:
    """Other bytes, and a file with one byte changed or cut off, are not card keys."""
    whole = SEALED
    at %= len(whole)
    for data in (noise, whole[:at], whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :]):
        with pytest.raises(StoreError):
            CardKeys.open(data, RANDOM, "card-keys")


SEALED = KEYS.seal(RANDOM)


def test_a_batch_keeps_its_key() -> None:
    """The same key again changes nothing; another one of that name, or a short one, is refused."""
    assert KEYS.with_simulated_batch() == KEYS
    for batch, key in (("SIM0", bytes(32)), ("B001", bytes(16)), ("b1", bytes(32))):
        with pytest.raises(MalformedData):
            KEYS.with_batch(batch, key)


def test_rotation_ends() -> None:
    """Each rotation adds a version, until there is no number left for one."""
    keys = KEYS
    while max(keys.administration) < LAST_ADMINISTRATION_VERSION:
        keys = keys.rotated()
    assert len(set(keys.administration.values())) == len(keys.administration) == 15
    with pytest.raises(StoreError):
        keys.rotated()


def test_a_site_that_is_older_than_card_keys_gets_them(site: Site) -> None:
    """Without them the command is named; a dry run makes nothing; they are made once, logged, and in the next backup."""

    def keys(command: str, *more: str) -> Result:
        words = ["card", "keys", command, "--site-dir", str(site.directory), "--format", "json", *more]
        return CliRunner().invoke(main, words)

    path = site.directory / FILE_NAME
    path.unlink()
    assert "card keys create" in keys("show").output
    assert json.loads(keys("create", "--dry-run").output)["made"] is False
    assert not path.exists()
    assert json.loads(keys("create").output)["made"] is True
    made = path.read_bytes()
    assert json.loads(keys("show").output) == {"batches": [], "administration": [0x31]}
    assert keys("create").exit_code == 1
    assert path.read_bytes() == made
    assert Path(FILE_NAME) in [file.path for file in key_backup.collect(site.directory)]
    assert b"card keys create" in (site.directory / audit_log.FILE).read_bytes()
