"""The walk of a command: from the hub's interface to the strike and back, and what is refused on the way."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.publish import single

from pacs.commands import Action, Command, seal
from pacs.events import EventDraft, EventKind
from pacs.identifiers import ControllerId, OperatorId
from pacs.reason import Reason
from pacs.topics import Down, DownTopic
from provisioning.keystore import Passphrase, read_key
from simulator.scenario import Holder
from tests.walks.house import (
    DENIED,
    GRANTED,
    KITCHEN,
    KITCHEN_CONTROLLER,
    House,
    is_locked,
    journal_of,
    resident_card,
    rows,
    running_house,
    wait_until_all_is_stored,
)

pytestmark = [pytest.mark.walk, pytest.mark.timeout(300)]

AFTER_THIS = [EventKind.COMMAND_EXECUTED, EventKind.COMMAND_REFUSED]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for all walks; each leaves the kitchen locked, and in the mode of its policy."""
    with running_house(tmp_path_factory.mktemp("commands")) as house:
        yield house


@pytest.fixture(scope="module")
def holder(house: House) -> Holder:
    """A card that opens the kitchen."""
    card = resident_card(house.site)
    house.site.wait_until_confirmed()
    return card


@pytest.fixture(scope="module")
def policy_key(house: House) -> Ed25519PrivateKey:
    """The site's own, as the hub has it."""
    key = read_key(house.keys / "policy.key.pem", Passphrase.from_file(house.keys / "passphrase"))
    assert isinstance(key, Ed25519PrivateKey)
    return key


@dataclass(frozen=True, kw_only=True)
class Kitchen:
    """The kitchen door from some moment on."""

    house: House
    since: int
    reports_since: int

    @classmethod
    def from_here(cls, house: House) -> Kitchen:
        house.site.wait_until(lambda: is_locked(house.kitchen), "the kitchen locked")
        return cls(
            house=house,
            since=max(journal_of(house.kitchen).drafts),
            reports_since=len(house.kitchen.reports),
        )

    def answers(self) -> list[EventDraft]:
        """What it recorded of commands."""
        drafts = journal_of(self.house.kitchen).drafts
        return [draft for number, draft in drafts.items() if number > self.since and draft.kind in AFTER_THIS]

    def wait_for_answers(self, count: int) -> list[EventDraft]:
        found: list[EventDraft] = []

        def there() -> bool:
            found[:] = self.answers()
            return len(found) >= count

        self.house.site.wait_until(there, f"{count} commands answered")
        assert len(found) == count
        return found

    def releases(self) -> int:
        """How often the strike let go."""
        reports = self.house.kitchen.reports[self.reports_since :]
        return sum(bool(report.get("released")) for report in reports)


def give(house: House, action: str, **details: Any) -> dict[str, Any]:
    """A command by the hub's interface, followed until its outcome is known there."""
    body = {"action": action, "reason": "the walk of a command", **details}
    given: dict[str, Any] = house.site.api.post(f"/doors/{KITCHEN}/commands", body)

    def ended() -> bool:
        given.update(house.site.api.get(f"/commands/{given['id']}"))
        return bool(given["state"] != "sent")

    house.site.wait_until(ended, f"the outcome of {action}")
    return given


def publish(house: House, payload: bytes, *, retain: bool = False) -> None:
    """Somebody with the hub's certificate and a place in its network."""
    keys = house.keys / "hub"
    tls: Any = {
        "ca_certs": str(keys / "root.cert.pem"),
        "certfile": str(keys / "client.cert.pem"),
        "keyfile": str(keys / "client.key.pem"),
        "keyfile_password": (keys / "passphrase").read_text().strip(),
    }
    single(
        str(DownTopic(KITCHEN_CONTROLLER, Down.COMMAND)),
        payload,
        qos=1,
        retain=retain,
        hostname="127.0.0.1",
        port=house.site.hub.mqtt_port,
        client_id=f"somebody-{secrets.token_hex(4)}",
        tls=tls,
    )


def unlock(house: House, **changes: Any) -> Command:
    """A command that the hub might have given a moment ago."""
    now = datetime.now(UTC)
    now -= timedelta(microseconds=now.microsecond)
    command = Command(
        command_id=secrets.token_bytes(16),
        site_id=house.site.description.site_id,
        controller_id=KITCHEN_CONTROLLER,
        door_id=KITCHEN,
        action=Action.UNLOCK_ONCE,
        issued_at=now,
        expires_at=now + timedelta(minutes=4),
        operator_id=OperatorId("somebody"),
    )
    return replace(command, **changes)


def signed_bytes(house: House, command_id: str) -> bytes:
    """A command as it went over the wire."""
    return next(
        bytes(data) for name, data in rows(house.site, "SELECT id, data FROM commands") if name == command_id
    )


def test_unlock_once_opens_the_strike_once(house: House) -> None:
    """A guard's command releases the strike and is executed by the door's word; its bytes never do it again."""
    kitchen = Kitchen.from_here(house)
    given = give(house, "unlock_once")
    assert (given["state"], given["refusal"]) == ("executed", None)
    house.site.wait_until(lambda: kitchen.releases() == 1, "the strike")
    (executed,) = kitchen.wait_for_answers(1)
    assert executed.kind is EventKind.COMMAND_EXECUTED
    assert executed.details == {"command": bytes.fromhex(given["id"]), "action": "unlock_once"}

    captured = signed_bytes(house, given["id"])
    publish(house, captured)
    refused = kitchen.wait_for_answers(2)[1]
    assert (refused.kind, refused.reason) == (EventKind.COMMAND_REFUSED, Reason.COMMAND_REPEATED)
    assert refused.details["command"] == bytes.fromhex(given["id"])

    house.kitchen.controller.kill()
    house.kitchen.controller.start()
    house.site.wait_until_confirmed()
    publish(house, captured)
    again = kitchen.wait_for_answers(3)[2]
    assert again.reason is Reason.COMMAND_REPEATED
    assert kitchen.releases() == 1
    assert house.site.api.get(f"/commands/{given['id']}")["state"] == "executed"
    wait_until_all_is_stored(house.site)


