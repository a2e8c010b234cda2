"""What every program says when it is asked for help."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from edge.__main__ import main as edge
from edge.desk.__main__ import main as desk
from hub.__main__ import main as hub
from provisioning.cli import main as provision
from simulator.__main__ import main as sim

PROGRAMS = {
    "drempel-desk": desk,
    "drempel-edge": edge,
    "drempel-hub": hub,
    "drempel-provision": provision,
    "drempel-sim": sim,
}


def commands(command: click.Command, parent: click.Context | None, name: str) -> Iterator[tuple[str, str]]:
    """The name and the help of each command that does something."""
    context = click.Context(command, info_name=name, parent=parent)
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            assert found is not None
            yield from commands(found, context, each)
    else:
        yield context.command_path, command.get_help(context)


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_has_an_example_and_the_exit_statuses(name: str) -> None:
    """Of the program itself, and of each command that adds to them."""
    program = PROGRAMS[name]
    text = program.get_help(click.Context(program, info_name=name))
    assert f"Example: {name} " in text
    assert "Exit status: 0 " in text
    if program is hub:  # its commands have the statuses of the program
        return
    for path, said in commands(program, None, name):
        assert "Example" in said, path
        assert "exit status" in said.lower(), path
