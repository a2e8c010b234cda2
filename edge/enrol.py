"""``drempel-edge enrol``: a blank device becomes the controller that a code is for."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from edge.command_line import give_up
from edge.config import UseTpm
from edge.doctor import examine, show
from edge.enrolment import CONFIGURATION, Enrolment
from edge.finding import Level
from pacs.enrolment import EnrolmentCode
from pacs.errors import PacsError

FOUND_BROKEN: Final = 3
_SYSTEM_DIR: Final = Path("/etc/drempel")
_SYSTEM_STATE: Final = Path("/var/lib/drempel")


@click.command("enrol")
@click.argument("code")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=_SYSTEM_DIR,
    show_default=True,
    help="Gets the configuration and the keys.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Gets what a running controller writes.  [/var/lib/drempel; of another --dir, its state]",
)
@click.option(
    "--tpm",
    "use_tpm",
    type=click.Choice([use.value for use in UseTpm]),
    help="Whether a TPM keeps the keys; becomes [keys] tpm.  [auto: where there is one]",
)
@click.option("--dry-run", is_flag=True, help="Check the code and the hub, and say what would be done.")
@click.option("--allow-root", is_flag=True, help="Run with the rights of root, as a container may have to.")
def enrol_command(
    code: str,
    directory: Path,
    state_dir: Path | None,
    use_tpm: str | None,
    *,
    dry_run: bool,
    allow_root: bool,
) -> None:
    """Take the place that CODE is for: make keys here, be certified by the hub, get configuration and policy.

    CODE is what `drempel-provision reader add` printed, from https to its last group; - reads it from standard input, so
    that no other user of this machine sees it. The hub's root certificate is compared with the code before anything
    secret is sent. Interrupted, it goes on when it is run again with the same code. A device that is a controller keeps its
    configuration and gets another certificate. At the end the doctor looks at everything.

    Exit status: 0 enrolled; 1 not, and standard error says why; 2 wrong usage; 3 enrolled, and the doctor found a fault.

    Example: drempel-edge enrol https://hub.example.org/#C7QX-…
    """
    if os.geteuid() == 0 and not allow_root:
        click.echo(
            "drempel-edge: not as root: the keys belong to the controller's user (sudo -u drempel); --allow-root where "
            "there is no other user",
            err=True,
        )
        sys.exit(1)
    if code == "-":
        code = sys.stdin.readline()
    default = _SYSTEM_STATE if directory == _SYSTEM_DIR else directory / "state"
    try:
        enrolment = Enrolment(
            code=EnrolmentCode.parse(code),
            directory=directory.absolute(),
            state_dir=(state_dir or default).absolute(),
            now=datetime.now(UTC),
            say=click.echo,
            use_tpm=UseTpm(use_tpm) if use_tpm else None,
        )
        if dry_run:
            for line in enrolment.rehearse():
                click.echo(f"Would {line}.")
            return
        was_one = enrolment.present() is not None
        path = enrolment.run()
    except PacsError as error:
        give_up(error)
    sys.exit(_examined(path, was_one=was_one))


def _examined(path: Path, *, was_one: bool) -> int:
    """What the doctor says, and what to do next."""
    click.echo(f"Enrolled: {path}. The doctor:")
    failed = False
    for finding in examine(path, now=datetime.now(UTC)):
        show(finding)
        failed |= finding.level is Level.FAIL
    if failed:
        click.echo("Mend what failed above, then start it:")
    if was_one:
        click.echo(
            "Next: nothing, where the controller runs: it connects with the new certificate by itself."
        )
        click.echo("Otherwise: sudo systemctl start drempel-edge")
        return FOUND_BROKEN if failed else 0
    click.echo(f"Next: sudo systemctl enable --now drempel-edge; or: drempel-edge run --config {path}")
    click.echo(
        f"Check the pins in {path.parent / CONFIGURATION} against the wiring; then hold a card to the reader."
    )
    return FOUND_BROKEN if failed else 0
