"""The hub as a device meets it for the first time: its root first, known by the code, and then, over TLS that the root
vouches for, everything else.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final, Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from pacs.enrolment import EnrolmentCode
from pacs.errors import MalformedData, PacsError
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.messages import CHUNK_BYTES, MAX_CHUNKS, DocumentKind
from pacs.wiring import Wiring

TIMEOUT_S: Final = 15.0
TRIES: Final = 10
BETWEEN_TRIES_S: Final = 2.0
_MAX_ROOT_BYTES: Final = 64 * 1024
_MAX_ANSWER_BYTES: Final = 4 * CHUNK_BYTES * MAX_CHUNKS
_UNKNOWN_ISSUER: Final = (18, 19, 20, 21)  # OpenSSL's X509_V_ERR_*: not under the site's root


class EnrolmentRefused(PacsError):
    """The hub does not enrol this device, or cannot be believed; the message says why and what to do."""


class HubUnreachable(PacsError):
    """The hub does not answer; the same command goes on later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the hub gave. ``certificates`` and ``policy_keys`` are PEM, ``documents`` as the hub signed them."""

    controller_id: ControllerId
    site_id: SiteId
    doors: frozenset[DoorId]
    wiring: Wiring | None
    certificates: str
    root: bytes
    policy_keys: str
    host: str
    port: int
    documents: Mapping[DocumentKind, bytes] = field(repr=False)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the hub's answer; raises ``MalformedData``."""
        try:
            said: dict[str, Any] = json.loads(data)
            wiring = said["wiring"]
            place = cls(
                controller_id=ControllerId(said["controller_id"]),
                site_id=SiteId(said["site_id"]),
                doors=frozenset(DoorId(door) for door in said["doors"]),
                wiring=None if wiring is None else Wiring.from_fields(wiring),
                certificates=_text(said["certificates"]),
                root=_text(said["root"]).encode(),
                policy_keys=_text(said["policy_keys"]),
                host=_text(said["broker"]["host"]),
                port=int(said["broker"]["port"]),
                documents={
                    kind: base64.b64decode(said["documents"][kind.value], validate=True)
                    for kind in DocumentKind
                },
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise MalformedData(
                f"the hub's answer: not that of an enrolment ({type(error).__name__})"
            ) from error
        if not 1 <= place.port <= 65535:
            raise MalformedData("the hub's answer: the broker's port is out of range")
        return place


class EnrolmentHub:
    """One hub, named by a code. ``wait`` pauses between two tries."""

    def __init__(self, code: EnrolmentCode, *, wait: Callable[[float], object] = time.sleep) -> None:
        self._code = code
        self._wait = wait
        parts = urlsplit(code.address)
        self._host, self._port, self._is_plain = parts.hostname or "", parts.port, parts.scheme == "http"

    def root(self) -> x509.Certificate:
        """The site's root certificate, which the code names; nothing secret was sent to learn it.

        Raises ``EnrolmentRefused`` when the hub has another, ``HubUnreachable``.
        """
        unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        with _Closing(self._connection(unverified)) as connection:
            status, data = _exchange(connection, "GET", "/.well-known/est/cacerts", limit=_MAX_ROOT_BYTES)
        if status != 200:
            raise EnrolmentRefused(
                f"{self._code.address} is no hub that enrols: {_problem(status, data)}; check the address in the code"
            )
        for certificate in _certificates(data):
            if self._code.fits(certificate.public_bytes(Encoding.DER)):
                return certificate
        raise EnrolmentRefused(
            f"{self._code.address} is not the hub that made this code: its root certificate is another. "
            "Nothing secret was sent. Check the address, and who answers there"
        )

    def take_place(self, root: x509.Certificate, asked: Mapping[str, Any]) -> Place:
        """Send the code's secret and what the device proves, over TLS that was verified before.

        Waits for a hub that is still making its documents. Raises ``EnrolmentRefused``, ``HubUnreachable``.
        """
        body = json.dumps(asked).encode()
        headers = {"authorization": f"Bearer {self._code.secret.hex()}", "content-type": "application/json"}
        for left in reversed(range(TRIES)):
            with _Closing(self._verified(root)) as connection:
                status, data = _exchange(
                    connection, "POST", "/api/v1/enrolment", body, headers, limit=_MAX_ANSWER_BYTES
                )
            if status == 200:
                return Place.from_bytes(data)
            if status != 503 or not left:
                raise EnrolmentRefused(_problem(status, data))
            self._wait(BETWEEN_TRIES_S)
        raise AssertionError("unreachable")

    def check(self, root: x509.Certificate) -> None:
        """Whether the hub could be sent a secret; raises as ``take_place``."""
        _Closing(self._verified(root)).__exit__()

    def _verified(self, root: x509.Certificate) -> HTTPConnection:
        """Connected: under the site's root, or for a hub behind a public certificate under the system's."""
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        own.minimum_version = ssl.TLSVersion.TLSv1_2
        own.load_verify_locations(cadata=root.public_bytes(Encoding.PEM).decode("ascii"))
        try:
            return self._connection(own)
        except ssl.SSLCertVerificationError as error:
            if error.verify_code not in _UNKNOWN_ISSUER:
                raise self._untrusted(error) from error
        try:
            return self._connection(ssl.create_default_context())
        except ssl.SSLCertVerificationError as error:
            raise self._untrusted(error) from error

    def _untrusted(self, error: ssl.SSLCertVerificationError) -> EnrolmentRefused:
        return EnrolmentRefused(
            f"{self._code.address}: its HTTPS certificate is not believed ({error.verify_message}). "
            "Nothing secret was sent. Check this machine's clock, and the certificate of the hub"
        )

    def _connection(self, context: ssl.SSLContext) -> HTTPConnection:
        connection = (
            HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
            if self._is_plain
            else HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=context)
        )
        try:
            connection.connect()
        except ssl.SSLCertVerificationError:
            raise
        except OSError as error:
            raise HubUnreachable(
                f"{self._code.address} does not answer ({error.strerror or error}); check network and name, then run this again"
            ) from error
        return connection


class _Closing:
    """Closes a connection whatever came of it."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    def __enter__(self) -> HTTPConnection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _exchange(
    connection: HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    limit: int,
) -> tuple[int, bytes]:
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        data = answer.read(limit + 1)
    except (OSError, HTTPException) as error:
        raise HubUnreachable(f"the hub stopped answering ({error}); run this again") from error
    if len(data) > limit:
        raise EnrolmentRefused("the hub's answer is too long to be one")
    return answer.status, data


def _certificates(data: bytes) -> list[x509.Certificate]:
    """RFC 7030 §4.1.3: PKCS#7, certificates only, in base64; raises ``EnrolmentRefused``."""
    try:
        return list(pkcs7.load_der_pkcs7_certificates(base64.b64decode(data)))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EnrolmentRefused("the hub's root certificates cannot be read; is this a hub?") from error


def _problem(status: int, data: bytes) -> str:
    """What a problem document (RFC 9457) says, in one line."""
    try:
        problem = json.loads(data)
        said = [problem.get(key) for key in ("title", "detail", "next_step")]
    except (ValueError, AttributeError, RecursionError):
        said = []
    words = " ".join(
        dict.fromkeys(
            f"{part}".rstrip(".") + "." for part in said if isinstance(part, str) and part.isprintable()
        )
    )
    return words or f"the hub answers with status {status}"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedData("the hub's answer: a text expected")
    return value
