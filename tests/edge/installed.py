"""A provisioned controller on mock pins, and its documents, as files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.policy_store import PolicyStore
from edge.signers import Signers
from pacs import bundle
from pacs.card.p256 import encode_point
from pacs.decision import ClockReading
from pacs.envelope import trusted_keys
from pacs.messages import DocumentKind
from provisioning.keystore import read_key
from provisioning.readers import DoorWiring, add_controller
from provisioning.site import Site, create_site
from tests.edge.small_site import CONTROLLER, FRONT, SITE, policy, revocations

NOW = datetime.now(UTC)


def install(directory: Path, *, broker_port: int = 9) -> Site:
    """Make a site, and its one controller in ``directory / "controller"``; the hub is not there."""
    site = create_site(directory / "site", SITE, now=NOW, broker_hosts=("localhost",))
    controller = add_controller(
        site,
        site.authority(site.passphrase()),
        CONTROLLER,
        [DoorWiring(id=FRONT, device=str(directory / "reader"))],
        now=NOW,
        pins="mock",
        broker_host="localhost",
        broker_port=broker_port,
    )
    controller.directory.rename(directory / "controller")
    return site


def keep_documents(site: Site, directory: Path, *, issued_at: datetime = NOW) -> None:
    """Put the small site's documents, signed with the site's key, into a controller's state."""
    signer = read_key(site.directory / "policy.key.pem", site.passphrase())
    assert isinstance(signer, Ed25519PrivateKey)
    (directory / "state").mkdir(mode=0o700, exist_ok=True)
    store = PolicyStore(
        directory / "state" / "policy", site_id=SITE, signers=Signers(trusted_keys(signer.public_key()))
    )
    held = replace(
        policy(issued_at=issued_at), issuers={site.issuer: encode_point(site.card_issuer_public_key())}
    )
    clock = ClockReading(at=issued_at, trusted=True)
    store.accept(DocumentKind.POLICY, bundle.seal(held, signer), clock)
    store.accept(DocumentKind.REVOCATIONS, revocations(issued_at=issued_at).seal(signer), clock)
