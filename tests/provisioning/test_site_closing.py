"""The end of a site's keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from pacs.identifiers import SiteId
from provisioning.cli import main
from provisioning.site import create_site


def destroyed(*arguments: str) -> dict[str, Any]:
    command = ["site", "destroy-keys", *arguments, "--reason=closed", "--format=json"]
    ran = CliRunner().invoke(main, command)
    assert ran.exit_code == 0, ran.output
    said: dict[str, Any] = json.loads(ran.stdout)
    return said


def secret(directory: Path) -> set[str]:
    """Every file of it that only its owner may read, but the log."""
    return {
        str(path)
        for path in directory.rglob("*")
        if path.is_file() and not path.stat().st_mode & 0o077 and path.name != "audit.jsonl"
    }


def test_no_secret_of_a_site_is_left(tmp_path: Path) -> None:
    """A dry run says what there is and leaves it; then all is gone but certificates and the log, which says so, and what is out of reach is named."""
    site, root = tmp_path / "site", tmp_path / "safe"
    create_site(site, SiteId("hall"), now=datetime.now(UTC), root_directory=root)
    there = secret(site)
    assert any(path.endswith("card-issuer.key.pem") for path in there)
    said = destroyed(str(site), "--dry-run")
    assert (set(said["destroyed"]) == there == secret(site), said["made"]) == (True, False)
    assert "--root-dir" in said["beyond_reach"][0]
    said = destroyed(str(site))
    assert (set(said["destroyed"]), secret(site)) == (there, set())
    assert (site / "root.cert.pem").exists()
    assert "policy.key.pem" in (site / "audit.jsonl").read_text()
    assert secret(root)
    said = destroyed(str(site), f"--root-dir={root}")
    assert (len(said["destroyed"]), secret(root)) == (2, set())
    assert not any("root" in each for each in said["beyond_reach"])
