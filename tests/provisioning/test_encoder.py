from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime

import pytest

from pacs.card.cvc import Certificate
from pacs.card.personalisation import Life
from pacs.credential import Technology, TrustAnchors
from pacs.errors import CardError, VerificationError
from pacs.reason import Reason
from provisioning.card_keys import KeyMissing
from provisioning.encoder import Issuer, issue_card, issue_v1_card, read_card, reset_card
from provisioning.keystore import Passphrase
from provisioning.site import Site
from simulator.card_issuing import TRIES, Profile
from simulator.virtual_card import VirtualCard

FROM, UNTIL = date(2026, 3, 1), date(2027, 3, 1)


class InField:
    """A virtual card at the end of a Transceive."""

    def __init__(self, card: VirtualCard) -> None:
        self.card = card
        self.commands: list[bytes] = []

    def __call__(self, command: bytes, meanwhile: Callable[[], None]) -> bytes:
        self.commands.append(command)
        answer = self.card.answer(command)
        meanwhile()
        return answer


@pytest.fixture
def issuer(site: Site, passphrase: Passphrase) -> Issuer:
    issuer = Issuer.of(site, passphrase)
    return replace(issuer, keys=issuer.keys.with_simulated_batch())


def test_an_issued_card_passes_a_tap_at_this_site(issuer: Issuer, site: Site, now: datetime) -> None:
    """The certificate carries a random UUID, the site's issuer and the dates, for the key made on the card."""
    card = VirtualCard()
    issued = issue_card(InField(card), issuer, valid_from=FROM, valid_until=UNTIL, now=now)
    trust = TrustAnchors(issuers={site.issuer: site.card_issuer_public_key()})
    credential = read_card(InField(card), trust, now=now)
    certificate = Certificate.from_bytes(card.certificate)
    assert credential.credential_id == issued.credential_id == certificate.credential_id
    assert (credential.issuer, credential.valid_from, credential.valid_until) == (site.issuer, FROM, UNTIL)
    assert issued.public_key == certificate.public_key == card.public_key
    assert issued.credential_id.value[6] >> 4 == 4
    assert len(card.certificate) <= 253


def test_every_card_gets_its_own_credential(issuer: Issuer, now: datetime) -> None:
    """Two cards share neither id, nor key, nor subject."""
    cards = [VirtualCard(), VirtualCard()]
    issued = [
        issue_card(InField(card), issuer, valid_from=FROM, valid_until=UNTIL, now=now) for card in cards
    ]
    assert issued[0].credential_id != issued[1].credential_id
    assert issued[0].public_key != issued[1].public_key
    assert len({Certificate.from_bytes(card.certificate).subject for card in cards}) == 2


def test_an_issued_card_is_locked(issuer: Issuer, now: datetime) -> None:
    """A second personalisation is refused by the card, and the first credential stays."""
    card = VirtualCard()
    issued = issue_card(InField(card), issuer, valid_from=FROM, valid_until=UNTIL, now=now)
    issuer.journal.given_out(issued.serial)
    held = card.certificate
    with pytest.raises(CardError) as caught:
        issue_card(InField(card), issuer, valid_from=FROM, valid_until=UNTIL, now=now)
    assert caught.value.status_word == 0x6985
    assert card.certificate == held


def test_a_v1_card_is_its_key(issuer: Issuer, now: datetime) -> None:
    """Its credential id is the x coordinate, and it carries neither issuer nor dates."""
    card = VirtualCard(profile=Profile.V1)
    issued = issue_v1_card(InField(card), issuer, now=now)
    assert issued.technology is Technology.PKOC_V1
    assert issued.credential_id.value == issued.public_key[1:33] == card.public_key[1:33]
    assert (issued.valid_from, issued.valid_until) == (None, None)


def test_another_sites_card_is_not_believed(issuer: Issuer, now: datetime) -> None:
    """A card of an issuer who is not in the trust anchors is refused as such."""
    card = VirtualCard()
    issue_card(InField(card), issuer, valid_from=FROM, valid_until=UNTIL, now=now)
    with pytest.raises(VerificationError) as caught:
        read_card(InField(card), TrustAnchors(issuers={}), now=now)
    assert caught.value.reason is Reason.ISSUER_UNKNOWN


def test_no_private_key_is_ever_sent_to_a_card(issuer: Issuer, now: datetime) -> None:
    """The issuer's key stays at the desk: in no command, in whatever form, stand its bytes."""
    field = InField(VirtualCard())
    issue_card(field, issuer, valid_from=FROM, valid_until=UNTIL, now=now)
    secret = issuer.key.private_numbers().private_value.to_bytes(32, "big")
    assert len(field.commands) > 10
    assert not any(secret in command for command in field.commands)


def test_a_returned_card_is_stock_again(issuer: Issuer, site: Site, now: datetime) -> None:
    """Reset by its issuer it answers to nobody's tap, and carries another key and id when it is issued again."""
    field = InField(VirtualCard())
    first = issue_card(field, issuer, valid_from=FROM, valid_until=UNTIL, now=now)
    issuer.journal.given_out(first.serial)
    assert reset_card(field, issuer).life is Life.LOCKED
    with pytest.raises(CardError):
        read_card(field, issuer.trust, now=now)
    second = issue_card(field, issuer, valid_from=FROM, valid_until=UNTIL, now=now)
    assert (second.serial, second.resumed) == (first.serial, False)
    assert second.credential_id != first.credential_id


def test_cards_of_two_administration_keys(issuer: Issuer, now: datetime) -> None:
    """After a rotation cards that were locked before can still be reset, and get the newer keys next time."""
    field = InField(VirtualCard())
    issued = issue_card(field, issuer, valid_from=FROM, valid_until=UNTIL, now=now)
    issuer.journal.given_out(issued.serial)
    assert field.card.keys.version == 0x31
    later = replace(issuer, keys=issuer.keys.rotated())
    reset_card(field, later)
    issue_card(field, later, valid_from=FROM, valid_until=UNTIL, now=now)
    assert field.card.keys.version == 0x32
    with pytest.raises(KeyMissing, match="administration key 50"):
        reset_card(field, issuer)


def test_a_batch_that_is_not_ours(site: Site, passphrase: Passphrase, now: datetime) -> None:
    """A blank card whose transport key the site lacks is named with its batch, and loses no try."""
    field = InField(VirtualCard())
    with pytest.raises(KeyMissing, match="batch SIM0"):
        issue_card(field, Issuer.of(site, passphrase), valid_from=FROM, valid_until=UNTIL, now=now)
    assert field.card.tries_left == TRIES
