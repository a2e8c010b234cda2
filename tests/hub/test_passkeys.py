"""Passkeys without a browser: an authenticator in software, and everything that is not one."""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.operators import SignInRefused
from hub.passkeys import CHALLENGE_LIFETIME, PASSKEYS_EACH
from hub.roles import Role
from hub.store import audit
from tests.hub.running import RunningHub, csrf_of, running_hub

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def data_of(said: str) -> bytes:
    return urlsafe_b64decode(said + "=" * (-len(said) % 4))


@dataclass
class Authenticator:
    """One passkey; its fields are what a hostile one would lie about."""

    origin: str
    rp_id: str = "localhost"
    flags: int = PRESENT | VERIFIED
    count: int = 1
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    user: bytes = b""

    def made(self, options: dict[str, Any]) -> dict[str, Any]:
        """Answer ``navigator.credentials.create``."""
        self.user = data_of(options["user"]["id"])
        numbers = self.key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
        attested = bytes(16) + len(self.credential_id).to_bytes(2) + self.credential_id + cbor2.dumps(cose)
        data = self._data(ATTESTED) + attested
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        client = self._client("webauthn.create", options["challenge"])
        return self._answer({"clientDataJSON": text(client), "attestationObject": text(attestation)})

    def signed(self, options: dict[str, Any]) -> dict[str, Any]:
        """Answer ``navigator.credentials.get``."""
        client = self._client("webauthn.get", options["challenge"])
        data = self._data()
        signature = self.key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(SHA256()))
        said = {"clientDataJSON": client, "authenticatorData": data, "signature": signature}
        return self._answer({name: text(each) for name, each in (said | {"userHandle": self.user}).items()})

    def _client(self, kind: str, challenge: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin}).encode()

    def _data(self, extra: int = 0) -> bytes:
        hashed = hashlib.sha256(self.rp_id.encode()).digest()
        return hashed + bytes([self.flags | extra]) + self.count.to_bytes(4)

    def _answer(self, response: dict[str, str]) -> dict[str, Any]:
        identity = text(self.credential_id)
        return {"id": identity, "rawId": identity, "type": "public-key", "response": response}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    directory = tmp_path_factory.mktemp("passkeys")
    with running_hub(directory, port=port, origin=f"http://localhost:{port}") as running:
        yield running


@dataclass
class Desk:
    """A signed-in browser, and what it needs for its account page."""

    browser: httpx.Client
    headers: dict[str, str]
    operator_id: str

    def options(self) -> dict[str, Any]:
        answer = self.browser.post("/account/passkeys/options", headers=self.headers)
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    def add(self, answer: Any, name: str = "Key ring") -> httpx.Response:
        body = {"answer": answer, "name": name}
        return self.browser.post("/account/passkeys", json=body, headers=self.headers)


@pytest.fixture
def desk(hub: RunningHub) -> Iterator[Desk]:
    with hub.signed_in(Role.GUARD) as browser:
        token = csrf_of(browser.get("/account").text)
        principal = hub.operators.sessions.principal(browser.cookies["drempel"], hub.clock())
        assert principal is not None
        yield Desk(browser, {"x-csrf-token": token}, principal.actor.removeprefix("operator:"))


def enrolled(hub: RunningHub, desk: Desk, **lies: Any) -> Authenticator:
    key = Authenticator(hub.settings.public_origin, **lies)
    answer = desk.add(key.made(desk.options()))
    assert answer.status_code == 200, answer.text
    return key


def asked(hub: RunningHub) -> dict[str, Any]:
    with hub.client(origin=hub.url) as visitor:
        said: dict[str, Any] = visitor.post("/sign-in/passkey/options").json()
        return said


def sent(hub: RunningHub, answer: Any) -> httpx.Response:
    with hub.client(origin=hub.url) as visitor:
        return visitor.post("/sign-in/passkey", json={"answer": answer, "next": "/doors"})


