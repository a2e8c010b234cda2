"""Commands at the door: judged once, used once, whatever clock, disk, broker or process do in between."""

from __future__ import annotations

import contextlib
import errno
import shutil
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pytest_mock import MockerFixture

from edge.clock import TOLERANCE, Clock
from edge.command_intake import ANONYMOUS_AGAIN_S, REFUSALS_PER_MINUTE, WAITING_COMMANDS, CommandIntake
from edge.inputs import CommandAccepted, CommandReceived, CommandRefused, PartFailed
from edge.order_store import OrderStore, Receiver
from edge.signers import Signers
from edge.state_files import StateFiles
from edge.used_commands import LONGEST_LIFE_S, MAX_COMMANDS, UsedCommands
from pacs import cbor
from pacs.commands import ID_BYTES, Action, Command, seal
from pacs.envelope import trusted_keys
from pacs.errors import StoreError
from pacs.identifiers import ControllerId, DoorId, OperatorId, SiteId
from pacs.reason import Reason
from pacs.rules import DoorMode
from pacs.situation import ModeOrder
from tests.edge.failing_disk import FailingFiles
from tests.edge.power_cut import PowerCut, PowerCutFiles, Survives

KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SITE, GATE, FRONT, BACK = SiteId("utrecht"), ControllerId("gate-1"), DoorId("front"), DoorId("back")
MINUTE = timedelta(minutes=1)
RECEIVER = Receiver(
    site_id=SITE,
    controller_id=GATE,
    door_ids=frozenset({FRONT, BACK}),
    signers=Signers(trusted_keys(KEY.public_key())),
)
DEADLINE_S = 20.0


def command(number: int = 1, **changes: Any) -> Command:
    """Unlock the front door, issued at noon, for five minutes."""
    made = Command(
        command_id=number.to_bytes(ID_BYTES, "big"),
        site_id=SITE,
        controller_id=GATE,
        door_id=FRONT,
        action=Action.UNLOCK_ONCE,
        issued_at=NOON,
        expires_at=NOON + 5 * MINUTE,
        operator_id=OperatorId("op-1"),
    )
    return replace(made, **changes)


def lockdown(number: int = 1, **changes: Any) -> Command:
    """Lock the front door down until further notice."""
    return command(number, action=Action.SET_MODE, mode=DoorMode.LOCKDOWN, **changes)


class Door:
    """A running intake over a directory, at a time that a test sets; a second one is the process after this."""

    def __init__(self, directory: Path, files: StateFiles | None = None) -> None:
        self.directory = directory
        self.files = files
        self.at, self.monotonic_s, self.built = NOON, 1_000.0, NOON - 90 * MINUTE
        self.issued_at: datetime | None = None
        self.first_start = True
        self.put: SimpleQueue[Any] = SimpleQueue()
        self.start()

    def start(self) -> None:
        clock = Clock(self.built, wall=lambda: self.at, monotonic_s=lambda: self.monotonic_s)
        if self.issued_at:
            clock.issued(self.issued_at)
        self.intake = CommandIntake(
            self.directory,
            RECEIVER,
            clock=clock,
            put=self.put.put,
            first_start=self.first_start,
            files=self.files,
        )
        self.orders = dict(self.intake.orders)
        self.intake.start()

    def restart(self) -> None:
        self.intake.stop()
        self.start()

    def pass_s(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.monotonic_s += seconds

    def give(self, given: Command, *, retained: bool = False, key: Ed25519PrivateKey = KEY) -> Any:
        """What is put for it."""
        self.take(seal(given, key), retained=retained)
        return self.next()

    def take(self, data: bytes, *, retained: bool = False) -> None:
        self.intake.take(CommandReceived(data=data, retained=retained))

    def next(self) -> Any:
        return self.put.get(timeout=DEADLINE_S)

    def reason(self, given: Command, **how: Any) -> Reason | None:
        """Why it is refused; None: it is accepted."""
        outcome = self.give(given, **how)
        return outcome.reason if isinstance(outcome, CommandRefused) else None


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path / "commands")
    yield door
    door.intake.stop()


