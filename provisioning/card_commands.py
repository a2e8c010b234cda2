"""``drempel-provision card``: issue and show."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from pacs.credential import Technology, TrustAnchors, check_dates
from pacs.identifiers import CardholderId, CredentialId
from provisioning import command
from provisioning.encoder import IssuedCard, Issuer, issue_card, issue_v1_card, read_card
from provisioning.hub_client import HubClient, HubError
from provisioning.pkcs11_keys import TokenAccess
from provisioning.site import Site

DEFAULT_DAYS: Final = 365


@click.group("card")
def card_group() -> None:
    """Cards."""


@card_group.command(
    "issue",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision card issue --site-dir wilgenoord --valid-until 2030-12-31 \\
      --card-process "drempel-sim card --stdio --kind blank --file card.json"
  drempel-provision card issue --site-dir wilgenoord --stdio \\
      --cardholder r-0017 --hub https://hub.wilgenoord.example --token-file token
  drempel-provision card issue --site-dir wilgenoord --stdio \\
      --replaces 7f5c2b1e-0a4d-4c3b-9a55-3d2f0c9e8b71 --reason "lost on the bus" \\
      --hub https://hub.wilgenoord.example --token-file token
""",
)
@command.stdio_option
@command.process_option
@click.option(
    "--technology",
    type=click.Choice([technology.value for technology in Technology]),
    default=Technology.PKOC_V2.value,
    show_default=True,
)
@click.option(
    "--valid-from",
    callback=command.parsed(date.fromisoformat),
    metavar="DATE",
    help="First day.  [default: today]",
)
@click.option(
    "--valid-until",
    callback=command.parsed(date.fromisoformat),
    metavar="DATE",
    help=f"Last day.  [default: {DEFAULT_DAYS} days later]",
)
@click.option(
    "--cardholder", callback=command.parsed(CardholderId), metavar="ID", help="Whose card it is, at the hub."
)
@click.option(
    "--replaces",
    callback=command.parsed(CredentialId.parse),
    metavar="CARD",
    help="In place of --cardholder: the card of theirs that is revoked in the same step.",
)
@click.option("--reason", default="replaced", show_default=True, help="Why, for the hub's audit log.")
@command.site_dir_option
@command.passphrase_option
@command.tokens_options
@command.hub_option
@command.token_option
@command.dry_run_option
@command.format_option
@command.explained
def card_issue(
    *,
    stdio: bool,
    card_process: str | None,
    technology: str,
    valid_from: date | None,
    valid_until: date | None,
    cardholder: CardholderId | None,
    replaces: CredentialId | None,
    reason: str,
    site_dir: Path,
    passphrase_file: Path | None,
    tokens: TokenAccess | None,
    hub_url: str | None,
    token_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Put a credential on a blank card: the key is made on it, certified, and tried by a whole tap.

    With --hub the card is registered to --cardholder; without, --format json prints what to register.
    With --stdio the last line of standard output is the result, in JSON.
    """
    if cardholder is not None and replaces is not None:
        raise click.UsageError("--cardholder or --replaces, not both")
    if (hub_url is None) != (cardholder is None and replaces is None):
        raise click.UsageError("--hub and one of --cardholder and --replaces belong together")
    site = Site.open(site_dir)
    issuer = Issuer(reference=site.issuer, key=command.card_issuer_key(site, passphrase_file, tokens))
    now = datetime.now(UTC)
    first = valid_from or now.astimezone().date()
    last = valid_until or first + timedelta(days=DEFAULT_DAYS)
    if dry_run:
        would = {"technology": technology, "valid_from": str(first), "valid_until": str(last), "made": False}
        command.say(form, would, f"Would issue a {technology} card, valid {first} to {last}.")
        return
    with (
        command.chosen_hub(hub_url, token_file, site, "cards") as hub,
        command.audited(site, "card issue", technology=technology) as facts,
    ):
        with command.chosen_card(stdio=stdio, command=card_process) as card:
            if technology == Technology.PKOC_V1.value:
                issued = issue_v1_card(card, now=now)
            else:
                issued = issue_card(card, issuer, valid_from=first, valid_until=last, now=now)
        facts["credential_id"] = str(issued.credential_id)
        if hub is not None:
            _register(hub, issued, cardholder, replaces, reason)
    days = "" if issued.valid_until is None else f", valid {issued.valid_from} to {issued.valid_until}"
    text = f"Issued {issued.credential_id} ({technology}){days}."
    if hub is None:
        text += "\n\nNext: register it at the hub, or it opens nothing; --format json prints what to send."
    command.say("json" if stdio else form, _described(issued, registered=hub is not None), text)


def _register(
    hub: HubClient,
    issued: IssuedCard,
    cardholder: CardholderId | None,
    replaces: CredentialId | None,
    reason: str,
) -> None:
    try:
        if cardholder is not None:
            hub.register_card(issued, cardholder)
        elif replaces is not None:
            hub.replace_card(issued, replaces, reason)
    except HubError as error:
        owner = {"cardholder_id": cardholder} if cardholder else {"replaces": str(replaces)}
        what = json.dumps({**issued.registration, **owner})
        raise HubError(f"{error}\nThe card is complete; once the hub agrees, register it: {what}") from error


def _described(issued: IssuedCard, *, registered: bool) -> dict[str, Any]:
    return {
        **issued.registration,
        "valid_from": command.day_text(issued.valid_from),
        "valid_until": command.day_text(issued.valid_until),
        "registered": registered,
    }


@card_group.command(
    "show",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision card show --site-dir wilgenoord --card-process "drempel-sim card --stdio --file card.json"
""",
)
@command.stdio_option
@command.process_option
@command.site_dir_option
@click.option(
    "--at",
    callback=command.parsed(date.fromisoformat),
    metavar="DATE",
    help="Judge its dates on this day.  [default: today]",
)
@command.format_option
@command.explained
def card_show(*, stdio: bool, card_process: str | None, site_dir: Path, at: date | None, form: str) -> None:
    """Tap a card as a reader would, and say what it is; exit status 3 when this site does not believe it."""
    site = Site.open(site_dir)
    trust = TrustAnchors(issuers={site.issuer: site.card_issuer_public_key()})
    now = datetime.now(UTC)
    with command.chosen_card(stdio=stdio, command=card_process) as card:
        credential = read_card(card, trust, now=now)
    result = {
        "credential_id": str(credential.credential_id),
        "technology": credential.technology.value,
        "issuer": credential.issuer,
        "valid_from": command.day_text(credential.valid_from),
        "valid_until": command.day_text(credential.valid_until),
    }
    text = "\n".join(f"{name:14} {value or '-'}" for name, value in result.items())
    command.say("json" if stdio else form, result, text)
    check_dates(credential, at or now.astimezone().date())
