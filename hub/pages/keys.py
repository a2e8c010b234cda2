"""The keys of this hub's sites: which there are, until when, who holds them, and who still goes by an old one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection

from hub.api import keys as api
from hub.api.access import DeclaredRoute, requires
from hub.api.keys import Keys, KeyUse
from hub.api.services import services
from hub.certificates import RENEWED_BY_HUB, TO_DO, Part
from hub.operators import Principal
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import device_certificates, doors

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/keys")

PARTS: Final = {
    Part.ROOT: (N_("Root"), N_("two people, out of a safe")),
    Part.FORMER_ROOT: (N_("Root before it"), N_("two people, out of a safe, until it is retired")),
    Part.DEVICES: (N_("Authority of controllers and brokers"), N_("the bureau, and this hub")),
    Part.BROKER: (N_("Broker"), N_("this hub, which renews it by itself")),
    Part.CLIENT: (N_("This hub, at its broker"), N_("this hub, which renews it by itself")),
    Part.WEB_AUTHORITY: (N_("Authority of the pages"), N_("the bureau")),
    Part.HTTPS: (N_("Pages of this hub"), N_("this hub; the bureau renews it")),
}
"""What each certificate is called, and who holds its key."""
USES: Final = {
    KeyUse.SIGNS: (N_("signs"), "good"),
    KeyUse.WAITS_TO_SIGN: (N_("signs once every controller knows it"), "warn"),
    KeyUse.IS_BELIEVED: (N_("still believed"), "warn"),
    KeyUse.RETIRED: (N_("retired"), ""),
}
LATE_SHOWN: Final = 200
_AT_HUB: Final = "--hub URL --token-file FILE"


@router.get("")
def keys_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_READ, everywhere=True)],
) -> Response:
    """Certificates, policy keys and card issuers, and door by door what still depends on an old one."""
    hub, pages = services(request), pages_of(request)
    keys = api.in_use(request, principal)
    with hub.database.read() as connection:
        late = _late(pages, connection, keys)
        ends = sorted(
            each.expires_at for each, _ in device_certificates.not_refused(connection) if each.expires_at
        )
    return pages.response(
        request,
        "keys.html",
        principal,
        certificates=[
            {
                "name": pages.gettext(PARTS[each.part][0]),
                "holder": pages.gettext(PARTS[each.part][1]),
                "of": each,
                "print": _grouped(each.fingerprint),
                "is_late": each.is_due and each.part not in RENEWED_BY_HUB,
            }
            for each in keys.certificates
        ],
        policy_keys=[
            {
                "id": each.id,
                "text": pages.gettext(USES[each.use][0]),
                "tone": USES[each.use][1],
                "here": each.is_here,
            }
            for each in keys.policy_keys
        ],
        keys=keys,
        late=late[:LATE_SHOWN],
        more_late=max(0, len(late) - LATE_SHOWN),
        ends=ends,
        commands=list(_next(keys)),
        rotate="drempel-provision key rotate policy",
    )


def _late(pages: Pages, connection: Connection, keys: Keys) -> list[dict[str, Any]]:
    """The doors of the controllers that an old key still serves, and which keys these are."""
    of: dict[str, list[str]] = {}
    for waiting, text in (
        (keys.waiting, N_("the key statement before")),
        (keys.below_former_root, N_("the root before")),
    ):
        for each in waiting:
            of.setdefault(each.controller_id, []).append(pages.gettext(text))
    return [
        {"door": named.name, "controller_id": named.door.controller_id, "site_id": named.site_id, "by": by}
        for named in doors.list_all(connection)
        if (by := of.get(named.door.controller_id))
    ]


def _next(keys: Keys) -> Iterator[str]:
    """What to type at the bureau, as things stand."""
    for each in keys.certificates:
        if each.part is Part.FORMER_ROOT:
            if not keys.below_former_root:
                yield f"drempel-provision key retire root {_AT_HUB}"
        elif each.is_due and each.part not in RENEWED_BY_HUB:
            yield TO_DO[each.part]
    uses = [each.use for each in keys.policy_keys]
    if KeyUse.IS_BELIEVED in uses and KeyUse.WAITS_TO_SIGN not in uses and not keys.waiting:
        yield f"drempel-provision key retire policy {_AT_HUB}"
    in_use = [each for each in keys.issuers if each.is_stated and each.retired_at is None]
    newest = max((each.created_at for each in in_use), default=None)
    for issuer in in_use:
        if issuer.live_cards == 0 and issuer.created_at != newest:
            yield f"drempel-provision key retire card-issuer {issuer.issuer} {_AT_HUB}"


def _grouped(digits: str) -> str:
    """As two people compare it: the first 32 digits, by four."""
    return " ".join(digits[start : start + 4] for start in range(0, 32, 4))
