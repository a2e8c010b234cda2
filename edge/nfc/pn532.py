"""A PN532 on a serial line, as an antenna: nfcpy's chipset and device behind our own open and poll.

The field stays on while polling and each poll is one REQA; one block on the air costs one command.
Errors leave this module as ``CardGone``, ``CardMisbehaves`` or ``ReaderBroken``, nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import math
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from nfc.clf import pn532

from edge import advice
from edge.nfc.chipset import ACKNOWLEDGE_MS, QUIET, Chip
from edge.nfc.iso_dep import Ats, GarbledAnswer, IsoDep, Limits, NoAnswer
from edge.nfc.serial_line import INITIAL_BAUD, SerialLine
from pacs.card.dialogue import nothing
from pacs.errors import CardGone, CardMisbehaves, MalformedData, ReaderBroken
from pacs.reason import ReadFault

BAUDS: Final = (115_200, 921_600, 460_800, 230_400)
"""Speeds the chip may have been left at, the likeliest first."""

_WAKE: Final = b"\x55\x55" + bytes(14)
_FILLER: Final = bytes(280)  # completes the longest frame a killed process can have begun
_LONGEST_PROBE_MS: Final = 320
_LONGEST_FIRST_PROBE_MS: Final = 1_600  # some USB adapters hold back what comes first after an open
OPENINGS: Final = 6
"""After so many failures ``open`` does not become more patient."""
_PN532: Final = 0x32
_NO_ANSWER: Final = 0x01
_GARBLED: Final = frozenset({0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x09, 0x0B, 0x0E, 0x13})
_FIELD: Final = 0x01
_TIMINGS: Final = 0x02
_RETRIES: Final = 0x05
POLL_MS: Final = 300
OPEN_S: Final = 4.5
"""The most that ``open`` waits for a chip, however it answers; a sound one takes a tenth of a second."""
_FIELD_OFF_S: Final = 0.006
_ISO_DEP_SAK: Final = 0x20
_ADVICE: Final = {
    **dict.fromkeys((errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EIO), advice.ABSENT),
    **dict.fromkeys((errno.EACCES, errno.EPERM), advice.FORBIDDEN),
    **dict.fromkeys((errno.EBUSY, errno.EAGAIN), advice.TAKEN),
    errno.ENOTTY: advice.NO_SERIAL_PORT,
}
"""By errno; for any other the line is there and the chip is not understood."""
_DRIVERS: Final = 0x03  # CIU_TxControl: both antenna drivers carry the 13.56 MHz
_TOO_HOT: Final = 0x40  # CIU_Error: TempErr
_RATS: Final = b"\xe0\x80"  # FSD 256, no CID
_RATS_WAIT_US: Final = 5_300  # activation frame waiting time, 71680 / fc

# RF timeout codes of RFConfiguration 02: 100 µs × 2^(code − 1)
_POLLING_CODE: Final = 0x0B  # 102.4 ms: enough for a card of FWI 8 without another command
_LONGEST_CODE: Final = 0x0E  # 819.2 ms
_PRESENCE_CODE: Final = 0x09  # 25.6 ms


def _code_us(code: int) -> int:
    return 100 << (code - 1)


class Pn532:
    """The antenna on ``device``; closed until ``open``, and again after every ``ReaderBroken``.

    ``max_baud`` is the speed to raise the line to, ``patience_ms`` how long a healthy chip may stay silent,
    ``pause_ms`` the rest between two polls. ``sleep`` and ``clock_ns`` are the process's own.
    """

    def __init__(
        self,
        device: str,
        *,
        max_baud: int = 921_600,
        patience_ms: int = 400,
        pause_ms: int = 5,
        limits: Limits | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.device = device
        self.baud = 0
        self._max_baud = max_baud
        self._patience_ms = patience_ms
        self._pause_s = pause_ms / 1000
        self._limits = limits
        self._clock_ns = clock_ns
        self._sleep = sleep
        self._chip: Chip | None = None
        self._firmware = b""
        self._driver: Any = None
        self._timeout_code = _POLLING_CODE
        self._probe_ms = ACKNOWLEDGE_MS

    def open(self) -> None:
        """Find the chip at whatever speed it was left, set it up and switch the field on.

        Raises ``ReaderBroken``; each failure doubles the patience of the next search.
        """
        self._drop()
        probe_ms, self._probe_ms = self._probe_ms, min(2 * self._probe_ms, _LONGEST_FIRST_PROBE_MS)
        with self._talking("cannot open"):
            line = SerialLine(self.device)
            line.until_s = time.monotonic() + OPEN_S
            self._chip = chip = Chip(line)
            self._find(chip, line, probe_ms)
            chip.acknowledge_ms = chip.patience_ms = self._patience_ms
            self._driver = self._set_up(chip, line)
            chip.rf_configuration(_RETRIES, b"\x00\x01\x00")
            self._configure_timeout(chip, _POLLING_CODE)
            chip.rf_configuration(_FIELD, b"\x01")
            self._firmware = bytes(chip.get_firmware_version())
            self.baud = line.baudrate
            line.until_s = math.inf
        self._probe_ms = ACKNOWLEDGE_MS

    def close(self) -> None:
        """Leave the chip asleep at its initial speed and give the device back. Never raises."""
        if self._driver is not None:
            with contextlib.suppress(ReaderBroken), self._talking("cannot close"):
                self._driver.close()
        self._drop()

    def check(self) -> str:
        """One line for a technician: chip, firmware and speed, asked from the chip. Two commands.

        Raises ``ReaderBroken``: silent, reset or replaced behind our back, too hot, or without its field.
        """
        with self._talking("cannot ask"):
            chip = self._require()
            firmware = bytes(chip.get_firmware_version())
            drivers, errors = chip.read_register("CIU_TxControl", "CIU_Error")
            if firmware != self._firmware:
                raise ReaderBroken(f"{self.device}: another chip than the one that was opened", advice.CABLE)
            if errors & _TOO_HOT:
                raise ReaderBroken(f"{self.device}: the chip is too hot, its field is off", advice.HOT)
            if drivers & _DRIVERS != _DRIVERS:
                raise ReaderBroken(f"{self.device}: the field is off", advice.SUPPLY)
        return f"PN5{firmware[0]:02x} v{firmware[1]}.{firmware[2]} on {self.device} at {self.baud} baud"

    def poll(self, until_ns: int) -> Pn532Contact | None:
        """Look for a card until one is there or ``until_ns`` has passed, at least once. Raises ``ReaderBroken``."""
        while True:
            found = self._request()
            if found is not None:
                return found
            if self._clock_ns() >= until_ns:
                return None
            self._sleep(self._pause_s)

    @contextlib.contextmanager
    def _talking(self, about: str) -> Iterator[None]:
        """Whatever nfcpy raises while it talks to its chip, as ``ReaderBroken``; the device is given back first."""
        try:
            yield
        except ReaderBroken:
            self._drop()
            raise
        except (pn532.Chipset.Error, OSError, termios.error, LookupError, ValueError) as error:
            self._drop()
            system = error if isinstance(error, OSError) else OSError()
            what = system.strerror or str(error) or type(error).__name__
            what_to_do = _ADVICE.get(system.errno or 0, advice.CABLE)
            raise ReaderBroken(f"{about} {self.device}: {what}", what_to_do) from error

    # ---- opening

    def _find(self, chip: Chip, line: SerialLine, probe_ms: int) -> None:
        """Make the chip answer; leaves ``line`` at the speed it answers at."""
        for baud, filler in ((baud, filler) for filler in (b"", _FILLER) for baud in BAUDS):
            chip.acknowledge_ms = chip.patience_ms = probe_ms
            with contextlib.suppress(OSError, pn532.Chipset.Error, LookupError):
                line.set_baud(baud)
                line.write(_WAKE + filler + chip.ACK)  # the acknowledgement aborts a command in flight
                chip.sam_configuration("normal")
                if chip.get_firmware_version()[0] == _PN532:
                    return
            probe_ms = min(probe_ms, _LONGEST_PROBE_MS)
        raise ReaderBroken(f"no PN532 answers on {self.device}", advice.CABLE)

    def _set_up(self, chip: Chip, line: SerialLine) -> Any:
        """Build the driver, which tests the line; at the initial speed when the higher one fails."""
        if self._max_baud > INITIAL_BAUD:
            with contextlib.suppress(OSError, pn532.Chipset.Error, LookupError):
                self._change_speed(chip, line, self._max_baud)
                return pn532.Device(chip, logger=QUIET)
            self._find(chip, line, self._patience_ms)
            chip.acknowledge_ms = chip.patience_ms = self._patience_ms
        self._change_speed(chip, line, INITIAL_BAUD)
        return pn532.Device(chip, logger=QUIET)

    @staticmethod
    def _change_speed(chip: Chip, line: SerialLine, baud: int) -> None:
        """Move chip and line to ``baud``, once the port has shown that it can follow."""
        held = line.baudrate
        if held != baud:
            line.set_baud(baud)
            line.set_baud(held)
            chip.set_serial_baudrate(baud)
            line.set_baud(baud)

    def _drop(self) -> None:
        if self._chip is not None and self._chip.transport is not None:
            self._chip.transport.close()
        self._chip = self._driver = None

    def _require(self) -> Chip:
        if self._chip is None:
            raise ReaderBroken(f"{self.device} is not open")
        return self._chip

    # ---- the air

    def _request(self) -> Pn532Contact | None:
        """One REQA, and anticollision and selection when a card answers it."""
        chip = self._require()
        with self._talking("cannot poll"):
            answer = bytes(chip.command(0x4A, b"\x01\x00", timeout=POLL_MS / 1000))
            if not answer[0]:
                return None
            sak, length = answer[4], answer[5]
            return Pn532Contact(self, identity=answer[6 : 6 + length], sak=sak)

    def _configure_timeout(self, chip: Chip, code: int) -> None:
        chip.rf_configuration(_TIMINGS, bytes((0x00, 0x0B, code)))
        self._timeout_code = code

    def exchange(
        self, block: bytes, *, wait_us: int, deadline_ns: int, meanwhile: Callable[[], None]
    ) -> bytes:
        """``iso_dep.Link`` over InCommunicateThru; lengthens the chip's RF timeout when the card may need it."""
        chip = self._require()
        with self._talking("no exchange over"):
            if _code_us(self._timeout_code) < min(wait_us, _code_us(_LONGEST_CODE)):
                fitting = (c for c in range(1, _LONGEST_CODE) if _code_us(c) >= wait_us)
                self._configure_timeout(chip, next(fitting, _LONGEST_CODE))
            chip_ms = _code_us(self._timeout_code) / 1000 + self._patience_ms
            left_ms = (deadline_ns - self._clock_ns()) / 1_000_000
            if left_ms < 1:
                raise NoAnswer
            try:
                return chip.thru(block, min(chip_ms, left_ms), meanwhile)
            except pn532.Chipset.Error as error:
                if error.errno == _NO_ANSWER:
                    raise NoAnswer from error
                if error.errno in _GARBLED:
                    raise GarbledAnswer(str(error)) from error
                raise
            except OSError as error:
                if error.errno == errno.ETIMEDOUT and left_ms < chip_ms:
                    raise NoAnswer from error
                raise

    def while_waiting(self, work: Callable[[], float | None] | None) -> None:
        """See ``SerialLine.while_waiting``. Nothing while the reader is closed."""
        if self._chip is not None and self._chip.transport is not None:
            self._chip.transport.while_waiting = work

    def hasten(self) -> None:
        """Wait for short answers only, until the field is cycled."""
        chip = self._require()
        with self._talking("cannot configure"):
            if self._timeout_code != _PRESENCE_CODE:
                self._configure_timeout(chip, _PRESENCE_CODE)

    def cycle_field(self) -> None:
        """Switch the field off long enough to reset every card in it, and on again (ISO/IEC 14443-3 §5)."""
        chip = self._require()
        with self._talking("cannot cycle the field of"):
            chip.rf_configuration(_FIELD, b"\x02")
            if self._timeout_code != _POLLING_CODE:
                self._configure_timeout(chip, _POLLING_CODE)
            self._sleep(_FIELD_OFF_S)
            chip.rf_configuration(_FIELD, b"\x01")

    def conversation(self, ats: Ats, deadline_ns: int) -> IsoDep:
        """The block layer for a card that answered to select."""
        pause_s = min(ats.guard_us / 1_000_000, max(0, deadline_ns - self._clock_ns()) / 1_000_000_000)
        if pause_s:
            self._sleep(pause_s)
        return IsoDep(
            self.exchange, ats, clock_ns=self._clock_ns, deadline_ns=deadline_ns, limits=self._limits
        )


