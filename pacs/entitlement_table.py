"""Who may do what, as one table of bytes: looked up in place, so that a large one costs its size and no more.

Big-endian, in this order: the sets of access levels that entries hold, each a count and that many numbers of levels,
two bytes each; then the entries with 16-byte credential ids; then those with 32-byte ones. Entries and sets stand in
ascending order, each once, no set without an entry: equal contents have equal bytes.

An entry: credential id; status index (4 bytes); flags (1): 1 attended, 2 extended opening, 4 escort required,
8 may escort; number of its set (3); valid from, valid until (6 each): milliseconds since 1970, all ones for none.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Self

from pacs import cbor
from pacs.errors import MalformedData
from pacs.identifiers import AccessLevelId, CredentialId
from pacs.rules import Entitlement

SLICE = 1_000
"""Entries that are checked between two pauses."""

_LAYOUTS = (struct.Struct(">16sIIHIHI"), struct.Struct(">32sIIHIHI"))
_ENTRY_BYTES = _LAYOUTS[0].size - 16  # beside the id
_LEVEL_BYTES = 2
_SET_BITS = 24
_ATTENDED, _EXTENDED, _ESCORT_REQUIRED, _MAY_ESCORT = 1, 2, 4, 8
_FLAGS = frozenset(flags for flags in range(16) if flags & (_ESCORT_REQUIRED | _MAY_ESCORT) != 12)
_NONE = 2**48 - 1
_END_MS = cbor.milliseconds(cbor.END_OF_TIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many sets of access levels, entries with 16-byte ids and entries with 32-byte ids there are."""

    sets: int
    short: int
    long: int


class EntitlementTable(Mapping[CredentialId, Entitlement]):
    """A mapping that makes each entry when it is asked for.

    ``level_ids``: every access level that an entry can name, in order.
    """

    __slots__ = ("_bytes", "_places", "_starts", "level_ids", "shape")

    def __init__(
        self,
        data: bytes,
        at: int,
        shape: Shape,
        level_ids: Collection[AccessLevelId],
        pause: Callable[[], None],
    ) -> None:
        self._bytes = data
        self.shape = shape
        self.level_ids = tuple(sorted(level_ids))
        self._places = array("I", [at])  # of each set, and of what follows the last
        self._read_sets(pause)
        short_at = self._places[-1]
        long_at = short_at + shape.short * _LAYOUTS[0].size
        self._starts = (short_at, long_at, long_at + shape.long * _LAYOUTS[1].size)
        if self._starts[2] != len(data):
            raise MalformedData("entitlements: not as long as they say")
        self._check_entries(pause)

    @classmethod
    def read(
        cls,
        data: bytes,
        shape: Shape,
        level_ids: Collection[AccessLevelId],
        *,
        at: int = 0,
        pause: Callable[[], None] = lambda: None,
    ) -> Self:
        """The table that stands in ``data`` from ``at`` to the end, checked entry by entry; ``data`` is kept.

        ``pause`` is called after every ``SLICE`` entries. Raises ``MalformedData``.
        """
        return cls(data, at, shape, level_ids, pause)

    @classmethod
    def of(
        cls, entitlements: Mapping[CredentialId, Entitlement], level_ids: Collection[AccessLevelId]
    ) -> Self:
        """Raises ``MalformedData`` when an entry names another access level, or holds what the form has no room for."""
        numbers = {level_id: number for number, level_id in enumerate(sorted(level_ids))}
        try:
            sets = {
                entry.access_level_ids: tuple(numbers[level_id] for level_id in entry.access_level_ids)
                for entry in entitlements.values()
            }
            ordered = sorted(set(sets.values()))
            parts = [struct.pack(f">{1 + len(levels)}H", len(levels), *levels) for levels in ordered]
            ranks = {levels: rank for rank, levels in enumerate(ordered)}
            by_id = sorted(
                ((entry.credential_id.value, entry) for entry in entitlements.values()), key=itemgetter(0)
            )
            counts = []
            for layout in _LAYOUTS:
                size = layout.size - _ENTRY_BYTES
                entries = [entry for key, entry in by_id if len(key) == size]
                parts += [_packed(layout, entry, ranks[sets[entry.access_level_ids]]) for entry in entries]
                counts.append(len(entries))
        except KeyError as error:
            raise MalformedData("entitlements: one names an access level that is not there") from error
        except struct.error as error:
            raise MalformedData("entitlements: a number is out of range") from error
        shape = Shape(sets=len(ordered), short=counts[0], long=counts[1])
        return cls.read(b"".join(parts), shape, level_ids)

    def __bytes__(self) -> bytes:
        return self._bytes[self._places[0] :]

    def __len__(self) -> int:
        return self.shape.short + self.shape.long

    def __iter__(self) -> Iterator[CredentialId]:
        for layout, begin, end in self._sections():
            for at in range(begin, end, layout.size):
                yield CredentialId(layout.unpack_from(self._bytes, at)[0])

    def __getitem__(self, credential_id: CredentialId) -> Entitlement:
        key = credential_id.value
        data, size = self._bytes, len(key)
        section = size // 32
        layout, start = _LAYOUTS[section], self._starts[section]
        width = layout.size
        low, high = 0, (self._starts[section + 1] - start) // width
        while low < high:
            middle = (low + high) // 2
            at = start + middle * width
            found = data[at : at + size]
            if found == key:
                return self._entry(credential_id, layout.unpack_from(data, at))
            if found < key:
                low = middle + 1
            else:
                high = middle
        raise KeyError(credential_id)

    def _entry(
        self, credential_id: CredentialId, record: tuple[bytes, int, int, int, int, int, int]
    ) -> Entitlement:
        _, index, marks, from_high, from_low, until_high, until_low = record
        flags, levels = divmod(marks, 1 << _SET_BITS)
        return Entitlement(
            credential_id=credential_id,
            status_index=index,
            access_level_ids=tuple(self.level_ids[number] for number in self._set(levels)),
            valid_from=_moment(from_high << 32 | from_low),
            valid_until=_moment(until_high << 32 | until_low),
            attended=bool(flags & _ATTENDED),
            extended_opening=bool(flags & _EXTENDED),
            escort_required=bool(flags & _ESCORT_REQUIRED),
            may_escort=bool(flags & _MAY_ESCORT),
        )

    def _set(self, rank: int) -> tuple[int, ...]:
        at, end = self._places[rank] + _LEVEL_BYTES, self._places[rank + 1]
        return struct.unpack_from(f">{(end - at) // _LEVEL_BYTES}H", self._bytes, at)

    def _sections(self) -> Iterator[tuple[struct.Struct, int, int]]:
        yield from zip(_LAYOUTS, self._starts, self._starts[1:], strict=False)

    # ---- checking

    def _read_sets(self, pause: Callable[[], None]) -> None:
        known, places = len(self.level_ids), self._places
        before: tuple[int, ...] | None = None
        try:
            for rank in range(self.shape.sets):
                (count,) = struct.unpack_from(">H", self._bytes, places[rank])
                places.append(places[rank] + _LEVEL_BYTES * (1 + count))
                levels = self._set(rank)
                if before is not None and before >= levels:
                    raise MalformedData("entitlements: sets of access levels are not in order")
                if max(levels, default=-1) >= known:
                    raise MalformedData("entitlements: one names an access level that is not there")
                before = levels
                if rank % SLICE == SLICE - 1:
                    pause()
        except struct.error as error:
            raise MalformedData("entitlements: cut short") from error

    def _check_entries(self, pause: Callable[[], None]) -> None:
        used = bytearray(self.shape.sets)
        view = memoryview(self._bytes)
        for layout, begin, end in self._sections():
            before = b""
            step = SLICE * layout.size
            for at in range(begin, end, step):
                before = _check_slice(layout, view[at : min(at + step, end)], before, used)
                pause()
        if 0 in used:
            raise MalformedData("entitlements: a set of access levels that nobody holds")


