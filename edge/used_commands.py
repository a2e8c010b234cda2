"""Which commands were used, on disk: what was judged once is never taken again, whatever happens in between.

``used`` holds the id of every command that may still be in its time, and the latest expiry of those it let go of:
what expires no later than that is expired, also for a clock that was set back. It is replaced as a whole.
"""

from __future__ import annotations

import logging
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from edge.clock import TOLERANCE
from edge.inputs import Now
from edge.state_files import StateFiles, replace_file, store_error
from pacs import cbor
from pacs.cbor import Fields, milliseconds
from pacs.commands import ID_BYTES, MAX_LIFETIME, Command
from pacs.errors import MalformedData, StoreError

_log = logging.getLogger(__name__)

MAX_COMMANDS: Final = 1_024
"""More than that in the time of one command is no operator's doing."""
LONGEST_LIFE_S: Final = (MAX_LIFETIME + 2 * TOLERANCE).total_seconds()
"""After this time, by any clock that is believed, every command that could have been used before has expired."""
DOCUMENTS_WITHIN: Final = timedelta(hours=2)
"""A hub that can send commands issues its documents anew within an hour."""

_FORMAT: Final = 1
_CHECK_BYTES: Final = 4
_MAX_FILE_BYTES: Final = 64 * 1024
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


class UsedCommands:
    """Belongs to one thread. ``lost``: what was used before is not known, so nothing may be taken for a while."""

    def __init__(
        self, directory: Path, *, now: Now, first_start: bool = True, files: StateFiles | None = None
    ) -> None:
        """Read what is there. A directory that is not there is made; at the ``first_start`` nothing was ever used.

        What is gone later is lost, and a disk that cannot be read or written is as good as that: no door has to wait
        for it.
        """
        self._path = directory / "used"
        self._files = files or StateFiles()
        self._expiries: dict[bytes, datetime] = {}
        self._let_go_until = _NEVER
        self._known_again_s: float | None = None
        try:
            if not directory.is_dir():
                self._files.make_directory(directory)
                if not first_start:
                    raise MalformedData("gone")
                self._write()
                return
            self._read(self._path.read_bytes())
        except (OSError, MalformedData) as error:
            _log.error("%s: %s; commands are refused for %d s", self._path, error, LONGEST_LIFE_S)
            self._known_again_s = now.monotonic_s + LONGEST_LIFE_S

    @property
    def lost(self) -> bool:
        """Whether what was used before is not known."""
        return self._known_again_s is not None

    def was_used(self, command_id: bytes) -> bool:
        """Whether a command of this id was judged, as far as that is remembered."""
        return command_id in self._expiries

    def was_let_go(self, expires_at: datetime) -> bool:
        """Whether a command that expires then may be one that is remembered no longer."""
        return expires_at <= self._let_go_until

    def use(self, command: Command, now: Now) -> None:
        """Return once it is durable that this command was judged.

        Raises ``StoreError`` when it cannot be made so; within this process it counts as used all the same.
        """
        if now.clock.trusted:
            self._let_go(now.clock.at)
        if len(self._expiries) >= MAX_COMMANDS:
            raise StoreError(f"{self._path}: {MAX_COMMANDS} commands at once; no more can be remembered")
        self._expiries[command.command_id] = command.expires_at
        if self.lost:
            raise StoreError(f"{self._path}: what was used before is not known")
        try:
            self._write()
        except OSError as error:
            raise store_error(error, self._path) from error

    def recover(self, now: Now, document_issued_at: datetime | None = None) -> None:
        """Begin anew when nothing that could have been used before is in its time any more; else nothing.

        What was used before was issued no later than ``DOCUMENTS_WITHIN`` of the newest document: a clock that is ahead
        keeps no command of the time after from being taken. Raises ``StoreError``.
        """
        if self._known_again_s is None or not now.clock.trusted or now.monotonic_s < self._known_again_s:
            return
        latest = now.clock.at
        if document_issued_at is not None:
            latest = min(latest, document_issued_at + DOCUMENTS_WITHIN)
        self._let_go_until = max(self._let_go_until, latest)
        try:
            self._files.make_directory(self._path.parent)
            self._write()
        except OSError as error:
            raise store_error(error, self._path) from error
        self._known_again_s = None

    def _let_go(self, at: datetime) -> None:
        for command_id, expires_at in list(self._expiries.items()):
            if expires_at + TOLERANCE <= at:
                del self._expiries[command_id]
                self._let_go_until = max(self._let_go_until, expires_at)

    def _read(self, data: bytes) -> None:
        check, body = data[:_CHECK_BYTES], data[_CHECK_BYTES:]
        if zlib.crc32(body).to_bytes(_CHECK_BYTES, "big") != check:
            raise MalformedData("damaged")
        fields = Fields(cbor.decode(body, limit=_MAX_FILE_BYTES), "used commands")
        if fields.take(0, int) != _FORMAT:
            raise MalformedData("used commands: format not known")
        self._let_go_until = fields.moment(1)
        entries = fields.take(2, dict)
        fields.finish()
        for command_id, expiry in entries.items():
            if len(cbor.exactly(command_id, bytes, "used commands")) != ID_BYTES:
                raise MalformedData(f"used commands: ids of {ID_BYTES} bytes expected")
            self._expiries[command_id] = cbor.moment(expiry, "used commands")

    def _write(self) -> None:
        entries = {command_id: milliseconds(at) for command_id, at in self._expiries.items()}
        body = cbor.encode({0: _FORMAT, 1: milliseconds(self._let_go_until), 2: entries})
        replace_file(self._files, self._path, zlib.crc32(body).to_bytes(_CHECK_BYTES, "big") + body)
