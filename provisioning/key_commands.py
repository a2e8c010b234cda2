"""``drempel-provision key``: list, rotate, retire and deliver. What a change stops is said before it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from cryptography.hazmat.primitives.asymmetric import ec

from pacs.errors import StoreError
from pacs.key_statement import KeyStatement
from provisioning import command, rotation
from provisioning.authority import Authority, generate_key
from provisioning.hub_client import HubClient
from provisioning.keystore import Passphrase
from provisioning.pkcs11_keys import TokenAccess
from provisioning.rotation import Change
from provisioning.site import Site, generate_issuer

_POLICY, _ISSUER = "policy", "card-issuer"
_NOT_CONNECTED: Final = (
    "A controller that is not connected believes the old key until it is; once its documents are older than its doors'"
    " bound (max_policy_age_s) it does with cards what its policy says."
)

GOES_ON: Final[Mapping[str, Sequence[str]]] = {
    _POLICY: (
        "Nothing stops. A controller believes both keys from the next document on, whenever it gets that.",
        "The hub signs with the new key once every controller has confirmed; `key list --hub` says who has not.",
        "Then: drempel-provision key retire policy",
    ),
    _ISSUER: (
        "Nothing stops. New cards are made with the new key, and open where the hub has this statement.",
        "Old cards go on opening until they end; `key list --hub` says how many are left.",
        "Then: drempel-provision key retire card-issuer ISSUER",
    ),
    "devices": (
        "Nothing stops. What the old authority certified is good until it ends; what is renewed comes from the new one.",
        "A hub that runs certifies with it within seconds; its broker and its own client go by it too.",
    ),
    "web": ("Nothing stops. A hub that runs shows its pages' new certificate within seconds.",),
}
STOPS: Final[Mapping[str, Sequence[str]]] = {
    _POLICY: (
        "Commands given in the last five minutes are refused where they have not arrived: give them again.",
        "A door keeps the mode it was ordered into until its controller restarts, and is locked down then.",
        "Order such modes again once the hub signs with the new key.",
        _NOT_CONNECTED,
        "Cards go on opening.",
    ),
    _ISSUER: (
        "Every card of the old issuers is refused at a door from when it gets the hub's next policy, for good.",
        _NOT_CONNECTED,
    ),
}

root_dir_option = click.option(
    "--root-dir",
    "root_directory",
    type=command.directory_path,
    help="Where the root's key is.  [default: root in the site's directory]",
)
root_passphrase_option = click.option(
    "--root-passphrase-file",
    type=command.file_path,
    help="File of mode 0600 with the root's passphrase; default: the one beside its key.",
)
hub_dir_option = click.option(
    "--hub-dir",
    "hub_directory",
    type=command.directory_path,
    help="The hub's directory, when it is at hand.  [default: hub in the site's directory, if it is there]",
)
hub_passphrase_option = click.option(
    "--hub-passphrase-file",
    type=command.file_path,
    help="File of mode 0600 with the hub's passphrase; default: the one in its directory.",
)
root_pin_option = click.option(
    "--root-pin-file", type=command.file_path, help="PIN of the root's token.  [default: --pin-file]"
)
force_option = click.option(
    "--force", is_flag=True, help="Do it whatever still depends on it; needs --reason."
)
reason_option = click.option("--reason", default="", metavar="TEXT", help="Why, for the hub's audit log.")


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
@command.hub_option
@command.token_option
@command.format_option
@command.explained
def key_list(*, site_dir: Path, hub_url: str | None, token_file: Path | None, form: str) -> None:
    """Say which policy keys and card issuers the root states; with --hub, who has yet to hear, and the cards left."""
    site = Site.open(site_dir)
    said = rotation.stated(site)
    with command.chosen_hub(hub_url, token_file, site, "keys") as hub:
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
    if hub["cards_of_unknown_issuer"]:
        lines.append(f"card issuer   not known of {hub['cards_of_unknown_issuer']} live cards")
    return lines


@key_group.command(
    "rotate",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision key rotate policy --site-dir wilgenoord --root-dir /media/stick/root --dry-run
  drempel-provision key rotate card-issuer --site-dir wilgenoord --root-dir /media/stick/root
  drempel-provision key rotate policy --now --site-dir wilgenoord --root-dir /media/stick/root
""",
)
@click.argument("which", type=click.Choice([_POLICY, _ISSUER, *rotation.INTERMEDIATES]))
@click.option(
    "--now",
    "at_once",
    is_flag=True,
    help="The old key is in wrong hands: believe it no longer, without overlap.",
)
@command.site_dir_option
@command.passphrase_option
@root_dir_option
@root_passphrase_option
@command.tokens_options
@root_pin_option
@hub_dir_option
@hub_passphrase_option
@command.dry_run_option
@command.format_option
@command.explained
def key_rotate(
    *,
    which: str,
    at_once: bool,
    site_dir: Path,
    passphrase_file: Path | None,
    root_directory: Path | None,
    root_passphrase_file: Path | None,
    tokens: TokenAccess | None,
    root_pin_file: Path | None,
    hub_directory: Path | None,
    hub_passphrase_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Make a new key and give it to the hub; the old one stays good until it is retired, unless --now.

    WHICH is the policy signer, the card issuer, or the authority that certifies devices or the hub's pages.
    """
    if at_once and which not in STOPS:
        raise click.UsageError(
            "what an authority has certified cannot be unsaid: withdraw at the hub what a thief may have had certified"
        )
    site, now = Site.open(site_dir), datetime.now(UTC)
    passphrase = site.passphrase(passphrase_file)
    root = _root(site, root_directory, root_passphrase_file, tokens, root_pin_file)
    if which == _POLICY:
        change = rotation.rotate_policy(site, root, passphrase, now, at_once=at_once)
    elif which == _ISSUER:
        issuer = generate_issuer()
        key = _issuer_key(site, issuer, tokens, dry_run=dry_run)
        change = rotation.rotate_issuer(site, root, passphrase, now, at_once=at_once, issuer=issuer, key=key)
    else:
        change = rotation.rotate_intermediate(site, root, which, passphrase, now)
    notes = STOPS[which] if at_once else GOES_ON[which]
    delivery = Delivery(site, passphrase, hub_directory, hub_passphrase_file)
    _carry_out(f"key rotate {which}", change, delivery, notes, now=now, dry_run=dry_run, form=form)


@key_group.command(
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
@click.argument("which", type=click.Choice([_POLICY, _ISSUER]))
@click.argument("issuer", required=False)
@force_option
@reason_option
@command.site_dir_option
@command.passphrase_option
@root_dir_option
@root_passphrase_option
@command.tokens_options
@root_pin_option
@hub_dir_option
@hub_passphrase_option
@command.hub_option
@command.token_option
@command.dry_run_option
@command.format_option
@command.explained
def key_retire(
    *,
    which: str,
    issuer: str | None,
    force: bool,
    reason: str,
    site_dir: Path,
    passphrase_file: Path | None,
    root_directory: Path | None,
    root_passphrase_file: Path | None,
    tokens: TokenAccess | None,
    root_pin_file: Path | None,
    hub_directory: Path | None,
    hub_passphrase_file: Path | None,
    hub_url: str | None,
    token_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """End the overlap: the old policy key, or a card issuer, is believed no longer.

    The hub is asked whether anything still depends on it; without --hub, --force is needed.
    """
    if (issuer is None) is (which == _ISSUER):
        raise click.UsageError("an ISSUER is named for card-issuer, and only for it")
    if force and not reason:
        raise click.UsageError("--force needs --reason")
    site, now = Site.open(site_dir), datetime.now(UTC)
    passphrase = site.passphrase(passphrase_file)
    root = _root(site, root_directory, root_passphrase_file, tokens, root_pin_file)
    change = (
        rotation.retire_policy(site, root, passphrase, now)
        if issuer is None
        else rotation.retire_issuer(site, root, issuer, now)
    )
    with command.chosen_hub(hub_url, token_file, site, "keys") as hub:
        if hub is None and not force:
            raise click.UsageError(
                "--hub and --token-file are needed, to ask what still depends on it; or --force"
            )
        notes = _retired(hub, issuer, site, reason=reason, force=force, dry_run=dry_run)
    delivery = Delivery(site, passphrase, hub_directory, hub_passphrase_file)
    _carry_out(f"key retire {which}", change, delivery, notes, now=now, dry_run=dry_run, form=form)


def _root(
    site: Site,
    directory: Path | None,
    passphrase_file: Path | None,
    tokens: TokenAccess | None,
    pin_file: Path | None,
) -> Authority:
    if tokens is not None and pin_file is not None:
        tokens = replace(tokens, pin_file=pin_file)
    passphrase = Passphrase.from_file(passphrase_file) if passphrase_file else None
    return site.root(directory, passphrase, tokens)


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


@key_group.command(
    "deliver",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision key deliver --site-dir wilgenoord --hub-dir /media/hub/wilgenoord
""",
)
@command.site_dir_option
@command.passphrase_option
@hub_dir_option
@hub_passphrase_option
@command.dry_run_option
@command.format_option
@command.explained
def key_deliver(
    *,
    site_dir: Path,
    passphrase_file: Path | None,
    hub_directory: Path | None,
    hub_passphrase_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Give the hub what changed while its directory was not at hand; doing it again changes nothing."""
    site = Site.open(site_dir)
    delivery = Delivery(site, site.passphrase(passphrase_file), hub_directory, hub_passphrase_file)
    if delivery.directory is None:
        raise click.UsageError("name the hub's directory with --hub-dir")
    change = delivery.change(datetime.now(UTC))
    if not dry_run:
        with command.audited(site, "key deliver", to=str(delivery.directory), **_files(change)):
            change.carry_out(delivery.directory)
    result = {"made": not dry_run, "hub_directory": str(delivery.directory), **_files(change)}
    told = f"{'Would put' if dry_run else 'Put'} in {delivery.directory}: {_names(change)}"
    command.say(form, result, told if change.files or change.remove else "The hub has it all.")


class Delivery:
    """How the hub is given what changed. ``directory`` None: it is not at hand."""

    def __init__(
        self, site: Site, passphrase: Passphrase, directory: Path | None, passphrase_file: Path | None
    ) -> None:
        self.site = site
        self._passphrase = passphrase
        usual = site.hub_directory
        self.directory = directory or (usual if usual.exists() else None)
        self._passphrase_file = passphrase_file

    def change(self, now: datetime) -> Change:
        """What its directory lacks; raises ``StoreError``."""
        directory = self.directory or self.site.hub_directory
        passphrase = Passphrase.from_file(self._passphrase_file or directory / "passphrase")
        return rotation.deliver(self.site, self._passphrase, directory, passphrase, now)


def _files(change: Change) -> dict[str, list[str]]:
    return {
        "files": sorted(str(file.path) for file in change.files),
        "removed": sorted(map(str, change.remove)),
    }


def _names(change: Change) -> str:
    files = _files(change)
    return "; ".join(
        [", ".join(files["files"]), *([f"without {', '.join(files['removed'])}"] if change.remove else [])]
    )


def _carry_out(
    what: str,
    change: Change,
    delivery: Delivery,
    notes: Sequence[str],
    *,
    now: datetime,
    dry_run: bool,
    form: str,
) -> None:
    directory = delivery.site.directory
    result: dict[str, Any] = {
        "key": change.key,
        "made": not dry_run,
        "statement": change.statement.version if change.statement else None,
        **_files(change),
        "hub_directory": str(delivery.directory) if delivery.directory else None,
        "delivered": [],
        "notes": list(notes),
    }
    if dry_run:
        hub = f", and give {delivery.directory} what it lacks then" if delivery.directory else ""
        command.say(form, result, "\n".join([f"Would put in {directory}: {_names(change)}{hub}", *notes]))
        return
    lines = [f"Put in {directory}: {_names(change)}"]
    with command.audited(delivery.site, what, key=change.key, statement=result["statement"]) as facts:
        change.carry_out(directory)
        for_hub = delivery.change(now) if delivery.directory else None
        if delivery.directory and for_hub:
            for_hub.carry_out(delivery.directory)
            facts["delivered"] = str(delivery.directory)
    if for_hub:
        result["delivered"] = _files(for_hub)["files"]
        lines.append(
            f"Put in {delivery.directory}: {_names(for_hub)}; a hub that runs follows it in a moment."
        )
    else:
        lines.append("Next: bring it to the hub: drempel-provision key deliver --hub-dir DIRECTORY")
    command.say(form, result, "\n".join([*lines, "", *notes]))