def test_a_command_is_accepted_once(door: Door) -> None:
    """The first time it is put as it was signed; the second time it is refused and names command and door."""
    assert door.give(command()) == CommandAccepted(command=command())
    assert door.give(command()) == CommandRefused(
        reason=Reason.COMMAND_REPEATED, command_id=command().command_id, door_id=FRONT
    )


@pytest.mark.parametrize(
    ("given", "how", "reason"),
    [
        (command(site_id=SiteId("elsewhere")), {}, Reason.COMMAND_OTHER_CONTROLLER),
        (command(controller_id=ControllerId("gate-2")), {}, Reason.COMMAND_OTHER_CONTROLLER),
        (command(door_id=DoorId("cellar")), {}, Reason.DOOR_UNKNOWN),
        (command(expires_at=NOON, issued_at=NOON - MINUTE), {}, Reason.COMMAND_EXPIRED),
        (
            command(issued_at=NOON + 2 * TOLERANCE, expires_at=NOON + 2 * TOLERANCE + MINUTE),
            {},
            Reason.COMMAND_NOT_YET_VALID,
        ),
        (command(), {"retained": True}, Reason.COMMAND_RETAINED),
        (command(), {"key": Ed25519PrivateKey.generate()}, Reason.SIGNER_UNKNOWN),
        (command(issued_at=NOON + TOLERANCE, expires_at=NOON + TOLERANCE + MINUTE), {}, None),
        (command(expires_at=NOON + timedelta(milliseconds=1)), {}, None),
    ],
)
def test_who_and_when(door: Door, given: Command, how: dict[str, Any], reason: Reason | None) -> None:
    """Another site, controller or door, too late, too early, kept by the broker, not the hub's: each by its name."""
    assert door.reason(given, **how) is reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.COMMAND_MALFORMED),
        (bytes(200), Reason.COMMAND_MALFORMED),
        (seal(command(), KEY)[:-1], Reason.COMMAND_MALFORMED),
        (seal(command(), KEY)[:-1] + b"\x00", Reason.SIGNATURE_INVALID),
    ],
    ids=["nothing", "zeroes", "cut", "signature"],
)
def test_garbage_is_told_once_a_minute_and_counted(door: Door, data: bytes, reason: Reason) -> None:
    """It names no command; what follows of its kind is counted only, until the minute is over."""
    for _ in range(3):
        door.take(data)
    assert door.next() == CommandRefused(reason=reason)
    assert isinstance(door.give(command()), CommandAccepted)
    assert door.intake.counts[reason.value] == 3
    door.pass_s(ANONYMOUS_AGAIN_S)
    door.take(data)
    assert door.next() == CommandRefused(reason=reason)


def test_a_refusal_is_told_once_for_each_command(door: Door) -> None:
    """A hub that repeats, or somebody who replays, does not fill the journal."""
    assert isinstance(door.give(command(1)), CommandAccepted)
    for _ in range(5):
        door.take(seal(command(1), KEY))
    assert door.next() == CommandRefused(
        reason=Reason.COMMAND_REPEATED, command_id=command(1).command_id, door_id=FRONT
    )
    assert isinstance(door.give(command(2)), CommandAccepted)
    assert door.intake.counts == {"command_repeated": 5}


def test_a_flood_of_genuine_commands_is_told_in_part(door: Door) -> None:
    """Of captured commands that come in masses some refusals are told each minute; all are counted."""
    late = {"issued_at": NOON - 9 * MINUTE, "expires_at": NOON - 5 * MINUTE}
    told = 0
    for number in range(2, 2 * REFUSALS_PER_MINUTE):
        door.take(seal(command(number, **late), KEY))
        if number % 20 == 0:  # the intake keeps few waiting
            _until(lambda number=number: sum(door.intake.counts.values()) == number - 1)
    _until(lambda: sum(door.intake.counts.values()) == 2 * REFUSALS_PER_MINUTE - 2)
    while not door.put.empty():
        assert door.put.get().reason is Reason.COMMAND_EXPIRED
        told += 1
    assert told == REFUSALS_PER_MINUTE
    assert isinstance(door.give(command(1)), CommandAccepted)


