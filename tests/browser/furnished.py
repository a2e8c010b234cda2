"""A hub as it looks on an ordinary evening, and every page of it: for tests and screenshots in a real browser.

Pages are found among the routes of the application, so that a new one takes part by itself; what stands in its path
is looked up in ``Furnished.parts``.
"""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from PIL import Image, ImageDraw

from hub.api.access import declared_access
from hub.api.reasons import asks_for_reason
from hub.roles import PERMISSIONS, Permission, Role
from hub.store import webhooks
from hub.webhooks import NOT_REACHED
from pacs.events import EventKind
from pacs.findings import Level
from pacs.identifiers import CardholderId, CredentialId, DoorId, StationId
from pacs.messages import Report, ReportedFinding
from pacs.reason import Reason
from pacs.rules import Side
from pacs.topics import Up
from tests.hub.controller import FakeController, eventually
from tests.hub.running import RunningHub, ask, routes_of, running_hub

NO_PAGES = re.compile(
    "/(\\.well-known/|api/|static/|healthz|readyz|metrics|live/stream|attended/|sign-in/oidc/|kiosk/tap|desk/(stream|photo)|posts/[^/]+/(stream|photo)|issuing/batches/[^/]+/report)"
)
DOORS = {
    "main-entrance": "Main entrance",
    "courtyard": "Courtyard",
    "family-wing": "Family wing",
    "laundry": "Laundry",
    "kitchen": "Kitchen",
    "bicycles": "Bicycle shed",
}
PEOPLE = (
    ("Ama", "Mensah", "resident", "A-101", "en"),
    ("Yusuf", "Haddad", "resident", "A-102", "ar"),
    ("سلام", "قاسم", "resident", "A-103", "ar"),
    ("Tigist", "Abebe", "resident", "B-201", "ti"),
    ("Wilhelmina", "van der Meer-Oosterhuis", "staff", None, "nl"),
    ("Joost", "Bakker", "visitor", None, "nl"),
    ("Farid", "Rahimi", "resident", "B-204", "fa-AF"),
)


@dataclass(frozen=True)
class Furnished:
    """The hub, and an example for each part of a path."""

    hub: RunningHub
    parts: dict[str, str]

    def pages(self, role: Role) -> list[str]:
        """The address of every page that this role may open, those for everybody left out."""
        held = PERMISSIONS[role]
        return [path for path, needed in self._addresses() if needed is not None and needed in held]

    def open_pages(self) -> list[str]:
        """The address of every page that anybody may open."""
        return [path for path, needed in self._addresses() if needed is None]

    def _addresses(self) -> Iterator[tuple[str, Permission | None]]:
        for route in routes_of(self.hub.app):
            if "GET" in (route.methods or ()) and not NO_PAGES.match(route.path):
                why = "?reason=Walks+through+every+page" if asks_for_reason(route) else ""
                yield self._filled(route.path) + why, declared_access(route).permission

    def _filled(self, path: str) -> str:
        if "{token}" in path:  # a fresh one: the next sign-in makes it useless
            return path.format(token=self.hub.link(Role.GUARD).rpartition("/")[2])
        return path.format(**self.parts)


@contextmanager
def furnished(directory: Path) -> Iterator[Furnished]:
    """Doors that are there and one that is away, people with photographs, taps, a blocked card, alarms, an order."""
    with running_hub(directory, site_name="Wilgenoord", time_zone="Europe/Amsterdam") as hub:
        doors = {key: hub.door(key, name, connect=key != "bicycles") for key, name in DOORS.items()}
        level = _rules(hub)
        people, cards = _people(hub, level)
        hub.until_confirmed()
        order = _evening(hub, doors, cards)
        imported = _import(hub)
        parts = _parts(
            import_id=imported, cardholder_id=people[0], credential_id=str(cards[0]), order_id=order
        )
        _hold(hub)
        parts |= _registration(hub)
        parts["webhook_id"] = _webhook(hub)
        _desk(hub)
        parts["post_id"] = _post(hub)
        parts["job_id"] = _issuing(hub, people[1])
        parts["batch_id"] = _batch(hub, people[2:5])
        parts["transfer_id"] = _transfer(hub)
        yield Furnished(hub, parts)


