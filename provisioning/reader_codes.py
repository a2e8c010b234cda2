"""``drempel-provision reader re-enrol``, ``swap`` and ``revoke``: which device has a controller's place."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import click
import segno

from pacs.enrolment import EnrolmentCode
from pacs.errors import StoreError
from pacs.identifiers import ControllerId
from provisioning import command
from provisioning.reader_hub import AtHub, at_hub

_QR_FORMATS: Final = (".svg", ".png")
_PLAIN: Final = "http://"


def code_options(run: Callable[..., None]) -> Callable[..., None]:
    """``--days`` and ``--qr`` of a command that makes a code."""
    run = click.option(
        "--days",
        type=click.IntRange(1, 31),
        default=7,
        show_default=True,
        help="How long the code may be used.",
    )(run)
    return click.option(
        "--qr", "qr_file", type=command.file_path, help="Write the code's QR for print, as .svg or .png."
    )(run)


@click.command(
    "re-enrol",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision reader re-enrol c-front --hub https://hub.wilgenoord.example --token-file token
""",
)
@click.argument("controller", callback=command.parsed(ControllerId))
@code_options
@at_hub
def reader_re_enrol(
    *,
    controller: ControllerId,
    days: int,
    qr_file: Path | None,
    at: AtHub,
) -> None:
    """Print a code with which the same device gets another certificate: its own ended, or was revoked."""
    _make_code(
        at,
        controller,
        "again",
        days,
        qr_file,
        f"For the device that is {controller}; nothing else of it changes.",
    )


@click.command(
    "swap",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision reader swap c-front --hub https://hub.wilgenoord.example --token-file token
""",
)
@click.argument("controller", callback=command.parsed(ControllerId))
@code_options
@at_hub
def reader_swap(
    *,
    controller: ControllerId,
    days: int,
    qr_file: Path | None,
    at: AtHub,
) -> None:
    """Print a code with which a spare takes a controller's place: doors, wiring and rules stay.

    When the spare enrols, the certificate of the device before it is refused at the broker, and what that one had recorded
    and not sent stays unknown: the record of its doors says so.
    """
    _make_code(at, controller, "swap", days, qr_file, f"For a spare in the place of {controller}.")


@click.command(
    "revoke",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision reader revoke c-front --reason "Stolen from the wall" \\
      --hub https://hub.wilgenoord.example --token-file token
""",
)
@click.argument("controller", callback=command.parsed(ControllerId))
@click.option("--reason", required=True, help="Why, for the audit log: 3 to 300 characters.")
@at_hub
def reader_revoke(
    *,
    controller: ControllerId,
    reason: str,
    at: AtHub,
) -> None:
    """Refuse the device that has a controller's place, at once, at the broker too; the place stays for another.

    Its strike goes on by what it last received, until that is too old: unwire it.
    """
    with at.open() as hub:
        if not at.dry_run:
            hub.revoke(controller, reason)
    what = "Would revoke" if at.dry_run else "Revoked"
    at.say(
        {"controller": controller, "revoked": not at.dry_run},
        f"{what} the device of {controller}. For another: drempel-provision reader swap {controller} …",
    )


def _make_code(
    at: AtHub,
    controller: ControllerId,
    purpose: Literal["again", "swap"],
    days: int,
    qr_file: Path | None,
    what: str,
) -> None:
    check_qr(qr_file)
    with at.open() as hub:
        if at.dry_run:
            at.say(
                {"controller": controller, "purpose": purpose, "made": False},
                f"Would make a code for {controller}, for {days} days; one that was not used is withdrawn.",
            )
            return
        made = hub.make_code(controller, purpose, days)
    say_code(made, what, qr_file, at)


def check_qr(path: Path | None) -> None:
    """Before anything is done: whether it can be written in the form that its name says."""
    if path is not None and path.suffix.lower() not in _QR_FORMATS:
        raise click.UsageError(f"--qr: a file that ends in {' or '.join(_QR_FORMATS)} expected")


def say_code(made: dict[str, Any], what: str, qr_file: Path | None, at: AtHub) -> None:
    """The code, its QR, and what is done with it; the code is a secret until it is used."""
    code = EnrolmentCode.parse(made["code"])
    picture = segno.make(str(code), error="m")
    if qr_file is not None:
        try:
            picture.save(str(qr_file), scale=8, border=4)
        except OSError as error:
            raise StoreError(f"{qr_file}: cannot be written ({error.strerror})") from error
    drawn = io.StringIO()
    picture.terminal(out=drawn, compact=True)
    local = (
        "\nThe hub says that it is found on this machine only: set http.origin for devices elsewhere."
        if code.address.startswith(_PLAIN)
        else ""
    )
    text = f"""\
{what}

{drawn.getvalue()}
  Code   {code}
  Hub    {code.address}
  Root   {code.fingerprint.hex(":")} (SHA-256, first half)
  Doors  {", ".join(made["doors"])}
  Until  {made["expires_at"]}
{local}
Whoever has the code first has the place: give it to nobody else. It works once.

Next, on the device:
  sudo -u drempel drempel-edge enrol {code}"""
    at.say(made, text)
