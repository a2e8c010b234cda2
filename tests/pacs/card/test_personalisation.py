from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.card import cvc, p256, personalisation, pkoc
from pacs.card.dialogue import Transceive, command_chaining, get_response, run
from pacs.card.tlv import Tlv
from pacs.errors import CardError, VerificationError
from pacs.reason import ReadFault, Reason
from simulator.virtual_card import Profile, VirtualCard
from tests.pacs.card.material import CARD_KEY, CHALLENGE, CREDENTIAL_ID, certificate, scripted, verifier


def _link(card: VirtualCard) -> Transceive:
    def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        meanwhile()
        return card.answer(command)

    return get_response(command_chaining(transceive))


def _certify(public_key: bytes, **changes: Any) -> cvc.Certificate:
    return certificate(public_key=public_key, **changes)


@pytest.mark.parametrize("size", [0, 300, 3000])
def test_blank_card_becomes_a_credential(size: int) -> None:
    """Key on the card, certificate of any length written, card locked: and a door reads it."""
    card = VirtualCard()
    claims = ((cvc.UUID_OID, bytes(CREDENTIAL_ID)), (b"\x2a", bytes(size)))
    done = run(
        personalisation.personalise(CHALLENGE, lambda key: _certify(key, extensions=claims)), _link(card)
    )
    assert (done.public_key, card.locked) == (card.public_key, True)
    assert done.certificate is not None
    card.reset()
    own = verifier()
    dialogue = pkoc.present(CHALLENGE, allow_v1=False, on_certificate=own.prefetch)
    assert own.verify(run(dialogue, _link(card))).credential_id == CREDENTIAL_ID


def test_blank_v1_card() -> None:
    """A V1 card makes its key, proves it and is locked; it has no certificate."""
    card = VirtualCard(profile=Profile.V1)
    done = run(personalisation.personalise_v1(CHALLENGE), _link(card))
    assert (done.public_key, done.certificate, card.locked) == (card.public_key, None, True)


@pytest.mark.parametrize("profile", Profile)
def test_locked_card_refuses(profile: Profile) -> None:
    """A locked card makes no key: 6985, and it stays what it was."""
    raw = certificate().raw
    card = VirtualCard(profile=profile, key=CARD_KEY, certificate=raw, locked=True)
    issue = (
        personalisation.personalise(CHALLENGE, _certify)
        if profile is Profile.V2
        else personalisation.personalise_v1(CHALLENGE)
    )
    with pytest.raises(CardError) as caught:
        run(issue, _link(card))
    assert caught.value.status_word == 0x6985
    assert (card.key, card.certificate) == (CARD_KEY, raw)


def test_card_that_lacks_its_key_gets_no_certificate() -> None:
    """A card that cannot prove the key it gave is not certified."""

    class Liar(VirtualCard):
        variant = "liar"

        def sign(self, message: bytes) -> bytes:
            return p256.sign(CARD_KEY, message)

    asked: list[bytes] = []

    def certify(key: bytes) -> cvc.Certificate:
        asked.append(key)
        return _certify(key)

    for issue in (personalisation.personalise(CHALLENGE, certify), personalisation.personalise_v1(CHALLENGE)):
        with pytest.raises(VerificationError) as caught:
            run(issue, _link(Liar()))
        assert caught.value.reason is Reason.SIGNATURE_INVALID
    assert asked == []
    VirtualCard.variants.pop("liar")


def test_card_that_keeps_another_certificate() -> None:
    """What is read back must be what was written, or the card is not locked."""
    other = certificate().raw

    class Keeper(VirtualCard):
        variant = "keeper"

        def answer(self, command: bytes) -> bytes:
            answer = super().answer(command)
            self.certificate = other if self.certificate else b""
            return answer

    card = Keeper()
    with pytest.raises(CardError) as caught:
        run(personalisation.personalise(CHALLENGE, _certify), _link(card))
    assert (caught.value.fault, card.locked) == (ReadFault.ANSWER_MALFORMED, False)
    VirtualCard.variants.pop("keeper")


def test_inspect() -> None:
    """Anybody may read the certificate, and see that there is none."""
    card = VirtualCard(key=CARD_KEY, certificate=certificate().raw, locked=True)
    assert run(personalisation.inspect(), _link(card)) == card.certificate
    assert run(personalisation.inspect(), _link(VirtualCard())) is None
    assert run(personalisation.inspect(), _link(VirtualCard(profile=Profile.V1))) is None
    with pytest.raises(CardError):
        run(personalisation.inspect(), scripted([b"\x6a\x82"]))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x7f\x49\x00",
        Tlv.build(0x86, bytes(65)).raw,
        Tlv.build(0x7F49, [Tlv.build(0x86, b"\x04" + bytes(64))]).raw,
    ],
)
def test_malformed_keys(answer: bytes) -> None:
    """A key that is no point of the curve is not certified."""
    script = scripted([b"\x5c\x02\x01\x00\x90\x00", answer + b"\x90\x00"])
    with pytest.raises(CardError) as caught:
        run(personalisation.personalise(CHALLENGE, _certify), script)
    assert caught.value.fault is ReadFault.ANSWER_MALFORMED


@given(
    st.lists(
        st.one_of(st.binary(max_size=150), st.just(b"\x5c\x02\x01\x00\x90\x00"), st.just(b"\x90\x00")),
        max_size=6,
    )
)
def test_any_bytes_from_a_card(answers: list[bytes]) -> None:
    """Whatever a card sends, personalising it ends in CardError or VerificationError."""
    for issue in (
        personalisation.personalise(CHALLENGE, _certify),
        personalisation.personalise_v1(CHALLENGE),
    ):
        with pytest.raises((CardError, VerificationError)):
            run(issue, get_response(scripted(answers)))
