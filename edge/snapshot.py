"""How a controller stands at one moment: values that one thread makes and any thread may read.

``ControllerSnapshot.document`` is the shape that ``drempel-edge status --format json`` prints; ``docs/status.md``
describes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

FORMAT: Final = 1
"""Of the document. Keys may be added to a format; none is renamed, removed or given another meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorSnapshot:
    """One door. ``mode`` is the effective one and ``cause`` what gave it; ``by`` names the schedule or the command.

    ``until``: when a command's mode ends by itself. ``waiting``: people who wait there for a person to decide.
    ``attendance``: who does: ``hub``; while it is away ``local``, ``unattended`` or ``nobody``.

    ``contact``: ``open``, ``closed``, ``unknown``, or ``not_fitted``. ``strike``: ``released`` or ``locked``.
    ``alarms``: what is wrong at the door, by the kind of the event that said so.
    """

    door: str
    mode: str
    cause: str
    by: str = ""
    contact: str
    strike: str
    alarms: tuple[str, ...] = ()
    until: str | None = None
    waiting: int = 0
    attendance: str = "hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSnapshot:
    """One reader. ``state``: ``starting``, ``ok`` or ``lost``, for ``state_s`` now; ``cause``: why it is lost.

    ``advice``: what to do about that. ``firmware``: what the hardware last said about itself; ``baud``: the speed of its line. ``last_card_s``: since a card was last seen. Since the
    start: ``reads`` that ended in a verdict, ``faults`` of those that did not, ``losses``, ``resets``.
    """

    door: str
    side: str
    device: str
    state: str
    state_s: float
    cause: str | None
    advice: str | None = None
    firmware: str | None
    baud: int | None = None
    last_card_s: float | None
    reads: int
    faults: Mapping[str, int]
    losses: int
    resets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSnapshot:
    """A signed document that is held."""

    version: int
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSnapshot:
    """``waiting``: events that are durable here and not yet acknowledged by the hub."""

    journal_id: str
    last_sequence: int
    acknowledged: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSnapshot:
    """``state``: ``starting``, ``connecting``, ``online``, ``waiting`` (to try again, in ``retry_in_s``), ``stopped``.

    ``answered``: the hub itself has spoken on this connection. ``failures``: attempts since it last did. ``cause``: why
    the last one failed or ended, one word; ``words``: that and what to do.
    """

    state: str
    answered: bool = False
    failures: int = 0
    retry_in_s: float | None = None
    cause: str | None = None
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSnapshot:
    """What the hub is met with. ``serial``: hex. ``renews_at``: from when on another is asked for."""

    serial: str
    ends_at: datetime
    renews_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogSnapshot:
    """``interval_s``: None when no manager watches. ``stalled``: threads that hang."""

    interval_s: float | None
    fed_s_ago: float
    stalled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSnapshot:
    """Everything at once; ``at`` is aware, ``taken_s`` is monotonic and compared in one process only.

    ``clock_distrust``: why the clock is not trusted; None while it is.
    """

    controller: str
    site: str
    software: str
    at: datetime
    taken_s: float
    uptime_s: float
    clock_trusted: bool
    clock_distrust: str | None = None
    policy: DocumentSnapshot | None
    revocations: DocumentSnapshot | None
    journal: JournalSnapshot
    link: LinkSnapshot
    certificate: CertificateSnapshot | None = None
    watchdog: WatchdogSnapshot
    doors: tuple[DoorSnapshot, ...]
    readers: tuple[ReaderSnapshot, ...]

    def document(self, now_s: float) -> dict[str, Any]:
        """What is told of it at the monotonic time ``now_s``: JSON values only."""
        age_s = max(0.0, now_s - self.taken_s)
        return {
            "format": FORMAT,
            "controller": self.controller,
            "site": self.site,
            "software": self.software,
            "age_s": round(age_s, 3),
            "uptime_s": round(self.uptime_s + age_s, 3),
            "clock": {
                "at": _time(self.at),
                "trusted": self.clock_trusted,
                "distrust": self.clock_distrust,
            },
            "policy": self._held(self.policy),
            "revocations": self._held(self.revocations),
            "journal": asdict(self.journal),
            "link": asdict(self.link),
            "certificate": self._certified(self.certificate),
            "watchdog": {**asdict(self.watchdog), "stalled": list(self.watchdog.stalled)},
            "doors": [{**asdict(door), "alarms": list(door.alarms)} for door in self.doors],
            "readers": [{**asdict(reader), "faults": dict(reader.faults)} for reader in self.readers],
        }

    def line(self) -> str:
        """One line for whoever looks at the service."""
        lost = [f"{reader.door}/{reader.side}" for reader in self.readers if reader.state == "lost"]
        parts = [
            ", ".join(f"{door.door} {door.mode}" for door in self.doors),
            f"hub {self.link.state}",
            f"policy {self.policy.version}" if self.policy else "no policy: every card is refused",
            f"{self.journal.waiting} events waiting",
        ]
        if lost:
            parts.append(f"reader lost: {', '.join(lost)}")
        if not self.clock_trusted:
            parts.append(f"clock not trusted: {self.clock_distrust or 'unknown'}")
        if self.watchdog.stalled:
            parts.append(f"not coming round: {', '.join(self.watchdog.stalled)}")
        return "; ".join(parts)

    def _certified(self, certificate: CertificateSnapshot | None) -> dict[str, Any] | None:
        if certificate is None:
            return None
        return {
            "serial": certificate.serial,
            "ends_at": _time(certificate.ends_at),
            "left_s": round((certificate.ends_at - self.at).total_seconds()),
            "renews_at": _time(certificate.renews_at),
            "renews_in_s": round((certificate.renews_at - self.at).total_seconds()),
        }

    def _held(self, document: DocumentSnapshot | None) -> dict[str, Any] | None:
        if document is None:
            return None
        return {
            "version": document.version,
            "issued_at": _time(document.issued_at),
            "expires_at": _time(document.expires_at),
            "age_s": round((self.at - document.issued_at).total_seconds()),
        }


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
