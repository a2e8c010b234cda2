"""What an event costs on its way to the hub: bytes of it, of its signed batch, of the MQTT payload."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.journal import CONTROLLER, tap
from pacs.events import Event, event_hash, genesis, seal_batch
from pacs.identifiers import JournalId

_JOURNAL = JournalId("0" * 32)
_BATCHES = (1, 10, 200)
_VISITS = 200


def measure() -> dict[str, float]:
    """Bytes an event takes in a batch of so many; returns the figures, keys beginning with ``wire.``."""
    key = Ed25519PrivateKey.generate()
    encoded, before = [], genesis(CONTROLLER, _JOURNAL)
    for number in range(_VISITS):
        for draft in tap(number):
            data = bytes(Event(sequence=len(encoded) + 1, previous_hash=before, draft=draft))
            before = event_hash(data)
            encoded.append(data)
    figures = {"wire.bytes_per_event_alone": sum(map(len, encoded)) / len(encoded)}
    for size in _BATCHES:
        batch = seal_batch(CONTROLLER, _JOURNAL, size, encoded[:size], key)
        figures[f"wire.bytes_per_event_in_batches_of_{size}"] = len(batch) / size
    return figures
