"""How the link to the hub stands, in words for whoever has to mend it."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from typing import Final

from pacs.errors import StoreError

_MAX_WORDS: Final = 200


@unique
class LinkPhase(StrEnum):
    """What the uplink is doing."""

    STARTING = "starting"
    CONNECTING = "connecting"
    ONLINE = "online"
    """The broker takes and brings messages; ``LinkState.answered`` says whether the hub is behind it."""
    WAITING = "waiting"
    STOPPED = "stopped"


@unique
class LinkCause(StrEnum):
    """Why the last attempt failed, or the last connection ended."""

    CLOCK_BEHIND = "clock_behind"
    """The broker's certificate is not valid yet, by this clock."""
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_REFUSED = "certificate_refused"
    """It is this controller's, which the broker does not take, or which has expired."""
    OTHER_AUTHORITY = "other_authority"
    OTHER_NAME = "other_name"
    TLS_FAILED = "tls_failed"
    NAME_UNKNOWN = "name_unknown"
    NOBODY_LISTENS = "nobody_listens"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    STALLED = "stalled"
    """The broker took the connection and said no more."""
    NOT_ADMITTED = "not_admitted"
    ENDED = "ended"
    KEYS_UNREADABLE = "keys_unreadable"
    INTERNAL_FAULT = "internal_fault"


NEXT_STEPS: Final = {
    LinkCause.CLOCK_BEHIND: "the broker's certificate is not valid yet by this clock; set the clock",
    LinkCause.CERTIFICATE_EXPIRED: "the broker's certificate has expired; renew it at the hub, or set the clock",
    LinkCause.CERTIFICATE_REFUSED: (
        "our certificate expired or was refused; is the clock right? "
        "then: drempel-provision reader re-enrol, and drempel-edge enrol"
    ),
    LinkCause.OTHER_AUTHORITY: "the broker's certificate is not of this site's root; check [hub] and the keys",
    LinkCause.OTHER_NAME: "the broker's certificate is for another name; check [hub] host",
    LinkCause.TLS_FAILED: "no TLS with the broker; check [hub] host and port",
    LinkCause.NAME_UNKNOWN: "the hub's name is not known here; check [hub] host and the name server",
    LinkCause.NOBODY_LISTENS: "nobody listens there; check [hub] port, and whether the hub runs",
    LinkCause.UNREACHABLE: "the hub cannot be reached; check cable, address and gateway",
    LinkCause.TIMED_OUT: "the hub does not answer; check the network on the way to it",
    LinkCause.STALLED: "the broker takes connections and says no more; look at the hub",
    LinkCause.NOT_ADMITTED: "the broker does not admit this controller; is it registered at the hub?",
    LinkCause.ENDED: "the connection ended; it is made again",
    LinkCause.KEYS_UNREADABLE: "this controller's keys cannot be read",
    LinkCause.INTERNAL_FAULT: "a fault of our own; see the log",
}
"""What each cause means and what to do about it."""

_VERIFY_CODES: Final = {  # OpenSSL's X509_V_ERR_*
    9: LinkCause.CLOCK_BEHIND,
    10: LinkCause.CERTIFICATE_EXPIRED,
    18: LinkCause.OTHER_AUTHORITY,
    19: LinkCause.OTHER_AUTHORITY,
    20: LinkCause.OTHER_AUTHORITY,
    21: LinkCause.OTHER_AUTHORITY,
    62: LinkCause.OTHER_NAME,
    64: LinkCause.OTHER_NAME,
}


_REFUSED_BY: Final = (  # ends of OpenSSL's names for a server's alerts about its client's certificate
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_CERTIFICATE_REVOKED",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_CERTIFICATE_REQUIRED",
    "ALERT_UNKNOWN_CA",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """The link at one instant. Times are ``time.monotonic()`` seconds.

    ``failures``: attempts since the hub last answered. ``next_attempt_s``: while waiting. ``cause`` and ``error``, in
    words: why the last attempt failed or the last connection ended; they stay until the hub answers.
    """

    phase: LinkPhase
    since_s: float
    answered: bool = False
    failures: int = 0
    next_attempt_s: float | None = None
    cause: LinkCause | None = None
    error: str = ""

    @property
    def words(self) -> str:
        """What is wrong and what to do, in one line; empty while nothing is known to be."""
        if self.cause is None:
            return ""
        return f"{NEXT_STEPS[self.cause]} ({self.error})" if self.error else NEXT_STEPS[self.cause]


class LinkLog:
    """Written by the uplink's thread; ``state`` is one value, to be read from any thread."""

    def __init__(self) -> None:
        self.state = LinkState(phase=LinkPhase.STARTING, since_s=time.monotonic())

    def connecting(self) -> None:
        """An attempt begins."""
        self._enter(LinkPhase.CONNECTING)

    def online(self) -> None:
        """The broker brings messages."""
        self._enter(LinkPhase.ONLINE)

    def answered(self) -> None:
        """The hub spoke."""
        if not self.state.answered:
            self.state = replace(self.state, answered=True, failures=0, cause=None, error="")

    def ended(self, cause: LinkCause, error: str) -> None:
        """The attempt failed, or the connection ended."""
        failures = self.state.failures + 1
        self.state = replace(self.state, cause=cause, error=error[:_MAX_WORDS], failures=failures)

    def waiting(self, wait_s: float) -> None:
        """The next attempt begins after this time."""
        self._enter(LinkPhase.WAITING, next_attempt_s=time.monotonic() + wait_s)

    def stopped(self) -> None:
        """There will be no other attempt."""
        self._enter(LinkPhase.STOPPED)

    def _enter(self, phase: LinkPhase, *, next_attempt_s: float | None = None) -> None:
        self.state = replace(
            self.state,
            phase=phase,
            since_s=time.monotonic(),
            answered=False,
            next_attempt_s=next_attempt_s,
        )


def cause_of(error: Exception) -> LinkCause:
    """The name of what an attempt failed with."""
    import ssl  # whoever attempts has it; a controller does without it at its start

    match error:
        case ssl.SSLCertVerificationError():
            return _VERIFY_CODES.get(error.verify_code, LinkCause.TLS_FAILED)
        case ssl.SSLError():
            refused = str(getattr(error, "reason", "")).endswith(_REFUSED_BY)
            return LinkCause.CERTIFICATE_REFUSED if refused else LinkCause.TLS_FAILED
        case Stalled():
            return LinkCause.STALLED
        case TimeoutError():
            return LinkCause.TIMED_OUT
        case ConnectionRefusedError():
            return LinkCause.NOBODY_LISTENS
        case socket.gaierror():
            return LinkCause.NAME_UNKNOWN
        case OSError():
            return LinkCause.UNREACHABLE
        case StoreError():
            return LinkCause.KEYS_UNREADABLE
        case _:
            return LinkCause.INTERNAL_FAULT


class Stalled(TimeoutError):
    """The broker took the connection and said no more."""
