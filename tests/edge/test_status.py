"""A running controller says how it stands, to whoever may ask, and is never kept waiting by them."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge.__main__ import main
from edge.config import ConfigError, Pins
from edge.config_outline import ConfigOutline
from edge.snapshot import (
    CertificateSnapshot,
    ControllerSnapshot,
    DocumentSnapshot,
    DoorSnapshot,
    JournalSnapshot,
    LinkSnapshot,
    ReaderSnapshot,
    WatchdogSnapshot,
)
from edge.status import as_text, duration
from edge.status_socket import NAME, NotRunning, StatusServer, ask
from pacs.errors import StoreError

AT = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
READER = ReaderSnapshot(
    door="front",
    side="entry",
    device="/dev/reader",
    state="ok",
    state_s=90.0,
    cause=None,
    firmware="PN532 v1.6",
    baud=921_600,
    last_card_s=12.0,
    reads=7,
    faults={"card_gone": 2},
    losses=0,
    resets=0,
)
SNAPSHOT = ControllerSnapshot(
    controller="c1",
    site="site",
    software="drempel 1",
    at=AT,
    taken_s=100.0,
    uptime_s=90.0,
    clock_trusted=True,
    policy=DocumentSnapshot(version=7, issued_at=AT - timedelta(hours=2), expires_at=AT + timedelta(days=1)),
    revocations=None,
    journal=JournalSnapshot(journal_id="j", last_sequence=12, acknowledged=9, waiting=3),
    link=LinkSnapshot(state="waiting", failures=4, retry_in_s=7.5, cause="unreachable", words="check cable"),
    certificate=CertificateSnapshot(
        serial="2a", ends_at=AT + timedelta(days=40), renews_at=AT + timedelta(days=10)
    ),
    watchdog=WatchdogSnapshot(interval_s=10.0, fed_s_ago=0.4),
    doors=(DoorSnapshot(door="front", mode="secured", cause="policy", contact="closed", strike="locked"),),
    readers=(READER,),
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StatusServer]:
    server = StatusServer(tmp_path, monotonic_s=lambda: 100.5, patience_s=0.2)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """All that is needed to find a controller: where its state is."""
    path = tmp_path / "controller.toml"
    path.write_text('[controller]\nstate_dir = "."\n')
    return path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, arguments)


def test_the_json_form_keeps_its_shape(server: StatusServer, config: Path) -> None:
    """Every key of docs/status.md, with its type; one line, exit status 0."""
    server.publish(SNAPSHOT)
    result = run("status", "--config", str(config), "--format", "json")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert json.loads(result.stdout) == {
        "format": 1,
        "controller": "c1",
        "site": "site",
        "software": "drempel 1",
        "age_s": 0.5,
        "uptime_s": 90.5,
        "clock": {"at": "2026-11-22T03:00:00+00:00", "trusted": True, "distrust": None},
        "policy": {
            "version": 7,
            "issued_at": "2026-11-22T01:00:00+00:00",
            "expires_at": "2026-11-23T03:00:00+00:00",
            "age_s": 7200,
        },
        "revocations": None,
        "journal": {"journal_id": "j", "last_sequence": 12, "acknowledged": 9, "waiting": 3},
        "link": {
            "state": "waiting",
            "answered": False,
            "failures": 4,
            "retry_in_s": 7.5,
            "cause": "unreachable",
            "words": "check cable",
        },
        "certificate": {
            "serial": "2a",
            "ends_at": "2027-01-01T03:00:00+00:00",
            "left_s": 40 * 86_400,
            "renews_at": "2026-12-02T03:00:00+00:00",
            "renews_in_s": 10 * 86_400,
        },
        "watchdog": {"interval_s": 10.0, "fed_s_ago": 0.4, "stalled": []},
        "doors": [
            {
                "door": "front",
                "mode": "secured",
                "cause": "policy",
                "by": "",
                "until": None,
                "contact": "closed",
                "strike": "locked",
                "alarms": [],
                "waiting": 0,
                "attendance": "hub",
            }
        ],
        "readers": [
            {
                "door": "front",
                "side": "entry",
                "device": "/dev/reader",
                "state": "ok",
                "state_s": 90.0,
                "cause": None,
                "advice": None,
                "firmware": "PN532 v1.6",
                "baud": 921_600,
                "last_card_s": 12.0,
                "reads": 7,
                "faults": {"card_gone": 2},
                "losses": 0,
                "resets": 0,
            }
        ],
    }


def test_every_key_is_described() -> None:
    """docs/status.md names each key of the document, also those inside."""
    described = (Path(__file__).resolve().parents[2] / "docs" / "status.md").read_text(encoding="utf-8")
    document = SNAPSHOT.document(100.0)
    keys = set(document)
    for value in document.values():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                keys |= set(inner)
    assert {key for key in keys if f"`{key}`" not in described} == set()


def test_the_text_form_says_everything_in_lines(server: StatusServer, config: Path) -> None:
    """For a person: a name and a sentence for each thing."""
    server.publish(SNAPSHOT)
    result = run("status", "--config", str(config))
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if "running for" not in line)
    assert lines["door"] == "front: secured (policy), strike locked, contact closed"
    assert lines["reader"] == "front/entry: ok for 1 min 30 s, PN532 v1.6"
    assert lines["policy"].startswith("version 7, 2 h old")
    assert lines["revocations"].startswith("none")
    assert lines["journal"].startswith("3 events wait")
    assert lines["hub"] == "waiting, again in 8 s: check cable"


@pytest.mark.parametrize(
    ("left_days", "says"),
    [
        (40, "40 d left, ends 2027-01-01T03:00:00+00:00; renews itself from 2026-12-02"),
        (29.5, "29 d 12 h left, ends 2026-12-21T15:00:00+00:00; renews itself from"),
        (28, "28 d left, ends 2026-12-20T03:00:00+00:00; renewal OVERDUE since 2026-11-20"),
        (0, "ENDED at 2026-11-22T03:00:00+00:00: drempel-provision reader re-enrol"),
        (None, "not known"),
    ],
)
def test_what_is_left_of_the_certificate(left_days: float | None, says: str) -> None:
    """Until it renews itself; that it should have; that it has ended, and what to do."""
    ends = None if left_days is None else AT + timedelta(days=left_days)
    certificate = (
        CertificateSnapshot(serial="2a", ends_at=ends, renews_at=ends - timedelta(days=30)) if ends else None
    )
    text = as_text(replace(SNAPSHOT, certificate=certificate).document(100.0))
    assert dict(line.split(maxsplit=1) for line in text.splitlines())["certificate"].startswith(says)


def test_what_is_wrong_stands_in_the_line_for_the_manager() -> None:
    """Systemctl status shows one line: doors, hub, policy, journal, and each fault."""
    assert SNAPSHOT.line() == "front secured; hub waiting; policy 7; 3 events waiting"
    troubled = replace(
        SNAPSHOT,
        policy=None,
        clock_trusted=False,
        clock_distrust="before_build",
        readers=(replace(READER, state="lost"),),
        watchdog=replace(SNAPSHOT.watchdog, stalled=("reader front/entry",)),
    )
    line = troubled.line()
    for words in (
        "no policy",
        "reader lost: front/entry",
        "clock not trusted: before_build",
        "not coming round: reader front/entry",
    ):
        assert words in line
    text = as_text(json.loads(json.dumps(troubled.document(100.0))))
    assert "NOT trusted" in text
    assert "NOT coming round: reader front/entry" in text


def test_a_controller_that_has_not_turned_yet_is_starting(server: StatusServer, config: Path) -> None:
    """It answers before there is anything to tell."""
    assert ask(config.parent) == {"format": 1, "starting": True}
    assert "starting" in run("status", "--config", str(config)).stdout


def test_only_its_own_user_may_ask(server: StatusServer, tmp_path: Path) -> None:
    """The socket has mode 0600."""
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize("left_behind", [False, True])
def test_no_controller_is_exit_status_3(config: Path, left_behind: bool) -> None:
    """Nothing there, or the socket of one that was killed."""
    if left_behind:
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(config.parent / NAME))
    result = run("status", "--config", str(config))
    assert (result.exit_code, "no controller is running" in result.stderr) == (3, True)


def test_the_socket_of_one_that_was_killed_is_taken_over(config: Path) -> None:
    """Whoever holds the state directory answers there."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(config.parent / NAME))
    server = StatusServer(config.parent)
    server.start()
    try:
        assert ask(config.parent)["starting"]
    finally:
        server.stop()
    assert not (config.parent / NAME).exists()
    with pytest.raises(NotRunning):
        ask(config.parent)


