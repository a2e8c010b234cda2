"""``drempel-sim card``: a virtual card that answers command lines, for any reader to be put against it."""

from __future__ import annotations

import json
import os
import sys
import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pacs.card import p256
from pacs.card.cvc import Certificate, check_issuer
from pacs.errors import MalformedData
from pacs.identifiers import CredentialId
from provisioning.keystore import PASSPHRASE_VARIABLE, public_pem
from simulator.card_answers import FAULT
from simulator.card_deck import DECK, Recipe, deal
from simulator.card_issuing import CURVE, Profile
from simulator.virtual_card import VirtualCard

MAX_LINE_BYTES: Final = 2 * (4 + 3 + 65535 + 2) + 2
DEFAULT_ISSUER: Final = "DREMPELSIMULATOR"
NOT_HEX: Final = FAULT.to_bytes(2, "big")
TOO_LONG: Final = bytes.fromhex("6700")


def serve(card: VirtualCard, commands: BinaryIO, answers: BinaryIO) -> None:
    """Answer each line of hex with one, until the end of input; what is not hex gets 6F00."""
    while line := commands.readline(MAX_LINE_BYTES + 1):
        answers.write(_answer_line(card, line, commands).hex().encode() + b"\n")
        answers.flush()


def _answer_line(card: VirtualCard, line: bytes, commands: BinaryIO) -> bytes:
    if len(line) > MAX_LINE_BYTES:
        while line and not line.endswith(b"\n"):
            line = commands.readline(MAX_LINE_BYTES)
        return TOO_LONG
    try:
        command = bytes.fromhex(line.decode("ascii"))
    except ValueError:
        return NOT_HEX
    return card.answer(command)


def describe(
    card: VirtualCard, issuer: str | None = None, issuer_key: ec.EllipticCurvePublicKey | None = None
) -> str:
    """What a reader has to be told to accept the card, public keys only, as one line of JSON.

    ``issuer`` and ``issuer_key`` are those of the genuine issuer, also beside a card that forges it;
    without them the issuer is the one the card's certificate names, and its key is not known.
    """
    certificate = Certificate.from_bytes(card.certificate) if card.certificate else None
    key = issuer_key if certificate else None
    return json.dumps(
        {
            "pkoc": card.profile,
            "public_key": card.public_key.hex() or None,
            "credential_id": str(card.credential_id) if card.credential_id else None,
            "iir": (issuer or certificate.issuer) if certificate else None,
            "issuer_public_key": p256.encode_point(key).hex() if key else None,
            "issuer_public_key_pem": public_pem(key).decode() if key else None,
            "certificate": card.certificate.hex() or None,
            "locked": card.locked,
        }
    )


def load_issuer_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A P-256 private key from PEM; one that is encrypted is opened with the file ``DREMPEL_PASSPHRASE_FILE`` names.

    Raises ``MalformedData`` naming what is missing.
    """
    try:
        pem = path.read_bytes()
        try:
            key = load_pem_private_key(pem, None)
        except TypeError:
            named = os.environ.get(PASSPHRASE_VARIABLE)
            if not named:
                raise MalformedData(f"{path}: encrypted; set {PASSPHRASE_VARIABLE}") from None
            key = load_pem_private_key(pem, Path(named).read_bytes().strip())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise MalformedData(f"{path}: no private key in PEM that opens") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedData(f"{path}: a P-256 key expected")
    return key


def _parse_issuer_key(
    _ctx: click.Context, _param: click.Parameter, value: Path | None
) -> ec.EllipticCurvePrivateKey:
    try:
        return load_issuer_key(value) if value else ec.generate_private_key(CURVE)
    except MalformedData as error:
        raise click.BadParameter(str(error)) from error


def _parse_issuer(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    try:
        return check_issuer(value)
    except MalformedData as error:
        raise click.BadParameter(str(error)) from error


def _parse_credential_id(_ctx: click.Context, _param: click.Parameter, value: str | None) -> CredentialId:
    try:
        return CredentialId(uuid.UUID(value).bytes if value else uuid.uuid4().bytes)
    except ValueError as error:
        raise click.BadParameter("a UUID expected") from error


def _parse_day(_ctx: click.Context, _param: click.Parameter, value: str | None) -> date | None:
    try:
        return date.fromisoformat(value) if value else None
    except ValueError as error:
        raise click.BadParameter("a day like 2027-01-31 expected") from error


def _deal(profile: Profile, kind: str, recipe: Recipe) -> VirtualCard:
    if kind == "blank":
        return VirtualCard(profile=profile)
    if profile is Profile.V1 and kind != "genuine":
        raise MalformedData(f"there is no {kind} V1 card")
    return deal("v1" if profile is Profile.V1 else kind, recipe)


def _topmost(pile: Path) -> Path:
    """The file of the first card of a pile that is not issued; of a new one when all are."""
    pile.mkdir(mode=0o700, exist_ok=True)
    files = sorted(pile.glob("*.json"))
    unlocked = (each for each in files if not VirtualCard.from_json(each.read_text("utf-8")).locked)
    return next(unlocked, pile / f"{len(files):05}.json")


def _store(card: VirtualCard, file: Path) -> None:
    """Replace the file, readable by its owner only: it holds the card's private key."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as target:
        target.write(card.to_json())
    partial.replace(file)


