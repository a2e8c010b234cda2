"""The walk of a revocation: from the hub's interface to every door, and what is not believed on the way."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Self

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from pacs import bundle, cbor
from pacs.envelope import trusted_keys
from pacs.events import EventKind
from pacs.identifiers import SiteId
from pacs.messages import DocumentKind, split_document
from pacs.reason import Reason
from pacs.revocation import StatusList
from pacs.rules import Policy
from pacs.topics import Down, DownTopic
from provisioning.keystore import Passphrase, read_key
from simulator.issuing import IssuingDesk
from simulator.scenario import Holder
from simulator.site import VirtualSite
from tests.walks.house import (
    DENIED,
    DOORS,
    EVERYWHERE,
    GATE,
    GRANTED,
    KITCHEN,
    KITCHEN_CONTROLLER,
    House,
    credential_of,
    event_at_hub,
    journal_of,
    resident_card,
    running_house,
    tap_once_locked,
    wait_until_all_is_stored,
)

pytestmark = [pytest.mark.walk, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house for all tests; each leaves it as it was."""
    with running_house(tmp_path_factory.mktemp("revocation")) as house:
        yield house


@pytest.fixture(scope="module")
def holder(house: House) -> Holder:
    """A card that opens every door; each test leaves it valid."""
    card = resident_card(house.site)
    house.site.wait_until_confirmed()
    return card


@pytest.fixture(scope="module")
def lost(house: House, old_revocations: bytes) -> Holder:
    """A card that is blocked for good, later than ``old_revocations``."""
    card = resident_card(house.site)
    house.site.block(credential_of(card), "revoked")
    house.site.wait_until_confirmed()
    return card


def outcomes(site: VirtualSite, holder: Holder) -> list[tuple[str, str, int]]:
    """Outcome, reason and number of releases at each door."""
    found = []
    for door_id in DOORS:
        tap, releases = tap_once_locked(site, holder, door_id)
        found.append((tap.outcome, tap.reason, len(releases)))
    return found


def lacking(site: VirtualSite, holder: Holder, version: int) -> list[str]:
    """The doors of which the hub does not say that they enforce this version of the card's status."""
    confirmations = site.api.get(f"/cards/{credential_of(holder)}/distribution")["confirmations"]
    assert {each["door_id"] for each in confirmations} == set(DOORS)
    assert {each["version"] for each in confirmations} == {version}
    return [each["door_id"] for each in confirmations if each["confirmed_at"] is None]


def test_a_block_arrives_at_every_door_and_so_does_its_end(house: House, holder: Holder) -> None:
    """Each door confirms the block, then refuses the card; after reinstatement each confirms and admits."""
    site = house.site
    assert outcomes(site, holder) == [(GRANTED, "entitled", 1)] * 3
    answer = site.block(credential_of(holder))
    assert (answer["status"], answer["document"], answer["doors"]) == ("suspended", "revocations", 3)
    confirmed = site.wait_for_distribution(credential_of(holder), answer["version"])
    assert set(confirmed) == set(DOORS)
    assert outcomes(site, holder) == [(DENIED, "credential_suspended", 0)] * 3
    version = site.reinstate(credential_of(holder))["version"]
    assert version == answer["version"] + 1
    site.wait_for_distribution(credential_of(holder), version)
    assert outcomes(site, holder) == [(GRANTED, "entitled", 1)] * 3


@contextmanager
def stopped(house: House) -> Iterator[None]:
    """The kitchen's controller is not running."""
    house.kitchen.controller.stop()
    try:
        yield
    finally:
        house.kitchen.controller.start()


@contextmanager
def cut_off(house: House) -> Iterator[None]:
    """The kitchen's controller runs without network, and its door still knows the card as it was."""
    with house.cable.pulled():
        yield


def is_online(house: House) -> bool:
    """What the hub says of the kitchen."""
    return next(bool(door["online"]) for door in house.site.doors() if door["id"] == KITCHEN)


@pytest.mark.parametrize("away", [stopped, cut_off])
def test_an_absent_door_gets_the_block_on_its_return_and_is_named_until_then(
    house: House, holder: Holder, away: Callable[[House], Any]
) -> None:
    """The hub says which door lacks the block for as long as it does, and no longer."""
    site, credential_id = house.site, credential_of(holder)
    try:
        with away(house):
            site.wait_until(lambda: not is_online(house), "the kitchen known to be away")
            version = site.block(credential_id)["version"]
            site.wait_until(lambda: lacking(site, holder, version) == [KITCHEN], "the others' confirmation")
            behind = [door["id"] for door in site.doors() if door["revocations_version"] < version]
            assert behind == [KITCHEN]
            if away is cut_off:  # what a door has not heard of it cannot enforce
                tap, releases = tap_once_locked(site, holder, KITCHEN)
                assert (tap.outcome, len(releases)) == (GRANTED, 1)
            assert lacking(site, holder, version) == [KITCHEN]
        site.wait_for_distribution(credential_id, version)
        assert lacking(site, holder, version) == []
        assert outcomes(site, holder) == [(DENIED, "credential_suspended", 0)] * 3
    finally:
        site.wait_for_distribution(credential_id, site.reinstate(credential_id)["version"])
    wait_until_all_is_stored(site)


