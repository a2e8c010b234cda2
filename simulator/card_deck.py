"""Every kind of card an attacker or an accident holds to a reader, by name.

``deal`` makes one from a genuine issuer; what a correct reader says about it stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from pacs.identifiers import CredentialId
from pacs.reason import ReadFault, Reason
from simulator.card_issuing import CURVE
from simulator.virtual_card import (
    SIGNING_MS,
    GarbageCard,
    ReplayingCard,
    VirtualCard,
    new_v1_card,
    new_v2_card,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a genuine V2 card is made of; ``today`` is the day the odd dates are counted from."""

    issuer_key: ec.EllipticCurvePrivateKey
    issuer: str
    credential_id: CredentialId
    valid_from: date
    valid_until: date
    today: date
    signing_ms: float = SIGNING_MS


def _genuine(recipe: Recipe) -> VirtualCard:
    return new_v2_card(
        issuer_key=recipe.issuer_key,
        issuer=recipe.issuer,
        credential_id=recipe.credential_id,
        valid_from=recipe.valid_from,
        valid_until=recipe.valid_until,
        signing_ms=recipe.signing_ms,
    )


def _forged(recipe: Recipe) -> VirtualCard:
    """Names the genuine issuer; signed by somebody else."""
    return _genuine(replace(recipe, issuer_key=ec.generate_private_key(CURVE)))


def _unknown_issuer(recipe: Recipe) -> VirtualCard:
    """Correctly signed by an issuer nobody trusts."""
    return _forged(replace(recipe, issuer="UNKNOWN000000000"))


def _cloned(recipe: Recipe) -> VirtualCard:
    """A copied certificate on a chip with a key of its own."""
    card = _genuine(recipe)
    card.key = ec.generate_private_key(CURVE)
    return card


def _replaying(recipe: Recipe) -> VirtualCard:
    return ReplayingCard.restore(_genuine(recipe).state() | {"recorded": ""})


def _garbage(recipe: Recipe, genuine_answers: int) -> VirtualCard:
    return GarbageCard.restore(_genuine(recipe).state() | {"genuine_answers": genuine_answers})


def _expired(recipe: Recipe) -> VirtualCard:
    """Ended yesterday."""
    end = recipe.today - timedelta(days=1)
    return _genuine(replace(recipe, valid_from=end - timedelta(days=365), valid_until=end))


def _not_yet_valid(recipe: Recipe) -> VirtualCard:
    """Begins tomorrow."""
    start = recipe.today + timedelta(days=1)
    return _genuine(replace(recipe, valid_from=start, valid_until=start + timedelta(days=365)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How to make one kind, and what verifying it ends in; None: verified.

    ``expected`` of the replaying card is that of its second presentation to one reader.
    """

    make: Callable[[Recipe], VirtualCard]
    expected: Reason | ReadFault | None


DECK: Final = MappingProxyType(
    {
        "genuine": Entry(make=_genuine, expected=None),
        "v1": Entry(make=lambda recipe: new_v1_card(signing_ms=recipe.signing_ms), expected=None),
        "blank": Entry(make=lambda _recipe: VirtualCard(), expected=ReadFault.TECHNOLOGY_UNSUPPORTED),
        "forged": Entry(make=_forged, expected=Reason.CERTIFICATE_FORGED),
        "unknown-issuer": Entry(make=_unknown_issuer, expected=Reason.ISSUER_UNKNOWN),
        "cloned": Entry(make=_cloned, expected=Reason.SIGNATURE_INVALID),
        "replaying": Entry(make=_replaying, expected=Reason.ANSWER_REPLAYED),
        "expired": Entry(make=_expired, expected=Reason.CERTIFICATE_EXPIRED),
        "not-yet-valid": Entry(make=_not_yet_valid, expected=Reason.CERTIFICATE_NOT_YET_VALID),
        "garbage": Entry(make=lambda recipe: _garbage(recipe, 0), expected=ReadFault.ANSWER_MALFORMED),
        "garbage-certificate": Entry(
            make=lambda recipe: _garbage(recipe, 1), expected=ReadFault.ANSWER_MALFORMED
        ),
        "garbage-signature": Entry(
            make=lambda recipe: _garbage(recipe, 2), expected=ReadFault.ANSWER_MALFORMED
        ),
    }
)


def deal(name: str, recipe: Recipe) -> VirtualCard:
    """One card of a kind in ``DECK``. Raises ``KeyError``."""
    return DECK[name].make(recipe)
