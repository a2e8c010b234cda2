from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from hypothesis import given
from hypothesis import strategies as st

from edge import tpm
from edge.config import KeyPaths, UseTpm
from edge.device_keys import new_device_key, new_passphrase, use_after
from edge.doctor_tpm import examine_tpm
from edge.finding import Code, Finding
from edge.keystore import read_passphrase, read_private_key
from edge.tpm_blobs import is_sealed, key_in, sealed_parts, sealed_text
from pacs.certificates import request, requested_key
from pacs.errors import MalformedData, StoreError
from tests.edge.software_tpm import SoftwareTpm, needs_tpm

if TYPE_CHECKING:
    from collections.abc import Iterator


def structure(body: bytes) -> bytes:
    """As a TPM writes it: behind its size."""
    return len(body).to_bytes(2) + body


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_sealed_secret_is_read_as_it_was_written(public: bytes, private: bytes) -> None:
    """Both structures come back, whatever is in them, also without the white space around them."""
    text = sealed_text(structure(public), structure(private))
    assert is_sealed(text)
    assert sealed_parts(text.strip()) == (structure(public), structure(private))


@given(st.binary(), st.binary(), st.booleans())
def test_what_is_no_sealed_secret_is_refused(before: bytes, after: bytes, framed: bool) -> None:
    """Nothing but ``MalformedData`` comes of any bytes, in the right frame or not."""
    data = sealed_text(before, after) if framed else before
    try:
        public, private = sealed_parts(data)
    except MalformedData:
        return
    assert sealed_text(public, private) == sealed_text(before, after)


def test_a_machine_without_a_tpm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself it keeps keys in files; where a TPM is required, or keeps what is needed, the error names device and remedy."""
    monkeypatch.delenv(tpm.TCTI_VARIABLE, raising=False)
    monkeypatch.setattr(tpm, "DEVICE", tmp_path / "tpmrm0")
    assert not is_sealed(new_passphrase(UseTpm.AUTO))
    assert key_in(new_device_key(UseTpm.AUTO, b"secret")) is None
    with pytest.raises(StoreError, match=r"no .*tpmrm0; is the module seated.*reader swap"):
        new_device_key(UseTpm.REQUIRED, b"secret")
    sealed = tmp_path / "passphrase"
    sealed.touch(mode=0o600)
    sealed.write_bytes(sealed_text(structure(b"public"), structure(b"private")))
    with pytest.raises(StoreError, match=r"no .*tpmrm0; is the module seated"):
        read_passphrase(sealed)
    monkeypatch.setattr(tpm, "DEVICE", Path("/dev/null"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not is_sealed(new_passphrase(UseTpm.AUTO))
    with pytest.raises(StoreError, match="sudo apt-get install openssl tpm2-openssl tpm2-tools"):
        new_passphrase(UseTpm.REQUIRED)


def test_the_doctor_says_what_a_tpm_keeps_and_what_is_wrong_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to say without one; a warning while it is not needed; a failure with the next step once the keys are in it, and no way back into a file."""
    monkeypatch.delenv(tpm.TCTI_VARIABLE, raising=False)
    monkeypatch.setattr(tpm, "DEVICE", tmp_path / "tpmrm0")
    key = tmp_path / "key"
    paths = KeyPaths(
        device_certificate=key,
        device_key=key,
        event_key=key,
        root_certificate=key,
        policy_public_key=key,
        passphrase_file=key,
    )
    paths.device_key.touch(mode=0o600)

    def found(use: UseTpm = UseTpm.AUTO) -> Finding:
        (finding,) = examine_tpm(replace(paths, tpm=use))
        return finding

    assert found().code is Code.TPM_UNUSED
    assert found(UseTpm.REQUIRED).code is Code.TPM_FAILED
    monkeypatch.setattr(tpm, "DEVICE", Path("/dev/null"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found(UseTpm.NEVER).code is Code.TPM_UNUSED
    assert found().code is Code.TPM_UNUSABLE
    assert use_after(paths) is UseTpm.AUTO
    paths.device_key.write_bytes(b"-----BEGIN TSS2 PRIVATE KEY-----\nAA==\n-----END TSS2 PRIVATE KEY-----\n")
    assert found().code is Code.TPM_FAILED
    assert found().advice == "run: sudo apt-get install openssl tpm2-openssl tpm2-tools"
    assert use_after(paths) is UseTpm.REQUIRED
    assert use_after(replace(paths, tpm=UseTpm.NEVER)) is UseTpm.NEVER


@pytest.fixture(scope="module")
def chips() -> Iterator[tuple[SoftwareTpm, SoftwareTpm]]:
    with SoftwareTpm() as one, SoftwareTpm() as other:
        yield one, other


@needs_tpm
def test_what_one_tpm_keeps_is_of_use_there_alone(
    chips: tuple[SoftwareTpm, SoftwareTpm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It signs a request with a key that it made and gives back what it sealed, after power cuts too; another TPM does neither, and says why."""

    def plug_in(chip: SoftwareTpm) -> None:
        for name, value in chip.environment.items():
            monkeypatch.setenv(name, value)

    one, other = chips
    plug_in(one)
    files = {"passphrase": new_passphrase(UseTpm.AUTO), "device.key.pem": new_device_key(UseTpm.AUTO, b"")}
    for name, data in files.items():
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_bytes(data)
    passphrase = read_passphrase(tmp_path / "passphrase")
    assert len(passphrase) == 43
    assert passphrase not in b"".join(files.values())
    for _ in range(4):  # swtpm refuses what it protects from guessing after three
        one.power_cut()
        one.power()
        assert read_passphrase(tmp_path / "passphrase") == passphrase
    key = read_private_key(tmp_path / "device.key.pem", b"")
    assert isinstance(key, tpm.TpmKey)
    assert requested_key(request(key)) == key.public_key()
    with pytest.raises(UnsupportedAlgorithm):
        key.private_bytes()

    one.power_cut()
    with pytest.raises(StoreError, match="does not answer; take the machine's power and give it back"):
        request(key)

    plug_in(other)
    for read in (read_passphrase, lambda path: read_private_key(path.with_name("device.key.pem"), b"")):
        with pytest.raises(
            StoreError, match=r"made by another one, or is damaged, or this one was cleared; .*reader swap"
        ):
            read(tmp_path / "passphrase")
    with pytest.raises(StoreError):
        request(key)
