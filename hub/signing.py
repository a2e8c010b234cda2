"""Which policy key signs, and what the root says of keys: followed while the hub runs.

The bureau puts a new key and a new key statement into the hub's directory. Every document carries the newest statement,
so that each door learns of it with whatever comes first; the newest key signs once every controller has confirmed a
document that carries it, or an operator says that it shall. A command carries no statement, and a door that has not heard
of its key refuses it: that is what the wait is for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection

from hub import audit
from hub.keys import STATEMENT, HubKeys, PolicyKeys, SigningKey
from hub.lookout import Lookout
from hub.store import documents, issuers
from hub.store.database import Database
from hub.store.errors import NotFound
from pacs.errors import StoreError
from pacs.identifiers import ControllerId, SiteId
from pacs.key_statement import KeyStatement

LOOK_S: Final = 1.0
"""How often the directory is looked at, and during a change the controllers' confirmations."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a change of the policy key is. ``stated`` None: the root stated nothing yet; ids as in envelopes.

    ``waiting``: controllers that confirmed no document with the statement; each learns of it with the next one.
    """

    stated: KeyStatement | None
    signer: bytes
    newest: bytes
    here: frozenset[bytes]
    waiting: tuple[tuple[ControllerId, SiteId], ...]


class Signing:
    """``current`` and ``trusted`` are for every thread."""

    def __init__(
        self,
        database: Database,
        keys: HubKeys,
        *,
        clock: Callable[[], datetime],
        changed: Callable[[], None],
    ) -> None:
        """``changed``: told after the commit when documents have to be made anew."""
        self._database = database
        self._keys = keys
        self._policy = keys.policy
        self._clock = clock
        self._changed = changed
        self._seen = _look_at(keys.site_dir)
        self._signing = keys.policy.signing(keys.policy.usable[0])
        self._lock = threading.Lock()
        self.lookout = Lookout("signing", self._look_and_tell, every_s=LOOK_S, failed="keys_not_looked_at")
        """The thread that looks."""

    def current(self) -> SigningKey:
        """What to sign with now."""
        return self._signing

    def trusted(self) -> Mapping[bytes, Ed25519PublicKey]:
        """Whose signature says that a document is this hub's own."""
        return self._policy.trusted

    def begin(self, connection: Connection) -> None:
        """Take note of the issuers, and of the key that signs: before anything is signed."""
        self._follow(connection)

    def standing(self, connection: Connection) -> Standing:
        """How far a change is."""
        policy, signing = self._policy, self._signing
        return Standing(
            stated=policy.stated,
            signer=signing.id,
            newest=policy.usable[-1],
            here=frozenset(policy.keys),
            waiting=tuple(documents.lacking_statement(connection, signing.version)) if policy.stated else (),
        )

    def switch(self, *, reason: str, actor: str) -> None:
        """Sign with the newest key from now on, whoever has not heard of it; raises ``NotFound`` when it signs already."""
        with self._lock:
            policy = self._policy
            newest = policy.usable[-1]
            if newest == self._signing.id:
                raise NotFound("no newer policy key is waiting to sign")
            with self._database.write() as connection:
                self._note(connection, "key.switch", newest, actor=actor, reason=reason)
            self._signing = policy.signing(newest)
        self._changed()

    def _look_and_tell(self) -> None:
        if self.look():
            self._changed()

    def look(self) -> bool:
        """Look once; whether documents have to be made anew."""
        with self._lock:
            seen = _look_at(self._keys.site_dir)
            if seen != self._seen:
                try:
                    found = PolicyKeys.load(self._keys.site_dir, self._keys.passphrase)
                    _refuse_other(self._policy, found)
                except StoreError as error:  # what was there before goes on
                    log.error("keys_not_usable", detail=str(error))  # noqa: TRY400
                    self._seen = seen
                    return False
                self._policy = found
                with self._database.write() as connection:
                    changed = self._follow(connection)
                self._seen = seen
                return changed
            if self._signing.id == self._policy.usable[-1]:
                return False
            with self._database.read() as connection:
                if self._signer(connection) == self._signing.id:
                    return False
            with self._database.write() as connection:
                return self._follow(connection)

    def _follow(self, connection: Connection) -> bool:
        """Sign as the statement and the confirmations say, and trust its issuers; whether anything changed."""
        before, policy = self._signing, self._policy
        stated = policy.stated
        of_issuers = issuers.follow(
            connection,
            stated.issuers if stated else dict([self._keys.issuer]),
            self._clock(),
            alone=stated is not None,
        )
        carried = documents.newest_statement(connection)
        if carried > (stated.version if stated else 0):
            log.error(
                "key_statement_is_older", doors_follow=carried, file=str(self._keys.site_dir / STATEMENT)
            )
        elif stated and stated.version > carried:
            self._note(connection, "key.follow", policy.usable[-1])
        signer = self._signer(connection)
        if (
            stated
            and signer != before.id
            and before.id in policy.usable
            and not documents.is_signer(connection, signer, stated.version)
        ):
            self._note(connection, "key.switch", signer)
        self._signing = policy.signing(signer)
        return of_issuers or (self._signing.id, self._signing.version) != (before.id, before.version)

    def _signer(self, connection: Connection) -> bytes:
        """The newest key once every controller knows it; until then the one that signed last, if that is still usable."""
        policy = self._policy
        *earlier, newest = policy.usable
        if not earlier or policy.stated is None:
            return newest
        version = policy.stated.version
        if self._signing.id == newest or documents.is_signer(connection, newest, version):
            return newest
        known = documents.newest_statement(connection) >= version
        if known and not documents.lacking_statement(connection, version):
            return newest
        return self._signing.id if self._signing.id in earlier else earlier[-1]

    def _note(
        self, connection: Connection, action: str, key: bytes, *, actor: str = audit.SYSTEM, reason: str = ""
    ) -> None:
        stated = self._policy.stated
        audit.record(
            connection,
            now=self._clock(),
            actor=actor,
            action=action,
            subject=f"policy-key:{key.hex()}",
            reason=reason,
            detail={"statement": stated.version if stated else 0},
        )


def _refuse_other(before: PolicyKeys, found: PolicyKeys) -> None:
    """Raises ``StoreError`` for a statement that doors would not follow after the one before."""
    if before.stated is None or found.statement == before.statement:
        return
    if found.stated is None or found.stated.version <= before.stated.version:
        raise StoreError(
            f"{STATEMENT}: is not newer than version {before.stated.version}, which doors follow"
        )


def _look_at(directory: Path) -> frozenset[tuple[str, int, int]]:
    """Name, time and size of what a change of keys changes."""
    found = set()
    for path in (directory / STATEMENT, *directory.glob("policy*.key.pem")):
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        found.add((path.name, state.st_mtime_ns, state.st_size))
    return frozenset(found)
