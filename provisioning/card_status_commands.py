"""``drempel-provision card lost | found | returned | void-all | unfinished``: what becomes of cards that are out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from pacs.card.dialogue import Transceive
from pacs.credential import TrustAnchors
from pacs.identifiers import CardholderId, CredentialId, SiteId
from provisioning import command
from provisioning.card_hub import Arrival, CardHub
from provisioning.card_journal import DIRECTORY_NAME, CardJournal
from provisioning.command import NamedHub
from provisioning.encoder import read_card, reset_card
from provisioning.hub_client import HubError
from provisioning.pkcs11_keys import TokenAccess
from provisioning.site import Site

ARRIVAL_S: Final = 15.0

credential_argument = click.argument(
    "card", required=False, callback=command.parsed(CredentialId.parse), metavar="[CARD]"
)
cardholder_option = click.option(
    "--cardholder",
    callback=command.parsed(CardholderId),
    metavar="ID",
    help="In place of CARD: the one card of theirs that is in use.",
)
wait_option = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0),
    default=ARRIVAL_S,
    show_default=True,
    help="Seconds to wait for the doors.",
)


@click.command(
    "lost",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision card lost 7f5c2b1e-0a4d-4c3b-9a55-3d2f0c9e8b71 --hub https://hub.example --token-file token
  drempel-provision card lost --cardholder r-0017 --reason "left on the bus" --hub https://hub.example --token-file token
""",
)
@credential_argument
@cardholder_option
@command.site_dir_option
@click.option("--reason", default="lost", show_default=True, help="Why, for the hub's audit log.")
@wait_option
@command.required_hub_options
@command.dry_run_option
@command.format_option
@command.explained
def card_lost(
    *,
    card: CredentialId | None,
    cardholder: CardholderId | None,
    site_dir: Path,
    reason: str,
    wait_s: float,
    named_hub: NamedHub,
    dry_run: bool,
    form: str,
) -> None:
    """Suspend a card: doors refuse it from the moment they know. Found again, it can be used again.

    Says at which doors that has arrived, and from when the others refuse it.
    """
    with CardHub.of_desk(named_hub.url, named_hub.token_file, site_dir) as hub:
        credential_id = _named(hub, card, cardholder)
        if dry_run:
            command.say(form, {"card": str(credential_id), "made": False}, f"Would suspend {credential_id}.")
            return
        done = hub.block_card(credential_id, "suspended", reason)
        _say_arrival(
            hub, credential_id, done, wait_s, form, f"Suspended {credential_id}: it opens no door that knows."
        )


