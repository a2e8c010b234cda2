"""Giving rights: links, roles, sites and tokens, through interface and pages; and reading what became of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from hub.api.problems import Code
from hub.operators import TOKEN_LIFETIME
from hub.roles import PERMISSIONS, Permission, Role
from hub.store import operators as rows
from pacs.identifiers import SiteId
from tests.hub.running import PASSWORD, RunningHub, csrf_of, running_hub
from tests.hub.test_api import problem

HERE, THERE = frozenset({SiteId("test-site")}), frozenset({SiteId("other")})


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("rights")) as running:
        with running.token() as admin:
            site = {"id": "other", "name": "Other site", "time_zone": "Europe/Amsterdam"}
            assert admin.post("/api/v1/sites", json=site).status_code == 201
        yield running


@pytest.fixture(scope="module")
def admin(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.token() as program:
        yield program


@pytest.fixture
def scoped(hub: RunningHub) -> Iterator[httpx.Client]:
    """An administrator of one site."""
    with hub.token(Role.ADMINISTRATOR, sites=HERE) as program:
        yield program


def somebody(hub: RunningHub, name: str, role: Role, sites: frozenset[SiteId] | None) -> str:
    """A new operator's id."""
    link = hub.operators.links.create(name=name, role=role, sites=sites, now=hub.clock())
    session = hub.operators.links.follow(link, name="", password=PASSWORD, now=hub.clock())
    principal = hub.operators.sessions.principal(session, hub.clock())
    assert principal is not None
    return principal.actor.removeprefix("operator:")


def followed(hub: RunningHub, answer: httpx.Response) -> tuple[Role, frozenset[SiteId] | None]:
    """Role and sites of who follows a link."""
    assert answer.status_code == 201, answer.text
    link = hub.operators.links.look_at(answer.json()["path"].removeprefix("/link/"), hub.clock())
    return Role(link.role), None if link.sites is None else frozenset(map(SiteId, link.sites))


def test_a_link_carries_role_and_sites(hub: RunningHub, admin: httpx.Client, scoped: httpx.Client) -> None:
    """Those that are named; else every site, or those that the maker sees."""
    path = "/api/v1/operators/links"
    assert followed(hub, admin.post(path, json={"role": "guard", "site_ids": ["other"]})) == (
        Role.GUARD,
        THERE,
    )
    assert followed(hub, admin.post(path, json={})) == (Role.GUARD, None)
    assert followed(hub, scoped.post(path, json={"role": "administrator"})) == (Role.ADMINISTRATOR, HERE)
    problem(admin.post(path, json={"site_ids": ["nowhere"]}), Code.NOT_FOUND)
    problem(admin.post(path, json={"site_ids": []}), Code.INVALID)


def test_nobody_gives_more_than_they_have(hub: RunningHub, scoped: httpx.Client) -> None:
    """Not other sites, not every site, not through somebody who has more, not by a narrowed token."""
    above = somebody(hub, "Everywhere", Role.GUARD, None)
    both = somebody(hub, "Both", Role.GUARD, HERE | THERE)
    mine = somebody(hub, "Mine", Role.GUARD, HERE)
    links, tokens = "/api/v1/operators/links", "/api/v1/tokens"
    problem(scoped.post(links, json={"site_ids": ["other"]}), Code.BEYOND_OWN_RIGHTS)
    problem(scoped.post(links, json={"site_ids": ["test-site", "other"]}), Code.BEYOND_OWN_RIGHTS)
    for role in ({}, {"role": "guard"}, {"role": "auditor"}):  # what they are is nobody's business elsewhere
        problem(scoped.post(links, json={"name": "Everywhere"} | role), Code.NOT_FOUND)
    token = {"name": "more", "role": "guard"}
    problem(scoped.post(tokens, json=token | {"site_ids": ["other"]}), Code.BEYOND_OWN_RIGHTS)
    for other in (above, both):
        for change in ({"disabled": True}, {"role": "guard"}, {"site_ids": ["test-site"]}):
            problem(scoped.patch(f"/api/v1/operators/{other}", json=change), Code.NOT_FOUND)
        problem(scoped.post(f"/api/v1/operators/{other}/end-sessions"), Code.NOT_FOUND)
    for beyond in (None, ["other"]):
        answer = scoped.patch(f"/api/v1/operators/{mine}", json={"site_ids": beyond})
        problem(answer, Code.BEYOND_OWN_RIGHTS)
    narrowed = hub.operators.tokens.create(
        name="narrowed",
        role=Role.ADMINISTRATOR,
        permissions=[Permission.OPERATORS_MANAGE],
        lifetime=None,
        now=hub.clock(),
    )
    with hub.client(authorization=f"Bearer {narrowed}") as program:
        problem(program.post(links, json={"role": "guard"}), Code.BEYOND_OWN_RIGHTS)
        problem(program.post(tokens, json=token), Code.BEYOND_OWN_RIGHTS)
        problem(program.get("/api/v1/doors"), Code.NOT_PERMITTED)


