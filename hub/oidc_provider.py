"""The sign-in service of an organisation, by OpenID Connect Core 1.0 and Discovery 1.0; this hub relies on it.

Authorization code flow (Core §3.1) with PKCE (RFC 7636, S256), nonce and state. Nothing that the provider said is kept
from one sign-in to the next, so a key that it changed is known at once. Of the ID token only issuer and subject are
used. A provider that is slow or away holds up nobody who signs in another way.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import ClaimError, ExpiredTokenError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from hub.operators import SignInRefused
from pacs.errors import MalformedData

SIGNATURES = ["ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512", "EdDSA"]
"""Never ``none``, and never a secret that both sides hold."""
PROMPTS = ("login", "select_account", "default")
LEEWAY_S = 60
TIMEOUT_S = 5.0
AT_ONCE = 6
_TURN_S = 1.0  # while the others wait for a provider that hangs
LONGEST = 256 * 1024
_CONTENT = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}
_ADDRESS = re.compile(r"https?://[!#-&(-;=?-~]+")  # printable, without quotes and angle brackets
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """Which provider; without an issuer there is none.

    ``prompt`` is what it is asked to do about somebody who is signed in there (Core §3.1.2.1; the last of ``PROMPTS``:
    as it likes); ``label`` is what the pages call it, by default the issuer's host. ``ca_file`` (PEM) vouches for it
    in place of the system's authorities.
    """

    issuer: str = ""
    client_id: str = ""
    client_secret_file: Path | None = None
    client_secret: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ("openid",)
    prompt: str = "login"
    label: str = ""
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        if bool(self.issuer) != bool(self.client_id):
            raise MalformedData("oidc.issuer and oidc.client_id: give both, or neither")
        if self.issuer and not _may_be_reached(self.issuer, self.issuer):
            raise MalformedData(
                "oidc.issuer: an address such as https://login.example.org expected; http for this machine only"
            )
        if "openid" not in self.scopes:
            raise MalformedData("oidc.scopes: openid is one of them")

    @property
    def shown_label(self) -> str:
        """What people call the provider."""
        return self.label or urlsplit(self.issuer).hostname or ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody, as a provider tells them from everybody else, for ever (Core §2: ``iss`` and ``sub``)."""

    issuer: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the browser brought back (Core §3.1.2.5, RFC 9207); empty: not there."""

    code: str = ""
    error: str = ""
    issuer: str = ""


class Provider:
    """One provider, and this hub as its client ``settings.client_id``. Methods raise ``SignInRefused``.

    Raises ``MalformedData`` when ``settings.ca_file`` cannot be read.
    """

    def __init__(self, settings: OidcSettings, secret: str, redirect_uri: str) -> None:
        self.settings = settings
        self._secret = secret
        self._redirect_uri = redirect_uri
        try:
            self._tls = ssl.create_default_context(cafile=settings.ca_file)
        except OSError as error:
            raise MalformedData(f"oidc.ca_file: {settings.ca_file}: {error.strerror or error}") from error
        self._turns = threading.BoundedSemaphore(AT_ONCE)

    def address(self, *, state: str, nonce: str, verifier: str) -> str:
        """Where the browser asks to be signed in (Core §3.1.2.1)."""
        with self._client() as client:
            described = self._described(client)
        prompt = None if self.settings.prompt == PROMPTS[-1] else self.settings.prompt
        return str(
            prepare_grant_uri(
                described["authorization_endpoint"],
                self.settings.client_id,
                "code",
                redirect_uri=self._redirect_uri,
                scope=" ".join(self.settings.scopes),
                state=state,
                nonce=nonce,
                code_challenge=create_s256_code_challenge(verifier),
                code_challenge_method="S256",
                prompt=prompt,
            )
        )

    def identity(self, answer: Answer, *, nonce: str, verifier: str, now: datetime) -> Identity:
        """Who came back: the code is exchanged (Core §3.1.3), the ID token verified (§3.1.3.7)."""
        issuer = self.settings.issuer
        with self._client() as client:
            described = self._described(client)
            says_issuer = described.get("authorization_response_iss_parameter_supported") is True
            if answer.issuer != issuer and (answer.issuer or says_issuer):  # RFC 9207 §2.4
                raise _not_believed("issuer_mismatch")
            if answer.error or not answer.code:
                raise SignInRefused(
                    "provider_refused",
                    "The sign-in service let nobody in. Try again, or sign in another way.",
                )
            tokens = self._exchanged(client, described, answer.code, verifier)
            keys = _document(client, "GET", described["jwks_uri"])
        return Identity(issuer, self._subject(tokens, keys, nonce, now))

    def _described(self, client: httpx.Client) -> Mapping[str, Any]:
        """The provider's own description (Discovery §4)."""
        issuer = self.settings.issuer
        found = _document(client, "GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            _log.warning("oidc_issuer_differs", said=str(found.get("issuer"))[:200])
            raise _erred()
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not _may_be_reached(found.get(name), issuer):
                _log.warning("oidc_endpoint_unusable", endpoint=name)
                raise _erred()
        return found

    def _exchanged(
        self, client: httpx.Client, described: Mapping[str, Any], code: str, verifier: str
    ) -> Mapping[str, Any]:
        known = described.get("token_endpoint_auth_methods_supported")
        posts = isinstance(known, list) and "client_secret_post" in known
        by = "none" if not self._secret else "client_secret_post" if posts else "client_secret_basic"
        body = prepare_token_request(
            "authorization_code", code=code, redirect_uri=self._redirect_uri, code_verifier=verifier
        )
        url, headers, body = ClientAuth(self.settings.client_id, self._secret, by).prepare(
            "POST", described["token_endpoint"], dict(_CONTENT), body
        )
        return _document(client, "POST", str(url), headers, body)

    def _subject(self, tokens: Mapping[str, Any], keys: Mapping[str, Any], nonce: str, now: datetime) -> str:
        try:
            token = jwt.decode(
                tokens["id_token"],
                _key_set(keys),
                registry=JWSRegistry(algorithms=SIGNATURES, strict_check_header=False),
            )
            claims = CodeIDToken(
                token.claims,
                token.header,
                {
                    "iss": {"essential": True, "value": self.settings.issuer},
                    "aud": {"essential": True, "value": self.settings.client_id},
                },
                {
                    "nonce": nonce,
                    "client_id": self.settings.client_id,
                    "access_token": tokens.get("access_token"),
                },
            )
            claims.validate(now=int(now.timestamp()), leeway=LEEWAY_S)
            subject = claims["sub"]
        except ExpiredTokenError as error:
            raise _not_believed("token_expired") from error
        except ClaimError as error:
            named = error.claim if error.claim in ("iss", "aud", "azp", "nonce") else "claim"
            raise _not_believed(f"token_{named}") from error
        except Exception as error:  # whatever a foreign server may say
            _log.warning("oidc_token_invalid", error=type(error).__name__)
            raise _not_believed("token_invalid") from error
        if not (
            isinstance(subject, str)
            and 1 <= len(subject) <= 255
            and subject.isascii()
            and subject.isprintable()
        ):
            raise _not_believed("token_subject")
        return subject

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        if not self._turns.acquire(timeout=_TURN_S):
            raise _unreachable()
        try:
            with httpx.Client(
                verify=self._tls, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False
            ) as client:
                yield client
        finally:
            self._turns.release()


def _document(
    client: httpx.Client, method: str, url: str, headers: Mapping[str, str] | None = None, body: str = ""
) -> Mapping[str, Any]:
    """The JSON object at ``url``; what it is and how it failed is logged, never what was sent."""
    ends = time.monotonic() + 2 * TIMEOUT_S
    data = b""
    try:
        with client.stream(method, url, headers=headers, content=body or None) as answer:
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > LONGEST or time.monotonic() > ends:
                    raise _erred()
    except (httpx.HTTPError, OSError) as error:
        _log.warning("oidc_provider_unreachable", host=urlsplit(url).hostname, error=type(error).__name__)
        raise _unreachable() from error
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = None
    if answer.status_code >= 500:
        _log.warning("oidc_provider_unreachable", host=urlsplit(url).hostname, status=answer.status_code)
        raise _unreachable()
    if answer.status_code != 200 or not isinstance(said, dict):
        _log.warning("oidc_provider_error", host=urlsplit(url).hostname, status=answer.status_code)
        raise _erred()
    return said


def _key_set(said: Mapping[str, Any]) -> KeySet:
    """Those of the provider's keys that can sign what is believed here; others do no harm."""
    usable = [
        each for each in said["keys"] if each.get("kty") in ("RSA", "EC", "OKP") and each.get("use") != "enc"
    ]
    return KeySet.import_key_set({"keys": usable})


def _may_be_reached(url: object, issuer: str) -> bool:
    """True for https; for http only where issuer and ``url`` are both on this machine."""
    if not isinstance(url, str) or len(url) > 1000 or not _ADDRESS.fullmatch(url):
        return False
    try:
        parts, home = urlsplit(url), urlsplit(issuer)
        if not parts.hostname or parts.username or parts.password or parts.fragment:
            return False
        return parts.scheme == "https" or (_is_here(parts.hostname) and _is_here(home.hostname or ""))
    except ValueError:
        return False


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unreachable() -> SignInRefused:
    return SignInRefused(
        "provider_unreachable",
        "The sign-in service cannot be reached. Sign in another way, or try again in a moment.",
    )


def _erred() -> SignInRefused:
    return SignInRefused(
        "provider_error",
        "The sign-in service made an error. Sign in another way, and tell an administrator.",
    )


def _not_believed(code: str) -> SignInRefused:
    return SignInRefused(
        code,
        "What the sign-in service said cannot be believed. Try again; if it stays, tell an administrator.",
    )
