"""``drempel-edge``: the command line of a controller. Each command is loaded when it is used."""

from __future__ import annotations

import importlib
from typing import Final

import click

# name on the command line: (module, attribute, one line for the overview)
COMMANDS: Final = {
    "check-config": ("edge.check_config", "check_config_command", "Check the configuration and its keys."),
    "doctor": ("edge.doctor", "doctor_command", "Say what is wrong with this controller and what to do."),
    "enrol": ("edge.enrol", "enrol_command", "Take a controller's place by a one-time code."),
    "read": ("edge.read_stdio", "read_command", "Read one card that answers on standard input."),
    "run": ("edge.run_command", "run_command", "Run the controller until SIGTERM or SIGINT."),
    "safe-pins": ("edge.safe_pins", "safe_pins_command", "Take the current from every strike."),
    "status": ("edge.status", "status_command", "Say how the running controller stands."),
    "update": ("edge.updating.update_command", "update_command", "Offer the newest release for trial."),
}


class _Commands(click.Group):
    """Loads a command from its module when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's interface
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's interface
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in sorted(COMMANDS.items())])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="drempel", prog_name="drempel-edge")
def main() -> None:
    """Decide at the doors of one controller.

    Exit status: 0 done; 1 not, and standard error says why; 2 wrong usage. Each command's own --help says more.

    Example: drempel-edge check-config --config /etc/drempel/controller.toml
    """


if __name__ == "__main__":
    main(prog_name="drempel-edge")
