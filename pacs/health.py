"""How a controller is: the part of its heartbeat for whoever looks after it.

Whoever reads it ignores fields that are not known there, so that a newer controller may say more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from typing import Final, Self, TypeVar

from pacs.cbor import Fields, exactly, without_none
from pacs.errors import MalformedData
from pacs.identifiers import DoorId

T = TypeVar("T", bound=Sized)

MAX_TEXT: Final = 100
MAX_DOORS: Final = 8
MAX_READERS: Final = 16
MAX_COUNTS: Final = 32
MAX_ALARMS: Final = 16
MAX_INTEGER: Final = 2**53


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorHealth:
    """One door: the mode it is in, what gave it that mode, and what is wrong with it. Short texts.

    ``attendance``: who decides there where a person has to; None: not told.
    """

    door_id: DoorId
    mode: str
    cause: str
    alarms: tuple[str, ...] = ()
    attendance: str | None = None

    def __post_init__(self) -> None:
        _at_most(self.alarms, MAX_ALARMS, "alarms")
        _short(self.mode, self.cause, self.attendance or "", *self.alarms)

    @property
    def fields(self) -> dict[int, object]:
        """As it stands in the heartbeat."""
        return without_none(
            {1: str(self.door_id), 2: self.mode, 3: self.cause, 4: list(self.alarms), 5: self.attendance}
        )

    @classmethod
    def from_fields(cls, value: object) -> Self:
        """Raises ``MalformedData``."""
        fields = Fields(value, "door health")
        return cls(
            door_id=fields.parsed(1, DoorId),
            mode=fields.take(2, str),
            cause=fields.take(3, str),
            alarms=_texts(fields.take(4, list), MAX_ALARMS),
            attendance=fields.maybe(5, str),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderHealth:
    """One reader, named ``door/side``. ``last_card_s``: since a card was seen. The counts are since the start.

    ``reads`` and ``last_card_s`` are not told of a private door's reader.
    """

    reader: str
    state: str
    reads: int | None
    failed: int
    losses: int
    resets: int
    last_card_s: int | None = None

    def __post_init__(self) -> None:
        _short(self.reader, self.state)
        _natural(self.reads, self.failed, self.losses, self.resets, self.last_card_s)

    @property
    def fields(self) -> dict[int, object]:
        """As it stands in the heartbeat."""
        return without_none(
            {
                1: self.reader,
                2: self.state,
                3: self.reads,
                4: self.failed,
                5: self.losses,
                6: self.resets,
                7: self.last_card_s,
            }
        )

    @classmethod
    def from_fields(cls, value: object) -> Self:
        """Raises ``MalformedData``."""
        fields = Fields(value, "reader health")
        return cls(
            reader=fields.take(1, str),
            state=fields.take(2, str),
            reads=fields.maybe(3, int),
            failed=fields.take(4, int),
            losses=fields.take(5, int),
            resets=fields.take(6, int),
            last_card_s=fields.maybe(7, int),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerHealth:
    """A controller at one moment; None: not known, or there is none. Raises ``MalformedData`` beyond its bounds.

    The ages are those of the documents it decides by and of the oldest event the hub has not acknowledged.
    ``clock_distrust``: why it does not vouch for its clock. ``free_bytes``: where its state is kept. Since the start:
    ``connections``, ``batches`` sent, and what it did not take from the hub, by reason.
    """

    uptime_s: int
    policy_age_s: int | None = None
    revocations_age_s: int | None = None
    clock_distrust: str | None = None
    waiting_events: int = 0
    oldest_waiting_s: int | None = None
    temperature_millicelsius: int | None = None
    free_bytes: int | None = None
    connections: int = 0
    batches: int = 0
    refused_messages: Mapping[str, int] = field(default_factory=dict)
    refused_commands: Mapping[str, int] = field(default_factory=dict)
    doors: tuple[DoorHealth, ...] = ()
    readers: tuple[ReaderHealth, ...] = ()

    def __post_init__(self) -> None:
        _natural(self.uptime_s, self.policy_age_s, self.revocations_age_s, self.waiting_events)
        _natural(self.oldest_waiting_s, self.free_bytes, self.connections, self.batches)
        if self.temperature_millicelsius is not None:
            _natural(abs(self.temperature_millicelsius))
        for counts in (self.refused_messages, self.refused_commands):
            _at_most(counts, MAX_COUNTS, "counts")
            _natural(*counts.values())
            _short(*counts)
        _short(self.clock_distrust or "")
        _at_most(self.doors, MAX_DOORS, "doors")
        _at_most(self.readers, MAX_READERS, "readers")

    @property
    def fields(self) -> dict[int, object]:
        """As it stands in the heartbeat."""
        return without_none(
            {
                1: self.uptime_s,
                2: self.policy_age_s,
                3: self.revocations_age_s,
                4: self.clock_distrust,
                5: self.waiting_events,
                6: self.oldest_waiting_s,
                7: self.temperature_millicelsius,
                8: self.free_bytes,
                9: self.connections,
                10: self.batches,
                11: dict(self.refused_messages),
                12: dict(self.refused_commands),
                13: [door.fields for door in self.doors],
                14: [reader.fields for reader in self.readers],
            }
        )

    @classmethod
    def from_fields(cls, value: object) -> Self:
        """Raises ``MalformedData``."""
        fields = Fields(value, "health")
        return cls(
            uptime_s=fields.take(1, int),
            policy_age_s=fields.maybe(2, int),
            revocations_age_s=fields.maybe(3, int),
            clock_distrust=fields.maybe(4, str),
            waiting_events=fields.take(5, int),
            oldest_waiting_s=fields.maybe(6, int),
            temperature_millicelsius=fields.maybe(7, int),
            free_bytes=fields.maybe(8, int),
            connections=fields.take(9, int),
            batches=fields.take(10, int),
            refused_messages=_counts(fields.take(11, dict)),
            refused_commands=_counts(fields.take(12, dict)),
            doors=tuple(map(DoorHealth.from_fields, _at_most(fields.take(13, list), MAX_DOORS, "doors"))),
            readers=tuple(
                map(ReaderHealth.from_fields, _at_most(fields.take(14, list), MAX_READERS, "readers"))
            ),
        )


def _texts(values: list[object], count: int) -> tuple[str, ...]:
    return tuple(exactly(value, str, "health") for value in _at_most(values, count, "texts"))


def _counts(values: dict[object, object]) -> dict[str, int]:
    _at_most(values, MAX_COUNTS, "counts")
    return {exactly(name, str, "health"): exactly(number, int, "health") for name, number in values.items()}


def _natural(*numbers: int | None) -> None:
    if any(number is not None and not 0 <= number < MAX_INTEGER for number in numbers):
        raise MalformedData("health: a number out of range")


def _short(*texts: str) -> None:
    if any(len(text) > MAX_TEXT for text in texts):
        raise MalformedData(f"health: texts of at most {MAX_TEXT} characters expected")


def _at_most(values: T, count: int, what: str) -> T:
    if len(values) > count:
        raise MalformedData(f"health: at most {count} {what} expected")
    return values
