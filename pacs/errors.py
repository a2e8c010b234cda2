"""Every error the shared packages raise; the type says whose fault it is.

::

    PacsError
    ├── MalformedData        their bytes do not follow the format
    ├── VerificationError    well formed, but not authentic; carries the Reason that is recorded
    ├── CardError            the card or the link to it; carries the status word when there was one
    │   ├── CardGone             no answer: it left the field
    │   └── CardMisbehaves       it answers, but against the protocol
    │       └── CardNotGenuine       it, or what stands between, does not hold the card's own keys
    ├── ReaderBroken         the reader itself: unplugged, silent, out of step
    └── StoreError           our own disk: unreadable, full, read-only
"""

from __future__ import annotations

from pacs.reason import ReadFault, Reason


class PacsError(Exception):
    """Root of the tree; never raised itself."""


class MalformedData(PacsError):
    """Foreign bytes that do not follow their format; the message names the rule they break."""


class VerificationError(PacsError):
    """Well-formed data that is not authentic; ``reason`` is what the event and the operator see."""

    def __init__(self, reason: Reason, message: str = "") -> None:
        super().__init__(message or reason.value)
        self.reason = reason


class CardError(PacsError):
    """The conversation with a card failed.

    ``fault`` is the closed reason; ``status_word`` is SW1 SW2 (ISO/IEC 7816-4 §5.6) or None when
    the link failed before a status word arrived.
    """

    def __init__(self, fault: ReadFault, message: str = "", *, status_word: int | None = None) -> None:
        super().__init__(message or fault.value)
        self.fault = fault
        self.status_word = status_word


class CardGone(CardError):
    """The card left the field, or never answered."""

    def __init__(self, message: str = "") -> None:
        super().__init__(ReadFault.CARD_GONE, message)


class CardMisbehaves(CardError):
    """The card answers, but against ISO/IEC 14443-4, 7816-4 or its application's protocol."""


class CardNotGenuine(CardMisbehaves):
    """What answers to the issuer is not the card that it says it is, or somebody stands between."""

    def __init__(self, message: str) -> None:
        super().__init__(ReadFault.PROTOCOL_ERROR, message)


class ReaderBroken(PacsError):
    """The reader does not answer, answers nonsense, or is unplugged; re-open it.

    ``advice``: what whoever stands at it can do; empty where opening it again is all there is.
    """

    def __init__(self, cause: str, advice: str = "") -> None:
        super().__init__(cause)
        self.advice = advice


class StoreError(PacsError):
    """A state file cannot be read or written; the message names the file and the next step."""
