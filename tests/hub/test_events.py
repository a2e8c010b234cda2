from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import spreadsheets
from hub.roles import Role
from pacs.events import EventKind
from pacs.identifiers import DoorId
from pacs.reason import Reason
from tests.hub.running import RunningHub, running_hub, tap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hub.controller import FakeController

EVENTS = "/api/v1/events"
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("events")) as running:
        yield running


@pytest.fixture(scope="module")
def kitchen(hub: RunningHub) -> FakeController:
    door = hub.door("kitchen", "=Kitchen")
    ama = hub.card("Ama", "Mensah")
    tap(door, ama)
    tap(door, ama, Reason.OUTSIDE_SCHEDULE)
    door.record(EventKind.JOURNAL_GAP)
    door.record(
        EventKind.ACCESS_GRANTED,
        door_id=DoorId("kitchen"),
        credential_id=ama,
        occurred_at=hub.clock() - 30 * HOUR,
    )
    door.until_acknowledged()
    return door


def test_events_are_found_by_outcome_and_time(hub: RunningHub, kitchen: FakeController) -> None:
    """Filters leave exactly what they name; what is proven is said of the time that was asked for."""
    now = hub.clock()
    with hub.token(Role.GUARD) as guard:
        denied = guard.get(EVENTS, params={"outcome": "denied", "door": kitchen.id}).json()
        assert [each["kind"] for each in denied["events"]] == ["access_denied"]
        earlier = {"since": (now - 40 * HOUR).isoformat(), "until": (now - 20 * HOUR).isoformat()}
        found = guard.get(EVENTS, params=earlier | {"outcome": "granted"}).json()
    assert [each["person"] for each in found["events"]] == ["Ama Mensah"]
    (record,) = (each for each in found["records"] if each["door_id"] == "kitchen")
    assert (record["complete"], record["known"]) == (False, [])
    assert [(each["cause"], each["waiting"]) for each in record["unknown"]] == [("not_there_yet", False)]


def test_an_export_says_first_what_is_not_known(hub: RunningHub, kitchen: FakeController) -> None:
    """Every format begins with it, names are for who may see them, and the audit log says who took it and why."""
    ask = {"reason": "police report 12", "door": kitchen.id}
    with hub.token(Role.GUARD) as guard, hub.token(Role.AUDITOR) as auditor:
        assert guard.get(f"{EVENTS}/export", params={"door": kitchen.id}).status_code == 422
        table = guard.get(f"{EVENTS}/export", params=ask).text
        lines = auditor.get(f"{EVENTS}/export", params=ask | {"format": "jsonl"}).text.splitlines()
        entries = auditor.get("/api/v1/audit", params={"limit": 20}).json()["entries"]
    rows = list(csv.reader(io.StringIO(table)))
    said = [row[0] for row in rows if len(row) == 1]
    assert any("journal gap" in each for each in said)
    assert "'=Kitchen" in {cell for row in rows for cell in row}
    assert not any(cell.startswith("=") for row in rows for cell in row)
    assert any("Ama Mensah" in row for row in rows)
    head, *events = map(json.loads, lines)
    assert {hole["cause"] for hole in head["records"][0]["unknown"]} >= {"journal_gap", "not_there_yet"}
    assert events
    assert all(each["person"] is each["credential_id"] is None for each in events)
    taken = [(each["action"], each["reason"]) for each in entries if each["action"] == "events.export"]
    assert taken == [("events.export", "police report 12")] * 2


@given(st.lists(st.text(), min_size=1))
def test_no_cell_of_a_file_is_a_formula(cells: list[str]) -> None:
    """For any text: a row reads back as one row, and no cell begins as a formula does."""
    (row,) = csv.reader(io.StringIO(spreadsheets.line(cells), newline=""), strict=True)
    assert [cell.removeprefix("'") for cell in row] == [cell.removeprefix("'") for cell in cells]
    assert not any(cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in row)
