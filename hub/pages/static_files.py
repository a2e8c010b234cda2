"""The style, the script and the mark: read once, addressed by what they contain, cached for good."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Response

from hub.api.access import PUBLIC, DeclaredRoute
from hub.api.problems import Code, Problem

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, dependencies=[PUBLIC])

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file, and the address under which its present content stands."""

    address: str
    media_type: str
    data: bytes


def _read(path: Path) -> StaticFile:
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()[:16]
    return StaticFile(f"/static/{digest}/{path.name}", _TYPES[path.suffix], data)


FILES = {
    path.name: _read(path)
    for path in sorted(Path(__file__).with_name("static").iterdir())
    if path.suffix in _TYPES
}
_BY_ADDRESS = {file.address: file for file in FILES.values()}


@router.get("/static/{digest}/{name}")
async def static_file(digest: str, name: str) -> Response:
    """One static file."""
    file = _BY_ADDRESS.get(f"/static/{digest}/{name}")
    if file is None:
        raise Problem(Code.NOT_FOUND)
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(file.data, media_type=file.media_type, headers=headers)