@click.command(
    "found",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision card found 7f5c2b1e-0a4d-4c3b-9a55-3d2f0c9e8b71 --hub https://hub.example --token-file token
  drempel-provision card found --reader pn532:/dev/ttyUSB0 --site-dir wilgenoord \\
      --hub https://hub.example --token-file token
""",
)
@credential_argument
@command.card_options
@command.site_dir_option
@click.option("--reason", default="found", show_default=True, help="Why, for the hub's audit log.")
@wait_option
@command.required_hub_options
@command.dry_run_option
@command.format_option
@command.explained
def card_found(
    *,
    card: CredentialId | None,
    stdio: bool,
    card_process: str | None,
    reader: str | None,
    site_dir: Path,
    reason: str,
    wait_s: float,
    named_hub: NamedHub,
    dry_run: bool,
    form: str,
) -> None:
    """Make a suspended card valid again: the one that is named, or the one that is held to the reader.

    A card that was revoked meanwhile, because it was replaced, stays revoked: hand it in with *card returned*.
    """
    if card is None:
        site = Site.open(site_dir)
        with command.chosen_card(stdio=stdio, command=card_process, reader=reader) as held:
            card = _tapped(held, site)
    with CardHub.of_desk(named_hub.url, named_hub.token_file, site_dir) as hub:
        if dry_run:
            command.say(form, {"card": str(card), "made": False}, f"Would make {card} valid again.")
            return
        done = hub.reinstate_card(card, reason)
        _say_arrival(hub, card, done, wait_s, form, f"{card} is valid again.")


@click.command(
    "returned",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision card returned --reader pn532:/dev/ttyUSB0 --site-dir wilgenoord \\
      --hub https://hub.example --token-file token
  drempel-provision card returned 7f5c2b1e-0a4d-4c3b-9a55-3d2f0c9e8b71 --hub https://hub.example --token-file token
""",
)
@credential_argument
@command.card_options
@command.site_dir_option
@command.passphrase_option
@command.tokens_options
@click.option("--reason", default="returned", show_default=True, help="Why, for the hub's audit log.")
@wait_option
@command.required_hub_options
@command.dry_run_option
@command.format_option
@command.explained
def card_returned(
    *,
    card: CredentialId | None,
    stdio: bool,
    card_process: str | None,
    reader: str | None,
    site_dir: Path,
    passphrase_file: Path | None,
    tokens: TokenAccess | None,
    reason: str,
    wait_s: float,
    named_hub: NamedHub,
    dry_run: bool,
    form: str,
) -> None:
    """Revoke a card for good, and if it lies on the reader make blank stock of it: its key is destroyed.

    It is reset only after the hub has revoked it, or does not know it. Without a reader nothing happens to the chip.
    """
    with CardHub.of_desk(named_hub.url, named_hub.token_file, site_dir) as hub:
        if card is not None:
            if dry_run:
                command.say(form, {"card": str(card), "made": False}, f"Would revoke {card}.")
                return
            done = hub.block_card(card, "revoked", reason)
            _say_arrival(hub, card, done, wait_s, form, f"Revoked {card} for good.")
            return
        site = Site.open(site_dir)
        issuer = command.card_issuer(site, passphrase_file, tokens)
        with command.chosen_card(stdio=stdio, command=card_process, reader=reader) as held:
            found = _tapped(held, site)
            if dry_run:
                text = f"Would revoke {found} and make its chip blank again."
                command.say("json" if stdio else form, {"card": str(found), "made": False}, text)
                return
            with command.audited(site, "card returned", credential_id=str(found)) as facts:
                revoked = hub.revoke_if_known(found, reason)
                status = reset_card(held, issuer)
                facts["serial"] = str(status.serial)
        known = "Revoked" if revoked is not None else "The hub does not know"
        text = f"{known} {found}; chip {status.serial} is blank, and can be issued again."
        extra = {"serial": str(status.serial)}
        _say_arrival(hub, found, revoked, wait_s, "json" if stdio else form, text, extra)


