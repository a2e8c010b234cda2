"""A USB reader behind PC/SC (pyscard), as an antenna: for desks, and for doors without a serial line.

The calls of PC/SC have no end of their own, ``SCardTransmit`` least of all. Each is made on a thread of its own and
waited for until a deadline; one that has not come back by then is left behind, the reader is broken, and no other
call is made before it has come back: so one thread hangs at most, and the alarm does not.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final

from edge import advice
from edge.nfc.call_thread import CallThread
from pacs.errors import CardGone, CardMisbehaves, ReaderBroken
from pacs.reason import ReadFault

CALL_S: Final = 2.0
"""How long a call that does not wait for a card may take."""
_AGAIN_S: Final = 0.05
_CLOSE_S: Final = 0.5

_GET_UID: Final = bytes.fromhex("ffca000000")  # answered by the reader itself (PC/SC part 3, §3.2.2.1.3)
_MAX_UID_BYTES: Final = 10

_OK: Final = 0
_TIMEOUT: Final = 0x8010000A
_PACKAGES: Final = "pcscd libpcsclite-dev swig gcc python3-dev"
_NO_SERVICE: Final = ("no PC/SC service", advice.PCSC_START)
_FAULTS: Final = {
    0x8010001D: _NO_SERVICE,
    0x8010001E: _NO_SERVICE,
    0x8010000B: ("another program holds the reader", advice.PCSC_TAKEN),
    0x80100017: ("the reader is not there", advice.PLUG_IN),
    0x8010002E: ("no reader is plugged in", advice.PLUG_IN),
    0x8010006A: ("this user may not use the PC/SC service", advice.PCSC_FORBIDDEN),
}
"""What a code of the service means, and what to do; for any other it is started anew."""
_GONE: Final = frozenset({0x8010000C, 0x80100016, 0x8010002F, 0x80100067, 0x80100068, 0x80100069})
"""NO_SMARTCARD, NOT_TRANSACTED, COMM_DATA_LOST, UNPOWERED, RESET, REMOVED."""
_UNSUPPORTED: Final = frozenset({0x8010000F, 0x8010001C, 0x80100065, 0x80100066})
"""PROTO_MISMATCH, E_ and W_ of a card that is not supported, UNRESPONSIVE."""

_UNAWARE: Final = 0x000
_NOT_THERE: Final = 0x004 | 0x008  # UNKNOWN, UNAVAILABLE
_PRESENT: Final = 0x020
_CHANGED: Final = 0x002
_COUNT_SHIFT: Final = 16  # the number of insertions and removals stands above the flags
_ANY_PROTOCOL: Final = 0x0001 | 0x0002
_EXCLUSIVE: Final = 1
_LEAVE_CARD: Final = 0
_UNPOWER_CARD: Final = 2
_SCOPE_SYSTEM: Final = 2


def _load() -> Any:
    try:
        return importlib.import_module("smartcard.scard")
    except ImportError as error:
        advice = f"sudo apt-get install {_PACKAGES}, then sudo {sys.executable} -m pip install pyscard"
        raise ReaderBroken("pyscard is missing", advice) from error


class _Stuck(Exception):
    """A call did not come back in time."""


class Pcsc:
    """The antenna that PC/SC knows as ``device``: a reader's name, or the part of it that only this one has."""

    def __init__(
        self,
        device: str,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        load: Callable[[], Any] = _load,
    ) -> None:
        self.device = device
        self.baud = None
        self._clock_ns = clock_ns
        self._sleep = sleep
        self._load = load
        self._scard: Any = None
        self._worker: CallThread | None = None
        self._left_behind: CallThread | None = None
        self._context: Any = None
        self._card: Any = None
        self._name = ""
        self._work: Callable[[], float | None] | None = None

    # ---- an antenna

    def open(self) -> None:
        """Find the reader by its name. Raises ``ReaderBroken`` with what to do."""
        self.close()
        if self._left_behind is not None and self._left_behind.is_alive():
            raise ReaderBroken("the PC/SC service has not come back from a call", advice.PCSC_HANGS)
        self._left_behind = None
        self._scard = self._load()
        self._worker = CallThread()
        (self._context,) = self._call("SCardEstablishContext", _SCOPE_SYSTEM)
        names = self._call("SCardListReaders", self._context, [])[0]
        self._name = self._choose(list(names))

    def close(self) -> None:
        """Give card and reader back. Never raises."""
        self._end(_CLOSE_S)

    def check(self) -> str:
        """The reader's name, once PC/SC has said that it is there. Raises ``ReaderBroken``."""
        self._status(0, _UNAWARE)
        return f"PC/SC {self._name}"

    def poll(self, until_ns: int) -> PcscContact | None:
        """The card in the field, or the one that comes until then. Raises ``ReaderBroken``."""
        state, atr = self._status(0, _UNAWARE)
        while True:
            if state & _PRESENT:
                contact = self._connect(state, atr)
                if contact is not None:
                    return contact
                self._sleep(_AGAIN_S)
            left_ms = (until_ns - self._clock_ns()) // 1_000_000
            if left_ms <= 0:
                return None
            known = _UNAWARE if state & _PRESENT else state & ~_CHANGED
            state, atr = self._status(min(left_ms, 1_000), known)

    # ---- for a contact

    def exchange(self, command: bytes, deadline_ns: int, meanwhile: Callable[[], None]) -> bytes:
        """One APDU. Raises ``CardGone``, ``CardMisbehaves`` (DEADLINE), ``ReaderBroken``."""
        if self._clock_ns() >= deadline_ns:
            raise CardMisbehaves(ReadFault.DEADLINE)
        card, protocol = self._require_card()
        outcome = self._start("SCardTransmit", card, protocol, list(command))
        meanwhile()
        try:
            answer = self._finish("SCardTransmit", self._wait(outcome, deadline_ns))[0]
        except _Stuck as error:
            raise CardMisbehaves(ReadFault.DEADLINE, "no answer from PC/SC in time") from error
        if not answer:  # some drivers say so that the card has left
            raise CardGone("an empty answer")
        return bytes(answer)

    def while_waiting(self, work: Callable[[], float | None] | None) -> None:
        """What to do while an answer is awaited."""
        self._work = work

    def count(self) -> int | None:
        """The number of insertions and removals while a card is there; None while there is none."""
        state, _ = self._status(0, _UNAWARE)
        return state >> _COUNT_SHIFT if state & _PRESENT else None

    def release(self, *, is_gone: bool = False) -> None:
        """Take the power from the card, unless ``is_gone``: that would upset the service. Raises ``ReaderBroken``."""
        card, self._card = self._card, None
        if self._worker is None:
            raise ReaderBroken(f"{self.device} is not open")
        if card is not None:
            with contextlib.suppress(CardGone):
                self._call("SCardDisconnect", card[0], _LEAVE_CARD if is_gone else _UNPOWER_CARD)

    # ---- calls

    def _connect(self, state: int, atr: bytes) -> PcscContact | None:
        """The card that is there; None when it has just left."""
        count = state >> _COUNT_SHIFT
        try:
            handle, protocol = self._call(
                "SCardConnect", self._context, self._name, _EXCLUSIVE, _ANY_PROTOCOL
            )
        except CardGone:
            return None
        except CardMisbehaves as error:
            return PcscContact(self, identity=atr, count=count, refused=error)
        pci = self._scard.SCARD_PCI_T0 if protocol == 0x0001 else self._scard.SCARD_PCI_T1
        self._card = (handle, pci)
        try:
            answer = bytes(self._call("SCardTransmit", handle, pci, list(_GET_UID))[0])
        except (CardGone, CardMisbehaves):
            self.release(is_gone=True)
            return None
        has_uid = answer[-2:] == b"\x90\x00" and 0 < len(answer) - 2 <= _MAX_UID_BYTES
        # an ATR is the same for every card of its kind: each insertion is then another card
        identity = answer[:-2] if has_uid else atr + count.to_bytes(2)
        return PcscContact(self, identity=identity, count=count)

    def _status(self, wait_ms: int, known: int) -> tuple[int, bytes]:
        """Flags and ATR, once they differ from ``known`` or after that time. Raises ``ReaderBroken``."""
        try:
            (states,) = self._call(
                "SCardGetStatusChange", self._context, wait_ms, [(self._name, known)], wait_s=wait_ms / 1000
            )
        except TimeoutError:
            return known, b""
        _, state, atr = states[0]
        if state & _NOT_THERE:
            self._end(0)
            raise ReaderBroken(f"{self._name} was unplugged", advice.PLUG_IN)
        return state, bytes(atr)

    def _choose(self, names: list[str]) -> str:
        if self.device in names:
            return self.device
        fitting = [name for name in names if self.device in name]
        if len(fitting) == 1:
            return fitting[0]
        self._end(0)
        if fitting:
            what = f"{self.device} may be any of: {', '.join(fitting)}"
            raise ReaderBroken(what, advice.WHOLE_NAME)
        what = f"PC/SC knows no reader {self.device}; it knows: {', '.join(names) or 'none'}"
        raise ReaderBroken(what, advice.PLUG_IN_OR_CORRECT)

    def _call(self, name: str, *arguments: Any, wait_s: float = 0.0) -> tuple[Any, ...]:
        """Make a call that ends by itself after ``wait_s``; ``TimeoutError`` when PC/SC says that it did."""
        outcome = self._start(name, *arguments)
        deadline_ns = self._clock_ns() + round((wait_s + CALL_S) * 1e9)
        try:
            return self._finish(name, self._wait(outcome, deadline_ns, is_working=False))
        except _Stuck as error:
            raise ReaderBroken(
                f"the PC/SC service does not come back from {name}", advice.PCSC_HANGS
            ) from error

    def _start(self, name: str, *arguments: Any) -> SimpleQueue[Any]:
        if self._worker is None:
            raise ReaderBroken(f"{self.device} is not open")
        function = getattr(self._scard, name)
        return self._worker.start(lambda: function(*arguments))

    def _wait(self, outcome: SimpleQueue[Any], deadline_ns: int, *, is_working: bool = True) -> Any:
        """What the call returned, doing ``while_waiting`` meanwhile. After the deadline the worker is left behind."""
        pause_s = 0.0 if is_working and self._work else None
        while True:
            left_s = max(0.0, (deadline_ns - self._clock_ns()) / 1e9)
            try:
                return outcome.get(timeout=left_s if pause_s is None else min(pause_s, left_s))
            except Empty:
                if not left_s:
                    self._left_behind = self._worker
                    self._end(0)
                    raise _Stuck from None
                if pause_s is not None and self._work is not None:
                    pause_s = self._work()

    def _finish(self, name: str, outcome: Any) -> tuple[Any, ...]:
        """What the call returned besides its code. Raises by the code."""
        if isinstance(outcome, Exception):
            self._end(0)
            what = f"{name}: {str(outcome) or type(outcome).__name__}"
            raise ReaderBroken(what, advice.PCSC_RESTART) from outcome
        code, *values = outcome if isinstance(outcome, list | tuple) else (outcome,)
        code &= 0xFFFFFFFF
        if code == _OK:
            return tuple(values)
        if code == _TIMEOUT and name == "SCardGetStatusChange":
            raise TimeoutError
        if code in _GONE:
            raise CardGone(f"{name}: {code:08x}")
        if code in _UNSUPPORTED:
            raise CardMisbehaves(ReadFault.TECHNOLOGY_UNSUPPORTED, f"{name}: {code:08x}")
        self._end(0)
        what, what_to_do = _FAULTS.get(code, (f"error {code:08x}", advice.PCSC_RESTART))
        raise ReaderBroken(f"{name}: {what}", what_to_do)

    def _require_card(self) -> tuple[Any, Any]:
        if self._card is None:
            raise ReaderBroken("the card is not connected")
        card: tuple[Any, Any] = self._card
        return card

    def _end(self, wait_s: float) -> None:
        """Let the worker give back what is held and end, once it comes back from its call."""
        worker, self._worker = self._worker, None
        card, self._card = self._card, None
        context, self._context = self._context, None
        if worker is None:
            return
        if card is not None:
            worker.start(lambda: self._scard.SCardDisconnect(card[0], _UNPOWER_CARD))
        if context is not None:
            worker.start(lambda: self._scard.SCardReleaseContext(context))
        worker.end(wait_s)


