"""CBOR (RFC 8949) as this system reads it: deterministic, bounded, without tags.

One value has one encoding (RFC 8949 §4.2.3); anything else is refused, so that what was hashed
or signed is exactly what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NoReturn, TypeVar

import cbor2

from pacs.errors import MalformedData

T = TypeVar("T")

MAX_DEPTH = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
END_OF_TIME = datetime(9900, 1, 1, tzinfo=UTC)
"""Times are before this: far enough from the calendar's end to be moved to any time zone, or on by a while."""
_END_MS = (END_OF_TIME - _EPOCH) // _MILLISECOND
_NO_TIME = f"not a time between 1970 and {END_OF_TIME.year}"


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("tags are not used here")


# Every tag cbor2 would turn into an object; unknown ones reach the tag hook.
_KNOWN_TAGS = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)
_SEMANTIC_DECODERS: Any = dict.fromkeys(_KNOWN_TAGS, _refuse_tag)


def encode(value: object) -> bytes:
    """Encode deterministically; for our own values, so it does not fail on foreign input."""
    return cbor2.dumps(value, canonical=True)


def encode_in_order(value: object) -> bytes:
    """``encode`` for a value whose maps are in deterministic order already; a third of the time."""
    return cbor2.dumps(value)


def decode(data: bytes, *, limit: int) -> Any:
    """Decode one item of at most ``limit`` bytes.

    Raises ``MalformedData`` for anything but one deterministic encoding without tags,
    indefinite lengths, duplicate keys or nesting deeper than ``MAX_DEPTH``.
    """
    if len(data) > limit:
        raise MalformedData(f"CBOR: {len(data)} bytes, at most {limit} allowed")
    try:
        value = cbor2.loads(
            data,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            semantic_decoders=_SEMANTIC_DECODERS,
            tag_hook=_refuse_tag,
        )
        is_deterministic = _shortest(value) == len(data) or encode(value) == data
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise MalformedData("CBOR: not a well-formed item") from error
    if not is_deterministic:
        raise MalformedData("CBOR: trailing bytes or not the deterministic encoding")
    return value


_CANNOT_TELL = -(2**62)  # stays negative, whatever is added


def _shortest(value: object) -> int:
    """Bytes of the shortest encoding of a value that was read; negative: cannot tell.

    Of one value with its maps in deterministic order only the deterministic encoding is that short (RFC 8949
    §4.2.1), so that to compare lengths is enough, and takes a tenth of the time of encoding again.
    """
    kind = type(value)
    if kind is bytes:
        return _head(len(value)) + len(value)  # type: ignore[arg-type]
    if kind is str:
        size = len(value) if value.isascii() else len(value.encode())  # type: ignore[attr-defined,arg-type]
        return _head(size) + size
    if kind is int:
        return _head(value if value >= 0 else -1 - value)  # type: ignore[operator,arg-type]
    if kind is bool or value is None:
        return 1
    if kind is list:
        return _head(len(value)) + sum(map(_shortest, value))  # type: ignore[arg-type,call-overload]
    if kind is dict:
        return _shortest_map(value)  # type: ignore[arg-type]
    return _CANNOT_TELL


def _shortest_map(fields: dict[object, object]) -> int:
    size, last = _head(len(fields)), -1
    for key, value in fields.items():
        if type(key) is not int or key <= last:
            return _CANNOT_TELL
        last = key
        size += 1 if key < 24 else _head(key)
        kind = type(value)
        if kind is bytes or (kind is str and value.isascii()):  # type: ignore[attr-defined]
            length = len(value)  # type: ignore[arg-type]
            size += length + (1 if length < 24 else _head(length))
        elif kind is int and value >= 0:  # type: ignore[operator]
            size += _head(value)  # type: ignore[arg-type]
        else:
            size += 1 if kind is bool else _shortest(value)
    return size


_HEADS = (1,) * 24 + (2,) * (0x100 - 24)


def _head(number: int) -> int:
    """Bytes of an item's head with this argument (RFC 8949 §3)."""
    if number < 0x100:
        return _HEADS[number]
    if number < 0x10000:
        return 3
    return 5 if number < 0x1_0000_0000 else 9 if number < 2**64 else _CANNOT_TELL


def exactly(value: object, kind: type[T], what: str) -> T:
    """Return ``value`` if it is of exactly this type (``True`` is not 1); else ``MalformedData``."""
    if type(value) is not kind:
        raise MalformedData(f"{what}: {kind.__name__} expected")
    return value


