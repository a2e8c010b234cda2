"""Everything between the hub and its controllers, started and stopped together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from hub.alarms import AlarmBounds, Alarms
from hub.broker import Broker, BrokerSettings
from hub.card_changes import CardChanges
from hub.commands import Commands
from hub.distribution import Distribution
from hub.documents import SiteDocuments
from hub.ingest import Ingest
from hub.keys import HubKeys
from hub.live import LiveBus
from hub.mqtt import HubClient
from hub.questions import Questions
from hub.revocation import Revocation
from hub.store import controllers, sites
from hub.store.database import Database
from hub.store.sites import Site
from hub.transfers import Transfers
from pacs import envelope
from pacs.identifiers import SiteId

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
        broker_settings: BrokerSettings,
        *,
        live: LiveBus,
        clock: Callable[[], datetime],
        bounds: AlarmBounds | None = None,
    ) -> None:
        self._database = database
        self._keys = keys
        self._clock = clock
        site_documents = SiteDocuments(key=keys.policy_key)
        self.broker = Broker(broker_settings, keys)
        self.client = HubClient(keys)
        self.distribution = Distribution(database, site_documents, publish=self.client.publish, clock=clock)
        self.ingest = Ingest(
            database, publish=self.client.publish, documents=self.distribution, live=live, clock=clock
        )
        self.commands = Commands(
            database,
            key=keys.policy_key,
            publish=self.client.publish,
            clock=clock,
        )
        trusted = envelope.trusted_keys(keys.policy_key.public_key())
        self.questions = Questions(database, trusted=trusted, clock=clock)
        self.alarms = Alarms(database, live, bounds or AlarmBounds(), clock)
        self.revocation = Revocation(database, site_documents, clock=clock, issued=self.distribution.issued)
        self.card_changes = CardChanges(
            database, site_documents, clock=clock, issued=self.distribution.issued
        )
        self.transfers = Transfers(database, site_documents, clock=clock, issued=self.distribution.issued)

    def start(self) -> None:
        """Return when controllers can connect; the database must be migrated.

        Raises ``StoreError`` when the broker does not start, ``NotFound`` when the database is another site's.
        """
        now = self._clock()
        with self._database.write() as connection:
            site = Site(id=self._keys.site_id, name=self._keys.site_id, time_zone=TIME_ZONE, created_at=now)
            sites.ensure(connection, site)
            trusted = sites.trusted_issuers(connection)
            for iir, public_key in self._keys.issuers.items():
                if trusted.get(iir) != public_key:
                    sites.trust_issuer(connection, iir, public_key, now)
            admitted = [controller.id for controller in controllers.list_all(connection)]
        self.broker.start(admitted)
        self.ingest.start()
        self.distribution.start()
        self.client.start(
            self.broker.host, self.broker.port, on_messages=self.ingest.put, on_lost=self.ingest.link_lost
        )
        if not self.client.wait_until_connected(CONNECT_TIMEOUT_S):
            log.error("hub_not_connected_to_its_broker")
        self.commands.start()
        self.alarms.start()

    def stop(self) -> None:
        """Stop in the order in which nothing that was received is lost."""
        self.alarms.stop()
        self.commands.stop()
        self.distribution.stop()
        self.client.stop()
        self.ingest.stop()
        self.broker.stop()

    def site_changed(self, site_id: SiteId | None = None) -> None:
        """Something that was committed may concern doors of a site (None: of any): tell broker, ingest, distribution."""
        with self._database.read() as connection:
            admitted = [controller.id for controller in controllers.list_all(connection)]
        self.ingest.controllers_changed()
        self.broker.allow(admitted)
        self.distribution.site_changed(site_id)

    @property
    def health(self) -> Mapping[str, bool]:
        """Which parts work."""
        return {
            "broker": self.broker.is_up,
            "connection": self.client.is_connected,
            "ingest": self.ingest.is_running,
            "distribution": self.distribution.is_running,
            "commands": self.commands.is_running,
            "alarms": self.alarms.is_running,
        }
