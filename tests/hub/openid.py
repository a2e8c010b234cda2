"""A small OpenID provider on this machine, with real keys, that lies as a test wishes."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import unquote, urlencode

import uvicorn
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from fastapi import FastAPI, Header, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from hub.oidc_provider import OidcSettings
from tests.hub.controller import eventually

CLIENT, SECRET = "drempel-hub", "not to be logged: 9f4e"
KEYS: dict[str, ECKey | RSAKey] = {
    "ES256": ECKey.generate_key("P-256", parameters={"kid": "e", "use": "sig"}),
    "RS256": RSAKey.generate_key(2048, parameters={"kid": "r", "use": "sig"}),
}
ANOTHERS = ECKey.generate_key("P-256", parameters={"kid": "e"})


@dataclass
class Provider:
    """Signs in whoever asks as ``subject``; the rest is what it would lie about."""

    subject: str = "f3a1-77"
    asks: bool = False  # a person presses a button first
    key: ECKey | None = None
    algorithm: str = "ES256"
    claims: dict[str, Any] = field(default_factory=dict)
    described: dict[str, Any] = field(default_factory=dict)
    returned: dict[str, str] = field(default_factory=dict)
    token_answer: tuple[int, Any] | None = None
    url: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def settings(self, **others: Any) -> OidcSettings:
        said = {"issuer": self.url, "client_id": CLIENT, "client_secret": SECRET, "label": "Agency login"}
        return OidcSettings(**(said | others))

    def honest(self) -> None:
        """Lie no more."""
        self.subject, self.key, self.algorithm, self.token_answer = "f3a1-77", None, "ES256", None
        self.claims, self.described, self.returned = {}, {}, {}

    def description(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize?realm=agency",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["code"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        } | self.described

    def authorize(self, asked: dict[str, str]) -> Response:
        assert (asked["realm"], asked["client_id"]) == ("agency", CLIENT)
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        self.seen.append(asked)
        code = secrets.token_urlsafe(300)
        self.codes[code] = asked
        said = {"code": code, "state": asked["state"]} | self.returned
        back = f"{asked['redirect_uri']}?{urlencode(said)}"
        if not self.asks:
            return RedirectResponse(back, 302)
        return HTMLResponse(f"<!doctype html><title>Agency</title><a href='{back}'>Sign in as Nadia</a>")

    def exchange(self, form: dict[str, str], authorization: str) -> Response:
        if self.token_answer is not None:
            status, said = self.token_answer
            return JSONResponse(said, status)
        asked = self.codes.pop(form["code"], None)
        basic = base64.b64decode(authorization.removeprefix("Basic ")).decode()
        if asked is None or unquote(basic) != f"{CLIENT}:{SECRET}":
            return JSONResponse({"error": "invalid_grant"}, 400)
        proven = create_s256_code_challenge(form["code_verifier"]) == asked["code_challenge"]
        if not proven or form["redirect_uri"] != asked["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": self.subject,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "groups": ["administrators"],
        } | self.claims
        return JSONResponse(
            {"access_token": "opaque", "token_type": "Bearer", "id_token": self.signed(claims)}
        )

    def signed(self, claims: dict[str, Any]) -> str:
        claims = {name: said for name, said in claims.items() if said is not None}
        key = self.key or KEYS.get(self.algorithm)
        if key is not None:
            return jwt.encode({"alg": self.algorithm, "kid": key.kid}, claims, key, [self.algorithm])
        said = ".".join(
            text(json.dumps(part).encode()) for part in ({"alg": self.algorithm, "kid": "e"}, claims)
        )
        public = KEYS["ES256"].as_pem(private=False)  # everybody has it
        signature = b"" if self.algorithm == "none" else hmac.digest(public, said.encode(), "sha256")
        return f"{said}.{text(signature)}"


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def application(provider: Provider) -> FastAPI:
    app = FastAPI()

    @app.get("/.well-known/openid-configuration")
    def description() -> dict[str, Any]:
        return provider.description()

    @app.get("/keys")
    def keys() -> dict[str, Any]:
        foreign = {"kty": "AKP", "kid": "of tomorrow"}
        return {"keys": [*(key.as_dict(private=False) for key in KEYS.values()), foreign]}

    @app.get("/authorize")
    def authorize(request: Request) -> Response:
        return provider.authorize(dict(request.query_params))

    @app.post("/token")
    async def exchange(request: Request, authorization: Annotated[str, Header()] = "") -> Response:
        return provider.exchange(
            {name: str(said) for name, said in (await request.form()).items()}, authorization
        )

    return app


@contextmanager
def openid_provider(host: str = "127.0.0.1", **said: Any) -> Iterator[Provider]:
    """A provider that serves, from its own thread."""
    provider = Provider(**said)
    listening = socket.create_server(("127.0.0.1", 0))
    provider.url = f"http://{host}:{listening.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(application(provider), log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    eventually(lambda: server.started, "the provider serves")
    yield provider
    server.should_exit = True
    thread.join(30)
    listening.close()
