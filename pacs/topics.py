"""Every MQTT topic, built and parsed here and nowhere else.

=============================================  ==========  ===  ========  =========================
topic                                          from        QoS  retained  payload
=============================================  ==========  ===  ========  =========================
``drempel/up/<shard>/<controller>/events``     controller  1    no        ``events.Batch``
``drempel/up/<shard>/<controller>/ahead``      controller  1    no        ``events.Batch`` of one event, before its turn
``drempel/up/<shard>/<controller>/hello``      controller  1    no        ``messages.Hello``
``drempel/up/<shard>/<controller>/status``     controller  1    no        ``messages.ControllerStatus``
``drempel/up/<shard>/<controller>/renewal``    controller  1    no        ``messages.RenewalRequest``
``drempel/up/<shard>/<controller>/report``     controller  1    no        ``messages.Report``
``drempel/down/<controller>/acknowledged``     hub         0    no        ``messages.Acknowledgement``
``drempel/down/<controller>/document``         hub         0    no        ``messages.DocumentChunk``
``drempel/down/<controller>/command``          hub         0    no        ``commands.Command``, sealed
``drempel/down/<controller>/certificate``      hub         0    no        ``messages.IssuedCertificate``
``drempel/hub/news``                           hub         0    no        ``hub.news.News``, to other hub processes
=============================================  ==========  ===  ========  =========================

``<shard>`` is ``00`` to ``15``, fixed by the controller's id, so that several hub processes can share the work.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Self

from pacs.errors import MalformedData
from pacs.identifiers import ControllerId

ROOT = "drempel"
SHARDS = 16
UP_QOS = 1
DOWN_QOS = 0


@unique
class Up(StrEnum):
    """From a controller to the hub."""

    EVENTS = "events"
    AHEAD = "ahead"
    HELLO = "hello"
    STATUS = "status"
    RENEWAL = "renewal"
    REPORT = "report"


@unique
class Down(StrEnum):
    """From the hub to a controller."""

    ACKNOWLEDGED = "acknowledged"
    DOCUMENT = "document"
    COMMAND = "command"
    CERTIFICATE = "certificate"


def shard(controller_id: ControllerId) -> int:
    """0 to 15: which share of the controllers this one belongs to."""
    return zlib.crc32(controller_id.encode()) % SHARDS


@dataclass(frozen=True, slots=True)
class UpTopic:
    """A topic a controller publishes on."""

    controller_id: ControllerId
    kind: Up

    def __str__(self) -> str:
        return f"{ROOT}/up/{shard(self.controller_id):02}/{self.controller_id}/{self.kind.value}"

    @classmethod
    def parse(cls, topic: str) -> Self:
        """Raises ``MalformedData``, also when the shard is not the controller's."""
        root, direction, _, controller, kind = _levels(topic, 5)
        try:
            parsed = cls(ControllerId(controller), Up(kind))
        except ValueError as error:
            raise MalformedData("topic: kind not known") from error
        if root != ROOT or direction != "up" or str(parsed) != topic:
            raise MalformedData("topic: not one a controller publishes on")
        return parsed


@dataclass(frozen=True, slots=True)
class DownTopic:
    """A topic a controller subscribes to."""

    controller_id: ControllerId
    kind: Down

    def __str__(self) -> str:
        return f"{ROOT}/down/{self.controller_id}/{self.kind.value}"

    @classmethod
    def parse(cls, topic: str) -> Self:
        """Raises ``MalformedData``."""
        root, direction, controller, kind = _levels(topic, 4)
        try:
            parsed = cls(ControllerId(controller), Down(kind))
        except ValueError as error:
            raise MalformedData("topic: kind not known") from error
        if root != ROOT or direction != "down":
            raise MalformedData("topic: not one a controller subscribes to")
        return parsed


@dataclass(frozen=True, slots=True)
class HubTopic:
    """The topic on which hub processes tell one another what they did; no controller may use it."""

    def __str__(self) -> str:
        return f"{ROOT}/hub/news"


def up_filter(shard_number: int | None = None) -> str:
    """What the hub subscribes to: one shard, or all."""
    level = "+" if shard_number is None else f"{shard_number:02}"
    return f"{ROOT}/up/{level}/+/+"


def up_root(controller_id: ControllerId) -> str:
    """The only branch a controller may publish under."""
    return f"{ROOT}/up/{shard(controller_id):02}/{controller_id}"


def down_root(controller_id: ControllerId) -> str:
    """The only branch a controller may subscribe under."""
    return f"{ROOT}/down/{controller_id}"


def _levels(topic: str, count: int) -> list[str]:
    levels = topic.split("/")
    if len(levels) != count:
        raise MalformedData(f"topic: {count} levels expected")
    return levels
