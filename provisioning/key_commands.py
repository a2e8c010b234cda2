"""``drempel-provision key``: list, rotate, retire and deliver."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from provisioning import command, rotation
from provisioning.command import NamedHub
from provisioning.key_change_commands import key_retire, key_rotate
from provisioning.key_delivery import files, names
from provisioning.key_options import Bureau, bureau_options
from provisioning.site import Site


@click.group("key")
def key_group() -> None:
    """Changing the site's keys while its doors go on."""


@key_group.command(
    "list",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision key list --site-dir wilgenoord
  drempel-provision key list --site-dir wilgenoord --hub https://hub.wilgenoord.example --token-file token
""",
)
@command.site_dir_option
@command.hub_options
@command.format_option
@command.explained
def key_list(*, site_dir: Path, named_hub: NamedHub | None, form: str) -> None:
    """Say which policy keys and card issuers the root states; with --hub, who has yet to hear, and the cards left."""
    site = Site.open(site_dir)
    said = rotation.stated(site)
    with command.chosen_hub(named_hub, site, "keys") as hub:
        at_hub = hub.keys() if hub else None
    result: dict[str, Any] = {
        "site": site.id,
        "statement": said.version if said else 0,
        "policy_keys": [name.hex() for name in said.accepted] if said else [site.policy_key_id],
        "card_issuers": list(rotation.trusted_issuers(site)),
        "makes_cards": site.issuer,
        "hub": at_hub,
    }
    command.say(form, result, "\n".join(_listed(result)))


def _listed(result: Mapping[str, Any]) -> list[str]:
    lines = [
        f"statement     {result['statement'] or 'none yet: the keys the site was made with'}",
        *(f"policy key    {name}" for name in result["policy_keys"]),
        *(
            f"card issuer   {issuer}{' makes new cards' if issuer == result['makes_cards'] else ''}"
            for issuer in result["card_issuers"]
        ),
    ]
    hub = result["hub"]
    if hub is None:
        return lines
    lines += ["", f"hub           follows statement {hub['statement']}"]
    lines += [f"policy key    {each['id']} {each['use'].replace('_', ' ')}" for each in hub["policy_keys"]]
    lines += [f"waits for     {each['controller_id']} at {each['site_id']}" for each in hub["waiting"]]
    lines += [
        f"card issuer   {each['issuer']} {each['live_cards']} live cards{', retired' if each['retired_at'] else ''}"
        for each in hub["issuers"]
    ]
    lines += [f"certificate   {_dated(each)}" for each in hub["certificates"]]
    lines += [
        f"former root   {each['controller_id']} at {each['site_id']}" for each in hub["below_former_root"]
    ]
    if hub["cards_of_unknown_issuer"]:
        lines.append(f"card issuer   not known of {hub['cards_of_unknown_issuer']} live cards")
    return lines


def _dated(certificate: Mapping[str, Any]) -> str:
    due = ", due" if certificate["is_due"] else ""
    return f"{certificate['part']} until {certificate['ends_at'][:10]}, {certificate['days_left']} days left{due}"


@key_group.command(
    "deliver",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision key deliver --site-dir wilgenoord --hub-dir /media/hub/wilgenoord
""",
)
@bureau_options
@command.dry_run_option
@command.format_option
@command.explained
def key_deliver(
    *,
    bureau: Bureau,
    dry_run: bool,
    form: str,
) -> None:
    """Give the hub what changed while its directory was not at hand; doing it again changes nothing."""
    delivery = bureau.open()
    if delivery.directory is None:
        raise click.UsageError("name the hub's directory with --hub-dir")
    change = delivery.change(datetime.now(UTC))
    if not dry_run:
        with command.audited(delivery.site, "key deliver", to=str(delivery.directory), **files(change)):
            change.carry_out(delivery.directory)
    result = {"made": not dry_run, "hub_directory": str(delivery.directory), **files(change)}
    told = f"{'Would put' if dry_run else 'Put'} in {delivery.directory}: {names(change)}"
    command.say(form, result, told if change.files or change.remove else "The hub has it all.")


key_group.add_command(key_rotate)
key_group.add_command(key_retire)
