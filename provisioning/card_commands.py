"""``drempel-provision card``: issue and show."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from pacs.card.personalisation import Stage, untold
from pacs.credential import Technology, TrustAnchors, check_dates
from pacs.errors import CardGone
from pacs.identifiers import CardholderId, CredentialId
from provisioning import command
from provisioning.card_batch_commands import card_batch
from provisioning.card_key_commands import keys_group
from provisioning.card_status_commands import (
    card_found,
    card_lost,
    card_returned,
    card_unfinished,
    card_void_all,
)
from provisioning.command import NamedHub
from provisioning.encoder import DEFAULT_DAYS, IssuedCard, Issuer, issue_card, issue_v1_card, read_card
from provisioning.hub_client import ALREADY_EXISTS, HubClient, HubError
from provisioning.line_card import LineCard
from provisioning.pkcs11_keys import TokenAccess
from provisioning.rotation import trusted_issuers
from provisioning.site import Site

CARD_S: Final = 60.0
TEARS: Final = 2
_WORDS: Final = {
    Stage.CARD_FOUND: "card found",
    Stage.AUTHENTICATED: "card and issuer know each other",
    Stage.KEY_MADE: "key made on the card",
    Stage.KEY_PROVED: "key proved",
    Stage.CERTIFICATE_WRITTEN: "certificate written",
    Stage.LOCKED: "locked",
    Stage.CHECKED: "checked by a whole tap",
}


@click.group("card")
def card_group() -> None:
    """Cards."""


for each in (keys_group, card_lost, card_found, card_returned, card_void_all, card_unfinished, card_batch):
    card_group.add_command(each)


@card_group.command(
    "issue",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision card issue --site-dir wilgenoord --valid-until 2030-12-31 \\
      --card-process "drempel-sim card --stdio --kind blank --file card.json"
  drempel-provision card issue --site-dir wilgenoord --reader pn532:/dev/ttyUSB0 \\
      --cardholder r-0017 --hub https://hub.wilgenoord.example --token-file token
  drempel-provision card issue --site-dir wilgenoord --stdio \\
      --replaces 7f5c2b1e-0a4d-4c3b-9a55-3d2f0c9e8b71 --reason "lost on the bus" \\
      --hub https://hub.wilgenoord.example --token-file token
""",
)
@command.card_options
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
@command.hub_options
@command.dry_run_option
@command.format_option
@command.explained
def card_issue(
    *,
    stdio: bool,
    card_process: str | None,
    reader: str | None,
    technology: str,
    valid_from: date | None,
    valid_until: date | None,
    cardholder: CardholderId | None,
    replaces: CredentialId | None,
    reason: str,
    site_dir: Path,
    passphrase_file: Path | None,
    tokens: TokenAccess | None,
    named_hub: NamedHub | None,
    dry_run: bool,
    form: str,
) -> None:
    """Put a credential on a blank card: the key is made on it, certified, and tried by a whole tap.

    A card that was pulled away, or whose program ended, is held to the reader again with the same command, and finished.
    With --hub the card is registered to --cardholder; without, --format json prints what to register.
    With --stdio the last line of standard output is the result, in JSON.
    """
    if cardholder is not None and replaces is not None:
        raise click.UsageError("--cardholder or --replaces, not both")
    if (named_hub is None) != (cardholder is None and replaces is None):
        raise click.UsageError("--hub and one of --cardholder and --replaces belong together")
    site = Site.open(site_dir)
    issuer = command.card_issuer(site, passphrase_file, tokens)
    now = datetime.now(UTC)
    told = _told if form == "text" else untold
    first = valid_from or now.astimezone().date()
    last = valid_until or first + timedelta(days=DEFAULT_DAYS)
    if dry_run:
        would = {"technology": technology, "valid_from": str(first), "valid_until": str(last), "made": False}
        command.say(form, would, f"Would issue a {technology} card, valid {first} to {last}.")
        return
    with (
        command.chosen_hub(named_hub, site, "cards") as hub,
        command.audited(site, "card issue", technology=technology) as facts,
    ):
        with command.chosen_card(stdio=stdio, command=card_process, reader=reader) as card:

            def make() -> IssuedCard:
                if technology == Technology.PKOC_V1.value:
                    return issue_v1_card(card, issuer, now=now, progress=told)
                return issue_card(card, issuer, valid_from=first, valid_until=last, now=now, progress=told)

            issued = _patiently(card, make) if reader is not None else make()
        facts |= {"credential_id": str(issued.credential_id), "serial": str(issued.serial)}
        if hub is not None:
            _register(hub, issuer, issued, cardholder, replaces, reason)
            _void(hub, issuer, cardholder or hub.holder_of(issued.credential_id))
    days = "" if issued.valid_until is None else f", valid {issued.valid_from} to {issued.valid_until}"
    again = " It had been begun before, and was finished." if issued.resumed else ""
    text = f"Issued {issued.credential_id} ({technology}){days}, on chip {issued.serial}.{again}"
    if hub is None:
        text += "\n\nNext: register it at the hub, or it opens nothing; --format json prints what to send."
    command.say("json" if stdio else form, _described(issued, registered=hub is not None), text)
    issuer.journal.given_out(issued.serial)


