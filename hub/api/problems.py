"""Every way a request can fail, as problem details (RFC 9457).

A problem has a stable ``code``; the answer carries ``type``, ``title``, ``status``, ``detail``, ``code`` and
``next_step``. What was sent is never echoed: it may hold a name or a password.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hub.attendance import RequestAnswered, RequestOver
from hub.erasure import HeldBack
from hub.holds import HoldOver, SamePerson
from hub.issuing import JobOver, NoStay
from hub.operators import BeyondOwnRights, SignInRefused
from hub.revocation import CardRevoked
from hub.store.errors import AlreadyExists, InUse, NotFound
from pacs.errors import MalformedData

_log = structlog.get_logger(__name__)
_ERRORS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Kind:
    """Status, title and what to do next."""

    status: int
    title: str
    next_step: str


class Code(Enum):
    """The closed set of problems; the member's lower-case name is the code on the wire."""

    NOT_SIGNED_IN = Kind(401, "Not signed in", "Sign in, or send a valid API token as a bearer token.")
    NOT_PERMITTED = Kind(403, "Not permitted", "Ask an administrator for a role that includes this.")
    CROSS_SITE = Kind(403, "Refused: from another page", "Reload the page of this hub and try again.")
    TOO_MANY_ATTEMPTS = Kind(429, "Too many attempts", "Wait for the seconds in Retry-After, then try again.")
    SIGN_IN_REFUSED = Kind(403, "Not signed in", "Check name and password, or ask for a one-time link.")
    BEYOND_OWN_RIGHTS = Kind(
        409, "More than your own rights", "Ask somebody who has these rights, and sees these sites, to do it."
    )
    NOT_FOUND = Kind(404, "Not found", "Check the address and the ids in it.")
    REFERENCE_UNKNOWN = Kind(422, "Refers to something unknown", "Create what it refers to first.")
    KEY_REUSED = Kind(
        422, "The key belongs to another request", "Use another Idempotency-Key for another request."
    )
    KEY_IN_USE = Kind(
        409, "The first request is still running", "Wait for the seconds in Retry-After, then ask again."
    )
    OUTCOME_UNKNOWN = Kind(
        409,
        "It was done, its answer is lost",
        "Do not repeat it: read what it changed. The hub stopped before it could answer.",
    )
    ANSWER_NOT_KEPT = Kind(
        409,
        "It was done, its answer is not kept",
        "Read what it changed; a secret that was shown once is made anew.",
    )
    METHOD_NOT_ALLOWED = Kind(405, "Method not allowed", "Use one of the methods in Allow.")
    ALREADY_EXISTS = Kind(409, "Exists with other content", "Choose another id, or change the existing one.")
    IN_USE = Kind(409, "Still in use", "Take it out of what the detail names, then try again.")
    REASON_REQUIRED = Kind(
        428,
        "A reason is needed",
        "Send the reason in the header X-Reason or the parameter reason: 3 to 300 characters.",
    )
    CHANGED_MEANWHILE = Kind(
        412,
        "Somebody changed it meanwhile",
        "Read it again; then change what it is now, with its ETag in If-Match.",
    )
    CARD_REVOKED = Kind(409, "The card was revoked", "Issue another card: a revoked one stays revoked.")
    SECOND_PERSON = Kind(409, "Needs a second person", "Ask a colleague with this permission to do it.")
    HOLD_OVER = Kind(409, "The hold is over", "Ask for another hold.")
    REQUEST_ANSWERED = Kind(
        409, "Somebody answered before", "Read the request: it says who, when, and what became of it."
    )
    REQUEST_OVER = Kind(409, "Nobody waits any more", "Whoever still stands there presents the card again.")
    JOB_OVER = Kind(409, "The job is not this attempt's", "Read the job: it says what became of it.")
    NO_STAY = Kind(
        422, "No days to be valid on", "Change until when they stay, or give days within that time."
    )
    CODE_UNKNOWN = Kind(
        403, "The code lets nobody in", "Compare it with the print, or ask for another code for this place."
    )
    CODE_EXPIRED = Kind(409, "The code has expired", "Ask for another code for this place.")
    CODE_WITHDRAWN = Kind(409, "The code was withdrawn", "Use the newer code of this place, or ask for one.")
    CODE_USED = Kind(
        409,
        "Another device has used the code",
        "If that was not you, revoke the controller at once. Ask for another code for this place.",
    )
    CODE_DOORS_CHANGED = Kind(
        409, "The place has other doors now", "Ask for another code: this one is for the doors it had before."
    )
    CODE_OTHER_DEVICE = Kind(
        409,
        "The code is for the device that has the place",
        "Enrol that device, with its old keys in place; for another one ask for a code to swap.",
    )
    CODE_OTHER_PLACE = Kind(
        409,
        "The code is for another controller's place",
        "Use the code that was made for this controller, or remove its directories from the device first.",
    )
    BODY_TOO_LARGE = Kind(
        413, "Request too large", "Send less: 64 KiB at most; 2 MiB for a photograph, 8 MiB for an import."
    )
    TOO_SLOW = Kind(408, "Request too slow", "Send the body without pauses.")
    MEDIA_TYPE = Kind(
        415,
        "Unsupported media type",
        "Send one of the media types that the route takes, which is JSON for most.",
    )
    INVALID = Kind(422, "Invalid request", "Correct the fields named in errors.")
    INTERNAL = Kind(500, "The hub made an error", "Try again; if it stays, look at the hub's log.")
    NOT_READY = Kind(503, "Not ready", "Wait a moment and try again.")

    @property
    def wire(self) -> str:
        """The code as callers see it."""
        return self.name.lower()


