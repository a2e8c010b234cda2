"""A reader thread on a virtual PN532, and what it puts."""

from __future__ import annotations

import queue
import uuid
from datetime import UTC, date, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from edge.inputs import (
    CardClaimed,
    CardDetected,
    CardPresented,
    ReaderInput,
    ReaderLost,
    ReaderRestored,
)
from edge.nfc.pn532 import Pn532
from edge.nfc.reader import Reader, ReaderSettings
from pacs.credential import TrustAnchors
from pacs.identifiers import CredentialId, DoorId
from pacs.rules import Side
from simulator.card_deck import Recipe, deal
from simulator.link_faults import LinkOptions, card_on_link
from simulator.pn532 import VirtualPn532
from simulator.timing import Timing

ISSUER = "DREMPELTEST00001"
ISSUER_KEY = ec.generate_private_key(ec.SECP256R1())
CREDENTIAL = CredentialId(uuid.UUID(int=7).bytes)
RECIPE = Recipe(
    issuer_key=ISSUER_KEY,
    issuer=ISSUER,
    credential_id=CREDENTIAL,
    valid_from=date(2025, 1, 1),
    valid_until=date(2026, 1, 1),
    today=date(2025, 6, 1),
)
DEADLINE_S = 30.0


class Door:
    """A reader thread on a virtual PN532, and what it puts."""

    def __init__(self, link: Path, timing: Timing, settings: ReaderSettings) -> None:
        self.inputs: queue.Queue[ReaderInput] = queue.Queue()
        self.resets: list[None] = []
        self.link = link
        self.chip = VirtualPn532(timing=timing, link=link)
        self.reader = Reader(
            Pn532(str(link), patience_ms=500),
            door_id=DoorId("front"),
            side=Side.ENTRY,
            reader_identifier=bytes(32),
            trust=TrustAnchors(issuers={ISSUER: ISSUER_KEY.public_key()}),
            put=self.inputs.put,
            now=lambda: datetime(2025, 6, 1, 12, tzinfo=UTC),
            settings=settings,
            reset=lambda: self.resets.append(None),
        )

    def next(self, kind: type[ReaderInput]) -> ReaderInput:
        """The next input, which must be of this kind. A reader that a busy machine broke meanwhile is passed over."""
        while True:
            value = self.inputs.get(timeout=DEADLINE_S)
            if isinstance(value, kind):
                return value
            assert isinstance(value, CardDetected | CardClaimed | ReaderLost | ReaderRestored), value

    def insert(self, name: str, **options: object) -> None:
        self.chip.insert(card_on_link(deal(name, RECIPE), LinkOptions(**options)))  # type: ignore[arg-type]

    def expect_presented(self) -> CardPresented:
        presented = self.next(CardPresented)
        assert isinstance(presented, CardPresented)
        assert presented.credential.credential_id == CREDENTIAL
        return presented
