"""The policy store: only a newer, authentic document of this site is held, and never none instead of an old one."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge.policy_store import PolicyStore
from edge.signers import Signers
from edge.state_files import StateFiles
from pacs import bundle, envelope
from pacs.decision import ClockReading
from pacs.envelope import trusted_keys
from pacs.errors import StoreError, VerificationError
from pacs.identifiers import SiteId
from pacs.messages import DocumentKind
from pacs.reason import Reason
from pacs.revocation import Status, StatusList
from pacs.rules import Policy
from tests.edge.power_cut import PowerCut, PowerCutFiles, Survives

POLICY, REVOCATIONS = DocumentKind.POLICY, DocumentKind.REVOCATIONS
SITE = SiteId("site-1")
KEY, OTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
ISSUED = datetime(2026, 1, 5, tzinfo=UTC)
NOW = ClockReading(at=ISSUED + timedelta(hours=1), trusted=True)
LATE = ClockReading(at=ISSUED + timedelta(days=99), trusted=True)
UNTRUSTED = replace(LATE, trusted=False)


def document(
    kind: DocumentKind, version: int, *, site: SiteId = SITE, key: Ed25519PrivateKey = KEY, days: int = 7
) -> bytes:
    """A signed document that lasts this long."""
    expires_at = ISSUED + timedelta(days=days)
    if kind is REVOCATIONS:
        return StatusList.build(
            site_id=site,
            version=version,
            issued_at=ISSUED,
            expires_at=expires_at,
            size=8,
            statuses={1: Status.INVALID},
        ).seal(key)
    policy = Policy(
        site_id=site,
        version=version,
        issued_at=ISSUED,
        expires_at=expires_at,
        time_zone="Europe/Amsterdam",
        issuers={},
        doors={},
        access_levels={},
        schedules={},
        holidays=frozenset(),
        entitlements={},
    )
    return bundle.seal(policy, key)


def open_store(
    directory: Path, *, files: StateFiles | None = None, key: Ed25519PrivateKey = KEY
) -> PolicyStore:
    return PolicyStore(
        directory / "policy", site_id=SITE, signers=Signers(trusted_keys(key.public_key())), files=files
    )


def tampered(data: bytes) -> bytes:
    """The same with one bit of its signature changed."""
    return data[:-1] + bytes([data[-1] ^ 1])


def test_first_start_holds_nothing(tmp_path: Path) -> None:
    """Without documents both are absent, and nothing is reported as unusable."""
    store = open_store(tmp_path)
    assert store.held.policy is None
    assert store.held.revocations is None
    assert store.versions == {POLICY: 0, REVOCATIONS: 0}
    assert store.unusable == ()


@pytest.mark.parametrize("first", list(DocumentKind))
def test_accepted_documents_are_held_and_kept(tmp_path: Path, first: DocumentKind) -> None:
    """Either document may come first; both are there after a restart, bit for bit."""
    store = open_store(tmp_path)
    second = REVOCATIONS if first is POLICY else POLICY
    held = store.accept(first, document(first, 4), NOW)
    assert held is store.held
    assert (held.version(first), held.version(second)) == (4, 0)
    store.accept(second, document(second, 9), NOW)
    store.accept(second, document(second, 12), NOW)
    again = open_store(tmp_path)
    assert again.held == store.held
    assert again.versions == {first: 4, second: 12}
    assert again.unusable == ()


def test_same_document_again(tmp_path: Path) -> None:
    """What the hub repeats is neither accepted again nor refused, also after a restart."""
    data = document(POLICY, 4)
    store = open_store(tmp_path)
    assert store.accept(POLICY, data, NOW)
    assert store.accept(POLICY, data, NOW) is None
    assert open_store(tmp_path).accept(POLICY, data, NOW) is None


def no_document(_kind: DocumentKind) -> bytes:
    return b"not a document"


REFUSALS: list[tuple[Reason, ClockReading, Callable[[DocumentKind], bytes]]] = [
    (Reason.DOCUMENT_MALFORMED, NOW, no_document),
    (Reason.DOCUMENT_MALFORMED, NOW, lambda kind: document(kind, 6)[:-1]),
    (
        Reason.DOCUMENT_MALFORMED,
        NOW,
        lambda kind: document(POLICY if kind is REVOCATIONS else REVOCATIONS, 6),
    ),
    (Reason.SIGNER_UNKNOWN, NOW, lambda kind: document(kind, 6, key=OTHER_KEY)),
    (Reason.SIGNATURE_INVALID, NOW, lambda kind: tampered(document(kind, 6))),
    (Reason.DOCUMENT_OTHER_SITE, NOW, lambda kind: document(kind, 6, site=SiteId("site-2"))),
    (Reason.DOCUMENT_NOT_NEWER, NOW, lambda kind: document(kind, 4)),
    (Reason.DOCUMENT_NOT_NEWER, NOW, lambda kind: document(kind, 5, days=8)),
    (Reason.DOCUMENT_EXPIRED, LATE, lambda kind: document(kind, 6)),
]


@pytest.mark.parametrize("kind", list(DocumentKind))
@pytest.mark.parametrize(
    ("reason", "clock", "make"), REFUSALS, ids=[f"{place}-{row[0]}" for place, row in enumerate(REFUSALS)]
)
def test_refusals(
    tmp_path: Path,
    kind: DocumentKind,
    reason: Reason,
    clock: ClockReading,
    make: Callable[[DocumentKind], bytes],
) -> None:
    """Each refusal has its reason, and the document held before stays, in memory and on disk."""
    store = open_store(tmp_path)
    store.accept(kind, document(kind, 5), NOW)
    before = store.held
    with pytest.raises(VerificationError) as refusal:
        store.accept(kind, make(kind), clock)
    assert refusal.value.reason is reason
    assert store.held is before
    assert open_store(tmp_path).held == before


def test_expiry_needs_a_trusted_clock(tmp_path: Path) -> None:
    """A clock that nobody vouches for does not keep a document away; deciding says what it is worth."""
    store = open_store(tmp_path)
    assert store.accept(POLICY, document(POLICY, 1), UNTRUSTED)


def test_key_change(tmp_path: Path) -> None:
    """While two keys are trusted documents of both are accepted; what a dropped key signed is set aside."""
    both = trusted_keys(KEY.public_key(), OTHER_KEY.public_key())
    store = PolicyStore(tmp_path / "policy", site_id=SITE, signers=Signers(both))
    store.accept(POLICY, document(POLICY, 1), NOW)
    store.accept(REVOCATIONS, document(REVOCATIONS, 1, key=OTHER_KEY), NOW)
    later = open_store(tmp_path, key=OTHER_KEY)
    assert later.versions == {POLICY: 0, REVOCATIONS: 1}
    assert [unusable.reason for unusable in later.unusable] == [Reason.SIGNER_UNKNOWN]


@pytest.mark.parametrize("kind", list(DocumentKind))
def test_flipped_bit_in_every_byte_of_a_file(tmp_path: Path, kind: DocumentKind) -> None:
    """A damaged file is reported and kept aside, never held, and the same document is accepted again."""
    data = document(kind, 5)
    open_store(tmp_path).accept(kind, data, NOW)
    path = tmp_path / "policy" / f"{kind.value}.signed"
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        store = open_store(tmp_path)
        (unusable,) = store.unusable
        assert unusable.kind is kind
        assert unusable.kept_as.read_bytes() == damaged
        assert store.held.version(kind) == 0
        with pytest.raises(VerificationError):
            store.accept(kind, document(kind, 4), NOW)
        assert store.accept(kind, data, NOW) is not None


def test_old_file_put_back(tmp_path: Path) -> None:
    """An older document that somebody put in the file's place is not held at the next start."""
    store = open_store(tmp_path)
    store.accept(POLICY, document(POLICY, 5), NOW)
    (tmp_path / "policy" / "policy.signed").write_bytes(document(POLICY, 4))
    store = open_store(tmp_path)
    assert [unusable.reason for unusable in store.unusable] == [Reason.DOCUMENT_NOT_NEWER]
    assert store.versions[POLICY] == 0


