"""What operators of the hub see: metrics as documented, parts that do not work by name, logs that tell of nobody."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from hub import logs
from hub.api import health
from hub.roles import Role
from hub.store.database import newest_revision
from tests.hub.controller import eventually
from tests.hub.running import PASSWORD, RunningHub, running_hub, tap
from tests.hub.test_health import HEALTH, say

DOCUMENT = Path(__file__).parents[2] / "docs" / "operating.md"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("metrics")) as running:
        front = running.door("front", "Front door")
        tap(front, running.card())
        front.until_acknowledged()
        yield running


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(hub: RunningHub) -> tuple[dict[str, str], Samples]:
    """Type by name, and every sample."""
    with hub.token(Role.TECHNICIAN) as program:
        answer = program.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    kinds: dict[str, str] = {}
    samples: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        if family.name.endswith("_created"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        kinds[name] = family.type
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                samples[sample.name, frozenset(sample.labels.items())] = sample.value
    return kinds, samples


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_the_document_lists_every_metric(hub: RunningHub) -> None:
    """Name, type and labels of each; none besides but those of the process."""
    row = re.compile(r"^\| `(drempel_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)
    documented = {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in row.findall(DOCUMENT.read_text("utf-8"))
    }
    kinds, samples = scraped(hub)
    kinds, samples = scraped(hub)  # the first is counted by now
    assert {name for name in kinds if not name.startswith("process_")} == set(documented)
    assert "process_resident_memory_bytes" in kinds
    for name, (kind, labels) in documented.items():
        assert kinds[name] == kind, name
        of = [
            set(dict(key)) - {"le"}
            for (sample, key) in samples
            if re.sub("_(bucket|count|sum)$", "", sample) == name
        ]
        assert all(each == labels for each in of), name


def test_the_numbers_are_the_houses(hub: RunningHub) -> None:
    """A stored tap, a door that is there, its record and its versions; requests by their template."""
    hub.until_confirmed()
    _, samples = scraped(hub)
    assert value(samples, "drempel_events_total", outcome="stored") >= 1
    at = {"door": "front", "site": "test-site"}
    assert value(samples, "drempel_door_online", **at) == 1
    assert value(samples, "drempel_door_versions_behind", **at, document="policy") == 0
    assert value(samples, "drempel_controller_online", controller="front") == 1
    assert value(samples, "drempel_part_up", part="ingest") == 1
    assert (
        value(samples, "drempel_certificate_expiry_seconds", certificate="broker") > hub.clock().timestamp()
    )
    assert value(samples, "drempel_database_write_hold_seconds_count") > 1
    with hub.token() as program:
        program.get("/api/v1/cardholders/somebody-particular")
        program.get("/nowhere/somebody-particular")
    _, samples = scraped(hub)
    of = {"method": "GET", "route": "/api/v1/cardholders/{cardholder_id}", "status": "404"}
    assert value(samples, "drempel_http_requests_total", **of) == 1
    assert "somebody-particular" not in str(samples)


def test_what_waits_at_a_door_grows_older(hub: RunningHub) -> None:
    """The age of the oldest event that is not acknowledged is that of the last heartbeat and the time since."""
    front = hub.controllers["front"]
    say(front, replace(HEALTH, waiting_events=3, oldest_waiting_s=40))

    def lag() -> float:
        return value(scraped(hub)[1], "drempel_acknowledgement_lag_seconds", controller="front")

    eventually(lambda: 40 <= lag() < 60, "the heartbeat is stored")
    hub.clock.ahead += timedelta(minutes=10)
    assert lag() >= 640
    _, samples = scraped(hub)
    assert value(samples, "drempel_door_record_complete", door="front", site="test-site") == 0
    assert value(samples, "drempel_door_record_unknown_seconds", door="front", site="test-site") > 0
    hub.clock.ahead = timedelta()


@pytest.mark.parametrize("role", [Role.GUARD, Role.RECEPTION, Role.SITE_MANAGER])
def test_metrics_are_not_for_everybody(hub: RunningHub, role: Role) -> None:
    """They need their own permission."""
    with hub.token(role) as program, hub.client() as stranger:
        assert program.get("/metrics").status_code == 403
        assert stranger.get("/metrics").status_code in (303, 401)


def test_ready_names_every_part(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """All parts by name; 503 with those that do not work."""
    with hub.client() as anybody:
        parts = anybody.get("/readyz").json()["parts"]
        assert {"database", "disk", "broker", "connection", "ingest", "distribution"} <= set(parts)
        assert all(parts.values())
        monkeypatch.setattr(health, "LEAST_FREE_BYTES", 1 << 62)
        full = anybody.get("/readyz")
        assert (full.status_code, full.json()["code"]) == (503, "not_ready")
        assert [each["field"] for each in full.json()["errors"]] == ["disk"]
        monkeypatch.undo()
        with hub.database.write() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
        old = anybody.get("/readyz").json()
        with hub.database.write() as connection:
            newest = {"newest": newest_revision()}
            connection.execute(text("UPDATE alembic_version SET version_num = :newest"), newest)
        assert [each["field"] for each in old["errors"]] == ["database"]
        assert anybody.get("/readyz").status_code == 200
        assert anybody.get("/healthz").json() == {"status": "alive"}


MARKS = ("Zzyzxmark", "Quuxmark", "hunter2markhunter2", "room-mark", "note-mark", "photo-mark")


def test_nothing_that_is_somebodys_is_logged(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, rooms, notes, passwords, tokens, photographs and addresses sent to many routes are in no line of the log."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure("debug")
    try:
        ids = sent_everywhere(hub)
    finally:
        monkeypatch.undo()
        structlog.reset_defaults()
    said = written.getvalue()
    lines = [json.loads(line) for line in said.splitlines()]
    answered = [line for line in lines if line["event"] == "answered"]
    assert len(answered) > 20
    assert any(line["event"] == "request_failed" for line in lines)
    secret = [mark for mark in (*MARKS, *ids) if mark in said]
    assert secret == []
    assert all(re.fullmatch("[0-9a-f]{16}", line["request"]) for line in answered)


def sent_everywhere(hub: RunningHub) -> list[str]:
    """What else must not be logged: tokens."""
    given, family, password, room, note, photo = MARKS
    person = {"category": "resident", "given_name": given, "family_name": family, "room": room}
    with hub.token() as program, hub.client(origin=hub.url) as stranger:
        token = program.headers["authorization"].removeprefix("Bearer ")
        made = program.post("/api/v1/cardholders", json=person).json()
        program.patch(f"/api/v1/cardholders/{made['id']}", json={"given_name": given + "\u0000"})
        program.post("/api/v1/cardholders", content=f'{{"given_name": "{given}'.encode())
        program.put(
            f"/api/v1/cardholders/{made['id']}/photo",
            content=photo.encode(),
            headers={"content-type": "image/png"},
        )
        program.get("/api/v1/cardholders", params={"external_id": family})
        program.get(f"/cards?q={given}")
        program.get(f"/{given}")
        program.post("/api/v1/alarms/1/acknowledge", json={"note": note})
        program.post("/api/v1/doors/front/commands", json={"action": "unlock_once", "reason": note})
        program.post(
            "/api/v1/imports", content=f"{given},{family}\n".encode(), headers={"content-type": "text/csv"}
        )
        link = program.post("/api/v1/operators/links", json={"name": given}).json()["path"]
        stranger.post(link, data={"name": given, "password": PASSWORD})
        for each in (password, PASSWORD):
            stranger.post("/sign-in", data={"name": given, "password": each})
        stranger.get("/api/v1/doors", headers={"authorization": f"Bearer {password}"})
        for path in (
            "events",
            "alarms",
            "cards",
            "audit",
            "operators",
            "documents",
            "access-levels",
            "holidays",
        ):
            program.get(f"/api/v1/{path}", params={"after": given})
        failing = hub.app.state.services.questions
        original = failing.what
        try:
            object.__setattr__(failing, "what", lambda *_: (_ for _ in ()).throw(RuntimeError(given)))
            failed = program.get(f"/api/v1/cardholders/{made['id']}/access")
        finally:
            object.__setattr__(failing, "what", original)
        assert failed.status_code == 500
        assert failed.json()["request_id"] == failed.headers["x-request-id"]
    return [token, link.rpartition("/")[2], PASSWORD]


def test_each_answer_has_an_id_of_its_own(hub: RunningHub) -> None:
    """In the header, and in a problem; what a caller sends as one is not taken over."""
    with hub.client() as anybody:
        answers = [anybody.get("/healthz", headers={"x-request-id": "mine"}) for _ in range(2)]
        ids = {answer.headers["x-request-id"] for answer in answers}
        assert len(ids) == 2
        assert "mine" not in ids
        refused = anybody.get("/api/v1/doors")
        assert refused.json()["request_id"] == refused.headers["x-request-id"]


def test_the_level_keeps_lines_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below it nothing is written; text is for a person."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    try:
        logs.configure("warning", "text")
        log: Any = structlog.get_logger("somewhere")
        log.info("not_worth_it")
        log.warning("worth_it", door="front")
    finally:
        monkeypatch.undo()
        structlog.reset_defaults()
    assert "not_worth_it" not in written.getvalue()
    assert re.search(r"worth_it\s+door=front", written.getvalue())
