from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.card.card_keys import LAST_ADMINISTRATION_VERSION
from pacs.errors import MalformedData, StoreError
from provisioning.card_keys import CardKeys
from provisioning.keystore import Passphrase

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
