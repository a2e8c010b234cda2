"""``drempel-sim``: one command per piece of the world, each loaded only when it is called."""

from __future__ import annotations

import importlib

import click

# name on the command line: (module, attribute, one line for the overview)
COMMANDS = {
    "demo": ("simulator.demo", "demo_command", "A small site's day, with every part a real process."),
    "card": ("simulator.card_stdio", "card_command", "A virtual card that answers command lines."),
    "pn532": ("simulator.pn532_process", "pn532_command", "A virtual PN532 on a pseudo-terminal."),
    "emergency": ("simulator.emergency", "emergency_command", "A new site from nothing, timed, and its end."),
    "controller": (
        "simulator.controller_process",
        "controller_command",
        "A real controller with a virtual door.",
    ),
}


class LazyGroup(click.Group):
    """A group which imports a command's module when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands without loading any."""
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command; None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{attribute} is not a command")
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview from ``COMMANDS``, so that ``--help`` loads nothing."""
        rows = [(name, COMMANDS[name][2]) for name in sorted(COMMANDS)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="drempel", prog_name="drempel-sim")
def main() -> None:
    """Play the world: cards, readers, doors and whole sites, without any hardware.

    Exit status: 0 done; 1 not, and standard error says why; 2 wrong usage. Each command's own --help says more.

    Example: drempel-sim demo --for 30s
    """


if __name__ == "__main__":
    main(prog_name="drempel-sim")
