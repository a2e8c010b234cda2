"""``drempel-provision key rotate`` and ``key retire``. What a change stops is said before it is made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric import ec

from pacs.errors import StoreError
from pacs.key_statement import KeyStatement
from provisioning import command, root_rotation, rotation
from provisioning.authority import Authority, generate_key
from provisioning.command import NamedHub
from provisioning.hub_client import HubClient
from provisioning.key_delivery import carry_out
from provisioning.key_notes import GOES_ON, ISSUER, POLICY, ROOT, STOPS
from provisioning.key_options import Bureau, RootAccess, bureau_options, root_options
from provisioning.pkcs11_keys import TokenAccess
from provisioning.site import Site, generate_issuer


@click.command(
    "rotate",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision key rotate policy --site-dir wilgenoord --root-dir /media/stick/root --dry-run
  drempel-provision key rotate card-issuer --site-dir wilgenoord --root-dir /media/stick/root
  drempel-provision key rotate policy --now --site-dir wilgenoord --root-dir /media/stick/root
""",
)
@click.argument("which", type=click.Choice([POLICY, ISSUER, *rotation.INTERMEDIATES, ROOT]))
@click.option(
    "--now",
    "at_once",
    is_flag=True,
    help="The old key is in wrong hands: believe it no longer, without overlap.",
)
@click.option(
    "--new-root-dir",
    type=command.directory_path,
    help="Of root: where the new key is put.  [default: a new directory in the site's]",
)
@bureau_options
@root_options
@command.dry_run_option
@command.format_option
@command.explained
def key_rotate(
    *,
    which: str,
    at_once: bool,
    new_root_dir: Path | None,
    bureau: Bureau,
    root: RootAccess,
    dry_run: bool,
    form: str,
) -> None:
    """Make a new key and give it to the hub; the old one stays good until it is retired, unless --now.

    WHICH is the policy signer, the card issuer, the authority that certifies devices or the hub's pages, or the root above
    them.
    """
    if at_once and which not in STOPS:
        raise click.UsageError(
            "what an authority has certified cannot be unsaid: withdraw at the hub what a thief may have had certified"
            " (of a root: docs/keys.md, the root in wrong hands)"
        )
    if new_root_dir is not None and which != ROOT:
        raise click.UsageError("--new-root-dir is for root")
    delivery, now = bureau.open(), datetime.now(UTC)
    site, passphrase = delivery.site, delivery.passphrase
    opened = root.open(site)
    apart = None
    if which == POLICY:
        change = rotation.rotate_policy(site, opened, passphrase, now, at_once=at_once)
    elif which == ISSUER:
        issuer = generate_issuer()
        key = _issuer_key(site, issuer, root.tokens, dry_run=dry_run)
        change = rotation.rotate_issuer(
            site, opened, passphrase, now, at_once=at_once, issuer=issuer, key=key
        )
    elif which == ROOT:
        new = _new_root(site, opened, root.root_tokens, now, dry_run=dry_run)
        name = root_rotation.directory_name(new) if site.root_at is None else site.root_name
        change = root_rotation.rotate_root(site, opened, new, passphrase, now, name=name)
        if site.root_at is None:
            apart = (new_root_dir or site.directory / name, root_rotation.root_files(new))
    else:
        change = rotation.rotate_intermediate(site, opened, which, passphrase, now)
    notes = STOPS[which] if at_once else GOES_ON[which]
    carry_out(
        f"key rotate {which}", change, delivery, notes, now=now, dry_run=dry_run, form=form, apart=apart
    )


