"""A PC/SC reader: against a stand-in for pyscard's module, and against pcscd with a virtual card where there is one."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from edge.inputs import CardPresented, CardRefused, ReaderInput, ReaderLost, ReaderRestored
from edge.nfc import pcsc
from edge.nfc.health import ReaderState
from edge.nfc.pcsc import Pcsc, PcscContact
from edge.nfc.reader import Reader, ReaderSettings
from pacs.card.dialogue import nothing
from pacs.credential import TrustAnchors
from pacs.errors import CardError, CardGone, CardMisbehaves, ReaderBroken
from pacs.identifiers import DoorId
from pacs.reason import ReadFault
from pacs.rules import Side
from simulator import virtual_pcsc
from simulator.card_deck import deal
from simulator.virtual_pcsc import NAME, VirtualPcsc
from tests.edge.nfc.door_on_pn532 import ISSUER, ISSUER_KEY, RECIPE

S = 1_000_000_000
DEADLINE_S = 30.0
ATR = b"\x3b\x80\x80\x01\x01"
UID = b"\x04\x01\x02\x03\x04\x05\x06"


class FakeScard:
    """pyscard's module: one reader, a card or none, and what each function is told to return instead."""

    SCARD_PCI_T0 = "T0"
    SCARD_PCI_T1 = "T1"

    def __init__(self) -> None:
        self.names = ["A Reader 00 00", "Another Reader 01 00"]
        self.count = 0
        self.present = False
        self.flags = 0
        self.uid: bytes | None = UID
        self.answer: Callable[[bytes], Any] = lambda command: (0, [*command, 0x90, 0x00])
        self.codes: dict[str, Any] = {}
        self.log: list[str] = []
        self.threads: set[int] = set()
        self.stuck: dict[str, threading.Event] = {}
        self.dispositions: list[int] = []

    def lay(self) -> None:
        self.present, self.count = True, self.count + 1

    def lift(self) -> None:
        self.present, self.count = False, self.count + 1

    def _enter(self, name: str) -> Any:
        self.log.append(name)
        self.threads.add(threading.get_ident())
        if name in self.stuck:
            self.stuck[name].wait(DEADLINE_S)
        code = self.codes.get(name, 0)
        if isinstance(code, Exception):
            raise code
        return code

    def SCardEstablishContext(self, _scope: int) -> Any:  # noqa: N802 - pyscard's name
        return (self._enter("SCardEstablishContext"), 7)

    def SCardListReaders(self, _context: int, _groups: list[str]) -> Any:  # noqa: N802
        return (self._enter("SCardListReaders"), self.names)

    def SCardGetStatusChange(self, _context: int, wait_ms: int, states: Any) -> Any:  # noqa: N802
        code = self._enter("SCardGetStatusChange")
        ((name, known),) = states
        state = self.count << 16 | (0x20 if self.present else 0x10) | self.flags
        if not code and known == state:
            threading.Event().wait(min(wait_ms, 5) / 1000)
            code = 0x8010000A
        return (code, [(name, state | 2, list(ATR) if self.present else [])])

    def SCardConnect(self, _context: int, _name: str, _mode: int, _protocols: int) -> Any:  # noqa: N802
        return (self._enter("SCardConnect"), 9, 2)

    def SCardTransmit(self, _card: int, protocol: str, command: list[int]) -> Any:  # noqa: N802
        code = self._enter("SCardTransmit")
        assert protocol == "T1"
        if bytes(command) == b"\xff\xca\x00\x00\x00":
            return (code, [*self.uid, 0x90, 0x00] if self.uid is not None else [0x6A, 0x81])
        return self.answer(bytes(command)) if not code else (code, [])

    def SCardDisconnect(self, _card: int, disposition: int) -> Any:  # noqa: N802
        code = self._enter("SCardDisconnect")
        self.dispositions.append(disposition)
        return code

    def SCardReleaseContext(self, _context: int) -> Any:  # noqa: N802
        return self._enter("SCardReleaseContext")


