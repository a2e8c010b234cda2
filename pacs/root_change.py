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
MAX_CERTIFICATE_BYTES = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class RootChange:
    """``certificate``: of the new root, by itself. ``link``: of its key, by the root before it. Both DER.

    ``former_is_believed``: until the root before it is retired. Raises ``MalformedData`` unless both are of one P-256 key
    and carry one name.
    """

    certificate: bytes
    link: bytes
    former_is_believed: bool

    def __post_init__(self) -> None:
        if max(len(self.certificate), len(self.link)) > MAX_CERTIFICATE_BYTES:
            raise MalformedData(
                f"change of root: certificates of at most {MAX_CERTIFICATE_BYTES} bytes expected"
            )
        new, link = self.root, _certificate(self.link)
        try:
            is_one = new.public_key() == link.public_key() and _is_root(new) and _is_root(link)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise MalformedData("change of root: certificates that cannot be read") from error
        if not is_one or new.subject != link.subject:
            raise MalformedData("change of root: two certificates of one root expected")
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
        """Raise ``VerificationError`` (``SIGNER_UNKNOWN``) unless one of these roots says that this one follows it."""
        link = _certificate(self.link)
        if not any(_is_signed_by(link, root) for root in roots):
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
