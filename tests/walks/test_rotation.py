"""The rehearsal of a change of every key: people go through the doors all the while, and nobody is turned away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pacs import bundle, key_statement
from pacs.card import p256
from pacs.events import EventKind
from pacs.identifiers import DoorId
from pacs.messages import DocumentKind
from pacs.reason import Reason
from provisioning.cli import main
from provisioning.encoder import Issuer
from provisioning.keystore import read_key
from provisioning.rotation import stated
from provisioning.site import Site
from simulator.scenario import Holder
from tests.walks.house import (
    DENIED,
    DOORS,
    GATE,
    GRANTED,
    KITCHEN,
    KITCHEN_CONTROLLER,
    House,
    journal_of,
    resident_card,
    running_house,
)
from tests.walks.test_revocation import Attacker

pytestmark = [pytest.mark.walk, pytest.mark.timeout(300)]

PAUSE_S = 1.0


class Passing(threading.Thread):
    """Somebody who goes through one door again and again; what the door said each time.

    A door that says nothing within 10 s is tried once more, as people do.
    """

    def __init__(self, house: House, door_id: DoorId, card: Holder) -> None:
        super().__init__(name=f"passing {door_id}", daemon=True)
        self.card = card
        self.outcomes: list[tuple[str, str]] = []
        self._house, self._door_id = house, door_id
        self._over = threading.Event()

    def run(self) -> None:
        silent = 0
        while not self._over.wait(PAUSE_S):
            try:
                tap = self._house.site.tap(self.card, self._door_id)
            except RuntimeError as error:
                silent += 1
                if silent > 1:
                    self.outcomes.append((type(error).__name__, str(error)))
            else:
                silent = 0
                self.outcomes.append((tap.outcome, tap.reason))

    def end(self) -> None:
        self._over.set()
        self.join(30)


@dataclass(kw_only=True)
class Bureau:
    """The commands of whoever changes keys, and the people at the doors meanwhile."""

    house: House
    token: Path
    people: dict[DoorId, Passing]

    def run(self, *arguments: str, code: int = 0) -> str:
        """What a command says; its exit status is ``code``."""
        ran = CliRunner().invoke(main, [*arguments, f"--site-dir={self.house.keys}"])
        assert ran.exit_code == code, ran.output
        return ran.output

    def keys(self, *arguments: str, code: int = 0) -> str:
        """``key …`` with the hub at hand."""
        return self.run(
            "key",
            *arguments,
            f"--hub={self.house.site.hub.url}",
            f"--token-file={self.token}",
            code=code,
        )

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        """Until ``holds``, which asks the hub; seldom, so that there is time for everybody else."""
        until_s = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < until_s, f"not within a minute: {what}"
            time.sleep(0.2)

    def wait_until_confirmed(self) -> None:
        """Every door is online with the newest documents."""
        self.wait(self.house.site.is_confirmed, "every door online with the newest documents")

    def at_hub(self) -> dict[str, Any]:
        found: dict[str, Any] = self.house.site.api.get("/keys")
        return found

    def wait_until_signed_by(self, key: str) -> None:
        self.wait(
            lambda: {"id": key, "use": "signs", "is_here": True} in self.at_hub()["policy_keys"],
            f"the hub signing with {key}",
        )
        self.wait_until_confirmed()

    def each_passes(self) -> None:
        """Everybody goes through their door once more, at least."""
        before = {door: len(person.outcomes) for door, person in self.people.items()}
        self.wait(
            lambda: all(len(person.outcomes) > before[door] for door, person in self.people.items()),
            "another tap at each door",
        )
        self.nobody_was_turned_away()

    def nobody_was_turned_away(self) -> None:
        """A door that says nothing counts, too."""
        for door, person in self.people.items():
            others = [each for each in person.outcomes if each[0] != GRANTED]
            assert others == [], f"{door}, of {len(person.outcomes)}"

    def open_once(self, door_id: DoorId) -> str:
        """What became of a command."""
        api = self.house.site.api
        given = api.post(f"/doors/{door_id}/commands", {"action": "unlock_once", "reason": "rehearsal"})
        self.wait(lambda: api.get(f"/commands/{given['id']}")["state"] != "sent", "the command's outcome")
        return str(api.get(f"/commands/{given['id']}")["state"])


@pytest.fixture(scope="module")
def bureau(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bureau]:
    """A house in use, and whoever has its keys."""
    with running_house(tmp_path_factory.mktemp("rotation")) as house:
        token = house.keys / "token"
        token.touch(mode=0o600)
        made = house.site.api.post("/tokens", {"name": "bureau", "role": "administrator"})
        token.write_text(made["token"])
        cards = {door: resident_card(house.site) for door in DOORS}
        house.site.wait_until_confirmed()
        people = {door: Passing(house, door, card) for door, card in cards.items()}
        for person in people.values():
            person.start()
        try:
            yield Bureau(house=house, token=token, people=people)
        finally:
            for person in people.values():
                person.end()


def new_key(said: str) -> str:
    """The id of the key that a command made."""
    return str(json.loads(said)["key"])


@contextmanager
def kitchen_away(bureau: Bureau) -> Iterator[None]:
    """The kitchen decides alone, and the hub knows it."""
    house = bureau.house
    with house.cable.pulled():
        bureau.wait(
            lambda: not next(each for each in house.site.doors() if each["id"] == KITCHEN)["online"],
            "the kitchen known to be away",
        )
        yield


def test_every_key_is_changed_while_people_pass(bureau: Bureau) -> None:
    """Policy key with everybody there and with a door away, card issuer, devices: every tap of a good card opens."""
    house, site = bureau.house, bureau.house.site
    provisioned = Site.open(house.keys)
    old = provisioned.policy_key_id
    stolen = read_key(house.keys / "policy.key.pem", provisioned.passphrase())
    assert isinstance(stolen, Ed25519PrivateKey)
    # the policy key, everybody being there
    first = new_key(bureau.run("key", "rotate", "policy", "--format=json"))
    overlap = (house.keys / "keys.signed").read_bytes()
    bureau.wait_until_signed_by(first)
    assert bureau.at_hub()["waiting"] == []
    bureau.each_passes()
    bureau.keys("retire", "policy")
    retired = {"id": old, "use": "retired", "is_here": False}
    bureau.wait(lambda: retired in bureau.at_hub()["policy_keys"], "the hub without the old key")
    bureau.wait_until_confirmed()
    assert bureau.open_once(GATE) == "executed"
    # again, while a door is away for the whole of it
    with kitchen_away(bureau):
        second = new_key(bureau.run("key", "rotate", "policy", "--format=json"))
        bureau.wait(
            lambda: [each["controller_id"] for each in bureau.at_hub()["waiting"]] == [KITCHEN_CONTROLLER],
            "the others having heard",
        )
        assert "kitchen-1" in bureau.keys("list")
        assert "kitchen-1" in bureau.keys("retire", "policy", code=1)
        assert {"id": first, "use": "signs", "is_here": True} in bureau.at_hub()["policy_keys"]
        site.api.post("/keys/policy/switch", {"reason": "the kitchen is being rebuilt"})
        bureau.keys("retire", "policy", "--force", "--reason=the kitchen is being rebuilt")
        bureau.wait(
            lambda: {"id": first, "use": "retired", "is_here": False} in bureau.at_hub()["policy_keys"],
            "the first key retired",
        )
        bureau.each_passes()
    bureau.wait_until_confirmed()
    assert bureau.at_hub()["waiting"] == []
    assert bureau.open_once(KITCHEN) == "executed"
    bureau.each_passes()
    assert [path.name for path in (house.keys / "hub").glob("policy*.key.pem")] == [
        f"policy-{second}.key.pem"
    ]
    refuse_what_is_not_the_roots_word(house, stolen, overlap)
    # the card issuer
    before = site.issuer.reference
    after = new_key(bureau.run("key", "rotate", "card-issuer", "--format=json"))
    bureau.wait(lambda: after in {each["issuer"] for each in bureau.at_hub()["issuers"]}, "the new issuer")
    provisioned = Site.open(house.keys)
    site.issuer = Issuer.of(provisioned, provisioned.passphrase())
    new_cards = {door: resident_card(site) for door in DOORS}
    bureau.wait_until_confirmed()
    assert {each["issuer"]: each["live_cards"] for each in bureau.at_hub()["issuers"]} == {
        before: 3,
        after: 3,
    }
    bureau.each_passes()  # by the old cards
    old_card = bureau.people[GATE].card
    for door, person in bureau.people.items():
        person.card = new_cards[door]
    bureau.each_passes()
    bureau.each_passes()  # by the new ones for certain
    assert "3 cards" in bureau.keys("retire", "card-issuer", before, code=4)
    assert "3 live cards" in bureau.keys(
        "retire", "card-issuer", before, "--force", "--reason=they were replaced"
    )
    bureau.wait_until_confirmed()
    bureau.each_passes()
    bureau.people[GATE].end()
    refused = site.tap(old_card, GATE)
    assert (refused.outcome, refused.reason) == (DENIED, "issuer_unknown")
    # the authority of devices: what the old one certified goes on
    bureau.run("key", "rotate", "devices")
    with kitchen_away(bureau):
        pass
    bureau.wait_until_confirmed()
    assert bureau.open_once(KITCHEN) == bureau.open_once(GATE) == "executed"
    bureau.nobody_was_turned_away()


def test_another_root_follows_while_people_pass(bureau: Bureau) -> None:
    """A door that was away for all of it is brought along and renews below the new root; then the old root is worth nothing."""
    house, site = bureau.house, bureau.house.site
    gate = bureau.people[GATE] = Passing(house, GATE, resident_card(site))
    bureau.wait_until_confirmed()
    gate.start()
    stolen = Site.open(house.keys).root().key

    def below_the_old_root() -> list[str]:
        return [each["controller_id"] for each in bureau.at_hub()["below_former_root"]]

    with kitchen_away(bureau):
        bureau.run("key", "rotate", "root")
        bureau.wait(lambda: below_the_old_root() == [KITCHEN_CONTROLLER], "the others below the new root")
        assert KITCHEN_CONTROLLER in bureau.keys("retire", "root", code=1)
        bureau.each_passes()
    bureau.wait(lambda: not below_the_old_root(), "the kitchen below the new root")
    bureau.wait_until_confirmed()
    bureau.each_passes()
    bureau.keys("retire", "root")
    bureau.wait(
        lambda: "former_root" not in {each["part"] for each in bureau.at_hub()["certificates"]}, "one root"
    )
    bureau.wait_until_confirmed()
    with kitchen_away(bureau):
        pass
    bureau.wait_until_confirmed()
    assert bureau.open_once(KITCHEN) == bureau.open_once(GATE) == "executed"
    bureau.each_passes()
    assert not (house.keys / "root" / "root.key.pem").exists()
    newest = stated(Site.open(house.keys))
    assert newest
    wanted = replace(newest, version=newest.version + 1, root_change=None)
    by_stolen = key_statement.seal(wanted, stolen.public_key(), partial(p256.sign, stolen))
    refuse_policy_with(house, {Reason.SIGNER_UNKNOWN: by_stolen})


def refuse_what_is_not_the_roots_word(house: House, stolen: Ed25519PrivateKey, overlap: bytes) -> None:
    """A policy by a stolen key: with a forged statement, another root's, and the one from when the key was good."""
    newest = stated(Site.open(house.keys))
    assert newest
    wanted = replace(newest, version=newest.version + 1, policy_keys=(raw(stolen),), retired_policy_keys=())
    other = ec.generate_private_key(ec.SECP256R1())
    foreign = key_statement.seal(wanted, other.public_key(), partial(p256.sign, other))
    forged = bytearray(overlap)
    forged[-1] ^= 1
    attacks = {
        Reason.SIGNATURE_INVALID: bytes(forged),
        Reason.SIGNER_UNKNOWN: foreign,
        Reason.DOCUMENT_NOT_NEWER: overlap,
    }
    refuse_policy_with(house, attacks, stolen)


