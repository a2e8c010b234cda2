"""What everybody who checks a secret here needs: how it is stored, and how it is refused."""

from __future__ import annotations

import hashlib

from pacs.errors import PacsError


class SignInRefused(PacsError):
    """Not signed in; ``code`` is stable, the message may be shown and tells nothing about accounts."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def digest(token: str) -> bytes:
    """What is stored of a secret of 256 random bits."""
    return hashlib.sha256(token.encode()).digest()
