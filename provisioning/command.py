"""What the commands of ``drempel-provision`` share: options, help with examples, messages, exit statuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Final, Literal, ParamSpec

import click

from pacs.card.personalisation import DEAD, NOT_BLANK
from pacs.errors import CardError, PacsError, ReaderBroken, VerificationError
from provisioning import audit_log
from provisioning.encoder import Issuer
from provisioning.hub_client import HubClient, HubError
from provisioning.keystore import PASSPHRASE_VARIABLE
from provisioning.line_card import LineCard, bridge_command, card_process, check_reader
from provisioning.pkcs11_keys import TokenAccess
from provisioning.site import Site

FAILED, CARD, HUB = 1, 3, 4
EXIT_STATUS: Final = """\
Exit status:
  0 done; 1 files, keys or a malformed value; 2 the command line; 3 the card or its reader; 4 the hub"""

_ADVICE: Final = {
    NOT_BLANK: "; it is issued already, take a blank card",
    DEAD: "; it cannot be issued any more, take another blank card",
    0x6D00: "; it is no card that can be issued here: it does not authenticate its issuer",
}

P = ParamSpec("P")


class Verb(click.Command):
    """A command whose help ends with its examples, as they are written, and the exit statuses."""

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the epilog without rewrapping it."""
        formatter.write(f"\n{(self.epilog or '').strip()}\n\n{EXIT_STATUS}\n")


class _Failed(click.ClickException):
    exit_code = FAILED


class _CardFailed(click.ClickException):
    exit_code = CARD


class _HubFailed(click.ClickException):
    exit_code = HUB


def explained(command: Callable[P, None]) -> Callable[P, None]:
    """Turn our errors into a message and an exit status."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except HubError as error:
            raise _HubFailed(str(error)) from error
        except (CardError, ReaderBroken, VerificationError) as error:
            raise _CardFailed(_card_message(error)) from error
        except PacsError as error:
            raise _Failed(str(error)) from error

    return run


def _card_message(error: CardError | ReaderBroken | VerificationError) -> str:
    if isinstance(error, ReaderBroken):
        return f"{error}{f'; {error.advice}' if error.advice else ''}"
    if isinstance(error, VerificationError):
        return f"the card is not accepted: {error.reason.value} ({error})"
    status = "" if error.status_word is None else f", status word {error.status_word:04X}"
    advice = _ADVICE.get(error.status_word or 0, "")
    return f"the card could not be read or written: {error.fault.value}{status} ({error}){advice}"


def parsed(kind: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Read a parameter's text with one of pacs' own types."""

    def parse(_ctx: click.Context, _param: click.Parameter, value: Any) -> Any:
        try:
            return None if value is None else kind(value)
        except (PacsError, ValueError) as error:
            raise click.BadParameter(str(error)) from error

    return parse


directory_path = click.Path(path_type=Path, file_okay=False)
file_path = click.Path(path_type=Path, dir_okay=False)
format_option = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be made; make nothing.")
site_dir_option = click.option(
    "--site-dir", type=directory_path, default=Path(), show_default="here", help="The site's directory."
)
passphrase_option = click.option(
    "--passphrase-file",
    type=file_path,
    envvar=PASSPHRASE_VARIABLE,
    show_envvar=True,
    help="File of mode 0600 with the site's passphrase; default: the one in the site's directory.",
)
stdio_option = click.option(
    "--stdio", is_flag=True, help="The card is on standard output and input, a line of hex each way."
)
process_option = click.option(
    "--card-process", metavar="COMMAND", help="The card is this program, on its standard input and output."
)
reader_option = click.option(
    "--reader",
    metavar="KIND:DEVICE",
    callback=parsed(check_reader),
    help="The card is in this reader: pn532:/dev/ttyUSB0, or pcsc:NAME (a part of its name).",
)


def card_options(command: Callable[P, None]) -> Callable[P, None]:
    """The three ways of saying where the card is."""
    return reader_option(stdio_option(process_option(command)))


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedHub:
    """Where a hub is, and the file of a token for it."""

    url: str
    token_file: Path


def hub_options(command: Callable[..., None]) -> Callable[..., None]:
    """``--hub`` and ``--token-file``, which become ``named_hub``: ``NamedHub``, or None without them."""
    return _hub_options(command, required=False)


def required_hub_options(command: Callable[..., None]) -> Callable[..., None]:
    """The same where the command can do nothing without them."""
    return _hub_options(command, required=True)


