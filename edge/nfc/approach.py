"""One card's stay in the field, and what tells it from the next card's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from edge.inputs import CardPresented, CardRefused
from edge.nfc.transaction import Contact

Outcome: TypeAlias = CardPresented | CardRefused

_RANDOM_UID: Final = 0x08  # first byte of a 4-byte UID drawn anew at each power-up (ISO/IEC 14443-3 §6.5.4)


@dataclass(slots=True, kw_only=True)
class Approach:
    """One card's stay in the field.

    ``settled``: nothing more is to be read from it. ``held``: it was read and is watched until it leaves.
    ``concealed``: it vanished, and may be back at once. ``outcome``: what was put. ``repeats``: how often
    a card that may be it was read again.
    """

    identity: bytes
    seen_ns: int
    attempts: int = 0
    settled: bool = False
    reported: bool = False
    concealed: bool = False
    held: Contact | None = None
    outcome: Outcome | None = None
    repeats: int = 0

    def is_of(self, identity: bytes) -> bool:
        """Whether it can be this card: one with a random UID shows another after each reset."""
        return identity == self.identity or (_is_random(identity) and _is_random(self.identity))

    def is_another(self, outcome: Outcome) -> bool:
        """Whether ``outcome`` is about another card than the one this approach is about."""
        return _who(outcome) != (self.outcome and _who(self.outcome))


def _who(outcome: Outcome) -> tuple[object, ...]:
    """What tells two cards of random UIDs apart: what they proved, or why they did not."""
    if isinstance(outcome, CardPresented):
        return (outcome.credential.credential_id,)
    return (outcome.credential_id, outcome.reason)


def _is_random(identity: bytes) -> bool:
    return len(identity) == 4 and identity[0] == _RANDOM_UID
