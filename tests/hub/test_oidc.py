"""Signing in by an OpenID provider: whom it lets in, and everything that is not an answer."""

from __future__ import annotations

import html
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey

from hub.__main__ import main
from hub.oidc import REQUEST_LIFETIME
from hub.oidc_provider import LEEWAY_S, OidcSettings
from hub.oidc_provider import Provider as ProviderClient
from hub.operators import SignInRefused
from hub.pages.oidc import CALLBACK
from hub.roles import Role
from hub.store import audit
from hub.store import oidc as rows
from hub.store import operators as operator_rows
from pacs.errors import MalformedData
from pacs.identifiers import SiteId
from provisioning.site import create_site
from tests.hub.openid import ANOTHERS, CLIENT, KEYS, SECRET, Provider, openid_provider
from tests.hub.running import PASSWORD, RunningHub, csrf_of, running_hub

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def running_provider() -> Iterator[Provider]:
    with openid_provider() as provider:
        yield provider


@pytest.fixture
def provider(running_provider: Provider) -> Iterator[Provider]:
    yield running_provider
    running_provider.honest()


@pytest.fixture(scope="module")
def hub(running_provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    directory = tmp_path_factory.mktemp("oidc")
    with (
        running_hub(
            directory, port=port, origin=f"http://127.0.0.1:{port}", oidc=running_provider.settings()
        ) as running,
        running.signed_in(Role.ADMINISTRATOR),
    ):
        yield running


@pytest.fixture(autouse=True)
def _nobody_tried_before(hub: RunningHub) -> None:
    hub.app.state.services.attempts._limiter.storage.reset()


@pytest.fixture
def visitor(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.client(origin=hub.url) as client:
        yield client


def onward(page: httpx.Response) -> str:
    """Where a page leads on to by itself."""
    assert page.status_code == 200, page.text
    found = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', page.text)
    assert found is not None, page.text
    return html.unescape(found[1])


def asked(browser: httpx.Client, path: str = "/sign-in/oidc", **form: str) -> str:
    """The address to which the hub sends the browser."""
    if path.startswith("/account"):
        form["csrf_token"] = csrf_of(browser.get("/account").text)
    return onward(browser.post(path, data=form))


def answered(address: str) -> str:
    """Where the provider sends the browser back to."""
    return httpx.get(address).headers["location"]


def came_back(browser: httpx.Client, address: str) -> httpx.Response:
    """What the hub says in the end."""
    page = browser.get(address, headers={"sec-fetch-site": "cross-site"})
    assert "set-cookie" not in page.headers
    return browser.get(onward(page))


def went(browser: httpx.Client, path: str = "/sign-in/oidc", **form: str) -> httpx.Response:
    """The whole way."""
    return came_back(browser, answered(asked(browser, path, **form)))


def connected(hub: RunningHub, provider: Provider, subject: str, role: Role = Role.GUARD) -> str:
    """The id of an operator whose account at the provider is ``subject``."""
    provider.subject = subject
    with hub.signed_in(role) as browser:
        assert went(browser, "/account/oidc").status_code == 303
        return id_of(hub, browser)


def id_of(hub: RunningHub, browser: httpx.Client) -> str:
    principal = hub.operators.sessions.principal(browser.cookies["drempel"], hub.clock())
    assert principal is not None
    return principal.actor.removeprefix("operator:")


def entries(hub: RunningHub, subject: str) -> list[tuple[str, dict[str, Any]]]:
    with hub.database.read() as connection:
        wanted = audit.Wanted(subject=f"operator:{subject}")
        found = audit.page(connection, before=None, limit=5, wanted=wanted)
        return [(each.action, dict(each.detail)) for each in found]


def refused(hub: RunningHub, answer: httpx.Response, why: str, subject: str = "unknown") -> None:
    """Said on the page and in the audit log, and nobody is signed in."""
    assert answer.status_code == 403, answer.text
    assert f">{why}</span>" in answer.text
    assert "set-cookie" not in answer.headers
    action, detail = entries(hub, subject)[0]
    assert (action, detail["why"]) == ("oidc.refuse", why)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_an_account_that_was_connected_signs_in(
    hub: RunningHub, provider: Provider, visitor: httpx.Client, algorithm: str
) -> None:
    """Where one was going, with the hub's own role whatever the claims say; shown on the pages and in the log."""
    provider.algorithm = algorithm
    operator_id = connected(hub, provider, f"of-{algorithm}")
    answer = went(visitor, next="/doors")
    assert (answer.status_code, answer.headers["location"]) == (303, "/doors")
    assert id_of(hub, visitor) == operator_id
    principal = hub.operators.sessions.principal(visitor.cookies["drempel"], hub.clock())
    assert principal is not None
    assert principal.role is Role.GUARD
    assert [action for action, _ in entries(hub, operator_id)][:2] == ["session.open_by_oidc", "oidc.connect"]
    assert "Your account there signs you in here" in visitor.get("/account").text
    with hub.signed_in(Role.ADMINISTRATOR) as administrator:
        assert "password, Agency login" in administrator.get("/operators").text
        ways = [each["signs_in_by"] for each in administrator.get("/api/v1/operators").json()["operators"]]
        assert {"password": True, "passkeys": 0, "provider": True} in ways
    sent = provider.seen[-1]
    assert (sent["prompt"], sent["scope"]) == ("login", "openid")
    assert sent["redirect_uri"] == hub.settings.public_origin + CALLBACK


def test_nobody_is_made_an_operator_by_having_an_account(
    hub: RunningHub, provider: Provider, visitor: httpx.Client
) -> None:
    """Unknown is refused, and told the next step; disabled is refused by its own name."""
    provider.subject = "somebody-else"
    answer = went(visitor)
    refused(hub, answer, "account_unknown")
    assert "Ask an administrator for a one-time link" in answer.text
    assert "somebody-else" not in str(entries(hub, "unknown"))
    operator_id = connected(hub, provider, "dismissed")
    hub.operators.set_disabled(operator_id, disabled=True, now=hub.clock())
    refused(hub, went(visitor), "operator_disabled", operator_id)


def test_a_link_ends_in_an_account_instead_of_a_password(
    hub: RunningHub, provider: Provider, visitor: httpx.Client
) -> None:
    """Role and sites of the link, the name that was chosen; the link is used up, and the account signs in later."""
    provider.subject = "invited"
    link = hub.link(Role.RECEPTION)
    assert "Sign in with Agency login instead" in visitor.get(link).text
    taken = visitor.post(f"{link}/oidc", data={"name": "\u0000"})
    assert taken.status_code == 422
    assert f'action="{link}"' in taken.text
    assert went(visitor, f"{link}/oidc", name="Invited guest").status_code == 303
    principal = hub.operators.sessions.principal(visitor.cookies["drempel"], hub.clock())
    assert principal is not None
    assert (principal.name, principal.role) == ("Invited guest", Role.RECEPTION)
    assert visitor.get(link).status_code == 403
    with hub.client(origin=hub.url) as later:
        assert went(later).status_code == 303


def test_a_link_for_somebody_known_replaces_every_older_way_in(
    hub: RunningHub, provider: Provider, visitor: httpx.Client
) -> None:
    """Whoever knew the old password, or had a session, is out; and a password chosen by link forgets the account."""
    with hub.signed_in(Role.GUARD) as old:
        operator_id = id_of(hub, old)
        with hub.database.read() as connection:
            known = operator_rows.operator_by_id(connection, operator_id)
        assert known is not None
        name = known.name
        provider.subject = "returning"
        assert went(visitor, hub.link(Role.GUARD, name) + "/oidc").status_code == 303
        assert old.get("/").status_code == 303
        assert visitor.post("/sign-in", data={"name": name, "password": PASSWORD}).status_code == 403
    again = visitor.post(hub.link(Role.GUARD, name), data={"password": PASSWORD})
    assert again.status_code == 303
    visitor.cookies.clear()
    refused(hub, went(visitor), "account_unknown")


def test_an_account_belongs_to_one_operator(
    hub: RunningHub, provider: Provider, visitor: httpx.Client
) -> None:
    """Connected to another, it is refused to who is signed in, and a link stays usable."""
    connected(hub, provider, "shared")
    with hub.signed_in(Role.GUARD) as other:
        refused(hub, went(other, "/account/oidc"), "account_taken", id_of(hub, other))
    link = hub.link(Role.GUARD)
    refused(hub, went(visitor, f"{link}/oidc", name="Second of two"), "account_taken", owner(hub, "shared"))
    assert visitor.get(link).status_code == 200


def owner(hub: RunningHub, subject: str) -> str:
    with hub.database.read() as connection:
        known = rows.identity(connection, hub.settings.oidc.issuer, subject)
    assert known is not None
    return known.operator_id


def test_an_account_is_disconnected_unless_it_is_all_there_is(
    hub: RunningHub, provider: Provider, visitor: httpx.Client
) -> None:
    """Nobody locks themselves out by a button; what was disconnected opens nothing."""
    provider.subject = "only-this"
    went(visitor, hub.link(Role.GUARD) + "/oidc", name="Has only this")
    token = {"csrf_token": csrf_of(visitor.get("/account").text)}
    answer = visitor.post("/account/oidc/remove", data=token)
    assert answer.status_code == 403
    assert "last_way_in" in answer.text
    connected(hub, provider, "leaving")
    with hub.client(origin=hub.url) as leaving:
        assert went(leaving).status_code == 303
        token = {"csrf_token": csrf_of(leaving.get("/account").text)}
        assert leaving.post("/account/oidc/remove", data=token).status_code == 303
        assert "Connect your account there" in leaving.get("/account").text
    with hub.client(origin=hub.url) as again:
        refused(hub, went(again), "account_unknown")
    command = ["operator", "oidc", "remove", "Has only this", "--data-dir", str(hub.settings.data_dir)]
    assert [CliRunner().invoke(main, command).output for _ in range(2)] == ["removed\n", "there was none\n"]


def test_connecting_needs_the_session_that_began_it(hub: RunningHub, provider: Provider) -> None:
    """Signed out meanwhile, or somebody else by now: nothing is connected."""
    provider.subject = "late"
    with hub.signed_in(Role.GUARD) as browser, hub.signed_in(Role.GUARD) as other:
        operator_id = id_of(hub, browser)
        back = answered(asked(browser, "/account/oidc"))
        browser.cookies.set("drempel", other.cookies["drempel"])
        refused(hub, came_back(browser, back), "session_over", operator_id)


def test_a_state_is_answered_once_in_time_and_by_the_browser_that_began(
    hub: RunningHub, provider: Provider, visitor: httpx.Client
) -> None:
    """Replayed, late, another's or invented: each by its name, and nothing is asked of the provider."""
    connected(hub, provider, "punctual")
    back = answered(asked(visitor))
    assert came_back(visitor, back).status_code == 303
    visitor.cookies.delete("drempel")
    refused(hub, came_back(visitor, back), "state_used")
    before = len(entries(hub, "unknown"))
    unknown = came_back(visitor, back)
    assert "state_unknown" in unknown.text
    assert len(entries(hub, "unknown")) == before
    back = answered(asked(visitor))
    hub.clock.ahead += REQUEST_LIFETIME
    late = came_back(visitor, back)
    hub.clock.ahead -= REQUEST_LIFETIME
    refused(hub, late, "state_expired")
    back = answered(asked(visitor))
    with hub.client(origin=hub.url) as victim:
        refused(hub, came_back(victim, back), "other_browser")
        assert "state_unknown" in came_back(victim, f"{back.partition('?')[0]}?state=x&code=y").text


def test_two_tabs_may_sign_in_at_once(hub: RunningHub, provider: Provider, visitor: httpx.Client) -> None:
    """What was begun in one tab is not lost by beginning in another."""
    connected(hub, provider, "busy-hands")
    first, second = asked(visitor), asked(visitor)
    assert [came_back(visitor, answered(each)).status_code for each in (first, second)] == [303, 303]


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "wrong nonce": ({"claims": {"nonce": "another"}}, "token_nonce"),
    "no nonce": ({"claims": {"nonce": None}}, "token_nonce"),
    "for another client": ({"claims": {"aud": "payroll"}}, "token_aud"),
    "for another, by us": ({"claims": {"aud": "payroll", "azp": CLIENT}}, "token_aud"),
    "for others, too": ({"claims": {"aud": [CLIENT, "payroll"]}}, "token_azp"),
    "from another": ({"claims": {"iss": "https://evil.example"}}, "token_iss"),
    "expired": ({"claims": {"exp": 1_700_000_000}}, "token_expired"),
    "without end": ({"claims": {"exp": None}}, "token_claim"),
    "of tomorrow": ({"claims": {"iat": 4_000_000_000}}, "token_claim"),
    "nobody's": ({"claims": {"sub": ""}}, "token_subject"),
    "endless": ({"claims": {"sub": "x" * 256}}, "token_subject"),
    "unprintable": ({"claims": {"sub": "a\u0000b"}}, "token_subject"),
    "another's key": ({"key": ANOTHERS}, "token_invalid"),
    "alg none": ({"algorithm": "none"}, "token_invalid"),
    "a shared secret": ({"algorithm": "HS256"}, "token_invalid"),
    "no token": ({"token_answer": (200, {"access_token": "x"})}, "token_invalid"),
    "no JSON": ({"token_answer": (200, "x")}, "provider_error"),
    "a code used before": ({"token_answer": (400, {"error": "invalid_grant"})}, "provider_error"),
    "broken": ({"token_answer": (503, {})}, "provider_unreachable"),
    "mixed up": ({"returned": {"iss": "https://evil.example"}}, "issuer_mismatch"),
    "iss left out": (
        {"described": {"authorization_response_iss_parameter_supported": True}},
        "issuer_mismatch",
    ),
    "denied": ({"returned": {"error": "access_denied"}}, "provider_refused"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_provider_could_lie_about_opens_nothing(
    hub: RunningHub, provider: Provider, visitor: httpx.Client, lie: str
) -> None:
    """Each is refused by its own name; the next honest answer is believed."""
    said, why = LIES[lie]
    if lie == "wrong nonce":
        connected(hub, provider, "lied-about")
    provider.subject = "lied-about"
    vars(provider).update(said)
    refused(hub, went(visitor), why)
    provider.honest()
    provider.subject = "lied-about"
    assert went(visitor).status_code == 303


def test_a_description_that_is_not_the_issuers_is_refused(
    hub: RunningHub, provider: Provider, visitor: httpx.Client
) -> None:
    """Another issuer, or an endpoint that would be reached without encryption, is an error before anybody is sent there."""
    for wrong in (
        {"issuer": provider.url + "/"},
        {"token_endpoint": "http://login.example.org/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": f"{provider.url}/'><script>"},
        {"jwks_uri": None},
    ):
        provider.described = wrong
        answer = visitor.post("/sign-in/oidc")
        assert answer.status_code == 403
        assert "provider_error" in answer.text


def test_who_brings_another_sites_answer_is_not_signed_in(
    hub: RunningHub, provider: Provider, visitor: httpx.Client
) -> None:
    """A page elsewhere can neither begin a sign-in nor finish its own in somebody's browser; what it says is not believed."""
    assert visitor.post("/sign-in/oidc", headers={"origin": "https://evil.example"}).status_code == 403
    nasty = {"state": '"><script>', "code": "';url=//evil", "error": "<b>"}
    page = visitor.get(CALLBACK, params=nasty)
    target = urlsplit(onward(page))
    assert (target.netloc, target.path) == ("", "/sign-in/oidc/finish")
    assert dict(parse_qsl(target.query)) == nasty
    assert "<script>" not in page.text
    assert visitor.get(f"{CALLBACK}?{urlencode({'code': 'x' * 5000})}").status_code == 422


def test_beginning_is_bounded_by_source(hub: RunningHub, provider: Provider) -> None:
    """As challenges for passkeys are, and with them."""
    attempts = hub.app.state.services.attempts
    for _ in range(60):
        attempts.count_challenge("192.0.2.7")
    with pytest.raises(Exception, match="Too many"):
        attempts.count_challenge("192.0.2.7")


def test_local_accounts_work_while_the_provider_is_away(tmp_path: Any, capsys: Any) -> None:
    """The hub starts without it, says what to do, and a password signs in; its secret is in no log."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port, nobody = free.getsockname()[1], free.getsockname()[1]
    oidc = OidcSettings(issuer=f"http://127.0.0.1:{nobody}/x", client_id=CLIENT, client_secret=SECRET)
    with running_hub(tmp_path, oidc=oidc, origin=f"http://127.0.0.1:{port}") as hub:
        with hub.signed_in(Role.GUARD, "Night desk"):
            pass
        with hub.client(origin=hub.url) as visitor:
            assert "Sign in with 127.0.0.1" in visitor.get("/sign-in").text
            answer = visitor.post("/sign-in/oidc", data={"next": "/doors"})
            assert answer.status_code == 403
            assert "cannot be reached. Sign in another way" in answer.text
            assert 'name="next" value="/doors"' in answer.text
            form = {"name": "Night desk", "password": PASSWORD}
            assert visitor.post("/sign-in", data=form).status_code == 303
    said = capsys.readouterr()
    assert "oidc_provider_unreachable" in said.out + said.err
    assert SECRET not in said.out + said.err


def test_a_hub_without_a_provider_has_no_such_way(tmp_path: Any) -> None:
    """No button, and nothing answers."""
    with running_hub(tmp_path) as hub, hub.signed_in(Role.GUARD) as browser:
        token = {"csrf_token": csrf_of(browser.get("/account").text)}
        assert "oidc" not in browser.get("/account").text
        assert browser.post("/account/oidc", data=token).status_code == 404
        assert browser.post("/sign-in/oidc").status_code == 404
        assert browser.get(CALLBACK).status_code == 404


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"issuer": "https://login.example.org"}, "give both"),
        ({"client_id": "hub"}, "give both"),
        ({"issuer": "http://login.example.org", "client_id": "hub"}, "http for this machine only"),
        ({"issuer": "https://u:p@login.example.org", "client_id": "hub"}, "an address"),
        ({"issuer": "login.example.org", "client_id": "hub"}, "an address"),
        ({"scopes": ("email",)}, "openid"),
    ],
)
def test_settings_that_cannot_work_are_refused(said: dict[str, Any], named: str) -> None:
    """When the hub starts, saying which."""
    with pytest.raises(MalformedData, match=named):
        OidcSettings(**said)


def test_files_that_cannot_be_used_stop_the_hub_with_a_sentence(tmp_path: Path) -> None:
    """A secret that others may read, or authorities that are none, are named by the command."""
    site = create_site(tmp_path / "site", SiteId("test-site"), now=NOW)
    loose = tmp_path / "secret"
    loose.write_text(SECRET)
    loose.chmod(0o644)
    for key, said in (("client_secret_file", "only its owner may read it"), ("ca_file", "oidc.ca_file")):
        written = tmp_path / "hub.toml"
        written.write_text(
            f'site_dir = "{site.directory / "hub"}"\ndata_dir = "{tmp_path / "data"}"\n[http]\nlisten = "127.0.0.1:0"\n'
            f'[oidc]\nissuer = "https://login.example.org"\nclient_id = "{CLIENT}"\n{key} = "{loose}"\n'
        )
        program = [sys.executable, "-m", "hub", "run", "--config", str(written)]
        ran = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 1
        assert said in ran.stderr
        assert SECRET not in ran.stdout + ran.stderr


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEY = st.dictionaries(st.sampled_from(["kty", "kid", "use", "alg", "crv", "x", "y", "n", "e", "k"]), JSON)
KEY_SETS = JSON | st.fixed_dictionaries({"keys": JSON | st.lists(KEY | JSON, max_size=3)})
PART = st.binary(max_size=60) | JSON.map(lambda said: str(said).encode())
TOKENS = (
    JSON
    | st.text(max_size=80)
    | st.lists(st.text("AZaz09-_", max_size=30), min_size=3, max_size=3).map(".".join)
)


@pytest.fixture(scope="module")
def client() -> ProviderClient:
    issuer = OidcSettings(issuer="https://login.example.org", client_id=CLIENT)
    return ProviderClient(issuer, "", "https://hub.example.org" + CALLBACK)


@given(TOKENS, KEY_SETS)
@settings(deadline=None)
def test_garbage_is_refused_by_name(client: ProviderClient, token: Any, keys: Any) -> None:
    """Whatever comes for a token or its keys, nothing but a named refusal comes of it."""
    with pytest.raises(SignInRefused) as refusal:
        client._subject({"id_token": token}, keys, "nonce", NOW)
    assert refusal.value.code.startswith("token_")


AT = int(NOW.timestamp())
ROTATED = ECKey.generate_key("P-256", parameters={"kid": "next"})
TOKEN = {
    "iss": "https://login.example.org", "sub": "f3a1-77", "aud": CLIENT, "iat": AT, "exp": AT + 300, "nonce": "nonce",
}  # fmt: skip


@pytest.mark.parametrize(
    ("header", "claims", "said"),
    [
        ({}, {"aud": [CLIENT]}, None),
        ({}, {"aud": [CLIENT, "payroll"], "azp": CLIENT}, None),
        ({}, {"aud": [CLIENT, "payroll"], "azp": "payroll"}, "token_azp"),
        ({}, {"azp": "payroll"}, "token_azp"),
        ({}, {"aud": []}, "token_aud"),
        ({}, {"iat": AT + LEEWAY_S - 5, "nbf": AT + LEEWAY_S - 5}, None),
        ({}, {"iat": AT + LEEWAY_S + 5}, "token_claim"),
        ({}, {"nbf": AT + LEEWAY_S + 5}, "token_claim"),
        ({}, {"exp": AT - LEEWAY_S + 5}, None),
        ({}, {"exp": AT - LEEWAY_S - 5}, "token_expired"),
        ({}, {"exp": str(AT + 300)}, "token_claim"),
        ({}, {"at_hash": "of another access token"}, "token_claim"),
        ({}, {"groups": "administrators", "email_verified": False}, None),
        ({"kid": "gone"}, {}, "token_invalid"),
        ({"kid": None}, {}, "token_invalid"),  # of several keys one has to be named (Core §10.1)
        ({"typ": "JWT", "x5t": "abc"}, {}, None),
    ],
)
def test_a_token_is_believed_as_the_standard_says(
    client: ProviderClient, header: dict[str, Any], claims: dict[str, Any], said: str | None
) -> None:
    """Core §2 and §3.1.3.7: audiences, the party it is for, times within a minute, and the key that is named."""
    key = KEYS["ES256"]
    named = {name: value for name, value in ({"alg": "ES256", "kid": "e"} | header).items() if value}
    tokens = {"id_token": jwt.encode(named, TOKEN | claims, key), "access_token": "opaque"}
    keys = {"keys": [each.as_dict(private=False) for each in KEYS.values()]}
    if said is None:
        assert client._subject(tokens, keys, "nonce", NOW) == "f3a1-77"
        return
    with pytest.raises(SignInRefused) as refusal:
        client._subject(tokens, keys, "nonce", NOW)
    assert refusal.value.code == said


def test_a_key_counts_while_the_provider_publishes_it(client: ProviderClient) -> None:
    """One that came since is believed at once and one that went no more; where there is one it need not be named."""
    old, new = ({"keys": [key.as_dict(private=False)]} for key in (KEYS["ES256"], ROTATED))
    for kid in ({"kid": "next"}, {}):
        tokens = {"id_token": jwt.encode({"alg": "ES256"} | kid, TOKEN, ROTATED)}
        assert client._subject(tokens, new, "nonce", NOW) == "f3a1-77"
        with pytest.raises(SignInRefused):
            client._subject(tokens, old, "nonce", NOW)
