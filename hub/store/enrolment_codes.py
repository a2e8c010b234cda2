"""One-time codes that let a device take a controller's place; only the digest of each secret is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any

from sqlalchemy import Connection, Row, select, update

from hub.store.database import fields, insert_new
from hub.store.schema import enrolment_codes
from pacs.identifiers import ControllerId, DoorId


@unique
class Purpose(StrEnum):
    """What a code is for."""

    FIRST = "first"  # the place has no device yet
    AGAIN = "again"  # the same device, whose certificate ended or is refused
    SWAP = "swap"  # another device takes the place


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentCode:
    """One code. ``doors``: those of the place when it was made. ``used_by``: SHA-256 of the key that used it."""

    secret_hash: bytes
    id: str
    controller_id: ControllerId
    purpose: Purpose
    doors: tuple[DoorId, ...]
    created_by: str
    created_at: datetime
    expires_at: datetime
    withdrawn_at: datetime | None = None
    used_at: datetime | None = None
    used_by: bytes | None = None


_COLUMNS = enrolment_codes.c


def add(connection: Connection, code: EnrolmentCode) -> None:
    """Keep a code; those of the same place that nobody used are withdrawn: only one at a time works."""
    unused = (_COLUMNS.controller_id == code.controller_id) & _COLUMNS.used_at.is_(None)
    connection.execute(
        update(enrolment_codes)
        .where(unused, _COLUMNS.withdrawn_at.is_(None))
        .values(withdrawn_at=code.created_at)
    )
    insert_new(connection, enrolment_codes, {**asdict(code), "doors": list(code.doors)})


def by_secret(connection: Connection, secret_hash: bytes) -> EnrolmentCode | None:
    """The code with this secret."""
    row = connection.execute(select(enrolment_codes).where(_COLUMNS.secret_hash == secret_hash)).first()
    return None if row is None else _code(row)


def of_controller(connection: Connection, controller_id: ControllerId) -> list[EnrolmentCode]:
    """Every code of a place, the newest first."""
    query = select(enrolment_codes).where(_COLUMNS.controller_id == controller_id)
    rows = connection.execute(query.order_by(_COLUMNS.created_at.desc(), _COLUMNS.id))
    return [_code(row) for row in rows]


def withdraw(connection: Connection, controller_id: ControllerId, now: datetime) -> int:
    """Let no unused code of this place be used any more; returns how many there were."""
    change = update(enrolment_codes).where(
        _COLUMNS.controller_id == controller_id, _COLUMNS.used_at.is_(None), _COLUMNS.withdrawn_at.is_(None)
    )
    return connection.execute(change.values(withdrawn_at=now)).rowcount


def use(connection: Connection, code: EnrolmentCode, key_digest: bytes, now: datetime) -> bool:
    """Use a code up; False: somebody did meanwhile."""
    change = update(enrolment_codes).where(
        _COLUMNS.secret_hash == code.secret_hash, _COLUMNS.used_at.is_(None), _COLUMNS.withdrawn_at.is_(None)
    )
    return connection.execute(change.values(used_at=now, used_by=key_digest)).rowcount == 1


def _code(row: Row[Any]) -> EnrolmentCode:
    columns: Mapping[str, Any] = fields(row)
    return EnrolmentCode(
        **{
            **columns,
            "controller_id": ControllerId(row.controller_id),
            "purpose": Purpose(row.purpose),
            "doors": tuple(map(DoorId, row.doors)),
        }
    )
