"""How a device takes a controller's place: by a one-time code, with keys that it made itself.

In one transaction the code is used up, the device's certificate issued, its event key registered and every earlier
certificate of the place refused. A code that its own device sends again, because the answer was lost, gives the same
certificate again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from pathlib import Path
from typing import Final

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection

from hub import audit
from hub.device_authority import DeviceAuthority, key_digest
from hub.operators import digest
from hub.store import commands, controllers, device_certificates, documents, doors, enrolment_codes
from hub.store.controllers import Controller
from hub.store.database import Database
from hub.store.device_certificates import Because, DeviceCertificate
from hub.store.enrolment_codes import Purpose
from hub.store.errors import NotFound
from pacs import enrolment
from pacs.certificates import requested_key
from pacs.errors import MalformedData, PacsError, StoreError
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.messages import DocumentKind, RenewalRequest
from pacs.wiring import Wiring

CODE_LIFETIME: Final = timedelta(days=7)
LONGEST_CODE_LIFETIME: Final = timedelta(days=31)
MOST_RENEWALS: Final = 3
MOST_RENEWALS_EVERY: Final = timedelta(days=1)
"""One whose clock is wrong, or that takes none of its new certificates, gets so many in this time."""

log = structlog.get_logger(__name__)


@unique
class Refusal(StrEnum):
    """Why a code lets nobody in; all but the first are told only to who has a code that was made here."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    USED = "used"  # by another key than the one that comes with it
    DOORS_CHANGED = "doors_changed"
    OTHER_DEVICE = "other_device"  # for the device that has the place, and this is another
    OTHER_PLACE = "other_place"  # the device has another place


class CodeRefused(PacsError):
    """A code lets nobody in; ``refusal`` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class NotYet(PacsError):
    """The documents that the device has to go by are being made: in a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``certificate_request``: PKCS#10, DER. ``proof``: the event key's signature over ``pacs.enrolment.proof_of`` it.

    ``controller_id``: of a device that has a place already.
    """

    certificate_request: bytes
    event_public_key: bytes
    proof: bytes
    controller_id: ControllerId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What a device is given. ``broker``: host and port. ``policy_keys``: PEM. ``documents``: as the hub signed them."""

    controller: Controller
    certificate: DeviceCertificate
    doors: frozenset[DoorId]
    root: str
    policy_keys: str
    broker: tuple[str, int]
    documents: Mapping[DocumentKind, bytes]


