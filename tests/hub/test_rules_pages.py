"""The pages for the rules of access: schedules, holidays, access levels, doors, areas; what is said before a change, and refused."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from hub.api.doors import DoorChange
from hub.pages.door_fields import RULES, Number
from hub.pages.door_rules import DoorForm
from hub.roles import Role
from pacs.identifiers import SiteId
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, csrf_of, running_hub
from tests.hub.test_pages import text_of

HERE, THERE = SiteId("test-site"), SiteId("elsewhere")
WEEKDAYS = [f"0:{day}" for day in range(5)]
DAYTIME: dict[str, Any] = {"name": "Daytime", "start": ["07:00"], "end": ["23:00"], "day": WEEKDAYS}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("rules"), time_zone="Europe/Amsterdam") as running:
        with running.token() as program:
            assert program.post("/api/v1/sites", json={"id": THERE, "name": "Elsewhere"}).is_success
        running.door("kitchen", "Kitchen")
        running.door("hall", "Hall", connect=False)
        running.door("gate", "Gate", connect=False, site=THERE)
        yield running


@pytest.fixture
def manager(hub: RunningHub) -> Iterator[httpx.Client]:
    """Who manages one site."""
    with hub.signed_in(Role.SITE_MANAGER, sites=frozenset({HERE})) as browser:
        yield browser


def sent(browser: httpx.Client, form: str, action: str = "", /, **fields: Any) -> httpx.Response:
    """What comes of sending the form of a page."""
    token = csrf_of(browser.get(form).text)
    return browser.post(action or form, data={"csrf_token": token, **fields})


def created(browser: httpx.Client, form: str, **fields: Any) -> str:
    """The address of what a form made."""
    answer = sent(browser, form, **fields)
    assert answer.status_code == 303, text_of(answer.text)
    return str(answer.headers["location"]).partition("?")[0]


def api(hub: RunningHub, path: str) -> Any:
    with hub.token() as program:
        return program.get(f"/api/v1/{path}").json()


def audited(hub: RunningHub, subject: str) -> list[str]:
    return [each["action"] for each in api(hub, "audit?limit=500")["entries"] if each["subject"] == subject]


# -- schedules --------------------------------------------------------------------------------------


def test_a_schedule_is_made_drawn_and_changed_by_form(hub: RunningHub, manager: httpx.Client) -> None:
    """Its id follows from its name; windows are drawn and told day by day; the log holds what the interface writes."""
    page = created(
        manager,
        "/new-schedule",
        name="Nachtwächter",
        start=["22:00", ""],
        end=["06:00", ""],
        day=["0:4", "0:5"],
        holiday_start=["00:00"],
        holiday_end=["00:00"],
    )
    assert page == "/schedules/nachtwachter"
    stored = api(hub, page[1:])
    assert stored["windows"] == [{"weekdays": [4, 5], "start_minute": 1320, "end_minute": 1800}]
    assert stored["holiday_windows"] == [
        {"weekdays": [0, 1, 2, 3, 4, 5, 6], "start_minute": 0, "end_minute": 1440}
    ]
    shown = manager.get(page).text
    assert "Friday 22:00–06:00 the next day Saturday 22:00–06:00 the next day Sunday not at all" in text_of(
        shown
    )
    assert "Holidays all day" in text_of(shown)
    bars = re.findall(r'class="bar" x="(\d+)" width="(\d+)"', shown)
    assert bars == [("1320", "120"), ("1320", "120"), ("0", "360"), ("0", "360"), ("0", "1440")]
    edit = manager.get(f"{page}/edit").text
    assert re.search(r'name="day" value="0:4" checked', edit)
    assert not re.search(r'name="day" value="0:6" checked', edit)
    answer = sent(manager, f"{page}/edit", **DAYTIME | {"name": "Nights"})
    assert answer.headers["location"] == f"{page}?done=changed"
    assert api(hub, page[1:])["name"] == "Nights"
    assert sent(manager, page, f"{page}/delete").headers["location"] == "/schedules?done=deleted"
    assert audited(hub, "schedule:nachtwachter") == ["schedule.delete", "schedule.change", "schedule.create"]


def test_rows_are_added_and_taken_out_without_scripts(manager: httpx.Client) -> None:
    """A button sends the form, which comes back with a row more or less; nothing typed is lost, nothing is stored."""
    more = sent(manager, "/new-schedule", **DAYTIME, do="add:week").text
    assert more.count('name="start"') == 2
    assert 'value="07:00"' in more
    assert more.count("autofocus") == 1
    holidays = sent(manager, "/new-schedule", **DAYTIME, do="add:holiday").text
    assert holidays.count('name="holiday_start"') == 1
    less = sent(manager, "/new-schedule", **DAYTIME, do="remove:week:0").text
    assert 'name="start"' not in less
    assert 'value="Daytime"' in less
    assert manager.get("/schedules/daytime").status_code == 404


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"day": []}, "Choose at least one day."),
        ({"start": [""]}, "Write both times, such as 07:00 and 23:00."),
        ({"end": ["25:00"]}, "Write both times, such as 07:00 and 23:00."),
        ({"name": " "}, "Write a name of 1 to 100 ordinary characters."),
        ({"name": "x\x07"}, "Write a name of 1 to 100 ordinary characters."),
    ],
)
def test_a_refused_schedule_says_why_beside_the_field(
    manager: httpx.Client, fields: dict[str, Any], fault: str
) -> None:
    """In words, with what was typed, and nothing is stored."""
    answer = sent(manager, "/new-schedule", **DAYTIME | fields)
    assert answer.status_code == 422
    assert fault in text_of(answer.text)
    assert 'aria-invalid="true"' in answer.text or fault.startswith("Choose")


def test_a_name_that_is_taken_is_refused_and_sending_twice_is_not(manager: httpx.Client) -> None:
    """The same form again leads to what it made; another of that name is a fault beside the name."""
    assert created(manager, "/new-schedule", **DAYTIME) == created(manager, "/new-schedule", **DAYTIME)
    answer = sent(manager, "/new-schedule", **DAYTIME | {"end": ["22:00"]})
    assert answer.status_code == 422
    assert "There is one of this name" in text_of(answer.text)


# -- access levels ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def level(hub: RunningHub) -> str:
    """An access level to kitchen and hall by day, held by two people."""
    with hub.signed_in(Role.SITE_MANAGER, sites=frozenset({HERE})) as browser:
        schedule = created(browser, "/new-schedule", **DAYTIME | {"name": "By day"}).rpartition("/")[2]
        made = created(
            browser,
            "/new-access-level",
            name="House",
            rule=[f"hall:{schedule}", f"kitchen:{schedule}"],
        )
    with hub.token() as program:
        for given in ("Ama", "Kofi"):
            person = {"category": "resident", "given_name": given, "family_name": "Mensah", "site_id": HERE}
            held = {"access_level_ids": [made.rpartition("/")[2]]}
            assert program.post("/api/v1/cardholders", json=person | held).is_success
    return made


def test_what_a_change_does_is_said_before_it_is_made(
    hub: RunningHub, manager: httpx.Client, level: str
) -> None:
    """How many people lose which door; only the confirmed form changes anything, and one can go back to it."""
    before = api(hub, level[1:])
    form: dict[str, Any] = {"name": "House", "rule": ["hall:by-day", ""]}
    asked = sent(manager, f"{level}/edit", **form)
    assert asked.status_code == 200
    assert "2 people lose Kitchen" in text_of(asked.text)
    assert "Hall" not in text_of(asked.text)
    assert api(hub, level[1:]) == before
    back = sent(manager, f"{level}/edit", **form, do="edit").text
    assert len(re.findall(r"<option value=\"\w+:by-day\" selected", back)) == 1
    done = sent(manager, f"{level}/edit", **form, confirmed="yes")
    assert done.headers["location"] == f"{level}?done=changed"
    assert api(hub, level[1:])["rules"] == [{"door_id": "hall", "schedule_id": "by-day"}]
    both = form | {"rule": ["hall:by-day"], "more_door": "kitchen", "more_schedule": "by-day"}
    again = sent(manager, f"{level}/edit", **both)
    assert "2 people gain Kitchen" in text_of(again.text)
    sent(manager, f"{level}/edit", **both, confirmed="yes")
    assert audited(hub, "access_level:house") == ["access_level.change"] * 2 + ["access_level.create"]


def test_a_schedules_change_says_whose_hours_change(manager: httpx.Client, level: str) -> None:
    """Through every access level that goes by it."""
    assert level
    other = sent(manager, "/schedules/by-day/edit", **DAYTIME | {"end": ["20:00"]})
    assert "2 people have Kitchen at other times" in text_of(other.text)
    none = sent(manager, "/schedules/by-day/edit", name="By day")
    assert "2 people lose Hall" in text_of(none.text)


def test_what_is_in_use_is_not_deleted(manager: httpx.Client, level: str) -> None:
    """The page offers no button for it, says what to do first, and refuses who asks all the same."""
    for path in (level, "/schedules/by-day"):
        assert "Delete this" not in manager.get(path).text
        refused = sent(manager, f"{path}/edit", f"{path}/delete")
        assert (refused.status_code, "Not deleted" in text_of(refused.text)) == (409, True)


def test_an_access_level_that_nobody_holds_is_deleted(manager: httpx.Client) -> None:
    """By the button on its page."""
    made = created(manager, "/new-access-level", name="Nobody's")
    assert "It opens no door" in text_of(manager.get(made).text)
    assert sent(manager, made, f"{made}/delete").headers["location"] == "/access-levels?done=deleted"
    assert manager.get(made).status_code == 404


@pytest.mark.parametrize("rules", [{"rule": ["gate:by-day"]}, {"rule": ["kitchen:never-made"]}])
def test_an_access_level_names_only_what_is_there(
    manager: httpx.Client, level: str, rules: dict[str, list[str]]
) -> None:
    """A door or schedule of another site, or of none, is refused beside the rules."""
    for form in ("/new-access-level", f"{level}/edit"):
        answer = sent(manager, form, name="Far", **rules, confirmed="yes")
        assert answer.status_code == 422
        assert "Choose among the doors and schedules there are" in text_of(answer.text)


def test_the_people_of_a_level_are_listed(manager: httpx.Client, level: str) -> None:
    """From the level's page one comes to who holds it, and nobody else."""
    assert "2 people hold it." in text_of(manager.get(level).text)
    listed = text_of(manager.get("/cardholders", params={"level": "house", "search": "kofi"}).text)
    assert "Kofi Mensah" in listed
    assert "Ama" not in listed


