"""``drempel-provision card batch``: a list of people, card after card."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

import click

from pacs.card.dialogue import Transceive
from pacs.errors import CardGone, PacsError, StoreError
from provisioning import command
from provisioning.card_batch import Batch, BatchFile, Line, Outcome, Said
from provisioning.card_hub import CardHub
from provisioning.card_list import CardList, Person
from provisioning.command import NamedHub
from provisioning.encoder import DEFAULT_DAYS, IssuedCard, Issuer, issue_card
from provisioning.keystore import read_file
from provisioning.line_card import LineCard
from provisioning.pkcs11_keys import TokenAccess
from provisioning.site import Site

CARD_S: Final = 300.0
FOLDER: Final = "card-batches"
_FORMULA: Final = "=+-@\t\r"
_COLUMNS: Final = (
    "row",
    "key",
    "outcome",
    "at",
    "cardholder_id",
    "credential_id",
    "serial",
    "seconds",
    "detail",
)


@click.command(
    "batch",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision card batch people.csv --reader pn532:/dev/ttyUSB0 --site-dir wilgenoord \\
      --hub https://hub.wilgenoord.example --token-file token --report cards.csv --report cards.txt
  drempel-provision card batch people.csv --dry-run --site-dir wilgenoord \\
      --hub https://hub.wilgenoord.example --token-file token
""",
)
@click.argument("people", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@command.card_options
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
    "--site", "site_id", metavar="ID", help="Which site's people the list brings in, where a hub has several."
)
@click.option(
    "--report",
    "reports",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="Write the report here at the end, as its name says: .csv, .json, else text; repeatable.",
)
@command.site_dir_option
@command.passphrase_option
@command.tokens_options
@command.required_hub_options
@command.dry_run_option
@command.format_option
@command.explained
def card_batch(
    *,
    people: Path,
    stdio: bool,
    card_process: str | None,
    reader: str | None,
    valid_from: date | None,
    valid_until: date | None,
    site_id: str | None,
    reports: tuple[Path, ...],
    site_dir: Path,
    passphrase_file: Path | None,
    tokens: TokenAccess | None,
    named_hub: NamedHub,
    dry_run: bool,
    form: str,
) -> None:
    """Issue a card to each person of a list who has none: CSV as the hub imports people, or ids that it knows.

    A list with names is brought into the hub first. Interrupted at any moment, even by the power, the same command goes
    on where it was: nobody gets two cards, and a card that was begun is finished. With --card-process the program is
    started for each card.
    """
    raw = read_file(people)
    listed = CardList.from_bytes(raw)
    site = Site.open(site_dir)
    file = BatchFile(site.directory / FOLDER / f"{hashlib.sha256(raw).hexdigest()[:16]}.jsonl")
    with CardHub.of_desk(named_hub.url, named_hub.token_file, site_dir) as hub:
        hub.check("cards")
        if dry_run:
            if listed.names_people:
                hub.import_people(raw, site_id, dry_run=True)
            left = sum(not _is_done(file.lines.get(person.key)) for person in listed.people)
            result = {"people": len(listed.people), "left": left, "made": False}
            command.say(form, result, f"Would issue up to {left} cards to {len(listed.people)} people.")
            return
        issuer = command.card_issuer(site, passphrase_file, tokens)
        if listed.names_people and not file.lines:
            hub.import_people(raw, site_id)
        first = valid_from or datetime.now(UTC).astimezone().date()
        last = valid_until or first + timedelta(days=DEFAULT_DAYS)

        def issue(card: Transceive) -> IssuedCard:
            return issue_card(card, issuer, valid_from=first, valid_until=last, now=datetime.now(UTC))

        say = _Teller(listed.people, file)
        opened = lambda: command.chosen_card(stdio=stdio, command=card_process, reader=reader)  # noqa: E731
        try:
            with (
                command.audited(site, "card batch", people=len(listed.people)) as facts,
                Desk(opened, issue, again=card_process is not None) as desk,
            ):
                try:
                    Batch(hub, desk, issuer.journal, file, say=say).run(listed.people)
                finally:
                    facts["issued"] = sum(line.outcome is Outcome.ISSUED for line in file.lines.values())
        finally:
            report = Report(listed.people, file.lines.values(), issuer)
            for path in reports:
                _write(path, report.as_named(path))
    command.say("json" if stdio else form, report.summary, report.text)


def _is_done(line: Line | None) -> bool:
    return line is not None and line.outcome in (Outcome.ISSUED, Outcome.HAS_A_CARD)


