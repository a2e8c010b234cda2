"""What a monitoring system reads: counters of this process, and the state of doors, controllers and record at that moment.

Each application has its own registry. No label says who: labels are ids of doors, controllers and sites, names of
parts, and route templates. docs/operating.md lists every metric.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from hub import completeness
from hub.certificates import site_certificates
from hub.completeness import Completeness
from hub.ingest import Ingest
from hub.store import alarms, controllers, device_certificates, documents, doors, holds, webhooks
from hub.store.controllers import ControllerState
from pacs.identifiers import ControllerId, SiteId
from pacs.messages import DocumentKind

if TYPE_CHECKING:
    from hub.api.services import Services

States = Mapping[ControllerId, ControllerState]

_QUICK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "drempel_http_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._request_s = Histogram(
            "drempel_http_request_seconds",
            "From the request to the end of its answer",
            ("method", "route"),
            buckets=_QUICK,
            registry=self.registry,
        )
        self._wait_s = Histogram(
            "drempel_database_write_wait_seconds",
            "How long a write transaction waited for the one writer",
            buckets=_QUICK,
            registry=self.registry,
        )
        self._hold_s = Histogram(
            "drempel_database_write_hold_seconds",
            "How long a write transaction took",
            buckets=_QUICK,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)

    def answered(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count one request; ``route`` is a template, never an address."""
        self._requests.labels(method, route, status).inc()
        self._request_s.labels(method, route).observe(took_s)

    def wrote(self, waited_s: float, held_s: float) -> None:
        """Count one write transaction."""
        self._wait_s.observe(waited_s)
        self._hold_s.observe(held_s)

    def text(self, hub: Services, ingest: Ingest, sites: Collection[SiteId] | None) -> bytes:
        """Everything, as Prometheus reads it; of doors and controllers those of ``sites``."""
        moment = CollectorRegistry()
        moment.register(_Moment(list(_process(hub, ingest)) + list(_house(hub, sites))))
        return generate_latest(self.registry) + generate_latest(moment)


class _Moment(Collector):
    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = list(found)

    def collect(self) -> Iterable[Metric]:
        return self._found