def _until(holds: Any) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_flood_never_makes_the_caller_wait(tmp_path: Path) -> None:
    """While the intake is held up by its disk, what does not fit is dropped and counted."""
    door = Door(tmp_path / "commands", _Held())
    held = door.files
    assert isinstance(held, _Held)
    held.hold()
    for number in range(1, WAITING_COMMANDS + 20):
        door.take(seal(command(number), KEY))
    assert door.intake.counts["dropped"] >= 18
    held.let_go()
    assert isinstance(door.next(), CommandAccepted)
    door.intake.stop()


class _Held(StateFiles):
    """A disk that can be made to hang."""

    def __init__(self) -> None:
        self._free = threading.Event()
        self._free.set()

    def hold(self) -> None:
        self._free.clear()

    def let_go(self) -> None:
        self._free.set()

    def sync(self, fd: int) -> None:
        assert self._free.wait(DEADLINE_S)
        super().sync(fd)


# ---- clocks


def test_an_untrusted_clock_takes_no_command(door: Door) -> None:
    """A board at 1970 refuses by that name, and the command stays used when the clock is right again."""
    door.at = datetime(1970, 1, 1, tzinfo=UTC)
    assert door.reason(command()) is Reason.CLOCK_UNTRUSTED
    door.at = NOON
    assert door.reason(command()) is Reason.COMMAND_REPEATED


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_clock_that_is_set_back_brings_no_command_back(door: Door, *, restarted: bool) -> None:
    """Long after a command was used and its id let go of, its bytes are refused though the clock says it is in time."""
    assert door.reason(command(1)) is None
    door.pass_s(3_600)
    later = {"issued_at": NOON + 60 * MINUTE, "expires_at": NOON + 61 * MINUTE}
    assert door.reason(command(2, **later)) is None
    door.at = NOON + MINUTE
    if restarted:
        door.restart()
    assert door.reason(command(1)) is Reason.COMMAND_EXPIRED


def test_one_that_came_late_stays_refused_when_the_clock_is_set_back(door: Door) -> None:
    """What was judged is judged for good."""
    door.pass_s(600)
    assert door.reason(command()) is Reason.COMMAND_EXPIRED
    door.at = NOON
    assert door.reason(command()) is Reason.COMMAND_REPEATED


def test_a_retained_one_is_used_up(door: Door) -> None:
    """The same command has one verdict, also when it comes again over the wire."""
    assert door.reason(command(), retained=True) is Reason.COMMAND_RETAINED
    assert door.reason(command()) is Reason.COMMAND_REPEATED


def test_one_for_another_controller_is_nothing_to_this_one(door: Door) -> None:
    """It is refused and not remembered: its id is the other controller's matter."""
    elsewhere = command(controller_id=ControllerId("gate-2"))
    assert door.give(elsewhere) == CommandRefused(
        reason=Reason.COMMAND_OTHER_CONTROLLER, command_id=elsewhere.command_id
    )
    assert door.reason(command()) is None


# ---- restarts, disks


def test_a_restart_forgets_nothing(door: Door) -> None:
    """A used command is refused by the next process too, and a fresh one taken."""
    assert door.reason(command(1)) is None
    door.restart()
    assert door.reason(command(1)) is Reason.COMMAND_REPEATED
    assert door.reason(command(2)) is None


@pytest.mark.parametrize("survives", Survives)
def test_power_cut_at_every_write(tmp_path: Path, survives: Survives) -> None:
    """Wherever the power goes while a command is made single-use: it was not accepted yet, or is never taken again."""
    root = tmp_path / "root"
    root.mkdir()
    _used(root, StateFiles())
    seed, operations = tmp_path / "seed", _operations(root, tmp_path / "counted")
    _copy(root, seed)
    for cut_at in range(operations + 1):
        disk = tmp_path / f"disk-{cut_at}"
        _copy(seed, disk)
        files = PowerCutFiles(disk, cut_at)
        accepted = False
        with contextlib.suppress(PowerCut):
            _used(disk, files).use(command(), _now())
            accepted = True
        after = tmp_path / f"after-{cut_at}"
        files.image(after, survives)
        used = _used(after, StateFiles())
        assert not used.lost
        assert not accepted or used.was_used(command().command_id)


