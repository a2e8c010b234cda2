"""The issuing desk: who is to get a card, and what the station that makes it says.

The hub holds no key that makes a card (rule R10). A station takes a job for a while, tells of each step, and ends it: with
the card registered, or in the place of another one, in the same transaction; or with the reason why there is none. A card
that was spoilt is registered as revoked, so that no door takes the certificate it may carry.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Final

from sqlalchemy import Connection

from hub import audit
from hub.card_changes import CardChanges, NewCard
from hub.revocation import Revocation
from hub.store import card_stock, cardholders, cards, issuers, sites, stations
from hub.store import issuing as store
from hub.store import issuing_batches as batches
from hub.store.card_stock import StockCause
from hub.store.cardholders import Cardholder
from hub.store.cards import CardStatus
from hub.store.database import Database
from hub.store.errors import InUse, NotFound
from hub.store.issuing import LEASE, Failure, IssuingJob, JobState, Loss, Step
from hub.store.issuing_batches import Batch
from hub.store.stations import Station, StationKind
from pacs.credential import Technology
from pacs.errors import MalformedData, StoreError
from pacs.identifiers import CardholderId, CredentialId, StationId
from pacs.schedule import local_time, zone

DEFAULT_DAYS: Final = 365
LAST_DAY: Final = date(2099, 12, 31)
"""The last that a card's certificate can say."""
_VOID: Final = "spoilt when it was made"


class JobOver(StoreError):
    """The job has ended, or another attempt holds it."""


class NoStay(StoreError):
    """There is no day on which the card would be valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A card to be made. Days are inclusive; None: as long as its holder stays. ``replaces`` and ``why`` come together."""

    cardholder_id: CardholderId
    station_id: StationId
    technology: Technology = Technology.PKOC_V2
    first_day: date | None = None
    last_day: date | None = None
    replaces: CredentialId | None = None
    why: Loss | None = None
    batch_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeCard:
    """A card as the station made it, locked and tried by a whole tap; ``issuer``: whose certificate is on it."""

    credential_id: CredentialId
    public_key: bytes
    issuer: str | None = None