@click.command("card")
@click.option(
    "--pkoc",
    "profile",
    type=click.Choice([p.value for p in Profile]),
    default="v2",
    show_default=True,
    help="The card's profile.",
)
@click.option(
    "--stdio", is_flag=True, required=True, expose_value=False, help="Commands come on standard input."
)
@click.option(
    "--issuer-key",
    type=click.Path(path_type=Path),
    callback=_parse_issuer_key,
    help="The issuer's private key in PEM; default: a new one.",
)
@click.option(
    "--iir",
    default=DEFAULT_ISSUER,
    show_default=True,
    callback=_parse_issuer,
    help="Issuer identification reference.",
)
@click.option("--credential-id", callback=_parse_credential_id, metavar="UUID", help="Default: random.")
@click.option("--valid-from", callback=_parse_day, metavar="DATE", help="First day; default: today (UTC).")
@click.option("--valid-to", callback=_parse_day, metavar="DATE", help="Last day; default: five years later.")
@click.option(
    "--kind",
    type=click.Choice(sorted(set(DECK) - {"v1"})),
    default="genuine",
    show_default=True,
    help="Which card of the deck (V2).",
)
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the card in this file between runs; it then decides what the card is.",
)
@click.option(
    "--pile",
    type=click.Path(file_okay=False, path_type=Path),
    help="Be the first card of this folder that is not issued yet, or another blank one that is kept there.",
)
def card_command(
    *,
    profile: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    iir: str,
    credential_id: CredentialId,
    valid_from: date | None,
    valid_to: date | None,
    kind: str,
    file: Path | None,
    pile: Path | None,
) -> None:
    """Be a PKOC card: a command APDU per line in, an answer per line out, all hex, until the end of input.

    The first line on standard error is JSON with the public keys. A line that is no command gets a status word.

    Exit status: 0 its input ended; 1 it cannot be made, and standard error says why; 2 wrong usage.

    Example: drempel-sim card --pkoc v2 --stdio --issuer-key card-issuer.key.pem --iir AGENCY0000000001
    """
    today = datetime.now(UTC).date()
    start = valid_from or min(today, valid_to or today)
    recipe = Recipe(
        issuer_key=issuer_key,
        issuer=iir,
        credential_id=credential_id,
        valid_from=start,
        valid_until=valid_to or start + timedelta(days=5 * 365),
        today=today,
    )
    try:
        if pile is not None:
            file, kind = _topmost(pile), "blank"
        if file is not None and file.exists():
            card = VirtualCard.from_json(file.read_text("utf-8"))
            click.echo(describe(card), err=True)
        else:
            card = _deal(Profile(profile), kind, recipe)
            click.echo(describe(card, iir, issuer_key.public_key()), err=True)
    except (MalformedData, OSError, OverflowError) as error:
        raise click.UsageError(str(error)) from error
    try:
        serve(card, sys.stdin.buffer, sys.stdout.buffer)
    finally:
        if file is not None:
            _store(card, file)


if __name__ == "__main__":
    card_command()
