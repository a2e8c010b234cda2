"""The files for a Pi: what the systems' own tools say about them, and what the program relies on."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge import ending, watchdog
from edge.__main__ import COMMANDS
from edge.updating import trial
from tests.firmware_config.card import FIRMWARE

README = FIRMWARE / "README.md"
SERVICES = sorted(FIRMWARE.glob("*.service"))
UNITS = sorted([*SERVICES, *FIRMWARE.glob("*.timer"), *FIRMWARE.glob("*.path")])
SCRIPTS = sorted(FIRMWARE.glob("*.sh"))

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="NOT CHECKED: no systemd-analyze here, so nobody has verified the units",
)


def unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """Every assignment, by section and key, in order."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.fullmatch(r"\[\w+\]", line):
            section = line[1:-1]
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(section, {}).setdefault(key, []).append(value)
    return found


EDGE = unit(FIRMWARE / "drempel-edge.service")


def service(key: str) -> str:
    return EDGE["Service"][key][-1]


def run(*arguments: str | Path) -> str:
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@needs_systemd
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """No key is unknown, no value is ignored, no unit is missing; programs are replaced by one that is there."""
    copies = []
    for path in UNITS:
        text = re.sub(r"(?<==)(\+?)/(opt|usr/local)/\S+", r"\1/bin/true", path.read_text(encoding="utf-8"))
        text = re.sub(
            r"^(EnvironmentFile|ConditionPathExists|PathExists)=.*$",
            r"\1=/bin/true",
            text,
            flags=re.MULTILINE,
        )
        copies.append(tmp_path / path.name)
        copies[-1].write_text(text, encoding="utf-8")
    assert run("systemd-analyze", "verify", "--man=no", *copies).strip() == ""


@needs_systemd
@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.stem)
def test_the_readme_states_how_exposed_each_service_is(path: Path) -> None:
    """The score of systemd-analyze security is the one that is written down, or a better one."""
    told = re.search(rf"\| `{path.name}` \| (\d+\.\d) \|", README.read_text(encoding="utf-8"))
    found = re.search(r"level for \S+: (\d+\.\d)", run("systemd-analyze", "security", "--offline=true", path))
    assert told
    assert found
    assert float(found[1]) <= float(told[1])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_script_can_be_read_by_a_plain_shell(path: Path) -> None:
    """And shellcheck, where there is one, has nothing to say."""
    run("sh", "-n", path)
    if shutil.which("shellcheck"):
        run("shellcheck", "--shell=sh", path)


@pytest.mark.skipif(
    shutil.which("nft") is None, reason="NOT CHECKED: no nft here, so nobody has read nftables.conf"
)
@pytest.mark.parametrize("ssh", [True, False])
def test_the_firewall_can_be_loaded(tmp_path: Path, *, ssh: bool) -> None:
    """With and without log-in; users by number, because this machine has not all of them."""
    text = (FIRMWARE / "nftables.conf").read_text(encoding="utf-8").replace("/etc/nftables.d", str(tmp_path))
    for number, name in enumerate(
        ("systemd-timesync", "drempel-update", "drempel", "_apt", "root"), start=900
    ):
        text = text.replace(f'"{name}"', str(number))
    (tmp_path / "site-drempel.nft").write_text("define hub_ports = { 443, 8883 }\n")
    if ssh:
        (tmp_path / "input-ssh.nft").write_text("tcp dport 22 ct state new limit rate 10/minute accept\n")
    (tmp_path / "nftables.conf").write_text(text)
    shown = run("unshare", "--net", "sh", "-c", f"nft -f {tmp_path / 'nftables.conf'} && nft list ruleset")
    assert shown.count("policy drop") == 3
    assert ("tcp dport 22" in shown) is ssh


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


def test_what_runs_a_release_is_not_root_and_can_gain_nothing() -> None:
    """Every service that starts a program of a release has a user of its own, and no capability or core file."""
    of_releases = [path for path in SERVICES if "/opt/drempel/current" in path.read_text(encoding="utf-8")]
    assert len(of_releases) == 4
    for path in of_releases:
        found = unit(path)["Service"]
        assert found["User"][-1] in {"drempel", "drempel-update"}
        assert (found["CapabilityBoundingSet"], found["NoNewPrivileges"]) == ([""], ["yes"])
        assert found["LimitCORE"] == ["0"]
        privileged = [
            line
            for key in ("ExecStartPre", "ExecStart", "ExecStartPost")
            for line in found.get(key, [])
            if line.lstrip("-")[0] in "+!"
        ]
        assert not any("/opt/" in line for line in privileged)


def test_what_runs_as_root_runs_nothing_of_a_release() -> None:
    """Only files of the read-only root and of the operating system."""
    for path in SERVICES:
        found = unit(path)["Service"]
        if "User" not in found:
            assert all(
                line.startswith(("/usr/bin/python3 -I -S /usr/local/lib/", "/usr/local/lib/"))
                for line in found["ExecStart"]
            )


def test_a_trial_has_the_time_it_needs() -> None:
    """The manager does not end it before it has gone back."""
    seconds = unit(FIRMWARE / "drempel-trial.service")["Service"]["TimeoutStartSec"][-1]
    assert float(seconds) > trial.WITHIN_S + trial.SETTLED_S
