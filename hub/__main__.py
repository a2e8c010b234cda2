"""drempel-hub: run the hub, sign operators in for the first time, make API tokens, import people, check the audit log, back up."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from hub import audit, backup_commands, broker_node, imports, logs
from hub.app import create_app, utc_now
from hub.audit import AuditHead
from hub.command_line import configuration as _configuration
from hub.command_line import database_of as _database
from hub.command_line import fail as _fail
from hub.command_line import located
from hub.command_line import settings_of as _settings
from hub.command_line import told as _told
from hub.import_rows import MAX_BYTES, Format
from hub.oidc import disconnect
from hub.operators import Operators, name_key
from hub.passkeys import Passkeys
from hub.roles import Permission, Role
from hub.server import link_text, origin, serve
from hub.settings import KEYS, Address, Settings, faults
from hub.store import operators as operator_rows
from hub.store import sites
from hub.store.database import Database
from hub.store.import_jobs import State
from pacs.identifiers import SiteId

Command = TypeVar("Command", bound=Callable[..., Any])
_ROLES = click.Choice([role.value for role in Role])
_PERMISSIONS = click.Choice([permission.value for permission in Permission])
_OF_SITES = click.option(
    "--site", multiple=True, metavar="ID", help="Only this one; may be repeated. [every site]"
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Drempel's hub: administration, live page and the doors' broker.

    Exit status: 0 done, 1 refused or failed, 2 wrong usage.

    Example: drempel-hub run --config wilgenoord/hub/hub.toml
    """


for command in backup_commands.COMMANDS:
    main.add_command(command)


@main.command(
    epilog="""\b
Examples:
  drempel-hub run --config hub.toml
  drempel-hub run --site-dir wilgenoord/hub --data-dir data --http 127.0.0.1:8000 --mqtt 127.0.0.1:8883"""
)
@located
@click.option("--site-dir", type=click.Path(path_type=Path, file_okay=False), help="The hub's keys.")
@click.option("--http", metavar="HOST:PORT", help="Where pages and API are served. [127.0.0.1:8000]")
@click.option("--mqtt", metavar="HOST:PORT", help="Where controllers connect. [127.0.0.1:8883]")
@click.option("--time-zone", metavar="IANA", help="The site's time zone, such as Europe/Amsterdam.")
def run(
    config: Path | None,
    data_dir: Path | None,
    site_dir: Path | None,
    http: str | None,
    mqtt: str | None,
    time_zone: str | None,
) -> None:
    """Run the hub until it is told to stop."""
    with _told():
        settings = _configuration(
            config,
            data_dir,
            site_dir,
            http=Address.parse(http) if http else None,
            mqtt=Address.parse(mqtt) if mqtt else None,
            time_zone=time_zone,
        ).settings
        logs.configure(settings.log_level, settings.log_format)
        serve(settings)


@main.group()
def broker() -> None:
    """The broker that controllers connect to."""


@broker.command(
    "run",
    epilog="""\b
Example:
  drempel-hub broker run --config hub.toml

How a cluster is set up is described in docs/scale.md.""",
)
@located
def broker_run(config: Path | None, data_dir: Path | None) -> None:
    """Run one node of a cluster, without a hub, until it is told to stop."""
    with _told():
        settings = _configuration(config, data_dir).settings
        logs.configure(settings.log_level, settings.log_format)
        stopping = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
        broker_node.run(settings, stopping)


@main.group()
def operator() -> None:
    """Those who sign in."""


@operator.command(
    "link",
    epilog="""\b
Examples:
  drempel-hub operator link --config hub.toml
  drempel-hub operator link "Night desk" --config hub.toml
  drempel-hub operator link --data-dir data --name "Night desk" --role guard --site wilgenoord""",
)
@located
@click.option(
    "--name", default="", help="For this operator; without it, who follows the link chooses a name."
)
@click.argument("who", default="")
@click.option("--role", type=_ROLES, help="A new operator's role. [administrator]")
@_OF_SITES
def operator_link(
    config: Path | None, data_dir: Path | None, name: str, who: str, role: str | None, site: tuple[str, ...]
) -> None:
    """Print a one-time sign-in link, valid for 15 minutes.

    For WHO, or for somebody new. Whoever is known keeps role and sites, and may set a new password.
    """
    with _told():
        settings, operators = _operators(config, data_dir)
        token = operators.links.create(
            name=who or name,
            role=Role(role) if role else None,
            sites=frozenset(map(SiteId, site)) or None,
            now=utc_now(),
        )
        click.echo(link_text(origin(settings), token))