# -- holidays ---------------------------------------------------------------------------------------


def test_a_holiday_is_added_and_taken_back(hub: RunningHub, manager: httpx.Client, level: str) -> None:
    """Beside what each schedule does on one; days that are over are refused."""
    assert level
    assert sent(manager, "/holidays", day="2031-04-27", name="Koningsdag").status_code == 303
    page = manager.get("/holidays").text
    assert "27 Apr 2031 : Koningsdag" in text_of(page)
    assert "By day Does not hold: what goes by it stays shut" in text_of(page)
    for day in ("2001-01-01", "soon"):
        assert "still to come" in text_of(sent(manager, "/holidays", day=day, name="x").text)
    assert sent(manager, "/holidays", "/holidays/2031-04-27/remove").status_code == 303
    assert api(hub, f"holidays?site={HERE}")["holidays"] == []


# -- doors and areas --------------------------------------------------------------------------------


def typed(page: str) -> dict[str, list[str]]:
    """What a browser would send of a form as it is shown."""
    found: dict[str, list[str]] = {}
    for field in re.findall(r"<input[^>]*>", page):
        name = re.search(r'name="([^"]+)"', field)
        value = re.search(r'value="([^"]*)"', field)
        if name and (" checked" in field or 'type="checkbox"' not in field):
            found.setdefault(name[1], []).append(value[1] if value else "")
    for name, options in re.findall(r'<select name="(\w+)"[^>]*>(.*?)</select>', page, re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', options) or re.search(r'value="([^"]*)"', options)
        found.setdefault(name, []).append(chosen[1] if chosen else "")
    return {name: found[name] for name in found if name not in ("language", "next")}


