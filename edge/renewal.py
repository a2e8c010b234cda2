"""The controller's certificate, renewed over the connection that the present one gives it.

From two thirds of its life on, and when another root has followed the one that it leads to, another key is made and the hub
asked to certify it. The answer is tried with the next connection; once the hub has answered on that, it takes the place of the present one. Until then, and whenever it does not
work, the present one is used; a new one that failed three times while the present one works is given up, and another asked
for. A killed process goes on from the files: ``device.pem.key``, the new key; ``device.pem.next``, certificate and key, to be
tried; ``device.pem``, in force. All of it belongs to the uplink's thread, but for ``standing``.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from cryptography.hazmat.primitives.asymmetric import ec

from edge.config import KeyPaths
from edge.device_keys import DeviceKeys, new_device_key, use_after, write_secret
from edge.keystore import (
    Keystore,
    context_of,
    in_force,
    read_certificate,
    read_certificates,
    read_passphrase,
    read_private_key,
    roots_in_force,
)
from pacs.certificates import check_device_chain, leads_to, read_chain, renew_from, serial_hex
from pacs.errors import MalformedData, StoreError
from pacs.identifiers import ControllerId
from pacs.messages import RenewalRequest

if TYPE_CHECKING:
    from cryptography import x509

FIRST_RETRY_S: Final = 60.0
LONGEST_RETRY_S: Final = 3600.0
MOST_TRIES: Final = 3
"""Of a new certificate that does not work, while the present one does."""
LOOK_S: Final = 1.0

_log = logging.getLogger(__name__)


class Renewal:
    """``wall``: this moment; ``monotonic_s`` is given by the caller."""

    def __init__(self, keystore: Keystore, controller_id: ControllerId, wall: Callable[[], datetime]) -> None:
        self._keystore = keystore
        self._paths: KeyPaths = keystore.paths
        self._controller_id = controller_id
        self._wall = wall
        self._ask_at_s = self._look_at_s = 0.0
        self._statement_ns = 0
        self._retry_s = FIRST_RETRY_S
        self._tries = False
        self._failed = 0
        self._try_again_s = 0.0
        self.standing = CertificateStanding.of(keystore.device_certificate)
        """Of the certificate in force; to be read from any thread."""

    def tls_context(self, now_s: float) -> ssl.SSLContext:
        """For the next connection: with a new certificate that is to be tried, or the present one."""
        self._look()
        self._tries = self._has_next() and now_s >= self._try_again_s
        if self._tries:
            try:
                return context_of(replace(self._paths, device_certificate=self._next, device_key=self._next))
            except StoreError as error:
                _log.warning("the new certificate cannot be tried: %s", error)
                self._drop()
        return self._keystore.tls_context()

    @property
    def connected_with(self) -> CertificateStanding:
        """The certificate that the connection was made with."""
        if self._tries:
            with contextlib.suppress(StoreError):
                return CertificateStanding.of(read_certificate(self._next))
        return self.standing

    def is_to_be_tried(self, now_s: float) -> bool:
        """Whether a new certificate that failed on an earlier connection is to be tried on another one now."""
        return self._failed > 0 and not self._tries and now_s >= self._try_again_s and self._has_next()

    def request(self, now_s: float) -> bytes | None:
        """What to ask the hub, when it is time; None: nothing."""
        if now_s < self._ask_at_s and not self._has_heard_of_a_root(now_s):
            return None
        self._ask_at_s = now_s + FIRST_RETRY_S
        try:
            if self._has_next() or not self._is_due():
                return None
            keys = self._keys()
        except StoreError as error:
            _log.warning("the certificate cannot be renewed: %s", error)
            return None
        self._ask_at_s = now_s + self._retry_s
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)
        request = keys.request()
        return bytes(RenewalRequest(certificate_request=request, proof=keys.prove(request)))

    def received(self, chain: str) -> bool:
        """Keep the hub's answer (PEM); True: connect anew to try it. Raises ``MalformedData``, ``StoreError``."""
        if not self._key_file.exists():
            return False  # nobody asked
        keys = self._keys()
        certificates = read_chain(chain.encode())
        roots = roots_in_force(self._paths)
        check_device_chain(certificates, roots, name=self._controller_id, public_key=keys.public_key)
        if not self._gains_by(certificates):
            self._drop()  # the key too: for the same key the hub would give the same again
            raise MalformedData("a certificate that ends no later than the present one")
        write_secret(self._next, keys.device_file(chain))
        self._failed, self._try_again_s = 0, 0.0
        return True

    def answered(self) -> None:
        """The hub spoke on this connection: what was tried is the certificate from now on."""
        if not self._tries or self._paths.renewed is None:
            if self._failed >= MOST_TRIES:
                _log.warning("a new certificate did not work and is given up; the hub is asked for another")
                self._drop()
            return
        self._tries = False
        try:
            self._key_file.unlink(
                missing_ok=True
            )  # first: left behind, it would be used for the next renewal
            self._next.replace(self._paths.renewed)
        except OSError as error:
            _log.warning("the new certificate cannot take its place: %s", error)
            return
        self._failed, self._retry_s, self._ask_at_s = 0, FIRST_RETRY_S, 0.0
        self._look()
        _log.info("the certificate was renewed")

    def ended(self, now_s: float) -> None:
        """The connection is over: what was tried on it and not answered waits a while."""
        if self._tries:
            self._tries = False
            self._try_again_s = now_s + min(FIRST_RETRY_S * 2**self._failed, LONGEST_RETRY_S)
            self._failed += 1

    def _look(self) -> None:
        """At what is in force; a new one that gains nothing, as after an enrolment meanwhile, is of no use."""
        with contextlib.suppress(StoreError):
            present = read_certificate(in_force(self._paths).device_certificate)
            self.standing = CertificateStanding.of(present)
            if self._has_next() and not self._gains_by(read_certificates(self._next)):
                self._drop()

    def _gains_by(self, chain: Sequence[x509.Certificate]) -> bool:
        """Whether it ends later than the one in force, or leads to the newest root and that one does not."""
        present = read_certificates(in_force(self._paths).device_certificate)
        newest = roots_in_force(self._paths)[:1]
        return chain[0].not_valid_after_utc > present[0].not_valid_after_utc or (
            leads_to(chain, newest) and not leads_to(present, newest)
        )

    def _has_heard_of_a_root(self, now_s: float) -> bool:
        """Whether another key statement is there than when this was asked last."""
        if now_s < self._look_at_s or self._paths.statement is None:
            return False
        self._look_at_s = now_s + LOOK_S
        with contextlib.suppress(OSError):
            before, self._statement_ns = self._statement_ns, self._paths.statement.stat().st_mtime_ns
            return before != self._statement_ns
        return False

    def _is_due(self) -> bool:
        """Two thirds of its life are over, or another root has followed the one that it leads to."""
        if self._wall() >= self.standing.renews_at:
            return True
        chain = read_certificates(in_force(self._paths).device_certificate)
        return not leads_to(chain, roots_in_force(self._paths)[:1])

    @property
    def _next(self) -> Path:
        return self._beside("next")

    @property
    def _key_file(self) -> Path:
        return self._beside("key")

    def _beside(self, what: str) -> Path:
        renewed = self._paths.renewed or self._paths.device_key
        return renewed.with_name(f"{renewed.name}.{what}")

    def _has_next(self) -> bool:
        return self._paths.renewed is not None and self._next.exists()

    def _drop(self) -> None:
        self._tries, self._failed = False, 0
        with contextlib.suppress(OSError):
            self._next.unlink(missing_ok=True)
            self._key_file.unlink(missing_ok=True)

    def _keys(self) -> DeviceKeys:
        """The new key, made when there is none, beside the event key that stays."""
        passphrase = read_passphrase(self._paths.passphrase_file)
        key: object = None
        if self._key_file.exists():
            try:
                key = read_private_key(self._key_file, passphrase)
            except StoreError as error:
                _log.warning("another key is made for the new certificate: %s", error)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            write_secret(self._key_file, new_device_key(use_after(in_force(self._paths)), passphrase))
            key = read_private_key(self._key_file, passphrase)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise StoreError(f"{self._key_file}: not a P-256 key; remove it")
        return DeviceKeys(passphrase=passphrase, device_key=key, event_key=self._keystore.event_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateStanding:
    """``serial``: hex. ``renews_at``: from when on another is asked for."""

    serial: str
    ends_at: datetime
    renews_at: datetime

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """That of one certificate."""
        return cls(
            serial=serial_hex(certificate),
            ends_at=certificate.not_valid_after_utc,
            renews_at=renew_from(certificate),
        )
