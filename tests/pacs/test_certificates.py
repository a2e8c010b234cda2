from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import CertificateSigningRequestBuilder, Name
from hypothesis import given
from hypothesis import strategies as st

from pacs import certificates
from pacs.errors import MalformedData
from provisioning.authority import Authority, Purpose

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ROOT = Authority.create("root", NOW)
KEY = ec.generate_private_key(ec.SECP256R1())
GATE = ROOT.certify(name="gate", public_key=KEY.public_key(), purpose=Purpose.CLIENT, now=NOW, days=90)


def test_a_request_proves_its_key() -> None:
    """The key of a request is taken when the request is signed with it, and is a P-256 key."""
    made = certificates.request(KEY)
    assert certificates.requested_key(made) == KEY.public_key()
    forged = bytearray(made)
    forged[-1] ^= 1
    with pytest.raises(MalformedData, match="not signed by its own key"):
        certificates.requested_key(bytes(forged))
    wrong = CertificateSigningRequestBuilder(Name([])).sign(ed25519.Ed25519PrivateKey.generate(), None)
    with pytest.raises(MalformedData, match="P-256"):
        certificates.requested_key(wrong.public_bytes(Encoding.DER))
    large = ec.generate_private_key(ec.SECP384R1())
    wrong = CertificateSigningRequestBuilder(Name([])).sign(large, hashes.SHA256())
    with pytest.raises(MalformedData, match="P-256"):
        certificates.requested_key(wrong.public_bytes(Encoding.DER))


@given(st.binary(max_size=200), st.integers(0, 300), st.integers(0, 255))
def test_any_bytes_are_a_request_or_refused(noise: bytes, place: int, value: int) -> None:
    """Nothing but ``MalformedData`` comes of noise, or of a request of which a byte was changed."""
    made = bytearray(certificates.request(KEY))
    made[place % len(made)] = value
    for data in (noise, bytes(made)):
        with contextlib.suppress(MalformedData):
            certificates.requested_key(data)
    with contextlib.suppress(MalformedData):
        certificates.read_chain(noise)


def test_a_chain_is_this_devices_and_leads_to_the_root() -> None:
    """Another key, another controller, another root and a leaf as an authority are refused by name."""
    chain = certificates.read_chain(GATE.public_bytes(Encoding.PEM))
    key = KEY.public_key()
    certificates.check_device_chain(chain, [ROOT.certificate], name="gate", public_key=key)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    stranger = Authority.create("root", NOW).certificate
    with pytest.raises(MalformedData, match="another key"):
        certificates.check_device_chain(chain, [ROOT.certificate], name="gate", public_key=other)
    with pytest.raises(MalformedData, match="not of controller yard"):
        certificates.check_device_chain(chain, [ROOT.certificate], name="yard", public_key=key)
    with pytest.raises(MalformedData, match="root"):
        certificates.check_device_chain(chain, [stranger], name="gate", public_key=key)
    under_a_leaf = Authority(GATE, KEY).certify(name="gate", public_key=key, purpose=Purpose.CLIENT, now=NOW)
    with pytest.raises(MalformedData, match="root"):
        certificates.check_device_chain([under_a_leaf, GATE], [ROOT.certificate], name="gate", public_key=key)
    server = ROOT.certify(name="gate", public_key=key, purpose=Purpose.SERVER, now=NOW)
    with pytest.raises(MalformedData, match="client"):
        certificates.check_device_chain([server], [ROOT.certificate], name="gate", public_key=key)


def test_a_certificate_is_due_at_two_thirds_and_ends_with_its_issuer() -> None:
    """Of ninety days sixty pass; and none outlives who issued it."""
    due = certificates.renew_from(GATE) - NOW
    assert timedelta(days=59, hours=23) < due < timedelta(days=60, hours=1)
    late = ROOT.certificate.not_valid_after_utc - timedelta(days=10)
    last = ROOT.certify(name="gate", public_key=KEY.public_key(), purpose=Purpose.CLIENT, now=late, days=90)
    assert last.not_valid_after_utc == ROOT.certificate.not_valid_after_utc
