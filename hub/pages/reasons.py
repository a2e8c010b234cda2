"""The form that asks why somebody wants to see a person's movements."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field

from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Body
from hub.api.problems import Problem
from hub.api.reasons import checked, remember
from hub.operators import Principal
from hub.pages.rendering import pages_of
from hub.pages.sign_in import inside
from hub.roles import Permission

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

_SUBJECT = r"^(cardholder:[A-Za-z0-9_-]{1,48}|card:[0-9a-f-]{32,64})$"


class ReasonForm(Body):
    """``csrf_token`` is checked before."""

    csrf_token: str = ""
    subject: Annotated[str, Field(pattern=_SUBJECT)]
    next: Annotated[str, Field(max_length=500)] = "/"
    reason: Annotated[str, Field(max_length=1000)] = ""


@router.post("/reasons")
def give_reason(
    request: Request,
    principal: Annotated[Principal, requires(Permission.MOVEMENTS_READ)],
    form: Annotated[ReasonForm, Form()],
) -> Response:
    """Remember why, for this person and ten minutes, and go on to what was asked for."""
    try:
        remember(request, principal, form.subject, checked(form.reason))
    except Problem:
        problem_text = pages_of(request).gettext("Say in a few words why: 3 to 300 characters.")
        return ask(request, principal, form.subject, form.next, problem_text)
    return RedirectResponse(inside(form.next), 303)


def ask(
    request: Request, principal: Principal | None, subject: str, next_address: str, problem: str = ""
) -> Response:
    """The form; ``next_address`` is where it leads."""
    pages = pages_of(request)
    return pages.response(
        request,
        "reason.html",
        principal,
        status_code=422 if problem else 200,
        subject=subject,
        next=inside(next_address),
        problem=problem,
    )
