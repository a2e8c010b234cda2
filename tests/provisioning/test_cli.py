from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from provisioning.cli import main

PYTHON = shlex.quote(sys.executable)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def result_of(*arguments: str | Path) -> dict[str, object]:
    result = run(*arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    parsed = json.loads(result.stdout)
    assert isinstance(parsed, dict)
    return parsed


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "site"
    result_of("site", "create", made, "--site", "wilgenoord")
    result_of("card", "keys", "add-batch", "SIM0", "--simulated", "--site-dir", made)
    return made


def card(tmp_path: Path, *options: str) -> str:
    file = shlex.quote(str(tmp_path / "card.json"))
    return f"{PYTHON} -m simulator card --stdio --kind blank --file {file} {' '.join(options)}"


def test_from_nothing_to_a_card_that_is_believed(directory: Path, tmp_path: Path) -> None:
    """Site, controller, card: each command's result is what the next one needs."""
    reader = result_of("reader", "add", "c-front", "--door", "front", "--offline", "--site-dir", directory)
    assert reader["doors"] == ["front"]
    issued = result_of("card", "issue", "--site-dir", directory, "--card-process", card(tmp_path))
    shown = result_of("card", "show", "--site-dir", directory, "--card-process", card(tmp_path))
    assert shown["credential_id"] == issued["credential_id"]
    assert (shown["technology"], issued["registered"]) == ("pkoc-v2", False)


def test_a_card_can_be_issued_over_standard_input_and_output(directory: Path, tmp_path: Path) -> None:
    """Two programs joined by pipes: the last line of the issuer's output is the result."""
    issue = [
        sys.executable,
        "-m",
        "provisioning.cli",
        "card",
        "issue",
        "--stdio",
        "--site-dir",
        str(directory),
    ]
    with (
        subprocess.Popen(
            shlex.split(card(tmp_path)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as virtual,
        subprocess.Popen(issue, stdin=virtual.stdout, stdout=subprocess.PIPE, text=True) as desk,
    ):
        assert virtual.stdin is not None
        assert desk.stdout is not None
        last = ""
        for line in desk.stdout:
            last = line
            if not line.startswith("{"):
                virtual.stdin.write(line.encode())
                virtual.stdin.flush()
        virtual.stdin.close()
    assert desk.returncode == 0
    assert json.loads(last)["technology"] == "pkoc-v2"


def test_no_output_holds_a_secret(tmp_path: Path) -> None:
    """Neither keys nor passphrases stand in what any command prints."""
    directory = tmp_path / "site"
    output = run("site", "create", directory, "--site", "s").output
    output += run("reader", "add", "c", "--door", "d", "--offline", "--site-dir", directory).output
    output += run("card", "keys", "add-batch", "SIM0", "--simulated", "--site-dir", directory).output
    output += run("card", "issue", "--site-dir", directory, "--card-process", card(tmp_path)).output
    passphrases = [path.read_text().strip() for path in directory.rglob("passphrase")]
    assert len(passphrases) == 4
    for secret in passphrases:
        assert secret not in output
    assert "PRIVATE KEY" not in output
    assert not re.search(r"[A-Za-z0-9+/]{64}", output)


def test_a_dry_run_makes_nothing(directory: Path, tmp_path: Path) -> None:
    """Each verb that makes something can say so without making it."""
    other = tmp_path / "other"
    would = result_of("site", "create", other, "--site", "s", "--dry-run")
    assert would["made"] is False
    assert isinstance(would["files"], list)
    assert "devices.key.pem" in would["files"]
    assert would["root_files"] == ["passphrase", "root.cert.pem", "root.key.pem"]
    result_of("reader", "add", "c", "--door", "d", "--offline", "--site-dir", directory, "--dry-run")
    result_of("card", "issue", "--site-dir", directory, "--card-process", "false", "--dry-run")
    assert not other.exists()
    assert not (directory / "controllers").exists()


@pytest.mark.parametrize(
    ("status", "arguments", "message"),
    [
        (1, ["site", "create", "{site}", "--site", "s"], "exists already"),
        (1, ["card", "issue", "--site-dir", "{tmp}", "--card-process", "x"], "site.toml: cannot be read"),
        (2, ["site", "create", "{tmp}/x", "--site", "no good"], "1 to 48 characters"),
        (2, ["card", "issue", "--site-dir", "{site}"], "--stdio or --card-process"),
        (2, ["card", "issue", "--site-dir", "{site}", "--reader", "usb:/dev/x"], "pn532:DEVICE"),
        (2, ["card", "keys", "add-batch", "B001", "--site-dir", "{site}"], "one of --key-file"),
        (2, ["card", "keys", "add-batch", "B001", "--simulated", "--site-dir", "{site}"], "belong together"),
        (2, ["reader", "add", "c", "--door", "a,b", "--offline", "--site-dir", "{site}"], "--device"),
        (
            2,
            [
                "reader",
                "add",
                "c",
                "--door",
                "a",
                "--offline",
                "--site-dir",
                "{site}",
                "--hub",
                "http://localhost:1",
            ],
            "--token-file",
        ),
        (
            3,
            ["card", "show", "--site-dir", "{site}", "--card-process", "/no/such/program"],
            "cannot be started",
        ),
        (3, ["card", "show", "--site-dir", "{site}", "--card-process", "sh -c 'read line'"], "card_gone"),
        (
            3,
            ["card", "show", "--site-dir", "{site}", "--card-process", "{python} -m simulator card --stdio"],
            "issuer_unknown",
        ),
    ],
)
def test_each_failure_has_its_status_and_its_message(
    directory: Path, tmp_path: Path, status: int, arguments: list[str], message: str
) -> None:
    """Files, command line and card fail with 1, 2 and 3, and say why."""
    filled = [argument.format(site=directory, tmp=tmp_path, python=PYTHON) for argument in arguments]
    result = run(*filled)
    assert (result.exit_code, message in result.output) == (status, True), result.output


def test_a_chosen_passphrase_is_not_stored(tmp_path: Path) -> None:
    """With --passphrase-file the site's directory holds no passphrase, and a wrong one is named."""
    chosen, directory = tmp_path / "chosen", tmp_path / "site"
    chosen.write_text("a passphrase of ours\n")
    chosen.chmod(0o600)
    result_of("site", "create", directory, "--site", "s", "--passphrase-file", chosen)
    assert not (directory / "passphrase").exists()
    add: list[str | Path] = [
        "reader",
        "add",
        "--offline",
        "c",
        "--door",
        "d",
        "--site-dir",
        directory,
        "--passphrase-file",
        chosen,
    ]
    wrong = tmp_path / "wrong"
    wrong.write_text("a passphrase of others\n")
    wrong.chmod(0o600)
    refused = run(*add[:-1], wrong)
    assert (refused.exit_code, "devices.key.pem: the passphrase does not open" in refused.output) == (1, True)
    assert result_of(*add)["controller"] == "c"


def test_batches_and_administration_keys(directory: Path, tmp_path: Path) -> None:
    """A key made here is what the maker's file brings to another site; what there is can be shown, a key cannot."""
    maker = tmp_path / "for-the-maker"
    made = run("card", "keys", "add-batch", "B001", "--new", maker, "--site-dir", directory)
    assert made.exit_code == 0, made.output
    assert (maker.stat().st_mode & 0o777, len(bytes.fromhex(maker.read_text()))) == (0o600, 32)
    other = tmp_path / "other"
    result_of("site", "create", other, "--site", "other")
    result_of("card", "keys", "add-batch", "B001", "--key-file", maker, "--site-dir", other)
    result_of("card", "keys", "rotate", "--site-dir", other)
    shown = run("card", "keys", "show", "--site-dir", other)
    assert "B001" in shown.output
    assert "newest 50" in shown.output
    assert maker.read_text().strip() not in made.output + shown.output


@pytest.mark.parametrize(
    "verb",
    [
        ("site", "create"),
        ("site", "backup"),
        ("site", "restore"),
        ("site", "audit"),
        ("reader", "add"),
        ("reader", "register"),
        ("card", "issue"),
        ("card", "show"),
        ("card", "batch"),
        ("card", "lost"),
        ("card", "keys", "add-batch"),
    ],
    ids=" ".join,
)
def test_every_help_shows_an_example_and_the_exit_statuses(verb: tuple[str, ...]) -> None:
    """A person can act on the help alone."""
    output = run(*verb, "--help").output
    assert f"drempel-provision {' '.join(verb)}" in output
    assert "4 the hub" in output


def test_each_verb_that_changes_something_can_be_tried_first() -> None:
    """Only what shows something, and the desk, which waits for what others ask of it, has no dry run."""
    verbs = dict(verbs_of(main))
    without = {
        verb
        for verb, found in verbs.items()
        if "dry_run" not in {parameter.name for parameter in found.params}
    }
    assert ("site", "create") in verbs
    assert ("card", "keys", "rotate") in verbs
    shows = {("card", "keys", "show"), ("card", "show"), ("key", "list"), ("site", "audit")}
    assert without <= {("card", "desk"), *shows}


def verbs_of(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, by its words."""
    for name, found in group.commands.items():
        if isinstance(found, click.Group):
            yield from verbs_of(found, *names, name)
        else:
            yield (*names, name), found


@pytest.mark.parametrize("name", ["hub", "broker", "Hub"])
def test_no_controller_is_named_like_a_party_of_the_hub(directory: Path, name: str) -> None:
    """A certificate with the hub's or the broker's name would be the hub's or the broker's: none is made."""
    refused = run("reader", "add", name, "--door", "front", "--offline", "--site-dir", directory)
    assert refused.exit_code == 2, refused.output
    assert not (directory / "controllers" / name).exists()