def _patiently(card: LineCard, make: Callable[[], IssuedCard]) -> IssuedCard:
    """Wait for a card, and again for one that was pulled away, ``TEARS`` times."""
    click.echo("Lay a blank card on the reader, and let it lie.", err=True)
    for tear in range(TEARS + 1):
        if not card.await_card(CARD_S):
            break
        try:
            return make()
        except CardGone:
            if tear == TEARS:
                raise
            click.echo("It was pulled away: lay the same card down again.", err=True)
    raise CardGone(f"no card within {CARD_S:g} s")


def _told(stage: Stage) -> None:
    click.echo(f"… {_WORDS[stage]}", err=True)


def _register(
    hub: HubClient,
    issuer: Issuer,
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
        if error.code == ALREADY_EXISTS:  # the program was killed when the hub had it
            if replaces is not None and hub.holder_of(issued.credential_id) == hub.holder_of(replaces):
                return
            issuer.journal.given_out(issued.serial)
            raise HubError("this card is somebody's already: take a blank one", error.code) from error
        owner = {"cardholder_id": cardholder} if cardholder else {"replaces": str(replaces)}
        what = json.dumps({**issued.registration, **owner})
        raise HubError(f"{error}\nThe card is complete; once the hub agrees, register it: {what}") from error


def _void(hub: HubClient, issuer: Issuer, cardholder: CardholderId) -> None:
    """Tell the hub of what was certified and is on no card, as spoilt when this person's card was made."""
    for credential_id in issuer.journal.voids():
        hub.void_card(credential_id, cardholder)
        issuer.journal.reported(credential_id)


def _described(issued: IssuedCard, *, registered: bool) -> dict[str, Any]:
    return {
        **issued.registration,
        "valid_from": command.day_text(issued.valid_from),
        "valid_until": command.day_text(issued.valid_until),
        "serial": str(issued.serial),
        "resumed": issued.resumed,
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
@command.card_options
@command.site_dir_option
@click.option(
    "--at",
    callback=command.parsed(date.fromisoformat),
    metavar="DATE",
    help="Judge its dates on this day.  [default: today]",
)
@command.format_option
@command.explained
def card_show(
    *,
    stdio: bool,
    card_process: str | None,
    reader: str | None,
    site_dir: Path,
    at: date | None,
    form: str,
) -> None:
    """Tap a card as a reader would, and say what it is; exit status 3 when this site does not believe it."""
    site = Site.open(site_dir)
    trust = TrustAnchors(issuers=trusted_issuers(site))
    now = datetime.now(UTC)
    with command.chosen_card(stdio=stdio, command=card_process, reader=reader) as card:
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