class Issuing:
    """Keeps the issuing jobs. ``site_changed`` is called after a card was registered."""

    def __init__(
        self,
        database: Database,
        card_changes: CardChanges,
        revocation: Revocation,
        *,
        clock: Callable[[], datetime],
        site_changed: Callable[[], None],
    ) -> None:
        self._database = database
        self._card_changes = card_changes
        self._revocation = revocation
        self._clock = clock
        self._site_changed = site_changed

    def ask(self, wanted: Wanted, *, actor: str) -> IssuingJob:
        """Let a station make a card. One that is lost or stolen is suspended at once, not only when the new one is there.

        Raises ``NotFound``, ``InUse`` when one is being made for them, and ``NoStay``.
        """
        with self._database.write() as connection:
            job = self._ask(connection, wanted, actor)
        if wanted.replaces is not None and wanted.why in (Loss.LOST, Loss.STOLEN):
            with self._database.read() as connection:
                is_valid = cards.get(connection, wanted.replaces).status is CardStatus.VALID
            if is_valid:
                self._revocation.block(wanted.replaces, CardStatus.SUSPENDED, reason=wanted.why, actor=actor)
        return job

    def ask_many(
        self, station_id: StationId, people: Sequence[CardholderId], *, actor: str
    ) -> tuple[Batch, int]:
        """Let a station make a card for each of these people, in this order; the batch, and for how many none is made.

        Those are left out whose stay is over, or for whom one is being made. Raises ``NotFound``.
        """
        now, left_out = self._clock(), 0
        with self._database.write() as connection:
            station = stations.get(connection, station_id)
            batch = Batch(
                id=secrets.token_hex(8),
                site_id=station.site_id,
                station_id=station.id,
                created_by=actor,
                created_at=now,
            )
            batches.add(connection, batch)
            for person in dict.fromkeys(people):
                wanted = Wanted(cardholder_id=person, station_id=station_id, batch_id=batch.id)
                try:
                    self._ask(connection, wanted, actor)
                except (InUse, NoStay):
                    left_out += 1
        return batch, left_out

    def pause(self, batch_id: str, *, paused: bool, actor: str) -> None:
        """Let the station take no more jobs of a batch, or go on; raises ``NotFound``."""
        now = self._clock()
        with self._database.write() as connection:
            batch = batches.get(connection, batch_id)
            if batch.paused is not paused:
                batches.set_paused(connection, batch_id, paused=paused)
                action = "issuing.pause" if paused else "issuing.resume"
                audit.record(
                    connection, now=now, actor=actor, action=action, subject=f"issuing_batch:{batch_id}"
                )

    def cancel(self, job_id: str, *, actor: str) -> IssuingJob:
        """End a job of which no card came yet.

        Raises ``NotFound``, ``JobOver``, and ``InUse`` while its station is writing a card.
        """
        now = self._clock()
        with self._database.write() as connection:
            job = store.get(connection, job_id)
            if not job.is_open:
                raise JobOver("this job has ended")
            if job.is_being_written and not job.is_interrupted(now):
                raise InUse("the card is being written; wait until the station says what became of it")
            ended = replace(job, state=JobState.CANCELLED, ended_at=now)
            _note(connection, now, actor, "issuing.cancel", job)
            return store.change(connection, ended)

    def take(self, station: Station) -> IssuingJob | None:
        """The station's next job, under a lease; None: there is none now."""
        with self._database.write() as connection:
            return store.take(connection, station.id, self._clock())

    def told(self, station: Station, job_id: str, attempt: str, step: Step) -> IssuingJob:
        """Note a step, and let the lease begin anew; raises ``NotFound`` and ``JobOver``."""
        now = self._clock()
        with self._database.write() as connection:
            job = _held(connection, station, job_id, attempt)
            return store.change(connection, replace(job, step=step, lease_until=now + LEASE))

    def put_back(self, station: Station, job_id: str, attempt: str) -> IssuingJob:
        """Let the station give back a job before it wrote anything; raises ``NotFound`` and ``JobOver``."""
        with self._database.write() as connection:
            job = _held(connection, station, job_id, attempt)
            queued = replace(job, state=JobState.QUEUED, step=None, attempt=None, lease_until=None)
            return store.change(connection, queued)

    def done(self, station: Station, job_id: str, attempt: str, made: MadeCard) -> IssuingJob:
        """Register the card that was made, or put it in the place of another one; the same again changes nothing.

        Raises ``NotFound``, ``AlreadyExists`` for a card that is registered, and ``JobOver``: then the card is void.
        """
        now = self._clock()
        with self._database.write() as connection:
            job = _own(connection, station, job_id)
            if (len(bytes(made.credential_id)) == 32) is not (job.technology is Technology.PKOC_V1):
                raise MalformedData("credential_id: not one of the technology that was asked for")
            if job.state is JobState.DONE and job.credential_id == made.credential_id:
                return job
            if job.state is not JobState.TAKEN or job.attempt != attempt:
                _void(connection, job, made.credential_id, f"station:{station.id}", now)
                _used(connection, job, StockCause.SPOILT, f"station:{station.id}", now)
                is_late = True
            else:
                is_late = False
                job = self._register(connection, station, job, made, now)
        self._card_changes.push()
        self._site_changed()
        if is_late:
            raise JobOver("the job has ended, or was taken again: this card is void, and revoked")
        return job

    def failed(
        self,
        station: Station,
        job_id: str,
        attempt: str,
        failure: Failure,
        *,
        spoilt: bool,
        credential_id: CredentialId | None,
    ) -> IssuingJob:
        """Note that no card came of it; ``spoilt``: and a blank one cannot be used again. The same again changes nothing.

        ``credential_id``: what the spoilt card may carry a certificate for. Raises ``NotFound`` and ``JobOver``.
        """
        now, actor = self._clock(), f"station:{station.id}"
        with self._database.write() as connection:
            job = _own(connection, station, job_id)
            state = JobState.VOIDED if spoilt else JobState.FAILED
            if (job.state, job.failure, job.attempt) == (state, failure, attempt):
                return job
            if job.state is not JobState.TAKEN or job.attempt != attempt:
                raise JobOver("the job has ended, or was taken again")
            if credential_id is not None:
                _void(connection, job, credential_id, actor, now)
            ended = replace(
                job, state=state, failure=failure, credential_id=credential_id, ended_at=now, lease_until=None
            )
            if spoilt:
                _used(connection, job, StockCause.SPOILT, actor, now)
            _note(connection, now, actor, f"issuing.{'void' if spoilt else 'fail'}", job, why=failure)
            store.change(connection, ended)
        if credential_id is not None:
            self._site_changed()
        return ended

    def voided(self, station: Station, job_id: str, credential_id: CredentialId) -> IssuingJob:
        """Note an id that was certified and is on no card any more, under one of the station's jobs, which may have ended.

        No blank card is spoilt by it. The same again changes nothing. Raises ``NotFound``.
        """
        with self._database.write() as connection:
            job = _own(connection, station, job_id)
            _void(connection, job, credential_id, f"station:{station.id}", self._clock())
        self._site_changed()
        return job

    def _ask(self, connection: Connection, wanted: Wanted, actor: str) -> IssuingJob:
        now = self._clock()
        station = stations.get(connection, wanted.station_id)
        if station.retired_at is not None or station.kind is not StationKind.ISSUING:
            raise NotFound(f"station {wanted.station_id} is no issuing station in use")
        person = cardholders.get(connection, wanted.cardholder_id)
        if store.open_of(connection, person.id) is not None:
            raise InUse("a card is being made for this person already; wait for it, or cancel it")
        replaced = cards.get(connection, wanted.replaces) if wanted.replaces is not None else None
        if replaced is not None and replaced.cardholder_id != person.id:
            raise NotFound("the card to be replaced is not this person's")
        time_zone = sites.get(connection, person.site_id).time_zone
        today = local_time(now, time_zone).date()
        first, last = days_of(person, today, time_zone)
        first, last = wanted.first_day or first, wanted.last_day or last
        if not today <= last <= LAST_DAY or first > last:
            raise NoStay("the card would be valid on no day, or for longer than a card can say")
        job = store.add(
            connection,
            IssuingJob(
                id=secrets.token_hex(16),
                site_id=station.site_id,
                station_id=station.id,
                cardholder_id=person.id,
                technology=wanted.technology,
                first_day=first,
                last_day=last,
                created_by=actor,
                created_at=now,
                replaces=wanted.replaces,
                why=wanted.why,
                batch_id=wanted.batch_id,
            ),
        )
        _note(connection, now, actor, "issuing.ask", job, why=wanted.why)
        return job

    def _register(
        self, connection: Connection, station: Station, job: IssuingJob, made: MadeCard, now: datetime
    ) -> IssuingJob:
        actor = f"station:{station.id}"
        if made.issuer is not None and made.issuer not in issuers.trusted(connection):
            raise MalformedData(
                "issuer: not one that doors here believe; give the hub the newest key statement"
            )
        person = cardholders.get(connection, job.cardholder_id)
        time_zone = zone(sites.get(connection, person.site_id).time_zone)
        new = NewCard(
            credential_id=made.credential_id,
            technology=job.technology,
            issuer=made.issuer,
            public_key=made.public_key,
            valid_from=datetime.combine(job.first_day, time(), time_zone),
            valid_until=datetime.combine(job.last_day + timedelta(days=1), time(), time_zone),
        )
        if job.replaces is not None and job.why is not None:
            self._card_changes.replace_in(connection, job.replaces, new, reason=job.why, actor=actor)
        else:
            cards.add(
                connection,
                credential_id=new.credential_id,
                cardholder_id=job.cardholder_id,
                technology=new.technology,
                now=now,
                issuer=new.issuer,
                public_key=new.public_key,
                valid_from=new.valid_from,
                valid_until=new.valid_until,
            )
        audit.record(
            connection,
            now=now,
            actor=actor,
            action="card.create",
            subject=f"card:{made.credential_id}",
            detail={"issuing": job.id, "asked_by": job.created_by},
        )
        _used(connection, job, StockCause.ISSUED, actor, now)
        done = replace(
            job,
            state=JobState.DONE,
            step=Step.CHECKED,
            credential_id=made.credential_id,
            ended_at=now,
            lease_until=None,
        )
        return store.change(connection, done)


