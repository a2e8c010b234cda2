"""Which policy key signs: as the root states and as controllers confirm, over restarts, half copied files and force."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.documents import SiteDocuments
from hub.keys import HubKeys, PolicyKeys
from hub.signing import Signing
from hub.store import audit, cardholders, cards, controllers, documents, issuers, sites
from hub.store.cardholders import Cardholder, Category
from hub.store.cards import CardStatus
from hub.store.controllers import Controller
from hub.store.database import Database
from hub.store.errors import InUse, NotFound
from hub.store.sites import Site
from pacs import revocation
from pacs.errors import StoreError
from pacs.identifiers import CardholderId, ControllerId, CredentialId
from pacs.messages import DocumentKind
from pacs.revocation import StatusList
from provisioning import rotation
from provisioning.authority import generate_key
from provisioning.rotation import Change
from provisioning.site import Site as ProvisionedSite
from provisioning.site import create_site, generate_issuer
from tests.hub.databases import SITE, fresh_database

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
GATE, BACK = ControllerId("gate-1"), ControllerId("back-1")
KIND = DocumentKind.REVOCATIONS


class Bureau:
    """A site's keys, its database, and one hub process at a time."""

    def __init__(self, directory: Path, database: Database) -> None:
        self.site: ProvisionedSite = create_site(directory / "site", SITE, now=NOW)
        self.hub = self.site.hub_directory
        self.database = database
        self.changes = 0
        self.start()

    def start(self) -> None:
        """A process begins."""
        self.signing = Signing(
            self.database,
            HubKeys.load(self.hub, self.hub / "passphrase"),
            clock=lambda: NOW,
            changed=self._changed,
        )
        self.documents = SiteDocuments(signing=self.signing.current)
        with self.database.write() as connection:
            self.signing.begin(connection)
        self.issue()

    def _changed(self) -> None:
        self.changes += 1

    def look(self) -> bool:
        """The process looks, and makes its documents anew if it has to."""
        changed = self.signing.look()
        if changed:
            self.issue()
        return changed

    def issue(self) -> None:
        with self.database.write() as connection:
            self.documents.issue_if_changed(connection, SITE, KIND, cause="test", now=NOW)

    def confirm(self, *names: ControllerId) -> None:
        """These controllers hold the list in force."""
        with self.database.write() as connection:
            version = documents.required_newest(connection, SITE, KIND).version
            for name in names:
                assert documents.confirm(connection, name, KIND, version, NOW)

    def carry_out(self, change: Change) -> str:
        change.carry_out(self.site.directory)
        self.deliver()
        return change.key

    def deliver(self) -> None:
        passphrase = self.site.passphrase(self.hub / "passphrase")
        rotation.deliver(self.site, self.site.passphrase(), self.hub, passphrase, NOW).carry_out(self.hub)

    def rotate(self, *, at_once: bool = False) -> str:
        passphrase = self.site.passphrase()
        return self.carry_out(
            rotation.rotate_policy(self.site, self.site.root(), passphrase, NOW, at_once=at_once)
        )

    def retire(self) -> None:
        self.carry_out(rotation.retire_policy(self.site, self.site.root(), self.site.passphrase(), NOW))

    @property
    def signer(self) -> str:
        """Who signed the list in force."""
        with self.database.read() as connection:
            document = documents.required_newest(connection, SITE, KIND)
        assert document.signer
        stated = rotation.stated(self.site)
        assert stated
        StatusList.open(document.data, stated.accepted)
        return document.signer.hex()

    @property
    def acts(self) -> list[tuple[str, str]]:
        """What the audit log says of policy keys, the oldest first."""
        with self.database.read() as connection:
            found = list(audit.oldest_first(connection))
        return [
            (each.action, each.subject.removeprefix("policy-key:"))
            for each in found
            if each.subject.startswith("policy-key:")
        ]


