"""The link's states and their words; the allowance that keeps a flood away."""

from __future__ import annotations

import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.allowance import Allowance
from edge.link_state import NEXT_STEPS, LinkCause, LinkLog, LinkPhase, Stalled, cause_of
from pacs.errors import StoreError


def test_every_cause_has_its_next_step() -> None:
    """Nobody reads a cause without what to do about it."""
    assert set(NEXT_STEPS) == set(LinkCause)


def _verification(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code = code
    return error


def _alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError("alert")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (_verification(9), LinkCause.CLOCK_BEHIND),
        (_verification(10), LinkCause.CERTIFICATE_EXPIRED),
        (_verification(20), LinkCause.OTHER_AUTHORITY),
        (_verification(62), LinkCause.OTHER_NAME),
        (_verification(1), LinkCause.TLS_FAILED),
        (ssl.SSLError("bad record"), LinkCause.TLS_FAILED),
        (_alert("SSLV3_ALERT_CERTIFICATE_EXPIRED"), LinkCause.CERTIFICATE_REFUSED),
        (_alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"), LinkCause.CERTIFICATE_REFUSED),
        (_alert("TLSV1_ALERT_UNKNOWN_CA"), LinkCause.CERTIFICATE_REFUSED),
        (_alert("TLSV1_ALERT_PROTOCOL_VERSION"), LinkCause.TLS_FAILED),
        (Stalled(), LinkCause.STALLED),
        (TimeoutError(), LinkCause.TIMED_OUT),
        (ConnectionRefusedError(), LinkCause.NOBODY_LISTENS),
        (socket.gaierror(-2, "unknown"), LinkCause.NAME_UNKNOWN),
        (OSError("no route"), LinkCause.UNREACHABLE),
        (StoreError("keys"), LinkCause.KEYS_UNREADABLE),
        (RuntimeError("a bug"), LinkCause.INTERNAL_FAULT),
    ],
)
def test_each_failure_has_its_name(error: Exception, cause: LinkCause) -> None:
    """What an attempt fails with is one of a closed set."""
    assert cause_of(error) is cause


def test_the_walk_of_a_link() -> None:
    """A failure is remembered with its words until the hub has answered, and no longer."""
    log = LinkLog()
    assert log.state.phase is LinkPhase.STARTING
    log.connecting()
    log.ended(LinkCause.NOBODY_LISTENS, "refused" * 100)
    log.waiting(5.0)
    waiting = log.state
    assert (waiting.phase, waiting.failures, waiting.cause) == (
        LinkPhase.WAITING,
        1,
        LinkCause.NOBODY_LISTENS,
    )
    assert waiting.next_attempt_s == pytest.approx(waiting.since_s + 5.0, abs=1.0)
    assert waiting.words.startswith(NEXT_STEPS[LinkCause.NOBODY_LISTENS])
    assert len(waiting.error) == 200
    log.connecting()
    log.online()
    assert (log.state.phase, log.state.answered, log.state.next_attempt_s) == (LinkPhase.ONLINE, False, None)
    assert log.state.cause is LinkCause.NOBODY_LISTENS
    log.answered()
    assert (log.state.answered, log.state.failures, log.state.words) == (True, 0, "")
    log.stopped()
    assert (log.state.phase, log.state.answered) == (LinkPhase.STOPPED, False)


@given(
    gaps=st.lists(st.floats(min_value=0, max_value=10), max_size=60),
    burst=st.integers(1, 20),
    per_s=st.floats(min_value=0.1, max_value=50),
)
def test_no_more_than_is_allowed(gaps: list[float], burst: int, per_s: float) -> None:
    """Over any time, at most the burst and what has grown since; after a long rest, the whole burst again."""
    allowance, now_s, taken = Allowance(burst=burst, per_s=per_s), 100.0, 0
    for gap in gaps:
        now_s += gap
        taken += allowance.take(now_s)
        assert taken <= burst + (now_s - 100.0) * per_s + 1e-6
    rested = now_s + burst / per_s + 1.0
    assert [allowance.take(rested) for _ in range(burst + 1)] == [True] * burst + [False]
