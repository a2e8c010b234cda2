"""Webhooks: who is told of what over HTTP, how telling them went, and what to do when nobody takes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError

from hub.api import webhooks as api
from hub.api.access import DeclaredRoute
from hub.api.fields import Body
from hub.api.problems import Problem
from hub.api.services import services
from hub.api.webhooks import Manager, Secret, WebhookInPath
from hub.operators import Principal
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.store import sites
from hub.store import webhooks as store
from hub.store.webhooks import Delivery, Told, Webhook
from hub.webhooks import GONE, NOT_REACHED

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/webhooks")

SHOWN = 100
TOLD = {
    Told.ALARM_RAISED: N_("an alarm begins"),
    Told.ALARM_CLEARED: N_("an alarm is over"),
    Told.ALARM_ACKNOWLEDGED: N_("somebody took note of an alarm"),
    Told.CARD_BLOCKED: N_("a card is blocked"),
    Told.CARD_REINSTATED: N_("a card is valid again"),
    Told.CARD_REPLACED: N_("a card is replaced"),
    Told.CARD_EXPIRED: N_("a card's validity is ended"),
    Told.CARD_ENDED: N_("a card's validity has ended by itself"),
    Told.CARD_ARRIVED: N_("what became of a card is confirmed by every door"),
    Told.IMPORT_DONE: N_("people were imported"),
    Told.TAP: N_("a card is tapped at a door; never whose"),
}
_PING = N_("a test")
_CAUSES = {
    GONE: N_("the receiver says that it is gone"),
    NOT_REACHED: N_("nobody took a message for a day"),
}
_ERRORS = {
    "no answer in time": N_("no answer within ten seconds"),
    "ConnectError": N_("no connection, or a certificate that is not trusted"),
    "the host has no address": N_("the host has no address"),
}
_DONE = {
    "pinged": N_("A test is on its way; see below how it went."),
    "enabled": N_("Enabled. What was missed is sent now."),
    "disabled": N_("Disabled. Nothing more is sent."),
}
_PROBLEM = N_("Give an https address such as https://example.org/hook, and choose among the kinds and sites.")


class NewForm(Body):
    """What is subscribed to; ``csrf_token`` is checked before. No kind: all but taps. No site: every one."""

    csrf_token: str = ""
    url: Annotated[str, Field(max_length=500)] = ""
    kind: Annotated[list[str], Field(max_length=len(Told), default_factory=list)]
    site: Annotated[list[str], Field(max_length=500, default_factory=list)]


class ActionForm(Body):
    """What to do with one; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    action: Literal["ping", "enable", "disable", "rotate", "delete"]
    confirmed: Annotated[str, Field(max_length=10)] = ""


@router.get("")
def webhooks_page(request: Request, principal: Manager) -> Response:
    """Every subscription, and the form for a new one."""
    return _page(request, principal)


@router.post("")
def add(request: Request, principal: Manager, form: Annotated[NewForm, Form()]) -> Response:
    """Subscribe, and show the secret, once."""
    typed = {"url": form.url, "kinds": form.kind, "sites": form.site}
    try:
        body = api.NewWebhook.model_validate(
            {"url": form.url.strip(), "kinds": form.kind, "site_ids": form.site or None}
        )
        made = api.add_webhook(body, request, principal)
    except ValidationError:
        return _page(request, principal, problem=_PROBLEM, typed=typed)
    except Problem as problem:
        return _page(request, principal, problem=_PROBLEM, detail=str(problem), typed=typed)
    return _one_page(request, principal, made.id, secret=made)


@router.get("/{webhook_id}")
def webhook_page(webhook_id: WebhookInPath, request: Request, principal: Manager) -> Response:
    """One subscription, and how its newest messages went."""
    return _one_page(request, principal, webhook_id)