@pytest.fixture
def bureau(tmp_path: Path) -> Iterator[Bureau]:
    """Two controllers, neither of which has confirmed anything."""
    database = fresh_database(tmp_path / "hub.sqlite")
    with database.write() as connection:
        sites.ensure(connection, Site(id=SITE, name="S", time_zone="Europe/Amsterdam", created_at=NOW))
        for name in (GATE, BACK):
            controllers.register(
                connection,
                Controller(
                    site_id=SITE,
                    id=name,
                    event_public_key=bytes(32),
                    certificate_serial=name.encode().hex(),
                    software=None,
                    registered_at=NOW,
                ),
            )
    yield Bureau(tmp_path, database)
    database.close()


def waiting(bureau: Bureau) -> list[str]:
    with bureau.database.read() as connection:
        return [name for name, _ in bureau.signing.standing(connection).waiting]


def test_the_new_key_signs_once_every_controller_has_heard(bureau: Bureau) -> None:
    """Both keys are stated at once; the old one signs until the last confirmation, and over restarts before it."""
    old = bureau.signer
    assert bureau.look() is False
    new = bureau.rotate()
    assert bureau.look()
    assert bureau.signer == old
    bureau.confirm(GATE)
    assert (bureau.look(), waiting(bureau)) == (False, [BACK])
    bureau.start()
    assert (bureau.signer, waiting(bureau)) == (old, [BACK])
    bureau.confirm(BACK)
    assert bureau.look()
    assert bureau.signer == new
    with bureau.database.write() as connection:
        controllers.register(
            connection,
            Controller(
                site_id=SITE,
                id=ControllerId("new-1"),
                event_public_key=bytes(32),
                certificate_serial="0b",
                software=None,
                registered_at=NOW,
            ),
        )
    bureau.start()
    assert bureau.signer == new, "somebody new takes nothing back"
    bureau.retire()
    assert bureau.look()
    assert bureau.signer == new
    assert [name for name in bureau.signing.trusted() if name.hex() == old], (
        "what it signed is still this hub's"
    )
    first, *rest = bureau.acts
    assert first == ("key.follow", old)
    assert rest == [("key.follow", new), ("key.switch", new), ("key.follow", new)]


def test_not_waiting(bureau: Bureau) -> None:
    """An operator switches without the others' word, once; other processes and restarts sign alike from then on."""
    with pytest.raises(NotFound):
        bureau.signing.switch(reason="too early", actor="operator:1")
    new = bureau.rotate()
    bureau.look()
    bureau.signing.switch(reason="the back is being rebuilt", actor="operator:1")
    assert bureau.changes == 1
    bureau.issue()
    assert (bureau.signer, waiting(bureau)) == (new, [BACK, GATE])
    assert bureau.look() is False
    bureau.start()
    assert bureau.signer == new
    assert bureau.acts[-1] == ("key.switch", new)


def test_a_key_in_wrong_hands(bureau: Bureau) -> None:
    """Without overlap the new key signs as soon as the hub sees it, whoever has heard."""
    new = bureau.rotate(at_once=True)
    assert bureau.look()
    assert bureau.signer == new
    assert bureau.acts[-1] == ("key.follow", new)


def test_what_is_half_there_is_not_followed(bureau: Bureau, tmp_path: Path) -> None:
    """A statement without its key, garbage, an older one: the hub goes on as before, and follows once all is there."""
    before = shutil.copytree(bureau.hub, tmp_path / "before")
    old = bureau.signer
    new = bureau.rotate(at_once=True)
    key = bureau.hub / f"policy-{new}.key.pem"
    hidden = key.rename(tmp_path / "hidden")
    assert bureau.look() is False
    statement = (bureau.hub / "keys.signed").read_bytes()
    (bureau.hub / "keys.signed").write_bytes(b"x")
    assert bureau.look() is False
    assert bureau.signing.current().id.hex() == old
    (bureau.hub / "keys.signed").write_bytes(statement)
    hidden.rename(key)
    assert bureau.look()
    assert bureau.signer == new
    shutil.copy(before / "policy.key.pem", bureau.hub)
    shutil.copy(before / "keys.signed", bureau.hub)
    assert bureau.look() is False
    assert bureau.signing.current().id.hex() == new


