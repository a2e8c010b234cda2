"""``Idempotency-Key``: a request that is sent again is not done again (draft-ietf-httpapi-idempotency-key-header).

The row of a key is begun in a transaction of its own. The first thing in each transaction of the request itself is
to mark that row as written: what the request does and the mark are one commit. An attempt whose key was taken over
cannot write any more. So after a kill at any moment a key says either that nothing was written, and the request may
be done, or that something was, and it is not done again.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection

from hub.api.problems import Code, Problem
from hub.api.services import Services, services
from hub.operators import Principal
from hub.store import idempotency as store
from hub.store.database import witnessed
from hub.store.idempotency import KeyedRequest, State

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
PATTERN = r'^("[ !#-\[\]-~]{1,64}"|[!#-~]{1,64})$'
LEASE = timedelta(seconds=30)
"""A request that has not written by then may be begun anew."""
MAX_KEPT_BYTES = 256 * 1024
_KEPT_HEADERS = ("content-type", "location")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def parse(text: str) -> str:
    """The key: 1 to 64 printable characters of ASCII, quoted (RFC 8941 §3.3.3) or bare; raises ``Problem`` INVALID."""
    if not re.fullmatch(PATTERN, text):
        raise Problem(
            Code.INVALID, f"{HEADER}: 1 to 64 printable characters expected, in quotes or without spaces."
        )
    return text[1:-1] if text.startswith('"') else text


async def answer(
    request: Request,
    handler: Handler,
    identify: Callable[[Request], Principal | None],
    *,
    keeps: bool,
) -> Response:
    """What ``handler`` answers, or answered to the same key before. Not ``keeps``: its answers hold a secret."""
    sent = request.headers.get(HEADER)
    if sent is None:
        return await handler(request)
    key = parse(sent)
    principal = await run_in_threadpool(identify, request)
    if principal is None:
        return await handler(request)  # which says so
    hub = services(request)
    fingerprint = await _fingerprint(request)
    mine = KeyedRequest(
        actor=principal.actor,
        key=key,
        fingerprint=fingerprint,
        attempt=secrets.token_hex(16),
        state=State.BEGUN,
        begun_at=hub.clock(),
    )
    earlier = await run_in_threadpool(_begin, hub, mine)
    if earlier is not None:
        return _replayed(earlier)
    before = witnessed.set(_witness(mine))
    try:
        done = await handler(request)
    except Exception:
        witnessed.reset(before)
        await run_in_threadpool(_forget, hub, mine)
        raise
    witnessed.reset(before)
    await run_in_threadpool(_keep, hub, mine, done, keeps=keeps)
    return done


async def _fingerprint(request: Request) -> bytes:
    """Of what would be done: a key is for one request, not for another to the same address."""
    digest = hashlib.sha256()
    kind = request.headers.get("content-type", "")
    for part in (request.method, request.url.path, request.url.query, kind):
        digest.update(part.encode() + b"\0")
    digest.update(await request.body())
    return digest.digest()


def _begin(hub: Services, mine: KeyedRequest) -> KeyedRequest | None:
    """Take the key, or return the request that was answered under it."""
    with hub.database.write() as connection:
        found = store.get(connection, mine.actor, mine.key)
        if found is not None and mine.begun_at - found.begun_at < store.KEPT:
            if found.fingerprint != mine.fingerprint:
                raise Problem(Code.KEY_REUSED)
            if found.state is State.ANSWERED:
                return found
            if mine.begun_at - found.begun_at < LEASE:
                raise Problem(Code.KEY_IN_USE, headers={"Retry-After": "2"})
            if found.state is State.WRITTEN:
                raise Problem(Code.OUTCOME_UNKNOWN)
        store.begin(connection, mine)
    return None


def _witness(mine: KeyedRequest) -> Callable[[Connection], None]:
    def witness(connection: Connection) -> None:
        if not store.mark_written(connection, mine):
            raise Problem(Code.KEY_IN_USE, headers={"Retry-After": "2"})

    return witness


def _forget(hub: Services, mine: KeyedRequest) -> None:
    with hub.database.write() as connection:
        store.forget(connection, mine)


def _keep(hub: Services, mine: KeyedRequest, done: Response, *, keeps: bool) -> None:
    body = bytes(done.body)
    keeps = keeps and len(body) <= MAX_KEPT_BYTES
    headers = {name: done.headers[name] for name in _KEPT_HEADERS if name in done.headers}
    with hub.database.write() as connection:
        store.answered(
            connection,
            mine,
            status=done.status_code if keeps else None,
            headers=headers if keeps else {},
            body=body if keeps else None,
        )


def _replayed(earlier: KeyedRequest) -> Response:
    if earlier.status is None:
        raise Problem(Code.ANSWER_NOT_KEPT)
    return Response(
        earlier.body or b"", earlier.status, headers={**(earlier.headers or {}), REPLAYED: "true"}
    )
