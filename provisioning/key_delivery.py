"""Carrying a change of keys out: in the site's directory, then in its hub's where that is at hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from provisioning import command, rotation
from provisioning.keystore import NewFile, Passphrase, make_directory
from provisioning.rotation import Change
from provisioning.site import Site


class Delivery:
    """How the hub is given what changed. ``directory`` None: it is not at hand."""

    def __init__(
        self, site: Site, passphrase: Passphrase, directory: Path | None, passphrase_file: Path | None
    ) -> None:
        self.site = site
        self.passphrase = passphrase
        usual = site.hub_directory
        self.directory = directory or (usual if usual.exists() else None)
        self._passphrase_file = passphrase_file

    def change(self, now: datetime) -> Change:
        """What its directory lacks; raises ``StoreError``."""
        directory = self.directory or self.site.hub_directory
        passphrase = Passphrase.from_file(self._passphrase_file or directory / "passphrase")
        return rotation.deliver(self.site, self.passphrase, directory, passphrase, now)


def files(change: Change) -> dict[str, list[str]]:
    """Which it puts and removes."""
    return {
        "files": sorted(str(file.path) for file in change.files),
        "removed": sorted(map(str, change.remove)),
    }


def names(change: Change) -> str:
    """The same in words."""
    found = files(change)
    return "; ".join(
        [", ".join(found["files"]), *([f"without {', '.join(found['removed'])}"] if change.remove else [])]
    )


def carry_out(
    what: str,
    change: Change,
    delivery: Delivery,
    notes: Sequence[str],
    *,
    now: datetime,
    dry_run: bool,
    form: str,
    apart: tuple[Path, Sequence[NewFile]] | None = None,
    reason: str = "",
) -> None:
    """Make it, or with ``dry_run`` say what would be made; ``notes``: what stops, and what is to be done next.

    ``apart``: a directory of its own that is made before. ``reason``: for the site's log. Raises ``StoreError``.
    """
    directory = delivery.site.directory
    result: dict[str, Any] = {
        "key": change.key,
        "made": not dry_run,
        "statement": change.statement.version if change.statement else None,
        **files(change),
        "hub_directory": str(delivery.directory) if delivery.directory else None,
        "made_apart": str(apart[0]) if apart else None,
        "delivered": [],
        "notes": list(notes),
    }
    if dry_run:
        hub = f", and give {delivery.directory} what it lacks then" if delivery.directory else ""
        first = [f"Would make {apart[0]}"] if apart else []
        command.say(
            form, result, "\n".join([*first, f"Would put in {directory}: {names(change)}{hub}", *notes])
        )
        return
    lines = [*([f"Made {apart[0]}"] if apart else []), f"Put in {directory}: {names(change)}"]
    facts: dict[str, Any] = {"key": change.key, "statement": result["statement"]}
    if reason:
        facts["reason"] = reason
    with command.audited(delivery.site, what, **facts) as facts:
        if apart:
            make_directory(*apart)
        change.carry_out(directory)
        for_hub = delivery.change(now) if delivery.directory else None
        if delivery.directory and for_hub:
            for_hub.carry_out(delivery.directory)
            facts["delivered"] = str(delivery.directory)
    if for_hub:
        result["delivered"] = files(for_hub)["files"]
        lines.append(
            f"Put in {delivery.directory}: {names(for_hub)}; a hub that runs follows it in a moment."
        )
    else:
        lines.append("Next: bring it to the hub: drempel-provision key deliver --hub-dir DIRECTORY")
    command.say(form, result, "\n".join([*lines, "", *notes]))