@operator.command("list")
@located
def operator_list(config: Path | None, data_dir: Path | None) -> None:
    """Print every operator's name, role, sites and state."""
    with _told():
        database = _database(_settings(config, data_dir))
        with database.read() as connection:
            for row in operator_rows.list_operators(connection):
                state = "disabled" if row.disabled_at else "enabled"
                click.echo(f"{row.name}\t{row.role}\t{_sites_text(row.sites)}\t{state}")


@operator.command("disable")
@click.argument("name")
@located
def operator_disable(config: Path | None, data_dir: Path | None, name: str) -> None:
    """Shut an operator out and end their sessions at once."""
    with _told():
        _set_disabled(config, data_dir, name, disabled=True)


@operator.command("enable")
@click.argument("name")
@located
def operator_enable(config: Path | None, data_dir: Path | None, name: str) -> None:
    """Let an operator in again."""
    with _told():
        _set_disabled(config, data_dir, name, disabled=False)


@operator.command("end-sessions")
@click.argument("name")
@located
def operator_end_sessions(config: Path | None, data_dir: Path | None, name: str) -> None:
    """Sign an operator out everywhere, at once."""
    with _told():
        database, found = _operator_named(config, data_dir, name)
        Operators(database).end_sessions(found.id, now=utc_now())


@operator.group("passkeys")
def operator_passkeys() -> None:
    """What operators sign in with instead of a password."""


@operator_passkeys.command("remove")
@click.argument("name")
@located
def passkeys_remove(config: Path | None, data_dir: Path | None, name: str) -> None:
    """Remove all passkeys of an operator: a device was lost."""
    with _told():
        database, found = _operator_named(config, data_dir, name)
        count = Passkeys(database, "").remove_all(found.id, utc_now())
        click.echo(f"{count} removed")


@operator.group("oidc")
def operator_oidc() -> None:
    """Accounts at an OpenID provider that sign operators in."""


@operator_oidc.command("remove")
@click.argument("name")
@located
def oidc_remove(config: Path | None, data_dir: Path | None, name: str) -> None:
    """Disconnect the account of an operator: it signs nobody in any more."""
    with _told():
        database, found = _operator_named(config, data_dir, name)
        click.echo("removed" if disconnect(database, found.id, utc_now()) else "there was none")


@main.group()
def token() -> None:
    """API tokens for programs."""


@token.command(
    "create",
    epilog="""\b
Example:
  drempel-hub token create --data-dir data --name bureau --role site_manager --site wilgenoord --expires 90d
  drempel-hub token create --data-dir data --name board --role auditor --permission events.read --expires never""",
)
@located
@click.option("--name", required=True, callback=lambda _context, _option, value: _token_name(value))
@click.option("--role", type=_ROLES, default=Role.SITE_MANAGER.value, show_default=True)
@click.option(
    "--permission",
    multiple=True,
    type=_PERMISSIONS,
    help="Only this one of the role's; may be repeated. [all]",
)
@_OF_SITES
@click.option(
    "--expires", default="90d", show_default=True, metavar="DAYSd|HOURSh|never",
    callback=lambda _context, _option, value: _lifetime(value), help="When it stops working.",
)  # fmt: skip
def token_create(
    config: Path | None,
    data_dir: Path | None,
    name: str,
    role: str,
    permission: tuple[str, ...],
    site: tuple[str, ...],
    expires: timedelta | None,
) -> None:
    """Make an API token and print it, once: only its hash is stored."""
    with _told():
        _, operators = _operators(config, data_dir)
        made = operators.tokens.create(
            name=name,
            role=Role(role),
            permissions=frozenset(map(Permission, permission)) or None,
            sites=frozenset(map(SiteId, site)) or None,
            lifetime=expires,
            now=utc_now(),
        )
        if expires is None:
            click.echo("drempel-hub: this token never expires; revoke it when it is no longer used", err=True)
        click.echo(made)


@token.command("list")
@located
def token_list(config: Path | None, data_dir: Path | None) -> None:
    """Print every token's name, role, sites, expiry and last use; never the token."""
    with _told():
        database = _database(_settings(config, data_dir))
        with database.read() as connection:
            for row in operator_rows.list_tokens(connection):
                until = row.expires_at.isoformat(timespec="minutes") if row.expires_at else "never expires"
                used = row.last_used_at.isoformat(timespec="minutes") if row.last_used_at else "never used"
                state = "revoked" if row.revoked_at else until
                click.echo(f"{row.name}\t{row.role}\t{_sites_text(row.sites)}\t{state}\t{used}")


