"""A release's manifest: what it says, how versions are compared, and that nothing but its own errors leave it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pacs.envelope import trusted_keys
from pacs.errors import MalformedData, VerificationError
from pacs.release import MAX_ARCHIVE_BYTES, MAX_UNPACKED_BYTES, Release, Version

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
TRUSTED = trusted_keys(KEY.public_key())
RELEASE = Release(
    version=Version(1, 2, 3),
    built_at=datetime(2026, 11, 28, 12, 0, tzinfo=UTC),
    archive_bytes=10,
    archive_sha256=bytes(32),
    unpacked_bytes=20,
)
numbers = st.integers(0, 999_999)
versions = st.builds(Version, numbers, numbers, numbers)


@given(version=versions, archive=st.integers(1, MAX_ARCHIVE_BYTES), files=st.integers(1, MAX_UNPACKED_BYTES))
def test_a_release_survives_its_manifest(version: Version, archive: int, files: int) -> None:
    """Written, signed, verified and read, it is the same."""
    release = replace(RELEASE, version=version, archive_bytes=archive, unpacked_bytes=files)
    assert Release.open(release.seal(KEY), TRUSTED) == release


@given(data=st.binary(max_size=100))
def test_any_bytes_are_a_manifest_or_refused(data: bytes) -> None:
    """As a manifest and as its payload."""
    with pytest.raises(MalformedData):
        Release.open(data, TRUSTED)
    with pytest.raises(MalformedData):
        Release.from_bytes(data)


def test_another_keys_manifest_is_refused() -> None:
    """Well formed, and signed by somebody else."""
    with pytest.raises(VerificationError):
        Release.open(RELEASE.seal(Ed25519PrivateKey.generate()), TRUSTED)


@given(one=versions, other=versions)
def test_versions_are_compared_as_numbers(one: Version, other: Version) -> None:
    """And one version has one name."""
    parts = [tuple(map(int, str(version).split("."))) for version in (one, other)]
    assert (one < other) == (parts[0] < parts[1])
    assert Version.parse(str(one)) == one


@pytest.mark.parametrize(
    "text", ["1.2", "1.2.3.4", "01.2.3", "1.2.3a", "1.2.-3", " 1.2.3", "1.2.3\n", "١.2.3", ""]
)
def test_other_spellings_of_a_version_are_refused(text: str) -> None:
    """A version names a directory."""
    with pytest.raises(MalformedData):
        Version.parse(text)


@pytest.mark.parametrize("wrong", [{"archive_bytes": 0}, {"unpacked_bytes": 2**40}, {"archive_sha256": b""}])
def test_sizes_that_no_release_has_are_refused(wrong: dict[str, Any]) -> None:
    """Before anything is fetched."""
    with pytest.raises(MalformedData):
        replace(RELEASE, **wrong)
