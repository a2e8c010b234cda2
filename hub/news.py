"""What one hub process tells the others: that something changed, by ids only. Whoever misses it finds it in the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from hub.station_taps import StationTap
from pacs import cbor
from pacs.cbor import Fields
from pacs.errors import MalformedData
from pacs.identifiers import ControllerId

MAX_BYTES = 65_536
MAX_CONTROLLERS = 500
"""In one message, of each list."""
MAX_TAPS = 100
"""In one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """``process``: who tells it, so that nobody hears what it said itself.

    ``changed``: controllers that came, went, or said something of themselves; ``alarmed``: those whose alarms changed. ``taps``: cards at stations.
    ``attended``: an attended request came, was answered, or ended.
    """

    process: str
    events: bool = False
    documents: bool = False
    registry: bool = False
    commands: bool = False
    changed: tuple[ControllerId, ...] = ()
    alarmed: tuple[ControllerId, ...] = ()
    taps: tuple[StationTap, ...] = ()
    attended: bool = False

    def __bytes__(self) -> bytes:
        return cbor.encode(
            {
                0: self.process,
                1: self.events,
                2: self.documents,
                3: self.registry,
                4: self.commands,
                5: [str(each) for each in self.changed],
                6: [str(each) for each in self.alarmed],
                7: [bytes(each) for each in self.taps],
                8: self.attended,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ``MalformedData``."""
        fields = Fields(cbor.decode(data, limit=MAX_BYTES), "news")
        news = cls(
            process=fields.take(0, str),
            events=fields.take(1, bool),
            documents=fields.take(2, bool),
            registry=fields.take(3, bool),
            commands=fields.take(4, bool),
            changed=_controllers(fields.take(5, list)),
            alarmed=_controllers(fields.take(6, list)),
            taps=_taps(fields.take(7, list)),
            attended=fields.take(8, bool),
        )
        fields.finish()
        return news


def _controllers(names: Iterable[object]) -> tuple[ControllerId, ...]:
    found = tuple(ControllerId(cbor.exactly(name, str, "news")) for name in names)
    if len(found) > MAX_CONTROLLERS:
        raise MalformedData(f"news: at most {MAX_CONTROLLERS} controllers expected")
    return found


def _taps(encoded: Iterable[object]) -> tuple[StationTap, ...]:
    found = tuple(StationTap.from_bytes(cbor.exactly(each, bytes, "news")) for each in encoded)
    if len(found) > MAX_TAPS:
        raise MalformedData(f"news: at most {MAX_TAPS} taps expected")
    return found
