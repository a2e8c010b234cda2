"""Where controllers get the time: what is written down for the hub's machine is read by chrony, and serves without the internet."""

from __future__ import annotations

import getpass
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.firmware_config.card import ROOT
from tests.hub.controller import eventually

UNPACKED = ROOT / "build" / "chrony" / "usr" / "sbin" / "chronyd"
CHRONYD = shutil.which("chronyd", path="/usr/sbin:/usr/bin") or (str(UNPACKED) if UNPACKED.exists() else "")
DOCUMENT = ROOT / "docs" / "time.md"

pytestmark = pytest.mark.skipif(
    not CHRONYD, reason="NOT CHECKED: no chronyd here (tools/system.sh), so nobody has read its configuration"
)


def written() -> str:
    found = re.search(r"```chrony\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(port: int) -> tuple[int, int] | None:
    """Leap indicator and stratum of the answer (RFC 5905 §7.3); None: there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        client.connect(("127.0.0.1", port))
        try:
            client.send(b"\x23" + bytes(47))
            answer = client.recv(128)
        except OSError:
            return None
    return answer[0] >> 6, answer[1]


def test_chrony_reads_it_and_refuses_another_word(tmp_path: Path) -> None:
    """By its own parser."""
    for text, status in ((written(), 0), (written().replace("orphan", "orphaned"), 1)):
        (tmp_path / "drempel.conf").write_text(text)
        done = subprocess.run(
            [CHRONYD, "-p", "-f", str(tmp_path / "drempel.conf")], capture_output=True, check=False
        )
        assert done.returncode == status, done.stderr


def test_a_hub_that_is_cut_off_still_says_what_time_it_is(tmp_path: Path) -> None:
    """Without a source of its own it answers as a synchronised server of stratum 10, which a controller accepts."""
    port = free_port()
    here = f"port {port}\ncmdport 0\nbindcmdaddress /\npidfile {tmp_path / 'pid'}\nallow 127.0.0.1\n"
    (tmp_path / "chrony.conf").write_text(written().replace("rtcsync\n", "") + here)
    command = [CHRONYD, "-x", "-d", "-U", "-u", getpass.getuser(), "-f", str(tmp_path / "chrony.conf")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        assert eventually(lambda: asked(port), (tmp_path / "log").read_text()) == (0, 10)
    finally:
        process.terminate()
        process.wait(20)
