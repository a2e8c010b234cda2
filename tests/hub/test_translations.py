"""The pages in every language: nothing untranslated, nothing stale, and each browser gets its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.pages.languages import LANGUAGES, SOURCE, language, preferred
from hub.roles import Role
from hub.settings import Settings
from pacs.errors import MalformedData
from tests.hub.controller import eventually
from tests.hub.running import PASSWORD, RunningHub, running_hub, tap
from tests.hub.test_pages import stream_text
from tools import messages

PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[a-z]|%%")
TRANSLATED = [code for code in LANGUAGES if code != SOURCE]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("translations")) as running:
        running.door("front", "Front door")
        yield running


# -- catalogues -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", TRANSLATED)
def test_every_text_is_translated_and_none_is_stale(code: str) -> None:
    """What code and templates say is exactly what the catalogue translates; ``make messages`` lists the rest."""
    here = {str(each.id) for each in messages.messages(messages.extracted())}
    catalogue = messages.translated(code)
    there = {str(each.id) for each in messages.messages(catalogue)}
    assert sorted(here - there) == [], "new: run make messages and translate"
    assert sorted(there - here) == [], "no longer used: run make messages"
    assert messages.untranslated(catalogue) == []


@pytest.mark.parametrize("code", TRANSLATED)
def test_translations_keep_their_placeholders_and_spaces(code: str) -> None:
    """A translation fills in the same values, and ends as its text does."""
    for each in messages.messages(messages.translated(code)):
        source = each.id if isinstance(each.id, (tuple, list)) else (each.id,)
        target = each.string if isinstance(each.string, tuple) else (str(each.string),)
        assert len(target) == (1 if len(source) == 1 else 2), source
        for text, wanted in zip(target, source if len(source) == len(target) else source * 2, strict=False):
            assert sorted(PLACEHOLDER.findall(text)) == sorted(PLACEHOLDER.findall(wanted)), wanted
            assert text == text.strip(), wanted
            assert text[-1:] not in ".:" or wanted[-1:] == text[-1:], wanted


# -- which one ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("", None),
        ("nl", "nl"),
        ("nl-BE,fr;q=0.9", "nl"),
        ("fr,ar;q=0.8", None),
        ("de, en;q=0.5, nl;q=0.7", "nl"),
        ("en-GB;q=0.3 , nl ;q=0", "en"),
        ("nl;q=x, en;q=0.1", "en"),
        ("*", None),
    ],
)
def test_what_a_browser_prefers(accepted: str, expected: str | None) -> None:
    """By quality, then by place (RFC 9110 §12.5.4); a quality of 0 is a refusal."""
    assert preferred(accepted) == expected


@given(st.text())
def test_no_header_is_too_strange(accepted: str) -> None:
    """Whatever a browser sends, the answer is a language there is, or none."""
    assert preferred(accepted) in (None, *LANGUAGES)


def test_choice_before_browser_before_setting(tmp_path: Path) -> None:
    """A browser gets what was chosen there, else what it asks for, else what the hub is set to."""
    with running_hub(tmp_path, language="nl") as hub, hub.client(origin=hub.url) as browser:
        assert '<html lang="nl" dir="ltr">' in browser.get("/sign-in").text
        assert '<html lang="nl"' in browser.get("/sign-in", headers={"accept-language": "fr"}).text
        english = {"accept-language": "en-US,en;q=0.9"}
        assert '<html lang="en"' in browser.get("/sign-in", headers=english).text
        form = {"language": "nl", "next": "/sign-in?next=/cards"}
        chosen = browser.post("/language", data=form)
        assert (chosen.status_code, chosen.headers["location"]) == (303, "/sign-in?next=/cards")
        assert "samesite=strict" in chosen.headers["set-cookie"].lower()
        assert '<html lang="nl"' in browser.get("/sign-in", headers=english).text
        assert browser.post("/language", data=form | {"language": "tlh"}).status_code == 422
        assert browser.post("/language", data=form | {"next": "//evil.example"}).headers["location"] == "/"
        assert browser.post("/language", data=form, headers={"origin": "http://evil"}).status_code == 403
        browser.cookies.set("drempel_language", "../../etc")
        assert browser.get("/sign-in").status_code == 200


def test_a_language_that_is_not_there_cannot_be_set(tmp_path: Path) -> None:
    """The setting names one of the languages there are."""
    path = tmp_path / "hub.toml"
    path.write_text('data_dir = "data"\nlanguage = "tlh"\n')
    with pytest.raises(MalformedData, match="language"):
        Settings.from_toml(path)


# -- what is shown ------------------------------------------------------------------------------------


def test_pages_problems_and_stream_speak_dutch(hub: RunningHub) -> None:
    """One guard reads Dutch and another English, of the same events, refusals and failures."""
    credential = hub.card("Ama", "Mensah")
    tap(hub.controllers["front"], credential)
    hub.controllers["front"].until_acknowledged()
    with hub.signed_in(Role.GUARD) as dutch, hub.signed_in(Role.GUARD) as english:
        dutch.headers["accept-language"] = "nl-NL,nl;q=0.9,en;q=0.5"
        page = dutch.get("/").text
        for text in ("Deuren", "Toegelaten", "ingang", "Afmelden", "beveiliger"):
            assert text in page
        assert "Granted" in english.get("/").text
        missing = dutch.get("/nothing").text
        assert "Niet gevonden" in missing
        assert "Controleer het adres" in missing
        unknown = dutch.get("/cards/00000000-0000-4000-8000-000000000000").text
        assert re.search(r'<p lang="en">[^<]+</p>', unknown)
        assert "Toegelaten" in stream_text(dutch)
        assert "Granted" in stream_text(english)
    with hub.client(origin=hub.url) as stranger:
        form = {"name": "Nobody", "password": PASSWORD}
        refused = stranger.post("/sign-in", data=form, headers={"accept-language": "nl"})
        assert "De naam of het wachtwoord klopt niet." in refused.text


def test_the_stream_is_rendered_once_per_language(hub: RunningHub) -> None:
    """Two viewers who see the same share one variant."""
    variants = hub.app.state.variants
    assert set(variants) == {(code, names) for code in LANGUAGES for names in (False, True)}
    with hub.signed_in(Role.GUARD) as one, hub.signed_in(Role.GUARD) as two:
        feed = hub.app.state.services.feed
        with one.stream("GET", "/live/stream"), two.stream("GET", "/live/stream"):
            eventually(lambda: feed.viewers == 2, "both look")
            assert len({viewer.variant for viewer in feed._viewers}) == 1


@pytest.mark.parametrize(
    ("code", "passed", "expected"),
    [
        ("en", timedelta(seconds=-3), "1 sec. ago"),
        ("en", timedelta(minutes=40, seconds=59), "40 min. ago"),
        ("nl", timedelta(hours=3, minutes=59), "3 uur geleden"),
        ("nl", timedelta(days=6, hours=23), "6 dgn geleden"),
    ],
)
def test_ages_are_rounded_down(code: str, passed: timedelta, expected: str) -> None:
    """In the largest unit that fits, never in the future."""
    assert language(code).age(passed) == expected


def test_days_and_numbers_are_written_as_the_language_does() -> None:
    """The month in words, so that no day is read as a month; separators of the language."""
    day = datetime(2026, 3, 4, 17, 5, tzinfo=UTC)
    assert language("en").day_and_time(day) == "4 Mar 2026 17:05"
    assert language("nl").day_and_time(day) == "4 mrt 2026 17:05"
    assert language("nl").day(day, year=False) == "4 mrt"
    assert [language(code).weekday(0) for code in LANGUAGES] == ["Monday", "maandag"]
    assert [language(code).number(1234.5) for code in LANGUAGES] == ["1,234.5", "1.234,5"]
    assert [language(code).name for code in LANGUAGES] == ["English", "Nederlands"]