def _expired(house: House) -> Command:
    ago = unlock(house).issued_at - timedelta(minutes=10)
    return unlock(house, issued_at=ago, expires_at=ago + timedelta(minutes=5))


def _from_the_future(house: House) -> Command:
    ahead = unlock(house).issued_at + timedelta(minutes=30)
    return unlock(house, issued_at=ahead, expires_at=ahead + timedelta(minutes=5))


def _for_another_controller(house: House) -> Command:
    return unlock(house, controller_id=ControllerId("workshop-1"))


@pytest.mark.parametrize(
    ("made", "reason", "named"),
    [
        (_expired, Reason.COMMAND_EXPIRED, True),
        (_from_the_future, Reason.COMMAND_NOT_YET_VALID, True),
        (_for_another_controller, Reason.COMMAND_OTHER_CONTROLLER, True),
        (unlock, Reason.SIGNER_UNKNOWN, False),
    ],
)
def test_what_is_not_for_here_and_now_is_refused(
    house: House,
    policy_key: Ed25519PrivateKey,
    made: Callable[[House], Command],
    reason: Reason,
    named: bool,
) -> None:
    """Each is recorded once with its reason, also when it comes three times, and the strike stays locked."""
    kitchen, command = Kitchen.from_here(house), made(house)
    sealed = seal(command, Ed25519PrivateKey.generate() if reason is Reason.SIGNER_UNKNOWN else policy_key)
    for _ in range(3):
        publish(house, sealed)
    last = give(house, "clear_mode")
    refusals = [draft for draft in kitchen.answers() if draft.kind is EventKind.COMMAND_REFUSED]
    own = [draft for draft in refusals if draft.details.get("command") == command.command_id]
    assert [draft.reason for draft in refusals][:1] == [reason]
    assert {draft.reason for draft in refusals} <= {reason, Reason.COMMAND_REPEATED}
    assert len(own) == (len(refusals) if named else 0)
    assert last["state"] == "executed"
    assert kitchen.releases() == 0


def test_a_retained_command_is_refused(house: House, policy_key: Ed25519PrivateKey) -> None:
    """What the broker kept for a controller that was away opens nothing when it is back, genuine or not."""
    kitchen, command = Kitchen.from_here(house), unlock(house)
    try:
        with house.cable.pulled():
            publish(house, seal(command, policy_key), retain=True)
        (refused,) = kitchen.wait_for_answers(1)
    finally:
        publish(house, b"", retain=True)
    assert refused.reason is Reason.COMMAND_RETAINED
    assert refused.details["command"] == command.command_id
    assert kitchen.releases() == 0


def outcome(house: House, holder: Holder) -> tuple[str, str]:
    """Of a tap at the kitchen, once its strike is locked."""
    house.site.wait_until(lambda: is_locked(house.kitchen), "the kitchen locked")
    tap = house.site.tap(holder, KITCHEN)
    return tap.outcome, tap.reason


def shown_mode(house: House) -> tuple[str | None, str | None]:
    """The kitchen's mode and what gave it, as its controller last said."""
    door = next(door for door in house.site.doors() if door["id"] == KITCHEN)
    return door["effective_mode"], door["effective_cause"]


def test_lockdown_stays_over_a_sudden_end_until_it_is_cleared(house: House, holder: Holder) -> None:
    """An ordered lockdown denies entry, also after SIGKILL and a start without network; cleared, it is over for good."""
    assert outcome(house, holder) == (GRANTED, "entitled")
    assert give(house, "set_mode", mode="lockdown")["state"] == "executed"
    assert outcome(house, holder) == (DENIED, "door_lockdown")
    house.site.wait_until(lambda: shown_mode(house) == ("lockdown", "command"), "the mode shown at the hub")
    house.kitchen.controller.kill()
    with house.cable.pulled():
        house.kitchen.controller.start()
        assert outcome(house, holder) == (DENIED, "door_lockdown")
    assert give(house, "clear_mode")["state"] == "executed"
    assert outcome(house, holder) == (GRANTED, "entitled")
    house.site.wait_until(lambda: shown_mode(house) == ("secured", "policy"), "the mode shown at the hub")
    house.kitchen.controller.kill()
    house.kitchen.controller.start()
    assert outcome(house, holder) == (GRANTED, "entitled")
    house.site.wait_until_confirmed()


def test_an_order_that_somebody_altered_on_the_disk_locks_down(house: House, holder: Holder) -> None:
    """An ``unlocked`` order whose bytes were changed is not believed, and neither is it taken for none."""
    assert give(house, "set_mode", mode="unlocked")["state"] == "executed"
    house.kitchen.controller.kill()
    order = house.kitchen.config.parent / "state" / "commands" / f"{KITCHEN}.order"
    data = bytearray(order.read_bytes())
    data[len(data) // 2] ^= 1
    order.write_bytes(data)
    house.kitchen.controller.start()
    assert outcome(house, holder) == (DENIED, "door_lockdown")
    assert give(house, "clear_mode")["state"] == "executed"
    assert outcome(house, holder) == (GRANTED, "entitled")
    assert not list(order.parent.glob("*.refused"))
