"""The fuzzed readers, on a few inputs of each kind; ``make fuzz`` tries a million."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

NAMES = sorted(TARGETS)
CARDS_SPEAK = {"iso_dep", "presentation", "personalisation"}
"""A seed of these is a conversation, of which no reader has to approve."""


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CARDS_SPEAK])
def test_what_fuzzing_begins_with_is_well_formed(name: str) -> None:
    """Each seed is accepted, so that what grows out of it reaches behind the first check."""
    for seed in TARGETS[name].seeds():
        TARGETS[name].feed(seed)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_a_refusal_escapes(name: str) -> None:
    """Random bytes, and seeds that were cut, stretched and flipped, are refused by name or read."""
    target = TARGETS[name]
    seeds = target.seeds()
    cuts = st.integers(min_value=0, max_value=max(map(len, seeds)))

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        seed=st.sampled_from(seeds),
        start=cuts,
        end=cuts,
        put=st.binary(max_size=8),
        noise=st.binary(max_size=64),
    )
    @example(seed=b"", start=0, end=0, put=b"", noise=b"")
    def try_it(seed: bytes, start: int, end: int, put: bytes, noise: bytes) -> None:
        for data in (noise, seed[:start] + put + seed[end:]):
            with contextlib.suppress(*target.refusals):
                target.feed(data[: target.max_bytes])

    try_it()
