"""The text of nats-server's configuration: who may do what at the broker."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pacs.identifiers import HUB, ControllerId
from pacs.topics import ROOT, down_root, up_root


def configuration(
    *,
    data_dir: Path,
    mqtt: tuple[str, int],
    client_port: int,
    log_file: Path,
    certificate: Path,
    key: Path,
    root: Path,
    controllers: Iterable[ControllerId],
) -> str:
    """The text of nats-server's configuration (JSON, which it reads).

    The broker's own protocol listens on loopback only and asks for the same certificates.
    """
    tls = {
        "cert_file": str(certificate),
        "key_file": str(key),
        "ca_file": str(root),
        "verify_and_map": True,
        "timeout": 10,
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
        "jetstream": {"store_dir": str(data_dir / "jetstream"), "max_memory_store": 0},
        "tls": tls,
        "mqtt": {
            "host": host,
            "port": port,
            "tls": tls,
            "ack_wait": "5s",
            "max_ack_pending": 20_000,
        },
        "authorization": {"users": [_hub_user(), *map(_controller_user, controllers)]},
    }
    return json.dumps(settings, indent=1)


def _hub_user() -> dict[str, Any]:
    everything = [f"{ROOT}.>"]
    return {"user": HUB, "permissions": {"publish": everything, "subscribe": everything}}


def _controller_user(controller_id: ControllerId) -> dict[str, Any]:
    return {
        "user": str(controller_id),
        "permissions": {
            "publish": _branch(up_root(controller_id)),
            "subscribe": _branch(down_root(controller_id)),
        },
    }


def _branch(root: str) -> list[str]:
    subject = root.replace("/", ".")
    return [subject, f"{subject}.>"]
