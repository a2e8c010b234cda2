"""The walk of an attended request: from a card at an emulated reader to the hub, and an answer back to the strike."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pacs.commands import Action, seal
from pacs.events import EventKind
from pacs.reason import Reason
from simulator.desk import DeskPage
from simulator.hub_process import HubApi
from simulator.reporting_process import WITHIN_S
from simulator.scenario import Holder
from tests.walks.house import (
    GRANTED,
    KITCHEN,
    House,
    credential_of,
    journal_of,
    resident_card,
    running_house,
    wait_until_all_is_stored,
)
from tests.walks.test_commands import Kitchen, give, publish, signed_bytes, unlock
from tests.walks.test_commands import policy_key as policy_key  # noqa: PLC0414 - a fixture of this module, too

pytestmark = [pytest.mark.walk, pytest.mark.timeout(300)]

REFERRED = "access_referred"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for all walks, its kitchen attended; each leaves nobody waiting."""
    with running_house(tmp_path_factory.mktemp("attended")) as house:
        waits_for(house, 30)
        yield house


@pytest.fixture(scope="module")
def holder(house: House) -> Holder:
    """A card that is referred at the kitchen."""
    card = resident_card(house.site)
    house.site.wait_until_confirmed()
    return card


def waits_for(house: House, seconds: int) -> None:
    """From here on a request at the kitchen waits so long."""
    house.site.api.patch(f"/doors/{KITCHEN}", {"mode": "attended", "attended_timeout_s": seconds})
    house.site.wait_until_confirmed()


def tapped(house: House, holder: Holder) -> None:
    """The card is held to the reader, and the door refers."""
    assert house.site.tap(holder, KITCHEN).outcome == REFERRED


def asked(house: House, holder: Holder) -> str:
    """Somebody taps; the request's id, once the hub has it."""
    tapped(house, holder)
    found: list[str] = []

    def there() -> bool:
        found[:] = [each["id"] for each in house.site.api.get("/attended")["requests"]]
        return bool(found)

    house.site.wait_until(there, "the request at the hub")
    (request_id,) = found
    return request_id


def answer(house: House, request_id: str, verdict: str) -> dict[str, Any]:
    given: dict[str, Any] = house.site.api.post(f"/attended/{request_id}/answer", {"answer": verdict})
    return given


def ended(house: House, request_id: str, state: str) -> dict[str, Any]:
    """The request, once it has ended by its door's word, which must be this."""
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(house.site.api.get(f"/attended/{request_id}"))
        return bool(found["said_by_door"])

    house.site.wait_until(over, f"request {state}")
    assert found["state"] == state
    return found


def test_an_approval_opens_the_strike_once(house: House, holder: Holder) -> None:
    """Signed for this request, executed by the door's word; its bytes, caught and sent again, open nothing."""
    kitchen = Kitchen.from_here(house)
    request_id = asked(house, holder)
    assert kitchen.releases() == 0
    given = answer(house, request_id, "grant")
    assert given["state"] in ("answered", "granted")
    assert given["answer"]["verdict"] == "grant"
    house.site.wait_until(lambda: kitchen.releases() == 1, "the strike")
    found = ended(house, request_id, "granted")
    assert (found["answer"]["state"], found["looks"]) == ("executed", 1)
    (executed,) = kitchen.wait_for_answers(1)
    command = executed.details["command"]
    assert isinstance(command, bytes)
    publish(house, signed_bytes(house, command.hex()))
    refused = kitchen.wait_for_answers(2)[1]
    assert (refused.kind, refused.reason) == (EventKind.COMMAND_REFUSED, Reason.COMMAND_REPEATED)
    assert kitchen.releases() == 1
    assert house.site.api.get(f"/attended/{request_id}")["state"] == "granted"
    wait_until_all_is_stored(house.site)


def test_a_refusal_keeps_it_locked(house: House, holder: Holder) -> None:
    """The door says so, with who refused on record."""
    kitchen = Kitchen.from_here(house)
    request_id = asked(house, holder)
    answer(house, request_id, "refuse")
    found = ended(house, request_id, "refused")
    assert (found["outcome_reason"], found["answer"]["state"]) == ("attended_refused", "executed")
    assert kitchen.releases() == 0


