"""What a process leaves behind, whatever ends it: its strike, its journal, its exit status, what the manager heard."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from gpiozero import OutputDevice
from gpiozero.pins.mock import MockFactory

from edge import run_command, safe_pins
from edge.__main__ import main
from edge.journal import Journal
from edge.status_socket import StatusServer
from tests.edge.installed import install
from tests.edge.small_site import CONTROLLER

pytestmark = pytest.mark.slow

WITHIN_S = 60.0

# Presses the button, waits for the strike to release, and then meets with what its argument says.
PROGRAM = """
import functools, os, sys, threading, time
from pathlib import Path
from edge import wiring
from edge.config_file import load
from edge.ending import Ending
from edge.journal import Journal
from edge.state_files import StateFiles
from simulator.virtual_door import VirtualPins

config, how = load(Path(sys.argv[1])), sys.argv[2]
door = config.doors[0]
released = threading.Event()

def level(pin, high, _):
    if pin == door.strike_pin:
        os.write(1, b"strike %d\\n" % high)
        if high:
            released.set()

def hang(*_, **__):
    os.write(1, b"hangs\\n")
    threading.Event().wait()

def fail(*_, **__):
    raise ZeroDivisionError

pins = VirtualPins(level)
wiring.Ending = functools.partial(Ending, lock_after_s=0.2, end_after_s=1.0)

def leave():
    while not released.wait(0.1):
        pins.pin(door.rex_pin).drive_high()
        time.sleep(0.1)
        pins.pin(door.rex_pin).drive_low()
    if how == "disk hangs":
        StateFiles.sync = hang
    elif how == "state thread hangs":
        Journal.append = hang
        pins.pin(door.rex_pin).drive_high()
        return
    elif how == "exception":
        wiring.Reporter.turn = fail
        wiring.Service._handle = fail
    elif how == "exit":
        os._exit(7)
    os.write(1, b"met\\n")

threading.Thread(target=leave, daemon=True).start()
wiring.run_controller(config, factory=pins)
"""


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A controller's directory; its reader is not plugged in and its hub is not there."""
    directory = tmp_path_factory.mktemp("installed")
    install(directory)
    return directory / "controller"


@pytest.fixture
def config(provisioned: Path, tmp_path: Path) -> Path:
    """That controller's configuration, with a state of its own."""
    shutil.copytree(provisioned, tmp_path / "controller")
    return tmp_path / "controller" / "controller.toml"


class Process:
    """The program above, and what it said."""

    def __init__(self, config: Path, how: str) -> None:
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(config), how],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, word: str) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.append(line.strip())
            if line.strip() == word:
                return
        assert self.process.stderr
        pytest.fail(f"ended without {word!r}: {self.said} {self.process.stderr.read()[-2000:]}")

    def end(self) -> int:
        """Wait for it; everything it said is there then."""
        out, self.errors = self.process.communicate(timeout=WITHIN_S)
        self.said += out.split("\n")
        return self.process.returncode

    @property
    def strike(self) -> str:
        """Its last level: 0 locks this strike."""
        return [line for line in self.said if line.startswith("strike")][-1]


@contextlib.contextmanager
def running(config: Path, how: str, until: str = "met") -> Iterator[Process]:
    process = Process(config, how)
    try:
        process.wait_for(until)
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
        process.process.communicate()


def is_clean(config: Path) -> bool:
    journal = Journal(config.parent / "state" / "journal", controller_id=CONTROLLER)
    try:
        return not journal.opening.unclean
    finally:
        journal.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_locks_and_ends_in_order(config: Path, number: signal.Signals) -> None:
    """In the middle of a release; a second signal on the way changes nothing."""
    with running(config, "nothing") as process:
        process.process.send_signal(number)
        process.process.send_signal(number)
        status = process.end()
    assert (status, process.strike, is_clean(config)) == (0, "strike 0", True)


def test_a_disk_that_hangs_keeps_the_process_for_a_bounded_time(config: Path) -> None:
    """The strike is locked, the process ends with status 1 and says what it waited for."""
    with running(config, "disk hangs") as process:
        process.process.terminate()
        status = process.end()
    assert (status, process.strike) == (1, "strike 0")
    assert "durability" in process.errors


def test_a_state_thread_that_hangs_leaves_the_strikes_locked(config: Path) -> None:
    """Nobody takes the signal off the queue: another thread locks, and ends the process."""
    with running(config, "state thread hangs", until="hangs") as process:
        process.process.terminate()
        status = process.end()
    assert (status, process.strike) == (1, "strike 0")


