"""The trial of a release: it holds, or the one before runs again, wherever the power goes."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edge.updating import trial as module
from edge.updating.trial import (
    DESK,
    EDGE,
    MAX_RESTARTS,
    MAX_STARTS,
    QUIET_WITHIN_S,
    SETTLED_S,
    WITHIN_S,
    Health,
    Releases,
    Trial,
    at_start,
    is_quiet,
    try_release,
    unit_of,
    wait_until_quiet,
)
from tests.edge.updating.releases import controller

WELL = Health(pid=7, online=True, readers=2)
BEFORE = Health(pid=1, online=True, readers=2)


class PowerCut(Exception):
    """The machine stops there."""


@dataclass
class Machine:
    """A controller whose releases do as they are told; time passes only while somebody waits."""

    releases: Releases
    new: Health = WELL
    old: Health = BEFORE
    now_s: float = 0.0
    restarted: list[str | None] = field(default_factory=list)

    def look(self) -> Health:
        return self.new if self.running == "0.2.0" else self.old

    @property
    def running(self) -> str | None:
        return self.restarted[-1] if self.restarted else "0.1.0"

    def restart(self) -> None:
        self.restarted.append(self.releases.linked("current"))

    def start_again(self) -> str:
        """The power comes back."""
        said = at_start(self.releases)
        self.restart()
        return said

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def try_release(self) -> str:
        return try_release(
            self.releases,
            look=self.look,
            restart=self.restart,
            monotonic_s=lambda: self.now_s,
            sleep=self.sleep,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """0.1.0 runs, 0.2.0 is offered."""
    releases = controller(tmp_path)
    controller(tmp_path, "0.2.0")
    releases.link("current", "0.1.0")
    releases.keep_trial(Trial(version="0.2.0", previous="0.1.0"))
    return Machine(releases)


def end_of(machine: Machine) -> tuple[str | None, str | None, frozenset[str]]:
    """What runs, what current names, and what was given up; no trial is left."""
    assert machine.releases.trial() is None
    return machine.running, machine.releases.linked("current"), machine.releases.refused()


BACK = ("0.1.0", "0.1.0", frozenset({"0.2.0"}))


def test_a_release_that_is_as_well_as_the_one_before_holds(machine: Machine) -> None:
    """It is confirmed after it has been so for a minute, and the one before is kept."""
    assert machine.try_release() == "0.2.0 holds"
    assert end_of(machine) == ("0.2.0", "0.2.0", frozenset())
    assert machine.releases.linked("previous") == "0.1.0"
    assert SETTLED_S <= machine.now_s < WITHIN_S


@pytest.mark.parametrize(
    "new",
    [
        Health(),
        replace(WELL, online=False),
        replace(WELL, readers=1),
        BEFORE,
    ],
    ids=["does not run", "lost the hub", "lost a reader", "was never restarted"],
)
def test_a_release_that_does_worse_is_given_up(machine: Machine, new: Health) -> None:
    """Within ten minutes the one before runs again, and the release is remembered as given up."""
    machine.new = new
    assert machine.try_release() == "back to 0.1.0: 0.2.0 did not become healthy"
    assert end_of(machine) == BACK
    assert WITHIN_S <= machine.now_s < WITHIN_S + SETTLED_S


def test_a_door_that_was_without_its_hub_is_not_held_to_it(machine: Machine) -> None:
    """What was away before the switch says nothing of the new release."""
    machine.old = replace(machine.old, online=False)
    machine.new = replace(WELL, online=False)
    assert machine.try_release() == "0.2.0 holds"


def test_a_release_that_crashes_is_not_waited_for(machine: Machine) -> None:
    """People stand at the door: three restarts are enough to go back."""
    crashes = iter(range(100))
    machine.look = lambda: (  # type: ignore[method-assign]
        machine.old if machine.running == "0.1.0" else Health(restarts=next(crashes))
    )
    machine.try_release()
    assert end_of(machine) == BACK
    assert machine.now_s < WITHIN_S / 10
    assert next(crashes) == MAX_RESTARTS + 1


def test_a_release_that_comes_and_goes_does_not_hold(machine: Machine) -> None:
    """Another process each time is not the same one for a minute."""
    machine.look = lambda: replace(WELL, pid=int(machine.now_s) + 2)  # type: ignore[method-assign]
    machine.try_release()
    assert end_of(machine) == BACK


def moments(machine: Machine, monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[None]:
    """The power goes after so many durable changes, or restarts, of a trial."""
    left = iter(range(after))

    def count(name: str) -> None:
        original = getattr(Releases, name)

        def counted(self: Releases, *arguments: object) -> object:
            result = original(self, *arguments)
            if next(left, None) is None:
                raise PowerCut
            return result

        monkeypatch.setattr(Releases, name, counted)

    for name in ("link", "keep_trial", "end_trial", "refuse"):
        count(name)
    yield
    monkeypatch.undo()


@pytest.mark.parametrize("healthy", [True, False])
@pytest.mark.parametrize("after", range(6))
def test_a_power_cut_between_any_two_changes_ends_with_a_release_that_runs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, *, after: int, healthy: bool
) -> None:
    """The machine starts with a whole release, and the trial then ends as it would have, or never began."""
    machine.new = WELL if healthy else Health()
    cutting = moments(machine, monkeypatch, after)
    next(cutting)
    with contextlib.suppress(PowerCut):
        machine.try_release()
    next(cutting, None)
    machine.start_again()
    assert machine.running in {"0.1.0", "0.2.0"}
    machine.try_release()
    running, current, refused = end_of(machine)
    assert running == current
    if healthy:
        assert refused == frozenset()
    else:
        assert current == "0.1.0"


def test_a_release_with_which_the_machine_starts_again_and_again_is_given_up(machine: Machine) -> None:
    """Whatever hangs the machine, the third start is with the release before."""
    machine.releases.link("current", "0.2.0")
    for number in range(1, MAX_STARTS + 1):
        assert machine.start_again() == f"the trial of 0.2.0 goes on, start {number}"
    assert "back to 0.1.0" in machine.start_again()
    assert end_of(machine) == BACK


@pytest.mark.parametrize(
    "left",
    [
        "",
        "{",
        '{"version": 3}',
        '{"version": "0.2.0", "previous": "0.1.0", "starts": "x"}',
        '{"version": "../..", "previous": "/"}',
        "\udcff",
    ],
)
def test_a_trial_that_cannot_be_read_is_none(machine: Machine, left: str) -> None:
    """What runs goes on."""
    (machine.releases.root / "trial.json").write_bytes(left.encode("utf-8", "surrogateescape"))
    assert at_start(machine.releases) == "0.1.0 runs, no trial"
    assert not (machine.releases.root / "trial.json").exists()


def test_a_link_that_names_nothing_whole_is_put_right_at_the_start(machine: Machine) -> None:
    """Rather any whole release, the newest, than none: the door has to open."""
    machine.releases.end_trial()
    (machine.releases.root / "current").unlink()
    assert at_start(machine.releases).endswith("0.2.0 runs")
    assert machine.releases.linked("current") == "0.2.0"


@pytest.mark.parametrize(
    ("files", "unit"),
    [
        (("controller.toml",), EDGE),
        (("controller.toml", "desk.toml"), EDGE),
        (("desk.toml",), DESK),
        ((), EDGE),
    ],
)
def test_what_is_watched_is_what_the_machine_is_there_for(
    tmp_path: Path, files: tuple[str, ...], unit: str
) -> None:
    """A desk has no controller that could be healthy."""
    for name in files:
        (tmp_path / name).touch()
    assert unit_of(tmp_path) == unit


def test_the_file_stands_on_its_own(tmp_path: Path) -> None:
    """It runs where nothing of a release can be imported: isolated, with the standard library only."""
    releases = controller(tmp_path / "opt")
    copy = tmp_path / "trial.py"
    copy.write_bytes(Path(module.__file__).read_bytes())
    said = subprocess.run(
        ["/usr/bin/env", "-i", "python3", "-I", "-S", copy, "at-start", "--root", releases.root],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert said.stdout == "drempel: 0.1.0 runs, no trial\n"


@pytest.mark.parametrize(
    ("status", "quiet"),
    [
        (None, True),
        ({"starting": True}, True),
        ({"doors": [{"waiting": []}], "readers": [{"last_card_s": None}, {"last_card_s": 120.0}]}, True),
        ({"doors": [{"waiting": []}], "readers": [{"last_card_s": 500.0}, {"last_card_s": 119.9}]}, False),
        ({"doors": [{"waiting": [{}]}], "readers": [{"last_card_s": None}]}, False),
    ],
)
def test_somebody_is_at_a_door_until_two_minutes_after_their_card(
    status: dict[str, object] | None, quiet: bool
) -> None:
    """Or as long as they wait for a person; no controller, nobody it could open for."""
    assert is_quiet(status) is quiet


@pytest.mark.parametrize(("leaves_after_s", "waited_s"), [(50.0, 50.0), (1e9, QUIET_WITHIN_S)])
def test_a_restart_waits_for_the_person_at_the_door_and_not_for_ever(
    leaves_after_s: float, waited_s: float
) -> None:
    """It goes ahead once the door is quiet, or after an hour."""
    now_s = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    def look() -> dict[str, object]:
        return {"readers": [{"last_card_s": 1.0 if now_s < leaves_after_s else None}]}

    wait_until_quiet(look, monotonic_s=lambda: now_s, sleep=sleep)
    assert now_s == waited_s
