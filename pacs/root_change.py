"""How one root of a site follows another: the root before it certifies the new root's key.

That certificate has the name of the roots as subject and issuer (RFC 4210 §4.4, "new with old"; self-issued in the sense of
RFC 5280 §3.2), which no other certificate of a root has: an intermediate below a root can never pass for its successor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from pacs.errors import MalformedData, VerificationError
from pacs.reason import Reason

if TYPE_CHECKING:  # a controller whose root was never changed does without at its start
    from cryptography import x509

ROOT_PATH_LENGTH = 2
"""Below a root: the link to its successor, an intermediate, a leaf."""
LINK_PATH_LENGTH = 1
MAX_LINKS = 4
MAX_CERTIFICATE_BYTES = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class RootChange:
    """``certificate``: of the new root, by itself (DER).

    ``links``: each root's key certified by the root before it (DER), the new root's last, those before it so that who was
    away for several changes can follow. ``former_is_believed``: until the root before it is retired. Raises
    ``MalformedData`` unless all carry one name, and the last link is of the new root's P-256 key.
    """

    certificate: bytes
    links: tuple[bytes, ...]
    former_is_believed: bool

    def __post_init__(self) -> None:
        if not 1 <= len(self.links) <= MAX_LINKS:
            raise MalformedData(f"change of root: 1 to {MAX_LINKS} links expected")
        if max(map(len, (self.certificate, *self.links))) > MAX_CERTIFICATE_BYTES:
            raise MalformedData("change of root: a certificate is too long")
        new, links = self.root, [_certificate(link) for link in self.links]
        try:
            are_roots = all(_is_root(each) and each.subject == new.subject for each in (new, *links))
            is_last = new.public_key() == links[-1].public_key()
        except (ValueError, UnsupportedAlgorithm) as error:
            raise MalformedData("change of root: certificates that cannot be read") from error
        if not are_roots or not is_last:
            raise MalformedData("change of root: roots of one name expected, the last link of this one")
        if not _is_signed_by(new, self.key):
            raise MalformedData("change of root: the new root's certificate is not its own")

    @property
    def root(self) -> x509.Certificate:
        """The new root's certificate."""
        return _certificate(self.certificate)

    @property
    def key(self) -> EllipticCurvePublicKey:
        """The new root's key."""
        return _p256(self.root)

    def prove(self, roots: Sequence[EllipticCurvePublicKey]) -> None:
        """Raise ``VerificationError`` (``SIGNER_UNKNOWN``) unless this root follows one of these, link by link."""
        known = list(roots)
        for link in map(_certificate, self.links):
            if any(_is_signed_by(link, root) for root in known):
                known.append(_p256(link))
        if self.key not in known:
            raise VerificationError(Reason.SIGNER_UNKNOWN, "change of root: by another root")


def _certificate(der: bytes) -> x509.Certificate:
    from cryptography import x509

    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedData("change of root: not a certificate") from error


def _p256(certificate: x509.Certificate) -> EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise MalformedData("change of root: a P-256 key expected")
    return key


def _is_root(certificate: x509.Certificate) -> bool:
    from cryptography import x509

    _p256(certificate)
    try:
        limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    return certificate.subject == certificate.issuer and limits.ca and limits.path_length != 0


def _is_signed_by(certificate: x509.Certificate, key: EllipticCurvePublicKey) -> bool:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    algorithm = certificate.signature_hash_algorithm
    if algorithm is None:
        return False
    try:
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, ECDSA(algorithm))
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True
