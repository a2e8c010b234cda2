"""What the whole repository keeps to, beside the import contracts of pyproject.toml."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pacs", "edge", "hub", "provisioning", "simulator")
PURE = {"cryptography", "cbor2", "pacs"}
FORBIDDEN_NAMES = {"utils", "helpers", "common", "core", "models", "misc", "util", "helper"}
NEVER_IN_EDGE = {"fastapi", "starlette", "pydantic", "sqlalchemy", "uvicorn", "jinja2", "httpx", "hub"}

# Modules in which a moment is drawn by lot, and why: there is no condition to wait for.
RANDOM_MOMENTS = {
    "tests/edge/test_journal_power.py": "kills the writer at any moment",
    "tests/integration/test_nothing_lost.py": "kills broker, hub and controller at any moment",
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def modules(*folders: str) -> list[Path]:
    """Every module under these folders."""
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return found


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def functions_of_tests(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_decision_is_made_on_one_line() -> None:
    """``decide(`` stands once under edge/, in its own module."""
    lines = [
        (name(path), line.strip())
        for path in modules("edge")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "decide(" in line
    ]
    assert [path for path, _ in lines] == ["edge/deciding.py"], lines


def test_topics_are_written_in_one_module() -> None:
    """No other module has a string that begins like a topic."""
    literals = {
        name(path)
        for path in modules(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.match(r"drempel[/.](up|down)", node.value)
    }
    assert literals <= {"pacs/topics.py"}


def test_pacs_imports_only_the_standard_library_cryptography_and_cbor2() -> None:
    """No third package has crept into the shared truth."""
    imported = set()
    for path in modules("pacs"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).partition(".")[0])
    assert imported - PURE <= sys.stdlib_module_names
    assert imported >= {"cryptography", "cbor2"}


def test_pacs_reads_no_clock_and_no_file() -> None:
    """Time and bytes are arguments there."""
    forbidden = re.compile(
        r"(datetime\.(now|utcnow|today)|date\.today|time\.\w+|open|os\.\w+|.*\.(read|write)_(text|bytes))"
    )
    found = {
        (name(path), call) for path in modules("pacs") for call in calls(path) if forbidden.fullmatch(call)
    }
    assert found == set()


def test_the_edge_process_stays_small() -> None:
    """Importing everything that ``drempel-edge`` can reach loads no web framework and no database."""
    listing = (
        "import pkgutil, importlib, sys, edge\n"
        "for m in pkgutil.walk_packages(edge.__path__, 'edge.'):\n"
        "    if not m.name.startswith('edge.desk'):\n"  # a program of its own
        "        importlib.import_module(m.name)\n"
        "print('\\n'.join(sys.modules))"
    )
    process = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {module.partition(".")[0] for module in process.stdout.split()}
    assert {"edge", "pacs", "nfc"} <= loaded
    assert loaded & NEVER_IN_EDGE == set()


def test_no_room_for_odds_and_ends() -> None:
    """Every module is named after what it holds."""
    names = {
        part for path in modules(*PACKAGES, "tests") for part in path.relative_to(ROOT).with_suffix("").parts
    }
    assert names & FORBIDDEN_NAMES == set()


def test_every_test_says_in_a_sentence_what_it_shows() -> None:
    """Each test function has a docstring that ends as a sentence does."""
    silent = [
        f"{name(path)}: {test.name}"
        for path in modules("tests")
        for test in functions_of_tests(path)
        if not (ast.get_docstring(test) or "").rstrip().endswith((".", "?", "!"))
    ]
    assert silent == []


def test_no_test_sleeps_for_luck() -> None:
    """``sleep`` stands only inside a loop that watches a condition, or where a moment is drawn by lot."""
    sleeps = {
        (name(path), node.lineno)
        for path in modules("tests")
        if name(path) not in RANDOM_MOMENTS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    }
    in_loops = {
        (name(path), inner.lineno)
        for path in modules("tests")
        for loop in ast.walk(tree(path))
        if isinstance(loop, ast.While)
        for inner in ast.walk(loop)
        if isinstance(inner, ast.Call)
    }
    assert sleeps <= in_loops


def test_every_log_goes_to_a_named_logger() -> None:
    """Nobody configures or uses the root logger from within a module, and nobody prints."""
    noisy = {
        (name(path), call)
        for path in modules(*PACKAGES)
        for call in calls(path)
        if re.fullmatch(r"logging\.(debug|info|warning|error|critical|exception|log)|print", call)
    }
    assert noisy == set()


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench", "venv", "help"])
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    """The Makefile knows each target that people are told of."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_readmes_commands_exist() -> None:
    """Each ``drempel-…`` and ``make …`` line of README.md names a command, verb and target there are."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", readme, re.DOTALL))
    assert {"demo", "test"} <= set(re.findall(r"^make (\w+)", blocks, re.MULTILINE))
    for target in re.findall(r"^make (\w+)", blocks, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    programs = {point.name: point for point in importlib.metadata.entry_points(group="console_scripts")}
    lines = set(re.findall(r"^(drempel-\S+)((?: [a-z][a-z-]*)*)", blocks, re.MULTILINE))
    assert {program for program, _ in lines} >= {"drempel-edge", "drempel-hub", "drempel-provision"}
    for program, verbs in lines:
        command = programs[program].load()
        for verb in verbs.split():
            if not isinstance(command, click.Group):
                break  # what follows is an argument
            command = command.get_command(click.Context(command), verb)
            assert isinstance(command, click.Command), (program, verb)


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    """.ci/run ends in ``make test``, and can be executed."""
    script = ROOT / ".ci" / "run"
    assert script.read_text(encoding="utf-8").rstrip().endswith("make test")
    assert script.stat().st_mode & 0o111


def test_the_locks_hold_hashes_and_no_addresses() -> None:
    """Every requirement is pinned with its hashes, and nothing says where it comes from."""
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        text = lock.read_text(encoding="utf-8")
        assert not re.search(r"://|--(extra-)?index|--find-links|@ ", text), lock
        entries = [entry for entry in text.replace("\\\n", "").splitlines() if entry and entry[0] != "#"]
        assert entries
        assert all("==" in entry and "--hash=sha256:" in entry for entry in entries), lock
