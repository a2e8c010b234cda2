"""The site's certificate authority: one root, and certificates for the broker, the hub and the controllers.

P-256, ECDSA with SHA-256 (RFC 5280 profile). The common name also stands as a DNS name, which is what the
broker maps to a user.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, unique
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pacs.errors import MalformedData

ROOT_DAYS: Final = 3650
LEAF_DAYS: Final = 730
CLOCK_SKEW: Final = timedelta(minutes=5)


@unique
class Purpose(Enum):
    """What a certificate may be used for (RFC 5280 §4.2.1.12)."""

    SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
    CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    NODE = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    """A server that connects to others like it."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A root certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, name: str, now: datetime) -> Authority:
        """Make a root for ``ROOT_DAYS`` days from ``now``; it signs leaves and no further authority."""
        key = generate_key()
        subject = _name(name)
        certificate = (
            _builder(subject, key.public_key(), now, ROOT_DAYS)
            .issuer_name(subject)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(is_authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    def certify(
        self,
        *,
        name: str,
        public_key: ec.EllipticCurvePublicKey,
        purpose: Purpose,
        now: datetime,
        hosts: Iterable[str] = (),
        days: int = LEAF_DAYS,
    ) -> x509.Certificate:
        """Certify ``public_key`` as ``name`` for ``days`` days from ``now``, never beyond the root's own end.

        ``hosts`` are further DNS names and IP addresses of a server. Raises ``MalformedData`` for a
        host that is neither.
        """
        names = [_host(host) for host in dict.fromkeys((name, *hosts))]
        root_key_id = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        days = min(days, (self.certificate.not_valid_after_utc - now).days)
        return (
            _builder(_name(name), public_key, now, days)
            .issuer_name(self.certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purpose.value), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_key_id), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )


def generate_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """PEM of a certificate."""
    return certificate.public_bytes(Encoding.PEM)


def serial_hex(certificate: x509.Certificate) -> str:
    """The serial number, lower case hex without leading zeros: what the hub's registry holds."""
    return f"{certificate.serial_number:x}"


def _builder(
    subject: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise MalformedData(f"host {host!r}: a DNS name or an IP address expected") from error


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
