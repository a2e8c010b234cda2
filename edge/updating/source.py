"""Where releases come from: a directory, or an HTTPS address below which the same files lie."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pacs.errors import MalformedData, StoreError

_PATIENCE_S: Final = 30
_CHUNK_BYTES: Final = 256 * 1024


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer that sends elsewhere is a refusal: nothing but the address that was set is asked."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """None: do not follow."""


_OPENER: Final = urllib.request.build_opener(_NoRedirect)


class Source:
    """Files of one place, by name. Who answers there is not trusted: what comes is proven by its signature."""

    def __init__(self, place: str) -> None:
        """``place``: an absolute directory, or an address that begins with ``https://``. Raises ``MalformedData``."""
        address = urllib.parse.urlsplit(place)
        self._is_directory = place.startswith("/")
        if not self._is_directory and (address.scheme != "https" or not address.hostname):
            raise MalformedData("updates: an absolute directory or an https:// address expected")
        self._place = place.rstrip("/")

    def read(self, name: str, *, at_most: int) -> bytes:
        """A small file, whole; raises as ``save`` does."""
        return b"".join(self._chunks(name, at_most))

    def save(self, name: str, target: Path, *, at_most: int) -> None:
        """Write the file to ``target``. Raises ``StoreError`` when it cannot be had, ``MalformedData`` when longer."""
        with target.open("wb") as file:
            for chunk in self._chunks(name, at_most):
                file.write(chunk)

    def _chunks(self, name: str, at_most: int) -> Iterator[bytes]:
        left = at_most
        try:
            where = f"{self._place}/{name}"
            with (
                Path(where).open("rb") if self._is_directory else _OPENER.open(where, timeout=_PATIENCE_S)
            ) as file:
                while chunk := file.read(_CHUNK_BYTES):
                    left -= len(chunk)
                    if left < 0:
                        raise MalformedData(f"{name}: longer than the {at_most} bytes allowed")
                    yield chunk
        except urllib.error.HTTPError as error:
            raise StoreError(f"{name}: {self._place} answers {error.code}") from error
        except (OSError, http.client.HTTPException) as error:
            raise StoreError(f"{name}: cannot be had from {self._place} ({error})") from error
