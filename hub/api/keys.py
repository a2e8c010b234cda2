"""Changing keys: which policy key signs and who has yet to hear of the next one; which card issuers are trusted."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from enum import StrEnum, unique
from typing import Annotated

from fastapi import APIRouter, Path, Request

from hub import audit
from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Answer, Body
from hub.api.services import services
from hub.certificates import Part, site_certificates
from hub.operators import Principal
from hub.roles import Permission
from hub.roots import below_former_root
from hub.signing import Standing
from hub.store import issuers
from pacs.key_statement import KeyStatement

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/keys", tags=["keys"])


@unique
class KeyUse(StrEnum):
    """What a policy key is good for."""

    SIGNS = "signs"
    WAITS_TO_SIGN = "waits_to_sign"
    IS_BELIEVED = "is_believed"
    RETIRED = "retired"


class PolicyKey(Answer):
    """One policy key; ``is_here``: this hub could sign with it."""

    id: str
    use: KeyUse
    is_here: bool


class WaitingController(Answer):
    """A controller that an old key still serves."""

    controller_id: fields.Controller
    site_id: fields.Site


class CardIssuer(Answer):
    """``live_cards``: of this issuer, not revoked and not ended."""

    issuer: str
    created_at: datetime
    retired_at: datetime | None
    is_stated: bool
    live_cards: int


class HeldCertificate(Answer):
    """``fingerprint``: SHA-256, hex. ``due_at``: two thirds of its life are over; ``is_due``: they are."""

    part: Part
    serial: str
    fingerprint: str
    begins_at: datetime
    due_at: datetime
    ends_at: datetime
    days_left: int
    is_due: bool


class Keys(Answer):
    """``statement``: the version of the root's newest key statement; 0: there is none.

    ``waiting``: whom the next policy key waits for. ``below_former_root``: who is let in by a certificate of the root
    before the newest, while that one is not retired. ``certificates``: of the hub's directory and of its pages. ``cards_of_unknown_issuer``: the hub was not told who made them.
    """

    statement: int
    stated_at: datetime | None
    policy_keys: list[PolicyKey]
    waiting: list[WaitingController]
    issuers: list[CardIssuer]
    cards_of_unknown_issuer: int
    certificates: list[HeldCertificate]
    below_former_root: list[WaitingController]


class KeySwitch(Body):
    """The reason is kept in the audit log."""

    reason: fields.ReasonText


class IssuerRetirement(Body):
    """``with_cards``: although there are cards of it that somebody may still use. The reason is kept in the audit log."""

    reason: fields.ReasonText
    with_cards: bool = False


class Retired(Answer):
    """``cards_stopped``: how many cards that could be used open no door from then on."""

    issuer: str
    cards_stopped: int


@router.get("")
def in_use(
    request: Request,
    _: Annotated[Principal, requires(Permission.CONTROLLERS_READ, everywhere=True)],
) -> Keys:
    """The policy keys, the card issuers, and how far a change of them is."""
    hub = services(request)
    now = hub.clock()
    with hub.database.read() as connection:
        standing = hub.signing.standing(connection)
        known = issuers.list_all(connection)
        live = issuers.live_cards(connection, now)
        former = below_former_root(connection, hub.settings.site_dir / "root.cert.pem")
    stated = standing.stated
    return Keys(
        statement=stated.version if stated else 0,
        stated_at=stated.issued_at if stated else None,
        policy_keys=_policy_keys(standing),
        waiting=[WaitingController(controller_id=each, site_id=site) for each, site in standing.waiting],
        issuers=[
            CardIssuer(
                issuer=each.iir,
                created_at=each.created_at,
                retired_at=each.retired_at,
                is_stated=_is_stated(stated, each),
                live_cards=live.get(each.iir, 0),
            )
            for each in known
        ],
        cards_of_unknown_issuer=live.get(None, 0),
        certificates=[
            HeldCertificate(**asdict(each), days_left=each.days_left(now), is_due=now >= each.due_at)
            for each in site_certificates(hub.settings.site_dir, hub.settings.certificate)
        ],
        below_former_root=[WaitingController(controller_id=each, site_id=site) for each, site in former],
    )


@router.post("/policy/switch")
def switch(
    body: KeySwitch,
    request: Request,
    principal: Annotated[Principal, requires(Permission.SITES_MANAGE, everywhere=True)],
) -> Keys:
    """Sign with the newest policy key at once; commands to controllers that have not heard of it are refused there."""
    services(request).signing.switch(reason=body.reason, actor=principal.actor)
    return in_use(request, principal)


@router.post("/issuers/{issuer}/retire")
def retire(
    issuer: Annotated[str, Path(pattern="^[A-Z0-9]{16}$")],
    body: IssuerRetirement,
    request: Request,
    principal: Annotated[Principal, requires(Permission.SITES_MANAGE, everywhere=True)],
) -> Retired:
    """Have no policy name a card issuer any more: from then on its cards open no door."""
    hub = services(request)
    now = hub.clock()
    with hub.database.write() as connection:
        stopped = issuers.retire(connection, issuer, now, with_cards=body.with_cards)
        audit.record(
            connection,
            now=now,
            actor=principal.actor,
            action="issuer.retire",
            subject=f"issuer:{issuer}",
            reason=body.reason,
            detail={"cards_stopped": stopped},
        )
    hub.site_changed()
    return Retired(issuer=issuer, cards_stopped=stopped)


def _is_stated(stated: KeyStatement | None, issuer: issuers.CardIssuer) -> bool:
    return stated is None or stated.issuers.get(issuer.iir) == issuer.public_key


def _policy_keys(standing: Standing) -> list[PolicyKey]:
    if standing.stated is None:
        uses = {standing.signer: KeyUse.SIGNS}
    else:
        accepted = standing.stated.accepted
        uses = dict.fromkeys(standing.stated.kept, KeyUse.RETIRED) | dict.fromkeys(
            accepted, KeyUse.IS_BELIEVED
        )
        uses[[*accepted][-1]] = KeyUse.WAITS_TO_SIGN
        uses[standing.signer] = KeyUse.SIGNS
    return [PolicyKey(id=key.hex(), use=use, is_here=key in standing.here) for key, use in uses.items()]
