"""One root follows another: by the word of the one before alone, and never by an authority below it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from pacs.card import p256
from pacs.certificates import leads_to
from pacs.errors import MalformedData, VerificationError
from pacs.key_statement import KeyStatement, from_bytes, open_statement, opened, seal, to_bytes
from pacs.root_change import MAX_CERTIFICATE_BYTES, MAX_LINKS, RootChange
from provisioning.authority import Authority, Purpose
from tests.pacs.test_key_statement import FIRST

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OLD = Authority.create("Drempel site s", NOW)
NEW = Authority.create("Drempel site s", NOW)
STRANGER = Authority.create("Drempel site s", NOW)
DEVICES = OLD.intermediate("Drempel devices s", Purpose.NODE, NOW)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def change(new: Authority = NEW, by: Authority = OLD) -> RootChange:
    return RootChange(
        certificate=der(new.certificate), links=(der(by.link(new.certificate, NOW)),), former_is_believed=True
    )


def sealed(said: KeyStatement, root: ec.EllipticCurvePrivateKey) -> bytes:
    return seal(said, root.public_key(), partial(p256.sign, root))


def test_who_knows_the_old_root_follows_to_the_new_one() -> None:
    """The statement says by itself that its signer follows; who knows that one needs no link, who knows neither is not led."""
    said = replace(FIRST, root_change=change())
    assert from_bytes(to_bytes(said)) == said
    data = sealed(said, NEW.key)
    assert opened(data, [OLD.key.public_key()]) == (said, NEW.key.public_key())
    assert open_statement(data, NEW.key.public_key()) == said
    with pytest.raises(VerificationError):
        open_statement(data, STRANGER.key.public_key())
    with pytest.raises(VerificationError):
        open_statement(sealed(replace(FIRST, root_change=change(by=STRANGER)), NEW.key), OLD.key.public_key())


def test_who_was_away_for_two_changes_follows_both() -> None:
    """Link by link from the first root to the third; with the first link left out, only who knows the second follows."""
    third = Authority.create("Drempel site s", NOW)
    links = (*change().links, der(NEW.link(third.certificate, NOW)))
    both = RootChange(certificate=der(third.certificate), links=links, former_is_believed=False)
    said = replace(FIRST, root_change=both)
    assert opened(sealed(said, third.key), [OLD.key.public_key()]) == (said, third.key.public_key())
    last = replace(FIRST, root_change=replace(both, links=links[1:]))
    assert open_statement(sealed(last, third.key), NEW.key.public_key()) == last
    with pytest.raises(VerificationError):
        open_statement(sealed(last, third.key), OLD.key.public_key())


def test_an_authority_below_the_root_is_no_successor() -> None:
    """The hub holds the key of ``devices``: with it nobody makes themselves the root."""
    for name in ("Drempel devices s", "Drempel site s"):
        claimed = Authority.create(name, NOW, DEVICES.key)
        with pytest.raises(MalformedData):  # the only certificate that the root gave it
            RootChange(
                certificate=der(claimed.certificate),
                links=(der(DEVICES.certificate),),
                former_is_believed=False,
            )
    made = change(by=Authority.create("Drempel site s", NOW, DEVICES.key))
    with pytest.raises(VerificationError):
        open_statement(sealed(replace(FIRST, root_change=made), NEW.key), OLD.key.public_key())


@pytest.mark.parametrize(
    "broken",
    [
        {"certificate": b""},
        {"links": (b"\x30\x80",)},
        {"certificate": bytes(MAX_CERTIFICATE_BYTES + 1)},
        {"certificate": der(STRANGER.certificate)},
        {"links": ()},
        {"links": change().links * (MAX_LINKS + 1)},
        {"links": (der(DEVICES.certificate),)},
    ],
    ids=["empty", "cut", "long", "another key", "no link", "too many", "an intermediate"],
)
def test_what_is_no_change_of_root(broken: dict[str, Any]) -> None:
    """Whatever is not two certificates of one root is malformed, and nothing else is raised."""
    with pytest.raises(MalformedData):
        replace(change(), **broken)


def test_a_chain_leads_to_either_root() -> None:
    """What is certified below the new root is believed by who knows the old one alone, by the link behind it."""
    below = replace(
        NEW.intermediate("Drempel devices s", Purpose.NODE, NOW), above=(OLD.link(NEW.certificate, NOW),)
    )
    leaf = below.certify(name="gate", public_key=NEW.key.public_key(), purpose=Purpose.CLIENT, now=NOW)
    chain = x509.load_pem_x509_certificates(below.chain_pem(leaf))
    assert leads_to(chain, [NEW.certificate])
    assert leads_to(chain, [OLD.certificate])
    assert not leads_to(chain[:2], [OLD.certificate])
    assert not leads_to(chain, [STRANGER.certificate])