def _desk(hub: RunningHub) -> None:
    with hub.token(Role.ADMINISTRATOR) as program:
        station = {"id": "reception", "kind": "desk", "name": "Reception"}
        assert program.post("/api/v1/stations", json=station).status_code == 201


def _post(hub: RunningHub) -> str:
    """One that nobody watches."""
    post = {"name": "Gatehouse", "door_ids": ["main-entrance", "courtyard"], "station_id": "reception"}
    with hub.token(Role.ADMINISTRATOR) as program:
        assert program.put("/api/v1/posts/gatehouse", json=post).is_success
    return "gatehouse"


def _issuing(hub: RunningHub, person: str) -> str:
    """A card that is being made, and one of which nothing came."""
    with hub.token(Role.ADMINISTRATOR) as program:
        station = {"id": "cards", "kind": "issuing", "name": "Card desk"}
        made = program.post("/api/v1/stations", json=station)
        assert made.status_code == 201, made.text
        asked = {"cardholder_id": person, "station_id": "cards"}
        with hub.client(authorization=f"Bearer {made.json()['token']}") as desk:
            for path, body in (
                ("failed", {"failure": "card_removed", "spoilt": True}),
                ("step", {"step": "key_made"}),
            ):
                job = program.post("/api/v1/issuing/jobs", json=asked)
                assert job.status_code == 201, job.text
                taken = desk.post("/api/v1/station/issuing/take").json()["job"]
                said = {"attempt": taken["attempt"], **body}
                address = f"/api/v1/station/issuing/jobs/{taken['job_id']}/{path}"
                assert desk.post(address, json=said).status_code == 200
    return str(job.json()["id"])


def _batch(hub: RunningHub, people: list[str]) -> str:
    """Cards for several people, of which none is made yet."""
    batch, _ = hub.app.state.services.issuing.ask_many(
        StationId("cards"), [CardholderId(person) for person in people], actor="token:furnished"
    )
    return str(batch.id)


def _rules(hub: RunningHub) -> str:
    with hub.token(Role.ADMINISTRATOR) as program:
        window = {"weekdays": [0, 1, 2, 3, 4, 5, 6], "start_minute": 420, "end_minute": 1380}
        for made in (
            program.post("/api/v1/schedules", json={"id": "day", "name": "Daytime", "windows": [window]}),
            program.post(
                "/api/v1/access-levels",
                json={
                    "id": "residents",
                    "name": "Residents",
                    "rules": [{"door_id": key, "schedule_id": "day"} for key in DOORS if key != "kitchen"],
                },
            ),
            program.post("/api/v1/areas", json={"id": "house", "name": "House"}),
            program.put("/api/v1/holidays/2030-04-27", json={"name": "Koningsdag"}),
        ):
            assert made.is_success, made.text
    return "residents"


def _people(hub: RunningHub, level: str) -> tuple[list[str], list[CredentialId]]:
    people, cards = [], []
    with hub.token(Role.ADMINISTRATOR) as program:
        for number, (given, family, category, room, language) in enumerate(PEOPLE):
            person = {
                "category": category,
                "given_name": given,
                "family_name": family,
                "room": room,
                "language": language,
                "access_level_ids": [level],
            }
            if category == "visitor":
                person["valid_until"] = (hub.clock() + timedelta(days=1)).isoformat()
            made = program.post("/api/v1/cardholders", json=person)
            assert made.status_code == 201, made.text
            people.append(made.json()["id"])
            picture = program.put(
                f"/api/v1/cardholders/{people[-1]}/photo",
                content=portrait(number),
                headers={"content-type": "image/png"},
            )
            assert picture.status_code == 204, picture.text
            credential = CredentialId(secrets.token_bytes(16))
            card = {
                "credential_id": str(credential),
                "cardholder_id": people[-1],
                "technology": "pkoc-v2",
            }
            assert program.post("/api/v1/cards", json=card).status_code == 201
            cards.append(credential)
    return people, cards


