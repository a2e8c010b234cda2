"""An emergency site by the commands of its document, and what is left when it has closed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from simulator.emergency import emergency_command
from simulator.emergency_commands import DOORS, closing, opening

DOCUMENT = Path(__file__).parents[2] / "docs" / "emergency-site.md"


def test_the_document_has_the_commands_that_are_rehearsed() -> None:
    """Every shell block of the document, line by line, is what the rehearsal goes through."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    written = [line.strip() for block in blocks for line in block.splitlines()]
    steps = (*opening(DOORS), *closing())
    assert written == [command.line for step in steps for command in step.commands]


@pytest.mark.walk
@pytest.mark.timeout(400)
def test_a_site_opens_and_closes(tmp_path: Path) -> None:
    """A card opens, is refused when void, and is no card when its issuer is retired; no name and no key is left in the files."""
    arguments = ["--residents=4", "--doors=1", "--format=json", f"--directory={tmp_path}"]
    ran = CliRunner().invoke(emergency_command, arguments)
    assert ran.exit_code == 0, ran.output + (tmp_path / "processes.log").read_text("utf-8")[-2_000:]
    said = json.loads(ran.stdout)
    opened, closed = said["opening"], said["closing"]
    assert (opened["cards"], list(opened["opened"])) == (4, ["gate"])
    assert (closed["refused"], closed["retired"]) == (
        {"gate": "credential_revoked"},
        {"gate": "issuer_unknown"},
    )
    assert (closed["erased"]["cardholders"], closed["remaining"]) == (4, 0)
    assert closed["erased"]["events"] > 0
    assert not [*(tmp_path / "site").rglob("*.key.pem"), *(tmp_path / "stick").rglob("*.key.pem")]
    assert opened["commands"] + closed["commands"] == 21
    assert set(said["opening"]["steps_s"]) == {step.name for step in opening(DOORS)} | {"arrival", "taps"}
