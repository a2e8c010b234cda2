"""What the doors decide by, built from the database and signed: each site's policy and revocation list.

Each kind has its own strictly increasing version at each site. What it says is drawn up from a snapshot, which for a large site
takes a while; its number is given, it is stored and audited, in the caller's write transaction, where nothing else
takes long. ``hub.distribution`` takes it from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from hub import audit
from hub.keys import SigningKey
from hub.store import access_levels, cards, documents, doors, issuers, schedules, sites
from hub.store.database import Database
from hub.store.documents import Document
from pacs import bundle
from pacs.errors import StoreError
from pacs.identifiers import SiteId
from pacs.messages import DocumentKind
from pacs.revocation import StatusList
from pacs.rules import Policy

REFRESH = "refresh"
"""Why a version is made that only has other dates; those are not audited."""
LIFETIME = timedelta(days=7)
LONGEST_REFRESH = timedelta(hours=1)
SHORTEST_REFRESH = timedelta(seconds=15)
LARGEST_JUMP = 1_000_000  # versions; a door that claims to be further ahead is not believed

_LIST_STEP = 1_024  # the list grows in steps, so that a new card seldom needs a new list
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


class Overtaken(StoreError):
    """Another version was issued meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A document without a number: what one snapshot of the database says.

    ``follows``: the version in force in that snapshot, 0 for none; ``is_news``: that one says something else.
    """

    site_id: SiteId
    kind: DocumentKind
    said: Policy | StatusList
    content_digest: bytes
    follows: int
    is_news: bool
    drawn_at: datetime
    signing: SigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteDocuments:
    """Makes the documents of every site; ``signing``: asked for the key to sign with, and what goes with it."""

    signing: Callable[[], SigningKey] = field(repr=False)

    def draft(self, connection: Connection, site_id: SiteId, kind: DocumentKind, *, now: datetime) -> Draft:
        """What this snapshot says, to be issued by ``issue_draft``; raises ``NotFound`` without that site."""
        signing = self.signing()
        newest = documents.newest(connection, site_id, kind)
        said = (
            _policy(connection, site_id, now)
            if kind is DocumentKind.POLICY
            else _revocations(connection, site_id, now)
        )
        content = _content(said, signing)
        return Draft(
            site_id=site_id,
            kind=kind,
            said=said,
            content_digest=content,
            follows=newest.version if newest else 0,
            is_news=newest is None or newest.content_digest != content,
            drawn_at=now,
            signing=signing,
        )

    def issue_draft(
        self, connection: Connection, draft: Draft, *, cause: str, actor: str = audit.SYSTEM, above: int = 0
    ) -> Document:
        """Make the draft the next version, higher than ``above``, too.

        Raises ``Overtaken`` when a version was issued since the draft's snapshot: it may say what the draft does not.
        """
        newest = documents.newest(connection, draft.site_id, draft.kind)
        if (newest.version if newest else 0) != draft.follows:
            raise Overtaken(f"a version after {draft.follows} is there already")
        version = max(draft.follows, above) + 1
        sealed = _sealed(replace(draft.said, version=version), draft.signing)
        document = Document(
            site_id=draft.site_id,
            kind=draft.kind,
            version=version,
            data=sealed,
            digest=hashlib.sha256(sealed).digest(),
            content_digest=draft.content_digest,
            cause=cause,
            created_at=draft.drawn_at,
            expires_at=draft.drawn_at + LIFETIME,
            signer=draft.signing.id,
            statement=draft.signing.version,
        )
        documents.add(connection, document)
        if draft.kind is DocumentKind.REVOCATIONS:
            cards.set_carried(connection, draft.site_id, version)
        if draft.is_news or cause != REFRESH:
            audit.record(
                connection,
                now=draft.drawn_at,
                actor=actor,
                action="document.issue",
                subject=f"{draft.kind}:{version}",
                reason=cause,
                detail={"site": str(draft.site_id)},
            )
        return document

    def issue_if_changed(
        self, connection: Connection, site_id: SiteId, kind: DocumentKind, *, cause: str, now: datetime
    ) -> Document | None:
        """Issue the next version unless the newest says the same already; None: it does."""
        draft = self.draft(connection, site_id, kind, now=now)
        return self.issue_draft(connection, draft, cause=cause) if draft.is_news else None

    def issue(
        self,
        connection: Connection,
        site_id: SiteId,
        kind: DocumentKind,
        *,
        cause: str,
        now: datetime,
        actor: str = audit.SYSTEM,
        above: int = 0,
    ) -> Document:
        """Issue the next version; it is higher than ``above``, too. Raises ``NotFound`` without that site."""
        draft = self.draft(connection, site_id, kind, now=now)
        return self.issue_draft(connection, draft, cause=cause, actor=actor, above=above)


class IssuesDocuments:
    """What changes something that doors go by: in one transaction with the documents that carry it, which are then pushed."""

    def __init__(
        self,
        database: Database,
        site_documents: SiteDocuments,
        *,
        clock: Callable[[], datetime],
        issued: Callable[[], None],
    ) -> None:
        """``issued`` is called after each commit of versions: push them."""
        self._database = database
        self._site_documents = site_documents
        self._clock = clock
        self._issued = issued


def _sealed(document: Policy | StatusList, signing: SigningKey) -> bytes:
    if isinstance(document, Policy):
        return bundle.seal(document, signing.key, signing.statement)
    return document.seal(signing.key, signing.statement)


def _policy(connection: Connection, site_id: SiteId, now: datetime) -> Policy:
    mine = (site_id,)
    levels = access_levels.list_all(connection, mine)
    policy = Policy(
        site_id=site_id,
        version=0,
        issued_at=now,
        expires_at=now + LIFETIME,
        time_zone=sites.get(connection, site_id).time_zone,
        issuers=issuers.trusted(connection),
        doors={named.door.id: named.door for named in doors.list_all(connection, sites=mine)},
        access_levels={named.level.id: named.level for named in levels},
        schedules={named.schedule.id: named.schedule for named in schedules.list_all(connection, mine)},
        holidays=frozenset(sites.list_holidays(connection, site_id)),
        entitlements=cards.entitlements(connection, site_id),
    )
    return bundle.with_table(policy)


def _revocations(connection: Connection, site_id: SiteId, now: datetime) -> StatusList:
    reserve = _LIST_STEP // 2
    size = ((cards.list_size(connection, site_id) + reserve) // _LIST_STEP + 1) * _LIST_STEP
    return StatusList.build(
        site_id=site_id,
        version=0,
        issued_at=now,
        expires_at=now + LIFETIME,
        size=size,
        statuses=cards.listed_statuses(connection, site_id),
    )


def refresh_interval(connection: Connection, site_id: SiteId) -> timedelta:
    """How often a site's documents are issued anew, so that no door's bound on their age is reached in normal running.

    A quarter of the shortest ``max_policy_age_s``, at most ``LONGEST_REFRESH``.
    """
    ages = [named.door.max_policy_age_s for named in doors.list_all(connection, sites=(site_id,))]
    quarter = timedelta(seconds=min(ages, default=86_400) / 4)
    return max(SHORTEST_REFRESH, min(LONGEST_REFRESH, quarter))


def _content(document: Policy | StatusList, signing: SigningKey) -> bytes:
    """Whose word it is belongs to what it says, once there is a key statement."""
    if isinstance(document, StatusList):
        said = document.packed
    else:
        said = bundle.signed_part(replace(document, version=0, issued_at=_NO_TIME, expires_at=_NO_TIME))
    digest = hashlib.sha256(said)
    if signing.version:
        digest.update(signing.version.to_bytes(8) + signing.id)
    return digest.digest()
