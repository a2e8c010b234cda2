"""The printed card: its size, what stands on it in which script, and who may have it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import pytest

from hub.card_print import FONTS, BadAddress, Face, NoGlyph, TooLong, Unprintable, card_pdf
from hub.roles import Role
from tests.browser.furnished import portrait
from tests.hub.running import RunningHub, csrf_of, running_hub
from tests.hub.test_pages import text_of


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(
        tmp_path_factory.mktemp("print"), card_return_address="If found: post box 12"
    ) as running:
        yield running


def test_the_fonts_are_those_we_know() -> None:
    """Each file is the one whose hash is written beside it, with its licence."""
    said = dict(re.findall(r"`(\S+\.ttf)` \|.*`([0-9a-f]{64})`", (FONTS / "README.md").read_text("utf-8")))
    assert said == {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in FONTS.glob("*.ttf")}
    assert "Font Software" in (FONTS / "OFL.txt").read_text("utf-8")


@pytest.mark.parametrize("name", ["Wilhelmina", "Ağa-Şerîf", "سلام", "Երանուհի", "ሠላማዊት", "Ганна", "Ἑλένη"])
def test_a_name_is_printed_in_its_script(name: str) -> None:
    """One page of the card's size; the name is drawn, and stands in no text of the file."""
    made = card_pdf(Face(name=name, number="2734 b103", address="If found: post box 12"))
    assert re.search(rb"/MediaBox \[0 0 242\.65 153\.0[12]\]", made)
    assert made.count(b"/Type /Page\n") == 1
    assert name.encode() not in made
    assert len(made) < 200_000


def test_latin_letters_stand_below_the_name() -> None:
    """Two names are drawn where there are two, and the second is refused as the first is."""
    one, two = (card_pdf(Face(name="ሠላማዊት", latin=latin, number="1")) for latin in ("", "Selamawit"))
    assert (one.count(b"/Subtype /Image"), two.count(b"/Subtype /Image")) == (1, 2)
    with pytest.raises(TooLong):
        card_pdf(Face(name="ሠላማዊት", latin="W" * 60, number="1"))


@pytest.mark.parametrize(
    ("face", "why"),
    [
        (Face(name="王", number="1"), NoGlyph),
        (Face(name="Ama سلام", number="1"), NoGlyph),
        (Face(name=" ", number="1"), NoGlyph),
        (Face(name="A" * 80, number="1"), TooLong),
        (Face(name="Ama", number="1", address="王"), BadAddress),
        (Face(name="Ama", number="1", address="post box " * 40), BadAddress),
    ],
)
def test_what_cannot_be_printed_is_refused_by_name(face: Face, why: type[Unprintable]) -> None:
    """No boxes in the place of letters, and nothing that runs off the card."""
    with pytest.raises(why):
        card_pdf(face)


def test_a_card_is_printed_by_who_is_signed_in(hub: RunningHub) -> None:
    """Never kept by a browser, each print on record without the name; not for a program, a guard or a blocked card."""
    credential = hub.card("سلام", "Qasim")
    path = f"/issuing/cards/{credential}"
    with hub.token(Role.RECEPTION) as program:
        holder = program.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
        kind = {"content-type": "image/png"}
        put = program.put(f"/api/v1/cardholders/{holder}/photo", content=portrait(1), headers=kind)
        assert put.status_code == 204
        assert program.post(path, data={"name": "x"}).status_code == 422
    with hub.signed_in(Role.GUARD) as guard:
        assert guard.get(path).status_code == 403
    with hub.signed_in(Role.RECEPTION) as browser:
        page = browser.get(path)
        assert 'value="سلام"' in page.text
        form = {"csrf_token": csrf_of(page.text), "name": "سلام"}
        made = browser.post(path, data=form)
        assert (made.status_code, made.headers["content-type"]) == (200, "application/pdf")
        assert made.headers["cache-control"] == "no-store"
        assert made.content.startswith(b"%PDF-")
        assert b"/DCTDecode" in made.content  # the photograph
        refused = browser.post(path, data=form | {"name": "王"})
        assert (refused.status_code, "Write it in Latin letters" in text_of(refused.text)) == (422, True)
        assert browser.post(f"/cards/{credential}/block", data=form | {"name": ""}).status_code == 422
        block = {"csrf_token": form["csrf_token"], "status": "revoked", "reason": "found broken"}
        assert browser.post(f"/cards/{credential}/block", data=block).status_code == 303
        assert "blocked" in text_of(browser.post(path, data=form).text)
    with hub.token(Role.AUDITOR) as auditor:
        entries = auditor.get("/api/v1/audit", params={"limit": 20}).json()["entries"]
    assert [each["action"] for each in entries].count("card.print") == 1
    assert "سلام" not in str(entries)
