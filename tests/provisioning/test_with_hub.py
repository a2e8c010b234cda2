from __future__ import annotations

import json
import secrets
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hub.roles import Role
from pacs.card.card_keys import CardSerial
from pacs.identifiers import CredentialId
from provisioning.card_journal import DIRECTORY_NAME, CardJournal
from provisioning.cli import main
from tests.hub.running import RunningHub, running_hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


def run(hub: RunningHub, token_file: Path, role: Role, *arguments: str) -> Result:
    with hub.token(role) as program:
        token_file.write_text(program.headers["authorization"].removeprefix("Bearer "))
    token_file.chmod(0o600)
    at_hub = ["--site-dir", str(hub.site.directory), "--hub", hub.url, "--token-file", str(token_file)]
    return CliRunner().invoke(main, [*arguments, *at_hub, "--format", "json"])


def said(result: Result) -> dict[str, Any]:
    """The command's JSON; the hub of the same process may write its log beside it."""
    found: dict[str, Any] = json.JSONDecoder().raw_decode(result.stdout, result.stdout.index("{"))[0]
    return found


def blank_card(directory: Path) -> str:
    file = shlex.quote(str(directory / "card.json"))
    return f"{shlex.quote(sys.executable)} -m simulator card --stdio --kind blank --file {file}"


def test_a_technician_adds_a_controller(hub: RunningHub, tmp_path: Path) -> None:
    """The hub then knows the controller by the key and the serial that are on disk, and its doors; twice is once."""
    added = run(
        hub,
        tmp_path / "token",
        Role.TECHNICIAN,
        "reader",
        "add",
        "--offline",
        "c-1",
        "--door",
        "a,b",
        "--device",
        "/dev/x",
        "--device",
        "/dev/y",
    )
    assert added.exit_code == 0, added.output
    again = run(hub, tmp_path / "token", Role.TECHNICIAN, "reader", "register", "c-1")
    assert again.exit_code == 0, again.output
    made = said(added)
    with hub.token() as program:
        controllers = program.get("/api/v1/controllers").json()["controllers"]
        doors = program.get("/api/v1/doors").json()["doors"]
    (known,) = (controller for controller in controllers if controller["id"] == "c-1")
    assert known["event_public_key"] == made["event_public_key"]
    assert known["certificate_serial"] == made["certificate_serial"]
    assert {door["id"] for door in doors if door["controller_id"] == "c-1"} == {"a", "b"}


def test_the_issuing_desk_gives_a_card_to_a_resident(hub: RunningHub, tmp_path: Path) -> None:
    """What was put on the card is what the hub has registered."""
    with hub.token() as program:
        person = {"category": "resident", "given_name": "Ama", "family_name": "Mensah"}
        resident = program.post("/api/v1/cardholders", json=person).json()["id"]
    issue = ["card", "issue", "--card-process", blank_card(tmp_path), "--cardholder", resident]
    issued = run(hub, tmp_path / "token", Role.RECEPTION, *issue)
    assert issued.exit_code == 0, issued.output
    result = said(issued)
    assert result["registered"] is True
    with hub.token() as program:
        cards = program.get("/api/v1/cards").json()["cards"]
    assert result["credential_id"] in {
        card["credential_id"] for card in cards if card["cardholder_id"] == resident
    }


def test_a_card_that_was_spoilt_is_told_to_the_hub(hub: RunningHub, tmp_path: Path) -> None:
    """What was certified before and is on no card is revoked at the hub with the next card, and then forgotten here."""
    with hub.token() as program:
        person = {"category": "resident", "given_name": "Ama", "family_name": "Mensah"}
        resident = program.post("/api/v1/cardholders", json=person).json()["id"]
    journal = CardJournal(hub.site.directory / DIRECTORY_NAME)
    spoilt = CredentialId(secrets.token_bytes(16))
    journal.void(CardSerial.parse("SIM0-00000000002A"), spoilt)
    issue = ["card", "issue", "--card-process", blank_card(tmp_path), "--cardholder", resident]
    assert run(hub, tmp_path / "token", Role.RECEPTION, *issue).exit_code == 0
    with hub.token() as program:
        told = program.get(f"/api/v1/cards/{spoilt}").json()
    assert (told["status"], told["cardholder_id"]) == ("revoked", resident)
    assert (journal.voids(), journal.all_unfinished()) == ([], [])


def test_a_token_that_may_not_is_found_out_before_a_card_is_made(hub: RunningHub, tmp_path: Path) -> None:
    """A technician cannot issue cards: status 4, and the blank card stays blank."""
    issue = ["card", "issue", "--card-process", blank_card(tmp_path), "--cardholder", "r-1"]
    refused = run(hub, tmp_path / "token", Role.TECHNICIAN, *issue)
    assert (refused.exit_code, "status 403" in refused.output) == (4, True), refused.output
    assert not (tmp_path / "card.json").exists()


def test_a_card_the_hub_does_not_take_is_not_lost(hub: RunningHub, tmp_path: Path) -> None:
    """For a cardholder nobody knows the message says what to register once there is one."""
    issue = ["card", "issue", "--card-process", blank_card(tmp_path), "--cardholder", "nobody"]
    refused = run(hub, tmp_path / "token", Role.RECEPTION, *issue)
    assert refused.exit_code == 4, refused.output
    registration = json.loads(refused.output[refused.output.index('{"credential_id"') :])
    assert registration["cardholder_id"] == "nobody"
    assert json.loads((tmp_path / "card.json").read_text())["locked"] is True
