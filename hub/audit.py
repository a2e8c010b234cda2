"""The audit log: who did what and why, each entry bound to the one before it.

``hash = SHA-256("drempel audit 1" ‖ previous hash ‖ JSON of the fields)``; the first entry's previous
hash is 32 zero bytes. A changed, removed or inserted entry breaks the chain at that place. A shortened
log is found by comparing with a head written down elsewhere: the hub logs its head when it starts.
Entries hold ids, never names; the reason is what an operator typed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from hub.store import audit as rows
from hub.store.audit import AuditRow
from pacs.errors import StoreError

_LABEL = b"drempel audit 1"
_GENESIS = bytes(32)

SYSTEM = "system"


class AuditBroken(StoreError):
    """The stored log is not the log that was written; the message names the entry."""


@dataclass(frozen=True, slots=True)
class AuditHead:
    """How many entries there are, and the hash of the newest: worth writing down outside the hub."""

    entries: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.entries}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> AuditHead:
        """Read what ``str()`` wrote; raises ``ValueError``."""
        entries, _, digest = text.partition(":")
        if len(digest) != 64:
            raise ValueError("COUNT:HASH expected, the hash as 64 hex digits")
        return cls(int(entries), bytes.fromhex(digest))


def record(
    connection: Connection,
    *,
    now: datetime,
    actor: str,
    action: str,
    subject: str,
    reason: str = "",
    detail: Mapping[str, str | int] | None = None,
) -> None:
    """Append one entry in the caller's write transaction, so that it stands or falls with what it records.

    ``actor`` is ``operator:<id>``, ``token:<name>`` or ``SYSTEM``; ``action`` is ``noun.verb``.
    """
    newest = rows.last(connection)
    entry = AuditRow(
        id=newest.id + 1 if newest else 1,
        at=now.astimezone(UTC),
        actor=actor,
        action=action,
        subject=subject,
        reason=reason,
        detail=dict(detail or {}),
        previous_hash=newest.hash if newest else _GENESIS,
        hash=b"",
    )
    rows.append(connection, replace(entry, hash=_hash(entry)))


def newest(connection: Connection) -> AuditHead:
    """The head, without looking at what is before it."""
    last = rows.last(connection)
    return AuditHead(last.id, last.hash) if last else AuditHead(0, _GENESIS)


def verify(connection: Connection, expected: AuditHead | None = None) -> AuditHead:
    """Walk the whole chain and return its head.

    Raises ``AuditBroken`` naming the first entry that is not what was written, or saying that the
    log no longer contains ``expected``, a head that was noted earlier.
    """
    head = AuditHead(0, _GENESIS)
    seen = expected is None or expected == head
    for entry in rows.oldest_first(connection):
        if entry.id != head.entries + 1:
            raise AuditBroken(f"audit log: entry {head.entries + 1} is missing; restore the database")
        if entry.previous_hash != head.hash or entry.hash != _hash(entry):
            raise AuditBroken(f"audit log: entry {entry.id} was changed; restore the database")
        head = AuditHead(entry.id, entry.hash)
        seen = seen or head == expected
    if not seen:
        raise AuditBroken(
            f"audit log: the head noted earlier, {expected}, is not in it; it was rewritten or cut"
        )
    return head


def _hash(entry: AuditRow) -> bytes:
    at = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    fields = [entry.id, at, entry.actor, entry.action, entry.subject, entry.reason, entry.detail]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(_LABEL + entry.previous_hash + text.encode("ascii")).digest()
