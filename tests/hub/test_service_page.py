"""The technician's page: what it says of a controller, what it lets them do, and what it keeps to itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hub.roles import Role
from pacs.commands import Action, open_command
from pacs.enrolment import EnrolmentCode
from pacs.events import EventKind
from pacs.findings import Level
from pacs.identifiers import DoorId
from pacs.messages import Report, ReportedFinding
from pacs.reason import Reason
from pacs.topics import Up
from pacs.wiring import proposal
from tests.hub.controller import FakeController, eventually
from tests.hub.running import RunningHub, csrf_of, running_hub, tap
from tests.hub.test_pages import text_of

PAGE = "/controllers/front/service"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def front(hub: RunningHub) -> FakeController:
    return hub.door("front", "Front door")


def test_taps_are_shown_without_persons(hub: RunningHub, front: FakeController) -> None:
    """Door, side, outcome and reason of each, counts of a private door; no name and no card, whoever looks."""
    credential = hub.card("Tigist", "Abebe")
    tap(front, credential, Reason.OUTSIDE_SCHEDULE)
    counts = {"granted": 3, "denied": 1, "unread": 2}
    front.record(EventKind.TAPS_COUNTED, door_id=DoorId("front"), details=counts)
    front.until_acknowledged()
    front.heartbeat()
    for role in (Role.TECHNICIAN, Role.ADMINISTRATOR):
        with hub.signed_in(role) as browser:
            page = browser.get(PAGE).text
            said = text_of(page)
            assert "Online since" in said
            assert "entry: not at this time" in said
            assert "Refused" in said
            assert "3 granted, 1 denied, 2 not read" in said
            assert "Tigist" not in page
            assert str(credential) not in page


@pytest.mark.parametrize("action", ["unlock_once", "test_signals", "examine"])
def test_a_technician_tests_a_door_and_orders_nothing_that_lasts(
    hub: RunningHub, front: FakeController, action: str
) -> None:
    """With a reason; the page says what became of it by the door's own event; a mode is not theirs to set."""
    with hub.signed_in(Role.TECHNICIAN) as browser:
        token = csrf_of(browser.get(PAGE).text)
        form = {"csrf_token": token, "door_id": "front", "action": action, "reason": "x"}
        refused = browser.post(f"{PAGE}/test", data=form)
        assert refused.status_code == 422
        assert "Say in a few words why" in text_of(refused.text)
        sent = len(front.commands)
        given = browser.post(f"{PAGE}/test", data=form | {"reason": "Strike replaced"})
        assert given.headers["location"] == f"{PAGE}#service-news"
        eventually(lambda: len(front.commands) > sent, "the command")
        command = open_command(front.commands[-1], front.trusted)
        assert command.action is Action(action)
        details = {"command": command.command_id, "action": action}
        front.record(EventKind.COMMAND_EXECUTED, door_id=DoorId("front"), details=details)
        front.until_acknowledged()
        assert "Executed" in text_of(browser.get(f"{PAGE}/news").text)
        mode = {"csrf_token": token, "order": "lockdown", "reason": "Not theirs", "confirmed": "yes"}
        assert browser.post("/lockdown", data=mode).status_code == 403
        assert browser.post("/doors/front/command", data=mode).status_code == 403
    with hub.signed_in(Role.AUDITOR) as auditor:
        assert "Open once" not in auditor.get(PAGE).text
        form["csrf_token"] = csrf_of(auditor.get("/").text)
        assert auditor.post(f"{PAGE}/test", data=form | {"reason": "Not theirs"}).status_code == 403


def test_a_door_of_another_controller_is_not_there(hub: RunningHub, front: FakeController) -> None:
    """A form that names the door of another controller sends nothing."""
    del front
    hub.door("side", "Side door", connect=False)
    with hub.signed_in(Role.TECHNICIAN) as browser:
        form = {"csrf_token": csrf_of(browser.get(PAGE).text), "door_id": "side", "action": "unlock_once"}
        assert browser.post(f"{PAGE}/test", data=form | {"reason": "By mistake"}).status_code == 404


def test_the_code_for_another_device_is_shown_once(hub: RunningHub, front: FakeController) -> None:
    """As text and as a QR on the answer, never on the page again; only those who manage controllers make one."""
    del front
    wiring = proposal([(DoorId("front"), "/dev/ttyAMA0")]).fields
    with hub.token() as program:
        assert program.put("/api/v1/controllers/front/wiring", json=wiring).status_code == 204
    with hub.signed_in(Role.TECHNICIAN) as browser:
        form = {"csrf_token": csrf_of(browser.get(PAGE).text)}
        answer = browser.post(f"{PAGE}/code", data=form)
        assert answer.headers["cache-control"] == "no-store"
        said = text_of(answer.text)
        code = said.split("drempel-edge enrol ")[1].split()[0]
        assert str(EnrolmentCode.parse(code)) == code
        assert 'class="qr"' in answer.text
        again = browser.get(PAGE).text
        assert code not in again
        assert "drempel-provision reader swap front" in text_of(again)
    with hub.signed_in(Role.AUDITOR) as auditor:
        assert (
            auditor.post(f"{PAGE}/code", data={"csrf_token": csrf_of(auditor.get("/").text)}).status_code
            == 403
        )


