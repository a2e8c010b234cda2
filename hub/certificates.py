"""The certificates in a hub's directory: until when each is good, from when it is to be renewed, and renewing the hub's own.

The hub has the key of ``devices`` and certifies its broker and its client anew by itself. What stands above them, and the
certificate of its pages, are made at the bureau: of these it says that they are due.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from pathlib import Path
from types import MappingProxyType
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from hub.device_authority import DeviceAuthority
from hub.lookout import Lookout
from pacs.certificates import renew_from, serial_hex
from pacs.errors import MalformedData, StoreError

LOOK_S: Final = 2.0
AFTER_FAILURE_S: Final = 600.0
WORTH_RENEWING: Final = timedelta(days=1)
"""One that would end this soon after the one before, because its authority ends, is not made."""

_OWN: Final = ("broker", "client")
_FOLLOWED: Final = (
    "root.cert.pem",
    "devices.cert.pem",
    "devices.key.pem",
    "broker.cert.pem",
    "client.cert.pem",
)

log = structlog.get_logger(__name__)


@unique
class Part(StrEnum):
    """What a certificate of a site is for."""

    ROOT = "root"
    FORMER_ROOT = "former_root"
    DEVICES = "devices"
    BROKER = "broker"
    CLIENT = "client"
    WEB_AUTHORITY = "web_authority"
    HTTPS = "https"


_BY_HUB: Final = "the hub renews it while it runs"
TO_DO: Final[Mapping[Part, str]] = MappingProxyType(
    {
        Part.ROOT: "drempel-provision key rotate root",
        Part.FORMER_ROOT: "drempel-provision key retire root",
        Part.DEVICES: "drempel-provision key rotate devices",
        Part.BROKER: _BY_HUB,
        Part.CLIENT: _BY_HUB,
        Part.WEB_AUTHORITY: "drempel-provision key rotate web",
        Part.HTTPS: "drempel-provision key deliver, or have it made where it was made",
    }
)
"""How each is renewed."""
RENEWED_BY_HUB: Final = frozenset({Part.BROKER, Part.CLIENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCertificate:
    """One of them. ``serial``: hex. ``fingerprint``: SHA-256 of it, hex. ``due_at``: two thirds of its life are over."""

    part: Part
    serial: str
    fingerprint: str
    begins_at: datetime
    due_at: datetime
    ends_at: datetime

    @classmethod
    def of(cls, part: Part, certificate: x509.Certificate) -> SiteCertificate:
        """What is said of this one."""
        return cls(
            part=part,
            serial=serial_hex(certificate),
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
            begins_at=certificate.not_valid_before_utc,
            due_at=renew_from(certificate),
            ends_at=certificate.not_valid_after_utc,
        )

    def days_left(self, now: datetime) -> int:
        """Whole days until it ends; negative when it has ended."""
        return (self.ends_at - now).days


def site_certificates(site_dir: Path, https: Path | None) -> list[SiteCertificate]:
    """Those of the hub's directory, from the root down, and of the pages; what cannot be read is left out."""
    files = (
        (site_dir / "root.cert.pem", (Part.ROOT, Part.FORMER_ROOT)),
        (site_dir / "devices.cert.pem", (Part.DEVICES,)),
        (site_dir / "broker.cert.pem", (Part.BROKER,)),
        (site_dir / "client.cert.pem", (Part.CLIENT,)),
        (https, (Part.HTTPS, Part.WEB_AUTHORITY)),
    )
    return [
        SiteCertificate.of(part, certificate)
        for path, parts in files
        for part, certificate in zip(parts, _read(path), strict=False)
    ]


def _read(path: Path | None) -> list[x509.Certificate]:
    try:
        return [] if path is None else x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return []


class OwnCertificates:
    """Follows the files of a hub's directory while it runs, and renews what the hub can certify itself."""

    def __init__(
        self,
        site_dir: Path,
        passphrase: str,
        authority: DeviceAuthority | None,
        *,
        clock: Callable[[], datetime],
        changed: Callable[[], None],
        renewed: Callable[[SiteCertificate], None] = lambda _: None,
    ) -> None:
        """``changed``: told when one of the files is another. ``renewed``: of each that was made here."""
        self._authority = authority
        self._lock = threading.Lock()
        self._site_dir = site_dir
        self._passphrase = passphrase
        self._clock = clock
        self._changed = changed
        self._renewed = renewed
        self._seen = self._failed = self._look_at()
        self.lookout = Lookout("certificates", self.look, every_s=LOOK_S, failed="certificates_not_looked_at")
        """The thread that looks."""

    def authority(self) -> DeviceAuthority | None:
        """What certifies by what the files hold now; None: there is nothing to certify with."""
        if self._follow():
            self._changed()
        return self._authority

    def look(self) -> float | None:
        """Look once; in how many seconds again, None: as usual."""
        try:
            is_renewed = self.renew()
        except (OSError, ValueError, MalformedData, x509.ExtensionNotFound) as error:
            log.error("certificates_not_renewed", directory=str(self._site_dir), detail=str(error))  # noqa: TRY400
            return AFTER_FAILURE_S
        if self._follow() or is_renewed:
            self._changed()
        return None

    def renew(self) -> bool:
        """Certify the broker's and the client's key anew when it is time; whether one was.

        Raises ``OSError``, and ``ValueError``, ``MalformedData``, ``ExtensionNotFound`` for a file that is no such certificate.
        """
        authority, now = self.authority(), self._clock()
        if authority is None:
            return False
        is_renewed = False
        for name in _OWN:
            path = self._site_dir / f"{name}.cert.pem"
            before = x509.load_pem_x509_certificate(path.read_bytes())
            if now < renew_from(before):
                continue
            made = authority.certify_again(before, now)
            if made.not_valid_after_utc - before.not_valid_after_utc < WORTH_RENEWING:
                continue
            _put(path, authority.chain_pem(made))
            is_renewed = True
            told = SiteCertificate.of(Part(name), made)
            log.info(
                "certificate_renewed", certificate=name, serial=told.serial, ends=told.ends_at.isoformat()
            )
            self._renewed(told)
        return is_renewed

    def _follow(self) -> bool:
        with self._lock:
            seen = self._look_at()
            if seen == self._seen:
                return False
            try:
                self._authority = DeviceAuthority.load(self._site_dir, self._passphrase)
            except StoreError as error:  # half of it is there as yet: what was there before goes on
                if seen != self._failed:
                    log.warning("certificates_not_usable", detail=str(error))
                self._failed = seen
                return False
            self._seen = seen
            return True

    def _look_at(self) -> tuple[tuple[int, int] | None, ...]:
        """Time and size of each file."""
        found: list[tuple[int, int] | None] = []
        for name in _FOLLOWED:
            try:
                state = (self._site_dir / name).stat()
                found.append((state.st_mtime_ns, state.st_size))
            except FileNotFoundError:
                found.append(None)
        return tuple(found)


def _put(path: Path, data: bytes) -> None:
    """All of it or what was there; durable."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