def test_an_exception_locks_on_its_way_out(config: Path) -> None:
    """A fault of our own that nothing caught ends the process, with the strike locked before it."""
    with running(config, "exception") as process:
        status = process.end()
    assert (status, process.strike) == (1, "strike 0")
    assert "ZeroDivisionError" in process.errors


@pytest.mark.parametrize("how", ["kill", "exit"])
def test_an_end_that_runs_nothing_leaves_the_pin_and_safe_pins_takes_the_current(
    config: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL and ``os._exit``: the pin keeps its level, which is why ``safe-pins`` follows every end."""
    with running(config, how, until="strike 1") as process:
        if how == "kill":
            process.process.kill()
        status = process.end()
    assert (status, process.strike) == (7 if how == "exit" else -signal.SIGKILL, "strike 1")
    assert not is_clean(config)
    pins: Any = MockFactory()
    pin = pins.pin(17)
    pin.function, pin.state = "output", True
    monkeypatch.setattr(safe_pins, "open_pins", lambda *_: pins)
    result = CliRunner().invoke(main, ["safe-pins", "--config", str(config)])
    assert (result.exit_code, result.stdout) == (0, "without current: pin 17\n")
    assert [state.state for state in pin.states][-1] is False


def test_safe_pins_needs_nothing_but_the_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is tried, in a file that is otherwise wrong; the one that cannot be driven is named."""
    path = tmp_path / "controller.toml"
    path.write_text('state_dir = 3\n[[door]]\nstrike_pin = 17\n[[door]]\nstrike_pin = 4\nid = "<door>"\n')
    pins: Any = MockFactory()
    taken = OutputDevice(17, pin_factory=pins)
    monkeypatch.setattr(safe_pins, "open_pins", lambda *_: pins)
    result = CliRunner().invoke(main, ["safe-pins", "--config", str(path)])
    taken.close()
    assert (result.exit_code, "pin 17" in result.stderr, "pin 4:" in result.stderr) == (1, True, False)
    assert [state.state for state in pins.pin(4).states][-1] is False


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ("strike_pin = 99", "[[door]] 2"),
        ('strike_pin = "4"', "[[door]] 2"),
        ("strike_pin = true", "[[door]] 2"),
        ('id = "back"', "[[door]] 2"),
    ],
)
def test_safe_pins_names_a_door_whose_pin_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, named: str
) -> None:
    """The other doors are locked, and the command does not say that every strike is."""
    path = tmp_path / "controller.toml"
    path.write_text(f"[[door]]\nstrike_pin = 17\n[[door]]\n{broken}\n[[door]]\nstrike_pin = 5\n")
    pins: Any = MockFactory()
    monkeypatch.setattr(safe_pins, "open_pins", lambda *_: pins)
    result = CliRunner().invoke(main, ["safe-pins", "--config", str(path)])
    assert (result.exit_code, named in result.stderr, result.stderr.count("[[door]]")) == (1, True, 1)
    for pin in (17, 5):
        assert [state.state for state in pins.pin(pin).states][-1] is False


def test_safe_pins_does_not_touch_the_strikes_of_a_running_controller(config: Path) -> None:
    """And says so."""
    (config.parent / "state").mkdir(mode=0o700, exist_ok=True)
    server = StatusServer(config.parent / "state")
    server.start()
    try:
        result = CliRunner().invoke(main, ["safe-pins", "--config", str(config)])
    finally:
        server.stop()
    assert (result.exit_code, "stop it first" in result.stderr) == (1, True)


def test_safe_pins_says_when_there_is_no_strike(tmp_path: Path) -> None:
    """An empty file is not one whose strikes are without current."""
    path = tmp_path / "controller.toml"
    path.write_text("")
    result = CliRunner().invoke(main, ["safe-pins", "--config", str(path)])
    assert (result.exit_code, "strike_pin" in result.stderr) == (1, True)