def test_what_a_controller_found_on_itself_is_shown(hub: RunningHub, front: FakeController) -> None:
    """The newest report, with what to do; a message that is none changes nothing."""
    with hub.signed_in(Role.TECHNICIAN) as browser:
        assert "It has not told of that yet" in text_of(browser.get(PAGE).text)
        for what in ("lost for 3 min", "<b>lost</b> for 4 min"):
            finding = ReportedFinding(
                level=Level.FAIL, name="reader front/entry", what=what, advice="Plug it in"
            )
            front.publish(Up.REPORT, bytes(Report(examined_at=hub.clock(), findings=(finding,))))
        page = eventually(lambda: (t := browser.get(PAGE).text) and "4 min" in t and t, "the report")
        assert "3 min" not in text_of(page)
        assert "&lt;b&gt;lost" in page
        assert "→ Plug it in" in text_of(page)
        front.publish(Up.REPORT, b"\x00")
        front.heartbeat()
        front.record()
        front.until_acknowledged()
        assert "4 min" in browser.get(f"{PAGE}/news").text


def test_findings_are_told_in_the_language_of_who_reads(hub: RunningHub, front: FakeController) -> None:
    """By their codes; in the controller's own words where the code, its values or a moment are none that this hub knows."""
    lost: dict[str, int | str] = {"lost_s": 200, "problem": "<b>", "advice": "plug it in"}
    sent: list[tuple[str, dict[str, int | str]]] = [
        ("reader_lost", lost),
        ("reader_on_fire", {"celsius": 400}),
        ("reader_lost", lost | {"lost_s": "soon"}),
        ("clock_before_build", {"now_at": 2**53}),
        ("clock_before_build", {"now_at": 1_700_000_000}),
    ]
    findings = tuple(
        ReportedFinding(
            level=Level.WARN,
            name="its name",
            what=str(number),
            advice="its advice",
            code=code,
            subject="front/entry",
            values=values,
        )
        for number, (code, values) in enumerate(sent, 1)
    )
    front.publish(Up.REPORT, bytes(Report(examined_at=hub.clock(), findings=findings)))
    with hub.token(Role.TECHNICIAN) as program:
        path = "/api/v1/controllers/front/examination"
        answer = eventually(
            lambda: (found := program.get(path).json()) and len(found["findings"]) == 5 and found,
            "the report",
        )
    first, second = answer["findings"][:2]
    assert (first["check"], first["code"], first["values"]) == ("reader", "reader_lost", lost)
    assert (second["check"], second["code"], second["what"]) == (None, "reader_on_fire", "2")
    with hub.signed_in(Role.TECHNICIAN) as browser:
        page = browser.get(f"{PAGE}/news", headers={"accept-language": "nl"}).text
    said = text_of(page)
    assert "lezer front/entry: al 3 min 20 sec uitgevallen: &lt;b&gt;<br>→ steek hem in" in re.sub(
        "</?strong>", "", page
    )
    assert [f"its name : {number} → its advice" in said for number in range(1, 6)] == [
        False,
        *[True] * 3,
        False,
    ]
    assert page.count('lang="en"') == 3
    assert "is voordat dit programma werd gebouwd" in said


def test_a_page_that_stays_open_hears_of_a_controller_that_goes(hub: RunningHub) -> None:
    """The part that is fetched again says that it is offline, beside the button too, has the tap of just now, and no form."""
    side = hub.door("back", "Back door")
    tap(side, hub.card("Berhane", "Kidane"), Reason.ENTITLED)
    side.until_acknowledged()
    side.drop()
    page = "/controllers/back/service"
    with hub.signed_in(Role.TECHNICIAN) as browser:
        token = csrf_of(browser.get(page).text)
        eventually(lambda: "Offline since" in browser.get(f"{page}/news").text, "the last will")
        form = {"csrf_token": token, "door_id": "back", "action": "unlock_once", "reason": "Strike replaced"}
        assert browser.post(f"{page}/test", data=form).status_code == 303
        news = browser.get(f"{page}/news").text
        said = browser.post(
            f"{page}/code", data={"csrf_token": token}, headers={"accept-language": "nl"}
        ).text
    ids = re.findall(' id="((?:service|away)-[a-z]+)"', news)
    assert ids == ["service-state", "service-news", "service-taps", "away-back"]
    assert "It is not connected" in news
    assert "<li data-open>" in news
    assert "entry: entitled" in news
    assert "<form" not in news
    assert "de plaats heeft geen bedrading" in text_of(said)
