"""Messages of controllers, read and proven, before anything is done with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pacs.errors import PacsError, VerificationError
from pacs.events import Batch
from pacs.identifiers import ControllerId, JournalId
from pacs.messages import ControllerStatus, Hello, RenewalRequest, Report
from pacs.topics import Up, UpTopic


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came; ``is_repeated`` when the broker says it may have been delivered before."""

    topic: str
    payload: bytes
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class Ahead:
    """Events that stand in a controller's journal behind others which have not arrived: they come again in their turn."""

    batch: Batch


Content: TypeAlias = Batch | Ahead | Hello | ControllerStatus | RenewalRequest | Report | PacsError


@dataclass(frozen=True, slots=True)
class Opened:
    """A message of a known controller, with that controller's event key."""

    message: Message
    controller_id: ControllerId
    keys: Mapping[bytes, Ed25519PublicKey]
    content: Content


def read(topic: UpTopic, payload: bytes) -> Content:
    """What a message says, or what is wrong with it; a batch is not yet proven."""
    try:
        match topic.kind:
            case Up.EVENTS:
                return Batch.read(payload, topic.controller_id)
            case Up.AHEAD:
                return Ahead(Batch.read(payload, topic.controller_id))
            case Up.HELLO:
                return Hello.from_bytes(payload)
            case Up.STATUS:
                return ControllerStatus.from_bytes(payload)
            case Up.RENEWAL:
                return RenewalRequest.from_bytes(payload)
            case Up.REPORT:
                return Report.from_bytes(payload)
    except PacsError as error:
        return error


def proven(opened: Sequence[Opened]) -> list[Opened]:
    """The same messages, each batch verified; one that is not authentic gives way to its error.

    A batch is proven by its own head, or by the head of a batch that continues its chain: of a chain that came
    in pieces only the last signature needs checking, which is the costliest step of all.
    """
    found: list[Opened] = []
    next_of_chain: dict[tuple[ControllerId, JournalId], Batch] = {}
    for each in reversed(opened):
        batch = each.content
        if isinstance(batch, Batch):
            chain = (batch.controller_id, batch.journal_id)
            following = next_of_chain.get(chain)
            try:
                if following is None or not _continues(batch, following):
                    batch.verify(each.keys)
                next_of_chain[chain] = batch
            except VerificationError as error:
                each = replace(each, content=error)  # noqa: PLW2901 -- the same message, found wanting
        elif isinstance(batch, Ahead):
            try:
                batch.batch.verify(each.keys)
            except VerificationError as error:
                each = replace(each, content=error)  # noqa: PLW2901 -- likewise
        found.append(each)
    return found[::-1]


def _continues(batch: Batch, following: Batch) -> bool:
    first = following.events[0]
    return first.previous_hash == batch.last_hash and first.sequence == batch.events[-1].sequence + 1
