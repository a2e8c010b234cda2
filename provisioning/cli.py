"""``drempel-provision``: noun, verb. Nothing is overwritten, and no secret is printed but a one-time code."""

from __future__ import annotations

import click

from provisioning.card_commands import card_group
from provisioning.desk_commands import card_desk
from provisioning.image_commands import image_group
from provisioning.key_commands import key_group
from provisioning.reader_commands import reader_group
from provisioning.release_commands import release_group
from provisioning.site_commands import site_group


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="drempel", prog_name="drempel-provision")
def main() -> None:
    """Make a site's keys, its controllers' keys, and its cards.

    Exit status: 0 done; 1 files, keys or a malformed value; 2 the command line; 3 the card or its reader; 4 the hub.

    Example: drempel-provision site create wilgenoord --site wilgenoord
    """


main.add_command(site_group)
main.add_command(reader_group)
main.add_command(card_group)
card_group.add_command(card_desk)
main.add_command(release_group)
main.add_command(image_group)
main.add_command(key_group)


if __name__ == "__main__":
    main(prog_name="drempel-provision")
