"""Everything between the hub and its controllers, started and stopped together.

One process alone hears every controller over one connection. Of several on one database each hears those of the shards
that it has, over a connection for each: its client id is the shard's, so that the broker ends the one that had it before.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

import structlog
from sqlalchemy import Connection

from hub import audit
from hub.alarms import AlarmBounds, Alarms
from hub.attendance import Attendance
from hub.broker import Broker, BrokerSettings
from hub.card_changes import CardChanges
from hub.certificates import OwnCertificates, SiteCertificate
from hub.commands import Commands
from hub.distribution import Distribution
from hub.documents import SiteDocuments
from hub.enrolment import Enrolment
from hub.following import Following
from hub.inbox import Message
from hub.ingest import Ingest
from hub.keys import HubKeys
from hub.leases import Standing, leases_of
from hub.live import LiveBus
from hub.mqtt import HubClient, client_id
from hub.news import News
from hub.periods import Periods
from hub.questions import Questions
from hub.retention import Retention
from hub.revocation import Revocation
from hub.signing import Signing
from hub.store import device_certificates, sites
from hub.store.database import Database
from hub.store.sites import Site
from hub.transfers import Transfers
from pacs.errors import StoreError
from pacs.identifiers import ControllerId, SiteId
from pacs.messages import RenewalRequest
from pacs.topics import DOWN_QOS, HubTopic, up_filter

TIME_ZONE = "Europe/Amsterdam"
"""Of a new site, until somebody says otherwise."""
CONNECT_TIMEOUT_S = 15.0

log = structlog.get_logger(__name__)


class ControllerLink:
    """The broker, the connection to it, ingest and distribution of one hub process."""

    def __init__(
        self,
        database: Database,
        keys: HubKeys,
        broker_settings: BrokerSettings | None,
        *,
        live: LiveBus,
        clock: Callable[[], datetime],
        bounds: AlarmBounds | None = None,
        periods: Periods | None = None,
        servers: Sequence[tuple[str, int]] = (),
        advertised: tuple[str, int] | None = None,
    ) -> None:
        """``servers``: where the brokers are, host and port; none: it is the one that this process runs.

        ``advertised``: where a controller is told to connect; None: by the name that the site has for the broker's machine.
        """
        self._database = database
        self._keys = keys
        self._clock = clock
        self.live = live
        self.signing = Signing(database, keys, clock=clock, changed=self.site_changed)
        site_documents = SiteDocuments(signing=self.signing.current)
        self.leases = leases_of(database)
        self._broker = Broker(broker_settings, keys) if broker_settings else None
        self._named_servers = servers
        self.certificates = OwnCertificates(
            keys.site_dir,
            keys.passphrase,
            keys.device_authority,
            clock=clock,
            changed=self._own_certificates_changed,
            renewed=self._renewed_own,
        )
        self.client = HubClient(keys, *self._session())
        self._of_shards: dict[int, HubClient] = {}
        self._has_begun = False
        self.following = Following(
            database,
            live,
            tell=self._tell if database.is_shared else None,
            elsewhere=self._others_did,
        )
        self.distribution = Distribution(
            database,
            site_documents,
            publish=self.client.publish,
            clock=clock,
            holds=self._holds,
            made=lambda: self.following.did(documents=True),
            has_room=lambda: self.client.has_room,
        )
        self.ingest = Ingest(
            database,
            publish=self.client.publish,
            documents=self.distribution,
            live=live,
            clock=clock,
            holds=self._holds,
            stored=self.following.stored,
            renew=self._renew,
            certificates_changed=self._certificates_changed,
        )
        self.commands = Commands(
            database,
            signing=self.signing.current,
            publish=self.client.publish,
            clock=clock,
            holds=self._holds,
            given=lambda: self.following.did(commands=True),
        )
        self.attendance = Attendance(
            database, self.commands, live, clock, leads=lambda: self.leases.standing.is_leader
        )
        self.questions = Questions(database, trusted=self.signing.trusted, clock=clock)
        self.alarms = Alarms(
            database, live, bounds or AlarmBounds(), clock, leads=lambda: self.leases.standing.is_leader
        )
        self.retention = Retention(
            database,
            periods or Periods(),
            clock=clock,
            site_changed=self.site_changed,
            leads=lambda: self.leases.standing.is_leader,
        )
        self.revocation = Revocation(database, site_documents, clock=clock, issued=self.distribution.issued)
        self.card_changes = CardChanges(
            database, site_documents, clock=clock, issued=self.distribution.issued
        )
        self.enrolment = Enrolment(
            database,
            self.certificates.authority,
            policy_keys=keys.policy_public_key,
            broker=lambda: advertised or (keys.broker_host, self.servers[0][1]),
            changed=self.site_changed,
            is_settled=lambda: self.distribution.is_settled,
            clock=clock,
        )
        self.transfers = Transfers(database, site_documents, clock=clock, issued=self.distribution.issued)

    def start(self) -> None:
        """Return when controllers can connect; the database must be migrated.

        Raises ``StoreError`` when the broker does not start or another process has the SQLite file, ``NotFound`` when
        the database is another site's.
        """
        self.leases.claim()
        now = self._clock()
        with self._database.write() as connection:
            site = Site(id=self._keys.site_id, name=self._keys.site_id, time_zone=TIME_ZONE, created_at=now)
            sites.ensure(connection, site)
            self.signing.begin(connection)
            admitted = device_certificates.admitted(connection)
        self.certificates.look()  # of a hub that stood still for long the broker would not be believed
        if self._broker:
            self._broker.start(admitted)
        self.ingest.start()
        self.distribution.start()
        self.following.start()
        if self._database.is_shared:
            self.client.start(self.servers, on_messages=self._hear, on_lost=_nothing)
        self.leases.start(self._leases_changed)
        if not self._database.is_shared:
            self.client.start(self.servers, on_messages=self.ingest.put, on_lost=self.ingest.link_lost)
        if not self.client.wait_until_connected(CONNECT_TIMEOUT_S):
            log.error("hub_not_connected_to_its_broker")
        self.signing.lookout.start()
        self.certificates.lookout.start()
        self.commands.lookout.start()
        self.attendance.lookout.start()
        self.alarms.lookout.start()
        self.retention.lookout.start()

    def stop(self) -> None:
        """Stop in the order in which nothing that was received is lost."""
        self.retention.lookout.stop()
        self.alarms.lookout.stop()
        self.attendance.lookout.stop()
        self.commands.lookout.stop()
        self.certificates.lookout.stop()
        self.signing.lookout.stop()
        self.distribution.stop()
        self.leases.stop()
        self._serve_shards(frozenset())
        self.following.stop()
        self.client.stop()
        self.ingest.stop()
        if self._broker:
            self._broker.stop()

    def site_changed(self, site_id: SiteId | None = None) -> None:
        """Something that was committed may concern doors of a site (None: of any): tell broker, ingest, distribution."""
        self._registry_changed()
        self.following.did(registry=True)
        self.distribution.site_changed(site_id)

    def _renew(
        self, connection: Connection, controller_id: ControllerId, asked: RenewalRequest
    ) -> str | None:
        return self.enrolment.renew(connection, controller_id, asked)

    def _certificates_changed(self) -> None:
        self._registry_changed()
        self.following.did(registry=True)

    def _registry_changed(self) -> None:
        with self._database.read() as connection:
            admitted = device_certificates.admitted(connection)
        self.ingest.controllers_changed()
        if self._broker:
            self._broker.allow(admitted)

    def _own_certificates_changed(self) -> None:
        for client in (self.client, *self._of_shards.copy().values()):
            client.read_certificates_again()
        if self._broker:
            self._broker.read_certificates_again()

    def _renewed_own(self, made: SiteCertificate) -> None:
        with self._database.write() as connection:
            audit.record(
                connection,
                now=self._clock(),
                actor=audit.SYSTEM,
                action="certificate.renew",
                subject=f"certificate:{made.part}",
                detail={"serial": made.serial},
            )

    # -- several processes

    def _session(self) -> tuple[str, Sequence[tuple[str, int]]]:
        """The client id and subscriptions of this process's own connection."""
        if not self._database.is_shared:
            return client_id(self._keys), ((up_filter(), DOWN_QOS),)
        return f"{client_id(self._keys)}-{secrets.token_hex(8)}", ((str(HubTopic()), DOWN_QOS),)

    @property
    def broker(self) -> Broker:
        """The one that this process runs; raises ``StoreError`` when it runs none."""
        if self._broker is None:
            raise StoreError("this hub process runs no broker")
        return self._broker

    @property
    def servers(self) -> Sequence[tuple[str, int]]:
        """Host and port of every broker, as this process reaches them."""
        return self._named_servers or ((self.broker.host, self.broker.port),)

    def _holds(self, controller_id: ControllerId) -> bool:
        return self.leases.standing.holds(controller_id)

    def _leases_changed(self, before: Standing, now: Standing) -> None:
        self._serve_shards(now.shards & before.shards)
        if taken := now.shards - before.shards:
            self.ingest.taken_over()
            if now.processes == 1 and not self._has_begun:
                self.ingest.link_lost(taken)  # nobody is online until heard of
            self._has_begun = True
            self._serve_shards(now.shards)
        self.distribution.shards_changed()
        self.commands.look()
        if 0 < now.processes < before.processes:  # whoever is gone may have left a change without its version
            self.distribution.site_changed()

    def _serve_shards(self, shards: frozenset[int]) -> None:
        """Have a connection for each of these, and for no other."""
        if not self._database.is_shared:
            return
        gone = {number: self._of_shards.pop(number) for number in self._of_shards.keys() - shards}
        for client in gone.values():
            client.stop()
        for number in shards - self._of_shards.keys():
            client = HubClient(self._keys, client_id(self._keys, number), ((up_filter(number), DOWN_QOS),))
            lost = partial(self._shard_lost, number)
            client.start(self.servers, on_messages=self.ingest.put, on_lost=lost)
            self._of_shards[number] = client

    def _shard_lost(self, number: int) -> None:
        """Nobody of a shard is heard; of one that was given up, somebody else hears them."""
        if number in self.leases.standing.shards:
            self.ingest.link_lost((number,))

    def _tell(self, news: News) -> None:
        self.client.publish(HubTopic(), bytes(news))

    def _hear(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.following.hear(message.payload)

    def _others_did(self, news: News) -> None:
        if news.registry:
            self._registry_changed()
        if news.documents or news.registry:
            self.distribution.issued()
        if news.commands:
            self.commands.look()

    @property
    def health(self) -> Mapping[str, bool]:
        """Which parts work."""
        return {
            "broker": self._broker is None or self._broker.is_up,
            "connection": all(
                client.is_connected for client in (self.client, *self._of_shards.copy().values())
            ),
            "leases": self.leases.is_running,
            "following": self.following.is_running,
            "ingest": self.ingest.is_running,
            "distribution": self.distribution.is_running,
            "commands": self.commands.lookout.is_running,
            "signing": self.signing.lookout.is_running,
            "certificates": self.certificates.lookout.is_running,
            "attendance": self.attendance.lookout.is_running,
            "alarms": self.alarms.lookout.is_running,
            "retention": self.retention.lookout.is_running,
        }


def _nothing() -> None:
    """Nobody is gone when the processes do not hear one another: they look into the database."""
