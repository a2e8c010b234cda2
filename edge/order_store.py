"""Which mode each door was ordered into, on disk: the signed commands themselves, verified again at every start.

::

    commands/<door>.order     the sealed ``set_mode`` in force, byte for byte as the hub signed it
             <door>.refused   one that was found unusable at a start

Nothing that the hub did not sign gives a door a mode, with one exception: an order that cannot be read may have been
a lockdown, so the door is locked down until it is ordered otherwise.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.signers import Signers
from edge.state_files import StateFiles, replace_file, store_error
from pacs.commands import ID_BYTES, MAX_COMMAND_BYTES, Action, Command, open_command
from pacs.decision import ClockReading
from pacs.errors import MalformedData, VerificationError
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.reason import Reason
from pacs.rules import DoorMode
from pacs.situation import ModeOrder

_log = logging.getLogger(__name__)

UNREADABLE: Final = ModeOrder(mode=DoorMode.LOCKDOWN, command_id=bytes(ID_BYTES))
"""What a door is held to whose order cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Whose commands are meant for here, and whose signature on them is believed."""

    site_id: SiteId
    controller_id: ControllerId
    door_ids: frozenset[DoorId]
    signers: Signers

    def addressed(self, command: Command) -> Reason | None:
        """Why a command is not meant for here; None: it is."""
        if (command.site_id, command.controller_id) != (self.site_id, self.controller_id):
            return Reason.COMMAND_OTHER_CONTROLLER
        return None if command.door_id in self.door_ids else Reason.DOOR_UNKNOWN


class OrderStore:
    """Belongs to one thread once it is made. ``unusable``: the doors whose order could not be read at the start."""

    def __init__(self, directory: Path, receiver: Receiver, *, files: StateFiles | None = None) -> None:
        """Read and verify what is there; never raises."""
        self._directory = directory
        self._receiver = receiver
        self._files = files or StateFiles()
        self._orders: dict[DoorId, ModeOrder] = {}
        unusable: list[DoorId] = []
        for door_id in sorted(receiver.door_ids):
            order = self._load(door_id)
            if order is UNREADABLE:
                unusable.append(door_id)
            if order:
                self._orders[door_id] = order
        self.unusable: Collection[DoorId] = tuple(unusable)

    @property
    def orders(self) -> Mapping[DoorId, ModeOrder]:
        """What is in force, as of this moment."""
        return dict(self._orders)

    def apply(self, command: Command, data: bytes) -> None:
        """Return once it is durable what this ``set_mode`` or ``clear_mode``, sealed as ``data``, leaves in force.

        Other commands change nothing. Raises ``StoreError``; what was in force before then stays so, here and at the
        next start as far as the disk takes it.
        """
        if command.action not in (Action.SET_MODE, Action.CLEAR_MODE):
            return
        path = self._path(command.door_id)
        try:
            before = path.read_bytes() if path.exists() else None
            try:
                if command.action is Action.SET_MODE:
                    replace_file(self._files, path, data)
                    self._orders[command.door_id] = _order(command)
                else:
                    self._remove(command.door_id)
            except OSError:
                self._put_back(command.door_id, before)
                raise
        except OSError as error:
            raise store_error(error, self._directory) from error

    def _put_back(self, door_id: DoorId, before: bytes | None) -> None:
        """What is refused must not be there at the next start: a change that was not made durable may be seen all the same."""
        path = self._path(door_id)
        with contextlib.suppress(OSError):
            if before is None:
                self._files.remove(path)
                self._files.sync_directory(self._directory)
            elif not path.exists() or path.read_bytes() != before:
                replace_file(self._files, path, before)

    def drop_ended(self, clock: ClockReading) -> None:
        """Remove the orders that have come to their end, if the clock can tell. Raises ``StoreError``."""
        if not clock.trusted:
            return
        ended = [
            door_id for door_id, order in self._orders.items() if order.until and order.until <= clock.at
        ]
        try:
            for door_id in ended:
                self._remove(door_id)
        except OSError as error:
            raise store_error(error, self._directory) from error

    def _load(self, door_id: DoorId) -> ModeOrder | None:
        path = self._path(door_id)
        try:
            with path.open("rb") as file:
                command = open_command(file.read(MAX_COMMAND_BYTES + 1), self._receiver.signers.kept)
            if command.action is not Action.SET_MODE or command.door_id != door_id:
                raise MalformedData("another command than the order of this door")
            if reason := self._receiver.addressed(command):
                raise VerificationError(reason)
        except FileNotFoundError:
            # set aside at an earlier start, and nothing was ordered since
            return UNREADABLE if path.with_suffix(".refused").exists() else None
        except (OSError, MalformedData, VerificationError) as error:
            _log.error("%s: %s; the door is locked down until it is ordered otherwise", path, error)
            with contextlib.suppress(OSError):  # it is found again at the next start
                self._files.rename(path, path.with_suffix(".refused"))
                self._files.sync_directory(self._directory)
            return UNREADABLE
        return _order(command)

    def _remove(self, door_id: DoorId) -> None:
        path = self._path(door_id)
        with contextlib.suppress(FileNotFoundError):
            self._files.remove(path)
            self._files.sync_directory(self._directory)
        # only then: without it the door is no longer held in lockdown
        with contextlib.suppress(FileNotFoundError):
            self._files.remove(path.with_suffix(".refused"))
            self._files.sync_directory(self._directory)
        self._orders.pop(door_id, None)

    def _path(self, door_id: DoorId) -> Path:
        return self._directory / f"{door_id}.order"


def _order(command: Command) -> ModeOrder:
    if command.mode is None:
        raise MalformedData("no mode in an order")
    return ModeOrder(mode=command.mode, command_id=command.command_id, until=command.until)
