"""A broker without a hub beside it: one node of a cluster, which lets in whom the database says."""

from __future__ import annotations

import threading

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub.broker import Broker, BrokerSettings
from hub.broker_configuration import Admission, ClusterNode
from hub.certificates import OwnCertificates
from hub.clock import utc_now
from hub.keys import HubKeys
from hub.settings import Settings, database_address, passphrase_file
from hub.store import device_certificates
from hub.store.database import Database
from pacs.errors import MalformedData, StoreError

LOOK_EVERY_S = 2.0

log = structlog.get_logger(__name__)


def broker_settings(settings: Settings) -> BrokerSettings:
    """What the broker of this process is told."""
    cluster = None
    if settings.cluster_listen is not None:
        listen = settings.cluster_listen
        cluster = ClusterNode(
            name=settings.cluster_node,
            listen=(listen.host, listen.port),
            routes=tuple((route.host, route.port) for route in settings.cluster_routes),
        )
    return BrokerSettings(
        data_dir=settings.data_dir / "broker",
        host=settings.mqtt.host,
        port=settings.mqtt.port,
        binary=settings.broker_binary,
        cluster=cluster,
    )


def run(settings: Settings, stopping: threading.Event) -> None:
    """Run the node until told to stop; raises ``PacsError`` when it cannot start, or is no node of a cluster."""
    if not settings.cluster_node:
        raise MalformedData("cluster.node: missing; a broker by itself is one node of a cluster")
    keys = HubKeys.load(settings.site_dir, passphrase_file(settings))
    database = Database.of(database_address(settings))
    broker = Broker(broker_settings(settings), keys)
    certificates = OwnCertificates(
        keys.site_dir,
        keys.passphrase,
        keys.device_authority,
        clock=utc_now,
        changed=broker.read_certificates_again,
    )
    certificates.look()
    try:
        try:
            admitted = _admitted(database)
        except SQLAlchemyError as error:
            raise StoreError("the database cannot be read: who may connect is not known") from error
        broker.start(admitted)
        certificates.lookout.start()
        log.info("broker_node_started", node=settings.cluster_node, port=broker.port)
        while not stopping.wait(LOOK_EVERY_S):
            try:
                broker.allow(_admitted(database))
            except SQLAlchemyError as error:  # whoever was let in before stays so
                log.warning("registry_not_read", reason=type(error).__name__)
    finally:
        certificates.lookout.stop()
        broker.stop()
        database.close()


def _admitted(database: Database) -> list[Admission]:
    with database.read() as connection:
        return device_certificates.admitted(connection)
