"""Run the tests; the few that fail are run once more, by themselves.

``python -m tools.suite [pytest's arguments]``. A machine that does ten things at once can hold a process up for seconds.
A test that fails among others and passes alone is *unsteady*: the last lines name it, and it is a defect to be mended.
Exit status: 0 all passed, the second time at the latest; otherwise pytest's own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

AGAIN_AT_MOST: Final = 3
_FAILED: Final = Path(".pytest_cache/v/cache/lastfailed")
_TESTS_FAILED: Final = 1
_ANEW: Final = "once more, alone"


def main(arguments: list[str]) -> int:
    """Run pytest with ``arguments``, and again with what failed when that is little."""
    _FAILED.unlink(missing_ok=True)
    status = _pytest(arguments)
    failed = _failed() if status == _TESTS_FAILED else []
    if not 0 < len(failed) <= AGAIN_AT_MOST:
        return status
    _say(f"{len(failed)} failed; {_ANEW}", failed)
    again = _pytest(["-p", "no:xdist", "--no-header", "-rA", *failed])
    if again == 0:
        _say("UNSTEADY: failed among others, passed alone; mend the test or what it found", failed)
    return again


def _pytest(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


def _failed() -> list[str]:
    try:
        return sorted(json.loads(_FAILED.read_text()))
    except (OSError, ValueError):
        return []


def _say(what: str, tests: list[str]) -> None:
    print(f"\n==== {what}:", *(f"  {test}" for test in tests), sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