class Enrolment:
    """Makes codes, and takes devices that come with one."""

    def __init__(
        self,
        database: Database,
        authority: Callable[[], DeviceAuthority | None],
        *,
        policy_keys: Path,
        broker: Callable[[], tuple[str, int]],
        changed: Callable[[SiteId], None],
        is_settled: Callable[[], bool],
        clock: Callable[[], datetime],
    ) -> None:
        """``authority`` gives None: this hub certifies nobody. ``changed``: told after a commit which site has another device."""
        self._database = database
        self._authority = authority
        self._policy_keys = policy_keys
        self._broker = broker
        self._changed = changed
        self._is_settled = is_settled
        self._clock = clock

    @property
    def authority(self) -> DeviceAuthority:
        """What certifies; raises ``MalformedData`` when this hub has nothing to certify with."""
        authority = self._authority()
        if authority is None:
            raise MalformedData(
                "this hub certifies no controllers: its directory has no devices.cert.pem and devices.key.pem (docs/keys.md)"
            )
        return authority

    def make_code(
        self,
        connection: Connection,
        controller: Controller,
        purpose: Purpose,
        *,
        address: str,
        by: str,
        lifetime: timedelta = CODE_LIFETIME,
    ) -> tuple[enrolment.EnrolmentCode, enrolment_codes.EnrolmentCode]:
        """A code for this place, as it is printed and as it is kept; an unused one before it is withdrawn.

        Raises ``MalformedData`` when the place cannot be taken so: it says why.
        """
        if controller.retired_at is not None:
            raise NotFound(f"controller {controller.id} is withdrawn")
        if (purpose is Purpose.FIRST) != (controller.event_public_key is None):
            raise MalformedData(
                "no device has taken this place: make a first code"
                if controller.event_public_key is None
                else "a device has taken this place: say again for the same one, swap for another"
            )
        place = _doors(connection, controller.id)
        if not place:
            raise MalformedData("the place has no door yet: add its doors first")
        if purpose is not Purpose.AGAIN:
            _check_wiring(controller, place)
        now = self._clock()
        code = enrolment.EnrolmentCode(
            address=address,
            secret=secrets.token_bytes(enrolment.SECRET_BYTES),
            fingerprint=self.authority.root_fingerprint,
        )
        kept = enrolment_codes.EnrolmentCode(
            secret_hash=digest(code.secret.hex()),
            id=secrets.token_hex(4),
            controller_id=controller.id,
            purpose=purpose,
            doors=tuple(sorted(place)),
            created_by=by,
            created_at=now,
            expires_at=now + lifetime,
        )
        enrolment_codes.add(connection, kept)
        audit.record(
            connection,
            now=now,
            actor=by,
            action="code.create",
            subject=f"controller:{controller.id}",
            detail={"code": kept.id, "purpose": purpose.value},
        )
        return code, kept

    def enrol(self, secret: bytes, request: Request) -> Enrolled:
        """Give a device the place that its code is for.

        Raises ``CodeRefused``; ``MalformedData`` when the request does not prove its keys; ``NotYet``, and then the code is
        as good as before.
        """
        authority = self.authority
        public_key = requested_key(request.certificate_request)
        _check_event_key(request)
        key = key_digest(public_key)
        secret_hash, now = digest(secret.hex()), self._clock()
        with self._database.read() as connection:
            code = self._usable(connection, secret_hash, key, now)
        if request.controller_id not in (None, code.controller_id):
            raise CodeRefused(Refusal.OTHER_PLACE)
        if not self._is_settled():
            raise NotYet("the documents of this site are being made")
        with self._database.write() as connection:
            code = self._usable(connection, secret_hash, key, now)
            controller = controllers.get(connection, code.controller_id)
            if code.used_at is None:
                certificate = authority.certify(controller.id, public_key, now)
                self._take_place(connection, code, controller, request, certificate, now)
                controller = controllers.get(connection, controller.id)
            else:
                issued = device_certificates.with_key(connection, controller.id, key)
                if issued is None or controller.event_public_key != request.event_public_key:
                    raise CodeRefused(Refusal.USED)
                certificate = issued
            in_force = {kind: documents.newest(connection, controller.site_id, kind) for kind in DocumentKind}
        self._changed(controller.site_id)
        return Enrolled(
            controller=controller,
            certificate=certificate,
            doors=frozenset(code.doors),
            root=authority.root_pem,
            policy_keys=self._read_policy_keys(),
            broker=self._broker(),
            documents={kind: each.data for kind, each in in_force.items() if each is not None},
        )

    def renew(self, connection: Connection, controller_id: ControllerId, asked: RenewalRequest) -> str | None:
        """Another certificate (PEM) for a controller that its broker admits; the ones before hold until it goes by this one.

        The same request gives the same certificate. None when the request does not prove its keys, or none is due yet: the
        controller asks again.
        """
        controller = controllers.get(connection, controller_id)
        authority, now = self._authority(), self._clock()
        if authority is None or controller.event_public_key is None:
            return None
        try:
            public_key = requested_key(asked.certificate_request)
            _check_event_key(
                Request(
                    certificate_request=asked.certificate_request,
                    event_public_key=controller.event_public_key,
                    proof=asked.proof,
                )
            )
        except MalformedData as error:
            log.warning("renewal_refused", controller=controller_id, reason=str(error))
            return None
        issued = device_certificates.with_key(connection, controller_id, key_digest(public_key))
        if issued is not None:
            return issued.chain
        every = device_certificates.of_controller(connection, controller_id)
        lately = [each for each in every if now - each.issued_at < MOST_RENEWALS_EVERY]
        if len(lately) > MOST_RENEWALS:
            return None
        certificate = authority.certify(controller_id, public_key, now)
        device_certificates.add(connection, certificate)
        audit.record(
            connection,
            now=now,
            actor=audit.SYSTEM,
            action="controller.renew",
            subject=f"controller:{controller_id}",
            detail={"certificate": certificate.serial},
        )
        return certificate.chain

    def revoke(self, connection: Connection, controller_id: ControllerId, *, reason: str, by: str) -> bool:
        """Refuse a controller's device at once: its certificates, codes, commands and events. False: it was so already.

        To be told of with ``site_changed`` after the commit: the broker then ends its connection. A device comes back by a
        new code for the place.
        """
        now = self._clock()
        changed = controllers.revoke(connection, controller_id, now)
        certificates = device_certificates.revoke(connection, controller_id, Because.REVOKED, now)
        codes = enrolment_codes.withdraw(connection, controller_id, now)
        if not (changed or certificates or codes):
            return False
        given_up = commands.give_up(connection, controller_id, now)
        audit.record(
            connection,
            now=now,
            actor=by,
            action="controller.revoke",
            subject=f"controller:{controller_id}",
            reason=reason,
            detail={"certificates": certificates, "codes": codes, "commands": given_up},
        )
        return True

    def _usable(
        self, connection: Connection, secret_hash: bytes, key: bytes, now: datetime
    ) -> enrolment_codes.EnrolmentCode:
        """The code, when it can be used with this key; raises ``CodeRefused``."""
        code = enrolment_codes.by_secret(connection, secret_hash)
        if code is None:
            raise CodeRefused(Refusal.UNKNOWN)
        controller = controllers.get(connection, code.controller_id)
        if code.used_at is not None and code.used_by != key:
            raise CodeRefused(Refusal.USED)
        if code.withdrawn_at is not None or controller.retired_at is not None:
            raise CodeRefused(Refusal.WITHDRAWN)
        if now >= code.expires_at:
            raise CodeRefused(Refusal.EXPIRED)
        if _doors(connection, code.controller_id) != frozenset(code.doors):
            raise CodeRefused(Refusal.DOORS_CHANGED)
        return code

    def _take_place(
        self,
        connection: Connection,
        code: enrolment_codes.EnrolmentCode,
        controller: Controller,
        request: Request,
        certificate: DeviceCertificate,
        now: datetime,
    ) -> None:
        is_another = controller.event_public_key != request.event_public_key
        if is_another and code.purpose is Purpose.AGAIN:
            raise CodeRefused(Refusal.OTHER_DEVICE)
        if not enrolment_codes.use(connection, code, certificate.key_digest or b"", now):
            raise CodeRefused(Refusal.USED)
        because = Because.REPLACED if is_another else Because.SUPERSEDED
        device_certificates.revoke(connection, controller.id, because, now)
        device_certificates.add(connection, certificate)
        controllers.take_place(connection, controller.id, event_public_key=request.event_public_key)
        if is_another:  # what the device before it held says nothing of this one
            controllers.saw(connection, controller.id, now, online=False)
            for kind in DocumentKind:
                documents.withdraw(connection, controller.id, kind, above=0)
        audit.record(
            connection,
            now=now,
            actor=code.created_by,
            action="controller.enrol",
            subject=f"controller:{controller.id}",
            detail={"code": code.id, "purpose": code.purpose.value, "certificate": certificate.serial},
        )

    def _read_policy_keys(self) -> str:
        try:
            return self._policy_keys.read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{self._policy_keys}: cannot be read") from error


def _doors(connection: Connection, controller_id: ControllerId) -> frozenset[DoorId]:
    return frozenset(each.door.id for each in doors.list_all(connection, controller_id))


def _check_wiring(controller: Controller, place: frozenset[DoorId]) -> None:
    if controller.wiring is None:
        raise MalformedData("the place has no wiring: say which pins and readers its doors have first")
    wired = Wiring.from_fields(controller.wiring).door_ids
    if wired != place:
        raise MalformedData(
            f"the wiring is of doors {', '.join(sorted(wired))}, the place has {', '.join(sorted(place))}"
        )


def _check_event_key(request: Request) -> None:
    try:
        key = Ed25519PublicKey.from_public_bytes(request.event_public_key)
        key.verify(request.proof, enrolment.proof_of(request.certificate_request))
    except (ValueError, InvalidSignature) as error:
        raise MalformedData("event key: the certificate request is not signed with it") from error
