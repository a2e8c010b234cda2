"""Floors: what the machine itself takes, measured in the run that is compared with them."""

from __future__ import annotations

import hashlib
import time
from statistics import median

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec


class RawVerification:
    """One ECDSA P-256 verification by the library alone.

    ``sample`` is called between the measured things, from the same state of rest: a processor that was asleep
    verifies slower than one in a loop. ``hot_us`` is the loop's figure.
    """

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self._message = hashlib.sha256(b"bench").digest()
        self._signature = key.sign(self._message, ec.ECDSA(hashes.SHA256()))
        self._key = key.public_key()
        self.samples_us: list[float] = []

    def sample(self) -> float:
        """Time one, in µs."""
        begun_ns = time.perf_counter_ns()
        self._key.verify(self._signature, self._message, ec.ECDSA(hashes.SHA256()))
        taken_us = (time.perf_counter_ns() - begun_ns) / 1e3
        self.samples_us.append(taken_us)
        return taken_us

    @property
    def median_us(self) -> float:
        """The median of all samples."""
        return median(self.samples_us)

    def hot_us(self, count: int = 500) -> float:
        """The median of ``count`` in a row; they are not kept as samples."""
        kept, self.samples_us = self.samples_us, []
        found = median(self.sample() for _ in range(count))
        self.samples_us = kept
        return found