def test_who_manages_one_site_sees_its_people_only(
    hub: RunningHub, admin: httpx.Client, scoped: httpx.Client
) -> None:
    """Operators and tokens of other sites, and of every site, are not in the lists."""
    somebody(hub, "Seen", Role.GUARD, HERE)
    somebody(hub, "Unseen", Role.GUARD, THERE)
    names = {each["name"] for each in scoped.get("/api/v1/operators").json()["operators"]}
    assert "Seen" in names
    assert not names & {"Unseen", "Everywhere"}
    assert {"Seen", "Unseen"} <= {each["name"] for each in admin.get("/api/v1/operators").json()["operators"]}
    hub.operators.tokens.create(name="theirs", role=Role.GUARD, lifetime=None, now=hub.clock(), sites=THERE)
    assert "theirs" not in {each["name"] for each in scoped.get("/api/v1/tokens").json()["tokens"]}
    problem(scoped.delete("/api/v1/tokens/theirs"), Code.NOT_FOUND)


def test_rights_change_at_once(hub: RunningHub, admin: httpx.Client) -> None:
    """Role and sites of a session that is open; disabling ends it, and nobody does it to themselves."""
    operator = somebody(hub, "Changing", Role.GUARD, None)
    token = hub.operators.sessions.sign_in("Changing", PASSWORD, hub.clock())
    path = f"/api/v1/operators/{operator}"
    answer = admin.patch(path, json={"role": "auditor", "site_ids": ["other"]})
    assert (answer.json()["role"], answer.json()["site_ids"]) == ("auditor", ["other"])
    principal = hub.operators.sessions.principal(token, hub.clock())
    assert principal is not None
    assert (principal.role, principal.sites) == (Role.AUDITOR, THERE)
    assert admin.patch(path, json={"role": "guard"}).json()["site_ids"] == ["other"]
    assert admin.post(f"{path}/end-sessions").status_code == 204
    assert hub.operators.sessions.principal(token, hub.clock()) is None
    assert admin.patch(path, json={"disabled": True}).json()["disabled_at"]
    with hub.signed_in() as browser:
        headers = {"x-csrf-token": csrf_of(browser.get("/account").text)}
        me = hub.operators.sessions.principal(browser.cookies["drempel"], hub.clock())
        assert me is not None
        mine = f"/api/v1/operators/{me.actor.removeprefix('operator:')}"
        problem(browser.patch(mine, json={"role": "guard"}, headers=headers), Code.BEYOND_OWN_RIGHTS)
        problem(browser.patch(mine, json={"disabled": True}, headers=headers), Code.BEYOND_OWN_RIGHTS)


