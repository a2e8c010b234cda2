"""Certificates of controllers: which were issued, which are in use, and which are refused."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select, update

from hub.store.database import fields, insert_new
from hub.store.errors import NotFound
from hub.store.schema import controllers, device_certificates
from pacs.identifiers import ControllerId, SiteId


@unique
class Because(StrEnum):
    """Why a certificate is refused."""

    SUPERSEDED = "superseded"  # its controller goes by a newer one
    REPLACED = "replaced"  # another device took the place
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCertificate:
    """One certificate. ``serial``: hex. ``key_digest`` and ``chain`` (PEM) are None of one not issued here, and so is
    ``expires_at`` until its controller has said it.

    ``used_at``: its controller first said that it goes by it.
    """

    serial: str
    controller_id: ControllerId
    issued_at: datetime
    key_digest: bytes | None = None
    chain: str | None = None
    expires_at: datetime | None = None
    used_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_because: Because | None = None


_COLUMNS = device_certificates.c


def add(connection: Connection, certificate: DeviceCertificate) -> None:
    """Admit a certificate, the newest of its controller; raises ``AlreadyExists`` for a serial number that is there."""
    insert_new(connection, device_certificates, asdict(certificate))
    mine = controllers.c.id == certificate.controller_id
    connection.execute(update(controllers).where(mine).values(certificate_serial=certificate.serial))


def of_controller(connection: Connection, controller_id: ControllerId) -> list[DeviceCertificate]:
    """Every certificate of a controller, the newest first."""
    query = select(device_certificates).where(_COLUMNS.controller_id == controller_id)
    rows = connection.execute(query.order_by(_COLUMNS.issued_at.desc(), _COLUMNS.serial))
    return [_certificate(row) for row in rows]


def in_force(
    connection: Connection, controller_ids: Collection[ControllerId]
) -> dict[ControllerId, DeviceCertificate]:
    """Controller → the certificate that it goes by: the oldest that is not refused; where all are refused, the last.

    A newer one holds beside it until its controller says that it goes by that.
    """
    query = select(device_certificates).order_by(_COLUMNS.issued_at)
    query = query.where(_COLUMNS.controller_id.in_(sorted(controller_ids)))
    found: dict[ControllerId, DeviceCertificate] = {}
    for row in connection.execute(query):
        certificate = _certificate(row)
        known = found.get(certificate.controller_id)
        if known is None or known.revoked_at is not None:
            found[certificate.controller_id] = certificate
    return found


def ending(connection: Connection, *, before: datetime | None = None) -> dict[ControllerId, datetime]:
    """Controller → when the certificate that it goes by ends; of those that end before a moment, or all that are known."""
    query = select(_COLUMNS.controller_id, func.min(_COLUMNS.expires_at).label("ends")).where(
        _COLUMNS.revoked_at.is_(None), _COLUMNS.expires_at.is_not(None)
    )
    if before is not None:
        query = query.where(_COLUMNS.expires_at < before)
    rows = connection.execute(query.group_by(_COLUMNS.controller_id))
    return {ControllerId(row.controller_id): row.ends for row in rows}


def with_key(
    connection: Connection, controller_id: ControllerId, key_digest: bytes
) -> DeviceCertificate | None:
    """The certificate in use of this controller for this key."""
    query = select(device_certificates).where(
        _COLUMNS.controller_id == controller_id,
        _COLUMNS.key_digest == key_digest,
        _COLUMNS.revoked_at.is_(None),
    )
    row = connection.execute(query).first()
    return None if row is None else _certificate(row)


def admitted(connection: Connection) -> list[tuple[ControllerId, str]]:
    """Whom the broker lets in: controller and serial number of every certificate that is not refused."""
    query = (
        select(_COLUMNS.controller_id, _COLUMNS.serial)
        .join(controllers)
        .where(_COLUMNS.revoked_at.is_(None), controllers.c.retired_at.is_(None))
        .order_by(_COLUMNS.controller_id, _COLUMNS.serial)
    )
    return [(ControllerId(row.controller_id), row.serial) for row in connection.execute(query)]


def not_refused(connection: Connection) -> list[tuple[DeviceCertificate, SiteId]]:
    """Every certificate that the broker admits, with its controller's site, by controller."""
    query = (
        select(device_certificates, controllers.c.site_id)
        .join(controllers)
        .where(_COLUMNS.revoked_at.is_(None), controllers.c.retired_at.is_(None))
        .order_by(_COLUMNS.controller_id, _COLUMNS.serial)
    )
    rows = connection.execute(query).mappings()
    return [
        (
            DeviceCertificate(
                **{
                    **{name: value for name, value in row.items() if name != "site_id"},
                    "controller_id": ControllerId(row["controller_id"]),
                    "revoked_because": None,
                }
            ),
            SiteId(row["site_id"]),
        )
        for row in rows
    ]


def revoke(
    connection: Connection,
    controller_id: ControllerId,
    because: Because,
    now: datetime,
    *,
    issued_before: datetime | None = None,
) -> int:
    """Refuse a controller's certificates, all or those issued before; returns how many that are."""
    change = update(device_certificates).where(
        _COLUMNS.controller_id == controller_id, _COLUMNS.revoked_at.is_(None)
    )
    if issued_before is not None:
        change = change.where(_COLUMNS.issued_at < issued_before)
    return connection.execute(change.values(revoked_at=now, revoked_because=because)).rowcount


# made once: it is asked with every heartbeat
_FIRST_USE = (
    update(device_certificates)
    .where(
        _COLUMNS.serial == bindparam("mine"),
        _COLUMNS.controller_id == bindparam("whose"),
        _COLUMNS.used_at.is_(None),
        _COLUMNS.revoked_at.is_(None),
    )
    .values(used_at=bindparam("now"), expires_at=func.coalesce(_COLUMNS.expires_at, bindparam("ends")))
)


def in_use(
    connection: Connection,
    controller_id: ControllerId,
    serial: str,
    now: datetime,
    *,
    ends: datetime | None = None,
) -> bool:
    """A controller says that it goes by this certificate: those issued before are refused. True: that changed something.

    ``ends``: when it ends, as the controller says; taken of one that was not issued here.
    """
    said = {"mine": serial, "whose": controller_id, "now": now, "ends": ends}
    used = connection.execute(_FIRST_USE, said)
    if not used.rowcount:
        return False
    issued_at = connection.scalar(select(_COLUMNS.issued_at).where(_COLUMNS.serial == serial))
    return revoke(connection, controller_id, Because.SUPERSEDED, now, issued_before=issued_at) > 0


def get(connection: Connection, serial: str) -> DeviceCertificate:
    """One certificate; raises ``NotFound``."""
    row = connection.execute(select(device_certificates).where(_COLUMNS.serial == serial)).first()
    if row is None:
        raise NotFound("certificate is not there")
    return _certificate(row)


def changes(connection: Connection) -> tuple[Any, ...]:
    """Something that is another whenever a certificate was admitted or refused."""
    query = select(func.count(), func.count(_COLUMNS.revoked_at), func.max(_COLUMNS.issued_at))
    return tuple(connection.execute(query.select_from(device_certificates)).one())


def _certificate(row: Row[Any]) -> DeviceCertificate:
    because = None if row.revoked_because is None else Because(row.revoked_because)
    return DeviceCertificate(
        **{
            **fields(row),
            "controller_id": ControllerId(row.controller_id),
            "revoked_because": because,
        }
    )
