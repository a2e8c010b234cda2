"""Importing people in a browser: check, see what is wrong, then import."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from hub.roles import Role
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, csrf_of, running_hub

GOOD = "external_id,given_name,family_name\nP-1,Ada,Example\nP-2,Ben,Example\n"
BAD = "external_id,given_name,family_name,category\nP-3,Evelien,Example,<b>nobody</b>\n"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("imports")) as running:
        yield running


def sent(browser: httpx.Client, sheet: str, what: str, name: str = "people.csv") -> httpx.Response:
    form = {"csrf_token": csrf_of(browser.get("/imports").text), "what": what}
    return browser.post("/imports", data=form, files={"sheet": (name, sheet, "text/csv")})


def ended(browser: httpx.Client, answer: httpx.Response) -> str:
    """The page of an import once it has ended: it asks for nothing more by itself."""
    assert answer.status_code == 303, answer.text

    def page() -> str:
        shown = browser.get(answer.headers["location"])
        return "" if "refresh" in shown.headers else shown.text

    return str(eventually(page, "the import ends"))


def test_a_file_is_checked_and_then_imported(hub: RunningHub) -> None:
    """The check changes nothing and says so; the import adds everybody; both stand in the list."""
    with hub.signed_in(Role.RECEPTION) as browser:
        checked = ended(browser, sent(browser, GOOD, "check"))
        assert "Nothing was changed yet" in checked
        assert "Ada Example" not in browser.get("/cardholders").text
        ended(browser, sent(browser, GOOD, "import"))
        assert "Ada Example" in browser.get("/cardholders").text
        assert browser.get("/imports").text.count('href="/imports/') == 2


def test_what_is_wrong_is_said_by_row_and_column(hub: RunningHub) -> None:
    """Nothing of the file is changed, and nothing of it is taken for HTML."""
    with hub.signed_in(Role.RECEPTION) as browser:
        page = ended(browser, sent(browser, BAD, "import"))
        assert "Refused: nothing was changed" in page
        assert "category" in page
        assert "<b>nobody" not in page
        assert "Evelien" not in browser.get("/cardholders").text


def test_a_file_of_another_kind_is_refused(hub: RunningHub) -> None:
    """By its name, before anything is read."""
    with hub.signed_in(Role.RECEPTION) as browser:
        answer = sent(browser, GOOD, "check", name="people.xlsx")
    assert answer.status_code == 422
    assert "ends in .csv" in answer.text
