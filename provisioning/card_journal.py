"""What the issuing desk remembers of cards that are not finished: so much that none is made twice, and none is lost.

::

    DIR/                       0700, files 0600; no names of people
        B001-00000000002A.json     certified for this chip, and not yet given out
        7f5c2b1e-….void            will never be used; here until the hub has been told
        log                        a line for each thing that happened, only ever added to

Each file is there whole or not at all, and durable before the card is told anything that depends on it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pacs.card.card_keys import CardSerial
from pacs.card.cvc import Certificate
from pacs.card.personalisation import Made
from pacs.errors import MalformedData, StoreError
from pacs.identifiers import CredentialId
from provisioning.card_keys import replace_secret, sync_directory

DIRECTORY_NAME: Final = "card-journal"


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A chip, what was certified for it, and since when. ``complete``: the card has passed its tap."""

    serial: CardSerial
    made: Made
    at: datetime
    complete: bool

    @property
    def credential_id(self) -> CredentialId:
        """Whose id the card carries, or would have."""
        return credential_of(self.made)


def credential_of(made: Made) -> CredentialId:
    """The certificate's id; of a V1 card the x coordinate of its key."""
    return CredentialId(made.public_key[1:33]) if made.certificate is None else made.certificate.credential_id


class CardJournal:
    """The journal in one directory, made when it is first written to. Every method raises ``StoreError``."""

    def __init__(self, directory: Path, *, clock: Callable[[], datetime] = _utc_now) -> None:
        self._directory = directory
        self._clock = clock

    def unfinished(self, serial: CardSerial) -> Unfinished | None:
        """What was begun with this chip and neither given out nor voided."""
        path = self._of(serial)
        if not path.exists():
            return None
        found = _read(path)
        if self._void_of(found.credential_id).exists():  # stopped between the two steps of ``void``
            self._remove(path)
            return None
        return found

    def all_unfinished(self) -> list[Unfinished]:
        """Every chip that was begun with, oldest first."""
        serials = [CardSerial.parse(path.stem) for path in self._directory.glob("*.json")]
        found = [each for serial in serials if (each := self.unfinished(serial)) is not None]
        return sorted(found, key=lambda each: each.at)

    def certified(self, serial: CardSerial, made: Made) -> None:
        """Remember what a card is about to be given."""
        self._write(Unfinished(serial=serial, made=made, at=self._clock(), complete=False), "certified")

    def completed(self, serial: CardSerial) -> None:
        """The card is locked, and passed its tap; it is to be registered and given out."""
        known = self.unfinished(serial)
        if known is not None and not known.complete:
            self._write(replace(known, complete=True), "complete")

    def given_out(self, serial: CardSerial) -> None:
        """The card is its holder's: nothing is left to do, and nothing of it stays here."""
        known = self.unfinished(serial)
        if known is not None:
            self._note("given out", serial, known.credential_id)
            self._remove(self._of(serial))

    def void(self, serial: CardSerial, credential_id: CredentialId) -> None:
        """This credential will never be used, whatever is on the chip."""
        self._make()
        path = self._void_of(credential_id)
        if not path.exists():
            replace_secret(path, json.dumps({"serial": str(serial)}).encode())
            self._note("void", serial, credential_id)
        self.unfinished(serial)

    def voids(self) -> list[CredentialId]:
        """Those that the hub has not been told of."""
        return sorted((CredentialId.parse(path.stem) for path in self._directory.glob("*.void")), key=str)

    def reported(self, credential_id: CredentialId) -> None:
        """The hub knows that it is void."""
        path = self._void_of(credential_id)
        if path.exists():
            serial = CardSerial.parse(json.loads(_bytes_of(path))["serial"])
            self.unfinished(serial)
            self._remove(path)

    # ---- files

    def _of(self, serial: CardSerial) -> Path:
        return self._directory / f"{serial}.json"

    def _void_of(self, credential_id: CredentialId) -> Path:
        return self._directory / f"{credential_id}.void"

    def _write(self, entry: Unfinished, what: str) -> None:
        self._make()
        self._note(what, entry.serial, entry.credential_id)
        certificate = entry.made.certificate
        table = {
            "at": entry.at.isoformat(timespec="seconds"),
            "public_key": entry.made.public_key.hex(),
            "certificate": None if certificate is None else certificate.raw.hex(),
            "complete": entry.complete,
        }
        replace_secret(self._of(entry.serial), json.dumps(table).encode())

    def _make(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self._directory}: cannot be made ({error.strerror})") from error

    def _note(self, what: str, serial: CardSerial, credential_id: CredentialId) -> None:
        path = self._directory / "log"
        line = f"{self._clock().isoformat(timespec='seconds')} {what} {serial} {credential_id}\n"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as target:
                target.write(line.encode("ascii"))
        except OSError as error:
            raise StoreError(f"{path}: cannot be written ({error.strerror})") from error

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
            sync_directory(self._directory)
        except OSError as error:
            raise StoreError(f"{path}: cannot be removed ({error.strerror})") from error


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error


def _read(path: Path) -> Unfinished:
    try:
        table: dict[str, Any] = json.loads(_bytes_of(path))
        raw = table["certificate"]
        made = Made(
            public_key=bytes.fromhex(table["public_key"]),
            certificate=None if raw is None else Certificate.from_bytes(bytes.fromhex(raw)),
        )
        return Unfinished(
            serial=CardSerial.parse(path.stem),
            made=made,
            at=datetime.fromisoformat(table["at"]),
            complete=bool(table["complete"]),
        )
    except (ValueError, KeyError, TypeError, MalformedData) as error:
        raise StoreError(
            f"{path}: damaged; keep it, and void the card it names before another is issued to its holder"
        ) from error
