"""A process that opens the reader named on its command line, says at which speed, and holds it until it is killed."""

from __future__ import annotations

import sys
import time

from edge.nfc.pn532 import Pn532


def main() -> None:
    """Never returns."""
    antenna = Pn532(sys.argv[1], patience_ms=2_000)
    antenna.open()
    sys.stdout.write(f"{antenna.baud}\n")
    sys.stdout.flush()
    while True:
        antenna.poll(time.monotonic_ns() + 100_000_000)


if __name__ == "__main__":
    main()