@token.command("revoke")
@click.argument("name")
@located
def token_revoke(config: Path | None, data_dir: Path | None, name: str) -> None:
    """Make a token useless at once."""
    with _told():
        _operators(config, data_dir)[1].tokens.revoke(name, utc_now())


@main.group("import")
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
    with _told():
        database = _database(_settings(config, data_dir))
        if file.stat().st_size > MAX_BYTES:
            _fail(f"{file}: larger than {MAX_BYTES} bytes")
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
            _fail(f"{done.fault_count} faults; nothing was changed")
        verb = "would be" if dry_run else "were"
        click.echo(f"{done.created} {verb} added, {done.changed} changed; {done.unchanged} stay as they are")


@main.command("openapi")
def print_openapi() -> None:
    """Print the description of the hub's interface (OpenAPI 3.1, JSON)."""
    app = create_app(Settings(site_dir=Path(), data_dir=Path()))
    click.echo(json.dumps(app.openapi(), indent=2))


@main.group("config")
def config_group() -> None:
    """What this hub is told, and by whom."""


@config_group.command("show")
@located
def config_show(config: Path | None, data_dir: Path | None) -> None:
    """Print every setting: name, value in force, who gave it. A secret is only said to be set."""
    with _told():
        found = _configuration(config, data_dir)
        for key in KEYS:
            click.echo(f"{key.name}\t{found.shown(key)}\t{found.origins[key.name]}")


@config_group.command("check")
@located
def config_check(config: Path | None, data_dir: Path | None) -> None:
    """Read the settings and look at the files they name; print what is wrong, and exit 1 when something is."""
    with _told():
        wrong = faults(_configuration(config, data_dir).settings)
        for fault in wrong:
            click.echo(fault)
        if wrong:
            _fail(f"{len(wrong)} things are wrong")
        click.echo("the settings can be used")


@main.group("audit")
def audit_group() -> None:
    """The log of what operators and programs did."""


@audit_group.command("verify")
@located
@click.option("--expect", metavar="COUNT:HASH", help="A head noted earlier, which must still be in the log.")
def audit_verify(config: Path | None, data_dir: Path | None, expect: str | None) -> None:
    """Check the whole log and print its head, COUNT:HASH: worth noting down elsewhere."""
    try:
        expected = AuditHead.parse(expect) if expect else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expect") from error
    with _told(), _database(_settings(config, data_dir)).read() as connection:
        click.echo(str(audit.verify(connection, expected)))


def _site(database: Database, wanted: str | None) -> SiteId:
    """The site that is named, or the only one."""
    with database.read() as connection:
        if wanted is not None:
            return sites.get(connection, SiteId(wanted)).id
        known = sites.list_all(connection)
    if len(known) != 1:
        _fail(f"there are several sites; say which one with --site: {', '.join(each.id for each in known)}")
    return known[0].id


def _operators(config: Path | None, data_dir: Path | None) -> tuple[Settings, Operators]:
    settings = _settings(config, data_dir)
    return settings, Operators(_database(settings))


def _set_disabled(config: Path | None, data_dir: Path | None, name: str, *, disabled: bool) -> None:
    database, found = _operator_named(config, data_dir, name)
    Operators(database).set_disabled(found.id, disabled=disabled, now=utc_now())


def _operator_named(
    config: Path | None, data_dir: Path | None, name: str
) -> tuple[Database, operator_rows.OperatorRow]:
    database = _database(_settings(config, data_dir))
    with database.read() as connection:
        found = operator_rows.operator_by_key(connection, name_key(name))
    if found is None:
        _fail(f"there is no operator named {name}; see drempel-hub operator list")
    return database, found


def _sites_text(sites: list[str] | None) -> str:
    return "every site" if sites is None else " ".join(sites)


def _lifetime(text: str) -> timedelta | None:
    """``90d``, ``12h`` or ``never``."""
    if text == "never":
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})([dh])", text)
    lifetime = timedelta(**{"days" if found[2] == "d" else "hours": int(found[1])}) if found else timedelta()
    if not timedelta() < lifetime <= timedelta(days=3650):
        raise click.BadParameter("such as 90d or 12h expected, at most 3650d; or never")
    return lifetime


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


def _token_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,48}", name):
        raise click.BadParameter("1 to 48 characters of A-Z a-z 0-9 _ - expected")
    return name


if __name__ == "__main__":
    main()