def portrait(number: int) -> bytes:
    """A drawn head and shoulders: nobody's."""
    grounds = ("#7c94a8", "#a88f7c", "#7ca88d", "#9a7ca8", "#a87c84", "#8ea87c", "#7c82a8")
    skins = ("#8d5a3b", "#c99a74", "#a8714a", "#5b3a28", "#e3b998", "#d9a985", "#b98562")
    image = Image.new("RGB", (240, 320), grounds[number % 7])
    draw = ImageDraw.Draw(image)
    draw.ellipse((30, 210, 210, 430), fill="#2f3b46")
    draw.ellipse((70, 70, 170, 200), fill=skins[number % 7])
    draw.pieslice((65, 50, 175, 190), 180, 360, fill="#231b17")
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def _evening(hub: RunningHub, doors: dict[str, FakeController], cards: list[CredentialId]) -> str:
    """What happened; answers the order's id."""
    with hub.token(Role.ADMINISTRATOR) as program:
        block = {"status": "suspended", "reason": "Lost in the laundry"}
        assert program.post(f"/api/v1/cards/{cards[0]}/block", json=block).is_success
        order = {"action": "clear_mode", "reason": "After the drill"}
        given = program.post("/api/v1/orders", json=order)
        assert given.is_success, given.text
        once = {"action": "unlock_once", "reason": "A parcel"}
        assert program.post("/api/v1/doors/laundry/commands", json=once).is_success
    now = hub.clock()
    taps = [
        ("main-entrance", 1, Reason.ENTITLED),
        ("courtyard", 2, Reason.ENTITLED),
        ("laundry", 3, Reason.OUTSIDE_SCHEDULE),
        ("main-entrance", 4, Reason.ENTITLED),
        ("family-wing", 5, Reason.NO_ACCESS_LEVEL),
        ("main-entrance", 6, Reason.ENTITLED),
        ("main-entrance", 0, Reason.CREDENTIAL_SUSPENDED),
    ]
    for number, (door, card, reason) in enumerate(taps):
        granted = reason is Reason.ENTITLED
        doors[door].record(
            EventKind.ACCESS_GRANTED if granted else EventKind.ACCESS_DENIED,
            door_id=DoorId(door),
            side=Side.ENTRY,
            credential_id=cards[card],
            reason=reason,
            occurred_at=now - timedelta(seconds=90 - 10 * number),
        )
    doors["courtyard"].record(EventKind.DOOR_FORCED, door_id=DoorId("courtyard"))
    doors["laundry"].record(EventKind.TAMPER_OPENED, door_id=DoorId("laundry"))
    ask(doors["courtyard"], cards[3], timeout_s=600)
    for key, controller in doors.items():
        if key != "bicycles":
            controller.until_acknowledged()
            controller.heartbeat()
    _report(hub, doors["main-entrance"])
    doors["kitchen"].drop()
    with hub.token(Role.GUARD) as guard:
        alarms = guard.get("/api/v1/alarms", params={"open": True}).json()["alarms"]
        tampered = next(each["id"] for each in alarms if each["kind"] == "tamper")
        guard.post(f"/api/v1/alarms/{tampered}/acknowledge", json={"note": "The technician is there"})
    return str(given.json()["id"])


def _report(hub: RunningHub, controller: FakeController) -> None:
    """A reader that was lost often, and what is in order."""
    findings = (
        ReportedFinding(
            level=Level.WARN,
            name="reader main-entrance/entry",
            what="PN532 v1.6; cards: 412 read, 9 not; lost: 14 in 6 h",
            advice="look at its cable, plugs and supply: fix what is loose, shorten what is long",
            code="reader_often_lost",
            subject="main-entrance/entry",
            values={"chip": "PN532 v1.6", "reads": 412, "failures": 9, "losses": 14, "running_s": 21_600},
        ),
        ReportedFinding(
            level=Level.OK,
            name="state dir",
            what="/var/lib/drempel/controllers/main-entrance-of-the-building-behind/state is there",
        ),
    )
    controller.publish(Up.REPORT, bytes(Report(examined_at=hub.clock(), findings=findings)))


def _import(hub: RunningHub) -> str:
    """A check that found faults."""
    sheet = "external_id,given_name,family_name,category\nC-1,Ada,Example,nobody\nC-2,,Example,resident\n"
    with hub.token(Role.RECEPTION) as desk:
        sent = desk.post(
            "/api/v1/imports",
            params={"dry_run": "true"},
            content=sheet,
            headers={"content-type": "text/csv"},
        )
        assert sent.status_code == 202, sent.text
        eventually(lambda: desk.get(sent.headers["location"]).json()["ended_at"], "the check")
    return str(sent.json()["id"])