# ---- as the service manager sees it


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """Its socket, and the environment it gives."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(path))
        told.settimeout(WITHIN_S)
        yield told, {**os.environ, "NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "10000000"}


@contextlib.contextmanager
def service(config: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "edge", "run", "--allow-root", "--config", str(config)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def hear(told: socket.socket, word: str) -> list[str]:
    """Everything up to the message that begins with this."""
    heard: list[str] = []
    while not heard or not heard[-1].startswith(word):
        heard.append(told.recv(4096).decode())
    return heard


def test_the_manager_hears_ready_then_how_it_goes_then_the_end(
    config: Path, manager: tuple[socket.socket, dict[str, str]]
) -> None:
    """Fed before and after a line on how it stands, also while its reader is not there."""
    told, environment = manager
    with service(config, environment) as process:
        before = hear(told, "READY=1")
        assert all(message.startswith("STATUS=") for message in before[:-1])
        heard = hear(told, "STATUS=") + hear(told, "WATCHDOG=1")
        assert any(message.startswith("STATUS=front secured; ") for message in heard)
        process.terminate()
        assert hear(told, "STOPPING=1")[-1] == "STOPPING=1\nSTATUS=stopping"
        assert process.wait(WITHIN_S) == 0


def test_the_watchdogs_signal_leaves_in_the_log_where_every_thread_stood(
    config: Path, manager: tuple[socket.socket, dict[str, str]]
) -> None:
    """SIGABRT is what the manager sends to a service that hangs."""
    told, environment = manager
    with service(config, environment) as process:
        hear(told, "WATCHDOG=1")
        process.send_signal(signal.SIGABRT)
        _, errors = process.communicate(timeout=WITHIN_S)
    assert process.returncode == -signal.SIGABRT
    assert errors.count('File "') > 5
    assert "service.py" in errors


def test_a_state_thread_that_hangs_is_not_fed_for(
    config: Path, manager: tuple[socket.socket, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a write that does not return: the manager hears nothing more, and restarts the service in its time."""
    told, environment = manager
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC"):
        monkeypatch.setenv(name, environment[name])
    with running(config, "state thread hangs", until="hangs"):
        assert any(message == "WATCHDOG=1" for message in drain(told))
        told.settimeout(3.0)  # three times as long as between two turns
        with pytest.raises(TimeoutError):
            told.recv(4096)


def drain(told: socket.socket) -> list[str]:
    """What was sent by now."""
    heard = []
    told.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            heard.append(told.recv(4096).decode())
    return heard


@pytest.mark.parametrize(
    ("uid", "arguments", "refused"), [(0, [], True), (0, ["--allow-root"], False), (1000, [], False)]
)
def test_root_is_refused_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uid: int, arguments: list[str], refused: bool
) -> None:
    """Before anything is read; what to do is said."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(run_command, "run_controller", lambda _: None)
    monkeypatch.setattr(run_command, "load", lambda path: path)
    monkeypatch.setattr(faulthandler, "enable", lambda: None)
    result = CliRunner().invoke(main, ["run", "--config", str(tmp_path / "c.toml"), *arguments])
    assert (result.exit_code, "not as root" in result.stderr) == (int(refused), refused)


# ---- the start

STARTED = """
import os, signal, sys
from pathlib import Path
import edge.__main__, edge.run_command
from edge.config_file import load
from edge.wiring import run_controller

def ready():
    print(*sys.modules, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

run_controller(load(Path(sys.argv[1])), on_ready=ready)
"""

NOT_BEFORE_THE_FIRST_TAP = {
    "fastapi",
    "starlette",
    "pydantic",
    "sqlalchemy",
    "uvicorn",
    "paho",
    "asyncio",
    "ssl",
    "http",
    "xml",
    "sqlite3",
    "unittest",
    "multiprocessing",
    "concurrent",
    "rich",
    "pytest",
    "cryptography.x509",
    "logging.config",
    "logging.handlers",
    "click.shell_completion",
    "click.testing",
    "edge.uplink",
    "edge.hub_connection",
    "edge.doctor",
    "edge.status",
    "edge.read_stdio",
    "edge.check_config",
    "edge.safe_pins",
    "edge.nfc.pcsc",
    "smartcard",
}


def test_nothing_is_imported_that_the_first_tap_does_not_need(config: Path) -> None:
    """When the controller is ready: no MQTT, no TLS, no X.509, no other command."""
    started = subprocess.run(
        [sys.executable, "-c", STARTED, str(config)],
        capture_output=True,
        text=True,
        check=True,
        timeout=WITHIN_S,
    )
    loaded = set(started.stdout.split())
    assert {"edge.service", "edge.nfc.pn532", "gpiozero", "nfc"} <= loaded
    assert {name for name in NOT_BEFORE_THE_FIRST_TAP if name in loaded} == set()
