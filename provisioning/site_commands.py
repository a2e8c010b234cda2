"""``drempel-provision site``: create and audit; backup and restore are in backup_commands.py."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pacs.errors import StoreError
from pacs.identifiers import SiteId
from provisioning import audit_log, command
from provisioning.backup_commands import backup, restore
from provisioning.keystore import Passphrase, read_file, refuse_existing
from provisioning.pkcs11_keys import KeyToken, TokenAccess
from provisioning.site import Site, create_site, generate_issuer, site_files
from provisioning.site_closing import destroy_keys


@click.group("site")
def site_group() -> None:
    """The site's own keys."""


site_group.add_command(backup)
site_group.add_command(restore)
site_group.add_command(destroy_keys)


@site_group.command(
    "create",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision site create wilgenoord --site wilgenoord --broker-host hub.wilgenoord.example
  drempel-provision site create demo --site demo --dry-run --format json
  drempel-provision site create wilgenoord --site wilgenoord --pkcs11-module /usr/lib/opensc-pkcs11.so \\
      --root-token safe --root-pin-file pin-of-safe --card-issuer-token desk --pin-file pin-of-desk
""",
)
@click.argument("directory", type=command.directory_path)
@click.option("--site", "site_id", required=True, callback=command.parsed(SiteId), help="The site's id.")
@click.option(
    "--broker-host",
    "broker_hosts",
    multiple=True,
    default=("localhost",),
    show_default=True,
    help="Name or address of the hub's machine; the first is the one controllers use.",
)
@click.option(
    "--root-dir",
    "root_directory",
    type=command.directory_path,
    help="Where the root's key is put, such as on a medium of its own.  [default: DIRECTORY/root]",
)
@click.option("--root-token", metavar="LABEL", help="Make the root's key in this PKCS#11 token instead.")
@click.option("--root-pin-file", type=command.file_path, help="That token's PIN.  [default: --pin-file]")
@click.option(
    "--card-issuer-token", metavar="LABEL", help="Make the card issuer's key in this PKCS#11 token."
)
@command.passphrase_option
@command.tokens_options
@command.dry_run_option
@command.format_option
@command.explained
def site_create(
    *,
    directory: Path,
    site_id: SiteId,
    broker_hosts: tuple[str, ...],
    root_directory: Path | None,
    root_token: str | None,
    root_pin_file: Path | None,
    card_issuer_token: str | None,
    passphrase_file: Path | None,
    tokens: TokenAccess | None,
    dry_run: bool,
    form: str,
) -> None:
    """Make a site: root and its two intermediates, card issuer, policy signer, and what its hub is given.

    Without --passphrase-file a passphrase is generated and kept in DIRECTORY/passphrase. The root's key has one of its
    own, beside it: it is needed for no daily work and belongs into a safe.
    """
    if root_token and root_directory:
        raise click.UsageError("--root-dir or --root-token, not both")
    if (root_token or card_issuer_token) and tokens is None:
        raise click.UsageError("a token needs --pkcs11-module and --pin-file")
    passphrase = Passphrase.from_file(passphrase_file) if passphrase_file else None
    refuse_existing(directory)
    opened = _opened(tokens, root_token, root_pin_file, card_issuer_token)
    now, issuer = datetime.now(UTC), generate_issuer()
    result: dict[str, Any] = {"site": site_id, "directory": str(directory), "made": not dry_run}
    if dry_run:
        files = site_files(site_id, now=now, passphrase=passphrase, broker_hosts=broker_hosts, issuer=issuer)
        of_root = [] if root_token else sorted(str(file.path) for file in files.root)
        of_site = sorted(str(file.path) for file in files.site)
        result["files"] = [n for n in of_site if not (card_issuer_token and n == "card-issuer.key.pem")]
        result["root_files"] = of_root
        lines = [f"Would make in {directory}:", *(f"  {name}" for name in result["files"])]
        if of_root:
            lines += [f"and in {root_directory or directory / 'root'}:", *(f"  {name}" for name in of_root)]
        lines += [
            f"and in token {label}: the key of the {what}"
            for what, label in (("root", root_token), ("card issuer", card_issuer_token))
            if label
        ]
        command.say(form, result, "\n".join(lines))
        return
    made = create_site(
        directory,
        site_id,
        now=now,
        passphrase=passphrase,
        broker_hosts=broker_hosts,
        issuer=issuer,
        root_directory=root_directory,
        root_token=opened.get(root_token),
        card_issuer_token=opened.get(card_issuer_token),
    )
    facts = {"site": site_id, "issuer": issuer, "broker_hosts": list(broker_hosts)}
    places = {"root": made.root_at, "card_issuer": made.card_issuer_at}
    facts |= {name: str(address) for name, address in places.items() if address is not None}
    with command.audited(made, "site create", **facts):
        pass
    result["files"] = sorted(str(path.relative_to(directory)) for path in directory.rglob("*.*"))
    result |= {"issuer": made.issuer, "keys_in_tokens": {k: str(v) for k, v in places.items() if v}}
    command.say(form, result, _next_steps(made, root_directory or made.root_directory))


def _opened(
    tokens: TokenAccess | None, root: str | None, root_pin_file: Path | None, card_issuer: str | None
) -> dict[str | None, KeyToken]:
    """The tokens that are asked for, by label, each logged in to once."""
    opened: dict[str | None, KeyToken] = {}
    if tokens is None:
        return opened
    if root:
        opened[root] = TokenAccess(module=tokens.module, pin_file=root_pin_file or tokens.pin_file).open(root)
    if card_issuer and card_issuer not in opened:
        opened[card_issuer] = tokens.open(card_issuer)
    return opened


def _next_steps(made: Site, root_directory: Path) -> str:
    directory = made.directory
    local = (
        "\nIts broker answers as localhost only; for another machine name it with --broker-host."
        if made.broker_host == "localhost"
        else ""
    )
    root = made.root_at.token if made.root_at else f"{root_directory} to a safe, its passphrase to another"
    return f"""\
Made {directory} for site {made.id}; its private keys are encrypted{" or in their tokens" if made.root_at or made.card_issuer_at else ""}.{local}

Next:
  take {root}{" to a safe" if made.root_at else ""}: the root is needed for no daily work
  keep {directory} offline and its passphrase apart from it: who has both can make cards and devices
  split a copy of the keys among people: drempel-provision site backup {directory} --out BACKUP
  move {made.hub_directory} to the hub's machine, and there: drempel-hub run --config hub.toml
  for each controller: drempel-provision reader add CONTROLLER --door DOOR --hub URL --token-file F"""


@site_group.command(
    "audit",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision site audit wilgenoord
  drempel-provision site audit wilgenoord --expect 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
""",
)
@click.argument("directory", type=command.directory_path)
@click.option("--expect", metavar="HEAD", help="A head noted earlier: the log must still hold it.")
@command.format_option
@command.explained
def site_audit(*, directory: Path, expect: str | None, form: str) -> None:
    """Show what was done with a site's keys, and verify that no line was changed; exit status 1 when one was.

    Lines cut off at the end are found by a head that was noted earlier.
    """
    data = read_file(directory / audit_log.FILE)
    audit = audit_log.verify(data)
    faults = list(audit.faults)
    if expect and not audit_log.holds(data, expect):
        faults.append(f"does not hold {expect}: lines up to that head were changed or cut off")
    result = {"entries": list(audit.entries), "head": audit.head, "faults": faults}
    lines = [
        f"{entry['at']}  {entry['who']}  {entry['what']}  {entry['outcome']}  "
        + " ".join(f"{name}={value}" for name, value in entry["facts"].items())
        for entry in audit.entries
    ]
    command.say(
        form, result, "\n".join([*lines, "", f"{len(audit.entries)} entries; note the head: {audit.head}"])
    )
    if faults:
        raise StoreError("\n".join(f"{directory / audit_log.FILE}: {fault}" for fault in faults))