def test_nobody_answers(house: House, holder: Holder, policy_key: Ed25519PrivateKey) -> None:
    """The door ends it by its own clock; a grant after that is not sent, and one that comes all the same is refused."""
    waits_for(house, 2)
    kitchen = Kitchen.from_here(house)
    request_id = asked(house, holder)
    ended(house, request_id, "timeout")
    with pytest.raises(RuntimeError, match="request_over"):
        answer(house, request_id, "grant")
    late = replace(
        unlock(house),
        action=Action.GRANT,
        request_id=bytes.fromhex(request_id),
        credential_id=credential_of(holder),
    )
    publish(house, seal(late, policy_key))
    (refused,) = kitchen.wait_for_answers(1)
    assert refused.reason is Reason.REQUEST_UNKNOWN
    assert kitchen.releases() == 0
    assert house.site.api.get(f"/attended/{request_id}")["state"] == "timeout"
    waits_for(house, 30)


def test_the_doors_mode_changes_meanwhile(house: House, holder: Holder) -> None:
    """Nobody waits at a door that is locked down; the page says why, and nobody can answer any more."""
    request_id = asked(house, holder)
    assert give(house, "set_mode", mode="lockdown")["state"] == "executed"
    assert ended(house, request_id, "withdrawn")["outcome_reason"] == "door_lockdown"
    with pytest.raises(RuntimeError, match="request_over"):
        answer(house, request_id, "grant")
    assert give(house, "clear_mode")["state"] == "executed"


def test_the_card_is_blocked_meanwhile(house: House, holder: Holder) -> None:
    """As soon as the door has the block nobody waits by that card."""
    kitchen = Kitchen.from_here(house)
    credential_id = credential_of(holder)
    request_id = asked(house, holder)
    house.site.block(credential_id)
    assert ended(house, request_id, "withdrawn")["outcome_reason"] == "credential_suspended"
    assert kitchen.releases() == 0
    house.site.reinstate(credential_id)
    house.site.wait_until_confirmed()


def test_two_answers_at_once(house: House, holder: Holder) -> None:
    """Of two guards one is first, and the other is told who; the door hears of one answer."""
    kitchen = Kitchen.from_here(house)
    token = {"name": "second-guard", "role": "guard", "expires_in_days": 1}
    second_token = house.site.api.post("/tokens", token)["token"]
    request_id = asked(house, holder)

    def grant(api: HubApi) -> str:
        try:
            api.post(f"/attended/{request_id}/answer", {"answer": "grant"})
        except RuntimeError as error:
            return str(error)
        return "first"

    with HubApi(house.site.hub.url, second_token) as second, ThreadPoolExecutor(2) as guards:
        said = sorted(guards.map(grant, (house.site.api, second)), key=len)
    assert said[0] == "first"
    assert "request_answered" in said[1]
    found = ended(house, request_id, "granted")
    assert found["answer"]["by"] in said[1]
    house.site.wait_until(lambda: kitchen.releases() == 1, "the strike")
    assert len(kitchen.wait_for_answers(1)) == 1


def newest(house: House) -> list[dict[str, Any]]:
    """The request that came last."""
    found: list[dict[str, Any]] = house.site.api.get("/attended", pending="false", limit=1)["requests"]
    return found


def test_the_hub_is_away(house: House, holder: Holder) -> None:
    """The door ends the wait by itself; when it is heard again the request is kept with its end, and nobody is rung."""
    waits_for(house, 1)
    kitchen = Kitchen.from_here(house)
    before = [each["id"] for each in newest(house)]
    with house.cable.pulled():
        tapped(house, holder)
        over_s = time.monotonic() + 3
        house.site.wait_until(lambda: time.monotonic() > over_s, "the end of its time")
    found: list[dict[str, Any]] = []

    def kept() -> bool:
        found[:] = [each for each in newest(house) if each["id"] not in before]
        return bool(found and found[0]["said_by_door"])

    house.site.wait_until(kept, "the request out of the backlog")
    (request,) = found
    assert (request["state"], request["came_late"], request["looks"]) == ("timeout", True, 0)
    assert request["answer"] is None
    assert kitchen.releases() == 0
    waits_for(house, 30)


