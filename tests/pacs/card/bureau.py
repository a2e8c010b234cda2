"""An issuer of the simulator's cards that remembers in memory, and what it sees on the way to a card."""

from __future__ import annotations

from collections.abc import Callable

from pacs.card import cvc
from pacs.card.card_keys import (
    FIRST_ADMINISTRATION_VERSION,
    SIMULATED_MASTER,
    TRANSPORT_VERSION,
    CardSerial,
    diversify,
)
from pacs.card.dialogue import Dialogue, Transceive, get_response
from pacs.card.personalisation import Made, PersonalisedCard, Stage, personalise
from pacs.card.secure_channel import Greeting, KeySet
from simulator.virtual_card import VirtualCard
from tests.pacs.card.material import CHALLENGE, certificate

ADMINISTRATION = bytes(range(32))
HOST_CHALLENGE = bytes(range(8))


class MemoryBureau:
    """``pacs.card.personalisation.Bureau``; ``transport`` None: it does not know the batch."""

    def __init__(
        self,
        *,
        transport: bytes = SIMULATED_MASTER,
        administration: bytes = ADMINISTRATION,
        certify: Callable[[bytes], cvc.Certificate | None] = lambda key: certificate(public_key=key),
    ) -> None:
        self.transport = transport
        self.master = administration
        self._certify = certify
        self.open: dict[CardSerial, Made] = {}
        self.certified: list[Made] = []
        self.voided: list[Made] = []
        self.stages: list[Stage] = []

    def keys(self, greeting: Greeting) -> KeySet:
        is_transport = greeting.key_version == TRANSPORT_VERSION
        master = self.transport if is_transport else self.master
        return diversify(master, greeting.key_version, CardSerial(greeting.serial))

    def administration(self, serial: CardSerial) -> KeySet:
        return diversify(self.master, FIRST_ADMINISTRATION_VERSION, serial)

    def unfinished(self, serial: CardSerial) -> Made | None:
        return self.open.get(serial)

    def certify(self, serial: CardSerial, public_key: bytes) -> Made:
        made = Made(public_key=public_key, certificate=self._certify(public_key))
        self.open[serial] = made
        self.certified.append(made)
        return made

    def void(self, serial: CardSerial, made: Made) -> None:
        self.voided.append(made)
        self.open.pop(serial, None)

    def issue(self, *, certified: bool = True) -> Dialogue[PersonalisedCard]:
        return personalise(CHALLENGE, HOST_CHALLENGE, self, certified=certified, progress=self.stages.append)


def linked(card: VirtualCard) -> Transceive:
    """The way to a card that lies still."""

    def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        meanwhile()
        return card.answer(command)

    return get_response(transceive)
