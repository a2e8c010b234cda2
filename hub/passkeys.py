"""Passkeys (WebAuthn level 3): adding them, signing in with them.

A passkey is discoverable and verifies its user (a fingerprint, a PIN), so that it is both what somebody has and what
they are or know, and needs no name. A challenge is 256 random bits, kept as a hash, for two minutes and one answer.
Origin and relying party are the hub's own address (§7.1, §7.2); a signature counter that does not grow (§6.1.1)
is refused and stands in the audit log, because the passkey may have been copied.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

import webauthn
from sqlalchemy import Connection
from webauthn.helpers import parse_client_data_json
from webauthn.helpers.parse_authentication_credential_json import parse_authentication_credential_json
from webauthn.helpers.parse_registration_credential_json import parse_registration_credential_json
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from hub import audit
from hub.entered import readable
from hub.operators import SignInRefused, digest, open_session
from hub.store import operators as operator_rows
from hub.store import passkeys as rows
from hub.store.database import Database
from hub.store.errors import NotFound
from hub.store.passkeys import PasskeyRow
from pacs.errors import MalformedData

CHALLENGE_LIFETIME = timedelta(minutes=2)
PASSKEYS_EACH = 20
_VERIFIED = UserVerificationRequirement.REQUIRED

T = TypeVar("T")


class Passkeys:
    """The passkeys of one hub, whose address is ``origin``. Methods that check something raise ``SignInRefused``."""

    def __init__(self, database: Database, origin: str) -> None:
        self._database = database
        self._origin = origin
        self._rp_id = urlsplit(origin).hostname or ""

    @property
    def are_possible(self) -> bool:
        """False where the hub is reached by an IP address, to which no passkey can belong (§5.1.3)."""
        try:
            ip_address(self._rp_id)
        except ValueError:
            return bool(self._rp_id)
        return False

    def creation_options(self, operator_id: str, now: datetime) -> str:
        """What the browser is asked to make, as JSON."""
        with self._database.write() as connection:
            operator = operator_rows.operator_by_id(connection, operator_id)
            if operator is None:
                raise NotFound("operator is not there")
            known = rows.of_operator(connection, operator_id)
            options = webauthn.generate_registration_options(
                rp_id=self._rp_id,
                rp_name="Drempel",
                user_id=operator_id.encode(),
                user_name=operator.name,
                challenge=_challenge(connection, operator_id, now),
                timeout=int(CHALLENGE_LIFETIME.total_seconds() * 1000),
                authenticator_selection=AuthenticatorSelectionCriteria(
                    resident_key=ResidentKeyRequirement.REQUIRED, user_verification=_VERIFIED
                ),
                exclude_credentials=[PublicKeyCredentialDescriptor(id=each.credential_id) for each in known],
            )
        return webauthn.options_to_json(options)

    def add(self, operator_id: str, name: str, answer: Any, now: datetime) -> None:
        """Keep the passkey that the browser made; ``answer`` is its ``RegistrationResponseJSON``."""
        try:
            name = readable(name[:200])[:64]
        except MalformedData as error:
            raise SignInRefused("passkey_name_unusable", "Give the passkey a name.") from error
        credential = _understood(lambda: parse_registration_credential_json(answer))
        challenge = self._answered(credential.response.client_data_json, operator_id, now)
        made = _understood(
            lambda: webauthn.verify_registration_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._rp_id,
                expected_origin=self._origin,
                require_user_verification=True,
            )
        )
        with self._database.write() as connection:
            if rows.get(connection, made.credential_id) is not None:
                raise SignInRefused("passkey_known", "This passkey is known already.")
            if len(rows.of_operator(connection, operator_id)) >= PASSKEYS_EACH:
                raise SignInRefused("passkeys_too_many", "Remove a passkey that you no longer use first.")
            row = PasskeyRow(
                credential_id=made.credential_id,
                operator_id=operator_id,
                name=name,
                public_key=made.credential_public_key,
                sign_count=made.sign_count,
                created_at=now,
                last_used_at=None,
            )
            rows.add(connection, row)
            _note(connection, "passkey.add", row, now)

    def request_options(self, now: datetime) -> str:
        """What any passkey of this hub is asked to sign, as JSON."""
        with self._database.write() as connection:
            rows.forget_expired(connection, now)
            challenge = _challenge(connection, None, now)
        options = webauthn.generate_authentication_options(
            rp_id=self._rp_id,
            challenge=challenge,
            timeout=int(CHALLENGE_LIFETIME.total_seconds() * 1000),
            user_verification=_VERIFIED,
        )
        return webauthn.options_to_json(options)

    def sign_in(self, answer: Any, now: datetime) -> str:
        """A session token for whose passkey it is; ``answer`` is an ``AuthenticationResponseJSON``."""
        credential = _understood(lambda: parse_authentication_credential_json(answer))
        challenge = self._answered(credential.response.client_data_json, None, now)
        with self._database.read() as connection:
            passkey = rows.get(connection, credential.raw_id)
        handle = credential.response.user_handle
        if passkey is None or handle != passkey.operator_id.encode():
            raise _unusable("passkey_unknown")
        public_key = passkey.public_key
        used = _understood(
            lambda: webauthn.verify_authentication_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._rp_id,
                expected_origin=self._origin,
                credential_public_key=public_key,
                credential_current_sign_count=0,  # compared below, where it can be written down
                require_user_verification=True,
            )
        )
        with self._database.write() as connection:
            passkey = rows.get(connection, used.credential_id)
            operator = passkey and operator_rows.operator_by_id(connection, passkey.operator_id)
            if passkey is None or not operator or operator.disabled_at is not None:
                raise _unusable("passkey_unknown")
            counts = used.new_sign_count, passkey.sign_count
            if not any(counts) or counts[0] > counts[1]:
                rows.used(connection, passkey.credential_id, used.new_sign_count, now)
                return open_session(connection, operator, now, "session.open_by_passkey")
            _note(connection, "passkey.counter_regression", passkey, now, seen=counts[0], stored=counts[1])
        raise SignInRefused(
            "passkey_suspect", "This passkey may have been copied. Sign in another way, and remove it."
        )

    def listed(self, operator_id: str) -> list[PasskeyRow]:
        """An operator's passkeys."""
        with self._database.read() as connection:
            return rows.of_operator(connection, operator_id)

    def remove(self, operator_id: str, credential_id: bytes, now: datetime) -> None:
        """Forget one of an operator's own passkeys; raises ``NotFound``."""
        with self._database.write() as connection:
            row = rows.get(connection, credential_id)
            if row is None or row.operator_id != operator_id:
                raise NotFound("passkey is not there")
            rows.remove(connection, credential_id)
            _note(connection, "passkey.remove", row, now)

    def remove_all(self, operator_id: str, now: datetime, actor: str = audit.SYSTEM) -> int:
        """Forget all passkeys of an operator, and return how many there were."""
        with self._database.write() as connection:
            found = rows.of_operator(connection, operator_id)
            for row in found:
                rows.remove(connection, row.credential_id)
                _note(connection, "passkey.remove", row, now, actor=actor)
        return len(found)

    def _answered(self, client_data: bytes, operator_id: str | None, now: datetime) -> bytes:
        """The challenge that is answered, which cannot be answered again, right or wrong."""
        challenge = _understood(lambda: parse_client_data_json(client_data)).challenge
        with self._database.write() as connection:
            taken = rows.take_challenge(connection, _hash(challenge), operator_id, now)
        if not taken:
            raise SignInRefused("challenge_unusable", "That took too long, or was sent twice. Try again.")
        return challenge


def _challenge(connection: Connection, operator_id: str | None, now: datetime) -> bytes:
    challenge = secrets.token_bytes(32)
    rows.add_challenge(connection, _hash(challenge), operator_id, now + CHALLENGE_LIFETIME)
    return challenge


def _hash(challenge: bytes) -> bytes:
    return digest(challenge.hex())


def _unusable(code: str) -> SignInRefused:
    return SignInRefused(code, "This passkey does not open this hub. Try again, or sign in another way.")


def _understood(read: Callable[[], T]) -> T:
    try:
        return read()
    except Exception as error:
        raise _unusable("passkey_invalid") from error


def _note(
    connection: Connection, action: str, row: PasskeyRow, now: datetime, actor: str = "", **detail: int
) -> None:
    subject = f"operator:{row.operator_id}"
    said: dict[str, str | int] = {"passkey": digest(row.credential_id.hex()).hex()[:16], **detail}
    audit.record(connection, now=now, actor=actor or subject, action=action, subject=subject, detail=said)
