from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.nfc.serial_line import SerialLine
from simulator import hsu

NACK = hsu.NACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """Both ends: what the chip writes at ``master`` is read from ``line``."""

    master: int
    line: SerialLine

    def send(self, data: bytes) -> None:
        os.write(self.master, data)


@pytest.fixture
def wire() -> Iterator[Wire]:
    master, slave = os.openpty()
    tty.setraw(slave)
    line = SerialLine(os.ttyname(slave))
    yield Wire(master=master, line=line)
    line.close()
    os.close(slave)
    os.close(master)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    length=st.integers(1, 264),
    cuts=st.lists(st.integers(1, 280), max_size=3),
    noise=st.binary(max_size=20).filter(lambda data: not any(b in data for b in b"\x00\xff")),
)
def test_finds_a_frame_of_any_length_in_any_split(
    wire: Wire, length: int, cuts: list[int], noise: bytes
) -> None:
    """A frame of each length, LEN 255 in a normal frame included, arrives whole; noise before it is skipped."""
    frame = hsu.encode(bytes(length))
    wire.line.write(b"")
    whole = noise + hsu.ACK + frame
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(whole)], strict=True):
        wire.send(whole[start:end])
    assert bytes(wire.line.read(2000)) == hsu.ACK
    assert bytes(wire.line.read(2000)) == frame


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=600))
def test_any_bytes_end_in_a_frame_or_an_os_error(wire: Wire, data: bytes) -> None:
    """Whatever a line carries, reading ends in a frame or an OSError, and never in more than was sent."""
    wire.line.write(b"")
    wire.send(data)
    taken = 0
    while True:
        try:
            taken += len(wire.line.read(0))
        except OSError:
            break
    assert taken <= len(data)


def test_forgets_what_arrived_before_a_command(wire: Wire) -> None:
    """A late answer is dropped when the next command is written."""
    wire.send(hsu.ACK)
    assert bytes(wire.line.read(2000)) == hsu.ACK
    wire.send(NACK + hsu.ACK)
    assert bytes(wire.line.read(2000)) == NACK
    wire.line.write(b"\x00")
    with pytest.raises(OSError, match="no frame") as caught:
        wire.line.read(0)
    assert caught.value.errno == errno.ETIMEDOUT


def test_works_while_it_waits(wire: Wire) -> None:
    """At once and after each pause asked for; no more once the work is done, or a byte has come."""
    done: list[int] = []

    def work() -> float | None:
        done.append(len(done))
        if len(done) == 3:
            wire.send(hsu.ACK[:2])
        if len(done) == 4:
            wire.send(hsu.ACK)
            return None
        return 0.001

    wire.line.while_waiting = work
    with pytest.raises(OSError, match="no frame"):
        wire.line.read(50)
    with pytest.raises(OSError, match="no frame"):
        wire.line.read(5)
    assert len(done) == 3
    wire.line.write(b"")
    assert bytes(wire.line.read(2000)) == hsu.ACK
    assert len(done) == 4
    wire.line.while_waiting = None
    with pytest.raises(OSError, match="no frame"):
        wire.line.read(5)
    assert len(done) == 4


def test_belongs_to_one_process(wire: Wire) -> None:
    """The device cannot be taken twice, and is free again after close."""
    assert wire.line.tty is not None
    path = wire.line.tty.port
    assert path is not None
    with pytest.raises(BlockingIOError):
        SerialLine(path)
    wire.line.close()
    SerialLine(path).close()


def test_says_os_error_when_there_is_no_device(wire: Wire) -> None:
    """Absent devices, files that are no line, and a closed line are OSErrors."""
    for path, number in (("/dev/does-not-exist", errno.ENOENT), ("/dev/null", errno.ENOTTY)):
        with pytest.raises(OSError, match=r"\w") as caught:
            SerialLine(path)
        assert caught.value.errno == number
    wire.line.close()
    for use in (
        lambda: wire.line.read(0),
        lambda: wire.line.write(b"\x00"),
        lambda: wire.line.set_baud(9600),
    ):
        with pytest.raises(OSError, match=r"\w"):
            use()


def test_says_os_error_when_unplugged() -> None:
    """A line whose other end is gone fails with OSError in each use and closes quietly."""
    master, slave = os.openpty()
    tty.setraw(slave)
    line = SerialLine(os.ttyname(slave))
    os.close(slave)
    os.close(master)
    for use in (lambda: line.read(100), lambda: line.write(b"\x00"), lambda: line.set_baud(9600)):
        with pytest.raises(OSError, match=r"\w"):
            use()
    line.close()


def test_refuses_a_speed_there_is_none_of(wire: Wire) -> None:
    """A speed that is no speed is an OSError."""
    with pytest.raises(OSError, match="the serial line"):
        wire.line.set_baud(-1)


def test_a_line_that_never_falls_silent_does_not_hold_the_reader() -> None:
    """Noise without an end and without a frame ends a read at its time; a frame within it is found before."""
    master, slave = os.openpty()
    tty.setraw(slave)
    line = SerialLine(os.ttyname(slave))
    stop = threading.Event()

    def chatter() -> None:
        os.set_blocking(master, False)
        while not stop.is_set():
            with contextlib.suppress(BlockingIOError):
                os.write(master, b"\x55\xaa" * 100)

    noise = threading.Thread(target=chatter)
    noise.start()
    with pytest.raises(OSError, match="no frame"):
        line.read(100)
    stop.set()
    noise.join()
    line.write(b"")
    os.write(master, b"\x55\xaa" * 100 + hsu.ACK)
    assert bytes(line.read(2000)) == hsu.ACK
    line.close()
    os.close(slave)
    os.close(master)


def test_a_line_that_takes_no_bytes_is_broken(wire: Wire) -> None:
    """Nobody reads what is written: the write ends with an error, and does not wait for ever."""

    def fill() -> None:
        for _ in range(1_000):
            wire.line.write(bytes(256))

    with pytest.raises(OSError, match="takes no bytes"):
        fill()


def test_a_line_that_sends_no_bytes_is_broken(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that keeps what was written is not waited for longer than a frame can take."""
    monkeypatch.setattr("edge.nfc.serial_line.fcntl.ioctl", lambda *_: b"\x07\x00\x00\x00")
    with pytest.raises(OSError, match="sends no bytes"):
        wire.line.set_baud(230_400)


def test_nothing_waits_beyond_the_instant_set(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has passed, every use that would wait ends at once, whatever it was told to wait."""
    wire.line.until_s = time.monotonic()
    with pytest.raises(OSError, match="no frame"):
        wire.line.read(3_600_000)
    wire.line.until_s += 0.05
    with pytest.raises(OSError, match="no frame"):
        wire.line.read(3_600_000)
    monkeypatch.setattr("edge.nfc.serial_line.WRITE_S", 3_600.0)
    monkeypatch.setattr("edge.nfc.serial_line.fcntl.ioctl", lambda *_: b"\x07\x00\x00\x00")
    with pytest.raises(OSError, match="sends no bytes"):
        wire.line.set_baud(230_400)
