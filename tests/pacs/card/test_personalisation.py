from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.card import cvc, p256, personalisation, pkoc
from pacs.card.dialogue import get_response, run
from pacs.card.personalisation import Life, Stage
from pacs.errors import CardError, MalformedData, VerificationError
from pacs.reason import ReadFault, Reason
from simulator.card_issuing import Profile
from simulator.virtual_card import VirtualCard
from tests.pacs.card.bureau import HOST_CHALLENGE, MemoryBureau, linked
from tests.pacs.card.material import CARD_KEY, CHALLENGE, CREDENTIAL_ID, certificate, scripted, verifier


@pytest.mark.parametrize("size", [0, 300, 3000])
def test_blank_card_becomes_a_credential(size: int) -> None:
    """Key on the card, certificate of any length written, card locked: and a door reads it."""
    card = VirtualCard()
    claims = ((cvc.UUID_OID, bytes(CREDENTIAL_ID)), (b"\x2a", bytes(size)))
    bureau = MemoryBureau(certify=lambda key: certificate(public_key=key, extensions=claims))
    done = run(bureau.issue(), linked(card))
    assert (done.made.public_key, done.serial, done.resumed) == (card.public_key, card.serial, False)
    assert (card.life, bureau.voided) == (Life.LOCKED, [])
    assert bureau.stages == list(Stage)[:-1]
    card.reset()
    own = verifier()
    dialogue = pkoc.present(CHALLENGE, allow_v1=False, on_certificate=own.prefetch)
    assert own.verify(run(dialogue, linked(card))).credential_id == CREDENTIAL_ID


def test_blank_v1_card() -> None:
    """A V1 card makes its key, proves it and is locked; it has no certificate."""
    card = VirtualCard(profile=Profile.V1)
    done = run(MemoryBureau(certify=lambda _key: None).issue(certified=False), linked(card))
    assert (done.made.public_key, done.made.certificate) == (card.public_key, None)
    assert card.life is Life.LOCKED


@pytest.mark.parametrize("profile", Profile)
def test_an_issued_card_is_not_issued_again(profile: Profile) -> None:
    """Its own issuer is told 6985 once the card is out, and the card stays what it was."""
    raw = certificate().raw
    card = VirtualCard(profile=profile, key=CARD_KEY, certificate=raw, locked=True)
    with pytest.raises(CardError) as caught:
        run(MemoryBureau().issue(certified=profile is Profile.V2), linked(card))
    assert caught.value.status_word == 0x6985
    assert (card.key, card.certificate) == (CARD_KEY, raw)


@pytest.mark.parametrize("life", [Life.KEY_MADE, Life.LOCKED])
def test_a_card_that_is_reset_is_blank_stock_again(life: Life) -> None:
    """Its issuer destroys key and certificate, of an issued card too; then another can be put on it."""
    card, bureau = VirtualCard(), MemoryBureau()
    if life is Life.LOCKED:
        run(bureau.issue(), linked(card))
        bureau.open.clear()
    else:
        card.key = CARD_KEY
    before = card.public_key
    assert run(personalisation.reset(HOST_CHALLENGE, bureau), linked(card)).life is life
    assert (card.life, card.key, card.certificate) == (Life.BLANK, None, b"")
    again = run(bureau.issue(), linked(card))
    assert (again.serial, again.made.public_key != before) == (card.serial, True)


def test_card_that_lacks_its_key_gets_no_certificate() -> None:
    """A card that cannot prove the key it gave is not certified."""

    class Liar(VirtualCard):
        variant = "liar"

        def sign(self, message: bytes) -> bytes:
            return p256.sign(CARD_KEY, message)

    for certified in (True, False):
        bureau = MemoryBureau()
        with pytest.raises(VerificationError) as caught:
            run(bureau.issue(certified=certified), linked(Liar()))
        assert caught.value.reason is Reason.SIGNATURE_INVALID
        assert bureau.certified == []
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
        run(MemoryBureau().issue(), linked(card))
    assert (caught.value.fault, card.locked) == (ReadFault.ANSWER_MALFORMED, False)
    VirtualCard.variants.pop("keeper")


def test_a_certificate_that_stands_on_a_card_is_void_before_another_is_made() -> None:
    """What another desk certified and did not finish is voided here: its key ends with the next one."""
    card, first, second = VirtualCard(), MemoryBureau(), MemoryBureau()
    torn = get_response(
        lambda command, _meanwhile: card.answer(command) if command[1] != 0x44 else b"\x6f\x00"
    )
    with pytest.raises(CardError):
        run(first.issue(), torn)
    assert card.life is Life.CERTIFIED
    done = run(second.issue(), linked(card))
    assert second.voided == first.certified
    assert done.made == second.certified[0]


def test_inspect() -> None:
    """Anybody may read the certificate, and see that there is none."""
    card = VirtualCard(key=CARD_KEY, certificate=certificate().raw, locked=True)
    assert run(personalisation.inspect(), linked(card)) == card.certificate
    assert run(personalisation.inspect(), linked(VirtualCard())) is None
    assert run(personalisation.inspect(), linked(VirtualCard(profile=Profile.V1))) is None
    with pytest.raises(CardError):
        run(personalisation.inspect(), scripted([b"\x6a\x82"]))


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=150),
            st.just(b"\x5c\x02\x01\x00\x90\x00"),
            st.just(b"\x90\x00"),
            st.binary(min_size=29, max_size=29).map(
                lambda noise: noise[:11] + b"\x03" + noise[12:] + b"\x90\x00"
            ),
            st.sampled_from(Life).map(
                lambda life: (
                    bytes.fromhex(f"E3139F7001{life:02X}C1010ACF0A") + b"SIM0" + bytes(6) + b"\x90\x00"
                )
            ),
        ),
        max_size=6,
    )
)
def test_any_bytes_from_a_card(answers: list[bytes]) -> None:
    """Whatever a card sends, personalising it ends in an error of the card's, and certifies nothing."""
    for certified in (True, False):
        bureau = MemoryBureau()
        with pytest.raises((CardError, VerificationError, MalformedData)):
            run(bureau.issue(certified=certified), get_response(scripted(answers)))
        assert bureau.certified == []
