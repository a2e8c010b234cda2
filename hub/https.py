"""The certificate of the hub's pages: put in its place by others, and followed while the hub serves."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final

import structlog

LOOK_S: Final = 2.0

log = structlog.get_logger(__name__)


class HttpsCertificate:
    """``context``: what the server makes connections with; each new one gets what the files hold."""

    def __init__(self, context: ssl.SSLContext, certificate: Path, key: Path, passphrase: str | None) -> None:
        self._context = context
        self._files = (certificate, key)
        self._passphrase = passphrase
        self._seen = self._failed = self._look_at()

    async def follow(self) -> None:
        """Look until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Look once. Files that do not fit one another, as while they are being put there, change nothing."""
        seen = self._look_at()
        if seen == self._seen:
            return
        try:
            self._load(
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            )  # a context that failed would have lost its key
            self._load(self._context)
        except (OSError, ValueError) as error:
            if seen != self._failed:
                log.error("https_certificate_not_usable", detail=str(error))  # noqa: TRY400
            self._failed = seen
            return
        self._seen = seen
        log.info("https_certificate_followed", file=str(self._files[0]))

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(*self._files, self._passphrase)

    def _look_at(self) -> tuple[tuple[int, int] | None, ...]:
        """Time and size of both files."""
        found: list[tuple[int, int] | None] = []
        for path in self._files:
            try:
                state = path.stat()
                found.append((state.st_mtime_ns, state.st_size))
            except OSError:
                found.append(None)
        return tuple(found)
