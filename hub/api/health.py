"""Whether the process lives and can do its work, and what this API can answer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from hub.api.access import PUBLIC, DeclaredRoute
from hub.api.problems import Code, Problem, catalogue
from hub.api.services import services
from hub.store import sites

router = APIRouter(route_class=DeclaredRoute, tags=["health"], dependencies=[PUBLIC])


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz")
def ready(request: Request) -> dict[str, str]:
    """Database, broker and distribution work; 503 with the name of what does not."""
    hub = services(request)
    with hub.database.read() as connection:
        sites.list_all(connection)
    broken = [part for part, works in hub.health().items() if not works]
    if broken:
        raise Problem(Code.NOT_READY, f"Not working: {', '.join(broken)}.", headers={"Retry-After": "2"})
    return {"status": "ready"}


@router.get("/api/v1/problems")
async def problems() -> list[dict[str, Any]]:
    """Every problem this API answers with."""
    return catalogue()


@router.get("/api/v1/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> dict[str, Any]:
    """The OpenAPI description of this API."""
    description: dict[str, Any] = request.app.openapi()
    return description