def refused(answer: httpx.Response, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (403, code)
    assert "set-cookie" not in answer.headers


def actions(hub: RunningHub, operator_id: str) -> list[str]:
    with hub.database.read() as connection:
        wanted = audit.Wanted(subject=f"operator:{operator_id}")
        return [each.action for each in audit.page(connection, before=None, limit=50, wanted=wanted)]


def test_a_passkey_is_added_signs_in_and_is_removed(hub: RunningHub, desk: Desk) -> None:
    """Without a name or password; listed with its last use; each step in the audit log; gone, it opens nothing."""
    key = enrolled(hub, desk)
    page = desk.browser.get("/account").text
    assert "Key ring" in page
    key.count = 2
    answer = sent(hub, key.signed(asked(hub)))
    assert (answer.status_code, answer.json()) == (200, {"next": "/doors"})
    principal = hub.operators.sessions.principal(answer.cookies["drempel"], hub.clock())
    assert principal is not None
    assert principal.actor == f"operator:{desk.operator_id}"
    assert hub.app.state.services.passkeys.listed(desk.operator_id)[0].last_used_at is not None
    path = f"/account/passkeys/{key.credential_id.hex()}/remove"
    assert desk.browser.post(path, headers=desk.headers).status_code == 303
    key.count = 3
    refused(sent(hub, key.signed(asked(hub))), "passkey_unknown")
    seen = actions(hub, desk.operator_id)
    assert seen[:3] == ["passkey.remove", "session.open_by_passkey", "passkey.add"]


def test_options_ask_for_a_discoverable_verified_passkey_of_this_hub(hub: RunningHub, desk: Desk) -> None:
    """What the browser is asked for is what the hub will insist on."""
    options = desk.options()
    wanted = options["authenticatorSelection"]
    assert (wanted["residentKey"], wanted["userVerification"]) == ("required", "required")
    assert options["rp"]["id"] == "localhost"
    assert len(data_of(options["challenge"])) == 32
    assert asked(hub)["userVerification"] == "required"


@pytest.mark.parametrize(
    "lies",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost"},
        {"rp_id": "evil.example"},
        {"flags": PRESENT},
        {"flags": VERIFIED},
        {"key": ec.generate_private_key(ec.SECP256R1())},
    ],
    ids=["other origin", "other port", "other party", "not verified", "nobody there", "other key"],
)
def test_what_another_page_or_key_signed_opens_nothing(
    hub: RunningHub, desk: Desk, lies: dict[str, Any]
) -> None:
    """Wrong origin, relying party, flags or signature are one named refusal, and leave the passkey as it was."""
    key = enrolled(hub, desk)
    good = dict(vars(key))
    vars(key).update(lies, count=2)
    refused(sent(hub, key.signed(asked(hub))), "passkey_invalid")
    vars(key).update(good, count=2)
    assert sent(hub, key.signed(asked(hub))).status_code == 200


@pytest.mark.parametrize("lies", [{"origin": "https://evil.example"}, {"rp_id": "x"}, {"flags": PRESENT}])
def test_what_another_page_made_is_not_added(hub: RunningHub, desk: Desk, lies: dict[str, Any]) -> None:
    """The same for adding one."""
    key = Authenticator(**({"origin": hub.settings.public_origin} | lies))
    refused(desk.add(key.made(desk.options())), "passkey_invalid")
    assert hub.app.state.services.passkeys.listed(desk.operator_id) == []


def test_a_challenge_is_answered_once_in_time_and_by_whom_it_was_for(hub: RunningHub, desk: Desk) -> None:
    """Replayed, late, somebody else's, or invented: refused; a wrong answer uses it up, too."""
    key = enrolled(hub, desk)
    key.count = 2
    options = asked(hub)
    answer = key.signed(options)
    assert sent(hub, answer).status_code == 200
    refused(sent(hub, answer), "challenge_unusable")
    key.count = 3
    options = asked(hub)
    hub.clock.ahead += CHALLENGE_LIFETIME
    refused(sent(hub, key.signed(options)), "challenge_unusable")
    hub.clock.ahead -= CHALLENGE_LIFETIME
    refused(sent(hub, key.signed({"challenge": text(secrets.token_bytes(32))})), "challenge_unusable")
    refused(sent(hub, key.signed(desk.options())), "challenge_unusable")
    with hub.signed_in(Role.GUARD) as other:
        headers = {"x-csrf-token": csrf_of(other.get("/account").text)}
        theirs = other.post("/account/passkeys/options", headers=headers).json()
    made = Authenticator(hub.settings.public_origin).made(theirs)
    refused(desk.add(made), "challenge_unusable")
    options = asked(hub)
    key.origin = "https://evil.example"
    refused(sent(hub, key.signed(options)), "passkey_invalid")
    key.origin = hub.settings.public_origin
    refused(sent(hub, key.signed(options)), "challenge_unusable")


