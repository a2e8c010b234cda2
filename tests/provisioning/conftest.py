"""A site to provision from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pacs.identifiers import SiteId
from provisioning.keystore import Passphrase
from provisioning.site import Site, create_site

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def now() -> datetime:
    """The moment of everything in these tests."""
    return NOW


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A fresh site whose passphrase was generated."""
    return create_site(
        tmp_path / "site", SiteId("wilgenoord"), now=NOW, broker_hosts=("hub.example", "192.0.2.7")
    )


@pytest.fixture
def passphrase(site: Site) -> Passphrase:
    """What opens the site's keys."""
    return site.passphrase()