@click.command(
    "retire",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision key retire policy --site-dir wilgenoord --root-dir /media/stick/root \\
      --hub https://hub.wilgenoord.example --token-file token
  drempel-provision key retire card-issuer AB12CD34EF56GH78 --site-dir wilgenoord --root-dir /media/stick/root \\
      --hub https://hub.wilgenoord.example --token-file token --force --reason "cards were stolen blank"
""",
)
@click.argument("which", type=click.Choice([POLICY, ISSUER, ROOT]))
@click.argument("issuer", required=False)
@click.option("--force", is_flag=True, help="Do it whatever still depends on it; needs --reason.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the audit logs of site and hub.")
@bureau_options
@root_options
@command.hub_options
@command.dry_run_option
@command.format_option
@command.explained
def key_retire(
    *,
    which: str,
    issuer: str | None,
    force: bool,
    reason: str,
    bureau: Bureau,
    root: RootAccess,
    named_hub: NamedHub | None,
    dry_run: bool,
    form: str,
) -> None:
    """End the overlap: the old policy key, a card issuer, or the old root is believed no longer.

    The hub is asked whether anything still depends on it; without --hub, --force is needed.
    """
    if (issuer is None) is (which == ISSUER):
        raise click.UsageError("an ISSUER is named for card-issuer, and only for it")
    if force and not reason:
        raise click.UsageError("--force needs --reason")
    delivery, now = bureau.open(), datetime.now(UTC)
    site = delivery.site
    opened = root.open(site)
    if which == ROOT:
        change = root_rotation.retire_root(site, opened, now)
    elif issuer is None:
        change = rotation.retire_policy(site, opened, delivery.passphrase, now)
    else:
        change = rotation.retire_issuer(site, opened, issuer, now)
    with command.chosen_hub(named_hub, site, "keys") as hub:
        if hub is None and not force:
            raise click.UsageError(
                "--hub and --token-file are needed, to ask what still depends on it; or --force"
            )
        notes = (
            _retired_root(hub, opened, site, force=force)
            if which == ROOT
            else _retired(hub, issuer, site, reason=reason, force=force, dry_run=dry_run)
        )
    carry_out(
        f"key retire {which}", change, delivery, notes, now=now, dry_run=dry_run, form=form, reason=reason
    )


def _new_root(
    site: Site, root: Authority, tokens: TokenAccess | None, now: datetime, *, dry_run: bool
) -> Authority:
    """A root to follow this one, its key in the token where that one's is."""
    if site.root_at is None or dry_run:
        return root_rotation.new_root(root, now)
    if tokens is None:
        raise StoreError(f"{site.root_at}: the key is in a token; name --pkcs11-module and --pin-file")
    label = f"{site.id} root {now:%Y-%m-%d %H:%M:%S}"
    return root_rotation.new_root(root, now, tokens.open(site.root_at.token).make_key(label))


def _issuer_key(
    site: Site, issuer: str, tokens: TokenAccess | None, *, dry_run: bool
) -> ec.EllipticCurvePrivateKey:
    """A fresh key for cards, in the token where the one before is."""
    if site.card_issuer_at is None or dry_run:
        return generate_key()
    if tokens is None:
        raise StoreError(f"{site.card_issuer_at}: the key is in a token; name --pkcs11-module and --pin-file")
    return tokens.open(site.card_issuer_at.token).make_key(f"{site.id} card issuer {issuer}")


def _retired(
    hub: HubClient | None,
    issuer: str | None,
    site: Site,
    *,
    reason: str,
    force: bool,
    dry_run: bool,
) -> list[str]:
    """Have the hub agree; what to say of it. Raises ``StoreError`` when somebody still depends on the old policy key."""
    if issuer is not None:
        if hub is None or dry_run:
            cards = _cards_left(hub, issuer) if hub else "Cards"
            return [f"{cards} of {issuer} are refused at a door from the moment it hears of this."]
        stopped = hub.retire_issuer(issuer, reason=reason or "no cards left", with_cards=force)
        return [f"{stopped} live cards of {issuer} are refused at a door from the moment it hears of this."]
    waiting = _waiting(hub.keys(), rotation.stated(site)) if hub else ["nobody was asked"]
    if waiting and not force:
        raise StoreError("not every controller knows the new policy key: " + ", ".join(waiting))
    notes = ["Modes that doors were ordered into stay. Nothing new by the old key is believed."]
    if waiting:
        notes.append(
            f"Commands to these are refused until they get their next document: {', '.join(waiting)}"
        )
    return notes


def _retired_root(hub: HubClient | None, root: Authority, site: Site, *, force: bool) -> list[str]:
    """What to say of it. Raises ``StoreError`` when somebody still depends on the old root."""
    waiting = _below_former(hub.keys(), root, rotation.stated(site)) if hub else ["nobody was asked"]
    if waiting and not force:
        raise StoreError("not everybody goes by the new root: " + ", ".join(waiting))
    notes = [
        "What the old root certified is refused from now on, and nothing that it states is believed.",
        "Destroy the old root's key wherever it is kept: safe, sticks, backups, token.",
    ]
    if waiting:
        notes.append(
            "These cannot connect any more where they go by the old root: drempel-provision reader re-enrol, and"
            f" drempel-edge enrol at the door: {', '.join(waiting)}"
        )
    return notes


def _below_former(at_hub: Mapping[str, Any], root: Authority, said: KeyStatement | None) -> list[str]:
    """Whom the old root still serves."""
    if said is None or at_hub["statement"] != said.version:
        return [f"the hub, which follows statement {at_hub['statement']}"]
    waiting = [each["controller_id"] for each in at_hub["below_former_root"]]
    newest = root_rotation.fingerprint(root.certificate)
    if newest not in {each["fingerprint"] for each in at_hub["certificates"] if each["part"] == "root"}:
        waiting.append("the hub, whose directory has another root")
    return waiting


def _cards_left(hub: HubClient, issuer: str) -> str:
    known = {each["issuer"]: each["live_cards"] for each in hub.keys()["issuers"]}
    return f"{known.get(issuer, 0)} live cards"


def _waiting(at_hub: Mapping[str, Any], said: KeyStatement | None) -> list[str]:
    """Whom the old policy key still serves."""
    if said is None or at_hub["statement"] != said.version:
        return [f"the hub, which follows statement {at_hub['statement']}"]
    waiting = [each["controller_id"] for each in at_hub["waiting"]]
    signs = next((each["id"] for each in at_hub["policy_keys"] if each["use"] == "signs"), "")
    if signs != [*said.accepted][-1].hex():
        waiting.append(f"the hub, which signs with {signs}")
    return waiting
