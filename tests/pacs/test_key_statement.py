"""Key statements as bytes: one form, signed by the root alone, carried by documents without being part of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from pacs import cbor, envelope, revocation
from pacs.card import p256
from pacs.envelope import key_id
from pacs.errors import MalformedData, VerificationError
from pacs.identifiers import SiteId
from pacs.key_statement import (
    MAX_STATEMENT_BYTES,
    MEDIA_TYPE,
    KeyStatement,
    from_bytes,
    open_statement,
    root_id,
    seal,
    to_bytes,
)
from pacs.reason import Reason
from pacs.revocation import StatusList
from pacs.root_change import RootChange
from provisioning.authority import Authority
from tests.pacs.strategies import ISSUER_POINTS

ROOT, OTHER_ROOT = (ec.derive_private_key(n, ec.SECP256R1()) for n in (11, 12))
KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
RAW = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST = KeyStatement(
    version=1, issued_at=NOON, policy_keys=(RAW,), issuers={"DREMPEL000000001": ISSUER_POINTS[0]}
)

FORMER, FOLLOWING = (Authority.create("root", NOON, root) for root in (ROOT, OTHER_ROOT))
FOLLOWED = RootChange(
    certificate=FOLLOWING.certificate.public_bytes(Encoding.DER),
    links=(FORMER.link(FOLLOWING.certificate, NOON).public_bytes(Encoding.DER),),
    former_is_believed=False,
)

raw_keys = st.binary(min_size=32, max_size=32)
moments = st.integers(0, 4_000_000_000_000).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
issuers = st.dictionaries(
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=16, max_size=16),
    st.sampled_from(ISSUER_POINTS),
    max_size=4,
)


def signed(statement: KeyStatement, root: ec.EllipticCurvePrivateKey = ROOT) -> bytes:
    return seal(statement, root.public_key(), partial(p256.sign, root))


@st.composite
def statements(draw: st.DrawFn) -> KeyStatement:
    keys = draw(st.lists(raw_keys, min_size=1, max_size=6, unique=True))
    cut = draw(st.integers(1, len(keys)))
    return KeyStatement(
        version=draw(st.integers(1, 2**53 - 1)),
        issued_at=draw(moments),
        policy_keys=tuple(keys[:cut]),
        retired_policy_keys=tuple(keys[cut:]),
        issuers=draw(issuers),
        root_change=draw(st.sampled_from([None, FOLLOWED])),
    )


@given(statement=statements())
def test_round_trip(statement: KeyStatement) -> None:
    """A statement survives being written and read, whatever 32 bytes its keys are."""
    assert from_bytes(to_bytes(statement)) == statement
    assert set(statement.accepted) <= set(statement.kept)
    assert len(statement.kept) == len(statement.policy_keys) + len(statement.retired_policy_keys)


@given(data=st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """Any bytes, bare or in a rightly signed envelope, give a statement or an error of ours."""
    sealed = envelope.seal_with(
        data,
        MEDIA_TYPE,
        partial(p256.sign, ROOT),
        signer=root_id(ROOT.public_key()),
        algorithm=envelope.ES256,
    )
    for attempt in (data, sealed):
        with contextlib.suppress(MalformedData):
            open_statement(attempt, ROOT.public_key())
    with contextlib.suppress(MalformedData):
        from_bytes(data)


fields: Mapping[int, object] = cbor.decode(to_bytes(FIRST), limit=4096)
MISSHAPEN: list[dict[int, object]] = [
    {0: 2},
    {1: 0},
    {1: "1"},
    {2: -1},
    {3: []},
    {3: [RAW, RAW]},
    {3: [RAW[:31]]},
    {3: [RAW.hex()]},
    {3: [bytes([n]) * 32 for n in range(17)]},
    {4: [RAW]},
    {5: {"DREMPEL000000001": ISSUER_POINTS[0][:-1] + b"\0"}},
    {5: {"drempel000000001": ISSUER_POINTS[0]}},
    {5: {1: ISSUER_POINTS[0]}},
    {6: 1},
]


@pytest.mark.parametrize("change", MISSHAPEN, ids=str)
def test_misshapen(change: dict[int, object]) -> None:
    """Another format, a version before the first, no key, one twice or too short, a point off the curve: all refused."""
    with pytest.raises(MalformedData):
        from_bytes(cbor.encode({**fields, **change}))


def test_the_root_alone_signs() -> None:
    """Another root's statement, one whose bytes were changed, and a policy key's are refused by name."""
    assert open_statement(signed(FIRST), ROOT.public_key()) == FIRST
    genuine = signed(FIRST)
    forged = genuine.replace(RAW, bytes(32))
    cases: list[tuple[bytes, Any]] = [
        (signed(FIRST, OTHER_ROOT), Reason.SIGNER_UNKNOWN),
        (forged, Reason.SIGNATURE_INVALID),
        (genuine[:-1] + bytes([genuine[-1] ^ 1]), Reason.SIGNATURE_INVALID),
    ]
    for data, reason in cases:
        with pytest.raises(VerificationError) as refused:
            open_statement(data, ROOT.public_key())
        assert refused.value.reason is reason
    with pytest.raises(MalformedData, match="algorithm"):
        open_statement(envelope.seal(to_bytes(FIRST), MEDIA_TYPE, KEY), ROOT.public_key())
    with pytest.raises(MalformedData, match="at most"):
        open_statement(genuine + bytes(MAX_STATEMENT_BYTES), ROOT.public_key())


def test_a_document_carries_it() -> None:
    """A document gives back the statement it came with, and is as authentic without it."""
    document = StatusList.build(
        site_id=SiteId("west"),
        version=3,
        issued_at=NOON,
        expires_at=NOON + timedelta(days=1),
        size=8,
        statuses={},
    )
    trusted = {key_id(KEY.public_key()): KEY.public_key()}
    statement = signed(replace(FIRST, version=2))
    for carried in (b"", statement):
        sealed = document.seal(KEY, carried)
        assert revocation.statement_of(sealed) == carried
        assert StatusList.open(sealed, trusted) == document
    empty = document.seal(KEY, statement).replace(cbor.encode(statement), b"\x40")
    with pytest.raises(MalformedData, match="empty"):
        revocation.statement_of(empty)
    nested = envelope.seal_with(
        to_bytes(FIRST),
        MEDIA_TYPE,
        partial(p256.sign, ROOT),
        signer=root_id(ROOT.public_key()),
        algorithm=envelope.ES256,
        statement=statement,
    )
    with pytest.raises(MalformedData, match="inside"):
        open_statement(nested, ROOT.public_key())
