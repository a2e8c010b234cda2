"""Webhooks as pages: adding one, its secret once, a test, what went wrong, and another way out."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from hub.roles import Role
from hub.store import webhooks as store
from hub.webhooks import NOT_REACHED
from pacs.identifiers import SiteId
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, csrf_of, running_hub
from tests.hub.test_pages import text_of
from tests.hub.test_webhooks import LOOPBACK, receiver, verified


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("webhook-pages"), webhooks_allow=LOOPBACK) as running:
        yield running


@pytest.fixture
def admin(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.signed_in(Role.ADMINISTRATOR) as browser:
        yield browser


def added(browser: httpx.Client, url: str, **more: str) -> tuple[str, str]:
    """The new one's page and its secret."""
    form = {"csrf_token": csrf_of(browser.get("/webhooks").text), "url": url, **more}
    answer = browser.post("/webhooks", data=form)
    assert answer.status_code == 200, text_of(answer.text)
    secret = re.search(r"whsec_[\w+/=]+", answer.text)
    place = re.search(r'action="(/webhooks/[0-9a-f]{16})"', answer.text)
    assert secret
    assert place
    return place[1], secret[0]


def test_one_is_added_tested_and_deleted_by_form(hub: RunningHub, admin: httpx.Client) -> None:
    """The secret is shown once and signs; the test's outcome is listed; what was done is audited."""
    assert "No webhook yet" in text_of(admin.get("/webhooks").text)
    with receiver() as there:
        place, secret = added(admin, there.url, kind="card.blocked")
        page = admin.get(place).text
        assert secret not in page + admin.get("/webhooks").text
        assert "a card is blocked" in text_of(page)
        form = {"csrf_token": csrf_of(page)}
        assert admin.post(place, data=form | {"action": "ping"}).headers["location"] == f"{place}?done=pinged"
        eventually(lambda: "a test taken" in text_of(admin.get(place).text), "taken")
        assert verified(there.got[0], secret)["type"] == "ping"
        rotated = re.search(r"whsec_[\w+/=]+", admin.post(place, data=form | {"action": "rotate"}).text)
        assert rotated
        assert rotated[0] != secret
        assert admin.post(place, data=form | {"action": "delete"}).status_code == 422
        gone = admin.post(place, data=form | {"action": "delete", "confirmed": "yes"})
        assert gone.headers["location"] == "/webhooks"
        assert admin.get(place).status_code == 404
    with hub.token() as program:
        log = program.get("/api/v1/audit", params={"limit": 20}).json()["entries"]
    done = {each["action"] for each in log}
    assert {"webhook.create", "webhook.ping", "webhook.rotate", "webhook.delete"} <= done
    assert secret not in str(log)


def test_a_refused_address_keeps_what_was_typed(admin: httpx.Client) -> None:
    """In words, with the hub's own reason; nothing is added."""
    token = csrf_of(admin.get("/webhooks").text)
    for url in ("https://10.0.0.1/hook", "ftp://8.8.8.8/", "nonsense", ""):
        answer = admin.post("/webhooks", data={"csrf_token": token, "url": url, "kind": "tap"})
        assert answer.status_code == 422, url
        assert re.search(r'value="tap" checked', answer.text)
        assert f'value="{url}"' in answer.text
    assert admin.post("/webhooks", data={"url": "https://8.8.8.8/"}).status_code == 403
    assert "No webhook yet" in text_of(admin.get("/webhooks").text)


def test_one_that_the_hub_gave_up_is_seen_everywhere_and_enabled_again(
    hub: RunningHub, admin: httpx.Client
) -> None:
    """On its page with the cause, on the live page, as a finding beside readiness, and in the metrics; not after."""
    place, _secret = added(admin, "https://8.8.8.8/hook", kind="import.done")
    with hub.database.write() as connection:
        store.give_up(connection, place.rpartition("/")[2], NOT_REACHED)
    with hub.token() as program, hub.signed_in(Role.GUARD) as guard:

        def told() -> list[bool]:
            return [
                "nobody took a message for a day" in text_of(admin.get("/webhooks").text),
                "1 webhook is disabled" in text_of(admin.get("/").text),
                bool(program.get("/readyz").json()["findings"]),
                "drempel_webhooks_disabled 1.0" in program.get("/metrics").text,
            ]

        assert told() == [True] * 4
        assert "webhook" not in text_of(guard.get("/").text)
        form = {"csrf_token": csrf_of(admin.get(place).text), "action": "enable"}
        assert admin.post(place, data=form).headers["location"] == f"{place}?done=enabled"
        assert told() == [False] * 4
        admin.post(place, data=form | {"action": "disable"})
        assert told() == [False] * 4
        assert "disabled" in text_of(admin.get("/webhooks").text)
        admin.post(place, data=form | {"action": "delete", "confirmed": "yes"})


def test_only_who_manages_webhooks_of_every_site_sees_them(hub: RunningHub) -> None:
    """Neither a site's own administrator nor a technician."""
    with (
        hub.signed_in(Role.ADMINISTRATOR, sites=frozenset({SiteId("test-site")})) as own,
        hub.signed_in(Role.TECHNICIAN) as technician,
    ):
        for browser in (own, technician):
            assert browser.get("/webhooks").status_code == 403
            assert "/webhooks" not in browser.get("/").text
