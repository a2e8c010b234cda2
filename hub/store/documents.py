"""The signed documents in all their versions, and which controller confirmed which."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, delete, func, insert, select, update

from hub.store import journals
from hub.store.database import fields
from hub.store.errors import NotFound
from hub.store.schema import confirmations, controllers, documents
from pacs.identifiers import ControllerId, SiteId
from pacs.messages import DocumentKind

CLOCKS_DIFFER = timedelta(minutes=5)
"""By how much a door's clock may be behind the hub's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One version of one of a site's signed documents, exactly as it travels.

    ``signer``: the id of the policy key; ``statement``: the version of the key statement in it, 0: none. ``digest`` is SHA-256 of ``data``; ``content_digest`` of what it says, whatever its version and dates.
    """

    site_id: SiteId
    kind: DocumentKind
    version: int
    data: bytes
    digest: bytes
    content_digest: bytes
    cause: str
    created_at: datetime
    expires_at: datetime
    signer: bytes | None = None
    statement: int = 0


def add(connection: Connection, document: Document) -> None:
    """Store the next version.

    The data of versions before the last but one is let go; of those before that say the same, all but the first.
    What a controller in use goes by, as far as it has confirmed, stays.
    """
    columns = documents.c
    mine = (columns.site_id == document.site_id) & (columns.kind == document.kind)
    held = _held_versions(connection, document.site_id, document.kind)
    connection.execute(insert(documents).values(**asdict(document)))
    query = select(columns.version, columns.content_digest).where(mine)
    newest = connection.execute(query.order_by(columns.version.desc()).limit(4)).all()
    says_the_same = len(newest) == 4 and newest[2].content_digest == newest[3].content_digest
    if says_the_same and newest[2].version not in held:
        superseded = mine & (columns.version == newest[2].version)
        connection.execute(delete(documents).where(superseded))
    connection.execute(
        update(documents)
        .where(mine, columns.version < document.version - 1)
        .where(columns.version.not_in(held), columns.data != b"")
        .values(data=b"")
    )


def _held_versions(connection: Connection, site_id: SiteId, kind: DocumentKind) -> set[int]:
    columns = confirmations.c
    highest = (
        select(func.max(columns.version))
        .join(controllers, controllers.c.id == columns.controller_id)
        .where(columns.kind == kind, controllers.c.retired_at.is_(None), controllers.c.site_id == site_id)
        .group_by(columns.controller_id)
    )
    return set(connection.scalars(highest))


def held(connection: Connection, site_id: SiteId, kind: DocumentKind, version: int) -> Document | None:
    """This version with its data; None when it is not there, or its data was let go."""
    query = _of(site_id, kind).where(documents.c.version == version)
    row = connection.execute(query).first()
    return None if row is None or not row.data else _document(row)


def newest(connection: Connection, site_id: SiteId, kind: DocumentKind) -> Document | None:
    """The version in force, None before the first."""
    row = connection.execute(_of(site_id, kind).order_by(documents.c.version.desc()).limit(1)).first()
    return None if row is None else _document(row)


def said_since(connection: Connection, site_id: SiteId, kind: DocumentKind) -> int:
    """The version that was the first to say what the newest says: those behind it only last longer. 0: there is none."""
    latest = newest(connection, site_id, kind)
    if latest is None:
        return 0
    columns = documents.c
    mine = (columns.site_id == site_id) & (columns.kind == kind)
    other = select(func.max(columns.version)).where(mine, columns.content_digest != latest.content_digest)
    before: int = connection.scalar(other) or 0
    first: int | None = connection.scalar(
        select(func.min(columns.version)).where(mine, columns.version > before)
    )
    return first or latest.version


def newest_versions(connection: Connection) -> dict[tuple[SiteId, DocumentKind], int]:
    """(site, kind) → the version in force, for all that have one."""
    columns = documents.c
    query = select(columns.site_id, columns.kind, func.max(columns.version))
    rows = connection.execute(query.group_by(columns.site_id, columns.kind))
    return {(SiteId(site_id), DocumentKind(kind)): version for site_id, kind, version in rows}


def confirmations_of(
    connection: Connection, controller_ids: Collection[ControllerId]
) -> list[tuple[ControllerId, DocumentKind, int, datetime]]:
    """What each of these controllers confirmed last of each kind, and when."""
    columns = confirmations.c
    query = select(columns.controller_id, columns.kind, columns.version, columns.confirmed_at)
    query = query.where(columns.controller_id.in_(controller_ids)).order_by(columns.version)
    last = {(row.controller_id, row.kind): row for row in connection.execute(query)}
    return [
        (ControllerId(row.controller_id), DocumentKind(row.kind), row.version, row.confirmed_at)
        for row in last.values()
    ]


def history(
    connection: Connection, site_id: SiteId, kind: DocumentKind, *, limit: int = 50
) -> list[Mapping[str, Any]]:
    """Version, cause and dates, newest first."""
    columns = documents.c
    query = select(columns.version, columns.cause, columns.created_at, columns.expires_at)
    query = query.where(columns.site_id == site_id, columns.kind == kind)
    return [fields(row) for row in connection.execute(query.order_by(columns.version.desc()).limit(limit))]


def _of(site_id: SiteId, kind: DocumentKind) -> Select[Any]:
    return select(documents).where(documents.c.site_id == site_id, documents.c.kind == kind)


def _document(row: Row[Any]) -> Document:
    return Document(**{**fields(row), "site_id": SiteId(row.site_id), "kind": DocumentKind(row.kind)})


# made once: what each message needs takes longer to put together than to carry out
_MINE = (confirmations.c.controller_id == bindparam("mine")) & (confirmations.c.kind == bindparam("kind_"))
_OF_ITS_SITE = (
    select(documents.c.created_at, documents.c.digest)
    .join(controllers, controllers.c.site_id == documents.c.site_id)
    .where(controllers.c.id == bindparam("mine"), documents.c.kind == bindparam("kind_"))
)
_MADE = _OF_ITS_SITE.where(documents.c.version == bindparam("version_"))
_NEWEST = _OF_ITS_SITE.with_only_columns(func.max(documents.c.version))
_CONFIRMED = select(confirmations.c.version).where(_MINE, confirmations.c.version == bindparam("version_"))
_CONFIRMED_BEFORE = (
    select(confirmations.c.version)
    .where(_MINE, confirmations.c.version < bindparam("version_"))
    .order_by(confirmations.c.version.desc())
    .limit(2)
)
_WITHDRAW = delete(confirmations).where(_MINE, confirmations.c.version > bindparam("version_"))


def confirm(
    connection: Connection,
    controller_id: ControllerId,
    kind: DocumentKind,
    version: int,
    now: datetime,
    *,
    digest: bytes | None = None,
    happened_at: datetime | None = None,
) -> bool:
    """The controller enforces this version of its site's and none above; a repetition keeps the first time.

    False, and nothing is stored, for a version that is not here, has another ``digest`` (its first bytes), or was made
    after it ``happened_at``: a hub restored from a copy gives a version's number to another document.
    """
    withdraw(connection, controller_id, kind, above=version)
    mine = {"mine": controller_id, "kind_": kind, "version_": version}
    known = connection.execute(_MADE, mine).first()
    if known is None or (happened_at is not None and happened_at < known.created_at - CLOCKS_DIFFER):
        return False
    if digest is not None and known.digest[: len(digest)] != digest:
        return False
    if kind is DocumentKind.POLICY:
        journals.end_move(connection, controller_id, policy_made_at=known.created_at, until=now)
    if connection.scalar(_CONFIRMED, mine) is None:
        row = {"controller_id": controller_id, "kind": kind, "version": version, "confirmed_at": now}
        connection.execute(insert(confirmations), row)
        before = connection.scalars(_CONFIRMED_BEFORE, mine).all()
        if len(before) == 2 and _say_the_same(connection, controller_id, kind, before[1], before[0]):
            connection.execute(delete(confirmations).where(_MINE, confirmations.c.version == before[0]), mine)
    return True


def _of_its_site(controller_id: ControllerId) -> ColumnElement[bool]:
    mine = select(controllers.c.site_id).where(controllers.c.id == controller_id)
    return documents.c.site_id == mine.scalar_subquery()


def _say_the_same(
    connection: Connection, controller_id: ControllerId, kind: DocumentKind, first: int, last: int
) -> bool:
    """Whether no version behind ``first`` up to ``last`` says something else than ``first``."""
    columns = documents.c
    contents = select(columns.content_digest).where(_of_its_site(controller_id), columns.kind == kind)
    up_to_first = contents.where(columns.version <= first).order_by(columns.version.desc()).limit(1)
    behind = contents.where(columns.version > first, columns.version <= last).distinct()
    return set(connection.scalars(behind)) <= set(connection.scalars(up_to_first))


def unproven(
    connection: Connection, controller_id: ControllerId, held: Mapping[DocumentKind, int]
) -> frozenset[DocumentKind]:
    """Of which kinds the controller says to hold the version in force without having confirmed it."""
    found = set()
    for kind, version in held.items():
        mine = {"mine": controller_id, "kind_": kind, "version_": version}
        if connection.scalar(_NEWEST, mine) == version and connection.scalar(_CONFIRMED, mine) is None:
            found.add(kind)
    return frozenset(found)


def withdraw(connection: Connection, controller_id: ControllerId, kind: DocumentKind, *, above: int) -> int:
    """The controller says it holds only version ``above``: what it confirmed beyond that no longer holds.

    Returns how many confirmations were taken back.
    """
    return connection.execute(_WITHDRAW, {"mine": controller_id, "kind_": kind, "version_": above}).rowcount


def confirmed_at(
    connection: Connection, site_id: SiteId, kind: DocumentKind, version: int
) -> dict[ControllerId, datetime | None]:
    """Every controller in use at a site → when it first confirmed this version or a later one; None: not yet."""
    columns = confirmations.c
    first = (
        select(columns.controller_id, func.min(columns.confirmed_at).label("at"))
        .where(columns.kind == kind, columns.version >= version)
        .group_by(columns.controller_id)
        .subquery()
    )
    query = (
        select(controllers.c.id, first.c.at)
        .outerjoin(first, first.c.controller_id == controllers.c.id)
        .where(controllers.c.retired_at.is_(None), controllers.c.site_id == site_id)
        .order_by(controllers.c.id)
    )
    return {ControllerId(row.id): row.at for row in connection.execute(query)}


def confirmed_versions(connection: Connection) -> dict[tuple[ControllerId, DocumentKind], int]:
    """(controller, kind) → the highest version confirmed."""
    columns = confirmations.c
    query = select(columns.controller_id, columns.kind, func.max(columns.version))
    rows = connection.execute(query.group_by(columns.controller_id, columns.kind))
    return {(ControllerId(controller), DocumentKind(kind)): version for controller, kind, version in rows}


def newest_statement(connection: Connection) -> int:
    """The highest version of the key statement that was in a document; 0: none was."""
    return connection.scalar(select(func.max(documents.c.statement))) or 0


def is_signer(connection: Connection, signer: bytes, statement: int) -> bool:
    """Whether this policy key signed a document that carries this version of the key statement, or a later one."""
    columns = documents.c
    query = select(columns.version).where(columns.signer == signer, columns.statement >= statement)
    return connection.execute(query.limit(1)).first() is not None


def lacking_statement(connection: Connection, statement: int) -> list[tuple[ControllerId, SiteId]]:
    """The controllers in use that confirmed no document with this version of the key statement, or a later one."""
    confirmed = (
        select(confirmations.c.controller_id)
        .join(
            documents,
            (documents.c.kind == confirmations.c.kind) & (documents.c.version == confirmations.c.version),
        )
        .where(
            confirmations.c.controller_id == controllers.c.id,
            documents.c.site_id == controllers.c.site_id,
            documents.c.statement >= statement,
        )
    )
    query = select(controllers.c.id, controllers.c.site_id).where(
        controllers.c.retired_at.is_(None), ~confirmed.exists()
    )
    rows = connection.execute(query.order_by(controllers.c.id))
    return [(ControllerId(controller_id), SiteId(site_id)) for controller_id, site_id in rows]


def required_newest(connection: Connection, site_id: SiteId, kind: DocumentKind) -> Document:
    """The version in force; raises ``NotFound`` before the first."""
    document = newest(connection, site_id, kind)
    if document is None:
        raise NotFound(f"no {kind} document yet")
    return document
