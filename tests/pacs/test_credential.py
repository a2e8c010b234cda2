from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from pacs import credential as module
from pacs.card import cvc, p256
from pacs.credential import Presentation, Technology, VerifiedCredential, check_dates
from pacs.errors import VerificationError
from pacs.identifiers import CredentialId
from pacs.reason import Reason
from tests.pacs.card.material import (
    CARD_KEY,
    CHALLENGE,
    CREDENTIAL_ID,
    ISSUER,
    TRUST,
    VECTORS,
    certificate,
    verifier,
)

POINT = p256.encode_point(CARD_KEY.public_key())
MESSAGE = bytes(CHALLENGE)


def _present(
    raw: bytes | None = None, *, key: ec.EllipticCurvePrivateKey = CARD_KEY, message: bytes = MESSAGE
) -> Presentation:
    return Presentation(
        technology=Technology.PKOC_V2,
        message=message,
        signature=p256.sign(key, message),
        certificate=certificate().raw if raw is None else raw,
    )


def _present_v1(**changes: Any) -> Presentation:
    message = CHALLENGE.transaction_identifier
    genuine = Presentation(
        technology=Technology.PKOC_V1,
        message=message,
        signature=p256.sign(CARD_KEY, message),
        public_key=POINT,
    )
    return replace(genuine, **changes)


def _reason(check: Callable[[], object]) -> Reason:
    with pytest.raises(VerificationError) as caught:
        check()
    return caught.value.reason


@pytest.mark.parametrize("prefetched", [False, True])
def test_genuine(prefetched: bool) -> None:
    """A genuine presentation gives the certified credential, prefetched or not."""
    own, presentation = verifier(), _present()
    if prefetched:
        own.prefetch(presentation.certificate)
    assert own.verify(presentation) == VerifiedCredential(
        credential_id=CREDENTIAL_ID,
        technology=Technology.PKOC_V2,
        issuer=ISSUER,
        valid_from=date(2027, 1, 1),
        valid_until=date(2028, 12, 31),
    )


OTHER_KEY = ec.derive_private_key(0x0DD, ec.SECP256R1())
REFUSED: dict[str, tuple[Callable[[], Presentation], Reason]] = {
    "forged": (lambda: _present(certificate(issuer_key=OTHER_KEY).raw), Reason.CERTIFICATE_FORGED),
    "unknown issuer": (lambda: _present(certificate(issuer="SOMEBODYELSE0000").raw), Reason.ISSUER_UNKNOWN),
    "cloned": (lambda: _present(key=OTHER_KEY), Reason.SIGNATURE_INVALID),
    "other challenge": (lambda: replace(_present(), message=bytes(32)), Reason.SIGNATURE_INVALID),
    "r of zero": (lambda: replace(_present(), signature=bytes(64)), Reason.SIGNATURE_INVALID),
    "signature of 63": (lambda: replace(_present(), signature=bytes(63)), Reason.SIGNATURE_INVALID),
    "no UUID": (lambda: _present(certificate(extensions=()).raw), Reason.CERTIFICATE_UNSUPPORTED),
    "draft": (
        lambda: _present(bytes.fromhex(VECTORS["pkpacs_cvc_draft_example"]["hex"])),
        Reason.CERTIFICATE_UNSUPPORTED,
    ),
    "empty": (lambda: _present(b""), Reason.CERTIFICATE_UNSUPPORTED),
    "V1 of another key": (
        lambda: _present_v1(signature=p256.sign(OTHER_KEY, MESSAGE[:16])),
        Reason.SIGNATURE_INVALID,
    ),
    "V1 signs the reader too": (
        lambda: _present_v1(signature=p256.sign(CARD_KEY, MESSAGE[:16] + CHALLENGE.reader_identifier)),
        Reason.SIGNATURE_INVALID,
    ),
    "V1 off the curve": (
        lambda: _present_v1(public_key=POINT[:-1] + bytes([POINT[-1] ^ 1])),
        Reason.SIGNATURE_INVALID,
    ),
    "V1 without key": (lambda: _present_v1(public_key=b""), Reason.SIGNATURE_INVALID),
}


@pytest.mark.parametrize("prefetched", [False, True])
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused(name: str, prefetched: bool) -> None:
    """Each attack has its reason, the same with and without prefetching, and again the second time."""
    make, reason = REFUSED[name]
    own, presentation = verifier(), make()
    if prefetched:
        own.prefetch(presentation.certificate)
    assert _reason(lambda: own.verify(presentation)) is reason
    assert _reason(lambda: own.verify(presentation)) is reason


def test_v1() -> None:
    """A V1 presentation gives the x coordinate and neither issuer nor dates."""
    assert verifier().verify(_present_v1()) == VerifiedCredential(
        credential_id=CredentialId(POINT[1:33]), technology=Technology.PKOC_V1
    )