def test_the_form_asks_for_every_rule_of_a_door() -> None:
    """What the interface takes has its field, its words and its place in the form."""
    assert {*RULES, "name", "mode_rules"} == set(DoorChange.model_fields)
    assert set(RULES) == set(DoorForm.model_fields) - {
        "csrf_token",
        "version",
        "name",
        "rule_schedule",
        "rule_mode",
        "do",
    }


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if isinstance(rule, Number)])
def test_a_number_is_read_in_its_unit_and_range(name: str) -> None:
    """The range that a page names is the one that the interface takes; both decimal marks are understood."""
    rule = RULES[name]
    assert isinstance(rule, Number)
    for edge, beyond in ((rule.least, -1), (rule.most, 1)):
        value = rule.read(f"{edge:g}".replace(".", ","))
        assert value is not None
        assert rule.typed(value) == f"{edge:g}"
        assert rule.read(str(edge + beyond)) is None
        DoorChange.model_validate({name: value})
        with pytest.raises(ValidationError):
            DoorChange.model_validate({name: value + beyond})
    for nonsense in ("", "x", "1e3", "5 s", "inf", "1..2", "-1"):
        assert rule.read(nonsense) is None


def test_a_doors_rules_are_changed_by_form(hub: RunningHub, manager: httpx.Client, level: str) -> None:
    """What is typed is stored in the interface's units and audited; what is not touched stays."""
    made = created_area(manager, "House")
    before = api(hub, "doors?limit=500")["doors"]
    page = manager.get("/doors/kitchen/edit").text
    form = typed(page) | {
        "unlock_ms": "7,5",
        "max_policy_age_s": "90",
        "antipassback": "timed",
        "antipassback_s": "600",
        "area": made,
        "first_person_levels": ["house"],
        "rule_schedule": ["by-day", ""],
        "rule_mode": ["unlocked", "secured"],
        "private": "yes",
    }
    answer = manager.post("/doors/kitchen/edit", data=form)
    assert answer.headers["location"] == "/doors/kitchen?done=changed", text_of(answer.text)
    rules = {each["id"]: each["rules"] for each in before}["kitchen"]
    stored = {each["id"]: each["rules"] for each in api(hub, "doors?limit=500")["doors"]}["kitchen"]
    assert stored == rules | {
        "unlock_ms": 7500,
        "max_policy_age_s": 5400,
        "antipassback": "timed",
        "antipassback_s": 600,
        "area": made,
        "first_person_levels": ["house"],
        "mode_rules": [{"schedule_id": "by-day", "mode": "unlocked"}],
        "private": True,
    }
    shown = text_of(manager.get("/doors/kitchen").text)
    for words in (
        "Stays unlocked for 7.5 seconds",
        "How old its rules may become 90 minutes",
        "Who has to come first House",
        "By day : Unlocked",
        "Access levels that open it House By day",
    ):
        assert words in shown, words
    assert "House" in text_of(manager.get("/door-rules").text)
    assert "Kitchen For a time" in text_of(manager.get("/areas").text)
    assert f"/areas/{made}/delete" not in manager.get("/areas").text
    assert sent(manager, "/areas", f"/areas/{made}/delete").status_code == 422
    back = typed(page) | {"name": "Kitchen", "version": ""}
    assert manager.post("/doors/kitchen/edit", data=back).is_redirect
    assert audited(hub, "door:kitchen")[:2] == ["door.change"] * 2
    assert sent(manager, "/areas", f"/areas/{made}/rename", name="The house").is_redirect
    assert "The house" in manager.get("/areas").text
    assert sent(manager, "/areas", f"/areas/{made}/delete").is_redirect
    assert audited(hub, f"area:{made}") == ["area.delete", "area.change", "area.create"]


