"""Creating a thing under an id the caller chose: safe to repeat. Changing one that somebody else may change meanwhile.

The same content again answers 200, other content 409; the first time 201. What was created and the audit
entry that says so are one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Protocol, TypeVar

from fastapi import Header, Response
from sqlalchemy import Connection

from hub import audit
from hub.api.problems import Code, Problem
from hub.api.services import Services
from hub.operators import Principal
from hub.roles import Permission
from hub.store.errors import NotFound
from hub.versions import Parts, entity_tag, is_met, version_of

T = TypeVar("T")


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


Thing = TypeVar("Thing", bound=_Identified)


def create(
    hub: Services,
    principal: Principal,
    response: Response,
    *,
    subject: str,
    find: Callable[[Connection], T],
    add: Callable[[Connection], T],
    same: Callable[[T], bool],
) -> T:
    """Store what ``add`` makes, unless ``find`` finds it; ``subject`` is ``noun:id``.

    Raises ``Problem`` ALREADY_EXISTS when what is found is not the ``same``, and REFERENCE_UNKNOWN when
    ``add`` refers to something that is not there.
    """
    with hub.database.write() as connection:
        try:
            found = find(connection)
        except NotFound:
            pass
        else:
            if not same(found):
                raise Problem(Code.ALREADY_EXISTS, f"{subject} exists with other content.")
            response.status_code = 200
            return found
        try:
            made = add(connection)
        except NotFound as error:
            raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
        note(connection, hub, principal, action=f"{subject.partition(':')[0]}.create", subject=subject)
    hub.site_changed()
    response.status_code = 201
    return made


def note(
    connection: Connection,
    hub: Services,
    principal: Principal,
    *,
    action: str,
    subject: str,
    reason: str = "",
) -> None:
    """Write an audit entry for what ``principal`` does in this transaction."""
    audit.record(
        connection, now=hub.clock(), actor=principal.actor, action=action, subject=subject, reason=reason
    )


def looked(hub: Services, principal: Principal, subject: str, *, shown: int) -> None:
    """Write an audit entry for names that ``principal`` is shown; none when there are none, or they may not."""
    if not shown or not principal.may(Permission.NAMES_READ):
        return
    with hub.database.write() as connection:
        audit.record(
            connection,
            now=hub.clock(),
            actor=principal.actor,
            action="names.read",
            subject=subject,
            detail={"shown": shown},
        )


IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=1000)]
"""The ETag of what a caller wants to change; without one the change is made whatever it is now."""


class ChangedMeanwhile(Problem):
    """CHANGED_MEANWHILE; ``now``: what the thing says instead of what the caller wants to change."""

    def __init__(self, now: Parts) -> None:
        super().__init__(Code.CHANGED_MEANWHILE)
        self.now = now


def unchanged(if_match: str | None, parts: Parts) -> None:
    """Raise ``ChangedMeanwhile`` when this is not what the caller wants to change."""
    if if_match is not None and not is_met(if_match, version_of(parts)):
        raise ChangedMeanwhile(parts)


def tagged(response: Response, parts: Parts) -> None:
    """Say in the answer's ETag which version of a thing it holds."""
    response.headers["ETag"] = entity_tag(version_of(parts))


def portion(things: Iterable[Thing], after: str | None, limit: int) -> tuple[Sequence[Thing], str | None]:
    """The ``limit`` things whose id comes behind ``after``, and the id to go on from (None: that was all)."""
    behind = [
        thing for thing in sorted(things, key=lambda each: each.id) if after is None or thing.id > after
    ]
    return behind[:limit], behind[limit - 1].id if len(behind) > limit else None
