"""``drempel-edge read``: one reader transaction whose card is whoever answers on standard input.

Commands go out and answers come in as lines of hex, so that any card implementation can be put
against this reader without an antenna.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum, unique
from pathlib import Path
from typing import IO, Final

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from pacs.card import p256, pkoc
from pacs.card.cvc import check_issuer
from pacs.card.dialogue import get_response, run
from pacs.credential import Presentation, Technology, TrustAnchors, VerifiedCredential, Verifier, check_dates
from pacs.errors import CardError, CardGone, CardMisbehaves, MalformedData, VerificationError
from pacs.identifiers import CredentialId
from pacs.reason import ReadFault, Reason

MAX_LINE_BYTES: Final = 2 * (65536 + 2) + 2


@unique
class Outcome(StrEnum):
    """What the transaction ended in."""

    VERIFIED = "verified"
    REFUSED = "refused"
    UNREADABLE = "unreadable"


EXIT_STATUS: Final = {Outcome.VERIFIED: 0, Outcome.REFUSED: 1, Outcome.UNREADABLE: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The result line. ``reason`` is None when verified; ``detail`` explains it to a person."""

    outcome: Outcome
    reason: Reason | ReadFault | None = None
    detail: str = ""
    credential_id: CredentialId | None = None
    issuer: str | None = None
    technology: Technology | None = None

    def to_json(self) -> str:
        """One line."""
        return json.dumps(
            {
                "credential_id": None if self.credential_id is None else str(self.credential_id),
                "issuer": self.issuer,
                "technology": self.technology,
                "outcome": self.outcome,
                "reason": self.reason,
                "detail": self.detail,
            }
        )


class StdioCard:
    """A ``Transceive`` over two byte streams, one APDU a line."""

    def __init__(self, answers: IO[bytes], commands: IO[bytes]) -> None:
        self._answers = answers
        self._commands = commands

    def __call__(self, command: bytes, meanwhile: Callable[[], None]) -> bytes:
        """Write the command, work, read the answer. Raises ``CardGone``, ``CardMisbehaves``."""
        try:
            self._commands.write(command.hex().encode() + b"\n")
            self._commands.flush()
            meanwhile()
            line = self._answers.readline(MAX_LINE_BYTES + 1)
        except OSError as error:
            raise CardGone("the other end is closed") from error
        if not line:
            raise CardGone("end of input instead of an answer")
        if len(line) > MAX_LINE_BYTES:
            raise CardMisbehaves(ReadFault.LENGTH_LIMIT, "answer line too long")
        try:
            return bytes.fromhex(line.decode("ascii"))
        except ValueError as error:
            raise CardMisbehaves(ReadFault.ANSWER_MALFORMED, "answer line is not hex") from error


def read_card(
    card: StdioCard,
    verifier: Verifier,
    challenge: pkoc.Challenge,
    *,
    enrolled_v1: frozenset[CredentialId],
    at: datetime,
) -> Reading:
    """One transaction. V1 cards are verified only if enrolled; dates are those of ``at``'s own day."""
    dialogue = pkoc.present(challenge, allow_v1=True, on_certificate=verifier.prefetch)
    try:
        presentation = run(dialogue, get_response(card))
    except CardError as error:
        return Reading(outcome=Outcome.UNREADABLE, reason=error.fault, detail=str(error))
    try:
        credential = verifier.verify(presentation)
    except VerificationError as error:
        return _refused(error, presentation.technology, credential_id=_claimed(verifier, presentation))
    try:
        check_dates(credential, at.date())
        _check_enrolled(credential, enrolled_v1)
    except VerificationError as error:
        return _refused(
            error, credential.technology, credential_id=credential.credential_id, issuer=credential.issuer
        )
    return Reading(
        outcome=Outcome.VERIFIED,
        credential_id=credential.credential_id,
        issuer=credential.issuer,
        technology=credential.technology,
    )


def _refused(
    error: VerificationError,
    technology: Technology,
    *,
    credential_id: CredentialId | None,
    issuer: str | None = None,
) -> Reading:
    return Reading(
        outcome=Outcome.REFUSED,
        reason=error.reason,
        detail=str(error),
        credential_id=credential_id,
        issuer=issuer,
        technology=technology,
    )


