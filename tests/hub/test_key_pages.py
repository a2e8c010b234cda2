"""The page of keys: what there is and until when, who still goes by an old one, and what to type next."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.roles import Role
from provisioning import root_rotation, rotation
from provisioning.keystore import Passphrase
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, running_hub
from tests.hub.test_pages import text_of


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("keys")) as running:
        running.door("front", "Front door", connect=False)
        yield running


def test_a_technician_sees_the_keys_and_others_do_not(hub: RunningHub) -> None:
    """Fingerprint of the root, days left, and no command while nothing is due; a guard is not let in."""
    root = root_rotation.fingerprint(hub.site.root().certificate)
    with hub.signed_in(Role.TECHNICIAN) as browser:
        page = browser.get("/keys").text
    assert root in page
    assert f"{root[:4]} {root[4:8]}" in page
    assert "3649 days left" in text_of(page)
    assert "Next, at the bureau" not in page
    with hub.signed_in(Role.GUARD) as browser:
        assert browser.get("/keys").status_code == 403


def test_a_change_of_the_root_door_by_door(hub: RunningHub) -> None:
    """Who is still below the old root is named with its doors; with nobody left the command that ends it is shown."""
    site, now = hub.site, datetime.now(UTC)
    root, passphrase = site.root(), site.passphrase()
    change = root_rotation.rotate_root(
        site, root, root_rotation.new_root(root, now), passphrase, now, name="root-2"
    )
    change.carry_out(site.directory)
    hubs = Passphrase.from_file(Path(site.hub_directory) / "passphrase")
    rotation.deliver(site, passphrase, site.hub_directory, hubs, now).carry_out(site.hub_directory)
    with hub.signed_in(Role.TECHNICIAN) as browser:
        eventually(lambda: "Root before it" in browser.get("/keys").text, "two roots")
        page = text_of(browser.get("/keys").text)
        assert "Front door" in page
        assert "the root before" in page
        assert "key retire root" not in page
        with hub.token() as program:
            program.post("/api/v1/controllers/front/revoke", json={"reason": "stolen"}).raise_for_status()
        assert "key retire root" in text_of(browser.get("/keys").text)


def test_what_is_due_is_said_on_two_pages(hub: RunningHub) -> None:
    """From two thirds of their lives on: what to type on the page of keys, and a word where sites are looked at."""
    hub.clock.ahead = timedelta(days=1300)
    try:
        with hub.signed_in(Role.ADMINISTRATOR) as browser:
            assert "key rotate devices" in text_of(browser.get("/keys").text)
            assert "1 certificate has to be renewed" in text_of(browser.get("/sites").text)
    finally:
        hub.clock.ahead = timedelta()
