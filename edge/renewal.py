"""The controller's certificate, renewed over the connection that the present one gives it.

From two thirds of its life on another key is made and the hub asked to certify it. The answer is tried with the next
connection; once the hub has answered on that, it takes the place of the present one. Until then, and whenever it does not
work, the present one is used. All of it belongs to the uplink's thread.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from edge.config import KeyPaths
from edge.device_keys import FileKeys, sealed, write_secret
from edge.keystore import (
    Keystore,
    context_of,
    in_force,
    read_certificate,
    read_passphrase,
    read_private_key,
)
from pacs.certificates import check_device_chain, read_chain, renew_from, serial_hex
from pacs.errors import StoreError
from pacs.identifiers import ControllerId
from pacs.messages import RenewalRequest

FIRST_RETRY_S: Final = 60.0
LONGEST_RETRY_S: Final = 3600.0

_log = logging.getLogger(__name__)


class Renewal:
    """``wall``: this moment; ``monotonic_s`` is given by the caller."""

    def __init__(self, keystore: Keystore, controller_id: ControllerId, wall: Callable[[], datetime]) -> None:
        self._keystore = keystore
        self._paths: KeyPaths = keystore.paths
        self._controller_id = controller_id
        self._wall = wall
        self._ask_at_s = 0.0
        self._retry_s = FIRST_RETRY_S
        self._tries = False
        self._try_again_s = 0.0

    def tls_context(self, now_s: float) -> ssl.SSLContext:
        """For the next connection: with a new certificate that is to be tried, or the present one."""
        self._tries = self._has_next() and now_s >= self._try_again_s
        if self._tries:
            try:
                return context_of(replace(self._paths, device_certificate=self._next, device_key=self._next))
            except StoreError as error:
                _log.warning("the new certificate cannot be tried: %s", error)
                self._drop()
        return self._keystore.tls_context()

    @property
    def serial(self) -> str | None:
        """Of the certificate that the connection was made with, hex."""
        with contextlib.suppress(StoreError):
            path = self._next if self._tries else in_force(self._paths).device_certificate
            return serial_hex(read_certificate(path))
        return None

    def request(self, now_s: float) -> bytes | None:
        """What to ask the hub, when it is time; None: nothing."""
        if now_s < self._ask_at_s:
            return None
        self._ask_at_s = now_s + FIRST_RETRY_S
        try:
            if self._has_next() or self._wall() < renew_from(
                read_certificate(in_force(self._paths).device_certificate)
            ):
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
        root = read_certificate(self._paths.root_certificate)
        check_device_chain(certificates, root, name=self._controller_id, public_key=keys.public_key)
        write_secret(self._next, keys.device_file(chain))
        self._try_again_s = 0.0
        return True

    def answered(self) -> None:
        """The hub spoke on this connection: what was tried is the certificate from now on."""
        if not self._tries or self._paths.renewed is None:
            return
        self._tries = False
        try:
            self._next.replace(self._paths.renewed)
            self._key_file.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("the new certificate cannot take its place: %s", error)
            return
        self._retry_s, self._ask_at_s = FIRST_RETRY_S, 0.0
        _log.info("the certificate was renewed")

    def ended(self, now_s: float) -> None:
        """The connection is over: what was tried on it and not answered waits a while."""
        if self._tries:
            self._tries = False
            self._try_again_s = now_s + FIRST_RETRY_S

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
        self._tries = False
        with contextlib.suppress(OSError):
            self._next.unlink(missing_ok=True)
            self._key_file.unlink(missing_ok=True)

    def _keys(self) -> FileKeys:
        """The new key, made when there is none, beside the event key that stays."""
        passphrase = read_passphrase(self._paths.passphrase_file)
        if not self._key_file.exists():
            write_secret(self._key_file, sealed(ec.generate_private_key(ec.SECP256R1()), passphrase))
        key = read_private_key(self._key_file, passphrase)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise StoreError(f"{self._key_file}: not a P-256 key; remove it")
        return FileKeys(passphrase=passphrase, device_key=key, event_key=self._keystore.event_key)
