"""What a reader does while a card signs: it goes through what follows the answer, with a card and a key of its own.

A processor that slept for the time of a signature takes two to three times as long for the same work. Nothing of
a rehearsal is kept, and it says nothing about the card in the field.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from edge.nfc.iso_dep import Ats, IsoDep
from pacs.card import p256, pkoc, tlv
from pacs.card.dialogue import Exchange, get_response, observed, run
from pacs.reason import Reason

TIMES: Final = 60
"""The most for one card: enough for one that signs within 80 ms; a card cannot keep the reader busy."""
PAUSE_S: Final = 0.001
LOAD: Final = 3
"""The pause is at least this many times as long as a rehearsal takes: a quarter of one processor at most."""

_MESSAGE: Final = bytes(32)
_ATS: Final = Ats(frame_bytes=256, frame_wait_us=77_329, guard_us=0, declared=True)
_FOREVER_NS: Final = 1 << 62


class Rehearsal:
    """From the last block of an answer to the verified signature. ``clock_ns`` is the reader's."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        self._key = key.public_key()
        self._answer = tlv.Tlv.build(pkoc.TAG_SIGNATURE, p256.sign(key, _MESSAGE)).raw + b"\x90\x00"
        self._clock_ns = clock_ns
        self._card = IsoDep(self._answer_at_once, _ATS, clock_ns=clock_ns, deadline_ns=_FOREVER_NS)

    def of(self, claim: Callable[[], None]) -> Callable[[], float | None]:
        """What to do while one card signs (``Contact.while_waiting``); each time begins with ``claim``."""
        left = TIMES

        def once() -> float | None:
            nonlocal left
            left -= 1
            begun_ns = self._clock_ns()
            claim()
            self._go_through()
            taken_s = (self._clock_ns() - begun_ns) / 1e9
            return max(PAUSE_S, LOAD * taken_s) if left else None

        return once

    def _go_through(self) -> None:
        transceive = observed(self._card.transceive, self._ended, self._clock_ns)
        signature = run(pkoc.internal_authenticate(_MESSAGE), get_response(transceive))
        p256.verify(self._key, signature, _MESSAGE, Reason.SIGNATURE_INVALID)

    def _ended(self, _exchange: Exchange) -> None:
        self._clock_ns()

    def _answer_at_once(self, block: bytes, **_: object) -> bytes:
        """``iso_dep.Link``."""
        return block[:1] + self._answer