def refuse_policy_with(
    house: House, attacks: dict[Reason, bytes], key: Ed25519PrivateKey | None = None
) -> None:
    """A policy under each of these statements changes nothing at the kitchen, and is refused for the reason."""
    site, station = house.site, house.kitchen
    key = key or Ed25519PrivateKey.generate()
    newest = stated(Site.open(house.keys))
    assert newest
    data = (station.config.parent / "state" / "policy" / "policy.signed").read_bytes()
    policy = bundle.open_bundle(data, newest.accepted)
    grab = replace(policy, version=policy.version + 1)
    last = max(journal_of(station).drafts)

    def refusals() -> list[Reason | None]:
        drafts = journal_of(station).drafts.items()
        return [
            each.reason for number, each in drafts if number > last and each.kind is EventKind.POLICY_REFUSED
        ]

    with Attacker(house) as attacker:
        for count, (reason, statement) in enumerate(attacks.items(), 1):
            attacker.send(DocumentKind.POLICY, grab.version, bundle.seal(grab, key, statement))
            site.wait_until(lambda count=count: len(refusals()) == count, f"{reason} in the journal")  # type: ignore[misc]
    assert refusals() == list(attacks)
    assert (station.config.parent / "state" / "policy" / "policy.signed").read_bytes() == data


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
