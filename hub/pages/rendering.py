"""Templates to HTML: everything escaped, every text through gettext, every time on the site's clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from hub.api.access import CSRF_FIELD
from hub.api.services import Services, services
from hub.operators import Principal
from hub.pages import languages, words
from hub.pages.languages import LANGUAGES, Language
from hub.pages.static_files import FILES
from hub.pages.words import N_
from hub.roles import Permission, Role
from hub.store import attendance, sites
from hub.store.cardholders import Category
from hub.store.cards import CardStatus
from pacs.rules import DoorMode
from pacs.schedule import local_time, zone

NAVIGATION = (
    ("/", N_("Live"), Permission.EVENTS_READ),
    ("/attended", N_("At the door"), Permission.ATTENDED_ANSWER),
    ("/posts", N_("Posts"), Permission.ATTENDED_ANSWER),
    ("/events", N_("Events"), Permission.EVENTS_READ),
    ("/desk", N_("Desk"), Permission.DESK_IDENTIFY),
    ("/muster", N_("Roll call"), Permission.MOVEMENTS_READ),
    ("/registration", N_("Reporting in"), Permission.REGISTRATION_READ),
    ("/cards", N_("Cards"), Permission.CARDS_READ),
    ("/cardholders", N_("Cardholders"), Permission.CARDHOLDERS_READ),
    ("/issuing", N_("Issue cards"), Permission.CARDS_MANAGE),
    ("/imports", N_("Import people"), Permission.CARDHOLDERS_MANAGE),
    ("/doors", N_("Doors"), Permission.DOORS_READ),
    ("/door-rules", N_("Rules of doors"), Permission.DOORS_READ),
    ("/areas", N_("Areas"), Permission.DOORS_READ),
    ("/access-levels", N_("Access levels"), Permission.ACCESS_READ),
    ("/schedules", N_("Schedules"), Permission.ACCESS_READ),
    ("/holidays", N_("Holidays"), Permission.ACCESS_READ),
    ("/controllers", N_("Controllers"), Permission.CONTROLLERS_READ),
    ("/documents", N_("Documents at the doors"), Permission.DOORS_READ),
    ("/keys", N_("Keys"), Permission.CONTROLLERS_READ),
    ("/sites", N_("Sites"), Permission.DOORS_READ),
    ("/transfers", N_("Transfers of people"), Permission.CARDHOLDERS_READ),
    ("/statistics", N_("Statistics"), Permission.EVENTS_READ),
    ("/operators", N_("Operators"), Permission.OPERATORS_MANAGE),
    ("/audit", N_("Audit log"), Permission.AUDIT_READ),
    ("/retention", N_("Retention"), Permission.RETENTION_READ),
    ("/webhooks", N_("Webhooks"), Permission.WEBHOOKS_MANAGE),
)
GROUPS = (
    (
        N_("People"),
        ("/desk", "/cardholders", "/cards", "/issuing", "/imports", "/transfers", "/muster", "/registration"),
    ),
    (N_("Access"), ("/access-levels", "/schedules", "/holidays", "/door-rules", "/areas")),
    (N_("System"), ("/controllers", "/documents", "/keys", "/sites", "/webhooks")),
)
"""What stands together when there is more than a phone has room for; what is in no group and not ``FIRST`` is "More"."""
EVERYWHERE = ("/audit", "/webhooks", "/keys")
"""For those who see every site."""
FIRST = ("/", "/attended", "/muster", "/doors")
FLAT = 5
LANGUAGE_COOKIE = "drempel_language"
_TONES = {CardStatus.VALID: "good", CardStatus.SUSPENDED: "bad", CardStatus.REVOKED: "bad"}


class Pages:
    """The templates of one hub, in one language."""

    def __init__(self, hub: Services, language: Language) -> None:
        self._hub = hub
        self.language = language
        self.gettext = language.gettext
        self.ngettext = language.ngettext
        with hub.database.read() as connection:
            self._site = sites.get(connection, hub.home.id)
        self._environment = self._make_environment()

    def response(
        self,
        request: Request,
        template: str,
        principal: Principal | None,
        *,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        **context: Any,
    ) -> HTMLResponse:
        """A whole page for ``principal`` (None: nobody is signed in)."""
        html = self._environment.get_template(template).render(
            principal=principal,
            section=request.url.path,
            here=_address(request),
            csrf_field=lambda: _csrf_field(principal),
            menu=self._menu(principal),
            waiting_count=self._waiting_count(principal, request.url.path),
            **context,
        )
        return HTMLResponse(html, status_code, dict(headers or {}))

    def fragment(self, template: str, **context: Any) -> str:
        """A part of a page, without surrounding space."""
        return self._environment.get_template(f"fragments/{template}").render(context).strip()

    def whole(self, template: str, **context: Any) -> str:
        """A file that stands by itself."""
        return self._environment.get_template(template).render(context)

    def moment_in_full(self, at: datetime, time_zone: str = "") -> Markup:
        """A ``time`` element with date and time, for what is read later or elsewhere; on the home site's clock or another."""
        text = f"{local_time(at, time_zone or self._site.time_zone):%Y-%m-%d %H:%M:%S}"
        return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), text)

    def moment(self, at: datetime, time_zone: str = "") -> Markup:
        """A ``time`` element: the time of day, and the date unless it is today; on the home site's clock or another."""
        time_zone = time_zone or self._site.time_zone
        try:
            local = local_time(at, time_zone)
        except OverflowError:  # at the end of the calendar; somebody's clock is far out
            local = at
        today = local_time(self._hub.clock(), time_zone).date()
        if local.date() == today:
            text = f"{local:%H:%M:%S}"
        else:
            text = self.language.day_and_time(local, year=local.year != today.year)
        title = f"{local:%Y-%m-%d %H:%M:%S %Z}"
        return Markup('<time datetime="{}" title="{}">{}</time>').format(at.isoformat(), title, text)

    def typed_moment(self, at: datetime | None) -> str:
        """``at`` on the site's clock, as a browser's field for a day and a time holds it; empty: none."""
        return "" if at is None else f"{local_time(at, self._site.time_zone):%Y-%m-%dT%H:%M}"

    def read_moment(self, typed: str) -> datetime | None:
        """The moment that such a field says; None for an empty one. Raises ``ValueError``."""
        if not typed.strip():
            return None
        return datetime.fromisoformat(typed.strip()).replace(tzinfo=zone(self._site.time_zone), fold=0)

    def age(self, at: datetime) -> Markup:
        """How long ago, as a page that stays open keeps it up."""
        said = self.language.age(self._hub.clock() - at)
        return Markup('<span class="age" data-at="{}">{}</span>').format(at.isoformat(), said)

    def now(self) -> datetime:
        """This moment."""
        return self._hub.clock()

    def today(self) -> date:
        """The day it is on the site's clock."""
        return local_time(self._hub.clock(), self._site.time_zone).date()

    def _waiting_count(self, principal: Principal | None, path: str) -> int | None:
        """How many wait at attended doors, for the badge; None: on the page that lists them, and for who may not answer."""
        if principal is None or not principal.may(Permission.ATTENDED_ANSWER) or path == "/attended":
            return None
        with self._hub.database.read() as connection:
            return attendance.count_pending(connection, self._hub.clock(), principal.sites)

    def _menu(self, principal: Principal | None) -> list[tuple[str, list[tuple[str, str]]]]:
        """Heading and entries; no heading for those that always stand open."""
        entries = {
            address: self.gettext(label)
            for address, label, needed in NAVIGATION
            if principal is not None
            and principal.may(needed)
            and (address not in EVERYWHERE or principal.sites is None)
        }
        if len(entries) <= FLAT:
            return [("", list(entries.items()))]
        menu = [("", [(address, entries.pop(address)) for address in FIRST if address in entries])]
        for heading, addresses in GROUPS:
            found = [(address, entries.pop(address)) for address in addresses if address in entries]
            menu.append((self.gettext(heading), found))
        menu.append((self.gettext(N_("More")), list(entries.items())))
        return [(heading, found) for heading, found in menu if found]

    def _make_environment(self) -> Environment:
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).with_name("templates")),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            extensions=["jinja2.ext.i18n"],
        )
        gettext = self.gettext
        environment.install_gettext_callables(  # type: ignore[attr-defined]  # added by the extension
            gettext, self.ngettext, newstyle=True
        )
        environment.filters["moment"] = _on_the_clock_of_the_context(self.moment)
        environment.filters["moment_in_full"] = _on_the_clock_of_the_context(self.moment_in_full)
        environment.filters["age"] = self.age
        environment.filters["number"] = self.language.number
        environment.globals |= {
            "language": self.language,
            "languages": [languages.language(code) for code in LANGUAGES],
            "site_name": self._site.name,
            "time_zone": self._site.time_zone,
            "static": lambda name: FILES[name].address,
            "mode_text": words.spoken(words.MODES, DoorMode, gettext),
            "now": lambda: self._hub.clock().isoformat(),
            "role_text": words.spoken(words.ROLES, Role, gettext),
            "category_text": words.spoken(words.CATEGORIES, Category, gettext),
            "status_pill": self._status_pill,
            "version_text": self.version_text,
        }
        return environment

    def _status_pill(self, status: str) -> Markup:
        text = self.gettext(words.STATUSES[CardStatus(status)])
        return Markup('<span class="pill {}">{}</span>').format(_TONES[CardStatus(status)], text)

    def version_text(self, confirmed: int, newest: int) -> str:
        """Which version of a document is confirmed, beside the newest; 0: none."""
        if not newest:
            return self.gettext("none made yet")
        if not confirmed:
            return self.gettext("not confirmed yet (version %d is newest)") % newest
        if confirmed >= newest:
            return self.gettext("version %d, up to date") % confirmed
        return self.gettext("version %d; version %d not confirmed yet") % (confirmed, newest)


def _on_the_clock_of_the_context(
    shown: Callable[[datetime, str], Markup],
) -> Callable[[Context, datetime], Markup]:
    """A filter that goes by the ``time_zone`` of where it is used: the home site's, unless a template sets another."""

    @pass_context
    def moment(context: Context, at: datetime) -> Markup:
        return shown(at, context["time_zone"])

    return moment


def make_pages(hub: Services) -> Mapping[str, Pages]:
    """Language → the pages in it."""
    return {code: Pages(hub, languages.language(code)) for code in LANGUAGES}


def pages_of(request: Request) -> Pages:
    """The pages in the language of whoever asks: as they chose, else as their browser says, else as the hub is set."""
    every: Mapping[str, Pages] = request.app.state.pages_by_language
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    if chosen not in every:
        accepted = request.headers.get("accept-language", "")
        chosen = languages.preferred(accepted) or services(request).settings.language
    return every[chosen]


def _address(request: Request) -> str:
    """Where this page is, for coming back to it; that of a refused form is not one."""
    whole = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
    return whole if request.method == "GET" and len(whole) <= 200 else "/"


def _csrf_field(principal: Principal | None) -> Markup:
    token = principal.csrf_token if principal else None
    if token is None:
        return Markup()
    return Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, escape(token))
