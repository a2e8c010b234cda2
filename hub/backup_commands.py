"""drempel-hub backup, backup-key, restore and verify."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import click

from hub import backup, verification
from hub.backup import LONGEST_LIFETIME, USUAL_LIFETIME, Summary
from hub.backup_file import BackupKey
from hub.certificates import site_certificates
from hub.clock import utc_now
from hub.command_line import Command, database_of, fail, located, settings_of, told
from hub.settings import Settings, database_address
from hub.store.database import Database

_FILE = click.Path(path_type=Path, dir_okay=False)
_TOLD_EVERY = 5_000


def _keyed(*, required: bool) -> Callable[[Command], Command]:
    return click.option("--key-file", type=_FILE, required=required, help="What backup-key made.")


def _formatted(command: Command) -> Command:
    return click.option(
        "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
    )(command)


@click.command("backup-key")
@click.argument("file", type=_FILE)
def make_key(file: Path) -> None:
    """Make the key that backups are encrypted with, in the new file FILE.

    Keep a copy of it apart from the backups, on paper too: without it they are worth nothing, beside it they protect
    nothing.

    Example: drempel-hub backup-key /etc/drempel/backup.key
    """
    with told():
        BackupKey.make(file)
        click.echo(f"{file}: made; keep a copy of it where no backup is")


@click.command(
    "backup",
    epilog="""\b
Examples:
  drempel-hub backup-key /etc/drempel/backup.key
  drempel-hub backup /media/stick/hub-2026-11-28.backup --key-file /etc/drempel/backup.key --config hub.toml
  drempel-hub backup hub.backup --key-file backup.key --data-dir data --days 3 --format json""",
)
@click.argument("file", type=_FILE)
@_keyed(required=True)
@click.option(
    "--days",
    type=click.IntRange(1, LONGEST_LIFETIME.days),
    default=USUAL_LIFETIME.days,
    show_default=True,
    help="How long it may be kept.",
)
@_formatted
@located
def make_backup(
    config: Path | None, data_dir: Path | None, file: Path, key_file: Path, days: int, form: str
) -> None:
    """Copy everything the hub knows, as it is at one moment, into the new encrypted file FILE, while the hub runs.

    Sessions and one-time links are not in it. The head of the audit log that is printed is worth noting elsewhere.
    """
    with told():
        key = BackupKey.load(key_file)
        made = backup.make(
            database_of(settings_of(config, data_dir)),
            file,
            key,
            now=utc_now(),
            lifetime=timedelta(days=days),
            said=_progress_on(sys.stderr),
        )
        size = file.stat().st_size
        _say(
            form,
            {"file": str(file), "bytes": size, **_described(made)},
            f"{file}: {size} bytes\n{_summed_up(made)}",
        )


@click.command(
    "restore",
    epilog="""\b
Examples:
  drempel-hub restore hub-2026-11-28.backup --key-file backup.key --config hub.toml
  drempel-hub restore old.backup --key-file backup.key --config hub.toml --expired "the only one that is left\"""",
)
@click.argument("file", type=_FILE)
@_keyed(required=True)
@click.option(
    "--expired", metavar="REASON", default="", help="Use a backup that may no longer be kept, and why."
)
@_formatted
@located
def restore(
    config: Path | None, data_dir: Path | None, file: Path, key_file: Path, expired: str, form: str
) -> None:
    """Make an empty database, of either kind, into the hub that FILE was made of: all of it, or nothing.

    Do this before the new hub is started for the first time, and only when the old one will not come back. Exit
    status 1 when nothing was restored, and when something was wrong in the backed-up hub already, which is named.
    """
    with told():
        key = BackupKey.load(key_file)
        database = Database.of(database_address(settings_of(config, data_dir)))
        done = backup.restore(
            database, file, key, now=utc_now(), despite_expiry=expired, said=_progress_on(sys.stderr)
        )
        faults = [asdict(fault) for fault in done.faults]
        lines = [
            _summed_up(done.summary),
            *(str(fault) for fault in done.faults),
            *_next(done.summary, expired),
        ]
        _say(
            form, {**_described(done.summary), "expired_because": expired, "faults": faults}, "\n".join(lines)
        )
        if done.faults:
            fail(f"restored as it was; {len(faults)} things were wrong when the backup was made")