def created_area(browser: httpx.Client, name: str) -> str:
    """The id of a new area."""
    assert sent(browser, "/areas", name=name).headers["location"] == "/areas?done=created"
    return name.lower()


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"unlock_ms": "130"}, "Write a number from 0.001 to 120."),
        ({"held_open_after_s": ""}, "Write a number from 1 to 3600."),
        ({"antipassback": "hard"}, "Anti-passback needs the area that the door leads into."),
        ({"when_hub_away": "local"}, "Choose above whose cards admit others."),
        ({"mode": "ajar"}, "Choose one of those there are."),
        ({"interlock_with": ["gate"]}, "Something it names is not there any more"),
        ({"area": "nowhere"}, "Something it names is not there any more"),
        ({"rule_schedule": ["by-day"], "rule_mode": ["ajar"]}, "Choose among the schedules and modes"),
        ({"name": ""}, "Write a name of 1 to 100 ordinary characters."),
    ],
)
def test_refused_rules_of_a_door_say_why(
    hub: RunningHub, manager: httpx.Client, level: str, fields: dict[str, Any], fault: str
) -> None:
    """Beside the field, in its group laid open, with what was typed; nothing is stored."""
    assert level
    before = api(hub, "doors?limit=500")["doors"]
    form = typed(manager.get("/doors/hall/edit").text)
    answer = manager.post("/doors/hall/edit", data=form | {"unlock_ms": "6"} | fields)
    assert answer.status_code == 422
    assert fault in text_of(answer.text)
    assert [each["rules"] for each in api(hub, "doors?limit=500")["doors"]] == [
        each["rules"] for each in before
    ]
    if fault.startswith("Anti"):
        assert re.search(r'<details class="group" open>\s*<summary><h2>Areas', answer.text)


