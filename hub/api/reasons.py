"""Looking at one person's movements: nobody does without saying why, and the audit log says who was shown what.

A route that shows where one person was takes ``because: Annotated[Because, requires_reason()]`` beside its
permission, and reads inside ``with because.looking_at(principal, f"cardholder:{id}") as look:`` from
``look.connection``, setting ``look.shown`` to how many movements the answer holds. The entry ``movements.read``
and the read are one transaction: whoever gets an answer is in the log, and an answer that fails is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import Depends, Header, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from hub import audit
from hub.api import fields
from hub.api.problems import Code, Problem
from hub.api.services import Services, services
from hub.operators import Principal, digest
from hub.roles import Permission
from hub.store import reasons as store

HEADER = "X-Reason"
REMEMBERED = timedelta(minutes=10)
_LONGEST = 1000
_TEXT: TypeAdapter[str] = TypeAdapter(fields.ReasonText)


@dataclass(slots=True)
class Look:
    """One look in progress; ``connection`` is its transaction, ``shown`` how many movements are shown."""

    connection: Connection
    shown: int = 0


class Because:
    """Why somebody looks: said with the request, or remembered from the form for this session and person."""

    def __init__(self, request: Request, said: str | None) -> None:
        self._request = request
        self._said = said

    @contextmanager
    def looking_at(self, principal: Principal, subject: str) -> Iterator[Look]:
        """Read what ``subject`` (``cardholder:<id>``, ``card:<id>``) did, audited with the reason.

        Raises ``Problem``: NOT_PERMITTED for who may not see movements, REASON_REQUIRED when no reason was given
        (a browser is then shown the form, and comes back), INVALID for one that is not 3 to 300 characters.
        """
        hub = services(self._request)
        if not principal.may(Permission.MOVEMENTS_READ):
            raise Problem(Code.NOT_PERMITTED, f"This needs the permission {Permission.MOVEMENTS_READ}.")
        said = None if self._said is None else checked(self._said)
        with hub.database.write() as connection:
            now = hub.clock()
            reason = said or self._remembered(hub, connection, principal, subject, now)
            if reason is None:
                self._request.state.reason_subject = subject
                raise Problem(Code.REASON_REQUIRED, "Say why you look at this person's movements.")
            look = Look(connection)
            yield look
            audit.record(
                connection,
                now=now,
                actor=principal.actor,
                action="movements.read",
                subject=subject,
                reason=reason,
                detail={"shown": look.shown},
            )

    def _remembered(
        self, hub: Services, connection: Connection, principal: Principal, subject: str, now: datetime
    ) -> str | None:
        if principal.csrf_token is None:
            return None
        cookie = self._request.cookies[hub.session_cookie]
        return store.given(connection, digest(cookie), subject, now)


async def _because(
    request: Request,
    x_reason: Annotated[
        str | None,
        Header(
            alias=HEADER, max_length=_LONGEST, description="Why; percent-encoded UTF-8 where it is not ASCII."
        ),
    ] = None,
    reason: Annotated[str | None, Query(max_length=_LONGEST, description="Why, as in X-Reason.")] = None,
) -> Because:
    if x_reason is None:
        return Because(request, reason)
    try:
        return Because(request, unquote_to_bytes(x_reason).decode())
    except UnicodeError:
        raise Problem(Code.INVALID, f"{HEADER}: percent-encoded UTF-8 expected.") from None


def requires_reason() -> Any:
    """Declare that a route shows one person's movements; gives it the ``Because`` to look with."""
    return Depends(_because)


def asks_for_reason(route: APIRoute) -> bool:
    """True when ``route`` declares ``requires_reason()``."""

    def found(dependant: Dependant) -> bool:
        return dependant.call is _because or any(found(each) for each in dependant.dependencies)

    return found(route.dependant)


def checked(text: str) -> str:
    """A reason in normal form; raises ``Problem`` INVALID unless 3 to 300 characters of readable text."""
    try:
        return _TEXT.validate_python(text)
    except ValidationError:
        raise Problem(Code.INVALID, "Say in a few words why: 3 to 300 characters.") from None


def remember(request: Request, principal: Principal, subject: str, reason: str) -> None:
    """Keep what the form said, for this session and this subject, for ``REMEMBERED``."""
    hub = services(request)
    now = hub.clock()
    with hub.database.write() as connection:
        store.forget_old(connection, now)
        if principal.csrf_token is not None:
            cookie = request.cookies[hub.session_cookie]
            store.give(connection, digest(cookie), subject, reason, now + REMEMBERED)
