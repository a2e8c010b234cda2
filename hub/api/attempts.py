"""How often somebody may try to sign in or to enrol a device, and a station report.

A stranger's tries are counted per source and account, per source, and per account from all sources together. A
browser from which the account's owner signed in before is not a stranger: its tries are counted by themselves, so
nobody keeps a guard out by guessing at the guard's name, from the next desk or from a thousand addresses.

Each process counts by itself. Where several share a database, passwords that one of them would still take are counted
there as well, so that a guesser gains nothing by going from one to the next; what is refused costs the database nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from hub.api.problems import Code, Problem
from hub.operators import digest, name_key
from hub.store import tries
from hub.store.database import Database
from hub.store.stations import Station, StationKind

_WINDOW = timedelta(minutes=5)
_PER_BROWSER = RateLimitItemPerMinute(10, 5, namespace="browser")
_PER_PAIR = RateLimitItemPerMinute(5, 5, namespace="pair")
_PER_SOURCE = RateLimitItemPerMinute(30, 5, namespace="source")
_PER_ACCOUNT = RateLimitItemPerMinute(20, 5, namespace="account")
_REPORTS_PER_STATION = RateLimitItemPerMinute(120, 1, namespace="station")
_REPORTS_PER_ISSUING_STATION = RateLimitItemPerMinute(1200, 1, namespace="issuing")
_CODES_PER_SOURCE = RateLimitItemPerMinute(30, 5, namespace="code")
"""Nobody guesses 128 bits; this bounds what a stranger makes the hub verify."""
_CHALLENGES_PER_SOURCE = RateLimitItemPerMinute(60, 5, namespace="challenge")
"""Nobody guesses a passkey or a state; this bounds those that are kept."""


Counted = tuple[RateLimitItem, tuple[str, ...]]


class Attempts:
    """Counts of this process, forgotten when it ends; and of all that use the database ``shared``."""

    def __init__(self, clock: Callable[[], datetime], shared: Database | None = None) -> None:
        self._clock = clock
        self._shared = shared
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, source: str, account: str, *, known_browser: str | None = None) -> None:
        """Count one try; raises ``Problem`` TOO_MANY_ATTEMPTS when it is one too many.

        ``known_browser``: what this account's browser is known by; only for one that is.
        """
        network, key = _network(source), name_key(account)[:64]
        counted: list[Counted] = [
            (_PER_SOURCE, (network,)),
            (_PER_PAIR, (network, key)),
            (_PER_ACCOUNT, (key,)),
        ]
        if known_browser is not None:
            counted = [(_PER_BROWSER, (known_browser,))]
        self._hit(counted)
        if self._shared is not None and not self._hit_everywhere(self._shared, counted):
            raise _too_many()

    def count_challenge(self, source: str) -> None:
        """Count one challenge for a passkey or an OpenID provider, in this process alone; raises as ``count``."""
        self._hit([(_CHALLENGES_PER_SOURCE, (_network(source),))])

    def count_code(self, source: str) -> None:
        """Count one use of an enrolment code, in this process alone; raises as ``count``."""
        if not self._limiter.hit(_CODES_PER_SOURCE, _network(source)):
            raise Problem(
                Code.TOO_MANY_ATTEMPTS,
                "Too many codes were tried from here. Wait five minutes.",
                headers={"Retry-After": "300"},
            )

    def count_report(self, station: Station) -> None:
        """Count one report of a station; raises ``Problem`` TOO_MANY_ATTEMPTS for more than people can tap or issue cards."""
        issues = station.kind is StationKind.ISSUING
        if not self._limiter.hit(
            _REPORTS_PER_ISSUING_STATION if issues else _REPORTS_PER_STATION, station.id
        ):
            raise Problem(
                Code.TOO_MANY_ATTEMPTS, "This station reports too often.", headers={"Retry-After": "10"}
            )

    def forgive(self, source: str, account: str, *, known_browser: str | None = None) -> None:
        """Forget the tries at this account from this source: the last one was right."""
        limit, of = (
            (_PER_PAIR, (_network(source), name_key(account)[:64]))
            if known_browser is None
            else (_PER_BROWSER, (known_browser,))
        )
        self._limiter.clear(limit, *of)
        if self._shared is not None:
            with self._shared.write() as connection:
                tries.forget(connection, _hash(limit, of))

    def _hit(self, counted: Iterable[Counted]) -> None:
        for limit, of in counted:
            if not self._limiter.hit(limit, *of):
                raise _too_many()

    def _hit_everywhere(self, shared: Database, counted: Iterable[Counted]) -> bool:
        """Count in the order that ``_hit`` has; False, and nothing from there on, for the first that is one too many."""
        now = self._clock()
        limits = {_hash(limit, of): limit.amount for limit, of in counted}
        with shared.write() as connection:
            tries.forget_before(connection, now - _WINDOW)
            found = tries.counts(connection, limits)
            full = [found.get(each, 0) >= amount for each, amount in limits.items()]
            free = list(limits)[: full.index(True) if any(full) else len(full)]
            if free:
                tries.add(connection, free, now)
        return not any(full)


def _too_many() -> Problem:
    return Problem(
        Code.TOO_MANY_ATTEMPTS,
        "Too many tries to sign in. Wait five minutes.",
        headers={"Retry-After": "300"},
    )


def _hash(limit: RateLimitItem, of: tuple[str, ...]) -> bytes:
    return digest("\n".join((limit.namespace, *of)))


def _network(source: str) -> str:
    """An IPv4 address, or the /64 that one IPv6 subscriber has."""
    try:
        address = ip_address(source)
    except ValueError:
        return "unknown"
    return str(address if address.version == 4 else ip_network((address, 64), strict=False))
