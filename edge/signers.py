"""Whose signatures a controller believes: by the root's newest key statement, before the first by what it was made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pacs.errors import StoreError
from pacs.key_statement import KeyStatement, opened

Keys = Mapping[bytes, Ed25519PublicKey]
_NONE: Final[Keys] = MappingProxyType({})


def _no_roots() -> Sequence[EllipticCurvePublicKey]:
    raise StoreError("there is no root to verify a key statement with")


class Signers:
    """Changed by one thread, read by any: what one property gave stays as it was."""

    def __init__(
        self, first: Keys, roots: Callable[[], Sequence[EllipticCurvePublicKey]] = _no_roots
    ) -> None:
        """``first``: whom to believe before there is a statement. ``roots``: asked for when one has to be verified, until one is followed."""
        self._roots = roots
        self._root: EllipticCurvePublicKey | None = None
        self._keys = (first, first)
        self._issuers: Mapping[str, bytes] | None = None
        self.version = 0
        """Of the statement that is followed; 0: there was none."""
        self.data = b""
        """The statement as it came."""

    @property
    def accepted(self) -> Keys:
        """Whose documents and commands are believed when they come, by key id."""
        return self._keys[0]

    @property
    def kept(self) -> Keys:
        """Whose are believed that are on disk because they were accepted before."""
        return self._keys[1]

    def vouched(self, issuers: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Those card issuers of a policy that the root names; all of them before the first statement."""
        stated = self._issuers
        if stated is None:
            return issuers
        return {issuer: point for issuer, point in issuers.items() if stated.get(issuer) == point}

    def verified(self, data: bytes) -> KeyStatement:
        """Raises ``MalformedData``, ``VerificationError``, and ``StoreError`` without a root that can be used."""
        return self._opened(data)[0]

    def follow(self, statement: KeyStatement, data: bytes) -> None:
        """Believe those whom this statement names, and nobody else; ``data``: as it came.

        From then on statements are by the root that signed it, or one that follows that one.
        """
        self._root = self._opened(data)[1]
        self._keys = (statement.accepted, statement.kept)
        self._issuers = statement.issuers
        self.version, self.data = statement.version, data

    def _opened(self, data: bytes) -> tuple[KeyStatement, EllipticCurvePublicKey]:
        return opened(data, self._roots() if self._root is None else (self._root,))

    def believe_nobody(self) -> None:
        """A statement was followed and cannot be read any more: until the hub sends it again nobody is believed."""
        self._keys = (_NONE, _NONE)
