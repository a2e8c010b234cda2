"""The rim of the web server: how large a request may be, and what a browser may do with an answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from types import MappingProxyType

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
BODY_S = 15.0  # without another piece of the body

_ALWAYS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class SecurityHeaders:
    """ASGI middleware. Answers are never cached unless the route says otherwise; HTTPS adds HSTS."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        self._always = _ALWAYS | ({"Strict-Transport-Security": "max-age=31536000"} if https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the headers to its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._always.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class BodyLimit:
    """ASGI middleware: a body of more than ``limit`` bytes ends the request with 413, a slow one with 408.

    ``larger``: other limits, for the paths that a pattern matches as a whole.
    """

    def __init__(
        self, app: ASGIApp, *, limit: int, larger: Mapping[re.Pattern[str], int] = MappingProxyType({})
    ) -> None:
        self._app = app
        self._limit = limit
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting what is read of it."""
        read, complete = 0, False
        limit = self._limit_of(scope)

        async def counted() -> Message:
            nonlocal read, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout(BODY_S):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408) from error
            read += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if read > limit:
                raise HTTPException(413)
            return message

        await self._app(scope, counted if scope["type"] == "http" else receive, send)

    def _limit_of(self, scope: Scope) -> int:
        path = scope.get("path", "")
        return next((each for pattern, each in self._larger.items() if pattern.fullmatch(path)), self._limit)
