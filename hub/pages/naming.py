"""Making a thing that people call by a name: a page asks for the name, and the id follows from it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypeVar

from hub.api.problems import Code, Problem
from hub.entered import identifier
from hub.pages.words import N_
from hub.store.errors import AlreadyExists, NotFound
from pacs.identifiers import SiteId

T = TypeVar("T")

NAME_TAKEN = N_("There is one of this name, or nearly, already. Choose another name.")


def made(name: str, site: str, make: Callable[[str], T], site_of: Callable[[str], SiteId]) -> T:
    """What ``make`` answers for the id, with an end where a thing of another site has it.

    ``site``: which one it is for, empty for the only one. ``site_of`` raises ``NotFound`` for what whoever asks does not
    see. Raises ``AlreadyExists`` when their site has another thing of that name, and what ``make`` raises.
    """
    plain = identifier(name)
    try:
        return make(plain)
    except Problem as problem:
        if problem.code is not Code.ALREADY_EXISTS:
            raise
    try:
        is_taken = site_of(plain) == site or not site
    except NotFound:
        is_taken = False
    if is_taken:
        raise AlreadyExists("name: there is one already")
    return make(f"{plain}-{secrets.token_hex(3)}")
