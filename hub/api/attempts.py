"""How often somebody may try to sign in, and a station report.

A stranger's tries are counted per source and account, per source, and per account from all sources together. A
browser from which the account's owner signed in before is not a stranger: its tries are counted by themselves, so
nobody keeps a guard out by guessing at the guard's name, from the next desk or from a thousand addresses.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from hub.api.problems import Code, Problem
from hub.operators import name_key
from pacs.identifiers import StationId

_PER_BROWSER = RateLimitItemPerMinute(10, 5, namespace="browser")
_PER_PAIR = RateLimitItemPerMinute(5, 5, namespace="pair")
_PER_SOURCE = RateLimitItemPerMinute(30, 5, namespace="source")
_PER_ACCOUNT = RateLimitItemPerMinute(20, 5, namespace="account")
_REPORTS_PER_STATION = RateLimitItemPerMinute(120, 1, namespace="station")
_CHALLENGES_PER_SOURCE = RateLimitItemPerMinute(60, 5, namespace="challenge")
"""Nobody guesses a passkey or a state; this bounds those that are kept."""


class Attempts:
    """Counts of this process; forgotten when it ends."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, source: str, account: str, *, known_browser: str | None = None) -> None:
        """Count one try; raises ``Problem`` TOO_MANY_ATTEMPTS when it is one too many.

        ``known_browser``: what this account's browser is known by; only for one that is.
        """
        network, key = _network(source), name_key(account)[:64]
        if known_browser is not None:
            self._hit((_PER_BROWSER, known_browser))
        else:
            self._hit((_PER_SOURCE, network), (_PER_PAIR, network, key), (_PER_ACCOUNT, key))

    def count_challenge(self, source: str) -> None:
        """Count one challenge for a passkey or an OpenID provider; raises as ``count``."""
        self._hit((_CHALLENGES_PER_SOURCE, _network(source)))

    def count_report(self, station_id: StationId) -> None:
        """Count one report of a station; raises ``Problem`` TOO_MANY_ATTEMPTS for more than people can tap cards."""
        if not self._limiter.hit(_REPORTS_PER_STATION, station_id):
            raise Problem(
                Code.TOO_MANY_ATTEMPTS, "This station reports too often.", headers={"Retry-After": "10"}
            )

    def forgive(self, source: str, account: str, *, known_browser: str | None = None) -> None:
        """Forget the tries at this account from this source: the last one was right."""
        if known_browser is not None:
            self._limiter.clear(_PER_BROWSER, known_browser)
        else:
            self._limiter.clear(_PER_PAIR, _network(source), name_key(account)[:64])

    def _hit(self, *counted: tuple[RateLimitItem | str, ...]) -> None:
        for limit, *of in counted:
            if not self._limiter.hit(limit, *of):  # type: ignore[arg-type]  # the first of each is the limit
                raise Problem(
                    Code.TOO_MANY_ATTEMPTS,
                    "Too many tries to sign in. Wait five minutes.",
                    headers={"Retry-After": "300"},
                )


def _network(source: str) -> str:
    """An IPv4 address, or the /64 that one IPv6 subscriber has."""
    try:
        address = ip_address(source)
    except ValueError:
        return "unknown"
    return str(address if address.version == 4 else ip_network((address, 64), strict=False))