def test_a_path_of_any_length_will_do(tmp_path: Path) -> None:
    """A socket's address holds 107 bytes, a state directory's path may be longer."""
    state_dir = tmp_path / ("a" * 100) / ("b" * 100)
    state_dir.mkdir(parents=True)
    server = StatusServer(state_dir)
    server.start()
    try:
        assert ask(state_dir)["format"] == 1
    finally:
        server.stop()


def test_whoever_does_not_read_keeps_the_next_waiting_for_a_moment_only(
    server: StatusServer, tmp_path: Path
) -> None:
    """An answer too large for a socket's buffer is given up on; publishing never waits, and others are answered."""
    doors = SNAPSHOT.doors * 8_000
    server.publish(replace(SNAPSHOT, doors=doors))
    with socket.socket(socket.AF_UNIX) as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        idle.connect(str(tmp_path / NAME))
        server.publish(SNAPSHOT)
        assert ask(tmp_path, patience_s=10.0)["controller"] == "c1"


def test_many_callers_at_once_are_all_answered(server: StatusServer, tmp_path: Path) -> None:
    """One after the other."""
    server.publish(SNAPSHOT)
    answers: list[Any] = []
    callers = [
        threading.Thread(target=lambda: answers.append(ask(tmp_path, patience_s=20))) for _ in range(12)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert [answer["controller"] for answer in answers] == ["c1"] * 12


def test_a_state_directory_that_takes_no_socket_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The doors work; only nobody can ask."""
    server = StatusServer(tmp_path / "absent")
    server.start()
    server.publish(SNAPSHOT)
    server.stop()
    assert "will not answer" in caplog.text


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (None, "does not answer"),
        (b"", "no JSON"),
        (b"hello\n", "no JSON"),
        (b"[1]\n", "another version"),
        (b'{"format": 2}\n', "another version"),
        (b"9" * 300_000, "no JSON"),
    ],
)
def test_an_answer_that_is_none_is_exit_status_1(config: Path, said: bytes | None, words: str) -> None:
    """Silence, nonsense, endless nonsense: said in a line, within a bounded time."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(config.parent / NAME))
        other.listen()

        def answer() -> None:
            caller, _ = other.accept()
            with caller:
                if said is None:
                    caller.recv(1)
                else:
                    with suppress(OSError):  # who asked has heard enough
                        caller.sendall(said)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        began_s = time.monotonic()
        with pytest.raises(StoreError, match=words):
            ask(config.parent, patience_s=0.5)
        assert time.monotonic() - began_s < 60
        thread.join(10)


def test_a_configuration_without_a_state_directory_is_exit_status_1(tmp_path: Path) -> None:
    """The rest of the file may be wrong; this has to be there."""
    path = tmp_path / "controller.toml"
    path.write_text("[controller]\n")
    result = run("status", "--config", str(path))
    assert (result.exit_code, "state_dir is missing" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("text", "pins", "pinless"),
    [
        ("", (), ()),
        ("door = 1", (), (1,)),
        ("[[door]]\nstrike_pin = 17\n[[door]]\nstrike_pin = 4", (17, 4), ()),
        ("[[door]]\nstrike_pin = 99\n[[door]]\nstrike_pin = true\n[[door]]\nstrike_pin = 5", (5,), (1, 2)),
        ('controller = 3\n[[door]]\nid = "CHANGE-ME"\nstrike_pin = 17\nunknown = 1', (17,), ()),
    ],
)
def test_an_outline_is_read_from_a_file_that_is_otherwise_wrong(
    tmp_path: Path, text: str, pins: tuple[int, ...], pinless: tuple[int, ...]
) -> None:
    """A door whose pin cannot be told is named; it is the real pins unless the file says otherwise."""
    path = tmp_path / "controller.toml"
    path.write_text(text)
    outline = ConfigOutline.read(path)
    assert (outline.strike_pins, outline.pinless) == (pins, pinless)
    assert (outline.pins, outline.state_dir) == (Pins.LGPIO, None)


@pytest.mark.parametrize("text", [b"[", b"\xff\xfe", b"a = " + b"[" * 5_000])
def test_what_is_no_toml_is_said_so(tmp_path: Path, text: bytes) -> None:
    """Also when it is no text, and when it is nested without end."""
    path = tmp_path / "controller.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match="TOML"):
        ConfigOutline.read(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        ConfigOutline.read(tmp_path / "absent")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (-3, "0 s"), (59.6, "1 min"), (3_661, "1 h 1 min"), (90_000, "1 d 1 h"), (86_400, "1 d")],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    """Nobody needs the seconds of a week."""
    assert duration(seconds) == text


def test_another_user_is_told_who_may_ask(server: StatusServer, tmp_path: Path) -> None:
    """Not that nothing runs. Root may everything, so a child gives that up first."""
    if os.geteuid() != 0:
        pytest.skip("NOT CHECKED: only root can become another user")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.seteuid(65_534)
            ask(tmp_path)
        except StoreError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    said = os.read(reader, 4_096).decode()
    os.close(reader)
    os.waitpid(child, 0)
    assert "not for this user" in said
