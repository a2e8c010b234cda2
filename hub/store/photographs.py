"""Photographs of cardholders."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, select

from hub.store.database import insert_new
from hub.store.errors import NotFound
from hub.store.schema import photographs
from pacs.identifiers import CardholderId


def put(connection: Connection, cardholder_id: CardholderId, data: bytes, now: datetime) -> None:
    """Store somebody's photograph (JPEG) in the place of an earlier one; raises ``NotFound``."""
    remove(connection, cardholder_id)
    insert_new(connection, photographs, {"cardholder_id": cardholder_id, "data": data, "taken_over_at": now})


def get(connection: Connection, cardholder_id: CardholderId) -> bytes:
    """Somebody's photograph (JPEG); raises ``NotFound``."""
    mine = photographs.c.cardholder_id == cardholder_id
    data: bytes | None = connection.scalar(select(photographs.c.data).where(mine))
    if data is None:
        raise NotFound(f"cardholder {cardholder_id} has no photograph")
    return data


def exists(connection: Connection, cardholder_id: CardholderId) -> bool:
    """Whether somebody has a photograph."""
    mine = select(photographs.c.cardholder_id).where(photographs.c.cardholder_id == cardholder_id)
    return connection.execute(mine).first() is not None


def remove(connection: Connection, cardholder_id: CardholderId) -> bool:
    """Delete somebody's photograph; False: there was none."""
    mine = photographs.c.cardholder_id == cardholder_id
    return connection.execute(delete(photographs).where(mine)).rowcount > 0
