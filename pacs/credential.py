"""From what a card presented to one verified credential id, whatever the technology.

Everything that can be computed before the card's last answer is computed in ``Verifier.prefetch``;
``Verifier.verify`` then costs one P-256 verification.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum, unique
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from pacs.card import p256
from pacs.card.cvc import Certificate
from pacs.errors import MalformedData, VerificationError
from pacs.identifiers import CredentialId
from pacs.reason import Reason

CACHED_CERTIFICATES: Final = 512
REMEMBERED_SIGNATURES: Final = 4096


@unique
class Technology(StrEnum):
    """How a credential is carried; wire strings."""

    PKOC_V2 = "pkoc-v2"
    PKOC_V1 = "pkoc-v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """What one tap yielded, nothing of it verified.

    ``message`` is what the reader asked the card to sign, ``signature`` its 64 bytes r‖s.
    PKOC V2 carries ``certificate`` (the 7F21 TLV), PKOC V1 ``public_key`` (65 bytes 04‖x‖y).
    """

    technology: Technology
    message: bytes
    signature: bytes
    certificate: bytes = b""
    public_key: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedCredential:
    """A credential whose holder proved possession of its key.

    Dates are inclusive days; they and ``issuer`` are None where the technology has none (V1).
    Whether it is valid today and may open a door is not said here.
    """

    credential_id: CredentialId
    technology: Technology
    issuer: str | None = None
    valid_from: date | None = None
    valid_until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustAnchors:
    """Whose certificates are believed: issuer identification reference → issuer's P-256 key."""

    issuers: Mapping[str, ec.EllipticCurvePublicKey]


@dataclass(frozen=True, slots=True)
class _Certified:
    """An authentic certificate: what it says, and its key ready to verify with."""

    credential: VerifiedCredential
    key: ec.EllipticCurvePublicKey


class Verifier:
    """Verifies presentations against one set of trust anchors. Not for use by two threads at once.

    Remembers the ``CACHED_CERTIFICATES`` last used authentic certificates by their exact bytes,
    and the ``REMEMBERED_SIGNATURES`` last accepted signatures so that a replay is named as such.
    """

    def __init__(self, trust: TrustAnchors) -> None:
        self._trust = trust
        self._certified: OrderedDict[bytes, _Certified] = OrderedDict()
        self._refused: tuple[bytes, Reason, str] | None = None
        self._accepted: OrderedDict[bytes, None] = OrderedDict()

    def with_trust(self, trust: TrustAnchors) -> Verifier:
        """A Verifier for other trust anchors that remembers the same signatures; itself if they are equal.

        Every certificate is verified anew under the other anchors.
        """
        if trust == self._trust:
            return self
        successor = Verifier(trust)
        successor._accepted = self._accepted
        return successor

    def prefetch(self, certificate: bytes) -> VerifiedCredential | None:
        """Verify ``certificate`` and prepare its key while the card signs; ``verify`` reports the result.

        Returns what the card claims to be: the certificate is authentic, its holder has proved nothing. None when
        it is not authentic. Never raises.
        """
        try:
            return self._certify(certificate).credential
        except VerificationError as error:
            self._refused = (certificate, error.reason, str(error))
            return None

    def verify(self, presentation: Presentation) -> VerifiedCredential:
        """Return the credential whose key signed ``presentation.message``.

        Raises ``VerificationError``: ISSUER_UNKNOWN, CERTIFICATE_FORGED, CERTIFICATE_UNSUPPORTED (the
        certificate breaks the profile or names no credential), SIGNATURE_INVALID, or ANSWER_REPLAYED
        for a wrong signature that this Verifier accepted before. Dates are not looked at:
        ``check_dates``. PKOC V1 carries no issuer: whether its key is enrolled is the policy's matter.
        """
        if presentation.technology is Technology.PKOC_V2:
            certified = self._certify(presentation.certificate)
        else:
            certified = _bare_key(presentation.public_key)
        signature = presentation.signature
        try:
            p256.verify(certified.key, signature, presentation.message, Reason.SIGNATURE_INVALID)
        except VerificationError as error:
            if signature in self._accepted:
                raise VerificationError(Reason.ANSWER_REPLAYED) from error
            raise
        self._accepted[signature] = None
        if len(self._accepted) > REMEMBERED_SIGNATURES:
            self._accepted.popitem(last=False)
        return certified.credential

    def claimed(self, presentation: Presentation) -> CredentialId | None:
        """The credential a refused presentation claimed to be, if an issuer vouches for that much.

        A cloned certificate or a replayed answer names the card that was copied; None otherwise.
        """
        try:
            return self._certify(presentation.certificate).credential.credential_id
        except VerificationError:
            return None

    def _certify(self, raw: bytes) -> _Certified:
        known = self._certified.get(raw)
        if known is not None:
            self._certified.move_to_end(raw)
            return known
        if self._refused is not None and self._refused[0] == raw:
            raise VerificationError(*self._refused[1:])
        certified = self._certify_unseen(raw)
        self._certified[raw] = certified
        if len(self._certified) > CACHED_CERTIFICATES:
            self._certified.popitem(last=False)
        return certified

    def _certify_unseen(self, raw: bytes) -> _Certified:
        try:
            certificate = Certificate.from_bytes(raw)
            credential_id = certificate.credential_id
            key = p256.parse_point(certificate.public_key)
        except MalformedData as error:
            raise VerificationError(Reason.CERTIFICATE_UNSUPPORTED, str(error)) from error
        issuer_key = self._trust.issuers.get(certificate.issuer)
        if issuer_key is None:
            raise VerificationError(Reason.ISSUER_UNKNOWN)
        certificate.verify(issuer_key)
        credential = VerifiedCredential(
            credential_id=credential_id,
            technology=Technology.PKOC_V2,
            issuer=certificate.issuer,
            valid_from=certificate.valid_from,
            valid_until=certificate.valid_until,
        )
        return _Certified(credential, key)


def _bare_key(public_key: bytes) -> _Certified:
    """A V1 card's key: its x coordinate is the credential. No signature verifies under an unusable key."""
    try:
        key = p256.parse_point(public_key)
    except MalformedData as error:
        raise VerificationError(Reason.SIGNATURE_INVALID, str(error)) from error
    credential_id = CredentialId(public_key[1:33])
    return _Certified(VerifiedCredential(credential_id=credential_id, technology=Technology.PKOC_V1), key)


def check_dates(credential: VerifiedCredential, on: date) -> None:
    """Raise ``VerificationError`` unless ``on`` lies within the credential's days, both inclusive.

    Reasons: CERTIFICATE_NOT_YET_VALID, CERTIFICATE_EXPIRED. A credential without dates passes.
    """
    if credential.valid_from is not None and on < credential.valid_from:
        raise VerificationError(Reason.CERTIFICATE_NOT_YET_VALID)
    if credential.valid_until is not None and on > credential.valid_until:
        raise VerificationError(Reason.CERTIFICATE_EXPIRED)
