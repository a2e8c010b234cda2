"""Identifiers that cannot hold a bad value.

Those that stand in an MQTT topic, a file name or a broker's user list are 1 to 48 characters of
``[A-Za-z0-9_-]``. None of them names a person.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Self

from pacs.errors import MalformedData

HUB, BROKER = "hub", "broker"
NOT_A_CONTROLLER = frozenset({HUB, BROKER})
"""Names in the certificates of the hub's own parties: whoever had one as a controller would be that party."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,48}")


class Identifier(str):
    """A validated name; a plain ``str`` to everybody who only reads it."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Raise ``MalformedData`` unless ``value`` is 1–48 characters of ``[A-Za-z0-9_-]``."""
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise MalformedData(f"{cls.__name__}: 1 to 48 characters of A-Z a-z 0-9 _ - expected")
        return super().__new__(cls, value)


class SiteId(Identifier):
    """One reception centre."""

    __slots__ = ()


class ControllerId(Identifier):
    """One process that decides; also its certificate's subject and its broker user."""

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Raise ``MalformedData`` for what no ``Identifier`` may be, and for the names of ``NOT_A_CONTROLLER``."""
        if isinstance(value, str) and value.lower() in NOT_A_CONTROLLER:
            raise MalformedData(
                f"ControllerId: {value} is the name of another party at the broker; choose another"
            )
        return super().__new__(cls, value)


class DoorId(Identifier):
    """One door."""

    __slots__ = ()


class CardholderId(Identifier):
    """One person, without saying who."""

    __slots__ = ()


class AccessLevelId(Identifier):
    """One set of access rules."""

    __slots__ = ()


class ScheduleId(Identifier):
    """One weekly schedule."""

    __slots__ = ()


class AreaId(Identifier):
    """One area that doors lead into."""

    __slots__ = ()


class StationId(Identifier):
    """One card reader beside a desk or in a kiosk, which opens no door."""

    __slots__ = ()


class PostId(Identifier):
    """One post: doors that somebody watches together."""

    __slots__ = ()


class OperatorId(Identifier):
    """One operator of the hub, without saying who."""

    __slots__ = ()


class JournalId(Identifier):
    """One journal file's life: 32 hex digits, drawn when the journal is created."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, order=True)
class CredentialId:
    """The one name of a credential, whatever the technology that carries it.

    16 bytes: the UUID in an issuer-signed certificate (extension 1.3.6.1.4.1.59685.8.1).
    32 bytes: the x coordinate of a PKOC V1 card's key.
    """

    value: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.value, bytes) or len(self.value) not in (16, 32):
            raise MalformedData("CredentialId: 16 or 32 bytes expected")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str()`` wrote: a UUID, or 64 hex digits. Raises ``MalformedData``."""
        try:
            raw = bytes.fromhex(text) if len(text) == 64 else uuid.UUID(text).bytes
        except (ValueError, AttributeError, TypeError) as error:
            raise MalformedData("CredentialId: a UUID or 64 hex digits expected") from error
        return cls(raw)

    def __str__(self) -> str:
        digits = self.value.hex()
        if len(digits) == 64:
            return digits
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def __bytes__(self) -> bytes:
        return self.value

    def __repr__(self) -> str:
        return f"CredentialId({self.abbreviated})"

    @property
    def abbreviated(self) -> str:
        """The first 8 hex digits: what a log line may hold."""
        return self.value[:4].hex() + "…"
