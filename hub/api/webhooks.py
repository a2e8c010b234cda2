"""Webhooks: who is told of what, and how telling them went."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field, StrictBool

from hub import webhooks
from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import IfMatch, note, portion, tagged, unchanged
from hub.api.fields import Answer, Body, OneTimeSecret
from hub.api.problems import Code, Problem
from hub.api.services import Services, services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import webhooks as store
from hub.store.webhooks import Told
from hub.versions import Parts
from hub.webhooks import NotAllowed

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/webhooks", tags=["webhooks"])

WebhookInPath = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
Url = Annotated[str, Field(min_length=8, max_length=500, pattern="^https?://[!-~]+$")]
Kinds = Annotated[list[Told], Field(max_length=len(Told))]
SiteIds = Annotated[list[fields.Site], Field(max_length=500)]


class NewWebhook(Body):
    """``kinds`` empty: every kind but taps, which have to be asked for. ``site_ids`` null: every site."""

    url: Url
    kinds: Kinds = Field(default_factory=list)
    site_ids: SiteIds | None = None


class WebhookChange(Body):
    """What may change; what is absent stays. Enabling sends what was not delivered."""

    kinds: Kinds | None = None
    enabled: StrictBool | None = None


class Webhook(Answer):
    """One subscription. ``cause``: why the hub disabled it; empty when an operator did, or nobody."""

    id: str
    url: str
    kinds: list[Told]
    site_ids: list[str] | None
    enabled: bool
    cause: str
    created_at: datetime


class Secret(OneTimeSecret):
    """The secret that signs from now on, shown once; one before it signs as well until ``previous_until``."""

    id: str
    secret: str
    previous_until: datetime | None


class Webhooks(Answer):
    """A portion of the list; go on with ``after=next_after`` until it is null."""

    webhooks: list[Webhook]
    next_after: str | None


class Delivery(Answer):
    """One message. ``due_at`` null and ``delivered_at`` null: given up. ``status``: of the last answer."""

    id: int
    message_id: str
    kind: Told
    created_at: datetime
    attempts: int
    status: int | None
    error: str
    due_at: datetime | None
    delivered_at: datetime | None


class Deliveries(Answer):
    """A portion of the list; go on with ``after=next_after`` until it is null."""

    deliveries: list[Delivery]
    next_after: int | None


Manager = Annotated[Principal, requires(Permission.WEBHOOKS_MANAGE, everywhere=True)]


@router.post("", status_code=201)
def add_webhook(body: NewWebhook, request: Request, principal: Manager) -> Secret:
    """Subscribe; the answer holds the secret that signs, once."""
    hub = services(request)
    _check_may_be_told(principal, body.kinds)
    try:
        webhooks.checked_address(body.url, hub.webhooks.allowed)
    except NotAllowed as error:
        raise Problem(Code.INVALID, f"url: {error}.") from error
    new = store.Webhook(
        id=secrets.token_hex(8),
        url=body.url,
        kinds=tuple(body.kinds),
        sites=None if body.site_ids is None else tuple(body.site_ids),
        secret=webhooks.new_secret(),
        previous_secret=None,
        previous_until=None,
        enabled=True,
        cause="",
        created_at=hub.clock(),
    )
    with hub.database.write() as connection:
        store.add(connection, new)
        note(connection, hub, principal, action="webhook.create", subject=f"webhook:{new.id}")
    return Secret(id=new.id, secret=new.secret, previous_until=None)


@router.get("")
def list_webhooks(
    request: Request,
    _: Manager,
    after: Annotated[str | None, Query(max_length=16)] = None,
    limit: fields.Limit = 100,
) -> Webhooks:
    """Subscriptions by id; never their secrets."""
    with services(request).database.read() as connection:
        found, next_after = portion(store.list_all(connection), after, limit)
    return Webhooks(webhooks=[_answer(each) for each in found], next_after=next_after)


@router.get("/{webhook_id}")
def one_webhook(webhook_id: WebhookInPath, request: Request, response: Response, _: Manager) -> Webhook:
    """One subscription."""
    with services(request).database.read() as connection:
        found = store.get(connection, webhook_id)
    tagged(response, _parts(found))
    return _answer(found)


@router.patch("/{webhook_id}")
def change_webhook(
    webhook_id: WebhookInPath,
    body: WebhookChange,
    request: Request,
    response: Response,
    principal: Manager,
    if_match: IfMatch = None,
) -> Webhook:
    """Change what a subscriber is told of, disable it, or enable it again."""
    hub = services(request)
    _check_may_be_told(principal, body.kinds or [])
    with hub.database.write() as connection:
        found = store.get(connection, webhook_id)
        unchanged(if_match, _parts(found))
        changed = replace(found, kinds=found.kinds if body.kinds is None else tuple(body.kinds))
        if body.enabled is not None and body.enabled != found.enabled:
            changed = replace(changed, enabled=body.enabled, cause="")
            if not body.enabled:
                store.give_up(connection, webhook_id, "")
        if changed != found:
            store.change(connection, changed)
            note(connection, hub, principal, action="webhook.change", subject=f"webhook:{webhook_id}")
        if changed.enabled and not found.enabled:
            store.resume(connection, webhook_id, hub.clock())
    tagged(response, _parts(changed))
    return _answer(changed)


@router.delete("/{webhook_id}", status_code=204)
def delete_webhook(webhook_id: WebhookInPath, request: Request, principal: Manager) -> Response:
    """Forget a subscription, and what was still to be told."""
    hub = services(request)
    with hub.database.write() as connection:
        store.remove(connection, webhook_id)
        note(connection, hub, principal, action="webhook.delete", subject=f"webhook:{webhook_id}")
    return Response(status_code=204)


@router.post("/{webhook_id}/rotate")
def rotate_secret(webhook_id: WebhookInPath, request: Request, principal: Manager) -> Secret:
    """Make a new secret; for 24 hours the former one signs as well."""
    hub = services(request)
    with hub.database.write() as connection:
        found = store.get(connection, webhook_id)
        changed = replace(
            found,
            secret=webhooks.new_secret(),
            previous_secret=found.secret,
            previous_until=hub.clock() + webhooks.OVERLAP,
        )
        store.change(connection, changed)
        note(connection, hub, principal, action="webhook.rotate", subject=f"webhook:{webhook_id}")
    return Secret(id=webhook_id, secret=changed.secret, previous_until=changed.previous_until)


@router.post("/{webhook_id}/ping", status_code=202)
def ping(webhook_id: WebhookInPath, request: Request, principal: Manager) -> Webhook:
    """Send a message of the kind `ping`; how it went is among the deliveries."""
    hub: Services = services(request)
    with hub.database.write() as connection:
        found = store.get(connection, webhook_id)
        store.tell(connection, Told.PING, {}, now=hub.clock(), only=webhook_id)
        note(connection, hub, principal, action="webhook.ping", subject=f"webhook:{webhook_id}")
    return _answer(found)


@router.get("/{webhook_id}/deliveries")
def list_deliveries(
    webhook_id: WebhookInPath,
    request: Request,
    _: Manager,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: fields.Limit = 100,
) -> Deliveries:
    """What one subscriber was told in the last week, and what is still to be told."""
    with services(request).database.read() as connection:
        store.get(connection, webhook_id)
        found = store.deliveries(connection, webhook_id, after=after, limit=limit + 1)
    return Deliveries(
        deliveries=[Delivery.model_validate(each) for each in found[:limit]],
        next_after=found[limit - 1].id if len(found) > limit else None,
    )


def _check_may_be_told(principal: Principal, kinds: list[Told]) -> None:
    if Told.TAP in kinds and not principal.may(Permission.EVENTS_READ):
        raise Problem(
            Code.NOT_PERMITTED, f"Being told of taps needs the permission {Permission.EVENTS_READ}."
        )


def _parts(webhook: store.Webhook) -> Parts:
    return {"kinds": sorted(webhook.kinds), "enabled": webhook.enabled}


def _answer(webhook: store.Webhook) -> Webhook:
    return Webhook(
        id=webhook.id,
        url=webhook.url,
        kinds=[Told(each) for each in webhook.kinds],
        site_ids=None if webhook.sites is None else list(webhook.sites),
        enabled=webhook.enabled,
        cause=webhook.cause,
        created_at=webhook.created_at,
    )
