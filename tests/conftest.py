"""What every test shares: no surprise deadlines on a busy machine, and repeatable examples."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite", max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", max_examples=5_000, deadline=None)
settings.load_profile(os.environ.get("DREMPEL_HYPOTHESIS", "suite"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Number examples that are bytes: fresh keys and signatures would name a test differently in each process."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take long, so that none of them is left for the end."""
    items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in ("slow", "walk")))
