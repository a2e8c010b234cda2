"""Whom a controller believes while keys change: the root's newest statement, through restarts, losses and forgeries."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.order_store import OrderStore, Receiver
from edge.policy_store import PolicyStore
from edge.signers import Signers
from pacs import bundle
from pacs.card import p256
from pacs.commands import Action, Command, seal
from pacs.envelope import trusted_keys
from pacs.errors import VerificationError
from pacs.identifiers import ControllerId, DoorId, OperatorId
from pacs.key_statement import KeyStatement
from pacs.key_statement import seal as seal_statement
from pacs.messages import DocumentKind
from pacs.reason import Reason
from pacs.revocation import StatusList
from pacs.rules import DoorMode
from tests.edge.test_policy_store import ISSUED, KEY, NOW, OTHER_KEY, SITE, document

POLICY, REVOCATIONS = DocumentKind.POLICY, DocumentKind.REVOCATIONS
ROOT, OTHER_ROOT = (ec.derive_private_key(n, ec.SECP256R1()) for n in (21, 22))
POINTS = [p256.encode_point(ec.derive_private_key(n, ec.SECP256R1()).public_key()) for n in (31, 32)]
OLD, NEW = KEY, OTHER_KEY
OLD_ISSUER, NEW_ISSUER = "DREMPEL000000001", "DREMPEL000000002"


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def statement(
    version: int,
    *current: Ed25519PrivateKey,
    retired: tuple[Ed25519PrivateKey, ...] = (),
    issuers: tuple[str, ...] = (OLD_ISSUER, NEW_ISSUER),
    root: ec.EllipticCurvePrivateKey = ROOT,
) -> bytes:
    said = KeyStatement(
        version=version,
        issued_at=ISSUED,
        policy_keys=tuple(map(raw, current)),
        retired_policy_keys=tuple(map(raw, retired)),
        issuers=dict(zip(issuers, POINTS, strict=False)),
    )
    return seal_statement(said, root.public_key(), partial(p256.sign, root))


BOTH, CHANGED = statement(2, OLD, NEW), statement(3, NEW, retired=(OLD,))


def carrying(kind: DocumentKind, version: int, key: Ed25519PrivateKey, stated: bytes) -> bytes:
    """A document signed by ``key``, with a statement."""
    plain = document(kind, version, key=key)
    trusted = trusted_keys(key.public_key())
    if kind is REVOCATIONS:
        return StatusList.open(plain, trusted).seal(key, stated)
    policy = replace(
        bundle.open_bundle(plain, trusted), issuers=dict(zip((OLD_ISSUER, NEW_ISSUER), POINTS, strict=True))
    )
    return bundle.seal(policy, key, stated)


def signers() -> Signers:
    """As a controller has them that was made with the old key."""
    return Signers(trusted_keys(OLD.public_key()), lambda: [ROOT.public_key()])


def open_store(directory: Path) -> PolicyStore:
    return PolicyStore(directory / "policy", site_id=SITE, signers=signers())


def refusal(store: PolicyStore, kind: DocumentKind, data: bytes) -> Reason:
    with pytest.raises(VerificationError) as refused:
        store.accept(kind, data, NOW)
    return refused.value.reason


def test_a_change_of_the_key_with_overlap(tmp_path: Path) -> None:
    """Old key, both, new key: each document is taken in its time, and a restart at any step holds what was held."""
    store = open_store(tmp_path)
    steps = [(OLD, b""), (OLD, BOTH), (NEW, BOTH), (NEW, CHANGED)]
    for version, (key, stated) in enumerate(steps, 1):
        for kind in (REVOCATIONS, POLICY):
            assert store.accept(kind, carrying(kind, version, key, stated), NOW)
            again = open_store(tmp_path)
            assert again.held == store.held
            assert not again.statement_lost
            assert again.unusable == ()
    assert refusal(store, POLICY, carrying(POLICY, 9, OLD, CHANGED)) is Reason.SIGNER_UNKNOWN
    assert refusal(open_store(tmp_path), POLICY, carrying(POLICY, 9, OLD, b"")) is Reason.SIGNER_UNKNOWN


def test_away_during_the_whole_overlap(tmp_path: Path) -> None:
    """Who knows the old key alone takes a document of the new one, because the root's word comes with it."""
    store = open_store(tmp_path)
    store.accept(POLICY, carrying(POLICY, 1, OLD, b""), NOW)
    store.accept(REVOCATIONS, carrying(REVOCATIONS, 1, OLD, b""), NOW)
    assert refusal(store, POLICY, carrying(POLICY, 2, NEW, b"")) is Reason.SIGNER_UNKNOWN
    assert store.accept(REVOCATIONS, carrying(REVOCATIONS, 2, NEW, CHANGED), NOW)
    again = open_store(tmp_path)  # the policy is still the old key's, which was taken while that was in use
    assert again.versions == {POLICY: 1, REVOCATIONS: 2}


