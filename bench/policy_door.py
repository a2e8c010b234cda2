"""The door's process of ``bench.policy``.

``hold CONFIG DOCUMENTS`` keeps them, opens them again as at a start, and prints what that took.
``run CONFIG DOCUMENTS`` runs the controller; ``load`` on its input has it verify one policy after the other until
``rest``; ``examine`` has it examine itself again and again until then. It prints JSON lines: ``ready``, ``outcome`` and
``struck_ns`` of each tap, ``loaded_s`` of each load, ``examined_s`` of each examination.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from edge import wiring
from edge.config_file import load
from edge.inputs import DocumentReceived
from edge.keystore import read_policy_keys
from edge.policy_store import PolicyStore
from edge.service import Service, Trace
from edge.signers import Signers
from pacs.decision import ClockReading
from pacs.messages import DocumentKind
from simulator.virtual_door import VirtualPins

_PROBE_S = 0.0002


def _say(**said: Any) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def _rss_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def _longest_hold_ms(work: Callable[[], object]) -> float:
    """The longest that another thread was kept from the interpreter, in processor time of the one that does the work.

    Its processor time: when the machine runs something else meanwhile, nobody holds anything back.
    """
    worker = time.pthread_getcpuclockid(threading.get_ident())
    stop = threading.Event()
    longest_s = 0.0

    def ask() -> None:
        nonlocal longest_s
        while not stop.is_set():
            begun_s, spent_s = time.perf_counter(), time.clock_gettime(worker)
            time.sleep(_PROBE_S)
            waited_s = time.perf_counter() - begun_s - _PROBE_S
            longest_s = max(longest_s, min(waited_s, time.clock_gettime(worker) - spent_s))

    asking = threading.Thread(target=ask)
    asking.start()
    work()
    stop.set()
    asking.join()
    return longest_s * 1e3


def hold(config_path: Path, documents: Path) -> None:
    """Print the figures of keeping and of opening."""
    config = load(config_path)
    keys = read_policy_keys(config.keys.policy_public_key)
    sys.setswitchinterval(wiring.SWITCH_INTERVAL_S)
    policies = [path.read_bytes() for path in sorted(documents.glob("policy-*"))]
    directory = config.state_dir / "policy"
    config.state_dir.mkdir(exist_ok=True)
    clock = ClockReading(at=datetime.now(UTC), trusted=True)
    store = PolicyStore(directory, site_id=config.site_id, signers=Signers(keys))
    store.accept(DocumentKind.REVOCATIONS, (documents / "revocations").read_bytes(), clock)
    holds_ms = [
        _longest_hold_ms(partial(store.accept, DocumentKind.POLICY, data, clock)) for data in policies[:-2]
    ]
    before_mib, begun_s = _rss_mib(), time.perf_counter()
    opened = PolicyStore(directory, site_id=config.site_id, signers=Signers(keys))
    open_s, rss_mib = time.perf_counter() - begun_s, _rss_mib() - before_mib
    held = opened.held.policy
    _say(
        **{
            "policy.entitlements": len(held.entitlements) if held else 0,
            "policy.start_load_s": open_s,
            "policy.rss_mib": rss_mib,
            "policy.longest_gil_hold_ms": median(holds_ms),
            "policy.longest_gil_hold_least_ms": min(holds_ms),
        }
    )


class _Documents:
    """Tells when a document is done with, whatever became of it."""

    def __init__(self, store: PolicyStore) -> None:
        self._store = store
        self.done = threading.Semaphore(0)

    def accept(self, kind: DocumentKind, data: bytes, clock: ClockReading) -> Any:
        begun_s = time.perf_counter()
        try:
            return self._store.accept(kind, data, clock)
        finally:
            _say(loaded_s=time.perf_counter() - begun_s)
            self.done.release()


class _Reachable(Service):
    """The service, to be handed documents from outside."""

    latest: _Reachable
    examines_on = False

    def __init__(self, *args: Any, documents: PolicyStore, examine: Callable[[], None], **more: Any) -> None:
        self.watched = _Documents(documents)
        self.examine = examine
        super().__init__(*args, documents=self.watched, examine=examine, **more)
        _Reachable.latest = self


_examine_itself = wiring._examine_itself  # noqa: SLF001 - what is measured


def _examined(*args: Any) -> Any:
    begun_s = time.perf_counter()
    yield from _examine_itself(*args)
    _say(examined_s=time.perf_counter() - begun_s)
    if _Reachable.latest.examines_on:
        _Reachable.latest.examine()


def run(config_path: Path, documents: Path) -> None:
    """Run the controller until SIGTERM."""
    policies = [path.read_bytes() for path in sorted(documents.glob("policy-*"))]
    loading = threading.Event()

    def load_all() -> None:
        for data in cycle(policies):
            loading.wait()
            service = _Reachable.latest
            service.put(DocumentReceived(kind=DocumentKind.POLICY, data=data))
            service.watched.done.acquire()

    def obey() -> None:
        for line in map(str.strip, sys.stdin):
            (loading.set if line == "load" else loading.clear)()
            _Reachable.latest.examines_on = line == "examine"
            if line == "examine":
                _Reachable.latest.examine()
        os.kill(os.getpid(), signal.SIGTERM)

    def report(trace: Trace) -> None:
        _say(outcome=f"{trace.outcome} {trace.reason}", struck_ns=dict(trace.marks).get("strike"))

    def begin() -> None:
        for target in (load_all, obey):
            threading.Thread(target=target, daemon=True).start()
        _say(ready=True)

    with (
        mock.patch.object(wiring, "Service", _Reachable),
        mock.patch.object(wiring, "_examine_itself", _examined),
    ):
        wiring.run_controller(load(config_path), factory=VirtualPins(), on_trace=report, on_ready=begin)


if __name__ == "__main__":
    {"hold": hold, "run": run}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