def test_a_document_carries_what_is_stated(bureau: Bureau) -> None:
    """Byte for byte; the same content under another statement is another version."""
    with bureau.database.read() as connection:
        first = documents.required_newest(connection, SITE, KIND)
    assert revocation.statement_of(first.data) == (bureau.hub / "keys.signed").read_bytes()
    bureau.rotate()
    bureau.look()
    with bureau.database.read() as connection:
        second = documents.required_newest(connection, SITE, KIND)
    assert revocation.statement_of(second.data) == (bureau.hub / "keys.signed").read_bytes()
    assert (second.version, second.statement > first.statement) == (first.version + 1, True)


@pytest.mark.parametrize("damage", ["unlink", "swap"])
def test_a_directory_that_cannot_sign(bureau: Bureau, damage: str) -> None:
    """Without the statement two keys say nothing, and without a stated key nobody can sign: said at the start, by name."""
    new = bureau.rotate()
    if damage == "unlink":
        (bureau.hub / "keys.signed").unlink()
    else:
        (bureau.hub / "policy.key.pem").unlink()
        (bureau.hub / f"policy-{new}.key.pem").unlink()
    passphrase = (bureau.hub / "passphrase").read_text().strip()
    with pytest.raises(StoreError, match=r"keys\.signed|policy\.key\.pem"):
        PolicyKeys.load(bureau.hub, passphrase)


def test_issuers_follow_the_root_and_are_retired_when_no_card_is_left(bureau: Bureau) -> None:
    """A new issuer is trusted beside the old one, whose live cards are counted; it goes when there is none, or by force."""
    old = bureau.site.issuer
    ids = [CredentialId(bytes([number]) * 16) for number in range(4)]
    with bureau.database.write() as connection:
        cardholders.add(
            connection,
            Cardholder(
                id=CardholderId("p1"),
                site_id=SITE,
                category=Category.RESIDENT,
                given_name="Ada",
                family_name="Example",
                access_level_ids=(),
                created_at=NOW,
            ),
        )

        def card(number: int, **how: object) -> None:
            cards.add(
                connection,
                credential_id=ids[number],
                cardholder_id=CardholderId("p1"),
                technology="pkoc-v2",
                now=NOW,
                **how,  # type: ignore[arg-type]
            )

        card(0)
        card(1, valid_until=NOW)
        card(2)
        cards.set_status(connection, ids[2], CardStatus.REVOKED, now=NOW)
        assert issuers.live_cards(connection, NOW - timedelta(seconds=1)) == {old: 2}
        assert issuers.live_cards(connection, NOW) == {old: 1}
    change = rotation.rotate_issuer(
        bureau.site,
        bureau.site.root(),
        bureau.site.passphrase(),
        NOW,
        at_once=False,
        issuer=generate_issuer(),
        key=generate_key(),
    )
    new = bureau.carry_out(change)
    assert bureau.look()
    with bureau.database.write() as connection:
        assert set(issuers.trusted(connection)) == {old, new}
        card(3, issuer=new)
        with pytest.raises(InUse, match="1 cards"):
            issuers.retire(connection, old, NOW)
        cards.set_status(connection, ids[0], CardStatus.REVOKED, now=NOW)
        assert issuers.retire(connection, old, NOW) == 0
        assert issuers.retire(connection, new, NOW, with_cards=True) == 1
        with pytest.raises(NotFound):
            issuers.retire(connection, old, NOW)
    bureau.start()
    with bureau.database.read() as connection:
        assert issuers.trusted(connection) == {}, "a start gives back nothing that was retired"
