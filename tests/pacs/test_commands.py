"""Commands as bytes: one form each, signed, and nothing that does not belong together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pacs import cbor, envelope
from pacs.commands import (
    ANSWERS,
    LONGEST_POST,
    MAX_COMMAND_BYTES,
    MAX_LIFETIME,
    MEDIA_TYPE,
    Action,
    Command,
    from_bytes,
    open_command,
    seal,
    to_bytes,
)
from pacs.errors import MalformedData, VerificationError
from pacs.identifiers import ControllerId, CredentialId, DoorId, OperatorId, SiteId
from pacs.reason import Reason
from pacs.rules import DoorMode
from tests.pacs import strategies as own

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
TRUSTED = envelope.trusted_keys(KEY.public_key())
ISSUED = datetime(2026, 3, 1, 12, tzinfo=UTC)
UNLOCK = Command(
    command_id=b"\x11" * 16,
    site_id=SiteId("utrecht"),
    controller_id=ControllerId("gate-1"),
    door_id=DoorId("front"),
    action=Action.UNLOCK_ONCE,
    issued_at=ISSUED,
    expires_at=ISSUED + timedelta(minutes=1),
    operator_id=OperatorId("op-1"),
)
POST = replace(UNLOCK, action=Action.OPEN_POST, until=UNLOCK.issued_at + LONGEST_POST)
LOCKDOWN = replace(UNLOCK, action=Action.SET_MODE, mode=DoorMode.LOCKDOWN)
GRANT = replace(
    UNLOCK, action=Action.GRANT, request_id=b"\x22" * 16, credential_id=CredentialId(b"\x33" * 16)
)

ids = st.binary(min_size=16, max_size=16)
lifetimes = st.integers(min_value=1, max_value=MAX_LIFETIME // timedelta(milliseconds=1)).map(
    lambda ms: timedelta(milliseconds=ms)
)
posts = st.integers(min_value=1, max_value=LONGEST_POST // timedelta(milliseconds=1)).map(
    lambda ms: timedelta(milliseconds=ms)
)
spans = st.integers(min_value=1, max_value=10**11).map(lambda ms: timedelta(milliseconds=ms))


@st.composite
def commands(draw: st.DrawFn) -> Command:
    """Any command that may be given."""
    action, issued_at = draw(st.sampled_from(Action)), draw(own.moments)
    sets, answers = action is Action.SET_MODE, action in ANSWERS
    span = draw(posts if action is Action.OPEN_POST else spans)
    ends = action is Action.OPEN_POST or (sets and draw(st.booleans()))
    return Command(
        command_id=draw(ids),
        site_id=SiteId(draw(own.names)),
        controller_id=ControllerId(draw(own.names)),
        door_id=DoorId(draw(own.names)),
        action=action,
        issued_at=issued_at,
        expires_at=issued_at + draw(lifetimes),
        operator_id=OperatorId(draw(own.names)),
        mode=draw(st.sampled_from(DoorMode)) if sets else None,
        until=issued_at + span if ends else None,
        request_id=draw(ids) if answers else None,
        credential_id=draw(own.credential_ids) if answers else None,
    )


@given(command=commands())
def test_round_trip(command: Command) -> None:
    """A sealed command gives back the command, and has the bytes of its equal."""
    sealed = seal(command, KEY)
    assert len(sealed) <= MAX_COMMAND_BYTES
    assert open_command(sealed, TRUSTED) == command
    assert seal(open_command(sealed, TRUSTED), KEY) == sealed


@given(data=st.binary(max_size=1100))
def test_any_bytes_give_a_command_or_the_named_errors(data: bytes) -> None:
    """Nothing but ``MalformedData`` and ``VerificationError`` comes out, signed by the right key or not at all."""
    for attempt in (data, envelope.seal(data, MEDIA_TYPE, KEY)):
        with contextlib.suppress(MalformedData, VerificationError):
            assert isinstance(open_command(attempt, TRUSTED), Command)


@given(
    key=st.integers(min_value=0, max_value=14),
    value=st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=60)
    | st.binary(max_size=40)
    | st.just([]),
    command=commands(),
)
def test_any_field_of_another_value_gives_a_command_or_malformed(
    key: int, value: object, command: Command
) -> None:
    """One field of another type, length or range is read as what it says or refused by name."""
    fields = cbor.decode(to_bytes(command), limit=MAX_COMMAND_BYTES)
    changed = cbor.encode({**fields, key: value})
    with contextlib.suppress(MalformedData):
        assert to_bytes(from_bytes(changed)) == changed


@given(command=commands(), place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_no_flipped_bit_survives(command: Command, place: int, bit: int) -> None:
    """A sealed command with any one bit changed is refused."""
    sealed = bytearray(seal(command, KEY))
    sealed[place % len(sealed)] ^= 1 << bit
    with pytest.raises((MalformedData, VerificationError)):
        open_command(bytes(sealed), TRUSTED)


@pytest.mark.parametrize(
    ("sealed", "reason"),
    [
        (seal(UNLOCK, OTHER_KEY), Reason.SIGNER_UNKNOWN),
        (seal(UNLOCK, KEY)[:-1] + bytes([seal(UNLOCK, KEY)[-1] ^ 1]), Reason.SIGNATURE_INVALID),
        (envelope.seal(to_bytes(UNLOCK), "application/drempel-policy+cbor", KEY), None),
        (seal(UNLOCK, KEY) + b"\0", None),
        (envelope.seal(to_bytes(UNLOCK) + bytes(MAX_COMMAND_BYTES), MEDIA_TYPE, KEY), None),
    ],
    ids=["another key", "another signature", "another type", "trailing byte", "too long"],
)
def test_refusals(sealed: bytes, reason: Reason | None) -> None:
    """Each way in which it is not the hub's command has its own name."""
    with pytest.raises(VerificationError if reason else MalformedData) as caught:
        open_command(sealed, TRUSTED)
    if isinstance(caught.value, VerificationError):
        assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("command", "change"),
    [
        (UNLOCK, {"command_id": b"\x11" * 15}),
        (UNLOCK, {"expires_at": ISSUED}),
        (UNLOCK, {"expires_at": ISSUED + MAX_LIFETIME + timedelta(milliseconds=1)}),
        (UNLOCK, {"mode": DoorMode.SECURED}),
        (UNLOCK, {"until": ISSUED + timedelta(hours=1)}),
        (UNLOCK, {"request_id": b"\x22" * 16}),
        (UNLOCK, {"credential_id": CredentialId(b"\x33" * 16)}),
        (LOCKDOWN, {"mode": None}),
        (LOCKDOWN, {"until": ISSUED}),
        (LOCKDOWN, {"action": Action.CLEAR_MODE}),
        (POST, {"until": None}),
        (POST, {"until": POST.issued_at}),
        (POST, {"until": POST.issued_at + LONGEST_POST + timedelta(milliseconds=1)}),
        (POST, {"action": Action.CLOSE_POST}),
        (POST, {"mode": DoorMode.SECURED}),
        (GRANT, {"request_id": None}),
        (GRANT, {"request_id": b"\x22" * 17}),
        (GRANT, {"credential_id": None}),
        (GRANT, {"action": Action.UNLOCK_ONCE}),
    ],
)
def test_what_does_not_belong_together_is_no_command(command: Command, change: dict[str, Any]) -> None:
    """A field too many, too few or out of its range is malformed, made here or read."""
    with pytest.raises(MalformedData):
        replace(command, **change)


def _without(key: int) -> Callable[[dict[int, object]], dict[int, object]]:
    return lambda fields: {name: value for name, value in fields.items() if name != key}


@pytest.mark.parametrize("key", range(9))
def test_no_required_field_may_be_absent(key: int) -> None:
    """A command without one of its first nine fields is malformed."""
    fields = cbor.decode(to_bytes(UNLOCK), limit=MAX_COMMAND_BYTES)
    with pytest.raises(MalformedData):
        from_bytes(cbor.encode(_without(key)(fields)))