@pytest.mark.parametrize("first", [_present(), _present_v1()])
def test_replay_is_named(first: Presentation) -> None:
    """A signature that was accepted once is a replay when it comes for another challenge."""
    own = verifier()
    own.verify(first)
    replayed = replace(first, message=first.message[::-1])
    assert _reason(lambda: own.verify(replayed)) is Reason.ANSWER_REPLAYED
    assert _reason(lambda: verifier().verify(replayed)) is Reason.SIGNATURE_INVALID


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old signatures and certificates are forgotten; a forgotten replay is still refused."""
    monkeypatch.setattr(module, "REMEMBERED_SIGNATURES", 2)
    monkeypatch.setattr(module, "CACHED_CERTIFICATES", 2)
    own = verifier()
    taps = [_present(certificate(subject=bytes([48 + n]) * 16).raw) for n in range(4)]
    for tap in taps:
        own.verify(tap)
    assert (len(own._accepted), len(own._certified)) == (2, 2)
    assert _reason(lambda: own.verify(replace(taps[0], message=bytes(32)))) is Reason.SIGNATURE_INVALID
    assert _reason(lambda: own.verify(replace(taps[3], message=bytes(32)))) is Reason.ANSWER_REPLAYED


def test_certificate_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first tap, or the prefetch, a tap costs one signature verification."""
    calls: list[bytes] = []
    real = p256.verify

    def counted(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes, reason: Reason) -> None:
        calls.append(signature)
        real(key, signature, message, reason)

    monkeypatch.setattr(p256, "verify", counted)
    own, presentation = verifier(), _present()
    own.prefetch(presentation.certificate)
    assert len(calls) == 1
    own.verify(presentation)
    own.prefetch(presentation.certificate)
    own.verify(presentation)
    assert calls[1:] == [presentation.signature] * 2


def test_cached_certificate_is_matched_by_exact_bytes() -> None:
    """A cached certificate vouches for no other bytes."""
    own, presentation = verifier(), _present()
    own.verify(presentation)
    changed = presentation.certificate[:-1] + bytes([presentation.certificate[-1] ^ 1])
    assert (
        _reason(lambda: own.verify(replace(presentation, certificate=changed))) is Reason.CERTIFICATE_FORGED
    )


def test_claimed() -> None:
    """A clone is reported under the name of the card it copies; an unproven certificate names nobody."""
    own = verifier()
    assert own.claimed(_present(key=OTHER_KEY)) == CREDENTIAL_ID
    assert own.claimed(_present(certificate(issuer_key=OTHER_KEY).raw)) is None
    assert own.claimed(_present_v1()) is None


def test_other_trust() -> None:
    """Other trust anchors verify every certificate anew, and a replay is still known as one."""
    own, presentation = verifier(), _present()
    own.verify(presentation)
    replayed = replace(presentation, message=bytes(32))
    assert own.with_trust(replace(TRUST, issuers=dict(TRUST.issuers))) is own
    without = own.with_trust(replace(TRUST, issuers={}))
    assert _reason(lambda: without.verify(presentation)) is Reason.ISSUER_UNKNOWN
    again = without.with_trust(TRUST)
    assert _reason(lambda: again.verify(replayed)) is Reason.ANSWER_REPLAYED


@given(raw=st.binary(max_size=300), signature=st.binary(max_size=70), technology=st.sampled_from(Technology))
def test_any_bytes(raw: bytes, signature: bytes, technology: Technology) -> None:
    """Arbitrary certificates, keys and signatures raise VerificationError only."""
    presentation = Presentation(
        technology=technology, message=MESSAGE, signature=signature, certificate=raw, public_key=raw[:65]
    )
    own = verifier()
    own.prefetch(raw)
    with pytest.raises(VerificationError):
        own.verify(presentation)


@pytest.mark.parametrize(
    ("day", "reason"),
    [
        (date(2026, 12, 31), Reason.CERTIFICATE_NOT_YET_VALID),
        (date(2027, 1, 1), None),
        (date(2028, 12, 31), None),
        (date(2029, 1, 1), Reason.CERTIFICATE_EXPIRED),
    ],
)
def test_dates_are_inclusive(day: date, reason: Reason | None) -> None:
    """The first and the last day count; the days around them do not."""
    read = verifier().verify(_present())
    if reason is None:
        check_dates(read, day)
    else:
        assert _reason(lambda: check_dates(read, day)) is reason


@given(st.dates())
def test_without_dates(day: date) -> None:
    """A V1 credential has no dates to be outside of."""
    check_dates(verifier().verify(_present_v1()), day)


@given(
    start=st.dates(date(2000, 1, 1), date(2098, 12, 31)),
    length=st.integers(0, 300),
    offset=st.integers(-400, 400),
)
def test_dates_property(start: date, length: int, offset: int) -> None:
    """``check_dates`` passes exactly on the days from first to last."""
    end = start + timedelta(days=length)
    held = VerifiedCredential(
        credential_id=CREDENTIAL_ID,
        technology=Technology.PKOC_V2,
        issuer=ISSUER,
        valid_from=start,
        valid_until=end,
    )
    day = start + timedelta(days=offset)
    if 0 <= offset <= length:
        check_dates(held, day)
    else:
        expected = Reason.CERTIFICATE_EXPIRED if offset > 0 else Reason.CERTIFICATE_NOT_YET_VALID
        assert _reason(lambda: check_dates(held, day)) is expected


def test_uuid_extension_is_the_credential() -> None:
    """The credential id comes from the UUID extension, not from key or subject."""
    other = CredentialId.parse("00000000-0000-0000-0000-000000000001")
    raw = certificate(extensions=((cvc.UUID_OID, bytes(other)),)).raw
    assert verifier().verify(_present(raw)).credential_id == other
