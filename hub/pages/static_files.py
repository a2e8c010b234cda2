"""Styles, scripts, fonts and the mark: read once, addressed by what they contain, cached for good."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fastapi import APIRouter, Response

from hub.api.access import PUBLIC, DeclaredRoute
from hub.api.problems import Code, Problem

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, dependencies=[PUBLIC])

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
}
FONTS: Final = ("NotoSansArabic-Bold.ttf", "NotoSansArmenian-Bold.ttf", "NotoSansEthiopic-Bold.ttf")
"""Sent to a browser whose system has none with these letters; a style names each by its file's name."""


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file, and the address under which its present content stands."""

    address: str
    media_type: str
    data: bytes


def _read(path: Path, named: Mapping[str, StaticFile] = MappingProxyType({})) -> StaticFile:
    """The file, in which each of the ``named`` is put by its address."""
    data = path.read_bytes()
    for name, file in named.items():
        data = data.replace(f'url("{name}")'.encode(), f'url("{file.address}")'.encode())
    digest = hashlib.sha256(data).hexdigest()[:16]
    return StaticFile(f"/static/{digest}/{path.name}", _TYPES[path.suffix], data)


_FONTS = {name: _read(Path(__file__).parents[1] / "fonts" / name) for name in FONTS}
FILES = _FONTS | {
    path.name: _read(path, _FONTS if path.suffix == ".css" else {})
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