def test_a_token_has_scope_expiry_and_last_use(hub: RunningHub, admin: httpx.Client) -> None:
    """Ninety days unless said otherwise, a warning for never; listed without the secret; revoked at once."""
    body: dict[str, Any] = {
        "name": "board",
        "role": "auditor",
        "permissions": ["events.read"],
        "site_ids": ["other"],
    }
    made = admin.post("/api/v1/tokens", json=body)
    assert made.status_code == 201, made.text
    token = made.json()["token"]
    assert made.json()["warnings"] == []

    def listed(name: str) -> dict[str, Any]:
        answer = admin.get("/api/v1/tokens")
        assert token not in answer.text
        found: dict[str, Any] = next(each for each in answer.json()["tokens"] if each["name"] == name)
        return found

    assert listed("board")["last_used_at"] is None
    with hub.client(authorization=f"Bearer {token}") as program:
        assert program.get("/api/v1/events").status_code == 200
        problem(program.get("/api/v1/doors"), Code.NOT_PERMITTED)
        row = listed("board")
        assert (row["permissions"], row["site_ids"], row["revoked_at"]) == (["events.read"], ["other"], None)
        assert row["last_used_at"]
        hub.clock.ahead += TOKEN_LIFETIME - timedelta(minutes=1)
        assert program.get("/api/v1/events").status_code == 200
        hub.clock.ahead += timedelta(minutes=2)
        problem(program.get("/api/v1/events"), Code.NOT_SIGNED_IN)
        hub.clock.ahead -= TOKEN_LIFETIME + timedelta(minutes=1)
        assert [admin.delete("/api/v1/tokens/board").status_code for _ in range(2)] == [204, 204]
        problem(program.get("/api/v1/events"), Code.NOT_SIGNED_IN)
    problem(admin.post("/api/v1/tokens", json=body), Code.ALREADY_EXISTS)
    problem(admin.delete("/api/v1/tokens/nobody"), Code.NOT_FOUND)
    never = admin.post("/api/v1/tokens", json={"name": "forever", "role": "guard", "expires_in_days": None})
    assert never.json()["warnings"]
    assert listed("forever")["expires_at"] is None
    beyond = {"name": "x", "role": "guard", "permissions": ["audit.read"]}
    problem(admin.post("/api/v1/tokens", json=beyond), Code.INVALID)


def test_the_page_makes_links_and_tokens_and_changes_people(hub: RunningHub) -> None:
    """As the interface does; a secret is shown once, and what is refused is said on the page."""
    operator = somebody(hub, "Paged", Role.GUARD, None)
    with hub.signed_in() as browser:
        token = csrf_of(browser.get("/operators").text)

        def post(path: str, **form: Any) -> httpx.Response:
            return browser.post(f"/operators{path}", data={"csrf_token": token} | form)

        made = post("/links", name="Newcomer", role="reception", site="other")
        path = re.search(r"/link/[\w-]+", made.text)
        assert path is not None
        link = hub.operators.links.look_at(path[0].removeprefix("/link/"), hub.clock())
        assert (link.name, link.role, link.sites) == ("Newcomer", "reception", ["other"])
        again = post("/links", name="Paged", role="administrator")
        path = re.search(r"/link/[\w-]+", again.text)
        assert path is not None
        assert hub.operators.links.look_at(path[0].removeprefix("/link/"), hub.clock()).role == "guard"
        shown = post("/tokens", name="pager", role="auditor", days="30")
        secret = re.search(r"drempel_[\w-]+", shown.text)
        assert secret is not None
        assert hub.operators.tokens.principal(secret[0], hub.clock()) is not None
        assert secret[0] not in browser.get("/operators").text
        assert post("/tokens", name="pager", role="auditor", days="30").status_code == 422
        assert post("/tokens/pager/revoke").status_code == 303
        assert hub.operators.tokens.principal(secret[0], hub.clock()) is None
        assert post(f"/{operator}/rights", role="technician", site="other").status_code == 303
        for state in ("signed_out", "disabled", "enabled"):
            assert post(f"/{operator}/state", state=state).status_code == 303
    with hub.database.read() as connection:
        row = rows.operator_by_id(connection, operator)
    assert row is not None
    assert (row.role, row.sites, row.disabled_at) == ("technician", ["other"], None)


def test_the_page_offers_no_more_than_one_has(hub: RunningHub) -> None:
    """Of other sites neither people nor choices; what is forged all the same is refused on the page."""
    with hub.signed_in(Role.ADMINISTRATOR, sites=HERE) as browser:
        page = browser.get("/operators").text
        assert "Unseen" not in page
        assert "Other site" not in page
        form = {"csrf_token": csrf_of(page), "role": "guard", "site": "other", "name": "Sly"}
        answer = browser.post("/operators/links", data=form)
        assert answer.status_code == 422
        assert "more than your own role" in answer.text