def _claimed(verifier: Verifier, presentation: Presentation) -> CredentialId | None:
    return verifier.claimed(presentation) if presentation.technology is Technology.PKOC_V2 else None


def _check_enrolled(credential: VerifiedCredential, enrolled_v1: frozenset[CredentialId]) -> None:
    if credential.technology is Technology.PKOC_V1 and credential.credential_id not in enrolled_v1:
        raise VerificationError(Reason.CARD_NOT_ENROLLED)


def load_issuer_key(path: Path) -> ec.EllipticCurvePublicKey:
    """A P-256 key from PEM: a public key (SubjectPublicKeyInfo) or a certificate. Raises ``MalformedData``."""
    try:
        pem = path.read_bytes()
        if b"-----BEGIN CERTIFICATE-----" in pem:
            from cryptography.x509 import load_pem_x509_certificate

            key: object = load_pem_x509_certificate(pem).public_key()
        else:
            key = load_pem_public_key(pem)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise MalformedData(f"{path}: no public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedData(f"{path}: a P-256 key expected")
    return key


def _parse_trust(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> TrustAnchors:
    issuers: dict[str, ec.EllipticCurvePublicKey] = {}
    for value in values:
        issuer, equals, path = value.partition("=")
        try:
            if not equals:
                raise MalformedData("IIR=issuer.pem expected")
            issuers[check_issuer(issuer)] = load_issuer_key(Path(path))
        except MalformedData as error:
            raise click.BadParameter(str(error)) from error
    return TrustAnchors(issuers=issuers)


def _parse_enrolled(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> frozenset[CredentialId]:
    """Uncompressed or compressed points, or bare x coordinates, as hex."""
    enrolled: set[CredentialId] = set()
    for value in values:
        try:
            raw = bytes.fromhex(value)
            if len(raw) == 32:
                raw = b"\x02" + raw
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
        except ValueError as error:
            raise click.BadParameter("hex of a point of P-256 expected") from error
        enrolled.add(CredentialId(p256.encode_point(key)[1:33]))
    return frozenset(enrolled)


def _parse_time(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime:
    if value is None:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(value)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter("ISO 8601 expected, like 2027-01-31T12:00:00Z") from error
    return at


@click.command("read")
@click.option(
    "--stdio", is_flag=True, required=True, expose_value=False, help="The card answers on standard input."
)
@click.option(
    "--trust",
    multiple=True,
    callback=_parse_trust,
    metavar="IIR=ISSUER.PEM",
    help="Believe this issuer: its public key or certificate in PEM; repeatable.",
)
@click.option(
    "--enrolled-v1",
    multiple=True,
    callback=_parse_enrolled,
    metavar="PUBLIC_KEY_HEX",
    help="Accept this PKOC V1 card; repeatable. Others are refused.",
)
@click.option(
    "--at",
    callback=_parse_time,
    metavar="TIME",
    help="ISO time to judge dates at, UTC unless it says otherwise; default: the present.",
)
def read_command(trust: TrustAnchors, enrolled_v1: frozenset[CredentialId], at: datetime) -> None:
    """Read one PKOC card: a command APDU per line out, an answer per line in, all hex; last a line of JSON.

    Exit status: 0 verified, 1 refused, 2 wrong usage, 3 unreadable.

    Example: drempel-edge read --stdio --trust AGENCY0000000001=card-issuer.pub.pem
    """
    try:
        challenge = pkoc.Challenge(
            reader_identifier=pkoc.reader_identifier("stdio", "stdio"), at=at, random=os.urandom(16)
        )
    except MalformedData as error:
        raise click.BadParameter(str(error), param_hint="--at") from error
    card = StdioCard(sys.stdin.buffer, sys.stdout.buffer)
    reading = read_card(card, Verifier(trust), challenge, enrolled_v1=enrolled_v1, at=at)
    click.echo(reading.to_json())
    sys.exit(EXIT_STATUS[reading.outcome])


if __name__ == "__main__":
    read_command()