class Desk:
    """``provisioning.card_batch.Cards``: one reader for all cards, or with ``again`` a program for each."""

    def __init__(
        self,
        opened: Callable[[], AbstractContextManager[LineCard]],
        issue: Callable[[Transceive], IssuedCard],
        *,
        again: bool,
    ) -> None:
        self._opened = opened
        self._issue = issue
        self._again = again
        self._stack = ExitStack()
        self._card: LineCard | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def make(self) -> IssuedCard:
        """Issue the card that is laid down next."""
        if self._card is None:
            self._card = self._stack.enter_context(self._opened())
        try:
            if not self._card.await_card(CARD_S):
                raise CardGone(f"no card within {CARD_S:g} s")
            return self._issue(self._card)
        except PacsError:
            self._end()
            raise

    def next(self) -> None:
        """Wait until the card is taken away."""
        if self._card is not None and not self._card.await_lift(CARD_S):
            raise CardGone("the card was not taken away")
        self._end()

    def _end(self) -> None:
        if self._again:
            self._stack.close()
            self._card = None


class _Teller:
    """Tells the operator, on standard error: who is next, and how many there are. The name goes to the screen alone."""

    def __init__(self, people: Iterable[Person], file: BatchFile) -> None:
        self._count = len(tuple(people))
        self._file = file

    def __call__(self, said: Said, person: Person, text: str) -> None:
        done = sum(_is_done(line) for line in self._file.lines.values())
        who = f"{person.name} ({person.key})" if person.name else person.key
        words = {
            Said.NEXT: f"[{done}/{self._count}] lay a blank card on the reader for {who}",
            Said.DONE: f"[{done}/{self._count}] done, hand it to {who}: {text}",
        }.get(said, f"[{done}/{self._count}] {who}: {text}")
        click.echo(words, err=True)


class Report:
    """What became of each row; ids and no name."""

    def __init__(self, people: Iterable[Person], lines: Iterable[Line], issuer: Issuer) -> None:
        known = {line.key: line for line in lines}
        self._lines = [known[person.key] for person in people if person.key in known]
        self._left = [person for person in people if person.key not in known]
        self._unfinished = issuer.journal.all_unfinished()
        self._void = issuer.journal.voids()

    @property
    def summary(self) -> dict[str, Any]:
        """Counts, and all that somebody has to look at."""
        counts = {outcome.value: sum(line.outcome is outcome for line in self._lines) for outcome in Outcome}
        times = [line.seconds for line in self._lines if line.outcome is Outcome.ISSUED]
        return {
            **counts,
            "left": len(self._left),
            "seconds_per_card": round(sum(times) / len(times), 1) if times else None,
            "failed": [
                {"row": line.row, "key": line.key, "outcome": line.outcome.value, "detail": line.detail}
                for line in self._lines
                if line.outcome in (Outcome.UNKNOWN, Outcome.REFUSED)
            ],
            "unfinished": [str(each.serial) for each in self._unfinished],
            "void": [str(each) for each in self._void],
        }

    @property
    def text(self) -> str:
        """For a person."""
        said = self.summary
        lines = [
            f"{said['issued']} issued, {said['has_a_card']} had a card, {len(said['failed'])} failed, {said['left']} left."
        ]
        if said["seconds_per_card"] is not None:
            lines.append(
                f"{said['seconds_per_card']:g} s a card on average, the wait for each card included."
            )
        lines += [f"row {each['row']}, {each['key']}: {each['detail']}" for each in said["failed"]]
        lines += [
            f"chip {serial} was begun and is not finished: lay it on the reader again"
            for serial in said["unfinished"]
        ]
        lines += [
            f"{credential} is void, and is told to the hub with the next card" for credential in said["void"]
        ]
        return "\n".join(lines)

    def as_named(self, path: Path) -> str:
        """In the form that the file's name asks for."""
        if path.suffix == ".json":
            rows = [{name: getattr(line, name) for name in _COLUMNS} for line in self._lines]
            return json.dumps({**self.summary, "rows": rows}, indent=2) + "\n"
        if path.suffix != ".csv":
            return self.text + "\n"
        target = io.StringIO()
        writer = csv.writer(target)
        writer.writerow(_COLUMNS)
        for line in self._lines:
            writer.writerow([_cell(str(getattr(line, name))) for name in _COLUMNS])
        return target.getvalue()


def _cell(text: str) -> str:
    """No cell begins as a formula does."""
    return f"'{text}" if text[:1] in _FORMULA and text else text


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror})") from error
