"""What certifies controllers: the ``devices`` intermediate, whose key the hub has, and nothing above it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hub.store.device_certificates import DeviceCertificate
from pacs.certificates import DEVICE_DAYS, leaf, serial_hex
from pacs.enrolment import fingerprint
from pacs.errors import MalformedData, StoreError
from pacs.identifiers import ControllerId


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAuthority:
    """The intermediate with its key, and the newest root above it.

    ``above``: how that root followed another one, for whoever knows that one alone.
    """

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey = field(repr=False)
    root: x509.Certificate
    above: tuple[x509.Certificate, ...] = ()

    @classmethod
    def load(cls, site_dir: Path, passphrase: str) -> DeviceAuthority | None:
        """``devices.*.pem`` of the hub's directory of a site; None: there is none, as in those made before.

        Raises ``StoreError`` naming the file.
        """
        certificate_file, key_file = site_dir / "devices.cert.pem", site_dir / "devices.key.pem"
        if not certificate_file.exists() and not key_file.exists():
            return None
        try:
            certificate, *above = x509.load_pem_x509_certificates(certificate_file.read_bytes())
            root = x509.load_pem_x509_certificate((site_dir / "root.cert.pem").read_bytes())
            key = load_pem_private_key(key_file.read_bytes(), passphrase.encode())
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(
                f"{certificate_file}, {key_file}: cannot be used to certify controllers ({error})"
            ) from error
        if not isinstance(key, EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise StoreError(f"{key_file}: not the key of {certificate_file.name}")
        return cls(certificate=certificate, key=key, root=root, above=tuple(above))

    @property
    def root_fingerprint(self) -> bytes:
        """As an enrolment code holds it."""
        return fingerprint(self.root.public_bytes(Encoding.DER))

    @property
    def root_pem(self) -> str:
        """The root's certificate."""
        return self.root.public_bytes(Encoding.PEM).decode("ascii")

    @property
    def certificates_only(self) -> bytes:
        """Root and intermediate as RFC 7030 §4.1.3 has them: PKCS#7, certificates only, DER."""
        return pkcs7.serialize_certificates([self.root, *self._above()], Encoding.DER)

    def certify(
        self, controller_id: ControllerId, public_key: EllipticCurvePublicKey, now: datetime
    ) -> DeviceCertificate:
        """A certificate of a controller for ``DEVICE_DAYS`` days, as it is kept."""
        made = leaf(
            issuer=self.certificate,
            issuer_key=self.key,
            name=controller_id,
            public_key=public_key,
            usages=[ExtendedKeyUsageOID.CLIENT_AUTH],
            now=now,
            days=DEVICE_DAYS,
        )
        return DeviceCertificate(
            serial=serial_hex(made),
            controller_id=controller_id,
            key_digest=key_digest(public_key),
            chain=self.chain_pem(made).decode("ascii"),
            issued_at=now,
            expires_at=made.not_valid_after_utc,
        )

    def certify_again(self, before: x509.Certificate, now: datetime) -> x509.Certificate:
        """The same P-256 key for the same uses under the same names, for as long again, never beyond the own end.

        Raises ``MalformedData`` for one of another kind of key.
        """
        key = before.public_key()
        if not isinstance(key, EllipticCurvePublicKey):
            raise MalformedData("certificate: not of a P-256 key")
        name = str(before.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
        of = before.extensions.get_extension_for_class
        return leaf(
            issuer=self.certificate,
            issuer_key=self.key,
            name=name,
            public_key=key,
            usages=of(x509.ExtendedKeyUsage).value,
            now=now,
            days=(before.not_valid_after_utc - before.not_valid_before_utc).days,
            hosts=[
                each
                for each in of(x509.SubjectAlternativeName).value
                if isinstance(each, (x509.DNSName, x509.IPAddress)) and each.value != name
            ],
        )

    def chain_pem(self, made: x509.Certificate) -> bytes:
        """What the file of a certificate holds: it, and what stands between it and the root."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in (made, *self._above()))

    def _above(self) -> list[x509.Certificate]:
        return [] if self.certificate == self.root else [self.certificate, *self.above]


def key_digest(public_key: EllipticCurvePublicKey) -> bytes:
    """SHA-256 of a public key (SubjectPublicKeyInfo, DER)."""
    return hashlib.sha256(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
