"""``drempel-provision card desk``: the program of an issuing station."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

import click

from pacs.card.dialogue import Transceive
from pacs.card.personalisation import Stage
from pacs.credential import Technology
from provisioning import command
from provisioning.encoder import IssuedCard, Issuer, issue_card, issue_v1_card
from provisioning.issuing_station import Handed, IssuingStation, Said
from provisioning.pkcs11_keys import TokenAccess
from provisioning.site import Site
from provisioning.station_hub import Job, StationHub

_STEPS: Final = (Stage.KEY_MADE, Stage.CERTIFICATE_WRITTEN, Stage.LOCKED, Stage.CHECKED)
"""What the hub is told of."""


@click.command(
    "desk",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision card desk --site-dir wilgenoord --hub https://hub.wilgenoord.example --token-file token \\
      --reader pn532:/dev/ttyUSB0
  drempel-provision card desk --stdio --hub https://hub.wilgenoord.example --token-file token --format json
""",
)
@command.card_options
@command.site_dir_option
@command.passphrase_option
@command.tokens_options
@click.option("--hub", "hub_url", metavar="URL", required=True, help="The hub whose jobs are taken.")
@click.option(
    "--token-file",
    type=command.file_path,
    required=True,
    help="File of mode 0600 with the token of a station of the kind issuing.",
)
@click.option(
    "--state-file",
    type=command.file_path,
    help="Where a card that is made is written down until the hub has it.  [in --site-dir]",
)
@command.format_option
@command.explained
def card_desk(
    *,
    stdio: bool,
    card_process: str | None,
    reader: str | None,
    site_dir: Path,
    passphrase_file: Path | None,
    tokens: TokenAccess | None,
    hub_url: str,
    token_file: Path,
    state_file: Path | None,
    form: str,
) -> None:
    """Make the cards that the hub's page asks for, one after the other, until SIGTERM or SIGINT.

    A hub that is away and a reader that is broken are waited for. With --stdio what happens is told on standard error.
    """
    command.check_card(stdio=stdio, command=card_process, reader=reader)
    site = Site.open(site_dir)
    issuer = command.card_issuer(site, passphrase_file, tokens)
    handed = Handed(state_file or site_dir / "issuing-desk.json", issuer.journal)
    with StationHub.from_token_file(hub_url, token_file, site_dir / "root.cert.pem") as hub:
        station = IssuingStation(
            hub,
            partial(command.chosen_card, stdio=stdio, command=card_process, reader=reader),
            partial(_recorded, site, issuer),
            handed,
            say=partial(_say, form, stdio=stdio),
        )
        with _stopped_by_signals(station.stop):
            station.run()


def _recorded(
    site: Site, issuer: Issuer, card: Transceive, job: Job, progress: Callable[[str], None]
) -> IssuedCard:
    with command.audited(site, "card desk", technology=job.technology, job=job.id) as facts:
        issued = issue(issuer, card, job, progress)
        facts["credential_id"] = str(issued.credential_id)
    return issued


def issue(issuer: Issuer, card: Transceive, job: Job, progress: Callable[[str], None]) -> IssuedCard:
    """Personalise the card for a job, and tell ``progress`` each step; raises as ``issue_card``."""
    now = datetime.now(UTC)

    def told(stage: Stage) -> None:
        if stage in _STEPS:
            progress(stage)

    if job.technology is Technology.PKOC_V1:
        return issue_v1_card(card, issuer, now=now, progress=told)
    return issue_card(
        card, issuer, valid_from=job.first_day, valid_until=job.last_day, now=now, progress=told
    )


def _say(form: str, what: Said, text: str, about: Mapping[str, str], *, stdio: bool) -> None:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"at": at, "said": what, "text": text, **about}) if form == "json" else f"{at} {text}"
    click.echo(line, err=stdio)


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    def stopped(_number: int, _frame: FrameType | None) -> None:
        stop()

    before = {number: signal.signal(number, stopped) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
