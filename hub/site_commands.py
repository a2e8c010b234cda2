"""drempel-hub site: the end of one."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from hub import audit, leases, site_ends
from hub.clock import utc_now
from hub.command_line import database_of, fail, located, settings_of, told
from pacs.identifiers import SiteId


@click.group("site")
def site_group() -> None:
    """A site that closes."""


@site_group.command(
    "erase",
    epilog="""\b
Examples:
  drempel-hub site erase emergency --reason "closed" --dry-run --config hub.toml
  drempel-hub site erase emergency --reason "closed" --statement erased.json --config hub.toml

How a site is closed, from its cards to its keys, is described in docs/emergency-site.md.""",
)
@click.argument("site")
@click.option("--reason", required=True, help="Why, for the audit log; names nobody.")
@click.option(
    "--statement",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what was deleted into this new file, too.",
)
@click.option("--dry-run", is_flag=True, help="Only say how many rows say something of people.")
@located
def site_erase(
    config: Path | None,
    data_dir: Path | None,
    site: str,
    reason: str,
    statement: Path | None,
    *,
    dry_run: bool,
) -> None:
    """Delete for good what is known of the people of SITE: names, photographs, taps, grants.

    Refused while a hub runs, a card of theirs is not revoked, a controller of SITE is let in, or a legal hold keeps something.
    What stays is that their cards open nothing, the totals, and the audit log, which name nobody. Backups are not reached.
    """
    with told(), closing(database_of(settings_of(config, data_dir))) as database:
        site_id = SiteId(site)
        if dry_run:
            found = site_ends.check(database, site_id, utc_now())
            click.echo(json.dumps({"site": site_id, "made": False, "rows": found}, indent=2))
            return
        if not 3 <= len(reason.strip()) <= 300:
            raise click.BadParameter("3 to 300 characters expected", param_hint="--reason")
        if statement is not None and statement.exists():
            fail(f"{statement}: is there already")
        if leases.is_served(database):
            fail("a hub runs on this database; stop it first")
        done = site_ends.erase(database, site_id, reason=reason.strip(), actor=audit.SYSTEM, clock=utc_now)
        said = json.dumps({**asdict(done), "erased_at": done.erased_at.isoformat()}, indent=2) + "\n"
        click.echo(said, nl=False)
        if statement is not None:
            with os.fdopen(os.open(statement, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(said)


COMMANDS = (site_group,)
