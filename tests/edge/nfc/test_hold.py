"""How long a card can hold a reader, on a clock that only the card moves: the real reader, antenna and block layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from nfc.clf import pn532

from edge.inputs import CardDetected, ReaderInput, ReadFailed
from edge.nfc.pn532 import Pn532
from edge.nfc.reader import LONGEST_TURN_S, Reader, ReaderSettings
from pacs.credential import TrustAnchors
from pacs.identifiers import DoorId
from pacs.rules import Side

MS = 1_000_000
COMMAND_MS = 1.0
"""What the chip takes for a command of its own."""
SETTINGS = ReaderSettings(attempts=1)
OVERHEAD_MS = 12 * COMMAND_MS + 6.0
"""Commands that give the card back, and the field's pause; these are the reader's, not the card's."""


class HostileChip:
    """A sound chip with a card in its field that answers, late, noisily or not at all, whatever it is dealt."""

    transport = None

    def __init__(self, moves: Sequence[tuple[bytes | None, float]], ats: bytes) -> None:
        self.now_ns = 0
        self.code = 0x0B
        self.present = True
        self._moves = moves
        self._ats = ats
        self._turn = 0
        self.selected_ns: list[int] = []

    def advance(self, ms: float) -> None:
        self.now_ns += round(ms * MS)

    def get_firmware_version(self) -> bytes:
        self.advance(COMMAND_MS)
        return b"\x32\x01\x06\x07"

    def read_register(self, *_names: str) -> tuple[int, int]:
        self.advance(COMMAND_MS)
        return 0x03, 0x00

    def rf_configuration(self, item: int, data: bytes) -> None:
        self.advance(COMMAND_MS)
        if item == 0x02:
            self.code = data[2]

    def command(self, code: int, _data: bytes, timeout: float) -> bytes:
        assert (code, timeout) == (0x4A, 0.3)
        self.advance(COMMAND_MS)
        if not self.present:
            return b"\x00"
        self.selected_ns.append(self.now_ns)
        return b"\x01\x01\x00\x04\x20\x04\x01\x02\x03\x04"

    def thru(self, block: bytes, wait_ms: float, meanwhile: Callable[[], None]) -> bytes:
        meanwhile()
        if block == b"\xe0\x80":
            self.advance(COMMAND_MS)
            return self._ats
        answer, delay_ms = self._moves[self._turn % len(self._moves)]
        self._turn += 1
        timeout_ms = 0.1 * 2 ** (self.code - 1)
        if answer is None or delay_ms > timeout_ms:
            if wait_ms < timeout_ms:
                self.advance(wait_ms)
                raise OSError(110, "taken back by the host")
            self.advance(timeout_ms)
            raise pn532.Chipset.Error(0x01, "timeout")
        self.advance(min(delay_ms, wait_ms))
        if delay_ms > wait_ms:
            raise OSError(110, "taken back by the host")
        if not answer:
            raise pn532.Chipset.Error(0x02, "CRC")
        return answer


def dealt(chip: HostileChip, settings: ReaderSettings) -> tuple[Reader, list[ReaderInput]]:
    antenna = Pn532("/dev/null", clock_ns=lambda: chip.now_ns, sleep=lambda s: chip.advance(s * 1000))
    antenna._firmware = chip.get_firmware_version()
    inputs: list[ReaderInput] = []

    def open_() -> None:
        antenna._chip = chip  # type: ignore[assignment]

    antenna.open = open_  # type: ignore[method-assign]
    options: dict[str, Any] = {"rest": lambda seconds: chip.advance(seconds * 1000)}
    reader = Reader(
        antenna,
        door_id=DoorId("front"),
        side=Side.ENTRY,
        reader_identifier=bytes(32),
        trust=TrustAnchors(issuers={}),
        put=inputs.append,
        now=lambda: datetime(2025, 6, 1, 12, tzinfo=UTC),
        settings=settings,
        monotonic_ns=lambda: chip.now_ns,
        **options,
    )
    return reader, inputs


BLOCKS = (
    st.none()
    | st.just(b"")  # garbled
    | st.builds(lambda factor: bytes((0xF2, factor)), st.integers(0, 255))
    | st.sampled_from([b"\xa2", b"\xa3", b"\xb2", b"\x02", b"\x03", b"\x12\x00", b"\x13\x00", b"\xc2"])
    | st.binary(max_size=40)
)
DELAYS = st.sampled_from([0.0, 1.0, 40.0, 90.0, 300.0, 800.0, 3_000.0])


@given(
    moves=st.lists(st.tuples(BLOCKS, DELAYS), min_size=1, max_size=8),
    fwi=st.integers(0, 15),
    sfgi=st.integers(0, 15),
)
def test_no_card_holds_the_reader_beyond_the_limit_of_a_transaction(
    moves: list[tuple[bytes | None, float]], fwi: int, sfgi: int
) -> None:
    """Silence, noise, waiting, chaining, a start-up guard time: whatever it does, one turn is over in its time."""
    chip = HostileChip(moves, bytes((0x03, 0x28, fwi << 4 | sfgi)))
    reader, inputs = dealt(chip, SETTINGS)
    reader.turn()
    first_ns = chip.selected_ns[0]
    held_ms = (chip.now_ns - first_ns) / MS
    assert held_ms <= SETTINGS.transaction_ms + OVERHEAD_MS + SETTINGS.retry_pause_ms
    assert chip.now_ns <= LONGEST_TURN_S * 1000 * MS
    chip.present = False
    while chip.now_ns < 60_000 * MS:
        reader.turn()
    assert [value for value in inputs if isinstance(value, ReadFailed)]
    assert all(isinstance(value, CardDetected | ReadFailed) for value in inputs), "the reader itself is sound"


@given(moves=st.lists(st.tuples(BLOCKS, DELAYS), min_size=1, max_size=8), fwi=st.integers(0, 15))
def test_a_card_that_stays_has_so_many_attempts(moves: list[tuple[bytes | None, float]], fwi: int) -> None:
    """However long a hostile card lies there, it gets its attempts once, and after them a glance now and then."""
    settings = ReaderSettings()
    chip = HostileChip(moves, bytes((0x03, 0x28, fwi << 4)))
    reader, inputs = dealt(chip, settings)
    reading_ns = 0
    while chip.now_ns < 60_000 * MS:
        begun_ns = chip.now_ns
        reader.turn()
        lasted_ms = (chip.now_ns - begun_ns) / MS
        assert lasted_ms <= LONGEST_TURN_S * 1000
        if lasted_ms > settings.presence_pause_ms + OVERHEAD_MS:
            reading_ns += chip.now_ns - begun_ns
    most_ms = settings.transaction_ms + OVERHEAD_MS + settings.retry_pause_ms + settings.poll_ms
    assert reading_ns <= settings.attempts * most_ms * MS
    assert len([value for value in inputs if isinstance(value, ReadFailed)]) == 1
