"""A program of ours that says what happens, a line of JSON each."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any, Final, Self

WITHIN_S: Final = 20.0
STOP_WITHIN_S: Final = 10.0


class ReportingProcess:
    """A context manager around ``python -m`` and these arguments. Raises RuntimeError when it ends, or says nothing in time."""

    def __init__(self, arguments: Sequence[str], *, name: str, log: IO[Any] | int | None = None) -> None:
        self._arguments = arguments
        self._name = name
        self._log = log
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()
        try:
            self.until("ready")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it as a service manager does."""
        self._end(kill=False)

    def kill(self) -> None:
        """End it as a power cut does."""
        self._end(kill=True)

    def until(self, *said: str) -> dict[str, Any]:
        """The next thing it says that is one of these."""
        deadline_s = time.monotonic() + WITHIN_S
        while True:
            try:
                report = self._said.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                raise RuntimeError(f"{self._name} did not say {' or '.join(said)}") from None
            if report is None:
                raise RuntimeError(f"{self._name} has ended")
            if report["said"] in said:
                return report

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill() if kill else process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._listener is not None:
            self._listener.join()
        if process.stdout is not None:
            process.stdout.close()

    def _listen(self, output: IO[str]) -> None:
        for line in output:
            self._said.put(json.loads(line))
        self._said.put(None)
