"""Floors: what the machine itself takes, measured in the run that is compared with them."""

from __future__ import annotations

import hashlib
import time
from statistics import median

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec


class RawVerification:
    """One ECDSA P-256 verification by the library alone.

    ``sample`` rests for ``rest_s`` first, which is how long the measured thing waits before it verifies (a card's
    signing time): a processor that was asleep verifies two to three times slower than one in a loop. ``hot_us`` is
    the loop's figure.
    """

    def __init__(self, *, rest_s: float) -> None:
        self._rest_s = rest_s
        key = ec.generate_private_key(ec.SECP256R1())
        self._message = hashlib.sha256(b"bench").digest()
        self._signature = key.sign(self._message, ec.ECDSA(hashes.SHA256()))
        self._key = key.public_key()
        self.samples_us: list[float] = []

    def sample(self) -> float:
        """Rest, then time one, in µs."""
        time.sleep(self._rest_s)
        taken_us = self._time_us()
        self.samples_us.append(taken_us)
        return taken_us

    def _time_us(self) -> float:
        begun_ns = time.perf_counter_ns()
        self._key.verify(self._signature, self._message, ec.ECDSA(hashes.SHA256()))
        return (time.perf_counter_ns() - begun_ns) / 1e3

    @property
    def median_us(self) -> float:
        """The median of all samples."""
        return median(self.samples_us)

    def hot_us(self, count: int = 500) -> float:
        """The median of ``count`` in a row; they are not kept as samples."""
        return median(self._time_us() for _ in range(count))