def test_a_mode_by_schedule_gets_another_row(manager: httpx.Client, level: str) -> None:
    """Without scripts, and nothing typed is lost."""
    assert level
    form = typed(manager.get("/doors/hall/edit").text)
    more = manager.post("/doors/hall/edit", data=form | {"name": "Half typed", "do": "add"}).text
    assert more.count('name="rule_schedule"') == 2
    assert 'value="Half typed"' in more


# -- who can open a door ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def enrolled(hub: RunningHub, level: str) -> dict[str, str]:
    """Given name → cardholder: Noor holds the level, Nadir holds none, each with a card that the documents name."""
    people = {}
    with hub.token() as program:
        for given, levels in (("Noor", [level.rpartition("/")[2]]), ("Nadir", [])):
            card = hub.card(given, "Rahimi")
            people[given] = str(program.get(f"/api/v1/cards/{card}").json()["cardholder_id"])
            held = {"access_level_ids": levels}
            assert program.patch(f"/api/v1/cardholders/{people[given]}", json=held).is_success
    hub.until_confirmed()
    return people


MONDAY = {"at": "2031-03-03T12:00"}


def test_who_can_open_a_door_is_listed_for_a_moment(
    hub: RunningHub, manager: httpx.Client, enrolled: dict[str, str]
) -> None:
    """By the door's own decision: who is let in by name, how many are not and why; another hour, another answer."""
    noon = text_of(manager.get("/doors/hall/access", params=MONDAY).text)
    assert "Noor Rahimi entitled" in noon
    assert "Nadir" not in noon
    assert "the card has no access to this door 1" in noon
    night = text_of(manager.get("/doors/hall/access", params={"at": "2031-03-03T03:00"}).text)
    assert "No card opens it at that time" in night
    assert "not at this time 1" in night
    assert "Noor" not in night
    subject = [each for each in api(hub, "audit?limit=5")["entries"] if each["subject"] == "door:hall"]
    assert subject[0]["action"] == "names.read"


def test_why_not_is_said_of_a_person_with_what_to_do(manager: httpx.Client, enrolled: dict[str, str]) -> None:
    """Found by a part of the name; the week that follows, and what has to change."""
    found = manager.get("/doors/hall/access", params=MONDAY | {"search": "nad"}).text
    assert "Noor" not in found
    assert "Nadir Rahimi the card has no access to this door" in text_of(found)
    address = html.unescape(re.findall(r'href="(/doors/hall/access\?[^"]*cardholder=[^"]*)"', found)[0])
    nadir = text_of(manager.get(address).text)
    assert "give them one that does" in nadir
    assert "It does not open for this card at any time." in nadir
    noor = text_of(manager.get("/doors/hall/access", params=MONDAY | {"cardholder": enrolled["Noor"]}).text)
    assert "4 Mar 2031 07:00 – 4 Mar 2031 23:00 : Opens" in noor
    person = manager.get(f"/cardholders/{enrolled['Nadir']}").text
    assert f'href="/doors/hall/access?cardholder={enrolled["Nadir"]}"' in person


def test_a_question_about_no_moment_is_refused_beside_the_field(
    manager: httpx.Client, enrolled: dict[str, str]
) -> None:
    """And what was typed stays."""
    assert enrolled
    for typed_moment in ("soon", "0001-01-01T00:00", "9999-12-31T23:59"):
        answer = manager.get("/doors/hall/access", params={"at": typed_moment})
        assert answer.status_code == 422
        assert "Write a day and a time, or leave it empty for now." in text_of(answer.text)


