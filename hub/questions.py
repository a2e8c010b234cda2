"""Who can open a door, what somebody can open, and why not: answered by the doors' own decision.

``pacs.decision.decide`` is asked twice for each card and door: with the documents in force, and with those that the
door has confirmed, which is what it goes by. Asked is the entry side; the exit is free. What only the door can see is
taken as it is most often: the card is authentic, from an issuer of the site and in its certificate's dates, nobody is
being escorted, no interlocked door is open, nobody is known to be inside.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection

from hub.store import cardholders, cards, controllers, documents, doors
from hub.store.cards import Card
from hub.store.controllers import ControllerState
from hub.store.database import Database
from hub.store.documents import Document
from hub.store.doors import NamedDoor
from hub.store.people import sites_of
from hub.store.sites import Sites
from pacs import bundle
from pacs.credential import Technology, VerifiedCredential
from pacs.decision import ClockReading, Decision, Outcome, decide
from pacs.errors import PacsError
from pacs.identifiers import CardholderId, CredentialId, DoorId, SiteId
from pacs.messages import DocumentKind
from pacs.modes import ModeCause
from pacs.reason import Reason
from pacs.revocation import StatusList
from pacs.rules import Door, DoorMode, Policy, Side
from pacs.schedule import Schedule, zone
from pacs.situation import NOTHING_KNOWN, ModeOrder, Situation

WEEK = timedelta(days=7)
OPENED = 6  # documents kept open

_AFTERWARDS = timedelta(days=30)  # beyond every moment that one question is about
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """From ``since`` (inclusive) to ``until`` (exclusive) the outcome is no denial."""

    since: datetime
    until: datetime
    outcome: Outcome
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One card at one door.

    ``at_door`` None: what the door goes by is not kept here, so nothing is known. ``week``: when it would be granted or
    referred in the seven days that follow, by the documents in force and by nothing but the rules.
    """

    door_id: DoorId
    credential_id: CredentialId
    cardholder_id: CardholderId
    in_force: Decision
    at_door: Decision | None
    week: tuple[Interval, ...]

    @property
    def differs(self) -> bool:
        """Whether the door is known, or has to be feared, to decide otherwise than the documents in force."""
        return self.at_door != self.in_force


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorBasis:
    """What a door goes by. Versions are 0 for none; ``current``: it confirmed both versions in force."""

    door_id: DoorId
    name: str
    online: bool
    clock_trusted: bool
    policy_version: int
    policy_in_force: int
    revocations_version: int
    revocations_in_force: int

    @property
    def current(self) -> bool:
        """Whether the door has confirmed what is in force."""
        return (self.policy_version, self.revocations_version) == (
            self.policy_in_force,
            self.revocations_in_force,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The answer to a question about the moment ``at``: what each door goes by, and each card at each door."""

    at: datetime
    doors: tuple[DoorBasis, ...]
    verdicts: tuple[Verdict, ...]
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Documents:
    policy: Policy | None = None
    revocations: StatusList | None = None
    known: bool = True

    def renewed(self, at: datetime) -> _Documents:
        """The same, as they will be renewed until then: no age and no end."""
        issued_at, expires_at = at + _AFTERWARDS, at + 2 * _AFTERWARDS
        policy, revocations = self.policy, self.revocations
        return _Documents(
            policy=policy and replace(policy, issued_at=issued_at, expires_at=expires_at),
            revocations=revocations and replace(revocations, issued_at=issued_at, expires_at=expires_at),
            known=self.known,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A door with all that a decision there is made by."""

    door: Door
    basis: DoorBasis
    in_force: _Documents
    confirmed: _Documents
    lasting: _Documents
    situation: Situation
    weeks: dict[Hashable, tuple[Interval, ...]] = field(default_factory=dict)


class Questions:
    """Answers questions about access; opens the documents once for many questions."""

    def __init__(
        self,
        database: Database,
        *,
        trusted: Callable[[], Mapping[bytes, Ed25519PublicKey]],
        clock: Callable[[], datetime],
    ) -> None:
        """``trusted``: asked whose documents are the hub's own, by key id."""
        self._database = database
        self._trusted = trusted
        self._clock = clock
        self._lock = threading.Lock()
        self._opened: OrderedDict[bytes, Policy | StatusList | None] = OrderedDict()

    def who(
        self,
        door_id: DoorId,
        *,
        at: datetime | None = None,
        cardholder_id: CardholderId | None = None,
        after: CredentialId | None = None,
        limit: int = 100,
    ) -> Findings:
        """Every card that a door's site lists, or every card of one person, at that door; by credential id, from behind ``after``.

        ``at`` None: now, with the mode and the trust in its clock that the door last reported. Raises ``NotFound``.
        """
        with self._database.read() as connection:
            if cardholder_id is not None:
                cardholders.get(connection, cardholder_id)
            named = doors.get(connection, door_id)
            found = cards.list_all(
                connection,
                cardholder_id=cardholder_id,
                sites=(named.site_id,) if cardholder_id is None else None,
                after=after,
                limit=limit + 1,
            )
            asked = self._asked(connection, [named], at)
        return self._findings(asked, found[:limit], at, more=len(found) > limit)

    def what(
        self, cardholder_id: CardholderId, *, at: datetime | None = None, sites: Sites = None
    ) -> Findings:
        """Every card of one person at every door of those of these sites that know them; ``at`` as in ``who``.

        Raises ``NotFound``.
        """
        with self._database.read() as connection:
            cardholders.get(connection, cardholder_id)
            found = cards.list_all(connection, cardholder_id=cardholder_id)
            known = [each for each in sites_of(connection, cardholder_id) if sites is None or each in sites]
            asked = self._asked(connection, doors.list_all(connection, sites=known), at)
        return self._findings(asked, found, at)

    def _findings(
        self, asked: list[_Asked], found: Iterable[Card], at: datetime | None, *, more: bool = False
    ) -> Findings:
        moment = at or self._clock()
        return Findings(
            at=moment,
            doors=tuple(each.basis for each in asked),
            verdicts=tuple(
                _verdict(each, card, moment, is_now=at is None) for card in found for each in asked
            ),
            more=more,
        )

    def _asked(self, connection: Connection, named: Iterable[NamedDoor], at: datetime | None) -> list[_Asked]:
        now = self._clock()
        states = controllers.states(connection, now)
        confirmed = documents.confirmed_versions(connection)
        later = at is not None and at > now
        moment = at or now
        newest: dict[SiteId, Mapping[DocumentKind, Document | None]] = {}
        valid: dict[SiteId, tuple[_Documents, _Documents]] = {}  # in force, and as they will be renewed
        held: dict[tuple[SiteId, int, int], _Documents] = {}
        found = []
        for each in named:
            state, site_id = states[each.door.controller_id], each.site_id
            if site_id not in newest:
                newest[site_id] = {kind: documents.newest(connection, site_id, kind) for kind in DocumentKind}
                documents_there = self._documents(newest[site_id])
                valid[site_id] = documents_there, documents_there.renewed(moment)
            in_force, lasting = valid[site_id]
            versions = {kind: confirmed.get((each.door.controller_id, kind), 0) for kind in DocumentKind}
            key = site_id, versions[DocumentKind.POLICY], versions[DocumentKind.REVOCATIONS]
            if key not in held:
                held[key] = self._documents(
                    {
                        kind: documents.held(connection, site_id, kind, version)
                        for kind, version in versions.items()
                    },
                    versions,
                )
            there = held[key]
            found.append(
                _Asked(
                    door=each.door,
                    basis=_basis(each, state, versions, newest[site_id]),
                    in_force=lasting if later else in_force,
                    confirmed=there.renewed(moment) if later and state.online else there,
                    lasting=lasting,
                    situation=_situation(state, each.door.id) if at is None else NOTHING_KNOWN,
                )
            )
        return found

    def _documents(
        self,
        found: Mapping[DocumentKind, Document | None],
        versions: Mapping[DocumentKind, int] | None = None,
    ) -> _Documents:
        policy = self._open(found[DocumentKind.POLICY])
        revocations = self._open(found[DocumentKind.REVOCATIONS])
        opened = {DocumentKind.POLICY: policy, DocumentKind.REVOCATIONS: revocations}
        known = all(opened[kind] is not None for kind, version in (versions or {}).items() if version)
        return _Documents(
            policy=policy if isinstance(policy, Policy) else None,
            revocations=revocations if isinstance(revocations, StatusList) else None,
            known=known,
        )

    def _open(self, document: Document | None) -> Policy | StatusList | None:
        if document is None or not document.data:
            return None
        with self._lock:
            if document.digest in self._opened:
                self._opened.move_to_end(document.digest)
                return self._opened[document.digest]
        opened: Policy | StatusList | None = None
        try:
            if document.kind is DocumentKind.POLICY:
                opened = bundle.open_bundle(document.data, self._trusted())
            else:
                opened = StatusList.open(document.data, self._trusted())
        except PacsError:
            log.exception("document_cannot_be_read", kind=document.kind, version=document.version)
        with self._lock:
            self._opened[document.digest] = opened
            while len(self._opened) > OPENED:
                self._opened.popitem(last=False)
        return opened


def _basis(
    named: NamedDoor,
    state: ControllerState,
    versions: Mapping[DocumentKind, int],
    newest: Mapping[DocumentKind, Document | None],
) -> DoorBasis:
    in_force = {kind: document.version if document else 0 for kind, document in newest.items()}
    return DoorBasis(
        door_id=named.door.id,
        name=named.name,
        online=state.online,
        clock_trusted=state.clock_trusted is not False,
        policy_version=versions[DocumentKind.POLICY],
        policy_in_force=in_force[DocumentKind.POLICY],
        revocations_version=versions[DocumentKind.REVOCATIONS],
        revocations_in_force=in_force[DocumentKind.REVOCATIONS],
    )


def _situation(state: ControllerState, door_id: DoorId) -> Situation:
    """The mode that was ordered, as the controller last said."""
    said = state.health["doors"] if state.health else ()
    for door in said:
        if door["door_id"] == door_id and door["cause"] == ModeCause.COMMAND:
            return Situation(order=ModeOrder(mode=DoorMode(door["mode"]), command_id=b""))
    return NOTHING_KNOWN


def _verdict(asked: _Asked, card: Card, at: datetime, *, is_now: bool) -> Verdict:
    clock = ClockReading(at=at, trusted=asked.basis.clock_trusted or not is_now)

    def decided(by: _Documents) -> Decision:
        return _decision(by, card, asked.door.id, clock, asked.situation)

    return Verdict(
        door_id=asked.door.id,
        credential_id=card.credential_id,
        cardholder_id=card.cardholder_id,
        in_force=decided(asked.in_force),
        at_door=decided(asked.confirmed) if asked.confirmed.known else None,
        week=_week(asked, card, at),
    )


def _decision(
    by: _Documents, card: Card, door_id: DoorId, clock: ClockReading, situation: Situation = NOTHING_KNOWN
) -> Decision:
    issuers = by.policy.issuers if by.policy else {}
    technology = Technology(card.technology)
    credential = VerifiedCredential(
        credential_id=card.credential_id,
        technology=technology,
        issuer=min(issuers, default=None) if technology is Technology.PKOC_V2 else None,
    )
    return decide(
        credential,
        door_id,
        Side.ENTRY,
        policy=by.policy,
        revocations=by.revocations,
        clock=clock,
        situation=situation,
    )


# -- the week that follows --------------------------------------------------------------------------


def _week(asked: _Asked, card: Card, at: datetime) -> tuple[Interval, ...]:
    """The week of one card; cards that may do the same share theirs."""
    policy, revocations = asked.lasting.policy, asked.lasting.revocations
    if policy is None or revocations is None:
        return ()
    entitlement = policy.entitlements.get(card.credential_id)
    if entitlement is None:
        return ()
    status = revocations.status(entitlement.status_index)
    unnamed = replace(entitlement, credential_id=CredentialId(bytes(16)), status_index=0)
    key = card.technology, unnamed, status
    if key not in asked.weeks:
        schedules = {rule.schedule_id: policy.schedules[rule.schedule_id] for rule in asked.door.mode_rules}
        by_level = policy.schedules_by_door_and_level
        for level_id in entitlement.access_level_ids:
            schedules |= {each.id: each for each in by_level.get((asked.door.id, level_id), ())}
        bounds = [each for each in (entitlement.valid_from, entitlement.valid_until) if each is not None]
        turns = {*_turns(schedules.values(), at, zone(policy.time_zone)), *bounds}
        moments = [at, *sorted(each for each in turns if at < each < at + WEEK), at + WEEK]
        asked.weeks[key] = tuple(_intervals(asked, card, moments))
    return asked.weeks[key]


def _intervals(asked: _Asked, card: Card, moments: list[datetime]) -> Iterator[Interval]:
    """What is decided between two moments is decided all that time."""
    open_since: datetime | None = None
    before: Decision | None = None
    for moment in moments:
        decision: Decision | None = None
        if moment != moments[-1]:
            clock = ClockReading(at=moment, trusted=True)
            decision = _decision(asked.lasting, card, asked.door.id, clock)
            decision = None if decision.outcome is Outcome.DENY else decision
        if decision == before:
            continue
        if before is not None and open_since is not None:
            yield Interval(since=open_since, until=moment, outcome=before.outcome, reason=before.reason)
        before, open_since = decision, moment


def _turns(schedules: Iterable[Schedule], at: datetime, local: ZoneInfo) -> Iterator[datetime]:
    """Every moment of the week at which a schedule may begin or cease to hold."""
    first = at.astimezone(local).date()
    minutes = {
        minute
        for schedule in schedules
        for window in (*schedule.windows, *schedule.holiday_windows)
        for minute in (window.start_minute, window.end_minute)
    }
    for days in range(-1, WEEK.days + 2):
        for minute in minutes:
            yield from _on_the_wall(first + timedelta(days=days), minute, local)
    for days in range(WEEK.days + 1):
        if (change := _clocks_change(at + timedelta(days=days), local)) is not None:
            yield change


def _on_the_wall(day: date, minute: int, local: ZoneInfo) -> Iterator[datetime]:
    wall = datetime.combine(day, time.min) + timedelta(minutes=minute)
    for fold in (0, 1):
        yield wall.replace(tzinfo=local, fold=fold).astimezone(UTC)


def _clocks_change(since: datetime, local: ZoneInfo) -> datetime | None:
    """When the clocks are put forward or back in the day from ``since`` on; None: they are not."""
    low, high = since.astimezone(UTC).replace(microsecond=0), since.astimezone(UTC) + _DAY
    before = low.astimezone(local).utcoffset()
    if high.astimezone(local).utcoffset() == before:
        return None
    while high - low > _SECOND:
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if middle.astimezone(local).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high