@pytest.fixture(scope="module")
def attendant(house: House) -> Iterator[DeskPage]:
    """A guard at their browser, where the kitchen is a post."""
    asks_every(house, 900)
    printed = house.site.hub.command("operator", "link", "--role=guard", "--name=Attendant")
    page = DeskPage(house.site.hub.url, printed[printed.index("/link/") :].split()[0], "Attendant")
    yield page
    page.close()


def asks_every(house: House, seconds: int) -> None:
    """From the next sign-on whoever watches is asked so often, and has five seconds to answer."""
    post = {"name": "Kitchen", "door_ids": [KITCHEN], "asks_every_s": seconds, "answer_within_s": 5}
    house.site.api.put("/posts/kitchen", post)


def post_of(house: House) -> dict[str, Any]:
    """The post, as the hub's interface gives it."""
    found: dict[str, Any] = house.site.api.get("/posts/kitchen")
    return found


def kitchen_is(house: House, standing: str) -> None:
    house.site.wait_until(
        lambda: post_of(house)["doors"][0]["standing"] == standing, f"the post {standing} at the kitchen"
    )


def shown(received: Any, wanted: str) -> dict[str, Any]:
    while True:
        _, kind, data = received.get(timeout=WITHIN_S)
        if kind == wanted:
            found: dict[str, Any] = data
            return found


def test_a_post_is_open_while_somebody_watches(house: House, holder: Holder, attendant: DeskPage) -> None:
    """Signed on, a resident's card opens and the page shows who; nobody answers, and the next tap refers again."""
    kitchen = Kitchen.from_here(house)
    assert attendant.press("/posts/kitchen/sign-on") == 303
    with attendant.watching("/posts/kitchen/stream") as received:
        kitchen_is(house, "open")
        assert house.site.tap(holder, KITCHEN).outcome == GRANTED
        assert "Was let in" in shown(received, "look")["said"]
        house.site.wait_until(lambda: kitchen.releases() == 1, "the strike")
    assert attendant.press("/posts/kitchen/sign-off") == 303
    kitchen_is(house, "closed")
    asks_every(house, 5)
    assert attendant.press("/posts/kitchen/sign-on") == 303
    with attendant.watching("/posts/kitchen/stream") as received:
        assert shown(received, "over") == {"why": "not_answered"}
    house.site.wait_until(lambda: is_closed(house), "the post closed")
    request_id = asked(house, holder)
    answer(house, request_id, "refuse")
    ended(house, request_id, "refused")
    assert post_of(house)["ended"] == "not_answered"
    asks_every(house, 900)


def is_closed(house: House) -> bool:
    """The kitchen's last word on its post."""
    kinds = [draft.kind for draft in journal_of(house.kitchen).drafts.values()]
    about = [kind for kind in kinds if kind in (EventKind.POST_OPENED, EventKind.POST_CLOSED)]
    return bool(about) and about[-1] is EventKind.POST_CLOSED


def test_a_door_that_was_away_is_not_opened_by_what_is_over(
    house: House, holder: Holder, attendant: DeskPage
) -> None:
    """It says that it has not answered, to who watches and after; back again it takes no command of before."""
    with house.cable.pulled():
        assert attendant.press("/posts/kitchen/sign-on") == 303
        assert post_of(house)["doors"][0]["standing"] == "opening"
        assert attendant.press("/posts/kitchen/sign-off") == 303
        assert post_of(house)["doors"][0]["standing"] == "closing"
    house.site.wait_until(lambda: post_of(house)["doors"][0]["online"], "the kitchen back")
    kitchen_is(house, "closed")
    request_id = asked(house, holder)
    answer(house, request_id, "refuse")
    ended(house, request_id, "refused")