class Pn532Contact:
    """One card in the field, selected; ``identity`` is its UID, which tells cards apart and proves nothing."""

    def __init__(self, antenna: Pn532, *, identity: bytes, sak: int) -> None:
        self.identity = identity
        self._antenna = antenna
        self._sak = sak
        self._conversation: IsoDep | None = None

    def activate(self, deadline_ns: int) -> None:
        """Open the ISO/IEC 14443-4 protocol; the conversation then ends at ``deadline_ns`` at the latest.

        Raises ``CardGone``, ``CardMisbehaves`` (TECHNOLOGY_UNSUPPORTED, ATS_INVALID, PROTOCOL_ERROR), ``ReaderBroken``.
        """
        if not self._sak & _ISO_DEP_SAK:
            raise CardMisbehaves(ReadFault.TECHNOLOGY_UNSUPPORTED, "not an ISO/IEC 14443-4 card")
        try:
            raw = self._antenna.exchange(
                _RATS, wait_us=_RATS_WAIT_US, deadline_ns=deadline_ns, meanwhile=nothing
            )
            ats = Ats.from_bytes(raw)
        except NoAnswer as error:
            raise CardGone("no answer to select") from error
        except GarbledAnswer as error:
            raise CardMisbehaves(ReadFault.PROTOCOL_ERROR, f"garbled answer to select: {error}") from error
        except MalformedData as error:
            raise CardMisbehaves(ReadFault.ATS_INVALID, str(error)) from error
        if not ats.declared:
            # legal, but no access card does it: what is left of an ATS whose card is losing power
            raise CardMisbehaves(ReadFault.ATS_INVALID, "an ATS that declares nothing")
        self._conversation = self._antenna.conversation(ats, deadline_ns)

    def transceive(self, command: bytes, meanwhile: Callable[[], None]) -> bytes:
        """``pacs.card.dialogue.Transceive``; needs ``activate``."""
        if self._conversation is None:
            raise ReaderBroken("the card is not activated")
        return self._conversation.transceive(command, meanwhile)

    def while_waiting(self, work: Callable[[], float | None] | None) -> None:
        """``edge.nfc.transaction.Contact``."""
        self._antenna.while_waiting(work)

    def is_present(self) -> bool:
        """Whether the activated card still answers. Raises ``ReaderBroken``."""
        if self._conversation is None:
            return False
        self._antenna.hasten()
        return self._conversation.is_present()

    def release(self) -> None:
        """End with this card: the field is cycled and cards in it start anew. Raises ``ReaderBroken``."""
        self._conversation = None
        self._antenna.cycle_field()