def _webhook(hub: RunningHub) -> str:
    """One that nobody takes the messages of."""
    with hub.token(Role.ADMINISTRATOR) as program:
        made = program.post(
            "/api/v1/webhooks", json={"url": "https://8.8.8.8/hook", "kinds": ["card.blocked"]}
        )
        assert made.status_code == 201, made.text
        webhook_id = str(made.json()["id"])
    with hub.database.write() as connection:
        webhooks.tell(connection, webhooks.Told.PING, {}, now=hub.clock(), only=webhook_id)
        webhooks.give_up(connection, webhook_id, NOT_REACHED)
    return webhook_id


def _registration(hub: RunningHub) -> dict[str, str]:
    """A duty that is open, a kiosk, and somebody who is exempt."""
    duty = {
        "name": "Daily registration", "whom": "category", "category": "resident",
        "weekdays": list(range(7)), "start_minute": 0, "end_minute": 1440,
    }  # fmt: skip
    with hub.token() as program:
        made = program.post("/api/v1/registration/duties", json=duty)
        assert made.status_code == 201, made.text
        station = {"id": "hall", "kind": "kiosk", "name": "Hall"}
        assert program.post("/api/v1/stations", json=station).status_code == 201
        (one,) = program.get("/api/v1/registration/occurrences").json()["occurrences"]
        path = f"/api/v1/registration/occurrences/{one['duty_id']}/{one['day']}"
        lines = program.get(path).json()["lines"]
        marked = {
            "cardholder_id": lines[0]["cardholder_id"],
            "kind": "reported",
            "reason": "Came to the desk",
        }
        assert program.post(f"{path}/corrections", json=marked).status_code == 201
        exempt = {
            "cardholder_id": lines[1]["cardholder_id"],
            "first_day": one["day"],
            "last_day": one["day"],
            "reason": "Away with leave",
        }
        assert program.post("/api/v1/registration/exemptions", json=exempt).status_code == 201
        for_child = f"{lines[0]['cardholder_id']}/{lines[2]['cardholder_id']}"
        assert program.put(f"/api/v1/registration/reporters/{for_child}").is_success
    return {"duty_id": one["duty_id"], "duty_day": one["day"], "tap_id": "0" * 32}


def _transfer(hub: RunningHub) -> str:
    """Somebody moved to the site that opened last."""
    with hub.token(Role.ADMINISTRATOR) as program:
        site = {"id": "dennenlaan", "name": "Dennenlaan", "time_zone": "Europe/Amsterdam"}
        assert program.post("/api/v1/sites", json=site).status_code == 201
        person = {
            "site_id": "test-site",
            "category": "resident",
            "given_name": "Selam",
            "family_name": "Tesfay",
        }
        made = program.post("/api/v1/cardholders", json=person)
        assert made.status_code == 201, made.text
        moved = program.post(
            "/api/v1/transfers",
            json={
                "cardholder_ids": [made.json()["id"]],
                "to_site_id": "dennenlaan",
                "access_level_ids": [],
                "reason": "A room came free",
            },
        )
        assert moved.status_code == 201, moved.text
    return str(moved.json()["id"])


def _hold(hub: RunningHub) -> None:
    now = hub.clock()
    hold = {
        "door_id": "courtyard",
        "since": (now - timedelta(hours=3)).isoformat(),
        "until": now.isoformat(),
        "ends_at": (now + timedelta(days=90)).isoformat(),
        "reason": "The door was forced; the police may ask",
    }
    with hub.token(Role.SITE_MANAGER) as manager, hub.token(Role.AUDITOR) as auditor:
        asked = manager.post("/api/v1/holds", json=hold)
        assert asked.status_code == 201, asked.text
        assert auditor.post(f"/api/v1/holds/{asked.json()['id']}/confirm").is_success
        assert manager.post("/api/v1/holds", json=hold | {"reason": "The laundry, too"}).is_success


def _parts(**made: str) -> dict[str, str]:
    """What stands for each part of a path; a page with another part needs its example here."""
    return made | {
        "door_id": "main-entrance",
        "controller_id": "main-entrance",
        "level_id": "residents",
        "schedule_id": "day",
        "area_id": "house",
        "site_id": "test-site",
    }
