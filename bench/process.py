"""The edge process as it runs on a Pi: its start, its first tap, its memory."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.start import compiled_in
from simulator.scenario import Holder
from simulator.site import VirtualSite
from simulator.station import DoorStation

_STARTS = 5
_WITHIN_S = 30.0


def measure(site: VirtualSite, holder: Holder) -> dict[str, float]:
    """Start ``drempel-edge run`` several times at the last door; returns the figures, ``edge.…``."""
    station = list(site.stations.values())[-1]
    station.controller.stop()
    ready_s, tap_s, rss_mib = [], [], 0.0
    with tempfile.TemporaryDirectory() as cache:
        environment = compiled_in(cache)
        try:
            _start_once(station, holder, environment)
            for _ in range(_STARTS):
                ready, tap, rss_mib = _start_once(station, holder, environment)
                ready_s.append(ready)
                tap_s.append(tap)
        finally:
            station.controller.start()
    return {
        "edge.start_s": median(ready_s),
        "edge.start_to_first_answer_s": median(tap_s),
        "edge.rss_mib": rss_mib,
    }


def _start_once(
    station: DoorStation, holder: Holder, environment: dict[str, str]
) -> tuple[float, float, float]:
    """Seconds to READY=1, seconds to the first card's last answer, MiB resident after it."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        path = Path(directory) / "notify"
        told.bind(str(path))
        told.settimeout(_WITHIN_S)
        station.exchanges.clear()
        station.reader.insert(holder.card)
        begun_ns = time.monotonic_ns()
        process = subprocess.Popen(  # noqa: S603 - the program measured
            [sys.executable, "-m", "edge", "run", "--allow-root", f"--config={station.config}"],
            env=environment | {"NOTIFY_SOCKET": str(path)},
            stderr=subprocess.DEVNULL,
        )
        try:
            while b"READY=1" not in told.recv(4096):
                pass
            ready_s = (time.monotonic_ns() - begun_ns) / 1e9
            while len(station.exchanges) < 3:
                if time.monotonic_ns() - begun_ns > _WITHIN_S * 1e9:
                    raise RuntimeError("no tap within 30 s of the start")
                time.sleep(0.005)
            tap_s = (station.exchanges[2].sent_ns - begun_ns) / 1e9
            time.sleep(1.0)  # the uplink starts after the first tap
            held_mib = rss_mib(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_WITHIN_S)
            station.reader.remove()
    return ready_s, tap_s, held_mib


def rss_mib(pid: int) -> float:
    """What a process holds in memory; raises RuntimeError when there is none."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/status has no VmRSS")
