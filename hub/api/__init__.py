"""REST by resource, the live stream, and who may call what."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.routing import APIRoute


def routers() -> tuple[APIRouter, ...]:
    """Every resource of the API."""
    from hub.api import (
        access_levels,
        alarms,
        areas,
        attended,
        card_stock,
        cardholders,
        cards,
        commands,
        controllers,
        documents,
        doors,
        duties,
        enrolment,
        events,
        examinations,
        exemptions,
        health,
        imports,
        issuing,
        issuing_batches,
        keys,
        kiosks,
        muster,
        operators,
        orders,
        posts,
        questions,
        receipts,
        registration,
        retention,
        site_retention,
        sites,
        stations,
        statistics,
        stream,
        webhooks,
    )

    modules = (
        sites,
        retention,
        site_retention,
        controllers,
        enrolment,
        stations,
        doors,
        areas,
        access_levels,
        cardholders,
        questions,
        imports,
        cards,
        issuing,
        issuing_batches,
        card_stock,
        commands,
        orders,
        documents,
        events,
        muster,
        duties,
        examinations,
        exemptions,
        registration,
        keys,
        receipts,
        kiosks,
        statistics,
        alarms,
        attended,
        posts,
        stream,
        webhooks,
        operators,
        health,
    )
    return tuple(module.router for module in modules)


def routes() -> list[APIRoute]:
    """Every route of the API."""
    return [route for router in routers() for route in router.routes if isinstance(route, APIRoute)]
