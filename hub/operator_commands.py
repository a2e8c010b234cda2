"""drempel-hub operator and token: who signs in, and what programs are known by."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import click

from hub.clock import utc_now
from hub.command_line import database_of, fail, located, settings_of, told
from hub.oidc import disconnect
from hub.operators import Operators, name_key
from hub.passkeys import Passkeys
from hub.roles import Permission, Role
from hub.settings import Settings
from hub.store import operators as operator_rows
from hub.store.database import Database
from pacs.identifiers import SiteId

_ROLES = click.Choice([role.value for role in Role])
_PERMISSIONS = click.Choice([permission.value for permission in Permission])
_OF_SITES = click.option(
    "--site", multiple=True, metavar="ID", help="Only this one; may be repeated. [every site]"
)


def _lifetime(text: str) -> timedelta | None:
    """``90d``, ``12h`` or ``never``."""
    if text == "never":
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})([dh])", text)
    lifetime = timedelta(**{"days" if found[2] == "d" else "hours": int(found[1])}) if found else timedelta()
    if not timedelta() < lifetime <= timedelta(days=3650):
        raise click.BadParameter("such as 90d or 12h expected, at most 3650d; or never")
    return lifetime


def _token_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,48}", name):
        raise click.BadParameter("1 to 48 characters of A-Z a-z 0-9 _ - expected")
    return name


@click.group()
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
    from hub.server import link_text, origin

    with told():
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
    with told():
        database = database_of(settings_of(config, data_dir))
        with database.read() as connection:
            for row in operator_rows.list_operators(connection):
                state = "disabled" if row.disabled_at else "enabled"
                click.echo(f"{row.name}\t{row.role}\t{_sites_text(row.sites)}\t{state}")


@operator.command("disable")
@click.argument("name")
@located
def operator_disable(config: Path | None, data_dir: Path | None, name: str) -> None:
    """Shut an operator out and end their sessions at once."""
    with told():
        _set_disabled(config, data_dir, name, disabled=True)


@operator.command("enable")
@click.argument("name")
@located
def operator_enable(config: Path | None, data_dir: Path | None, name: str) -> None:
    """Let an operator in again."""
    with told():
        _set_disabled(config, data_dir, name, disabled=False)


@operator.command("end-sessions")
@click.argument("name")
@located
def operator_end_sessions(config: Path | None, data_dir: Path | None, name: str) -> None:
    """Sign an operator out everywhere, at once."""
    with told():
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
    with told():
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
    with told():
        database, found = _operator_named(config, data_dir, name)
        click.echo("removed" if disconnect(database, found.id, utc_now()) else "there was none")


@click.group()
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
    with told():
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
    with told():
        database = database_of(settings_of(config, data_dir))
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
    with told():
        _operators(config, data_dir)[1].tokens.revoke(name, utc_now())


COMMANDS = (operator, token)


def _operators(config: Path | None, data_dir: Path | None) -> tuple[Settings, Operators]:
    settings = settings_of(config, data_dir)
    return settings, Operators(database_of(settings))


def _set_disabled(config: Path | None, data_dir: Path | None, name: str, *, disabled: bool) -> None:
    database, found = _operator_named(config, data_dir, name)
    Operators(database).set_disabled(found.id, disabled=disabled, now=utc_now())


def _operator_named(
    config: Path | None, data_dir: Path | None, name: str
) -> tuple[Database, operator_rows.OperatorRow]:
    database = database_of(settings_of(config, data_dir))
    with database.read() as connection:
        found = operator_rows.operator_by_key(connection, name_key(name))
    if found is None:
        fail(f"there is no operator named {name}; see drempel-hub operator list")
    return database, found


def _sites_text(sites: list[str] | None) -> str:
    return "every site" if sites is None else " ".join(sites)