class PcscContact:
    """One card in the field of a PC/SC reader.

    ``identity``: its UID where the reader tells it, else its ATR and the number of its insertion.
    """

    def __init__(
        self, antenna: Pcsc, *, identity: bytes, count: int, refused: CardMisbehaves | None = None
    ) -> None:
        self.identity = identity
        self._antenna = antenna
        self._count = count
        self._refused = refused
        self._deadline_ns = 0
        self._is_gone = False

    def activate(self, deadline_ns: int) -> None:
        """The reader has activated it; everything with it ends at ``deadline_ns``. Raises ``CardMisbehaves``."""
        if self._refused is not None:
            raise CardMisbehaves(self._refused.fault, str(self._refused))
        self._deadline_ns = deadline_ns

    def transceive(self, command: bytes, meanwhile: Callable[[], None]) -> bytes:
        """``pacs.card.dialogue.Transceive``."""
        try:
            return self._antenna.exchange(command, self._deadline_ns, meanwhile)
        except CardGone:
            self._is_gone = True
            raise

    def while_waiting(self, work: Callable[[], float | None] | None) -> None:
        """``edge.nfc.transaction.Contact``."""
        self._antenna.while_waiting(work)

    def is_present(self) -> bool:
        """Whether it has stayed since it was found. Raises ``ReaderBroken``."""
        self._is_gone = self._antenna.count() != self._count
        return not self._is_gone

    def release(self) -> None:
        """End with this card; it starts anew when it is found again. Raises ``ReaderBroken``."""
        self._antenna.release(is_gone=self._is_gone)