# ---- documents that are not believed


class Attacker:
    """Somebody with the hub's certificate and a place in its network, but not its policy key."""

    def __init__(self, house: House) -> None:
        keys = house.keys / "hub"
        context = ssl.create_default_context(cafile=str(keys / "root.cert.pem"))
        password = (keys / "passphrase").read_text().strip()
        context.load_cert_chain(str(keys / "client.cert.pem"), str(keys / "client.key.pem"), password)
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="attacker")
        self._client.tls_set_context(context)
        self._client.connect("127.0.0.1", house.site.hub.mqtt_port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, kind: DocumentKind, version: int, document: bytes) -> None:
        """Publish it as the hub would."""
        for chunk in split_document(kind, version, document):
            topic = str(DownTopic(KITCHEN_CONTROLLER, Down.DOCUMENT))
            self._client.publish(topic, bytes(chunk), qos=1).wait_for_publish(20)


@dataclass(frozen=True, kw_only=True)
class Forger:
    """What the attacks start from: the documents in force, the site's key, and a list from before the block."""

    policy: Policy
    revocations: StatusList
    key: Ed25519PrivateKey
    old_revocations: bytes

    @property
    def nobody_blocked(self) -> StatusList:
        """The newer list the attacker wishes for."""
        return replace(
            self.revocations,
            version=self.revocations.version + 1,
            packed=bytes(len(self.revocations.packed)),
        )

    @property
    def newer(self) -> Policy:
        return replace(self.policy, version=self.policy.version + 1)


def _older(forger: Forger) -> bytes:
    return forger.old_revocations


def _other_site(forger: Forger) -> bytes:
    return replace(forger.nobody_blocked, site_id=SiteId("elsewhere")).seal(forger.key)


def _other_key(forger: Forger) -> bytes:
    return forger.nobody_blocked.seal(Ed25519PrivateKey.generate())


def _tampered(forger: Forger) -> bytes:
    """Everybody is valid, under the signature of the list in force."""
    genuine = cbor.decode(forger.revocations.seal(forger.key)[1:], limit=10**6)
    wanted = cbor.decode(forger.nobody_blocked.seal(forger.key)[1:], limit=10**6)
    assert isinstance(genuine, list)
    assert isinstance(wanted, list)
    return b"\xd2" + cbor.encode([*wanted[:3], genuine[3]])


def _garbage(_forger: Forger) -> bytes:
    return bytes(200)


def _expired(forger: Forger) -> bytes:
    ended = forger.nobody_blocked.issued_at - timedelta(days=1)
    return replace(forger.nobody_blocked, issued_at=ended - timedelta(days=7), expires_at=ended).seal(
        forger.key
    )


def _policy_of_other_site(forger: Forger) -> bytes:
    return bundle.seal(replace(forger.newer, site_id=SiteId("elsewhere")), forger.key)


def _policy_by_other_key(forger: Forger) -> bytes:
    return bundle.seal(forger.newer, Ed25519PrivateKey.generate())


