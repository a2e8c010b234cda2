"""The time model against the figures it must reproduce."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import airtime


def air_ms(exchanges: list[tuple[int, int]]) -> float:
    """Activation with a 7-byte UID, then APDUs given by their lengths."""
    return airtime.activation_ms(7) + sum(airtime.apdu_ms(*lengths) for lengths in exchanges)


@pytest.mark.parametrize(
    ("name", "exchanges", "expected_ms"),
    [
        ("PKOC V1", [(14, 6), (62, 135)], 26.0),
        ("PKOC V2", [(14, 6), (5, 9), (5, 250), (38, 68)], 42.6),
        ("PKOC V2 without INFO", [(14, 6), (5, 250), (38, 68)], 40.7),
        ("DESFire EV2, 200-byte file", [(19, 68), (19, 68), (19, 68), (19, 68)], 38.6),
        ("DUOX", [(17, 97), (17, 97), (16, 98)], 37.3),
        (
            "PIV 9E, 900-byte certificate",
            [(14, 61), (11, 258), (5, 258), (5, 258), (5, 130), (47, 162)],
            115.8,
        ),
    ],
)
def test_reference_results(name: str, exchanges: list[tuple[int, int]], expected_ms: float) -> None:
    """Whole transactions of known byte counts stay within 0.2 ms of the reference results."""
    assert air_ms(exchanges) == pytest.approx(expected_ms, abs=0.2)


@pytest.mark.parametrize(
    ("value", "expected_ms", "tolerance"),
    [
        (airtime.etu_ms(106), 0.00944, 1e-5),
        (airtime.etu_ms(424), 0.00236, 1e-5),
        (airtime.CARD_DELAY_LAST_ONE_MS, 0.0912, 1e-4),
        (airtime.CARD_DELAY_MS, 0.0864, 1e-4),
        (airtime.activation_ms(4), 3.9, 0.05),
        (airtime.activation_ms(7), 6.0, 0.1),
        (airtime.pps_ms(), 0.9, 0.01),
        (airtime.to_reader_ms(253, 106), 21.5, 0.05),
        (airtime.to_reader_ms(253, 212), 10.8, 0.05),
        (airtime.to_reader_ms(253, 424), 5.4, 0.05),
        (airtime.to_reader_ms(253, 848), 2.7, 0.05),
        (airtime.apdu_ms(0, 0), 0.75, 0.03),
        (airtime.apdu_ms(50, 100) - airtime.apdu_ms(0, 0), 150 * 0.085, 0.01),
        (airtime.fwt_ms(4), 4.83, 0.01),
        (airtime.fwt_ms(8), 77.3, 0.05),
        (airtime.nfcpy_block_ms(0, 0, 115_200), 10.3, 0.05),
        (airtime.nfcpy_block_ms(0, 0, 921_600), 1.29, 0.005),
        (airtime.communicate_thru_ms(0, 0, 921_600), airtime.serial_ms(25, 921_600), 1e-9),
        (airtime.short_frame_ms(), 0.0944, 1e-4),
    ],
)
def test_constants(value: float, expected_ms: float, tolerance: float) -> None:
    """Figures of ISO/IEC 14443 and of the serial link come out as published."""
    assert value == pytest.approx(expected_ms, abs=tolerance)


def test_host_frames_grow_by_their_header() -> None:
    """A normal frame adds 8 bytes, an extended one, from LEN 256 on, 11."""
    assert [airtime.hsu_frame_length(payload) for payload in (1, 254, 255, 264)] == [9, 262, 266, 275]


@given(st.integers(min_value=0, max_value=2000), st.sampled_from(airtime.FRAME_SIZES))
def test_blocks_carry_everything(length: int, frame_size: int) -> None:
    """Blocks add up, none is too long, only the last may be shorter."""
    lengths = airtime.blocks(length, frame_size)
    assert sum(lengths) == length
    assert all(inf == frame_size - airtime.BLOCK_OVERHEAD for inf in lengths[:-1])
    assert lengths[-1] <= frame_size - airtime.BLOCK_OVERHEAD
    assert length == 0 or lengths[-1] > 0


def test_chaining_and_waiting_cost_their_blocks() -> None:
    """Each further block adds an R(ACK) turn, each S(WTX) a turn of two four-byte frames."""
    turn = airtime.CARD_DELAY_MS + airtime.READER_DELAY_MS
    acknowledged = airtime.to_card_ms(3) + airtime.to_reader_ms(3) + turn
    assert airtime.apdu_ms(10, 254) - airtime.apdu_ms(10, 253) == pytest.approx(
        acknowledged + 9 * airtime.etu_ms()
    )
    waited = airtime.to_card_ms(4) + airtime.to_reader_ms(4) + turn
    assert airtime.apdu_ms(10, 20, extensions=3) - airtime.apdu_ms(10, 20) == pytest.approx(3 * waited)
    assert [airtime.waiting_extensions(computing, 38.7) for computing in (0, 38.7, 38.8, 77.4, 77.5)] == [
        0,
        0,
        1,
        1,
        2,
    ]


def test_floor_has_every_phase_and_only_grows() -> None:
    """The floor names the phases in order, counts computing once, and grows with every byte, wait and slower line."""
    exchanges = [(bytes(14), bytes(8)), (bytes(5), bytes(250)), (bytes(38), bytes(70))]
    floor = airtime.tap_floor(exchanges, computing_ms=[0.0, 0.0, 33.0])
    assert list(floor.phases) == ["detect", "activate", "select", "certificate", "sign"]
    assert floor.total == pytest.approx(sum(floor.phases.values()))
    quiet = airtime.tap_floor(exchanges)
    assert floor.total - quiet.total == pytest.approx(33.0, abs=0.1)
    larger = [
        quiet,
        airtime.tap_floor([*exchanges, (bytes(5), bytes(2))]),
        airtime.tap_floor([*exchanges, (bytes(5), bytes(300))]),
        airtime.tap_floor([*exchanges, (bytes(5), bytes(300))], fsd=64),
        airtime.tap_floor([*exchanges, (bytes(5), bytes(300))], fsd=64, baud=115_200),
        airtime.tap_floor([*exchanges, (bytes(5), bytes(300))], fsd=64, baud=115_200, computing_ms=[200.0]),
        airtime.tap_floor(
            [*exchanges, (bytes(5), bytes(300))], fsd=64, baud=115_200, computing_ms=[200.0], fwi=4
        ),
    ]
    assert all(one.total < other.total for one, other in pairwise(larger))
    assert list(larger[1].phases)[-1] == "exchange 4"