@click.command(
    "verify",
    epilog="""\b
Examples:
  drempel-hub verify --config hub.toml
  drempel-hub verify hub-2026-11-28.backup --key-file backup.key""",
)
@click.argument("file", type=_FILE, required=False)
@_keyed(required=False)
@_formatted
@located
def verify(
    config: Path | None, data_dir: Path | None, file: Path | None, key_file: Path | None, form: str
) -> None:
    """Check the backup FILE, or without one the hub's database: everything that is wrong is named, with exit status 1.

    Of a backup: key, every byte, the number of rows and until when it may be kept. Of a database: schema, file, audit
    log, each controller's chain of events and the documents, and which certificate of the site is due; the hub may be
    running.
    """
    if (file is None) != (key_file is None):
        raise click.UsageError("FILE and --key-file: give both, or neither for the hub's database")
    with told():
        if file is not None and key_file is not None:
            _verify_backup(file, key_file, form)
        else:
            _verify_database(settings_of(config, data_dir), form)


COMMANDS = (make_backup, make_key, restore, verify)


def _verify_backup(file: Path, key_file: Path, form: str) -> None:
    found = backup.examine(file, BackupKey.load(key_file), said=_progress_on(sys.stderr))
    is_expired = utc_now() >= found.expires_at
    _say(form, {"file": str(file), **_described(found), "is_expired": is_expired}, _summed_up(found))
    if is_expired:
        fail(f"{file}: whole, but it could be kept until {_day(found.expires_at)}; delete it")


def _verify_database(settings: Settings, form: str) -> None:
    progress = _progress_on(sys.stderr)
    with database_of(settings).read() as connection:
        found = list(verification.faults(connection, lambda events: progress("events", events)))
    held = site_certificates(settings.site_dir, settings.certificate)
    found += verification.certificates_due(held, utc_now())
    _say(
        form, {"faults": [asdict(fault) for fault in found]}, "\n".join(map(str, found)) or "nothing is wrong"
    )
    if found:
        fail(f"{len(found)} things are wrong")


def _described(summary: Summary) -> dict[str, Any]:
    return {
        "made_at": summary.made_at.isoformat(),
        "expires_at": summary.expires_at.isoformat(),
        "revision": summary.revision,
        "rows": dict(summary.rows),
        "audit_head": summary.audit_head,
    }


def _summed_up(summary: Summary) -> str:
    rows = summary.rows
    return (
        f"made {_day(summary.made_at)}, to be deleted by {_day(summary.expires_at)}, schema {summary.revision}\n"
        f"{sum(rows.values())} rows: {rows['events']} events of {rows['controllers']} controllers,"
        f" {rows['doors']} doors, {rows['cardholders']} people, {rows['cards']} cards\n"
        f"head of the audit log: {summary.audit_head}"
    )


def _next(summary: Summary, expired: str) -> list[str]:
    made = _day(summary.made_at)
    lost = (
        f"What was done since {made} is not in this hub: blocks, new people and new cards of that time must be entered"
        " again. An audit head noted since then is not in the log any more: audit verify --expect finds that."
    )
    then = (
        "Next: start the hub. Controllers send again what they still hold; what is nowhere any more is shown as a hole"
        " in their record. Doors get documents with versions above those they hold."
    )
    lines = ["", lost, then, "Everybody signs in anew; for a link: drempel-hub operator link"]
    return [*lines, f"The backup had expired; it was used because: {expired}"] if expired else lines


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _say(form: str, document: dict[str, Any], text: str) -> None:
    click.echo(json.dumps(document) if form == "json" else text)


def _progress_on(stream: TextIO) -> Callable[[str, int], None]:
    """A line that counts, on a terminal only."""
    told_at = 0

    def said(what: str, done: int) -> None:
        nonlocal told_at
        if stream.isatty() and done - told_at >= _TOLD_EVERY:
            told_at = done
            click.echo(f"\r{done:>12,} {what:<24}\r", file=stream, nl=False)

    return said
