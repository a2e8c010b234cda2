"""What a start of the edge process imports before it can take a tap, and how long that takes, by package."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from statistics import median

_REPEATS = 3
_LARGEST = 10
_PROGRAM = (
    "import edge.__main__, edge.run_command, gpiozero.pins.mock"  # on a board lgpio in place of the last
)


def measure() -> dict[str, float]:
    """Import it in fresh processes; returns ``edge.imported_modules``, ``edge.import_ms`` and the largest packages.

    The interpreter's own notes on each module (``-X importtime``) make the whole some 15 % slower than it is.
    """
    with tempfile.TemporaryDirectory() as cache:
        environment = compiled_in(cache)
        _import_once(environment)
        runs = [_import_once(environment) for _ in range(_REPEATS)]
    packages = {package: median(run[package] for run in runs) for package in runs[0]}
    largest = sorted(packages, key=lambda package: packages[package], reverse=True)[:_LARGEST]
    return {
        "edge.imported_modules": _modules(),
        "edge.import_ms": sum(packages.values()) / 1e3,
        **{f"edge.import_ms.{package}": packages[package] / 1e3 for package in largest},
    }


def compiled_in(cache: str) -> dict[str, str]:
    """An environment whose programs keep and find what they compiled, as an installed one does."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": cache}


def _import_once(environment: dict[str, str]) -> Counter[str]:
    """Microseconds spent in each package's own modules."""
    told = subprocess.run(  # noqa: S603 - the program measured
        [sys.executable, "-X", "importtime", "-c", _PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    spent: Counter[str] = Counter()
    for line in told.splitlines():
        own_us, _, rest = line.removeprefix("import time:").partition("|")
        if own_us.strip().isdigit():
            spent[rest.partition("|")[2].strip().partition(".")[0]] += int(own_us)
    return spent


def _modules() -> int:
    told = subprocess.run(  # noqa: S603 - the program measured
        [sys.executable, "-c", f"{_PROGRAM}; import sys; print(len(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return int(told)