@pytest.fixture
def scard() -> FakeScard:
    return FakeScard()


@pytest.fixture
def antenna(scard: FakeScard) -> Iterator[Pcsc]:
    antenna = Pcsc("A Reader", load=lambda: scard)
    antenna.open()
    yield antenna
    antenna.close()


def until(seconds: float) -> int:
    return time.monotonic_ns() + round(seconds * S)


def find(antenna: Pcsc, seconds: float = 20.0) -> PcscContact:
    contact = antenna.poll(until(seconds))
    assert contact is not None
    return contact


# ---- with a stand-in for pyscard


def test_an_empty_field_is_none(antenna: Pcsc) -> None:
    """No card: None, at the time asked for and after at least one look."""
    assert antenna.poll(0) is None
    assert antenna.poll(until(0.05)) is None


def test_reads_a_card(antenna: Pcsc, scard: FakeScard) -> None:
    """A card is found by its UID, answers, stays until it leaves, and is powered down at the end."""
    scard.lay()
    contact = find(antenna)
    assert contact.identity == UID
    contact.activate(until(20))
    ran: list[int] = []
    assert contact.transceive(b"\x01", lambda: ran.append(1)) == b"\x01\x90\x00"
    assert ran == [1]
    assert contact.is_present()
    contact.release()
    assert scard.dispositions == [2]
    assert threading.get_ident() not in scard.threads


def test_a_card_that_left_and_came_back_is_another_presence(antenna: Pcsc, scard: FakeScard) -> None:
    """Presence follows insertions: a quick exchange of two cards is not one that stayed. What left keeps its power."""
    scard.lay()
    contact = find(antenna)
    scard.lift()
    assert not contact.is_present()
    scard.lay()
    assert not contact.is_present()
    contact.release()
    assert scard.dispositions == [0]


def test_without_a_uid_each_insertion_is_a_card_of_its_own(antenna: Pcsc, scard: FakeScard) -> None:
    """An ATR names a kind of card, not a card."""
    scard.uid = None
    scard.lay()
    first = find(antenna).identity
    antenna.release()
    assert find(antenna).identity == first
    antenna.release()
    scard.lift()
    scard.lay()
    assert find(antenna).identity != first


def test_finds_a_card_that_comes_while_polling(antenna: Pcsc, scard: FakeScard) -> None:
    """A card laid down during a poll ends that poll."""
    timer = threading.Timer(0.05, scard.lay)
    timer.start()
    assert find(antenna).identity == UID
    timer.join()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0x80100069, CardGone),
        (0x80100068, CardGone),
        (0x8010000C, CardGone),
        (0x80100016, CardGone),
        (0x80100066, CardMisbehaves),
        (0x8010001D, ReaderBroken),
        (0x80100017, ReaderBroken),
        (0x8010000A, ReaderBroken),
        (0x80100001, ReaderBroken),
        (0x80100016 - (1 << 32), CardGone),
        (RuntimeError("a defect"), ReaderBroken),
    ],
)
def test_every_code_of_a_transmission_is_the_cards_or_the_readers(
    antenna: Pcsc, scard: FakeScard, code: Any, expected: type[Exception]
) -> None:
    """Each outcome of SCardTransmit is one of the three errors, also as a negative number or an exception."""
    scard.lay()
    contact = find(antenna)
    contact.activate(until(20))
    scard.codes["SCardTransmit"] = code
    with pytest.raises(expected):
        contact.transceive(b"\x01", nothing)


def test_an_empty_answer_is_a_card_that_left(antenna: Pcsc, scard: FakeScard) -> None:
    """Success without a status word is no answer of a card."""
    scard.lay()
    contact = find(antenna)
    contact.activate(until(20))
    scard.answer = lambda _command: (0, [])
    with pytest.raises(CardGone):
        contact.transceive(b"\x01", nothing)


