"""What each browser chooses for itself: the language of the pages."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from hub.api.access import PUBLIC, DeclaredRoute
from hub.api.services import services
from hub.pages.languages import LANGUAGES
from hub.pages.rendering import LANGUAGE_COOKIE
from hub.pages.sign_in import inside

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, dependencies=[PUBLIC])

_KEPT = timedelta(days=365)


@router.post("/language")
def choose_language(
    request: Request,
    language: Annotated[Literal[LANGUAGES], Form()],  # type: ignore[valid-type]  # the languages there are
    next_address: Annotated[str, Form(alias="next", max_length=200)] = "/",
) -> Response:
    """Show this browser the pages in a language, and the page it comes from again."""
    answer = RedirectResponse(inside(next_address), 303)
    answer.set_cookie(
        LANGUAGE_COOKIE,
        language,
        max_age=int(_KEPT.total_seconds()),
        secure=services(request).settings.is_https,
        httponly=True,
        samesite="strict",
    )
    return answer
