"""The OpenAPI description: what the framework knows of each route, and what this API adds to it.

Each operation says who may call it (``x-permission``), how to sign in, and with which problems it may answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from hub.api import idempotency
from hub.api.access import CSRF_HEADER, declared_access, operation_id
from hub.api.examples import BODIES
from hub.api.problems import Code

PROBLEM = "application/problem+json"
_UNSAFE = {"post", "put", "patch", "delete"}
_METHODS = {"get", *_UNSAFE}
_ABOUT = """Administration of doors, cards and people, and the record of what doors did.

A list of events is never proof of absence: `completeness` says where a door's record is not whole."""

_PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "Problem details (RFC 9457). `code` is stable; what was sent is never echoed.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "next_step"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": [code.wire for code in Code]},
        "next_step": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "problem"],
                "properties": {"field": {"type": "string"}, "problem": {"type": "string"}},
            },
        },
    },
}


def describe(app: FastAPI, routes: Iterable[APIRoute], *, session_cookie: str) -> dict[str, Any]:
    """The document for these routes."""
    every = [route for route in routes if route.include_in_schema]
    document = get_openapi(
        title=app.title, version=app.version, openapi_version="3.1.0", description=_ABOUT, routes=every
    )
    by_id = {operation_id(route): route for route in every}
    for methods in document["paths"].values():
        for method, operation in methods.items():
            if method in _METHODS:
                _complete(by_id[operation["operationId"]], method, operation)
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM_SCHEMA
    for name, example in BODIES.items():
        if name in schemas:
            schemas[name]["examples"] = [example]
    components["parameters"] = {
        "IdempotencyKey": {
            "name": idempotency.HEADER,
            "in": "header",
            "required": False,
            "description": "The same key and content again: not done again, and answered as the first time, for 24 hours.",
            "schema": {"type": "string", "pattern": idempotency.PATTERN},
        }
    }
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API token."},
        "station": {"type": "http", "scheme": "bearer", "description": "A station's token."},
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": session_cookie,
            "description": f"A browser's session; what changes something also needs the header {CSRF_HEADER}.",
        },
    }
    return document


def _complete(route: APIRoute, method: str, operation: dict[str, Any]) -> None:
    summary, _, rest = (route.endpoint.__doc__ or "").strip().partition("\n")
    operation["summary"] = summary.replace("``", "`")
    if rest.strip():
        operation["description"] = " ".join(rest.replace("``", "`").split())
    else:
        operation.pop("description", None)
    access = declared_access(route)
    permission = access.permission
    operation["x-permission"] = str(permission) if permission else None
    operation["security"] = [{"bearer": []}, {"session": []}] if permission else []
    if access.is_for_stations:
        operation["security"] = [{"station": []}]
    if method in _UNSAFE:
        operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/IdempotencyKey"})
    responses = operation["responses"]
    responses.pop("422", None)
    if "201" in responses:
        responses["200"] = responses["201"] | {"description": "It was there already, with the same content"}
    by_status: dict[int, list[Code]] = {}
    for code in problems_of(method, operation, is_public=access.is_public):
        by_status.setdefault(code.value.status, []).append(code)
    for status, codes in sorted(by_status.items()):
        operation["responses"][str(status)] = {
            "description": "; ".join(f"`{code.wire}`: {code.value.title}" for code in codes),
            "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
            "x-codes": [code.wire for code in codes],
        }


def problems_of(method: str, operation: dict[str, Any], *, is_public: bool) -> Iterable[Code]:
    """With what an operation may answer, by what it takes and does."""
    if not is_public:
        yield from (Code.NOT_SIGNED_IN, Code.NOT_PERMITTED)
    if operation.get("parameters") or "requestBody" in operation:
        yield from (Code.INVALID, Code.NOT_FOUND)
    if method in _UNSAFE:
        yield from (Code.CROSS_SITE, Code.BODY_TOO_LARGE, Code.TOO_SLOW)
        yield from (Code.ALREADY_EXISTS, Code.IN_USE, Code.JOB_OVER, Code.CARD_REVOKED, Code.SIGN_IN_REFUSED)
        yield from (Code.KEY_REUSED, Code.KEY_IN_USE, Code.OUTCOME_UNKNOWN, Code.ANSWER_NOT_KEPT)
    if any(each.get("name") == "If-Match" for each in operation.get("parameters", ())):
        yield Code.CHANGED_MEANWHILE
    if "requestBody" in operation:
        yield from (Code.REFERENCE_UNKNOWN, Code.NO_STAY, Code.MEDIA_TYPE)
    yield from (Code.TOO_MANY_ATTEMPTS, Code.INTERNAL, Code.NOT_READY)