def test_a_card_that_cannot_be_powered_up_is_of_another_kind(antenna: Pcsc, scard: FakeScard) -> None:
    """A mute card is named as a technology that is not read; it does not break the reader."""
    scard.lay()
    scard.codes["SCardConnect"] = 0x80100066
    contact = find(antenna)
    with pytest.raises(CardMisbehaves) as caught:
        contact.activate(until(20))
    assert caught.value.fault is ReadFault.TECHNOLOGY_UNSUPPORTED
    contact.release()
    scard.codes.clear()
    assert find(antenna).identity == UID


def test_a_card_that_left_before_it_was_connected_is_none(antenna: Pcsc, scard: FakeScard) -> None:
    """Seen and gone: no contact, and no error."""
    scard.lay()
    for name, code in (("SCardConnect", 0x80100069), ("SCardTransmit", 0x80100069)):
        scard.codes = {name: code}
        assert antenna.poll(until(0.05)) is None


def test_a_card_that_does_not_answer_is_given_up_at_the_deadline(antenna: Pcsc, scard: FakeScard) -> None:
    """The wait ends though the call does not; no call is made until it has, then the reader is opened anew."""
    scard.lay()
    contact = find(antenna)
    contact.activate(until(0.1))
    let_go = scard.stuck["SCardTransmit"] = threading.Event()
    with pytest.raises(CardMisbehaves) as caught:
        contact.transceive(b"\x01", nothing)
    assert caught.value.fault is ReadFault.DEADLINE
    with pytest.raises(ReaderBroken, match="not open"):
        contact.release()
    threads = threading.active_count()
    for _ in range(5):
        with pytest.raises(ReaderBroken, match="has not come back"):
            antenna.open()
    assert threading.active_count() == threads
    del scard.stuck["SCardTransmit"]
    let_go.set()
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            antenna.open()
            break
        except ReaderBroken:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert scard.log.count("SCardReleaseContext") == 1, "what the hanging call held was given back"
    assert find(antenna).identity == UID