def days_of(person: Cardholder, today: date, time_zone: str) -> tuple[date, date]:
    """From which day to which, inclusive, a card of theirs is valid unless somebody says otherwise: while they stay."""
    first, last = today, today + timedelta(days=DEFAULT_DAYS)
    if person.valid_from is not None:
        first = max(first, local_time(person.valid_from, time_zone).date())
        last = max(last, first)
    if person.valid_until is not None:
        last = local_time(person.valid_until - timedelta(microseconds=1), time_zone).date()
    return first, min(last, LAST_DAY)


def _own(connection: Connection, station: Station, job_id: str) -> IssuingJob:
    job = store.get(connection, job_id)
    if job.station_id != station.id:
        raise NotFound("issuing job is not there")
    return job


def _held(connection: Connection, station: Station, job_id: str, attempt: str) -> IssuingJob:
    job = _own(connection, station, job_id)
    if job.state is not JobState.TAKEN or job.attempt != attempt:
        raise JobOver("the job has ended, or was taken again")
    return job


def _used(connection: Connection, job: IssuingJob, cause: StockCause, actor: str, now: datetime) -> None:
    card_stock.take_one(connection, job.site_id, job.technology, cause, made_by=actor, now=now)


def _void(
    connection: Connection, job: IssuingJob, credential_id: CredentialId, actor: str, now: datetime
) -> None:
    """Register a spoilt card as revoked, unless the hub knows it."""
    try:
        cards.get(connection, credential_id)
    except NotFound:
        pass
    else:
        return
    cards.add(
        connection,
        credential_id=credential_id,
        cardholder_id=job.cardholder_id,
        technology=Technology.PKOC_V1 if len(bytes(credential_id)) == 32 else Technology.PKOC_V2,
        now=now,
    )
    cards.set_status(connection, credential_id, CardStatus.REVOKED, now=now)
    audit.record(
        connection,
        now=now,
        actor=actor,
        action="card.void",
        subject=f"card:{credential_id}",
        reason=_VOID,
        detail={"issuing": job.id},
    )


def _note(
    connection: Connection, now: datetime, actor: str, action: str, job: IssuingJob, *, why: str | None = None
) -> None:
    detail = {"station": str(job.station_id)}
    if why is not None:
        detail["why"] = str(why)
    if job.replaces is not None:
        detail["replaces"] = str(job.replaces)
    audit.record(
        connection,
        now=now,
        actor=actor,
        action=action,
        subject=f"cardholder:{job.cardholder_id}",
        detail=detail,
    )
