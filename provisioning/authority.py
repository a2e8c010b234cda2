"""The site's certificate authorities: a root that certifies intermediates, and these the broker, the hub and the controllers.

P-256, ECDSA with SHA-256 (RFC 5280 profile). The common name of a leaf also stands as a DNS name, by which the broker
knows the hub; controllers it knows by the serial numbers of their certificates (``pacs.certificates``).
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

from pacs.certificates import CLOCK_SKEW, leaf
from pacs.errors import MalformedData
from pacs.root_change import LINK_PATH_LENGTH, ROOT_PATH_LENGTH

ROOT_DAYS: Final = 3650
INTERMEDIATE_DAYS: Final = 1825
LEAF_DAYS: Final = 730


@unique
class Purpose(Enum):
    """What a certificate may be used for (RFC 5280 §4.2.1.12)."""

    SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
    CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
    NODE = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    """A server that connects to others like it."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that may certify others, with its key: the root, or an intermediate directly below it.

    ``above``: what stands between it and a root that somebody may still know alone: how a new root follows it.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: tuple[x509.Certificate, ...] = ()

    @classmethod
    def create(cls, name: str, now: datetime, key: ec.EllipticCurvePrivateKey | None = None) -> Authority:
        """Make a root for ``ROOT_DAYS`` days from ``now``; below it stand intermediates one deep, and the root that follows."""
        key = key or generate_key()
        certificate = (
            _authority_builder(_name(name), key.public_key(), now, ROOT_DAYS, path_length=ROOT_PATH_LENGTH)
            .issuer_name(_name(name))
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @property
    def is_root(self) -> bool:
        """Whether it vouches for itself."""
        return self.certificate.issuer == self.certificate.subject

    def intermediate(self, name: str, purpose: Purpose, now: datetime) -> Authority:
        """Make an authority below this root that certifies leaves of ``purpose`` only.

        It lasts ``INTERMEDIATE_DAYS`` days from ``now``, never beyond the root's own end.
        """
        key = generate_key()
        certificate = (
            _authority_builder(
                _name(name), key.public_key(), now, self._days(INTERMEDIATE_DAYS, now), path_length=0
            )
            .issuer_name(self.certificate.subject)
            .add_extension(x509.ExtendedKeyUsage(purpose.value), critical=False)
            .add_extension(self._key_identifier(), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Authority(certificate, key)

    def link(self, successor: x509.Certificate, now: datetime) -> x509.Certificate:
        """Certify the key of the root that follows this one, under the name that both have (``pacs.root_change``)."""
        key = successor.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise MalformedData("root: a P-256 key expected")
        days = self._days(ROOT_DAYS, now)
        return (
            _authority_builder(successor.subject, key, now, days, path_length=LINK_PATH_LENGTH)
            .issuer_name(self.certificate.subject)
            .add_extension(self._key_identifier(), critical=False)
            .sign(self.key, hashes.SHA256())
        )

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
        """Certify ``public_key`` as ``name`` for ``days`` days from ``now``, never beyond its own end.

        ``hosts`` are further DNS names and IP addresses of a server. Raises ``MalformedData`` for a
        host that is neither.
        """
        return leaf(
            issuer=self.certificate,
            issuer_key=self.key,
            name=name,
            public_key=public_key,
            usages=purpose.value,
            now=now,
            days=days,
            hosts=[_host(host) for host in dict.fromkeys(hosts) if host != name],
        )

    def chain_pem(self, leaf: x509.Certificate) -> bytes:
        """What the file of a certificate holds: the leaf, then this authority unless it is the root (RFC 8446 §4.4.2)."""
        return certificate_pem(leaf) + (b"" if self.is_root else self.pem)

    @property
    def pem(self) -> bytes:
        """What its own file holds: its certificate, and what stands above it."""
        return b"".join(map(certificate_pem, (self.certificate, *self.above)))

    def _days(self, days: int, now: datetime) -> int:
        return min(days, (self.certificate.not_valid_after_utc - now).days)

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def generate_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """PEM of a certificate."""
    return certificate.public_bytes(Encoding.PEM)


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


def _authority_builder(
    subject: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime, days: int, *, path_length: int
) -> x509.CertificateBuilder:
    return (
        _builder(subject, public_key, now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_AUTHORITY_USE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
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


_AUTHORITY_USE: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