def _hub_options(command: Callable[..., None], *, required: bool) -> Callable[..., None]:
    @click.option("--hub", "hub_url", metavar="URL", required=required, help="The hub; with --token-file.")
    @click.option(
        "--token-file",
        type=file_path,
        required=required,
        help="File of mode 0600 with an API token of the hub.",
    )
    @wraps(command)
    def run(*, hub_url: str | None, token_file: Path | None, **others: Any) -> None:
        if (hub_url is None) != (token_file is None):
            raise click.UsageError("--hub and --token-file belong together")
        named = NamedHub(url=hub_url, token_file=token_file) if hub_url and token_file else None
        command(named_hub=named, **others)

    return run


def tokens_options(command: Callable[..., None]) -> Callable[..., None]:
    """``--pkcs11-module`` and ``--pin-file``, which become ``tokens``: ``TokenAccess``, or None without them."""

    @click.option(
        "--pkcs11-module",
        type=file_path,
        envvar="DREMPEL_PKCS11_MODULE",
        show_envvar=True,
        help="Library of the PKCS#11 token's maker, for a key that is in a token.",
    )
    @click.option(
        "--pin-file",
        type=file_path,
        envvar="DREMPEL_PIN_FILE",
        show_envvar=True,
        help="File of mode 0600 with the token's PIN.",
    )
    @wraps(command)
    def run(*, pkcs11_module: Path | None, pin_file: Path | None, **kwargs: Any) -> None:
        if (pkcs11_module is None) != (pin_file is None):
            raise click.UsageError("--pkcs11-module and --pin-file belong together")
        tokens = (
            None
            if pkcs11_module is None or pin_file is None
            else TokenAccess(module=pkcs11_module, pin_file=pin_file)
        )
        command(tokens=tokens, **kwargs)

    return run


def card_issuer(site: Site, passphrase_file: Path | None, tokens: TokenAccess | None) -> Issuer:
    """Who issues the site's cards, with the key that signs them wherever the site keeps it; raises ``StoreError``."""
    passphrase = site.passphrase(passphrase_file)
    return Issuer.of(site, passphrase, key=site.card_issuer_key(passphrase, tokens))


@contextmanager
def audited(site: Site, what: str, /, **facts: Any) -> Iterator[dict[str, Any]]:
    """Record in the site's log that ``what`` was done, or failed; facts found meanwhile go into what this yields.

    Facts hold no secret and no name of a person. Raises ``StoreError`` before anything is done when the log cannot be
    written.
    """
    audit_log.check_writable(site.directory)
    outcome = "done"
    try:
        yield facts
    except BaseException as error:
        outcome = f"failed: {type(error).__name__}"
        raise
    finally:
        audit_log.append(site.directory, what, at=datetime.now(UTC), outcome=outcome, facts=facts)


def check_card(*, stdio: bool, command: str | None, reader: str | None) -> None:
    """Raise ``click.UsageError`` unless exactly one of them says where the card is."""
    if stdio + (command is not None) + (reader is not None) != 1:
        raise click.UsageError("say where the card is: --reader, --stdio or --card-process COMMAND")


@contextmanager
def chosen_card(*, stdio: bool, command: str | None, reader: str | None = None) -> Iterator[LineCard]:
    """The card that ``--reader``, ``--stdio`` or ``--card-process`` names."""
    check_card(stdio=stdio, command=command, reader=reader)
    if stdio:
        yield LineCard(commands=sys.stdout.fileno(), answers=sys.stdin.fileno())
    else:
        with card_process(command or bridge_command(reader or "")) as card:
            yield card


@contextmanager
def chosen_hub(
    named: NamedHub | None, site: Site, about: Literal["cards", "controllers", "keys"]
) -> Iterator[HubClient | None]:
    """The hub that is named, proven to answer before anything is made; None when none is named.

    The site's root vouches for it, or an authority that this machine believes.
    """
    if named is None:
        yield None
        return
    with HubClient.from_token_file(named.url, named.token_file, site.directory / "root.cert.pem") as hub:
        hub.check(about)
        yield hub


def day_text(day: date | None) -> str | None:
    """ISO 8601, or None."""
    return None if day is None else day.isoformat()


def say(form: str, result: Mapping[str, Any], text: str) -> None:
    """Print the result as one line of JSON, or the text."""
    click.echo(json.dumps(result) if form == "json" else text)