def test_who_may_not_see_names_is_told_of_cards(hub: RunningHub, enrolled: dict[str, str]) -> None:
    """An auditor asks by card number, and cannot search by name."""
    with hub.signed_in(Role.AUDITOR, sites=frozenset({HERE})) as auditor:
        page = auditor.get("/doors/hall/access", params=MONDAY).text
        assert "Noor" not in page
        card = re.findall(r'<span class="mono">([0-9a-f]{8})</span>', page)[0]
        assert "Opens" in text_of(auditor.get("/doors/hall/access", params=MONDAY | {"search": card}).text)
        assert "Nobody found" in auditor.get("/doors/hall/access", params={"search": "noor"}).text
        assert auditor.get("/doors/gate/access").status_code == 404


# -- arrival, roles, sites --------------------------------------------------------------------------


def test_a_page_says_where_the_rules_have_arrived(hub: RunningHub, manager: httpx.Client) -> None:
    """Which doors have confirmed what is in force, and why the others have not."""

    def said() -> str:
        return text_of(manager.get(f"/rules/{HERE}/arrival").text)

    eventually(lambda: "1 of 2 doors go by these rules." in said(), "the kitchen confirmed")
    assert "Hall was never connected." in said()
    assert "The door goes by these rules." in text_of(
        manager.get(f"/rules/{HERE}/arrival", params={"door": "kitchen"}).text
    )


def test_who_sees_several_sites_chooses_one(hub: RunningHub) -> None:
    """For something new, and whose holidays are shown; nothing is guessed."""
    with hub.signed_in(Role.SITE_MANAGER) as browser:
        assert "Choose the site." in text_of(sent(browser, "/new-schedule", **DAYTIME).text)
        made = created(browser, "/new-schedule", **DAYTIME, site_id=THERE)
        assert made != "/schedules/daytime"  # that is the other site's
        assert 'name="site"' in browser.get("/new-access-level").text
        page = browser.get("/new-access-level", params={"site": THERE}).text
        assert "Gate" in page
        assert "Kitchen" not in page
        assert sent(
            browser, f"/holidays?site={THERE}", "/holidays", day="2031-01-01", name="x", site_id=THERE
        ).is_redirect
        assert "1 Jan 2031" in browser.get("/holidays", params={"site": THERE}).text
        assert "1 Jan 2031" not in browser.get("/holidays", params={"site": HERE}).text


@pytest.mark.parametrize("role", [Role.RECEPTION, Role.AUDITOR, Role.GUARD])
def test_who_may_only_read_changes_nothing(hub: RunningHub, level: str, role: Role) -> None:
    """No button, no form; a guard does not see the rules at all."""
    with hub.signed_in(role, sites=frozenset({HERE})) as browser:
        for path in ("/doors/hall", "/areas", "/door-rules"):
            page = browser.get(path)
            assert page.status_code == 200, path
            assert "/edit" not in page.text
            assert "/areas/" not in page.text
        for path in ("/schedules", "/holidays", "/access-levels", "/schedules/by-day", level):
            answer = browser.get(path)
            assert answer.status_code == (403 if role is Role.GUARD else 200), path
            assert "/edit" not in answer.text
            assert "/new-" not in answer.text
        for form in (
            "/new-schedule",
            "/new-access-level",
            f"{level}/edit",
            "/schedules/by-day/edit",
            "/doors/hall/edit",
        ):
            assert browser.get(form).status_code == 403
            assert sent(browser, "/", form, name="Mine").status_code == 403


def test_what_is_of_another_site_is_not_there(hub: RunningHub, manager: httpx.Client, level: str) -> None:
    """Neither shown nor changed, whoever asks."""
    assert level
    with hub.signed_in(Role.SITE_MANAGER, sites=frozenset({THERE})) as other:
        assert other.get("/doors/hall/access").status_code == 404
        for path in ("/schedules/by-day", level, "/doors/hall"):
            for shown in (path, f"{path}/edit"):
                assert other.get(shown).status_code == 404, shown
            assert sent(other, "/", f"{path}/edit", name="Mine").status_code == 404
        for path in ("/schedules/by-day", level):
            assert sent(other, "/", f"{path}/delete").status_code == 404
        assert other.get("/holidays", params={"site": HERE}).status_code == 404
        assert "By day" not in other.get("/schedules").text
        assert "House" not in other.get("/access-levels").text
        assert "No access levels yet" in text_of(other.get("/access-levels").text)
