"""``python -m tests.fuzz``: a million inputs for everything that reads foreign bytes.

Ends with status 0 when none of them escaped its error type or exceeded its bound in time or memory, with 1 otherwise;
the inputs that did are kept under ``build/fuzz``.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from tests.fuzz.targets import TARGETS

BUILD: Final = Path("build/fuzz")
MEMORY_MB: Final = 1_024
HANGS_S: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one target."""

    name: str
    clean: bool
    accepted: int
    refused: int
    slowest_ms: float
    said: str


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(sorted(TARGETS)))
@click.option("--inputs", default=1_000_000, show_default=True, help="How many, over all targets.")
@click.option("--jobs", default=2, show_default=True, help="Targets at a time.")
@click.option("--seed", default=1, show_default=True, help="Where the dice begin.")
def main(names: tuple[str, ...], inputs: int, jobs: int, seed: int) -> None:
    """Feed every target, or those NAMES, with inputs that grow towards code not yet reached.

    Example: python -m tests.fuzz --inputs 200000 tlv certificate
    """
    if importlib.util.find_spec("atheris") is None:
        raise click.ClickException(
            "atheris is not installed; run: make fuzz (it has no build for every machine)"
        )
    chosen = names or tuple(TARGETS)
    each = -(-inputs // len(chosen))
    console = Console()
    outcomes = []
    with ThreadPoolExecutor(jobs) as pool:
        for outcome in pool.map(partial(run, inputs=each, seed=seed), chosen):
            outcomes.append(outcome)
            state = "clean" if outcome.clean else f"FOUND\n{outcome.said}"
            console.print(
                f"{outcome.name}: {outcome.accepted + outcome.refused:,} inputs, {state}", markup=False
            )
    console.print(_table(outcomes))
    sys.exit(0 if all(outcome.clean for outcome in outcomes) else 1)


def run(name: str, *, inputs: int, seed: int) -> Outcome:
    """Fuzz one target in a process of its own."""
    corpus, result = BUILD / "corpus" / name, BUILD / f"{name}.json"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(TARGETS[name].seeds()):
        (corpus / f"seed-{number}").write_bytes(data)
    result.unlink(missing_ok=True)
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.worker", name, str(result)),
            *(f"-runs={inputs}", f"-seed={seed}", f"-rss_limit_mb={MEMORY_MB}", f"-timeout={HANGS_S}"),
            *(f"-artifact_prefix={BUILD}/{name}-", "-print_final_stats=0", "-verbosity=0", str(corpus)),
        ],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    counted = json.loads(result.read_text()) if result.exists() else {}
    return Outcome(
        name=name,
        clean=ended.returncode == 0 and bool(counted),
        accepted=counted.get("accepted", 0),
        refused=counted.get("refused", 0),
        slowest_ms=counted.get("slowest_ms", 0.0),
        said=(ended.stdout + ended.stderr)[-3_000:],
    )


def _table(outcomes: list[Outcome]) -> Table:
    total = sum(outcome.accepted + outcome.refused for outcome in outcomes)
    table = Table(title=f"{total:,} inputs, {sum(not outcome.clean for outcome in outcomes)} findings")
    for column in ("target", "accepted", "refused", "slowest, ms of processor"):
        table.add_column(column, justify="left" if column == "target" else "right")
    for outcome in outcomes:
        table.add_row(
            outcome.name, f"{outcome.accepted:,}", f"{outcome.refused:,}", f"{outcome.slowest_ms:.1f}"
        )
    return table


if __name__ == "__main__":
    main(prog_name="python -m tests.fuzz")
