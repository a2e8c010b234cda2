"""Feeds one target with inputs that grow towards code not yet reached (libFuzzer, through atheris).

``python -m tests.fuzz.worker TARGET RESULT [libFuzzer's options]``; ends with status 0 when nothing was found. RESULT
gets what was counted, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["pacs", "edge"]):
    from tests.fuzz.targets import TARGETS

BOUND_S: Final = 1.0
"""Processor time that one input may take, however hostile."""
TOLD_EVERY: Final = 500


def main() -> None:
    """Fuzz; libFuzzer ends the process."""
    name, result, *options = sys.argv[1:]
    target = TARGETS[name]
    counts: Counter[str] = Counter()
    slowest_s = 0.0

    def feed(data: bytes) -> None:
        nonlocal slowest_s
        begun_s = time.process_time()
        try:
            target.feed(data)
        except target.refusals:
            counts["refused"] += 1
        else:
            counts["accepted"] += 1
        slowest_s = max(slowest_s, time.process_time() - begun_s)
        assert slowest_s < BOUND_S, f"{slowest_s:.2f} s of processor time for one input"
        if counts.total() % TOLD_EVERY == 0:
            Path(result).write_text(json.dumps({**counts, "slowest_ms": slowest_s * 1_000}))

    atheris.Setup([name, f"-max_len={target.max_bytes}", *options], feed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
