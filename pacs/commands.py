"""Commands: what an operator has a door do, signed for one controller, usable once, for minutes.

Format 1: a map of small integers under the envelope of ``pacs.envelope``. Whether a command is for this controller,
still in its time and not used before is judged at the door.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pacs import cbor, envelope
from pacs.cbor import Fields, milliseconds, without_none
from pacs.errors import MalformedData
from pacs.identifiers import ControllerId, CredentialId, DoorId, OperatorId, SiteId
from pacs.rules import DoorMode

MEDIA_TYPE: Final = "application/drempel-command+cbor"
FORMAT: Final = 1
ID_BYTES: Final = 16
MAX_LIFETIME: Final = timedelta(minutes=5)
"""The longest time between the issue of a command and the last moment it may be taken."""
LONGEST_POST: Final = timedelta(hours=24)
"""From the issue of ``open_post`` to its end."""
MAX_COMMAND_BYTES: Final = 1_024
"""No sealed command is longer."""


@unique
class Action(StrEnum):
    """What a door is to do; the values are wire strings."""

    UNLOCK_ONCE = "unlock_once"
    TEST_SIGNALS = "test_signals"
    EXAMINE = "examine"
    SET_MODE = "set_mode"
    CLEAR_MODE = "clear_mode"
    OPEN_POST = "open_post"
    CLOSE_POST = "close_post"
    GRANT = "grant"
    REFUSE = "refuse"


ANSWERS: Final = frozenset({Action.GRANT, Action.REFUSE})
"""The actions that answer an attended request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One order to one door. Raises ``MalformedData`` when its parts do not belong together.

    ``command_id`` and ``request_id``: 16 bytes. ``issued_at`` to ``expires_at``, exclusive: when it may be taken, at
    most ``MAX_LIFETIME``; aware, kept to the millisecond. ``mode`` belongs to ``set_mode``, and ``until``, the aware
    and exclusive end of that mode, may; None: until another order. ``open_post`` has to have an ``until``, at most
    ``LONGEST_POST`` after the issue. ``request_id`` and ``credential_id`` belong to ``grant`` and ``refuse``.
    ``operator_id`` is opaque.
    """

    command_id: bytes
    site_id: SiteId
    controller_id: ControllerId
    door_id: DoorId
    action: Action
    issued_at: datetime
    expires_at: datetime
    operator_id: OperatorId
    mode: DoorMode | None = None
    until: datetime | None = None
    request_id: bytes | None = None
    credential_id: CredentialId | None = None

    def __post_init__(self) -> None:
        if len(self.command_id) != ID_BYTES:
            raise MalformedData(f"command: an id of {ID_BYTES} bytes expected")
        if not self.issued_at < self.expires_at <= self.issued_at + MAX_LIFETIME:
            raise MalformedData(f"command: it lasts for more than nothing and at most {MAX_LIFETIME}")
        if (self.mode is not None) != (self.action is Action.SET_MODE):
            raise MalformedData("command: a mode is given when a mode is set, and only then")
        self._check_end()
        answers = self.action in ANSWERS
        if (self.request_id is not None) != answers or (self.credential_id is not None) != answers:
            raise MalformedData("command: a request and a credential are named by its answer, and only by it")
        if self.request_id is not None and len(self.request_id) != ID_BYTES:
            raise MalformedData(f"command: a request id of {ID_BYTES} bytes expected")

    def _check_end(self) -> None:
        opens = self.action is Action.OPEN_POST
        if self.until is None:
            if opens:
                raise MalformedData("command: a post is open until a time")
            return
        if not (opens or self.mode is not None) or self.until <= self.issued_at:
            raise MalformedData("command: an end belongs to a mode or a post, and is after the issue")
        if opens and self.until - self.issued_at > LONGEST_POST:
            raise MalformedData(f"command: a post is open for {LONGEST_POST} at most")


def seal(command: Command, key: Ed25519PrivateKey) -> bytes:
    """The signed command that is sent to its controller."""
    return envelope.seal(to_bytes(command), MEDIA_TYPE, key)


def open_command(data: bytes, trusted: Mapping[bytes, Ed25519PublicKey]) -> Command:
    """Verify and read; raises ``MalformedData`` or ``VerificationError``.

    Controller, time and single use are the caller's matter.
    """
    if len(data) > MAX_COMMAND_BYTES:
        raise MalformedData(f"command: at most {MAX_COMMAND_BYTES} bytes expected")
    return from_bytes(envelope.open_sealed(data, MEDIA_TYPE, trusted))


def to_bytes(command: Command) -> bytes:
    """The payload, before signing."""
    return cbor.encode(
        without_none(
            {
                0: FORMAT,
                1: command.command_id,
                2: str(command.site_id),
                3: str(command.controller_id),
                4: str(command.door_id),
                5: command.action.value,
                6: milliseconds(command.issued_at),
                7: milliseconds(command.expires_at),
                8: str(command.operator_id),
                9: None if command.mode is None else command.mode.value,
                10: None if command.until is None else milliseconds(command.until),
                11: command.request_id,
                12: None if command.credential_id is None else bytes(command.credential_id),
            }
        )
    )


def from_bytes(data: bytes) -> Command:
    """Read a payload; raises ``MalformedData``, also for a format this code does not know."""
    fields = Fields(cbor.decode(data, limit=MAX_COMMAND_BYTES), "command")
    if fields.take(0, int) != FORMAT:
        raise MalformedData("command: format not known")
    until, credential = fields.maybe(10, int), fields.maybe(12, bytes)
    command = Command(
        command_id=fields.take(1, bytes),
        site_id=fields.parsed(2, SiteId),
        controller_id=fields.parsed(3, ControllerId),
        door_id=fields.parsed(4, DoorId),
        action=fields.parsed(5, Action),
        issued_at=fields.moment(6),
        expires_at=fields.moment(7),
        operator_id=fields.parsed(8, OperatorId),
        mode=fields.maybe_parsed(9, DoorMode),
        until=None if until is None else cbor.moment(until, "command field 10"),
        request_id=fields.maybe(11, bytes),
        credential_id=None if credential is None else CredentialId(credential),
    )
    fields.finish()
    return command