def _gauge(name: str, said: str, values: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Metric:
    family = GaugeMetricFamily(f"drempel_{name}", said, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _process(hub: Services, ingest: Ingest) -> Iterator[Metric]:
    """What this process knows without the database."""
    counts = ingest.counts
    events = CounterMetricFamily(
        "drempel_events",
        "Events stored, stored already, too early, set aside or dropped",
        labels=("outcome",),
    )
    for outcome in ("stored", "duplicate", "ahead", "set_aside", "dropped"):
        events.add_metric((outcome,), getattr(counts, outcome))
    yield events
    yield _gauge("ingest_queue_bytes", "Messages that wait to be stored", [((), ingest.waiting_bytes)])
    parts = [((name,), float(works)) for name, works in hub.health().items()]
    yield _gauge("part_up", "Whether a part of the hub works", parts, "part")
    yield _gauge("documents_settled", "Whether every change is in a version", [((), float(hub.is_settled()))])
    free = shutil.disk_usage(hub.settings.data_dir).free
    yield _gauge("disk_free_bytes", "Free space where the data is", [((), free)])
    yield _gauge("build_info", "Which software runs", [((version("drempel"),), 1)], "version")
    held = site_certificates(hub.settings.site_dir, hub.settings.certificate)
    ends = [((each.part.value,), each.ends_at.timestamp()) for each in held]
    yield _gauge("certificate_expiry_seconds", "When a certificate ends, since 1970", ends, "certificate")
    due = [((each.part.value,), each.due_at.timestamp()) for each in held]
    yield _gauge(
        "certificate_renewal_due_seconds",
        "When two thirds of a certificate's life are over, since 1970",
        due,
        "certificate",
    )


def _house(hub: Services, sites: Collection[SiteId] | None) -> Iterator[Metric]:
    now = hub.clock()
    with hub.database.read() as connection:
        backlog = webhooks.waiting(connection)
        yield _gauge("webhook_deliveries_waiting", "Messages that are still to be delivered", [((), backlog)])
        yield _gauge(
            "legal_hold_end_seconds",
            "When a legal hold is over as things stand, since 1970",
            [
                ((hold.id, str(hold.site_id)), hold.keeps_until.timestamp())
                for hold in holds.keeping(connection, now)
                if sites is None or hold.site_id in sites
            ],
            "hold",
            "site",
        )
        disabled = webhooks.disabled(connection)
        yield _gauge(
            "webhooks_disabled", "Subscriptions disabled because nobody took their messages", [((), disabled)]
        )
        states = controllers.states(connection, now)
        yield from _controllers(connection, states, now, sites)
        yield from _doors(connection, states, now, sites)


def _controllers(
    connection: Connection, states: States, now: datetime, sites: Collection[SiteId] | None
) -> Iterator[Metric]:
    known = [(str(each), states[each]) for each in controllers.registered_at(connection, sites)]
    named = {each for each, _ in known}
    standing: dict[str, int] = {}
    for alarm in alarms.standing(connection).values():
        if alarm.subject.controller_id in named:
            standing[alarm.subject.kind] = standing.get(alarm.subject.kind, 0) + 1
    yield _gauge(
        "alarms_standing",
        "Alarms that are not over",
        [((kind,), float(n)) for kind, n in standing.items()],
        "kind",
    )

    def of(name: str, said: str, value: Callable[[ControllerState], float | None]) -> Metric:
        found = [((each,), value(state)) for each, state in known]
        return _gauge(name, said, [(one, known) for one, known in found if known is not None], "controller")

    yield of("controller_online", "Whether a controller is connected", lambda state: float(state.online))
    yield of("controller_unheard_seconds", "Since its last sign of life", lambda state: _since(state, now))
    yield of("controller_waiting_events", "Recorded there, not yet stored here", _waiting)
    yield of(
        "acknowledgement_lag_seconds",
        "Age of the oldest event that is recorded there and not yet acknowledged",
        lambda state: _lag(state, now),
    )
    yield _gauge(
        "controller_certificate_expiry_seconds",
        "When the certificate that a controller goes by ends, since 1970",
        [
            ((str(each),), end.timestamp())
            for each, end in device_certificates.ending(connection).items()
            if str(each) in named
        ],
        "controller",
    )
    for document in ("policy", "revocations"):
        yield of(
            f"{document}_age_seconds",
            "Since the controller's document was renewed",
            partial(_aged, name=f"{document}_age_s", now=now),
        )


def _since(state: ControllerState, now: datetime) -> float | None:
    return None if state.last_seen is None else max(0.0, (now - state.last_seen).total_seconds())


def _waiting(state: ControllerState) -> float | None:
    return None if state.health is None else float(state.health["waiting_events"])


def _aged(state: ControllerState, name: str, now: datetime) -> float | None:
    """What it said last, grown older since."""
    said = None if state.health is None else state.health[name]
    since = _since(state, now)
    return None if said is None or since is None else said + since


def _lag(state: ControllerState, now: datetime) -> float | None:
    """0 when nothing waits as far as it said; None when it has never said anything."""
    if state.health is None:
        return None
    return _aged(state, "oldest_waiting_s", now) or 0.0


def _doors(
    connection: Connection, states: States, now: datetime, sites: Collection[SiteId] | None
) -> Iterator[Metric]:
    found = doors.places(connection, sites)
    records = completeness.of_doors(connection, now, since=now, places=found, states=states)
    confirmed, newest = documents.confirmed_versions(connection), documents.newest_versions(connection)

    def unknown(record: Completeness) -> float:
        if record.complete:
            return 0.0
        since = record.unknown_since
        return math.inf if since is None else max(0.0, (now - since).total_seconds())

    labels = ("door", "site")
    each = [((str(door.id), str(door.site_id)), door) for door in found]
    online = [(at, float(states[door.controller_id].online)) for at, door in each]
    yield _gauge("door_online", "Whether a door's controller is connected", online, *labels)
    whole = [(at, float(records[door.id].complete)) for at, door in each]
    yield _gauge("door_record_complete", "Whether a door's record is whole", whole, *labels)
    yield _gauge(
        "door_record_unknown_seconds",
        "For how long a door's record is not known to be whole; +Inf: since ever",
        [(at, unknown(records[door.id])) for at, door in each],
        *labels,
    )
    yield _gauge(
        "door_versions_behind",
        "How many versions of a document a door has not confirmed",
        [
            ((*at, kind.value), float(newest.get((door.site_id, kind), 0) - held))
            for at, door in each
            for kind in DocumentKind
            for held in (confirmed.get((door.controller_id, kind), 0),)
        ],
        *labels,
        "document",
    )