@pytest.mark.parametrize("content", [None, b"", b"policy 1 revocations 1 00000000\n", b"\xff\xfe"])
def test_lost_record_of_versions(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a readable record of versions the documents held set it again, and it is logged."""
    open_store(tmp_path).accept(POLICY, document(POLICY, 5), NOW)
    versions = tmp_path / "policy" / "versions"
    versions.unlink()
    if content is not None:
        versions.write_bytes(content)
    store = open_store(tmp_path)
    assert store.versions[POLICY] == 5
    assert store.versions_lost
    assert "versions" in caplog.text
    assert not open_store(tmp_path).versions_lost
    (tmp_path / "policy" / "policy.signed").unlink()
    with pytest.raises(VerificationError) as refusal:
        open_store(tmp_path).accept(POLICY, document(POLICY, 4), NOW)
    assert refusal.value.reason is Reason.DOCUMENT_NOT_NEWER


def test_damaged_record_of_versions_and_nothing_held(tmp_path: Path) -> None:
    """Zeroes are not taken from a file that cannot be read without saying so."""
    assert not open_store(tmp_path).versions_lost
    (tmp_path / "policy" / "versions").write_text("x")
    assert open_store(tmp_path).versions_lost


def nothing(_directory: Path) -> None:
    """A new controller."""


def held(directory: Path) -> None:
    """Version 5 of both."""
    store = open_store(directory)
    for kind in DocumentKind:
        store.accept(kind, document(kind, 5), NOW)


def versions_lost(directory: Path) -> None:
    """The documents without the record of their versions."""
    held(directory)
    (directory / "policy" / "versions").unlink()


def damaged(directory: Path) -> None:
    """Documents that no longer verify, beside the record of their versions."""
    held(directory)
    for kind in DocumentKind:
        (directory / "policy" / f"{kind}.signed").write_bytes(tampered(document(kind, 5)))


@pytest.mark.parametrize("before", [nothing, held, versions_lost, damaged])
@pytest.mark.parametrize("kind", list(DocumentKind))
@pytest.mark.parametrize("survives", list(Survives), ids=lambda survives: survives.value)
def test_power_cut_between_every_step(
    tmp_path: Path, survives: Survives, kind: DocumentKind, before: Callable[[Path], None]
) -> None:
    """Whenever the power goes while a store is opened and accepts a document: afterwards the old one is held, or the new one.

    What was accepted is never taken back, and what is older than the newest ever accepted is never held again.
    """
    original = tmp_path / "original"
    original.mkdir()
    before(original)
    possible = {6, open_store(original).versions[kind]} if before is not damaged else {0, 6}
    shutil.rmtree(original)
    original.mkdir()
    before(original)
    for cut_at in range(60):
        live, after = tmp_path / f"live{cut_at}", tmp_path / f"after{cut_at}"
        PowerCutFiles(original).image(live, Survives.EVERYTHING)
        files = PowerCutFiles(live, cut_at)
        accepted = False
        with suppress(PowerCut):
            accepted = open_store(live, files=files).accept(kind, document(kind, 6), NOW) is not None
        files.image(after, survives)
        store = open_store(after)
        assert before is damaged or store.unusable == ()
        assert store.versions[kind] in ({6} if accepted else possible)
        for older in range(1, store.versions[kind] or (1 if before is nothing else 5)):
            with pytest.raises(VerificationError):
                store.accept(kind, document(kind, older), NOW)
        assert store.accept(kind, document(kind, 7), NOW) is not None
        if accepted:
            break
    else:
        pytest.fail("the document was never accepted")


class FailingFiles(StateFiles):
    """``left``: how many more operations succeed; None: all of them."""

    def __init__(self, error: int) -> None:
        self.left: int | None = None
        self._error = error

    def _count(self) -> None:
        if self.left is not None:
            if self.left == 0:
                raise OSError(self._error, os.strerror(self._error))
            self.left -= 1

    def open(self, path: Path, *, create: bool = False) -> int:
        self._count()
        return super().open(path, create=create)

    def write_at(self, fd: int, data: bytes, offset: int) -> int:
        self._count()
        return super().write_at(fd, data[: max(1, len(data) // 2)], offset)

    def sync(self, fd: int) -> None:
        self._count()
        super().sync(fd)

    def sync_directory(self, path: Path) -> None:
        self._count()
        super().sync_directory(path)

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("kind", list(DocumentKind))
def test_disk_that_takes_no_more(tmp_path: Path, kind: DocumentKind, error: int) -> None:
    """Whichever step fails: what cannot be kept is not held, the old one is; with room again it is accepted."""
    for left in range(60):
        directory = tmp_path / str(left)
        directory.mkdir()
        held(directory)
        files = FailingFiles(error)
        store = open_store(directory, files=files)
        files.left = left
        try:
            store.accept(kind, document(kind, 6), NOW)
            break
        except StoreError as refusal:
            said = str(refusal)
        assert "check the disk" in said
        assert store.versions[kind] == 5
        assert open_store(directory).versions[kind] in (5, 6)
        files.left = None
        assert store.accept(kind, document(kind, 6), NOW) is not None
        assert open_store(directory).versions[kind] == 6
    else:
        pytest.fail("the document was never accepted")
    assert left > 10


@pytest.mark.parametrize("before", [held, versions_lost, damaged])
def test_a_disk_that_takes_nothing_does_not_keep_a_door_from_starting(
    tmp_path: Path, before: Callable[[Path], None]
) -> None:
    """What can be read is held, what is damaged is named, and nothing older is taken for it."""
    before(tmp_path)
    files = FailingFiles(errno.EROFS)
    files.left = 0
    store = open_store(tmp_path, files=files)
    assert store.versions == dict.fromkeys(DocumentKind, 0 if before is damaged else 5)
    assert [unusable.kept_as.exists() for unusable in store.unusable] == [True, True] * (before is damaged)
    for kind in DocumentKind:
        with pytest.raises(VerificationError):
            store.accept(kind, document(kind, 4), NOW)
        with pytest.raises(StoreError):
            store.accept(kind, document(kind, 6), NOW)


def test_a_document_that_the_disk_does_not_give(tmp_path: Path) -> None:
    """It is named as unusable and left where it is; the other one is held."""
    held(tmp_path)
    path = tmp_path / "policy" / "policy.signed"
    path.unlink()
    path.mkdir()  # reading it fails as a bad sector would
    store = open_store(tmp_path)
    assert [(each.kind, each.reason, each.kept_as) for each in store.unusable] == [
        (POLICY, Reason.INTERNAL_FAULT, path)
    ]
    assert store.versions == {POLICY: 0, REVOCATIONS: 5}


def test_a_document_that_is_gone_is_said(tmp_path: Path) -> None:
    """Its version was held, so its absence is no first start."""
    store = open_store(tmp_path)
    for kind in DocumentKind:
        store.accept(kind, document(kind, 7), NOW)
    (tmp_path / "policy" / "policy.signed").unlink()
    again = open_store(tmp_path)
    assert [(each.kind, each.reason) for each in again.unusable] == [(POLICY, Reason.INTERNAL_FAULT)]
    assert again.held.version(REVOCATIONS) == 7


def test_what_the_disk_has_of_a_document_is_what_a_door_decides_by(tmp_path: Path) -> None:
    """A disk that keeps the document but not its version: held at once, and after a restart; an older one stays refused."""

    class NoVersions(StateFiles):
        def rename(self, source: Path, target: Path) -> None:
            if target.name == "versions":
                raise OSError(errno.ENOSPC, "full")
            super().rename(source, target)

    store = open_store(tmp_path, files=NoVersions())
    assert store.accept(POLICY, document(POLICY, 7), NOW) is store.held
    assert store.held.version(POLICY) == 7
    with pytest.raises(VerificationError, match="not_newer"):
        store.accept(POLICY, document(POLICY, 6), NOW)
    assert open_store(tmp_path).held.version(POLICY) == 7


def test_a_document_is_known_by_its_digest(tmp_path: Path) -> None:
    """Two documents of one version differ in what confirms them; it is the same after a restart."""
    data = document(POLICY, 5)
    store = open_store(tmp_path)
    assert store.held.digest(POLICY) == b""
    store.accept(POLICY, data, NOW)
    assert store.held.digest(POLICY) == hashlib.sha256(data).digest()[:8]
    assert open_store(tmp_path).held.digest(POLICY) == store.held.digest(POLICY)
    assert hashlib.sha256(document(POLICY, 5, days=8)).digest()[:8] != store.held.digest(POLICY)


@given(st.sampled_from(DocumentKind), st.binary(max_size=300), st.booleans())
def test_anything_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, kind: DocumentKind, data: bytes, signed: bool
) -> None:
    """Whatever bytes arrive, signed or not: refused with a reason and no other error."""
    if signed:
        media_type = bundle.MEDIA_TYPE if kind is POLICY else "application/statuslist+cwt"
        data = envelope.seal(data, media_type, KEY)
    store = open_store(tmp_path_factory.mktemp("store"))
    with pytest.raises(VerificationError) as refusal:
        store.accept(kind, data, NOW)
    assert refusal.value.reason is Reason.DOCUMENT_MALFORMED
