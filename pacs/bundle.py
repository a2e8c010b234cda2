"""The policy bundle: a ``Policy`` signed, versioned and expiring.

Format 2: four bytes with the length of a signed envelope, the envelope, the table of entitlements. The envelope's
payload is a map of small integers with everything else and the table's SHA-256, so that the one signature holds for
both and only the small part is made into objects. Sets and mappings are written in order: equal policies have equal
bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date
from itertools import pairwise
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pacs import cbor, envelope
from pacs.card.p256 import parse_point
from pacs.cbor import Fields, milliseconds, without_none
from pacs.entitlement_table import EntitlementTable, Shape
from pacs.errors import MalformedData, VerificationError
from pacs.identifiers import AccessLevelId, AreaId, ControllerId, DoorId, ScheduleId, SiteId
from pacs.reason import Reason
from pacs.rules import (
    AccessLevel,
    AccessRule,
    Antipassback,
    Door,
    DoorMode,
    ModeRule,
    Policy,
    WhenClockUntrusted,
    WhenHubAway,
    WhenTooOld,
    WhenUnlisted,
)
from pacs.schedule import Schedule, Window, zone

MEDIA_TYPE = "application/drempel-policy+cbor"
FORMAT = 2

_LENGTH_BYTES = 4
_HUB_AWAY_MAX_S = 3_600

T = TypeVar("T")
K = TypeVar("K")


def seal(policy: Policy, key: Ed25519PrivateKey, statement: bytes = b"") -> bytes:
    """The signed bundle that is sent to the doors; raises ``MalformedData`` for what the form has no room for.

    ``statement``: the key statement that goes with it.
    """
    table = _table(policy)
    sealed = envelope.seal(_signed_part(policy, table), MEDIA_TYPE, key, statement)
    return len(sealed).to_bytes(_LENGTH_BYTES) + sealed + bytes(table)


def open_bundle(
    data: bytes, trusted: Mapping[bytes, Ed25519PublicKey], *, pause: Callable[[], None] = lambda: None
) -> Policy:
    """Verify and read; raises ``MalformedData`` or ``VerificationError``. Site and age are the caller's.

    ``data`` is kept: the entitlements are looked up in it. ``pause`` is called again and again while they are checked.
    """
    if len(data) > envelope.MAX_SEALED_BYTES:
        raise MalformedData("policy: longer than allowed")
    table_at = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES])
    signed = envelope.open_sealed(data[_LENGTH_BYTES:table_at], MEDIA_TYPE, trusted)
    return read(signed, data, table_at, pause=pause)


def statement_of(data: bytes) -> bytes:
    """The key statement that goes with a bundle, unproven; empty: none. Raises ``MalformedData``."""
    table_at = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES])
    return envelope.Sealed.read(data[_LENGTH_BYTES:table_at], MEDIA_TYPE).statement


def signed_part(policy: Policy) -> bytes:
    """The payload that is signed; it names the rest by digest."""
    return _signed_part(policy, _table(policy))


def read(
    signed: bytes, data: bytes, table_at: int = 0, *, pause: Callable[[], None] = lambda: None
) -> Policy:
    """Read a signed part and the table that it names, which stands in ``data`` from ``table_at`` to the end.

    Raises ``MalformedData``, also for a format this code does not know, and ``VerificationError`` with
    ``SIGNATURE_INVALID`` when it is another table.
    """
    fields = Fields(cbor.decode(signed, limit=envelope.MAX_SEALED_BYTES), "policy")
    if fields.take(0, int) != FORMAT:
        raise MalformedData("policy: format not known")
    access_levels = _keyed(map(_level, fields.take(8, list)), lambda level: level.id)
    policy = Policy(
        site_id=fields.parsed(1, SiteId),
        version=fields.natural(2),
        issued_at=fields.moment(3),
        expires_at=fields.moment(4),
        time_zone=fields.take(5, str),
        issuers={_iir(iir): _point(point) for iir, point in fields.take(6, dict).items()},
        doors=_keyed(map(_door, fields.take(7, list)), lambda door: door.id),
        access_levels=access_levels,
        schedules=_keyed(map(_schedule, fields.take(9, list)), lambda schedule: schedule.id),
        holidays=frozenset(map(_day, fields.take(10, list))),
    )
    digest, shape = fields.sized(11, 32), _shape(fields.take(12, list))
    fields.finish()
    zone(policy.time_zone)
    if hashlib.sha256(memoryview(data)[table_at:]).digest() != digest:
        raise VerificationError(Reason.SIGNATURE_INVALID)
    table = EntitlementTable.read(data, shape, access_levels, at=table_at, pause=pause)
    return replace(policy, entitlements=table)


def with_table(policy: Policy) -> Policy:
    """The same policy, its entitlements in the form in which they are sent; raises ``MalformedData``."""
    return replace(policy, entitlements=_table(policy))


def _table(policy: Policy) -> EntitlementTable:
    table, levels = policy.entitlements, policy.access_levels
    if isinstance(table, EntitlementTable) and table.level_ids == tuple(sorted(levels)):
        return table
    return EntitlementTable.of(table, levels)


def _signed_part(policy: Policy, table: EntitlementTable) -> bytes:
    return cbor.encode(
        {
            0: FORMAT,
            1: str(policy.site_id),
            2: policy.version,
            3: milliseconds(policy.issued_at),
            4: milliseconds(policy.expires_at),
            5: policy.time_zone,
            6: dict(policy.issuers),
            7: [_door_fields(door) for _, door in sorted(policy.doors.items())],
            8: [_level_fields(level) for _, level in sorted(policy.access_levels.items())],
            9: [_schedule_fields(schedule) for _, schedule in sorted(policy.schedules.items())],
            10: [day.isoformat() for day in sorted(policy.holidays)],
            11: hashlib.sha256(bytes(table)).digest(),
            12: [table.shape.sets, table.shape.short, table.shape.long],
        }
    )


def _shape(value: list[object]) -> Shape:
    sets, short, long = (cbor.exactly(part, int, "policy") for part in _parts(value, 3, "policy"))
    if not all(0 <= count <= envelope.MAX_SEALED_BYTES for count in (sets, short, long)):
        raise MalformedData("policy: number of entitlements out of range")
    return Shape(sets=sets, short=short, long=long)


def _keyed(entries: Iterable[T], key: Callable[[T], K]) -> dict[K, T]:
    keyed: dict[K, T] = {}
    for entry in entries:
        if keyed.setdefault(key(entry), entry) is not entry:
            raise MalformedData("policy: the same identifier twice")
    return keyed


def _iir(value: object) -> str:
    iir = cbor.exactly(value, str, "issuer")
    if len(iir) != 16 or not iir.isascii() or not iir.isalnum() or iir != iir.upper():
        raise MalformedData("issuer: 16 characters of A-Z 0-9 expected")
    return iir


def _point(value: object) -> bytes:
    point = cbor.exactly(value, bytes, "issuer key")
    parse_point(point)
    return point


def _day(value: object) -> date:
    try:
        return cbor.day(cbor.exactly(value, str, "holiday"))
    except ValueError as error:
        raise MalformedData("holiday: YYYY-MM-DD expected") from error


def _door_fields(door: Door) -> dict[int, object]:
    return without_none(
        {
            1: str(door.id),
            2: str(door.controller_id),
            3: door.mode.value,
            4: door.unlock_ms,
            5: door.extended_unlock_ms,
            6: door.held_open_after_s,
            7: door.max_policy_age_s,
            8: door.when_too_old.value,
            9: door.when_clock_untrusted.value,
            10: door.allow_v1,
            11: [[str(rule.schedule_id), rule.mode.value] for rule in door.mode_rules],
            12: door.relock_on_open,
            13: door.held_warning_s,
            14: door.extended_held_open_after_s,
            15: door.when_unlisted.value,
            16: str(door.area) if door.area else None,
            17: str(door.outside) if door.outside else None,
            18: door.antipassback.value,
            19: door.antipassback_s,
            20: [str(level_id) for level_id in sorted(door.first_person_levels)],
            21: door.escort_window_s,
            22: [str(door_id) for door_id in sorted(door.interlock_with)],
            23: door.attended_timeout_s,
            24: door.private,
            25: [str(level_id) for level_id in sorted(door.admitting_levels)] or None,
            26: door.admits_at_most if door.admits_at_most != 1 else None,
            27: door.when_hub_away.value if door.when_hub_away is not WhenHubAway.DENY else None,
            28: door.hub_away_max_s if door.hub_away_max_s != _HUB_AWAY_MAX_S else None,
        }
    )


def _door(value: object) -> Door:
    fields = Fields(value, "door")
    door = Door(
        id=fields.parsed(1, DoorId),
        controller_id=fields.parsed(2, ControllerId),
        mode=fields.parsed(3, DoorMode),
        unlock_ms=fields.natural(4),
        extended_unlock_ms=fields.natural(5),
        held_open_after_s=fields.natural(6),
        max_policy_age_s=fields.natural(7),
        when_too_old=fields.parsed(8, WhenTooOld),
        when_clock_untrusted=fields.parsed(9, WhenClockUntrusted),
        allow_v1=fields.take(10, bool),
        mode_rules=tuple(map(_mode_rule, fields.take(11, list))),
        relock_on_open=fields.take(12, bool),
        held_warning_s=fields.natural(13),
        extended_held_open_after_s=fields.natural(14),
        when_unlisted=fields.parsed(15, WhenUnlisted),
        area=fields.maybe_parsed(16, AreaId),
        outside=fields.maybe_parsed(17, AreaId),
        antipassback=fields.parsed(18, Antipassback),
        antipassback_s=fields.natural(19),
        first_person_levels=_identifiers(fields.take(20, list), AccessLevelId),
        escort_window_s=fields.natural(21),
        interlock_with=_identifiers(fields.take(22, list), DoorId),
        attended_timeout_s=fields.natural(23),
        private=fields.take(24, bool),
        admitting_levels=_identifiers(_later(fields.maybe(25, list), []), AccessLevelId),
        admits_at_most=_later(fields.maybe(26, int), 1),
        when_hub_away=_later(fields.maybe_parsed(27, WhenHubAway), WhenHubAway.DENY),
        hub_away_max_s=_later(fields.maybe(28, int), _HUB_AWAY_MAX_S),
    )
    fields.finish()
    return door


def _later(found: T | None, usual: T) -> T:
    """A later field, left out where it is as usual: such a door is understood by those who do not know of it."""
    if found == usual:
        raise MalformedData("door: what is as usual is left out")
    return usual if found is None else found


def _mode_rule(value: object) -> ModeRule:
    schedule_id, mode = (cbor.exactly(part, str, "mode rule") for part in _parts(value, 2, "mode rule"))
    try:
        return ModeRule(schedule_id=ScheduleId(schedule_id), mode=DoorMode(mode))
    except ValueError as error:
        raise MalformedData("mode rule: a schedule and a mode expected") from error


def _identifiers(values: Iterable[object], parse: Callable[[str], T]) -> frozenset[T]:
    """Those of a set, which is written in order and without repetition."""
    names = [cbor.exactly(value, str, "door") for value in values]
    if any(first >= second for first, second in pairwise(names)):
        raise MalformedData("door: a set is written in order")
    return frozenset(map(parse, names))


def _level_fields(level: AccessLevel) -> list[object]:
    return [str(level.id), [[str(rule.door_id), str(rule.schedule_id)] for rule in level.rules]]


def _level(value: object) -> AccessLevel:
    level_id, rules = _parts(value, 2, "access level")
    return AccessLevel(
        id=AccessLevelId(cbor.exactly(level_id, str, "access level")),
        rules=tuple(map(_rule, cbor.exactly(rules, list, "access level"))),
    )


def _rule(value: object) -> AccessRule:
    door_id, schedule_id = _parts(value, 2, "access rule")
    return AccessRule(
        door_id=DoorId(cbor.exactly(door_id, str, "access rule")),
        schedule_id=ScheduleId(cbor.exactly(schedule_id, str, "access rule")),
    )


def _schedule_fields(schedule: Schedule) -> list[object]:
    return [str(schedule.id), _window_fields(schedule.windows), _window_fields(schedule.holiday_windows)]


def _window_fields(windows: Iterable[Window]) -> list[list[int]]:
    return [
        [sum(1 << day for day in window.weekdays), window.start_minute, window.end_minute]
        for window in windows
    ]


def _schedule(value: object) -> Schedule:
    schedule_id, windows, holiday_windows = _parts(value, 3, "schedule")
    return Schedule(
        id=ScheduleId(cbor.exactly(schedule_id, str, "schedule")),
        windows=tuple(map(_window, cbor.exactly(windows, list, "schedule"))),
        holiday_windows=tuple(map(_window, cbor.exactly(holiday_windows, list, "schedule"))),
    )


def _window(value: object) -> Window:
    days, start, end = (cbor.exactly(part, int, "window") for part in _parts(value, 3, "window"))
    if not 0 <= days < 128:
        raise MalformedData("window: seven weekday bits expected")
    return Window(
        weekdays=frozenset(day for day in range(7) if days >> day & 1), start_minute=start, end_minute=end
    )


def _parts(value: object, count: int, what: str) -> list[object]:
    parts = cbor.exactly(value, list, what)
    if len(parts) != count:
        raise MalformedData(f"{what}: {count} parts expected")
    return parts