class Problem(Exception):
    """Ends a request with ``code``; ``detail`` says what is wrong with this one, without echoing it."""

    def __init__(
        self,
        code: Code,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        errors: list[dict[str, str]] | None = None,
    ) -> None:
        super().__init__(detail or code.value.title)
        self.code = code
        self.headers = dict(headers or {})
        self.errors = errors

    def as_json(self) -> dict[str, Any]:
        """The members of the problem details object."""
        kind = self.code.value
        body: dict[str, Any] = {
            "type": f"/api/v1/problems#{self.code.wire}",
            "title": kind.title,
            "status": kind.status,
            "detail": str(self),
            "code": self.code.wire,
            "next_step": kind.next_step,
        }
        return body | ({"errors": self.errors} if self.errors else {})


RenderPage = Callable[[Request, Problem], Response]


def install(
    app: FastAPI, render_page: RenderPage, allowed_methods: Callable[[Request], Iterable[str]]
) -> None:
    """Answer every failure under /api and /.well-known and of /healthz, /readyz, /metrics with JSON, and elsewhere with a page."""

    def answer(request: Request, problem: Problem) -> Response:
        path = request.url.path
        if problem.code is Code.METHOD_NOT_ALLOWED and path.startswith("/api/"):
            problem.headers["Allow"] = ", ".join(allowed_methods(request))
        if not path.startswith(("/api/", "/healthz", "/readyz", "/metrics", "/.well-known/")):
            return render_page(request, problem)
        return JSONResponse(
            problem.as_json() | {"request_id": request.state.request_id},
            problem.code.value.status,
            problem.headers,
            media_type="application/problem+json",
        )

    def handler(convert: Callable[[Any], Problem]) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def handle(request: Request, error: Exception) -> Response:
            return answer(request, convert(error))

        return handle

    app.add_exception_handler(Problem, handler(lambda error: error))
    app.add_exception_handler(HTTPException, handler(_from_http))
    app.add_exception_handler(RequestValidationError, handler(_from_validation))
    app.add_exception_handler(MalformedData, handler(lambda error: Problem(Code.INVALID, str(error))))
    app.add_exception_handler(NotFound, handler(lambda error: Problem(Code.NOT_FOUND, str(error))))
    app.add_exception_handler(AlreadyExists, handler(lambda error: Problem(Code.ALREADY_EXISTS, str(error))))
    app.add_exception_handler(InUse, handler(lambda error: Problem(Code.IN_USE, str(error))))
    app.add_exception_handler(HeldBack, handler(lambda error: Problem(Code.IN_USE, str(error))))
    app.add_exception_handler(SamePerson, handler(lambda error: Problem(Code.SECOND_PERSON, str(error))))
    app.add_exception_handler(HoldOver, handler(lambda error: Problem(Code.HOLD_OVER, str(error))))
    app.add_exception_handler(
        RequestAnswered, handler(lambda error: Problem(Code.REQUEST_ANSWERED, _answered(error)))
    )
    app.add_exception_handler(RequestOver, handler(lambda error: Problem(Code.REQUEST_OVER, str(error))))
    app.add_exception_handler(JobOver, handler(lambda error: Problem(Code.JOB_OVER, str(error))))
    app.add_exception_handler(NoStay, handler(lambda error: Problem(Code.NO_STAY, str(error))))
    app.add_exception_handler(CardRevoked, handler(lambda error: Problem(Code.CARD_REVOKED, str(error))))
    app.add_exception_handler(SignInRefused, handler(lambda error: Problem(Code.SIGN_IN_REFUSED, str(error))))
    app.add_exception_handler(
        BeyondOwnRights, handler(lambda error: Problem(Code.BEYOND_OWN_RIGHTS, str(error)))
    )
    app.add_exception_handler(Exception, handler(_from_bug))


def catalogue() -> list[dict[str, Any]]:
    """Every problem this API answers with."""
    return [
        {"code": code.wire, "status": code.value.status, "title": code.value.title, "next_step": code.value.next_step}
        for code in Code
    ]  # fmt: skip


_BY_STATUS = {
    401: Code.NOT_SIGNED_IN,
    403: Code.NOT_PERMITTED,
    404: Code.NOT_FOUND,
    408: Code.TOO_SLOW,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.BODY_TOO_LARGE,
    415: Code.MEDIA_TYPE,
}


def _from_http(error: HTTPException) -> Problem:
    code = _BY_STATUS.get(error.status_code, Code.INTERNAL if error.status_code >= 500 else Code.INVALID)
    return Problem(code, headers=error.headers)


def _from_validation(error: RequestValidationError) -> Problem:
    errors = [
        {"field": ".".join(str(part) for part in each["loc"])[:100], "problem": str(each["msg"])[:200]}
        for each in error.errors()[:_ERRORS_SHOWN]
    ]
    if any(each["type"] == "json_invalid" for each in error.errors()):
        return Problem(Code.INVALID, "The body is not JSON.")
    return Problem(Code.INVALID, "Some fields are missing, unknown or not as expected.", errors=errors)


def _answered(error: RequestAnswered) -> str:
    given = error.answered.answer
    return f"{given.given_by}: {given.action} at {given.issued_at:%H:%M:%S}Z" if given else str(error)


def _from_bug(error: Exception) -> Problem:
    _log.error("request_failed", exc_info=error)
    return Problem(Code.INTERNAL)