@pytest.mark.parametrize(
    "name",
    ["SCardEstablishContext", "SCardListReaders", "SCardGetStatusChange", "SCardConnect", "SCardTransmit"],
)
def test_a_call_that_hangs_is_a_broken_reader(
    scard: FakeScard, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whichever call does not come back, the reader is broken in time."""
    monkeypatch.setattr(pcsc, "CALL_S", 0.05)
    scard.lay()
    let_go = scard.stuck[name] = threading.Event()
    antenna = Pcsc("A Reader", load=lambda: scard)

    def use() -> None:
        antenna.open()
        antenna.poll(0)

    with pytest.raises(ReaderBroken, match=name):
        use()
    let_go.set()
    antenna.close()


def test_does_not_begin_after_the_deadline(antenna: Pcsc, scard: FakeScard) -> None:
    """No command is sent once the deadline has passed."""
    scard.lay()
    contact = find(antenna)
    contact.activate(0)
    calls = len(scard.log)
    with pytest.raises(CardMisbehaves):
        contact.transceive(b"\x01", nothing)
    assert len(scard.log) == calls


def test_works_while_it_waits(antenna: Pcsc, scard: FakeScard) -> None:
    """At once and after each pause asked for, until the answer is there or the work is done."""
    scard.lay()
    contact = find(antenna)
    contact.activate(until(20))
    answer = threading.Event()
    scard.answer = lambda command: answer.wait(DEADLINE_S) and (0, [*command, 0x90, 0x00])
    done: list[int] = []

    def work() -> float | None:
        done.append(len(done))
        if len(done) == 3:
            answer.set()
            return None
        return 0.001

    contact.while_waiting(work)
    assert contact.transceive(b"\x01", nothing) == b"\x01\x90\x00"
    assert len(done) == 3
    contact.while_waiting(None)
    contact.transceive(b"\x01", nothing)
    assert len(done) == 3


def test_chooses_the_reader_by_its_name(scard: FakeScard) -> None:
    """The whole name, or a part that only one has; else what there is to choose from."""
    scard.names = ["ACS 00 00", "ACS 01 00", "Desk 00 00", "Desk 00 00 (2)"]
    for device, name in (("ACS 01", "ACS 01 00"), ("Desk 00 00", "Desk 00 00"), ("(2)", "Desk 00 00 (2)")):
        antenna = Pcsc(device, load=lambda: scard)
        antenna.open()
        assert antenna.check() == f"PC/SC {name}"
        antenna.close()
    for device in ("ACS", "Omnikey"):
        with pytest.raises(ReaderBroken, match="ACS 00 00, ACS 01 00"):
            Pcsc(device, load=lambda: scard).open()


@pytest.mark.parametrize(
    ("name", "code", "cause", "advice"),
    [
        ("SCardEstablishContext", 0x8010001D, "no PC/SC service", "systemctl enable --now pcscd.socket"),
        ("SCardListReaders", 0x8010002E, "no reader is plugged in", "plug it in"),
        ("SCardConnect", 0x8010000B, "another program holds the reader", "stop that program"),
        ("SCardGetStatusChange", 0x80100009, "error 80100009", "systemctl restart pcscd"),
    ],
)
def test_says_what_is_wrong_and_what_to_do(
    scard: FakeScard, name: str, code: int, cause: str, advice: str
) -> None:
    """Each failure of the service names itself to a technician."""
    scard.lay()
    scard.codes[name] = code
    antenna = Pcsc("A Reader", load=lambda: scard)

    def use() -> None:
        antenna.open()
        antenna.poll(0)

    with pytest.raises(ReaderBroken) as caught:
        use()
    assert (str(caught.value), caught.value.advice) == (f"{name}: {cause}", advice)
    antenna.close()


@pytest.mark.parametrize("flag", [0x4, 0x8])
def test_an_unplugged_reader_is_broken(antenna: Pcsc, scard: FakeScard, flag: int) -> None:
    """A reader that PC/SC does not know any more is lost, whatever asks."""
    scard.flags = flag
    with pytest.raises(ReaderBroken, match="unplugged"):
        antenna.check()
    scard.flags = 0
    antenna.open()
    assert antenna.check() == "PC/SC A Reader 00 00"


def test_without_pyscard_the_next_step_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optional library is asked for when a PC/SC reader is opened, and not before."""
    monkeypatch.setitem(sys.modules, "smartcard.scard", None)
    antenna = Pcsc("A Reader")
    with pytest.raises(ReaderBroken, match="pyscard is missing") as caught:
        antenna.open()
    assert caught.value.advice.endswith(f"{sys.executable} -m pip install pyscard")
    antenna.close()


# ---- with pcscd and a virtual card


class Slow:
    """A genuine card that takes ``ms`` for each answer."""

    def __init__(self, ms: float = 0.0) -> None:
        self.ms = ms
        self._card = deal("genuine", RECIPE)

    def answer(self, command: bytes) -> bytes:
        return self._card.answer(command)

    def computing_ms(self, _command: bytes) -> float:
        return self.ms

    def reset(self) -> None:
        self._card.reset()


@pytest.fixture(scope="module")
def service() -> Iterator[VirtualPcsc]:
    pytest.importorskip(
        "smartcard.scard", reason="NO PC/SC READER IS TESTED: pyscard is missing; pip install pyscard"
    )
    with virtual_pcsc.alone():
        if why := virtual_pcsc.missing():
            pytest.skip(f"NO PC/SC READER IS TESTED: {why}")
        with VirtualPcsc() as service:
            yield service


def lift(service: VirtualPcsc) -> None:
    """Take the card away, and wait until the service has noticed."""
    watch = Pcsc(NAME)
    watch.open()
    before = events(watch)
    service.remove()
    noticed(watch, before)
    watch.close()


def events(antenna: Pcsc) -> int:
    """How many insertions and removals the service has seen."""
    return antenna._status(0, 0)[0] >> 16


def noticed(antenna: Pcsc, before: int) -> None:
    """Wait for one more."""
    deadline = time.monotonic() + DEADLINE_S
    while events(antenna) == before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Desk:
    """A reader thread on PC/SC, and what it puts."""

    def __init__(self, settings: ReaderSettings) -> None:
        self.inputs: queue.Queue[ReaderInput] = queue.Queue()
        self.reader = Reader(
            Pcsc(NAME),
            door_id=DoorId("desk"),
            side=Side.ENTRY,
            reader_identifier=bytes(32),
            trust=TrustAnchors(issuers={ISSUER: ISSUER_KEY.public_key()}),
            put=self.inputs.put,
            now=lambda: datetime(2025, 6, 1, 12, tzinfo=UTC),
            settings=settings,
        )

    def next(self, kind: type[ReaderInput]) -> Any:
        """The next input of this kind; others are passed over."""
        while True:
            value = self.inputs.get(timeout=DEADLINE_S)
            if isinstance(value, kind):
                return value


@pytest.fixture
def desk(service: VirtualPcsc) -> Iterator[Desk]:
    desk = Desk(ReaderSettings(first_back_off_s=0.05, longest_back_off_s=0.2))
    desk.reader.start()
    yield desk
    lift(service)
    desk.reader.stop(DEADLINE_S)


def test_reads_cards_over_pcsc(service: VirtualPcsc, desk: Desk) -> None:
    """One card after another is presented once or refused with its reason, and health says what reads."""
    for number in range(2):
        service.insert(deal("genuine", RECIPE), uid=UID[:-1] + bytes([number]))
        assert desk.next(CardPresented).credential.credential_id == RECIPE.credential_id
        lift(service)
    service.insert(deal("cloned", RECIPE))
    desk.next(CardRefused)
    health = desk.reader.health()
    assert (health.state, health.firmware, health.reads) == (ReaderState.OK, f"PC/SC {NAME}", 3)
    assert desk.inputs.empty()


def test_a_card_that_holds_the_service_is_an_alarm_and_heals(service: VirtualPcsc) -> None:
    """A card that lets SCardTransmit hang is given up at the deadline; once it is gone, cards are read again."""
    desk = Desk(ReaderSettings(transaction_ms=300, first_back_off_s=0.05, longest_back_off_s=0.2))
    desk.reader.start()
    service.insert(Slow(60_000))
    desk.next(ReaderLost)
    assert desk.reader.health().faults == {ReadFault.DEADLINE: 1}
    lift(service)
    desk.next(ReaderRestored)
    desk.reader.stop(DEADLINE_S)
    assert not desk.reader._thread.is_alive()


def test_a_service_that_ends_and_comes_back_needs_no_restart(service: VirtualPcsc, desk: Desk) -> None:
    """A service stopped and started again is a reader lost and restored."""
    service.insert(deal("genuine", RECIPE))
    desk.next(CardPresented)
    service.stop()
    assert "PC/SC service" in desk.next(ReaderLost).cause
    service.start()
    desk.next(ReaderRestored)
    service.insert(deal("genuine", RECIPE))
    desk.next(CardPresented)


def test_a_card_pulled_over_pcsc_is_gone(service: VirtualPcsc) -> None:
    """A card taken away in its transaction is a card error, and the antenna goes on."""
    antenna = Pcsc(NAME)
    antenna.open()
    service.insert(Slow(2_000))
    contact = find(antenna)
    contact.activate(until(20))
    before = events(antenna)
    timer = threading.Timer(0.1, service.remove)
    timer.start()
    with pytest.raises(CardError):
        contact.transceive(bytes.fromhex("00a4040000"), nothing)
    timer.join()
    contact.release()
    noticed(antenna, before)
    service.insert(Slow())
    assert find(antenna).identity.startswith(virtual_pcsc.ATR)
    lift(service)
    antenna.close()
