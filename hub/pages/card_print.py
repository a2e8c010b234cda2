"""The print of a card, as a PDF for the card printer: to who makes cards, signed in at a browser, and never kept."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Form, Request, Response
from pydantic import Field

from hub import audit
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import looked
from hub.api.fields import Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.card_print import BadAddress, Face, NoGlyph, NotJoined, TooLong, Unprintable, card_pdf
from hub.operators import Principal
from hub.pages.browser_session import session_token
from hub.pages.rendering import pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import photographs as photograph_store
from hub.store.cards import CardStatus
from hub.store.errors import NotFound
from pacs.identifiers import CredentialId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/issuing/cards")

Issues = Annotated[Principal, requires(Permission.CARDS_MANAGE)]
PROBLEMS: Final[dict[type[Unprintable], str]] = {
    NoGlyph: N_(
        "The card's fonts lack letters of this name, or it mixes scripts. Write it in Latin letters, as on their papers."
    ),
    NotJoined: N_(
        "This hub's machine cannot join the letters of this script: libfribidi is missing. Write it in Latin letters."
    ),
    TooLong: N_("This name does not fit on a card. Write the part of it that they are called by."),
    BadAddress: N_("The return address in the hub's settings (cards.return_address) cannot be printed."),
}


class PrintForm(Body):
    """The name as it shall stand on the card, and below it; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    name: Annotated[str, Field(max_length=100)] = ""
    latin: Annotated[str, Field(max_length=100)] = ""


@router.get("/{credential_id}")
def print_page(credential_id: fields.CredentialInPath, request: Request, principal: Issues) -> Response:
    """What will stand on the card, and the button that makes the PDF."""
    return _page(request, principal, credential_id)


@router.post("/{credential_id}")
def print_card(
    credential_id: fields.CredentialInPath,
    request: Request,
    principal: Issues,
    form: Annotated[PrintForm, Form()],
) -> Response:
    """The PDF; each one is in the audit log."""
    hub = services(request)
    session_token(request, principal)  # no program prints
    if not principal.may(Permission.NAMES_READ):
        raise Problem(Code.NOT_PERMITTED, N_("Only who may see names prints cards."))
    with hub.database.read() as connection:
        card = scope.card(connection, principal, credential_id)
        scope.own_cardholder(connection, principal, card.cardholder_id)
        try:
            photograph = photograph_store.get(connection, card.cardholder_id)
        except NotFound:
            photograph = None
    if card.status is not CardStatus.VALID:
        return _page(request, principal, credential_id, N_("This card is blocked: it is not printed."))
    face = Face(
        name=form.name.strip() or form.latin,
        latin=form.latin if form.name.strip() else "",
        number=short_number(credential_id),
        address=hub.settings.card_return_address,
        photograph=photograph,
    )
    try:
        made = card_pdf(face)
    except Unprintable as error:
        return _page(request, principal, credential_id, PROBLEMS[type(error)], form)
    with hub.database.write() as connection:
        audit.record(
            connection,
            now=hub.clock(),
            actor=principal.actor,
            action="card.print",
            subject=f"card:{credential_id}",
            detail={"cardholder": str(card.cardholder_id)},
        )
    name = f'inline; filename="card-{str(credential_id)[:8]}.pdf"'
    headers = {"Cache-Control": "no-store", "Content-Disposition": name}
    return Response(made, media_type="application/pdf", headers=headers)


def short_number(credential_id: CredentialId) -> str:
    """What is printed of a card's number: enough to find it by, and to read to somebody."""
    digits = str(credential_id)[:8]
    return f"{digits[:4]} {digits[4:]}"


def _page(
    request: Request,
    principal: Principal,
    credential_id: CredentialId,
    problem: str = "",
    typed: PrintForm | None = None,
) -> Response:
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        card = scope.card(connection, principal, credential_id)
        person = scope.own_cardholder(connection, principal, card.cardholder_id)
        has_photograph = photograph_store.exists(connection, person.id)
    looked(hub, principal, f"card:{credential_id}", shown=1)
    shown = typed or PrintForm()
    if typed is None and principal.may(Permission.NAMES_READ):
        shown = PrintForm(name=person.given_name, latin=person.latin_given_name or "")
    return pages.response(
        request,
        "card_print.html",
        principal,
        status_code=422 if problem else 200,
        headers={"Cache-Control": "no-store"},
        credential_id=str(credential_id),
        cardholder_id=person.id,
        number=short_number(credential_id),
        name=shown.name,
        latin=shown.latin,
        has_photograph=has_photograph,
        address=hub.settings.card_return_address,
        problem=pages.gettext(problem),
    )
