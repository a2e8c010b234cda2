"""The issuing desk's day against a real hub: a card at a real reader's program, lost, found, returned, and a list of people."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hub.roles import Role
from pacs.card.card_keys import CardSerial
from pacs.card.personalisation import Made
from pacs.identifiers import CredentialId
from provisioning.card_journal import DIRECTORY_NAME, CardJournal
from provisioning.cli import main
from simulator import virtual_pcsc
from simulator.pn532_process import Pn532Process
from simulator.virtual_card import VirtualCard
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, running_hub
from tests.pacs.card.material import CARD_KEY

PYTHON = shlex.quote(sys.executable)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        running.door("front", "Front")
        running.door("cellar", "Cellar", connect=False)
        yield running


@pytest.fixture
def at_hub(hub: RunningHub, tmp_path: Path) -> list[str]:
    """The options of everybody at the desk."""
    token_file = tmp_path / "token"
    token_file.touch(0o600)
    with hub.token(Role.RECEPTION) as program:
        token_file.write_text(program.headers["authorization"].removeprefix("Bearer "))
    return ["--hub", hub.url, "--token-file", str(token_file)]


def resident(hub: RunningHub, name: str = "Ama") -> str:
    with hub.token() as program:
        body = {"category": "resident", "given_name": name, "family_name": "Mensah"}
        return str(program.post("/api/v1/cardholders", json=body).json()["id"])


def card_of(hub: RunningHub, credential_id: str) -> dict[str, Any]:
    with hub.token() as program:
        found: dict[str, Any] = program.get(f"/api/v1/cards/{credential_id}").json()
        return found


def run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(main, [*arguments, "--format", "json"])
    assert result.exit_code == 0, result.output
    last = next(line for line in reversed(result.stdout.splitlines()) if line.startswith("{"))
    said: dict[str, Any] = json.loads(last)  # the hub of the same process may write its log beside it
    return said


def test_a_cards_life_at_the_desks_own_reader(hub: RunningHub, at_hub: list[str], tmp_path: Path) -> None:
    """Issued at a PN532, lost, found, and returned: each time the doors are told, and at the end the chip is blank stock."""
    link, site = tmp_path / "reader", ["--site-dir", str(hub.site.directory)]
    reader = ["--reader", f"pn532:{link}"]
    with Pn532Process(timing="none", link=link) as pn532:
        pn532.insert(VirtualCard())
        issued = run("card", "issue", *reader, "--cardholder", resident(hub), *site, *at_hub)
        credential_id = issued["credential_id"]
        assert card_of(hub, credential_id)["status"] == "valid"
        lost = run("card", "lost", "--cardholder", card_of(hub, credential_id)["cardholder_id"], *at_hub)
        assert (lost["card"], lost["status"]) == (credential_id, "suspended")
        assert (lost["confirmed"], lost["doors"]) == (1, 2)
        assert [(each["door_id"], each["online"]) for each in lost["missing"]] == [("cellar", False)]
        found = run("card", "found", *reader, *site, *at_hub)
        assert (found["card"], found["status"], found["confirmed"]) == (credential_id, "valid", 1)
        returned = run("card", "returned", *reader, *site, *at_hub)
        assert (returned["status"], returned["serial"]) == ("revoked", issued["serial"])
        again = run("card", "issue", *reader, "--cardholder", resident(hub), *site, *at_hub)
        assert (again["serial"], again["resumed"]) == (issued["serial"], False)
        assert again["credential_id"] != credential_id
    assert card_of(hub, credential_id)["status"] == "revoked"


def test_a_card_is_made_at_a_pcsc_service(hub: RunningHub, at_hub: list[str]) -> None:
    """Pcscd with a virtual reader: a blank card is personalised through the bridge, registered, and refused as blank after."""
    pytest.importorskip("smartcard.scard", reason="NO CARD IS MADE AT A PC/SC READER: pyscard is missing")
    where = ["--reader", f"pcsc:{virtual_pcsc.NAME}", "--site-dir", str(hub.site.directory)]
    with virtual_pcsc.alone():
        if why := virtual_pcsc.missing():
            pytest.skip(f"NO CARD IS MADE AT A PC/SC READER: {why}")
        with virtual_pcsc.VirtualPcsc() as service:
            service.insert(card := VirtualCard())
            issued = run("card", "issue", *where, "--cardholder", resident(hub), *at_hub)
            again = CliRunner().invoke(main, ["card", "issue", *where, "--format", "json"])
    assert (str(card.credential_id), card.locked) == (issued["credential_id"], True)
    assert card_of(hub, issued["credential_id"])["status"] == "valid"
    assert (again.exit_code, "issued already" in again.output) == (3, True), again.output


def test_returned_without_a_reader(hub: RunningHub, at_hub: list[str]) -> None:
    """The card is revoked at the hub and said to be; in words it says at how many doors that has arrived."""
    card = str(hub.card())
    arguments = ["card", "returned", card, "--wait", "0", *at_hub]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "for good" in result.stdout
    assert " of 2 doors" in result.stdout
    assert "cellar (offline)" in result.stdout
    refused = CliRunner().invoke(main, ["card", "found", card, *at_hub])
    assert (refused.exit_code, "revoked" in refused.output) == (4, True)


def test_an_unfinished_card_is_listed_and_can_be_given_up(hub: RunningHub) -> None:
    """What was begun is named with its chip; given up, it waits to be told to the hub."""
    site = ["--site-dir", str(hub.site.directory)]
    journal = CardJournal(hub.site.directory / DIRECTORY_NAME)
    serial, key = CardSerial.parse("SIM0-00000000002A"), VirtualCard(key=CARD_KEY).public_key
    journal.certified(serial, Made(public_key=key, certificate=None))
    (begun,) = run("card", "unfinished", *site)["unfinished"]
    assert (begun["serial"], begun["complete"]) == (str(serial), False)
    after = run("card", "unfinished", "--void", begun["credential_id"], *site)
    assert after == {"unfinished": [], "void": [begun["credential_id"]]}
    journal.reported(CredentialId.parse(begun["credential_id"]))


def begin(people: Path, pile: Path, hub: RunningHub, at_hub: list[str], *more: str) -> subprocess.Popen[str]:
    """The real program, whose cards are those of a pile."""
    card = f"{PYTHON} -m simulator card --stdio --pile {shlex.quote(str(pile))}"
    command = [sys.executable, "-m", "provisioning.cli", "card", "batch", str(people), "--card-process", card]
    return subprocess.Popen(
        [*command, "--site-dir", str(hub.site.directory), *at_hub, "--format", "json", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_list_is_issued_through_a_killed_program(
    hub: RunningHub, at_hub: list[str], tmp_path: Path
) -> None:
    """Killed in the middle and begun again, each person of the list has one card that works, and the report names it."""
    people, pile, report = tmp_path / "people.csv", tmp_path / "pile", tmp_path / "report.csv"
    names = [f"e-{number}" for number in range(4)]
    rows = "".join(f"{name},Ama,Mensah\n" for name in names)
    people.write_text(f"external_id,given_name,family_name\n{rows}")
    batches = hub.site.directory / "card-batches"
    with begin(people, pile, hub, at_hub) as first:
        eventually(
            lambda: any('"issued"' in path.read_text() for path in batches.glob("*.jsonl")),
            "a first card",
        )
        os.kill(first.pid, signal.SIGKILL)
    with begin(people, pile, hub, at_hub, "--report", str(report)) as second:
        output, told = second.communicate(timeout=100)
    assert second.returncode == 0, told
    result = json.loads(output)
    assert (result["issued"], result["left"], result["failed"]) == (4, 0, [])
    assert "Ama Mensah (e-3)" in told
    with hub.token() as program:
        found = [program.get("/api/v1/cardholders", params={"external_id": name}).json() for name in names]
        held = [
            program.get("/api/v1/cards", params={"cardholder": each["cardholders"][0]["id"]}).json()["cards"]
            for each in found
        ]
    valid = [[card["credential_id"] for card in cards if card["status"] == "valid"] for cards in held]
    assert [len(cards) for cards in valid] == [1] * 4
    on_chips = {
        str(card.credential_id)
        for path in pile.glob("*.json")
        if (card := VirtualCard.from_json(path.read_text())).locked
    }
    begun = {
        str(each.credential_id) for each in CardJournal(hub.site.directory / DIRECTORY_NAME).all_unfinished()
    }
    assert on_chips - begun == {cards[0] for cards in valid}
    table = list(csv.DictReader(report.read_text().splitlines()))
    assert [(row["key"], row["outcome"]) for row in table] == [(name, "issued") for name in names]
    assert "Ama" not in report.read_text() + "".join(path.read_text() for path in batches.iterdir())
    with begin(people, pile, hub, at_hub) as third:
        assert json.loads(third.communicate(timeout=100)[0])["issued"] == 4
    assert len(list(pile.glob("*.json"))) == len(on_chips), "nothing more was made"


def test_a_list_the_hub_does_not_take(hub: RunningHub, at_hub: list[str], tmp_path: Path) -> None:
    """Its faults are said by row before any card is asked for."""
    people = tmp_path / "people.csv"
    people.write_text("external_id,given_name,family_name,category\nx-1,Ama,Mensah,guest\n")
    arguments = [
        "card",
        "batch",
        str(people),
        "--card-process",
        "false",
        "--site-dir",
        str(hub.site.directory),
    ]
    for more in ([], ["--dry-run"]):
        refused = CliRunner().invoke(main, [*arguments, *at_hub, *more])
        assert (refused.exit_code, "row 2" in refused.output) == (4, True), refused.output
