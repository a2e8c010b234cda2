"""The commands that open and close an emergency site, as a person types them: those of ``docs/emergency-site.md``, in order.

``rehearse`` of a command is what is typed in its place where no hardware is; empty: the same. Lines are read by a shell, with
the variables of the document; ``$DOOR``, ``$CODE`` and, in a rehearsal, ``$READER`` and ``$DEVICE`` are those of one door.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

DOORS: Final = ("gate", "hall", "kitchen", "laundry")
LEVEL: Final = "residents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One line. ``per_door``: once for each. ``stays``: it runs until the site is closed."""

    line: str
    rehearse: str = ""
    per_door: bool = False
    stays: bool = False

    @property
    def rehearsed(self) -> str:
        """The line that a rehearsal runs."""
        return self.rehearse or self.line


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Commands that belong together, under the name by which they are timed."""

    name: str
    commands: tuple[Command, ...]


_AT_HUB: Final = '--site-dir site --hub "$HUB" --token-file token'
_POST: Final = (
    'curl -sSf -o /dev/null -H "Authorization: Bearer $(cat token)" --cacert site/root.cert.pem --json'
)


def opening(doors: Sequence[str]) -> tuple[Step, ...]:
    """From nothing to a site whose cards open these doors."""
    rules = [{"door_id": door, "schedule_id": "always"} for door in doors]
    whole_day = [{"weekdays": list(range(7)), "start_minute": 0, "end_minute": 1440}]
    always = {"id": "always", "name": "Always", "windows": whole_day, "holiday_windows": whole_day}
    level = {"id": LEVEL, "name": "Residents", "rules": rules}
    return (
        Step(
            name="keys",
            commands=(
                Command(
                    line='drempel-provision site create site --site "$SITE" --broker-host "$HOST" --root-dir "$ROOT"'
                ),
                Command(
                    line="drempel-provision card keys add-batch B001 --key-file from-the-maker.hex --site-dir site",
                    rehearse="drempel-provision card keys add-batch SIM0 --simulated --site-dir site",
                ),
            ),
        ),
        Step(
            name="hub",
            commands=(
                Command(line="drempel-hub run --config hub.toml", stays=True),
                Command(
                    line="drempel-hub token create --name bureau --role administrator --expires 30d --config hub.toml > token"
                ),
            ),
        ),
        Step(
            name="rules",
            commands=(
                Command(
                    line=f'drempel-provision reader add "c-$DOOR" --door "$DOOR" {_AT_HUB}',
                    per_door=True,
                    rehearse=f'drempel-provision reader add "c-$DOOR" --door "$DOOR" {_AT_HUB} --device "$READER" --pins mock',
                ),
                Command(line=f"{_POST} '{json.dumps(always)}' \"$HUB/api/v1/schedules\""),
                Command(line=f"{_POST} '{json.dumps(level)}' \"$HUB/api/v1/access-levels\""),
            ),
        ),
        Step(
            name="people",
            commands=(Command(line="drempel-hub import residents people.csv --config hub.toml"),),
        ),
        Step(
            name="doors",
            commands=(
                Command(
                    line='sudo -u drempel drempel-edge enrol "$CODE"',
                    rehearse='drempel-edge enrol "$CODE" --dir "$DEVICE" --allow-root',
                    per_door=True,
                ),
                Command(
                    line="sudo systemctl enable --now drempel-edge",
                    rehearse='drempel-sim controller --config "$DEVICE/controller.toml" --no-person',
                    per_door=True,
                    stays=True,
                ),
            ),
        ),
        Step(
            name="cards",
            commands=(
                Command(
                    line=f'drempel-provision card batch people.csv --reader "$DESK" --report cards.csv {_AT_HUB}',
                    rehearse=(
                        "drempel-provision card batch people.csv --card-process 'drempel-sim card --stdio --pile cards'"
                        f" --report cards.csv {_AT_HUB}"
                    ),
                ),
            ),
        ),
    )


def closing() -> tuple[Step, ...]:
    """To a site of which no card opens, no key is left, and nothing is known of anybody. After ``revoke`` the hub is stopped."""
    return (
        Step(
            name="hand over",
            commands=(
                Command(line="drempel-hub backup-key handover.key"),
                Command(line="drempel-hub backup handover.backup --key-file handover.key --config hub.toml"),
            ),
        ),
        Step(
            name="void",
            commands=(
                Command(
                    line=f'drempel-provision card void-all --site "$SITE" --reason "$REASON" --wait 60 {_AT_HUB}'
                ),
            ),
        ),
        Step(
            name="retire",
            commands=(
                Command(
                    line='drempel-provision key rotate card-issuer --now --root-dir "$ROOT" --site-dir site'
                ),
            ),
        ),
        Step(
            name="revoke",
            commands=(
                Command(
                    line=f'drempel-provision reader revoke "c-$DOOR" --reason "$REASON" {_AT_HUB}',
                    per_door=True,
                ),
            ),
        ),
        Step(
            name="erase",
            commands=(
                Command(
                    line='drempel-hub site erase "$SITE" --reason "$REASON" --statement erased.json --config hub.toml'
                ),
                Command(line='drempel-hub audit verify --expect "$HEAD" --config hub.toml'),
            ),
        ),
        Step(
            name="destroy",
            commands=(
                Command(
                    line='drempel-provision site destroy-keys site --root-dir "$ROOT" --reason "$REASON"'
                ),
                Command(line="drempel-provision site audit site"),
                Command(line="rm people.csv cards.csv token"),
            ),
        ),
    )
