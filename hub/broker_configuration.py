"""The text of nats-server's configuration: who may do what at the broker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pacs.certificates import identity
from pacs.identifiers import HUB, ControllerId
from pacs.topics import ROOT, down_root, up_root

Admission: TypeAlias = tuple[ControllerId, str]
"""A controller, and the serial number (hex) of a certificate of its."""

HANDSHAKE_S = 10
MAX_PENDING_BYTES = 256 * 1024 * 1024
"""What may wait for the hub when every door comes back at once; then it is disconnected, and doors send again."""
REPLICAS = 3
"""Of what the brokers of a cluster keep; fewer when it has fewer nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNode:
    """One broker of several: its own name, where the others reach it, and where they are; hosts and ports."""

    name: str
    listen: tuple[str, int]
    routes: tuple[tuple[str, int], ...]


def configuration(
    *,
    data_dir: Path,
    mqtt: tuple[str, int],
    client_port: int,
    log_file: Path,
    certificate: Path,
    key: Path,
    root: Path,
    admitted: Iterable[Admission],
    cluster: ClusterNode | None = None,
) -> str:
    """The text of nats-server's configuration (JSON, which it reads).

    A user is one certificate of a controller, by the URI in it (``verify_and_map`` tries DNS names first, of which only
    the hub's is a user's). What is not among the ``admitted`` is refused, whatever name it carries.
    The broker's own protocol listens on loopback only and asks for the same certificates. The nodes of a cluster let
    in one another by the key of ``certificate``, which all of them have, and nobody else whom the root certified.
    """
    tls = {
        "cert_file": str(certificate),
        "key_file": str(key),
        "ca_file": str(root),
        "verify_and_map": True,
        "timeout": HANDSHAKE_S,
    }
    host, port = mqtt
    settings: dict[str, Any] = {
        "server_name": "drempel",
        "listen": f"127.0.0.1:{client_port}",
        "log_file": str(log_file),
        "logfile_size_limit": 10_000_000,
        "logfile_max_num": 3,
        "max_payload": 131_072,
        "max_connections": 20_000,
        "max_pending": MAX_PENDING_BYTES,
        "jetstream": {"store_dir": str(data_dir / "jetstream"), "max_memory_store": 0},
        "tls": tls,
        "mqtt": {
            "host": host,
            "port": port,
            "tls": tls,
            "ack_wait": "5s",
            "max_ack_pending": 20_000,
        },
        "authorization": {"users": [_hub_user(), *map(_controller_user, admitted)]},
    }
    if cluster is not None:
        nodes = len(cluster.routes) + 1
        settings["server_name"] = cluster.name
        settings["mqtt"]["stream_replicas"] = min(REPLICAS, nodes)
        settings["cluster"] = {
            "name": "drempel",
            "listen": _address(cluster.listen),
            "routes": [f"tls://{_address(route)}" for route in cluster.routes],
            "no_advertise": True,
            "tls": {
                "cert_file": str(certificate),
                "key_file": str(key),
                "ca_file": str(root),
                "verify": True,
                "pinned_certs": [_key_digest(certificate)],
                "timeout": HANDSHAKE_S,
            },
        }
    return json.dumps(settings, indent=1)


def _address(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _key_digest(certificate: Path) -> str:
    """SHA-256 of the certified key, as nats-server compares it."""
    public_key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    encoded = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def _hub_user() -> dict[str, Any]:
    everything = [f"{ROOT}.>"]
    return {"user": HUB, "permissions": {"publish": everything, "subscribe": everything}}


def _controller_user(admission: Admission) -> dict[str, Any]:
    controller_id, serial = admission
    return {
        "user": identity(serial),
        "permissions": {
            "publish": _branch(up_root(controller_id)),
            "subscribe": _branch(down_root(controller_id)),
        },
    }


def _branch(root: str) -> list[str]:
    subject = root.replace("/", ".")
    return [subject, f"{subject}.>"]