def test_a_guards_desk_is_not_locked_out_by_somebody_at_the_next_one(hub: RunningHub) -> None:
    """From the same address: a stranger uses up every try, and the guard's own browser signs in all the same."""
    somebody(hub, "Desk guard", Role.GUARD, None)
    form = {"name": "Desk guard", "password": PASSWORD}
    with hub.client(origin=hub.url) as guard, hub.client(origin=hub.url) as stranger:
        signed_in = guard.post("/sign-in", data=form)
        cookie = next(each for each in signed_in.headers.get_list("set-cookie") if "drempel-browser=" in each)
        for attribute in ("httponly", "samesite=strict", "path=/", "max-age=15552000"):
            assert attribute in cookie.lower()
        guard.post("/sign-out")
        for _ in range(40):
            stranger.post("/sign-in", data=form | {"password": "wrong"})
        assert stranger.post("/sign-in", data=form).status_code == 429
        assert guard.post("/sign-in", data=form).status_code == 303
        guard.post("/sign-out")
        for _ in range(10):
            assert guard.post("/sign-in", data=form | {"password": "wrong"}).status_code == 403
        assert guard.post("/sign-in", data=form).status_code == 429


# -- the audit log ----------------------------------------------------------------------------------


def test_the_audit_log_is_filtered(hub: RunningHub, admin: httpx.Client) -> None:
    """By actor, action, subject and time; each finds what it names and nothing else."""
    operator = somebody(hub, "Audited", Role.GUARD, None)
    subject = f"operator:{operator}"
    hub.operators.set_disabled(operator, disabled=True, now=hub.clock())

    def found(**wanted: str) -> list[dict[str, Any]]:
        answer = admin.get("/api/v1/audit", params=wanted)
        assert answer.status_code == 200, answer.text
        entries: list[dict[str, Any]] = answer.json()["entries"]
        return entries

    assert {each["subject"] for each in found(subject=subject)} == {subject}
    assert [each["action"] for each in found(subject=subject, actor="system")] == ["operator.disable"]
    assert {each["action"] for each in found(action="operator.disable")} == {"operator.disable"}
    moment = found(subject=subject, action="operator.disable")[0]["at"]
    assert [each["action"] for each in found(subject=subject, since=moment)] == ["operator.disable"]
    assert "operator.disable" not in {each["action"] for each in found(subject=subject, until=moment)}
    problem(admin.get("/api/v1/audit", params={"since": "yesterday"}), Code.INVALID)


def test_an_auditor_sees_who_was_shown_whose_movements(hub: RunningHub) -> None:
    """On the page, with the reason and how many; the log is verified there, and a changed one is said to be."""
    credential = hub.card("Ama", "Mensah")
    with hub.token(Role.GUARD) as guard:
        params = {"credential": str(credential), "reason": "A <b>lost</b> bag"}
        assert guard.get("/api/v1/events", params=params).status_code == 200
    with hub.signed_in(Role.AUDITOR) as auditor, hub.token(Role.AUDITOR) as program:
        page = auditor.get(
            "/audit", params={"action": "movements.read", "since": "2020-01-01", "until": "x"}
        ).text
        assert f"card:{credential}" in page
        assert "A &lt;b&gt;lost&lt;/b&gt; bag" in page
        assert "shown 0" in page
        assert "Ama" not in page
        assert "No such entry" in auditor.get("/audit", params={"until": "2020-01-01"}).text
        assert "Every entry is the one" in auditor.get("/audit", params={"verify": True}).text
        whole = program.get("/api/v1/audit/verification").json()
        assert (whole["is_whole"], whole["problem"]) == (True, None)
        with hub.database.write() as connection:
            connection.exec_driver_sql("UPDATE audit SET reason = 'x' || reason WHERE id = 2")
        broken = program.get("/api/v1/audit/verification").json()
        assert (broken["is_whole"], "entry 2 was changed" in broken["problem"]) == (False, True)
        assert "entry 2 was changed" in auditor.get("/audit", params={"verify": True}).text
        with hub.database.write() as connection:
            connection.exec_driver_sql("UPDATE audit SET reason = substr(reason, 2) WHERE id = 2")


@pytest.mark.parametrize("role", list(Role))
def test_the_menu_leads_only_where_one_may_go(hub: RunningHub, role: Role) -> None:
    """Each page that the menu offers opens; the account is everybody's; the audit log is not for one site."""
    with hub.signed_in(role) as browser, hub.signed_in(role, sites=HERE) as scoped:
        for session in (browser, scoped):
            page = session.get("/account")
            assert page.status_code == 200
            menu = re.findall(r'<li><a href="(/[\w-]*)"', page.text)
            assert all(session.get(address).status_code == 200 for address in menu), menu
            offered = Permission.AUDIT_READ in PERMISSIONS[role] and session is browser
            assert ("/audit" in menu) is offered
