"""Write the tables of routes (method, path, permission, the first line of what it does) and of roles in docs/hub-api.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
TARGET: Final = ROOT / "docs" / "hub-api.md"
HEAD: Final = "| method | path | permission | |\n|---|---|---|---|\n"


def routes() -> list[Any]:
    """Every route of the application, by path."""
    from fastapi.routing import APIRoute

    from hub.app import create_app
    from hub.settings import Settings

    found: list[Any] = []
    pending: list[Any] = list(create_app(Settings(site_dir=Path(), data_dir=Path())).routes)
    while pending:
        route = pending.pop()
        if isinstance(route, APIRoute):
            found.append(route)
        else:
            pending.extend((getattr(route, "original_router", None) or route.app).routes)
    return sorted(found, key=lambda route: (route.path, sorted(route.methods)))


def row(route: Any) -> str:
    """One line of a table."""
    from hub.api.access import declared_access

    (method,) = route.methods
    access = declared_access(route)
    summary = (route.endpoint.__doc__ or "").partition("\n")[0].replace("``", "`").replace("|", "\\|")
    held = f"`{access.permission}`" if access.permission else "anybody"
    if access.is_for_stations:
        held = "a station"
    return f"| `{method}` | `{route.path}` | {held} | {summary} |\n"


def document(text: str) -> str:
    """``text`` with its two tables as the application has them: what is under ``/api/``, and the rest."""
    every = routes()
    tables = [
        HEAD + "".join(row(route) for route in every if route.path.startswith("/api/") is is_api)
        for is_api in (True, False)
    ]
    replaced = re.sub(re.escape(HEAD) + r"(?:\|.*\n)*", lambda _: tables.pop(0), text)
    if tables:
        raise SystemExit(f"{TARGET}: two tables of routes expected")
    return re.sub(r"(?m)^\| permission \| (?:.*\n)(?:\|.*\n)*", lambda _: roles(), replaced)


def roles() -> str:
    """Which role holds which permission."""
    from hub.roles import PERMISSIONS, Permission, Role

    head = f"| permission | {' | '.join(role.replace('_', ' ') for role in Role)} |\n|{'---|' * (len(Role) + 1)}\n"
    marks = ((each, ("✓" if each in PERMISSIONS[role] else "" for role in Role)) for each in Permission)
    return head + "".join(f"| `{each}` | {' | '.join(held)} |\n" for each, held in marks)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    TARGET.write_text(document(TARGET.read_text(encoding="utf-8")), encoding="utf-8")
