"""What belongs to one browser, and not to whoever is signed in with it."""

from __future__ import annotations

from fastapi import Request

from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.pages.words import N_


def session_token(request: Request, principal: Principal) -> str:
    """The token of the session that ``principal`` is signed in with; raises ``Problem`` INVALID for a program."""
    if principal.csrf_token is None:
        raise Problem(Code.INVALID, N_("Only a browser that somebody is signed in with can do this."))
    return request.cookies[services(request).session_cookie]