@pytest.mark.parametrize("kind", list(DocumentKind))
def test_what_is_not_the_roots_word(tmp_path: Path, kind: DocumentKind) -> None:
    """A forged statement, another root's, garbage, and an older one for a dropped key: each refused by its name."""
    store = open_store(tmp_path)
    store.accept(kind, carrying(kind, 1, NEW, CHANGED), NOW)
    forged = bytearray(statement(4, OLD))
    forged[-1] ^= 1
    cases = [
        (bytes(forged), OLD, Reason.SIGNATURE_INVALID),
        (statement(4, OLD, root=OTHER_ROOT), OLD, Reason.SIGNER_UNKNOWN),
        (b"\xd2\x84", OLD, Reason.DOCUMENT_MALFORMED),
        (BOTH, OLD, Reason.DOCUMENT_NOT_NEWER),
        (bytes(forged), NEW, Reason.SIGNATURE_INVALID),
    ]
    for stated, key, reason in cases:
        assert refusal(store, kind, carrying(kind, 2, key, stated)) is reason
    assert open_store(tmp_path).versions[kind] == 1
    assert store.accept(kind, carrying(kind, 2, NEW, BOTH), NOW), (
        "on its way since before, by a key still in use"
    )


def test_a_newer_statement_is_followed_whatever_it_came_with(tmp_path: Path) -> None:
    """The root's word on a stolen key counts, also when the document around it is worth nothing."""
    store = open_store(tmp_path)
    store.accept(POLICY, carrying(POLICY, 5, OLD, b""), NOW)
    assert refusal(store, POLICY, carrying(POLICY, 4, NEW, CHANGED)) is Reason.DOCUMENT_NOT_NEWER
    assert refusal(store, POLICY, carrying(POLICY, 6, OLD, b"")) is Reason.SIGNER_UNKNOWN
    assert open_store(tmp_path).versions[POLICY] == 5


def test_a_lost_statement(tmp_path: Path) -> None:
    """Damaged, gone or put back to an older one: nobody believes the old key; what came with a document helps, or the hub."""
    store = open_store(tmp_path)
    newest = carrying(POLICY, 2, NEW, CHANGED)
    store.accept(POLICY, newest, NOW)
    file = tmp_path / "policy" / "keys.signed"
    for damage in (file.unlink, partial(file.write_bytes, BOTH), partial(file.write_bytes, b"x")):
        damage()
        healed = open_store(tmp_path)
        assert (healed.versions[POLICY], healed.statement_lost) == (2, False)
        kept = (tmp_path / "policy" / "policy.signed").read_bytes()
        (tmp_path / "policy" / "policy.signed").write_bytes(carrying(POLICY, 3, OLD, b""))
        lost = open_store(tmp_path)
        assert (lost.versions[POLICY], lost.statement_lost) == (0, True)
        assert refusal(lost, POLICY, carrying(POLICY, 9, OLD, BOTH)) is Reason.DOCUMENT_NOT_NEWER
        assert lost.accept(POLICY, newest, NOW)
        assert (tmp_path / "policy" / "policy.signed").read_bytes() == kept
        assert file.read_bytes() == CHANGED


def test_only_issuers_that_the_root_names(tmp_path: Path) -> None:
    """A hub cannot have doors trust a card issuer of its own; one that the root drops is dropped at once."""
    store = open_store(tmp_path)
    held = store.accept(POLICY, carrying(POLICY, 1, OLD, b""), NOW)
    assert held
    assert held.policy
    assert set(held.policy.issuers) == {OLD_ISSUER, NEW_ISSUER}, (
        "before the first statement the policy alone says it"
    )
    held = store.accept(
        REVOCATIONS, carrying(REVOCATIONS, 1, OLD, statement(2, OLD, issuers=(OLD_ISSUER,))), NOW
    )
    assert held
    assert held.policy
    assert set(held.policy.issuers) == {OLD_ISSUER}
    restarted = open_store(tmp_path).held.policy
    assert restarted
    assert set(restarted.issuers) == {OLD_ISSUER}


@pytest.mark.parametrize(
    ("stated", "mode"),
    [(CHANGED, DoorMode.UNLOCKED), (statement(3, NEW), DoorMode.LOCKDOWN)],
    ids=["retired", "dropped"],
)
def test_orders_in_force(tmp_path: Path, stated: bytes, mode: DoorMode) -> None:
    """An order of a retired key stays in force over a restart; one of a dropped key locks the door down."""
    order = Command(
        command_id=bytes(16),
        site_id=SITE,
        controller_id=ControllerId("gate-1"),
        door_id=DoorId("gate"),
        action=Action.SET_MODE,
        mode=DoorMode.UNLOCKED,
        issued_at=ISSUED,
        expires_at=ISSUED + timedelta(minutes=1),
        operator_id=OperatorId("op"),
    )
    believed = signers()
    receiver = Receiver(
        site_id=SITE,
        controller_id=ControllerId("gate-1"),
        door_ids=frozenset({DoorId("gate")}),
        signers=believed,
    )
    (tmp_path / "commands").mkdir()
    OrderStore(tmp_path / "commands", receiver).apply(order, seal(order, OLD))
    believed.follow(believed.verified(stated), stated)
    assert OrderStore(tmp_path / "commands", receiver).orders[DoorId("gate")].mode is mode