@router.post("/{webhook_id}")
def act(
    webhook_id: WebhookInPath, request: Request, principal: Manager, form: Annotated[ActionForm, Form()]
) -> Response:
    """Test it, enable or disable it, give it another secret, or delete it."""
    match form.action:
        case "ping":
            api.ping(webhook_id, request, principal)
            return RedirectResponse(f"/webhooks/{webhook_id}?done=pinged", 303)
        case "rotate":
            return _one_page(
                request, principal, webhook_id, secret=api.rotate_secret(webhook_id, request, principal)
            )
        case "delete":
            if form.confirmed != "yes":
                return _one_page(
                    request, principal, webhook_id, problem=N_("Confirm that it is to be deleted.")
                )
            api.delete_webhook(webhook_id, request, principal)
            return RedirectResponse("/webhooks", 303)
        case "enable" | "disable":
            change = api.WebhookChange(enabled=form.action == "enable")
            api.change_webhook(webhook_id, change, request, Response(), principal)
            return RedirectResponse(f"/webhooks/{webhook_id}?done={form.action}d", 303)


def _page(
    request: Request,
    principal: Principal,
    *,
    problem: str = "",
    detail: str = "",
    typed: dict[str, Any] | None = None,
) -> Response:
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        every = store.list_all(connection)
        last = {each.id: store.deliveries(connection, each.id, limit=1, newest_first=True) for each in every}
        waiting = store.waiting_for(connection)
        named = {each.id: each.name for each in sites.list_all(connection)}
    return pages.response(
        request,
        "webhooks.html",
        principal,
        status_code=422 if problem else 200,
        webhooks=[
            _context(pages, each, named)
            | {
                "waiting": waiting.get(each.id, 0),
                "last": _delivery(pages, last[each.id][0]) if last[each.id] else None,
            }
            for each in every
        ],
        kinds=[(kind.value, pages.gettext(text)) for kind, text in TOLD.items()],
        sites=list(named.items()),
        typed=typed or {"url": "", "kinds": [], "sites": []},
        problem=pages.gettext(problem),
        detail=detail,
    )


def _one_page(
    request: Request,
    principal: Principal,
    webhook_id: str,
    *,
    secret: Secret | None = None,
    problem: str = "",
) -> Response:
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        webhook = store.get(connection, webhook_id)
        deliveries = store.deliveries(connection, webhook_id, limit=SHOWN, newest_first=True)
        named = {each.id: each.name for each in sites.list_all(connection)}
    return pages.response(
        request,
        "webhook.html",
        principal,
        status_code=422 if problem else 200,
        headers={"Cache-Control": "no-store"},
        webhook=_context(pages, webhook, named),
        deliveries=[_delivery(pages, each) for each in deliveries],
        most=SHOWN,
        secret=secret,
        done=pages.gettext(_DONE.get(request.query_params.get("done", ""), "")),
        problem=pages.gettext(problem),
    )


def _context(pages: Pages, webhook: Webhook, named: dict[Any, str]) -> dict[str, Any]:
    """What a page says of a subscription; never its secret."""
    return {
        "id": webhook.id,
        "url": webhook.url,
        "kinds": [pages.gettext(TOLD.get(Told(each), _PING)) for each in webhook.kinds],
        "sites": None if webhook.sites is None else [named.get(each, each) for each in webhook.sites],
        "enabled": webhook.enabled,
        "lost": pages.gettext(_CAUSES.get(webhook.cause, webhook.cause)) if webhook.cause else "",
        "created_at": webhook.created_at,
        "both_until": webhook.previous_until,
    }


def _delivery(pages: Pages, delivery: Delivery) -> dict[str, Any]:
    """How telling of one thing went."""
    _ = pages.gettext
    if delivery.delivered_at is not None:
        tone, text = "good", _("taken")
    elif delivery.due_at is None:
        tone, text = "bad", _("given up")
    elif delivery.attempts:
        tone, text = "warn", _("not taken yet; tried again")
    else:
        tone, text = "", _("waiting")
    return {
        "id": delivery.message_id,
        "kind": _(TOLD.get(Told(delivery.kind), _PING)),
        "created_at": delivery.created_at,
        "delivered_at": delivery.delivered_at,
        "due_at": delivery.due_at if delivery.attempts else None,
        "attempts": delivery.attempts,
        "status": delivery.status,
        "error": _(_ERRORS.get(delivery.error, delivery.error)) if delivery.error else "",
        "tone": tone,
        "text": text,
    }
