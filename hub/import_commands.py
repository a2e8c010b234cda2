"""drempel-hub import: people from another system."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click

from hub import audit, imports
from hub.clock import utc_now
from hub.command_line import database_of, fail, located, settings_of, told
from hub.import_rows import MAX_BYTES, Format
from hub.store import sites
from hub.store.database import Database
from hub.store.import_jobs import State
from pacs.identifiers import SiteId


@click.group("import")
def import_group() -> None:
    """People from another system."""


@import_group.command(
    "residents",
    epilog="""\b
Examples:
  drempel-hub import residents people.csv --dry-run --config hub.toml
  drempel-hub import residents people.csv --data-dir data

The columns are described in docs/imports.md. A hub that is running sends the changes to its doors within seconds.""",
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and everything that is wrong.")
@click.option("--site", help="Whose people these are.  [the only site]")
@located
def import_residents(
    config: Path | None, data_dir: Path | None, file: Path, site: str | None, *, dry_run: bool
) -> None:
    """Import people from FILE (.csv, .json or .jsonl), all of them or none.

    Exit status 1 when something in FILE is wrong: every fault is printed with its row and column, and nothing is
    changed.
    """
    with told():
        database = database_of(settings_of(config, data_dir))
        if file.stat().st_size > MAX_BYTES:
            fail(f"{file}: larger than {MAX_BYTES} bytes")
        data = file.read_bytes()
        site_id = _site(database, site)
        job = imports.queued(
            database, data, site_id=site_id, dry_run=dry_run, actor=audit.SYSTEM, now=utc_now()
        )
        done = imports.carry_out(
            database, job, data, _format_of(file), clock=utc_now, said=_progress_on(sys.stderr)
        )
        for fault in done.faults:
            where = ", ".join([f"row {fault.row}", *([fault.column] if fault.column else [])])
            click.echo(f"{where}: {fault.problem}" if fault.row else fault.problem)
        if done.fault_count:
            fail(f"{done.fault_count} faults; nothing was changed")
        verb = "would be" if dry_run else "were"
        click.echo(f"{done.created} {verb} added, {done.changed} changed; {done.unchanged} stay as they are")


COMMANDS = (import_group,)


def _site(database: Database, wanted: str | None) -> SiteId:
    """The site that is named, or the only one."""
    with database.read() as connection:
        if wanted is not None:
            return sites.get(connection, SiteId(wanted)).id
        known = sites.list_all(connection)
    if len(known) != 1:
        fail(f"there are several sites; say which one with --site: {', '.join(each.id for each in known)}")
    return known[0].id


def _format_of(file: Path) -> Format:
    formats = {".csv": Format.CSV, ".json": Format.JSON, ".jsonl": Format.JSON_LINES}
    if file.suffix.lower() not in formats:
        raise click.BadParameter("a name that ends in .csv, .json or .jsonl expected", param_hint="FILE")
    return formats[file.suffix.lower()]


def _progress_on(stream: TextIO) -> Callable[[State, int, int], None]:
    """A line that counts the rows, on a terminal only."""

    def said(state: State, done: int, rows: int) -> None:
        if stream.isatty():
            click.echo(f"\r{state} {done} of {rows}", file=stream, nl=done == rows)

    return said