def _check_slice(layout: struct.Struct, entries: memoryview, before: bytes, used: bytearray) -> bytes:
    """Mark the sets that are ``used``; return the last id."""
    sets = len(used)
    for key, _, marks, from_high, from_low, until_high, until_low in layout.iter_unpack(entries):
        if key <= before:
            raise MalformedData("entitlements: credential ids are not in order")
        before = key
        levels = marks & 0xFFFFFF
        if levels >= sets or marks >> _SET_BITS not in _FLAGS:
            raise MalformedData("entitlements: flags or access levels are not known")
        used[levels] = 1
        starts, ends = from_high << 32 | from_low, until_high << 32 | until_low
        if (starts >= _END_MS and starts != _NONE) or (ends >= _END_MS and ends != _NONE):
            raise MalformedData("entitlements: a time is out of range")
    return before


def _packed(layout: struct.Struct, entry: Entitlement, rank: int) -> bytes:
    flags = (
        entry.attended * _ATTENDED
        | entry.extended_opening * _EXTENDED
        | entry.escort_required * _ESCORT_REQUIRED
        | entry.may_escort * _MAY_ESCORT
    )
    return layout.pack(
        entry.credential_id.value,
        entry.status_index,
        flags << _SET_BITS | rank,
        *divmod(_bound(entry.valid_from), 1 << 32),
        *divmod(_bound(entry.valid_until), 1 << 32),
    )


def _bound(at: datetime | None) -> int:
    if at is None:
        return _NONE
    bound = cbor.milliseconds(at)
    if not 0 <= bound < _END_MS:
        raise MalformedData("entitlements: a time is out of range")
    return bound


def _moment(bound: int) -> datetime | None:
    return None if bound == _NONE else cbor.moment(bound, "entitlements")
