"""The directory a controller keeps its state in."""

from __future__ import annotations

from pathlib import Path

from pacs.errors import StoreError


def make_state_dir(path: Path) -> None:
    """Make it, mode 0700, where it is not there. Raises ``StoreError``."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise StoreError(f"{path}: {no_directory(path)}") from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; correct [controller] state_dir, or its owner") from error


def no_directory(path: Path) -> str | None:
    """What is wrong where something else has its name, and what to do; None when it is there or can be made.

    Raises ``OSError`` when this user may not look.
    """
    for place in (path, *path.parents):
        if place.is_dir():
            return None
        if place.exists() or place.is_symlink():
            what = "exists and is no directory" if place == path else f"{place} is no directory"
            return f"{what}; move it away, or correct [controller] state_dir"
    return None