def _used(root: Path, files: StateFiles) -> UsedCommands:
    return UsedCommands(root / "commands", now=_now(), files=files)


def _now() -> Any:
    return Clock(NOON, wall=lambda: NOON, monotonic_s=lambda: 1_000.0).now()


def _copy(source: Path, target: Path) -> None:
    PowerCutFiles(source).image(target, Survives.EVERYTHING)


def _operations(root: Path, counted: Path) -> int:
    _copy(root, counted)
    files = PowerCutFiles(counted)
    _used(counted, files).use(command(), _now())
    return files.operations


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_takes_no_command(tmp_path: Path, failure: int) -> None:
    """What cannot be made single-use is refused, again too, and a later command is taken when the disk is back."""
    files = FailingFiles()
    door = Door(tmp_path / "commands", files)
    files.failure = failure
    assert door.reason(command(1)) is Reason.INTERNAL_FAULT
    assert door.reason(lockdown(2)) is Reason.INTERNAL_FAULT
    files.failure = None
    assert door.reason(command(1)) is Reason.COMMAND_REPEATED
    assert door.reason(command(3)) is None
    door.intake.stop()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _flip, _empty, Path.unlink])
def test_unreadable_ids_refuse_commands_until_none_can_be_used_again(door: Door, damage: Any) -> None:
    """Never an empty set: nothing is taken for a command's whole life, restarts included; then all is well again."""
    assert door.reason(command(1)) is None
    door.intake.stop()
    damage(door.directory / "used")
    door.start()
    assert door.next() == PartFailed(part="used_commands", error="unreadable")
    assert door.reason(command(1)) is Reason.INTERNAL_FAULT
    door.pass_s(LONGEST_LIFE_S - 60)
    fresh = {"issued_at": door.at, "expires_at": door.at + 5 * MINUTE}
    assert door.reason(command(2, **fresh)) is Reason.INTERNAL_FAULT
    door.restart()
    assert door.next() == PartFailed(part="used_commands", error="unreadable")
    door.pass_s(LONGEST_LIFE_S + 1)
    fresh = {"issued_at": door.at, "expires_at": door.at + 5 * MINUTE}
    assert door.reason(command(3, **fresh)) is None
    door.at = NOON
    assert door.reason(command(1)) is Reason.COMMAND_EXPIRED
    door.restart()
    assert door.reason(command(1)) is Reason.COMMAND_EXPIRED


