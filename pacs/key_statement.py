"""The key statement: what the root says of the keys that its sites go by.

It names the policy keys whose documents and commands are believed, those that were and no longer sign anything new, and
the card issuers a policy may trust. The root signs it (ES256), its version only rises, and it travels with every signed
document, so that a controller that was away while keys changed can follow all the same.

Format 1: a map of small integers under the envelope of ``pacs.envelope``; the signer is the root's key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pacs import cbor, envelope
from pacs.card import p256
from pacs.card.cvc import check_issuer
from pacs.cbor import Fields, milliseconds
from pacs.envelope import ES256, Sealed, trusted_keys
from pacs.errors import MalformedData, VerificationError
from pacs.reason import Reason
from pacs.root_change import RootChange

MEDIA_TYPE: Final = "application/drempel-keys+cbor"
FORMAT: Final = 1
MAX_STATEMENT_BYTES: Final = 8_192
POLICY_KEY_BYTES: Final = 32
_MOST: Final = 16
"""Of each: policy keys, those that were, issuers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStatement:
    """Raises ``MalformedData`` when its parts do not belong together.

    It holds for every site of the root. ``version``: from 1. ``policy_keys``: raw Ed25519 public keys, the one to sign with last. ``retired_policy_keys``: what a door took while
    they were in use, and still has on its disk, it goes on believing. ``issuers``: issuer identification reference →
    65-byte P-256 point. ``root_change``: how the root that signs it follows another.
    """

    version: int
    issued_at: datetime
    policy_keys: tuple[bytes, ...]
    retired_policy_keys: tuple[bytes, ...] = ()
    issuers: Mapping[str, bytes] = field(default_factory=dict)
    root_change: RootChange | None = None

    def __post_init__(self) -> None:
        every = (*self.policy_keys, *self.retired_policy_keys)
        if not 1 <= self.version < 2**53:
            raise MalformedData("key statement: version out of range")
        if not self.policy_keys or len(every) > _MOST or len(self.issuers) > _MOST:
            raise MalformedData(
                f"key statement: 1 to {_MOST} policy keys and at most {_MOST} issuers expected"
            )
        if len(set(every)) != len(every) or any(len(key) != POLICY_KEY_BYTES for key in every):
            raise MalformedData("key statement: different keys of 32 bytes expected")
        for issuer, point in self.issuers.items():
            check_issuer(issuer)
            p256.parse_point(point)

    @property
    def accepted(self) -> Mapping[bytes, Ed25519PublicKey]:
        """Whose documents and commands are believed when they come, by key id."""
        return _keys(self.policy_keys)

    @property
    def kept(self) -> Mapping[bytes, Ed25519PublicKey]:
        """Whose are believed that were taken before and kept, by key id."""
        return _keys((*self.policy_keys, *self.retired_policy_keys))


def _keys(raw: tuple[bytes, ...]) -> Mapping[bytes, Ed25519PublicKey]:
    return trusted_keys(*map(Ed25519PublicKey.from_public_bytes, raw))


def root_id(root: EllipticCurvePublicKey) -> bytes:
    """The first 8 bytes of SHA-256 over the root's point; raises ``MalformedData`` for a key of another curve."""
    return hashlib.sha256(p256.encode_point(root)).digest()[:8]


def seal(statement: KeyStatement, root: EllipticCurvePublicKey, sign: Callable[[bytes], bytes]) -> bytes:
    """The signed statement; ``sign`` gives the root's signature, 64 bytes r‖s."""
    return envelope.seal_with(to_bytes(statement), MEDIA_TYPE, sign, signer=root_id(root), algorithm=ES256)


def open_statement(data: bytes, *roots: EllipticCurvePublicKey) -> KeyStatement:
    """Verify and read; raises ``MalformedData``, or ``VerificationError``: ``SIGNER_UNKNOWN``, ``SIGNATURE_INVALID``.

    It is by one of the ``roots``, or by one that follows one of them, as it says itself (``root_change``). Whether it is
    newer than another is the caller's matter.
    """
    return opened(data, roots)[0]


def opened(
    data: bytes, roots: Sequence[EllipticCurvePublicKey]
) -> tuple[KeyStatement, EllipticCurvePublicKey]:
    """As ``open_statement``, with the root that signed it."""
    if len(data) > MAX_STATEMENT_BYTES:
        raise MalformedData(f"key statement: at most {MAX_STATEMENT_BYTES} bytes expected")
    sealed = Sealed.read(data, MEDIA_TYPE, ES256)
    if sealed.statement:
        raise MalformedData("key statement: one inside the other")
    root = next((each for each in roots if root_id(each) == sealed.signer), None) or _successor(sealed, roots)
    p256.verify(root, sealed.signature, sealed.to_be_signed, Reason.SIGNATURE_INVALID)
    return from_bytes(sealed.unproven), root


def _successor(sealed: Sealed, roots: Sequence[EllipticCurvePublicKey]) -> EllipticCurvePublicKey:
    """The root that signed, when one of these says that it follows it."""
    change = from_bytes(sealed.unproven).root_change
    if change is None or root_id(change.key) != sealed.signer:
        raise VerificationError(Reason.SIGNER_UNKNOWN, "key statement: of another root")
    change.prove(roots)
    return change.key


def to_bytes(statement: KeyStatement) -> bytes:
    """The payload, before signing."""
    change = statement.root_change
    return cbor.encode(
        {
            0: FORMAT,
            1: statement.version,
            2: milliseconds(statement.issued_at),
            3: list(statement.policy_keys),
            4: list(statement.retired_policy_keys),
            5: dict(statement.issuers),
            **({6: [change.certificate, list(change.links), change.former_is_believed]} if change else {}),
        }
    )


def from_bytes(data: bytes) -> KeyStatement:
    """Read a payload; raises ``MalformedData``, also for a format this code does not know."""
    fields = Fields(cbor.decode(data, limit=MAX_STATEMENT_BYTES), "key statement")
    if fields.take(0, int) != FORMAT:
        raise MalformedData("key statement: format not known")
    statement = KeyStatement(
        version=fields.natural(1),
        issued_at=fields.moment(2),
        policy_keys=_raw_keys(fields.take(3, list)),
        retired_policy_keys=_raw_keys(fields.take(4, list)),
        issuers={
            cbor.exactly(issuer, str, "key statement issuer"): cbor.exactly(
                point, bytes, "key statement issuer"
            )
            for issuer, point in fields.take(5, dict).items()
        },
        root_change=_root_change(fields.maybe(6, list)),
    )
    fields.finish()
    return statement


def _root_change(values: list[object] | None) -> RootChange | None:
    if values is None:
        return None
    if len(values) != 3:
        raise MalformedData("key statement: a change of root has three parts")
    certificate, links, believed = values
    return RootChange(
        certificate=cbor.exactly(certificate, bytes, "change of root"),
        links=tuple(
            cbor.exactly(link, bytes, "change of root")
            for link in cbor.exactly(links, list, "change of root")
        ),
        former_is_believed=cbor.exactly(believed, bool, "change of root"),
    )


def _raw_keys(values: list[object]) -> tuple[bytes, ...]:
    return tuple(cbor.exactly(value, bytes, "key statement key") for value in values)
