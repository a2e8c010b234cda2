"""Certificates of devices (RFC 5280): their form, and whether a chain leads to the site's root.

Every leaf carries its own serial number as a URI beside its name. The broker admits by that URI, so that of two
certificates of one controller it can let in one and refuse the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pacs.errors import MalformedData
from pacs.root_change import MAX_LINKS

DEVICE_DAYS: Final = 90
"""Of a controller's certificate that it renews itself, at ``RENEW_AT`` of this time."""
RENEW_AT: Final = 2 / 3
CLOCK_SKEW: Final = timedelta(minutes=5)
MAX_CHAIN: Final = 2 + MAX_LINKS
"""Leaf, intermediate, and how roots followed one another."""
MAX_REQUEST_BYTES: Final = 4_096
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\s*", re.DOTALL)


def serial_hex(certificate: x509.Certificate) -> str:
    """The serial number, lower case hex without leading zeros: what the hub's registry holds."""
    return f"{certificate.serial_number:x}"


def identity(serial: str) -> str:
    """The URI that a certificate of this serial number (hex) carries, and the broker's user of that name."""
    return f"urn:drempel:certificate:{serial}"


def leaf(
    *,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    name: str,
    public_key: ec.EllipticCurvePublicKey,
    usages: Iterable[x509.ObjectIdentifier],
    now: datetime,
    days: int,
    hosts: Sequence[x509.GeneralName] = (),
) -> x509.Certificate:
    """Certify ``public_key`` as ``name`` for ``days`` days from ``now``, never beyond the issuer's own end.

    ``name`` stands as common name and as DNS name; ``hosts`` beside it.
    """
    serial = x509.random_serial_number()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    ends = min(now + timedelta(days=days), issuer.not_valid_after_utc)
    names = [*hosts, x509.UniformResourceIdentifier(identity(f"{serial:x}"))]
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_LEAF_USE, critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), *names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key_id), critical=False
        )
        .sign(issuer_key, hashes.SHA256())
    )


_LEAF_USE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate request (PKCS#10, DER) for this key. It names nobody: the hub says whose the certificate is."""
    return (
        x509.CertificateSigningRequestBuilder(x509.Name([]))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def requested_key(der: bytes) -> ec.EllipticCurvePublicKey:
    """The P-256 key of a certificate request (PKCS#10, DER), whose owner is proven by its signature.

    Raises ``MalformedData``.
    """
    if len(der) > MAX_REQUEST_BYTES:
        raise MalformedData("certificate request: too long")
    try:
        asked = x509.load_der_x509_csr(der)
        key = asked.public_key()
        proven = asked.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedData("certificate request: not PKCS#10") from error
    if not proven:
        raise MalformedData("certificate request: not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedData("certificate request: a P-256 key expected")
    return key


def read_chain(pem: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM text, the leaf first; raises ``MalformedData`` for none, too many or other things."""
    blocks = _PEM.findall(pem)
    if not 1 <= len(blocks) <= MAX_CHAIN:
        raise MalformedData(f"certificates: 1 to {MAX_CHAIN} in PEM expected")
    try:
        return [x509.load_pem_x509_certificate(block) for block in blocks]
    except ValueError as error:
        raise MalformedData("certificates: not X.509") from error


def leads_to(chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> bool:
    """Whether each certificate is issued by the one behind it, an authority, until one is issued by one of the ``roots``."""
    try:
        for index, certificate in enumerate(chain):
            if certificate in roots or any(_is_issued_by(certificate, root) for root in roots):
                return True
            above = chain[index + 1]
            certificate.verify_directly_issued_by(above)
            if not above.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                return False
    except (ValueError, TypeError, IndexError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return False


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def check_device_chain(
    chain: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    *,
    name: str,
    public_key: ec.EllipticCurvePublicKey,
) -> None:
    """Raise ``MalformedData`` unless the chain certifies this key as this device's, and leads to one of the ``roots``."""
    device = chain[0]
    if device.public_key() != public_key:
        raise MalformedData("certificate: of another key than was asked for")
    names = [str(each.value) for each in device.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [name]:
        raise MalformedData(f"certificate: not of controller {name}")
    try:
        usages = device.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if ExtendedKeyUsageOID.CLIENT_AUTH not in usages:
            raise MalformedData("certificate: not one of a client")
    except (ValueError, x509.ExtensionNotFound) as error:
        raise MalformedData("certificate: of no use that can be read") from error
    if not leads_to(chain, roots):
        raise MalformedData("certificate: does not lead to the site's root")


def renew_from(certificate: x509.Certificate) -> datetime:
    """When ``RENEW_AT`` of its life is over."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begins + (ends - begins) * RENEW_AT