def test_a_passkey_signs_in_nobody_else(hub: RunningHub, desk: Desk) -> None:
    """Another user's handle with one's own key; another's passkey cannot be removed or added again."""
    key = enrolled(hub, desk)
    key.user, own = b"0123456789abcdef", key.user
    key.count = 2
    refused(sent(hub, key.signed(asked(hub))), "passkey_unknown")
    key.user = own
    with hub.signed_in(Role.GUARD) as other:
        headers = {"x-csrf-token": csrf_of(other.get("/account").text)}
        path = f"/account/passkeys/{key.credential_id.hex()}/remove"
        assert other.post(path, headers=headers).status_code == 404
        options = other.post("/account/passkeys/options", headers=headers).json()
        body = {"answer": key.made(options), "name": "Mine now"}
        refused(other.post("/account/passkeys", json=body, headers=headers), "passkey_known")


@pytest.mark.parametrize("count", [5, 4, 0])
def test_a_counter_that_does_not_grow_is_an_audited_anomaly(hub: RunningHub, desk: Desk, count: int) -> None:
    """A copied passkey is refused and stands in the log with both counts; the right one goes on working."""
    key = enrolled(hub, desk, count=5)
    key.count = count
    refused(sent(hub, key.signed(asked(hub))), "passkey_suspect")
    with hub.database.read() as connection:
        entry = audit.last(connection)
    assert entry is not None
    assert entry.action == "passkey.counter_regression"
    assert (entry.detail["seen"], entry.detail["stored"]) == (count, 5)
    key.count = 6
    assert sent(hub, key.signed(asked(hub))).status_code == 200


def test_a_passkey_without_a_counter_works_every_time(hub: RunningHub, desk: Desk) -> None:
    """Passkeys that are kept in several devices count nothing."""
    key = enrolled(hub, desk, count=0)
    assert [sent(hub, key.signed(asked(hub))).status_code for _ in range(2)] == [200, 200]


def test_a_disabled_operators_passkey_opens_nothing(hub: RunningHub, desk: Desk) -> None:
    """Shut out is shut out."""
    key = enrolled(hub, desk)
    hub.operators.set_disabled(desk.operator_id, disabled=True, now=hub.clock())
    key.count = 2
    refused(sent(hub, key.signed(asked(hub))), "passkey_unknown")


def test_passkeys_are_not_without_bounds(hub: RunningHub, desk: Desk) -> None:
    """A number each, and a name for each."""
    for _ in range(PASSKEYS_EACH):
        enrolled(hub, desk)
    key = Authenticator(hub.settings.public_origin)
    refused(desk.add(key.made(desk.options())), "passkeys_too_many")
    refused(desk.add(key.made(desk.options()), name="  "), "passkey_name_unusable")


def test_adding_needs_the_sessions_token(hub: RunningHub, desk: Desk) -> None:
    """Another site's page cannot add its passkey to a signed-in browser."""
    key = Authenticator(hub.settings.public_origin)
    body = {"answer": key.made(desk.options()), "name": "Theirs"}
    assert desk.browser.post("/account/passkeys", json=body).status_code == 403
    assert hub.app.state.services.passkeys.listed(desk.operator_id) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PARTS = ("clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle")
RESPONSES = st.fixed_dictionaries(
    {}, optional={part: JSON | st.binary(max_size=80).map(text) for part in PARTS}
)
ANSWERS = JSON | st.fixed_dictionaries(
    {},
    optional={
        "id": JSON | st.just("AAAA"),
        "rawId": JSON | st.just("AAAA"),
        "type": JSON | st.just("public-key"),
        "response": JSON | RESPONSES,
    },
)


@given(ANSWERS)
@settings(deadline=None)
def test_garbage_is_refused_by_name(hub: RunningHub, answer: Any) -> None:
    """Whatever JSON comes for an answer, nothing but a named refusal comes back."""
    passkeys = hub.app.state.services.passkeys
    named = {"passkey_invalid", "challenge_unusable", "passkey_unknown"}
    with pytest.raises(SignInRefused) as refusal:
        passkeys.sign_in(answer, hub.clock())
    assert refusal.value.code in named
    with pytest.raises(SignInRefused) as refusal:
        passkeys.add("0" * 16, "Key", answer, hub.clock())
    assert refusal.value.code in named


def test_a_hub_reached_by_address_offers_none(tmp_path: Path) -> None:
    """A passkey belongs to a name; the page says so, and nothing asks for one."""
    with (
        running_hub(tmp_path) as hub,
        hub.signed_in(Role.GUARD) as browser,
        hub.client(origin=hub.url) as visitor,
    ):
        assert "No passkeys here" in browser.get("/account").text
        assert "passkey" not in visitor.get("/sign-in").text
        assert visitor.post("/sign-in/passkey/options").status_code == 404