@pytest.mark.parametrize("failure", [errno.EROFS, errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_at_the_start_keeps_no_door_from_working(tmp_path: Path, failure: int) -> None:
    """Where nothing can be kept from the start on, commands are refused by name and there are no orders."""
    door = Door(tmp_path / "commands", FailingFiles(failure=failure))
    assert door.next() == PartFailed(part="used_commands", error="unreadable")
    assert door.orders == {}
    assert door.reason(command()) is Reason.INTERNAL_FAULT
    door.pass_s(LONGEST_LIFE_S + 1)
    fresh = {"issued_at": door.at, "expires_at": door.at + MINUTE}
    assert door.reason(command(2, **fresh)) is Reason.INTERNAL_FAULT
    assert isinstance(door.files, FailingFiles)
    door.files.failure = None
    assert door.reason(command(3, **fresh)) is None
    door.intake.stop()


def test_an_order_that_cannot_be_read_locks_down(door: Door) -> None:
    """A bad sector under an order is no reason to forget it."""
    assert door.reason(replace(lockdown(1), mode=DoorMode.UNLOCKED)) is None
    door.intake.stop()
    order = door.directory / "front.order"
    order.unlink()
    order.mkdir()  # reading it is an error of the disk
    door.start()
    assert door.next() == PartFailed(part="orders", error="unreadable")
    assert door.orders[FRONT].mode is DoorMode.LOCKDOWN


@given(
    body=st.binary(max_size=200)
    | st.fixed_dictionaries(
        {0: st.sampled_from([0, 1]), 1: st.integers() | st.text(max_size=3)},
        optional={
            2: st.dictionaries(st.binary(max_size=17), st.integers() | st.none(), max_size=3),
            3: st.none(),
        },
    ).map(cbor.encode),
    checked=st.booleans(),
)
def test_any_bytes_are_read_or_lost(
    tmp_path_factory: pytest.TempPathFactory, body: bytes, *, checked: bool
) -> None:
    """Whatever stands in the file, with a right checksum too: it is what was used, or it is lost; never an error."""
    directory = tmp_path_factory.mktemp("used") / "commands"
    directory.mkdir()
    (directory / "used").write_bytes((zlib.crc32(body).to_bytes(4, "big") if checked else b"\0\0\0\1") + body)
    used = UsedCommands(directory, now=_now())
    assert used.lost or checked


def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    """More commands than any operator gives are refused; when their time is over, there is room again."""
    used = UsedCommands(tmp_path / "commands", now=_now(), files=FailingFiles())
    for number in range(MAX_COMMANDS):
        used.use(command(number), _now())
    with pytest.raises(StoreError):
        used.use(command(MAX_COMMANDS), _now())
    later = Clock(NOON, wall=lambda: NOON + 11 * MINUTE, monotonic_s=lambda: 2_000.0).now()
    used.use(command(MAX_COMMANDS, issued_at=NOON + 10 * MINUTE, expires_at=NOON + 15 * MINUTE), later)
    assert not used.was_used(command(1).command_id)
    assert used.was_let_go(command(1).expires_at)


# ---- orders


def test_an_order_stays_until_it_is_cleared(door: Door) -> None:
    """It is there after a restart, is replaced by the next one, and is gone when cleared; the other door has none."""
    order = ModeOrder(mode=DoorMode.LOCKDOWN, command_id=lockdown(1).command_id)
    assert door.reason(lockdown(1)) is None
    door.restart()
    assert door.orders == {FRONT: order}
    attended = lockdown(2, until=NOON + 60 * MINUTE)
    assert door.reason(replace(attended, mode=DoorMode.ATTENDED)) is None
    door.restart()
    assert door.orders == {
        FRONT: ModeOrder(mode=DoorMode.ATTENDED, command_id=attended.command_id, until=NOON + 60 * MINUTE)
    }
    assert door.reason(command(3, action=Action.CLEAR_MODE)) is None
    door.restart()
    assert door.orders == {}


def test_what_is_kept_is_what_the_hub_signed(door: Door) -> None:
    """The order on disk is the command's own bytes."""
    assert door.reason(lockdown()) is None
    assert (door.directory / "front.order").read_bytes() == seal(lockdown(), KEY)


def test_an_order_that_has_ended_is_removed(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its end has passed by a clock that is believed, its file goes; not before, and not by a wrong clock."""
    monkeypatch.setattr("edge.command_intake.ROUND_S", 0.02)
    door.restart()
    order = door.directory / "front.order"
    assert door.reason(lockdown(until=NOON + 60 * MINUTE)) is None
    door.built = door.at + 600 * MINUTE  # from here on the clock is too early to be right
    door.at = NOON + 61 * MINUTE
    door.restart()
    assert door.reason(command(7)) is Reason.CLOCK_UNTRUSTED
    assert order.exists()
    door.built = NOON
    door.restart()
    _until(lambda: not order.exists())


def _other_key(data: bytes) -> bytes:
    del data
    return seal(lockdown(), Ed25519PrivateKey.generate())


def _other_door(data: bytes) -> bytes:
    del data
    return seal(lockdown(door_id=BACK), KEY)


def _other_controller(data: bytes) -> bytes:
    del data
    return seal(lockdown(controller_id=ControllerId("gate-2")), KEY)


def _no_order(data: bytes) -> bytes:
    del data
    return seal(command(), KEY)


def test_a_directory_that_is_gone_refuses_commands(door: Door) -> None:
    """A controller that has been here before does not take what was used for never used."""
    assert door.reason(command()) is None
    shutil.rmtree(door.directory)
    door.first_start = False
    door.restart()
    assert door.next() == PartFailed(part="used_commands", error="unreadable")
    assert door.reason(command()) is Reason.INTERNAL_FAULT


def test_a_clock_that_is_ahead_bars_no_later_command(door: Door) -> None:
    """Ids that are known again bar what the hub can have signed before, not half a year to come."""
    door.first_start, door.issued_at = False, NOON
    shutil.rmtree(door.directory)
    door.restart()
    assert door.next() == PartFailed(part="used_commands", error="unreadable")
    ahead = timedelta(days=200)
    door.at += ahead
    door.monotonic_s += LONGEST_LIFE_S
    later = NOON + ahead
    assert door.reason(command(2, issued_at=later, expires_at=later + MINUTE)) is None
    door.at = NOON + timedelta(days=1)
    assert door.reason(command(3, issued_at=door.at, expires_at=door.at + MINUTE)) is None
    assert door.reason(command(4)) is Reason.COMMAND_EXPIRED


class _NamesFail(StateFiles):
    """Everything works, but names are never made durable while it is ``bad``."""

    bad = False

    def sync_directory(self, path: Path) -> None:
        if self.bad:
            raise OSError(errno.EIO, "input/output error")
        super().sync_directory(path)


@pytest.mark.parametrize(
    ("before", "refused"),
    [
        (None, command(2, action=Action.SET_MODE, mode=DoorMode.UNLOCKED)),
        (lockdown(), command(2, action=Action.SET_MODE, mode=DoorMode.UNLOCKED)),
        (lockdown(), command(2, action=Action.CLEAR_MODE)),
    ],
)
def test_an_order_that_was_refused_is_not_there_at_the_next_start(
    tmp_path: Path, before: Command | None, refused: Command
) -> None:
    """A change that the disk shows and did not keep for certain is taken back: the hub was told that it failed."""
    files = _NamesFail()
    OrderStore(tmp_path, RECEIVER)
    store = OrderStore(tmp_path, RECEIVER, files=files)
    if before:
        store.apply(before, seal(before, KEY))
    held = store.orders
    files.bad = True
    with pytest.raises(StoreError):
        store.apply(refused, seal(refused, KEY))
    assert store.orders == held
    assert OrderStore(tmp_path, RECEIVER).orders == held


def test_a_fault_of_our_own_does_not_end_the_thread(door: Door, mocker: MockerFixture) -> None:
    """A command that cannot even be judged is alarmed about, and the next one is taken."""
    broken = mocker.patch("edge.command_intake.open_command", side_effect=RuntimeError)
    assert door.give(command()) == PartFailed(part="commands", error="RuntimeError")
    mocker.stop(broken)
    assert door.reason(command()) is None


@pytest.mark.parametrize(
    "alter",
    [
        lambda data: data[:-1],
        lambda data: data[:-1] + b"\x00",
        lambda _: b"",
        lambda _: bytes(5_000),
        _other_key,
        _other_door,
        _other_controller,
        _no_order,
    ],
    ids=["cut", "signature", "empty", "long", "key", "door", "controller", "no order"],
)
def test_an_order_that_is_not_the_hubs_locks_down(door: Door, alter: Any) -> None:
    """It may have been a lockdown: the door is held to one, over restarts, until it is ordered otherwise."""
    assert door.reason(replace(lockdown(1), mode=DoorMode.UNLOCKED)) is None
    door.intake.stop()
    order = door.directory / "front.order"
    order.write_bytes(alter(order.read_bytes()))
    for _ in range(2):
        door.start()
        assert door.next() == PartFailed(part="orders", error="unreadable")
        assert door.orders == {FRONT: ModeOrder(mode=DoorMode.LOCKDOWN, command_id=bytes(ID_BYTES))}
        door.intake.stop()
    door.start()
    assert door.next() == PartFailed(part="orders", error="unreadable")
    assert door.reason(command(2, action=Action.CLEAR_MODE)) is None
    door.restart()
    assert door.orders == {}
    assert door.put.empty()