def _policy_tampered(forger: Forger) -> bytes:
    sealed = bytearray(bundle.seal(forger.newer, forger.key))
    sealed[len(sealed) // 2] ^= 1
    return bytes(sealed)


def _policy_older(forger: Forger) -> bytes:
    return bundle.seal(replace(forger.policy, version=forger.policy.version - 1), forger.key)


ATTACKS: list[tuple[DocumentKind, Callable[[Forger], bytes], Reason]] = [
    (DocumentKind.REVOCATIONS, _older, Reason.DOCUMENT_NOT_NEWER),
    (DocumentKind.REVOCATIONS, _other_site, Reason.DOCUMENT_OTHER_SITE),
    (DocumentKind.REVOCATIONS, _tampered, Reason.SIGNATURE_INVALID),
    (DocumentKind.REVOCATIONS, _other_key, Reason.SIGNER_UNKNOWN),
    (DocumentKind.REVOCATIONS, _expired, Reason.DOCUMENT_EXPIRED),
    (DocumentKind.REVOCATIONS, _garbage, Reason.DOCUMENT_MALFORMED),
    (DocumentKind.POLICY, _policy_older, Reason.DOCUMENT_NOT_NEWER),
    (DocumentKind.POLICY, _policy_of_other_site, Reason.DOCUMENT_OTHER_SITE),
    (DocumentKind.POLICY, _policy_tampered, Reason.SIGNATURE_INVALID),
    (DocumentKind.POLICY, _policy_by_other_key, Reason.SIGNER_UNKNOWN),
]


def held(house: House) -> dict[str, bytes]:
    """The documents on the kitchen's disk."""
    return {
        path.name: path.read_bytes() for path in (house.kitchen.config.parent / "state" / "policy").iterdir()
    }


@pytest.fixture(scope="module")
def old_revocations(house: House) -> bytes:
    """A genuine list from before the card was lost."""
    return held(house)["revocations.signed"]


@pytest.fixture
def forger(house: House, lost: Holder, old_revocations: bytes) -> Forger:
    """Somebody who even has the site's policy key, where the attack needs it."""
    key = read_key(house.keys / "policy.key.pem", Passphrase.from_file(house.keys / "passphrase"))
    assert isinstance(key, Ed25519PrivateKey)
    trusted = trusted_keys(key.public_key())
    documents = held(house)
    return Forger(
        policy=bundle.open_bundle(documents["policy.signed"], trusted),
        revocations=StatusList.open(documents["revocations.signed"], trusted),
        key=key,
        old_revocations=old_revocations,
    )


@pytest.mark.parametrize(
    ("kind", "forge", "reason"), ATTACKS, ids=[forge.__name__.strip("_") for _, forge, _ in ATTACKS]
)
def test_a_document_that_is_not_to_be_believed_changes_nothing(
    house: House,
    holder: Holder,
    lost: Holder,
    forger: Forger,
    kind: DocumentKind,
    forge: Callable[[Forger], bytes],
    reason: Reason,
) -> None:
    """It is refused with its own reason, which reaches the hub, and the old one stays in force."""
    site, station = house.site, house.kitchen
    before, last = held(house), max(journal_of(station).drafts)
    with Attacker(house) as attacker:
        attacker.send(kind, forger.nobody_blocked.version, forge(forger))
        site.wait_until(
            lambda: any(
                draft.kind is EventKind.POLICY_REFUSED
                for number, draft in journal_of(station).drafts.items()
                if number > last
            ),
            "the refusal in the journal",
        )
    refusals = {
        number: (draft.reason, draft.details)
        for number, draft in journal_of(station).drafts.items()
        if draft.kind is EventKind.POLICY_REFUSED and number > last
    }
    assert list(refusals.values()) == [(reason, {"kind": kind.value})]
    at_hub = event_at_hub(site, KITCHEN, next(iter(refusals)))
    assert (at_hub["kind"], at_hub["reason"]) == ("policy_refused", reason.value)
    assert held(house) == before
    door = next(door for door in site.doors() if door["id"] == KITCHEN)
    assert (door["policy_version"], door["revocations_version"]) == (
        forger.policy.version,
        forger.revocations.version,
    )
    refused, releases = tap_once_locked(site, lost, KITCHEN)
    assert (refused.outcome, refused.reason, releases) == (DENIED, "credential_revoked", [])
    assert tap_once_locked(site, holder, KITCHEN)[0].outcome == GRANTED


def test_a_refused_document_keeps_no_genuine_one_away(house: House, holder: Holder, forger: Forger) -> None:
    """Right after a forged list, the hub's next one is applied."""
    site = house.site
    with Attacker(house) as attacker:
        attacker.send(DocumentKind.REVOCATIONS, 1, _other_key(forger))
    version = site.block(credential_of(holder))["version"]
    site.wait_for_distribution(credential_of(holder), version)
    tap, _ = tap_once_locked(site, holder, KITCHEN)
    assert tap.reason == "credential_suspended"
    site.wait_for_distribution(credential_of(holder), site.reinstate(credential_of(holder))["version"])


def ended(house: House, job: dict[str, Any]) -> dict[str, Any]:
    """The job, once a card came of it or not."""
    path, found = f"/issuing/jobs/{job['id']}", [job]

    def over() -> bool:
        found[0] = house.site.api.get(path)
        return found[0]["ended_at"] is not None

    house.site.wait_until(over, "the end of the job")
    return found[0]


def test_a_lost_card_is_replaced_by_one_that_the_issuing_desk_makes(
    house: House, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Blank cards become cards that open, without another hand; the station dies in between, and the lost one opens nothing."""
    site, api = house.site, house.site.api
    resident = site.description.residents[EVERYWHERE]
    directory = tmp_path_factory.mktemp("desk")
    made = api.post("/stations", {"id": "cards", "kind": "issuing", "name": "Card desk"})
    asked = {"cardholder_id": resident.id, "station_id": "cards"}
    desk = IssuingDesk(directory, house.keys, site.hub.url, made["token"])
    with desk:
        first = ended(house, api.post("/issuing/jobs", asked))
        assert (first["state"], first["step"], first["failure"]) == ("done", "checked", None)
        desk.kill()
    lost = api.post("/issuing/jobs", asked | {"replaces": first["credential_id"], "why": "lost"})
    card = Holder(label="first", card=desk.card(first["credential_id"]))
    site.wait_until_confirmed()
    tap, releases = tap_once_locked(site, card, GATE)
    assert (tap.outcome, tap.reason, releases) == (DENIED, "credential_suspended", [])
    again = IssuingDesk(directory, house.keys, site.hub.url, made["token"])
    with again:
        second = ended(house, lost)
    assert second["state"] == "done"
    site.wait_until_confirmed()
    tap, releases = tap_once_locked(
        site, Holder(label="second", card=again.card(second["credential_id"])), GATE
    )
    assert (tap.outcome, tap.reason, len(releases)) == (GRANTED, "entitled", 1)
    tap, releases = tap_once_locked(site, card, GATE)
    assert (tap.outcome, tap.reason, releases) == (DENIED, "credential_revoked", [])
