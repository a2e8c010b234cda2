"""One transaction with a card in the field: activation, the PKOC dialogue, verification, and when each ended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from pacs.card import pkoc
from pacs.card.dialogue import Exchange, Transceive, get_response, observed, run
from pacs.credential import Presentation, VerifiedCredential, Verifier

_PHASES: Final = {0xA4: "select", 0xCA: "certificate", 0x88: "sign", 0x80: "sign"}
"""The phase that ends with the answer to an instruction; GET RESPONSE prolongs the phase it is in."""


class Contact(Protocol):
    """One card in the field."""

    @property
    def identity(self) -> bytes:
        """What tells this card from another while it stays; proves nothing."""
        ...

    def activate(self, deadline_ns: int) -> None:
        """Make it ready for commands. Everything with it ends at ``deadline_ns``.

        Raises ``CardError`` or ``ReaderBroken``.
        """
        ...

    def transceive(self, command: bytes, meanwhile: Callable[[], None]) -> bytes:
        """``pacs.card.dialogue.Transceive``."""
        ...

    def while_waiting(self, work: Callable[[], float | None] | None) -> None:
        """Do ``work`` while an answer is awaited and nothing of it has come: at once, then after each pause (s) it
        returns, until it returns None. ``None`` in place of ``work``: nothing.
        """
        ...

    def is_present(self) -> bool:
        """Whether it is still there after its conversation. Raises ``ReaderBroken``."""
        ...

    def release(self) -> None:
        """End with it, so that ``poll`` can find it, or another, again. Raises ``ReaderBroken``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """How this reader talks to a card.

    ``reader_identifier`` (32 bytes), ``now`` (wall time) and ``random`` make each challenge.
    ``limit_ms`` is the most a card may take from detection to its last byte.
    """

    reader_identifier: bytes
    allow_v1: bool
    limit_ms: int
    now: Callable[[], datetime]
    monotonic_ns: Callable[[], int] = time.monotonic_ns
    random: Callable[[int], bytes] = os.urandom

    def read(
        self,
        contact: Contact,
        verifier: Verifier,
        detected: Callable[[], None],
        claimed: Callable[[VerifiedCredential], Callable[[], float | None]],
    ) -> tuple[Presentation, dict[str, int]]:
        """Return what the card presents, unverified, and the marks so far.

        ``detected`` runs while the first command is on its way, where it costs no time; the certificate is
        verified while the card signs. ``claimed`` is told what it claims if it is authentic, and returns what to do
        until the card has signed (``Contact.while_waiting``). Raises ``CardError`` or ``ReaderBroken``.
        """
        marks = {"detect": self.monotonic_ns()}
        contact.activate(marks["detect"] + self.limit_ms * 1_000_000)
        marks["activate"] = self.monotonic_ns()
        phase = "select"

        def mark(exchange: Exchange) -> None:
            nonlocal phase
            phase = _PHASES.get(exchange.command[1], phase)
            marks[phase] = exchange.answered_ns

        transceive = observed(_announcing(contact.transceive, detected), mark, self.monotonic_ns)
        challenge = pkoc.Challenge(
            reader_identifier=self.reader_identifier, at=self.now(), random=self.random(pkoc.RANDOM_BYTES)
        )

        def certified(certificate: bytes) -> None:
            credential = verifier.prefetch(certificate)
            if credential is not None:
                contact.while_waiting(claimed(credential))

        dialogue = pkoc.present(challenge, allow_v1=self.allow_v1, on_certificate=certified)
        try:
            return run(dialogue, get_response(transceive)), marks
        finally:
            contact.while_waiting(None)


def _announcing(transceive: Transceive, detected: Callable[[], None]) -> Transceive:
    """Do ``detected`` before the ``meanwhile`` of the first command."""
    announced = False

    def announce(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        nonlocal announced
        if announced:
            return transceive(command, meanwhile)
        announced = True

        def both() -> None:
            detected()
            meanwhile()

        return transceive(command, both)

    return announce
