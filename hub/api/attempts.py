"""How often somebody may try to sign in.

Tries are counted per source and account and per source alone, never per account alone: nobody can keep
a guard out by guessing at the guard's name from elsewhere.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from hub.api.problems import Code, Problem
from hub.operators import name_key

_PER_ACCOUNT = RateLimitItemPerMinute(5, 5, namespace="account")
_PER_SOURCE = RateLimitItemPerMinute(30, 5, namespace="source")


class Attempts:
    """Counts of this process; forgotten when it ends."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, source: str, account: str) -> None:
        """Count one try; raises ``Problem`` TOO_MANY_ATTEMPTS when it is one too many."""
        network, key = _network(source), name_key(account)[:64]
        allowed = self._limiter.hit(_PER_SOURCE, network) and self._limiter.hit(_PER_ACCOUNT, network, key)
        if not allowed:
            raise Problem(
                Code.TOO_MANY_ATTEMPTS,
                "Too many tries to sign in from here. Wait five minutes.",
                headers={"Retry-After": "300"},
            )

    def forgive(self, source: str, account: str) -> None:
        """Forget the tries at this account from this source: the last one was right."""
        self._limiter.clear(_PER_ACCOUNT, _network(source), name_key(account)[:64])


def _network(source: str) -> str:
    """An IPv4 address, or the /64 that one IPv6 subscriber has."""
    try:
        address = ip_address(source)
    except ValueError:
        return "unknown"
    return str(address if address.version == 4 else ip_network((address, 64), strict=False))
