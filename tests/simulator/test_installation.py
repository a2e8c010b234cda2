"""What the simulator writes for others is what they read: a controller's pins, and the rules of a door."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.config import EnergiseTo
from edge.config_file import load
from hub.api.doors import DoorChange
from pacs.identifiers import ControllerId, DoorId
from pacs.rules import Door, Side
from provisioning.readers import DoorWiring, add_controller
from provisioning.site import Site, create_site
from simulator.centre import GATE, SLUICE, reception_centre
from simulator.installation import wire
from simulator.scenario import Fittings, door_body, small_site

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return create_site(tmp_path / "site", small_site(NOW).site_id, now=NOW)


def provisioned(site: Site, doors: list[tuple[DoorId, Fittings]]) -> Path:
    """A controller as provisioned, before it is wired."""
    made = add_controller(
        site,
        site.authority(site.passphrase()),
        ControllerId("c-1"),
        [DoorWiring(id=door_id, device=f"/dev/{door_id}") for door_id, _ in doors],
        now=NOW,
        pins="mock",
    )
    return made.directory / "controller.toml"


def test_what_is_wired_is_what_the_controller_reads(site: Site) -> None:
    """Both doors with all their fittings, each reader on its side, and the fire alarm."""
    fittings = reception_centre(NOW).fittings
    doors = [(GATE, fittings[GATE]), (SLUICE, fittings[SLUICE])]
    config = provisioned(site, doors)
    sides = {(GATE, Side.ENTRY), (GATE, Side.EXIT), (SLUICE, Side.ENTRY)}
    wire(config, doors, {(door_id, side): Path(f"/run/{door_id}-{side}") for door_id, side in sides})
    loaded = load(config, environment={})
    gate, sluice = loaded.doors
    assert loaded.fire is not None
    assert (gate.energise_to, sluice.energise_to) == (EnergiseTo.LOCK, EnergiseTo.UNLOCK)
    assert {(door.id, reader.side) for door in loaded.doors for reader in door.readers} == sides
    assert {reader.device for reader in gate.readers} == {Path("/run/gate-entry"), Path("/run/gate-exit")}
    assert None not in {gate.tamper_pin, gate.sounder_pin, sluice.tamper_pin, sluice.sounder_pin}


def test_a_controller_has_so_many_pins_and_no_more(site: Site) -> None:
    """Four doors with everything are refused by name of the file."""
    doors = [(DoorId(f"door-{number}"), Fittings(exit_reader=True, sounder=True)) for number in range(4)]
    config = provisioned(site, doors)
    devices = {(door_id, side): Path(f"/run/{door_id}-{side}") for door_id, _ in doors for side in Side}
    with pytest.raises(ValueError, match=r"controller\.toml: the controller has too few pins"):
        wire(config, doors, devices)


@pytest.mark.parametrize(
    "door", [*reception_centre(NOW).doors, *small_site(NOW).doors], ids=lambda door: door.id
)
def test_the_hub_reads_the_rules_that_were_laid_down(door: Door) -> None:
    """A door registered with what a door has anyway, and changed by what is sent, is the door described."""
    registered = Door(id=door.id, controller_id=door.controller_id)
    body = DoorChange.model_validate_json(
        DoorChange(**door_body(door, "Name")).model_dump_json(exclude_unset=True)
    )
    assert body.applied_to(registered) == door
    assert body.name == "Name"