@click.command(
    "void-all",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision card void-all --site emergency --reason "the site closes" --dry-run \\
      --hub https://hub.example --token-file token
  drempel-provision card void-all --site emergency --reason "the site closes" --hub https://hub.example --token-file token
""",
)
@click.option(
    "--site", "site_id", required=True, callback=command.parsed(SiteId), help="Whose people's cards."
)
@command.site_dir_option
@click.option("--reason", required=True, help="Why, for the hub's audit log.")
@wait_option
@command.required_hub_options
@command.dry_run_option
@command.format_option
@command.explained
def card_void_all(
    *,
    site_id: SiteId,
    site_dir: Path,
    reason: str,
    wait_s: float,
    named_hub: NamedHub,
    dry_run: bool,
    form: str,
) -> None:
    """Revoke every card of a site's people for good, in one act, and say at which doors that has arrived.

    Exit status 4 as long as a door has not confirmed it: it may be run again, and revokes nothing twice.
    """
    with CardHub.of_desk(named_hub.url, named_hub.token_file, site_dir) as hub:
        done = hub.void_cards(site_id, reason, dry_run=dry_run)
        count, version = done["cards"], done["version"]
        if dry_run:
            command.say(
                form,
                {"site": site_id, "cards": count, "made": False},
                f"Would revoke {count} cards of {site_id} for good.",
            )
            return
        arrived = hub.revocations_arrival(site_id, version, wait_s) if version else done
    missing = [each for each in arrived["confirmations"] if each["confirmed_at"] is None]
    result = {"site": site_id, "cards": count, "version": version, "confirmations": arrived["confirmations"]}
    lines = [f"Revoked {count} cards of {site_id} for good."]
    lines += [
        f"  {each['door_id']}: since {each['confirmed_at']}"
        for each in arrived["confirmations"]
        if each["confirmed_at"]
    ]
    lines += [f"  not yet: {_late(each)}" for each in missing]
    command.say(form, result, "\n".join(lines))
    if missing:
        raise HubError(f"not confirmed by {', '.join(each['door_id'] for each in missing)}")


@click.command(
    "unfinished",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision card unfinished --site-dir wilgenoord
  drempel-provision card unfinished --void 7f5c2b1e-0a4d-4c3b-9a55-3d2f0c9e8b71 --site-dir wilgenoord
""",
)
@click.option(
    "--void",
    callback=command.parsed(CredentialId.parse),
    metavar="CARD",
    help="Give one up: its credential is never used; the hub is told with the next card.",
)
@command.site_dir_option
@command.dry_run_option
@command.format_option
@command.explained
def card_unfinished(*, void: CredentialId | None, site_dir: Path, dry_run: bool, form: str) -> None:
    """List the chips that were begun and not given out, and credentials that are void and not told to the hub yet.

    A chip is finished by the command that began it; hold it to the reader again.
    """
    journal = CardJournal(Site.open(site_dir).directory / DIRECTORY_NAME)
    begun = journal.all_unfinished()
    if void is not None:
        chosen = next((each for each in begun if each.credential_id == void), None)
        if chosen is None:
            raise click.UsageError(f"{void}: no card that was begun; the list names them")
        if dry_run:
            command.say(form, {"void": str(void), "made": False}, f"Would give up {void}.")
            return
        journal.void(chosen.serial, void)
        begun.remove(chosen)
    result = {
        "unfinished": [
            {
                "serial": str(each.serial),
                "credential_id": str(each.credential_id),
                "since": each.at.isoformat(timespec="seconds"),
                "complete": each.complete,
            }
            for each in begun
        ],
        "void": [str(each) for each in journal.voids()],
    }
    lines = [
        f"{each.serial}  {each.credential_id}  since {each.at:%Y-%m-%d %H:%M}Z, "
        f"{'complete, not registered' if each.complete else 'not complete'}"
        for each in begun
    ]
    lines += [f"void, the hub is told with the next card: {each}" for each in journal.voids()]
    command.say(form, result, "\n".join(lines) or "Nothing is unfinished.")


def _tapped(card: Transceive, site: Site) -> CredentialId:
    trust = TrustAnchors(issuers={site.issuer: site.card_issuer_public_key()})
    return read_card(card, trust, now=datetime.now(UTC)).credential_id


def _named(hub: CardHub, card: CredentialId | None, cardholder: CardholderId | None) -> CredentialId:
    if (card is None) == (cardholder is None):
        raise click.UsageError("say which card: CARD or --cardholder")
    if card is not None:
        return card
    valid = [each for each in hub.cards_of(CardholderId(str(cardholder))) if each["status"] == "valid"]
    if len(valid) != 1:
        named = ", ".join(each["credential_id"] for each in valid) or "none"
        raise HubError(f"cards in use of {cardholder}: {named}; name one")
    return CredentialId.parse(valid[0]["credential_id"])


def _say_arrival(
    hub: CardHub,
    credential_id: CredentialId,
    done: Arrival | None,
    wait_s: float,
    form: str,
    text: str,
    extra: dict[str, Any] | None = None,
) -> None:
    """Say what was done and at which doors it has arrived, once everywhere or after ``wait_s``."""
    if done is None:
        command.say(form, {"card": str(credential_id), "known": False, **(extra or {})}, text)
        return
    arrived = hub.arrival(credential_id, done, wait_s)
    missing = [each for each in arrived["confirmations"] if each["confirmed_at"] is None]
    result = {
        "card": str(credential_id),
        "status": arrived["status"],
        "confirmed": arrived["confirmed"],
        "doors": arrived["doors"],
        "missing": [{key: each[key] for key in ("door_id", "online", "stops_at")} for each in missing],
        **(extra or {}),
    }
    lines = [text, f"Arrived at {arrived['confirmed']} of {arrived['doors']} doors."]
    lines += [f"  not yet: {_late(each)}" for each in missing]
    command.say(form, result, "\n".join(lines))


def _late(door: dict[str, Any]) -> str:
    where = f"{door['door_id']} ({'online' if door['online'] else 'offline'})"
    if door["stops_at"] is None:
        return f"{where}; it goes by what it had"
    return f"{where}; without hearing of it, it refuses every card from {door['stops_at']} on"
