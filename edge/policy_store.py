"""The two signed documents a door decides by, on disk: verified before they are kept and again at every start.

::

    policy/policy.signed  revocations.signed    the documents, byte for byte as the hub signed them
           keys.signed                          the root's newest key statement, which came with one of them
           versions                             the highest version ever held of each
           *.refused                            a document that was found unusable at a start

A document is replaced as a whole or not at all, and never by an older one, also when the newer one is lost; a key
statement likewise. A newer statement is followed before the document it came with is looked at.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from edge.signers import Keys, Signers
from edge.state_files import StateFiles, replace_file, store_error
from pacs import bundle, revocation
from pacs.decision import ClockReading
from pacs.errors import MalformedData, StoreError, VerificationError
from pacs.identifiers import SiteId
from pacs.messages import CONFIRMED_DIGEST_BYTES, DocumentKind
from pacs.reason import Reason
from pacs.revocation import StatusList
from pacs.rules import Policy

PAUSE_S: Final = 0.001

_log = logging.getLogger(__name__)

_VERSIONS = re.compile(
    r"(policy (\d{1,16}) revocations (\d{1,16})(?: keys (\d{1,16}))?) ([0-9a-f]{8})\n", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a door decides by; it denies while one of the two is None."""

    policy: Policy | None = None
    revocations: StatusList | None = None
    digests: Mapping[DocumentKind, bytes] = field(default_factory=dict)
    """SHA-256 of each document that is held."""

    @property
    def documents(self) -> tuple[Policy | StatusList, ...]:
        """Those that are held."""
        return tuple(document for document in (self.policy, self.revocations) if document)

    def version(self, kind: DocumentKind) -> int:
        """0 when there is none."""
        document = self.policy if kind is DocumentKind.POLICY else self.revocations
        return document.version if document else 0

    def digest(self, kind: DocumentKind) -> bytes:
        """What tells this document from another of the same version; empty when there is none."""
        return self.digests.get(kind, b"")[:CONFIRMED_DIGEST_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusableDocument:
    """A file that could not be used at the start, and where it is.

    ``reason``: why it was refused, or ``INTERNAL_FAULT`` when the disk did not give it, or no longer has it.
    """

    kind: DocumentKind
    reason: Reason
    kept_as: Path


class PolicyStore:
    """Belongs to one thread.

    ``unusable``: what was found at the start, to be recorded. ``versions_lost``: so is that ``versions`` said
    nothing, and an older document than the newest one ever held may have been put in its place. ``statement_lost``: so
    is that the key statement cannot be used, so that nobody is believed until the hub sends it again.
    """

    def __init__(
        self,
        directory: Path,
        *,
        site_id: SiteId,
        signers: Signers,
        files: StateFiles | None = None,
        pause: Callable[[], None] = lambda: time.sleep(PAUSE_S),
    ) -> None:
        """Read what is there. An expired document is held all the same: deciding takes its age into account.

        ``pause`` lets other threads go on while a received document is verified. Raises ``StoreError`` when there is no directory and
        none can be made; any other fault of the disk leaves a store that works with what it could read.
        """
        self._directory = directory
        self._site_id = site_id
        self._signers = signers
        self._files = files or StateFiles()
        self._pause = pause
        self.held = Held()
        self.versions_lost = False
        try:
            self._files.make_directory(directory)
        except OSError as error:
            raise store_error(error, self._directory) from error
        self._highest, self._stated = self._read_versions()
        self.statement_lost = not self._find_statement()
        self.unusable = tuple(filter(None, map(self._load, DocumentKind)))

    @property
    def versions(self) -> Mapping[DocumentKind, int]:
        """What is held, for the hello; 0: none."""
        return {kind: self.held.version(kind) for kind in DocumentKind}

    def accept(self, kind: DocumentKind, data: bytes, clock: ClockReading) -> Held | None:
        """Verify a received document, make it durable and hold it; None when exactly this one is held already.

        Raises ``VerificationError`` with the reason to record; the one held before stays. ``StoreError`` when it is not
        known to be kept: the one held before stays until the next start, which takes the one it finds. Expiry is judged
        by a trusted clock only.
        """
        digest = hashlib.sha256(data).digest()
        if digest == self.held.digests.get(kind):
            return None
        document = self._received(kind, data)
        version = document.version
        if version <= self.held.version(kind) or version < self._highest[kind]:
            raise VerificationError(Reason.DOCUMENT_NOT_NEWER)
        if clock.trusted and document.expires_at <= clock.at:
            raise VerificationError(Reason.DOCUMENT_EXPIRED)
        try:
            replace_file(self._files, self._path(kind), data)
        except OSError as error:
            raise store_error(error, self._directory) from error
        self._remember(kind, version)
        self._hold(kind, document, digest)
        return self.held

    def _received(self, kind: DocumentKind, data: bytes) -> Policy | StatusList:
        try:
            is_outdated = self._follow(_statement_of(kind, data))
        except MalformedData as error:
            raise VerificationError(Reason.DOCUMENT_MALFORMED, str(error)) from error
        try:
            return self._verified(kind, data, self._signers.accepted, self._pause)
        except VerificationError as error:
            if is_outdated and error.reason is Reason.SIGNER_UNKNOWN:
                raise VerificationError(
                    Reason.DOCUMENT_NOT_NEWER, "its key statement is not newer"
                ) from error
            raise

    def _follow(self, data: bytes) -> bool:
        """Follow the key statement that came with a document, if it is newer; whether it is older than what is followed."""
        signers = self._signers
        if not data or data == signers.data:
            return False
        statement = signers.verified(data)
        if statement.version <= max(signers.version, self._stated - 1):
            return True
        try:
            replace_file(self._files, self._directory / "keys.signed", data)
        except OSError as error:
            raise store_error(error, self._directory) from error
        signers.follow(statement, data)
        self._stated = statement.version
        self._write_versions()
        policy = self.held.policy
        if policy and policy.issuers != (vouched := signers.vouched(policy.issuers)):
            policy = replace(policy, issuers=vouched)
            policy.make_ready()
            self.held = replace(self.held, policy=policy)
        return False

    def _verified(
        self, kind: DocumentKind, data: bytes, trusted: Keys, pause: Callable[[], None] = lambda: None
    ) -> Policy | StatusList:
        document: Policy | StatusList
        try:
            if kind is DocumentKind.POLICY:
                document = bundle.open_bundle(data, trusted, pause=pause)
                vouched = self._signers.vouched(document.issuers)
                if vouched != document.issuers:
                    document = replace(document, issuers=vouched)
                document.make_ready()
            else:
                document = StatusList.open(data, trusted)
        except MalformedData as error:
            raise VerificationError(Reason.DOCUMENT_MALFORMED, str(error)) from error
        if document.site_id != self._site_id:
            raise VerificationError(Reason.DOCUMENT_OTHER_SITE)
        return document

    def _hold(self, kind: DocumentKind, document: Policy | StatusList, digest: bytes) -> None:
        digests = {**self.held.digests, kind: digest}
        if isinstance(document, Policy):
            self.held = replace(self.held, policy=document, digests=digests)
        else:
            self.held = replace(self.held, revocations=document, digests=digests)

    def _load(self, kind: DocumentKind) -> UnusableDocument | None:
        path = self._path(kind)
        try:
            data = path.read_bytes()
            document = self._verified(kind, data, self._signers.kept)
            if document.version < self._highest[kind]:
                raise VerificationError(Reason.DOCUMENT_NOT_NEWER)
        except FileNotFoundError:
            if not self._highest[kind]:
                return None
            _log.error("%s: is gone; the hub sends it again", path)
            return UnusableDocument(kind=kind, reason=Reason.INTERNAL_FAULT, kept_as=path)
        except OSError as error:
            _log.error("%s", store_error(error, self._directory))
            return UnusableDocument(kind=kind, reason=Reason.INTERNAL_FAULT, kept_as=path)
        except VerificationError as error:
            return UnusableDocument(kind=kind, reason=error.reason, kept_as=self._put_aside(path))
        self._hold(kind, document, hashlib.sha256(data).digest())
        if document.version > self._highest[kind]:
            self._remember(kind, document.version)
        return None

    def _put_aside(self, path: Path) -> Path:
        """Where the file is then; where it was, on a disk that takes nothing."""
        aside = path.with_suffix(".refused")
        try:
            self._files.rename(path, aside)
            self._files.sync_directory(self._directory)
        except OSError as error:
            _log.warning("%s", store_error(error, self._directory))
        return aside if aside.exists() and not path.exists() else path

    def _path(self, kind: DocumentKind) -> Path:
        return self._directory / f"{kind.value}.signed"

    def _find_statement(self) -> bool:
        """Follow the key statement on disk, or one that came with a document there; whether all is as it was left."""
        path = self._directory / "keys.signed"
        if not self._stated and not path.exists():
            return True
        try:
            data = path.read_bytes()
            if self._use_found(data):
                return True
        except OSError as error:
            _log.error("%s", store_error(error, self._directory))
        for kind in DocumentKind:
            try:
                if self._use_found(_statement_of(kind, self._path(kind).read_bytes())):
                    _log.warning("%s cannot be used: the one that came with %s is followed", path, kind.value)
                    return True
            except (OSError, MalformedData):
                continue
        self._signers.believe_nobody()
        return False

    def _use_found(self, data: bytes) -> bool:
        try:
            statement = self._signers.verified(data)
        except (MalformedData, VerificationError, StoreError) as error:
            _log.error("a key statement cannot be used: %s", error)
            return False
        if statement.version < self._stated:
            return False
        self._signers.follow(statement, data)
        self._stated = statement.version
        return True

    def _read_versions(self) -> tuple[dict[DocumentKind, int], int]:
        """Of the documents, and of the key statement.

        Zeroes when the file is missing or damaged: what is held then sets them again.
        """
        path = self._directory / "versions"
        if not any(file.exists() for file in (path, *map(self._path, DocumentKind))):
            return dict.fromkeys(DocumentKind, 0), 0
        try:
            found = _VERSIONS.fullmatch(path.read_text("ascii"))
        except (OSError, UnicodeDecodeError):
            found = None
        if found is None or f"{zlib.crc32(found[1].encode()):08x}" != found[5]:
            _log.warning("%s is missing or damaged: what is held sets it again", path)
            self.versions_lost = True
            return dict.fromkeys(DocumentKind, 0), 0
        highest = {DocumentKind.POLICY: int(found[2]), DocumentKind.REVOCATIONS: int(found[3])}
        return highest, int(found[4] or 0)

    def _remember(self, kind: DocumentKind, version: int) -> None:
        """On a disk that does not take it, until the end of the process; the document itself says it at the next start."""
        self._highest |= {kind: version}
        self._write_versions()

    def _write_versions(self) -> None:
        highest = self._highest
        text = f"policy {highest[DocumentKind.POLICY]} revocations {highest[DocumentKind.REVOCATIONS]}"
        if self._stated:
            text = f"{text} keys {self._stated}"
        line = f"{text} {zlib.crc32(text.encode()):08x}\n"
        try:
            replace_file(self._files, self._directory / "versions", line.encode())
        except OSError as error:
            _log.warning("%s", store_error(error, self._directory))


def _statement_of(kind: DocumentKind, data: bytes) -> bytes:
    return bundle.statement_of(data) if kind is DocumentKind.POLICY else revocation.statement_of(data)