def milliseconds(at: datetime) -> int:
    """Milliseconds since 1970-01-01 UTC; ``at`` must be aware."""
    return (at - _EPOCH) // _MILLISECOND


def moment(value: object, what: str) -> datetime:
    """The aware datetime of milliseconds since 1970; ``MalformedData`` before 1970 or from ``END_OF_TIME`` on."""
    number = exactly(value, int, what)
    if not 0 <= number < _END_MS:
        raise MalformedData(f"{what}: {_NO_TIME}")
    return _EPOCH + number * _MILLISECOND


_MISSING: Final = object()


class Fields:
    """A decoded map read field by field, each exactly once; ``finish()`` refuses leftovers."""

    __slots__ = ("_fields", "_what")

    def __init__(self, value: object, what: str) -> None:
        self._fields: dict[object, object] = dict(exactly(value, dict, what))
        self._what = what

    def take(self, key: int, kind: type[T]) -> T:
        """A required field of exactly this type."""
        value = self._fields.pop(key, _MISSING)
        if type(value) is kind:
            return value
        raise self._wrong(key, kind, value)

    def maybe(self, key: int, kind: type[T]) -> T | None:
        """An optional field."""
        value = self._fields.pop(key, _MISSING)
        if value is _MISSING:
            return None
        if type(value) is kind:
            return value
        raise self._wrong(key, kind, value)

    def natural(self, key: int, *, below: int = 2**53) -> int:
        """A required integer, 0 ≤ n < ``below``."""
        number = self._fields.pop(key, _MISSING)
        if type(number) is not int:
            raise self._wrong(key, int, number)
        if not 0 <= number < below:
            raise MalformedData(f"{self._what} field {key}: out of range")
        return number

    def moment(self, key: int) -> datetime:
        """A required time in milliseconds since 1970."""
        number = self.take(key, int)
        if not 0 <= number < _END_MS:
            raise MalformedData(f"{self._what} field {key}: {_NO_TIME}")
        return _EPOCH + number * _MILLISECOND

    def maybe_moment(self, key: int) -> datetime | None:
        """An optional ``moment``."""
        return self.moment(key) if key in self._fields else None

    def parsed(self, key: int, parse: Callable[[str], T]) -> T:
        """A required text read by ``parse``; its ``ValueError`` becomes ``MalformedData``."""
        return self._parse(key, self.take(key, str), parse)

    def maybe_parsed(self, key: int, parse: Callable[[str], T]) -> T | None:
        """An optional text read by ``parse``."""
        text = self.maybe(key, str)
        return None if text is None else self._parse(key, text, parse)

    def known(self, key: int, known: Mapping[str, T]) -> T:
        """A required text that is one of these."""
        return self._known(key, self._fields.pop(key, _MISSING), known)

    def maybe_known(self, key: int, known: Mapping[str, T]) -> T | None:
        """An optional text that is one of these."""
        text = self._fields.pop(key, _MISSING)
        return None if text is _MISSING else self._known(key, text, known)

    def sized(self, key: int, length: int) -> bytes:
        """A required byte string of exactly ``length`` bytes."""
        data = self._fields.pop(key, _MISSING)
        if type(data) is not bytes:
            raise self._wrong(key, bytes, data)
        if len(data) != length:
            raise MalformedData(f"{self._what} field {key}: {length} bytes expected")
        return data

    def finish(self) -> None:
        """Raise ``MalformedData`` when a field was not taken."""
        if self._fields:
            raise MalformedData(f"{self._what}: unknown field")

    def _known(self, key: int, text: object, known: Mapping[str, T]) -> T:
        if type(text) is not str:
            raise self._wrong(key, str, text)
        found = known.get(text)
        if found is None:
            raise MalformedData(f"{self._what} field {key}: value not allowed")
        return found

    def _wrong(self, key: int, kind: type, value: object) -> MalformedData:
        if value is _MISSING:
            return MalformedData(f"{self._what}: field {key} is missing")
        return MalformedData(f"{self._what} field {key}: {kind.__name__} expected")

    def _parse(self, key: int, text: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise MalformedData(f"{self._what} field {key}: value not allowed") from error


def day(text: str) -> date:
    """An ISO 8601 calendar date, ``YYYY-MM-DD``; raises ``ValueError``."""
    parsed = date.fromisoformat(text)
    if parsed.isoformat() != text:
        raise ValueError("a date is written YYYY-MM-DD")
    return parsed


def without_none(fields: Mapping[int, object]) -> dict[int, object]:
    """The map without its absent fields: how optional fields are written."""
    return {key: value for key, value in fields.items() if value is not None}
