"""The unit file: what systemd itself says about it, and what the program relies on."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge import ending, watchdog
from edge.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "firmware_config" / "drempel-edge.service"
README = ROOT / "firmware_config" / "README.md"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="NOT CHECKED: no systemd-analyze here, so nobody has verified drempel-edge.service",
)


def unit() -> dict[str, dict[str, list[str]]]:
    """Every assignment, by section and key, in order."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if re.fullmatch(r"\[\w+\]", line):
            section = line[1:-1]
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(section, {}).setdefault(key, []).append(value)
    return found


def service(key: str) -> str:
    return unit()["Service"][key][-1]


def analyse(*arguments: str) -> str:
    result = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@needs_systemd
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """No key is unknown, no value is ignored; the program's path is replaced by one that is there."""
    copy = tmp_path / "drempel-edge.service"
    text = UNIT.read_text(encoding="utf-8").replace("/opt/drempel/.venv/bin/drempel-edge", "/bin/true")
    copy.write_text(text, encoding="utf-8")
    assert analyse("verify", "--man=no", str(copy)).strip() == ""


@needs_systemd
def test_the_readme_states_how_exposed_the_service_is() -> None:
    """The score of systemd-analyze security is the one that is written down, or a better one."""
    told = re.search(r"exposure level: (\d+\.\d) \(systemd (\d+)\)", README.read_text(encoding="utf-8"))
    found = re.search(r"level for \S+: (\d+\.\d)", analyse("security", "--offline=true", str(UNIT)))
    assert told
    assert found
    assert float(found[1]) <= float(told[1])


def test_the_watchdog_and_the_stop_leave_the_program_its_time() -> None:
    """The manager is more patient than the longest turn of a broken reader and than the end of the process."""
    assert service("Type") == "notify"
    assert float(service("WatchdogSec")) >= watchdog.HANGS_AFTER_S + 2
    assert float(service("TimeoutStopSec")) > ending.END_AFTER_S
    assert ending.PARTS_S < ending.END_AFTER_S


def test_what_was_restarted_for_is_remembered_over_a_restart_and_no_longer() -> None:
    """Where the watchdog keeps it."""
    assert (service("RuntimeDirectory"), service("RuntimeDirectoryPreserve")) == ("drempel", "restart")


def test_no_end_leaves_a_strike_as_it_was() -> None:
    """After every end, also a kill, the strikes are taken off the current by a command that there is."""
    command = service("ExecStopPost").split(" ")
    assert command[1:] == ["safe-pins", "--config", "/etc/drempel/controller.toml"]
    assert command[0] == service("ExecStart").split(" ")[0]
    assert {command[1], service("ExecStart").split(" ")[1]} <= set(COMMANDS)


def test_it_runs_as_its_own_user_without_privileges() -> None:
    """Not root, no capability, nothing to gain one with, and no core file of a memory that holds keys."""
    assert (service("User"), service("CapabilityBoundingSet")) == ("drempel", "")
    assert (service("NoNewPrivileges"), service("LimitCORE")) == ("yes", "0")
