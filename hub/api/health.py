"""Whether the process lives and can do its work, what it measures, and what this API can answer."""

from __future__ import annotations

import shutil
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError

from hub.api.access import PUBLIC, DeclaredRoute, requires
from hub.api.fields import Answer
from hub.api.problems import Code, Problem, catalogue
from hub.api.services import Services, services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import webhooks

router = APIRouter(route_class=DeclaredRoute, tags=["health"])

LEAST_FREE_BYTES = 100 * 1024 * 1024


class Ready(Answer):
    """Every part, and that it works. ``findings``: what somebody has to look after all the same."""

    status: str
    parts: dict[str, bool]
    findings: list[str]


@router.get("/healthz", dependencies=[PUBLIC])
async def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz", dependencies=[PUBLIC])
def ready(request: Request) -> Ready:
    """Every part works: database, disk, broker, ingest, distribution and the rest; 503 naming those that do not."""
    hub = services(request)
    parts = {"database": _is_usable(hub), "disk": _has_room(hub), **hub.health()}
    broken = [part for part, works in parts.items() if not works]
    if broken:
        raise Problem(
            Code.NOT_READY,
            f"Not working: {', '.join(broken)}.",
            headers={"Retry-After": "2"},
            errors=[{"field": part, "problem": "does not work"} for part in broken],
        )
    return Ready(status="ready", parts=parts, findings=_findings(hub))


def _findings(hub: Services) -> list[str]:
    with hub.database.read() as connection:
        disabled = webhooks.disabled(connection)
    return [f"webhooks disabled because nobody took their messages: {disabled}"] if disabled else []


def _is_usable(hub: Services) -> bool:
    try:
        return hub.database.is_migrated()
    except SQLAlchemyError:
        return False


def _has_room(hub: Services) -> bool:
    return shutil.disk_usage(hub.settings.data_dir).free >= LEAST_FREE_BYTES


@router.get("/metrics", response_class=Response)
def metrics(request: Request, principal: Annotated[Principal, requires(Permission.METRICS_READ)]) -> Response:
    """Metrics in the text format of Prometheus."""
    app, hub = request.app, services(request)
    text = app.state.metrics.text(hub, app.state.link.ingest, principal.sites)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@router.get("/api/v1/problems", dependencies=[PUBLIC])
async def problems() -> list[dict[str, Any]]:
    """Every problem this API answers with."""
    return catalogue()


@router.get("/api/v1/openapi.json", include_in_schema=False, dependencies=[PUBLIC])
async def openapi(request: Request) -> dict[str, Any]:
    """The OpenAPI description of this API."""
    description: dict[str, Any] = request.app.openapi()
    return description
