"""What a controller is told about itself: the values of its configuration, as ``edge.config_file`` reads them.

``docs/configuration-edge.md`` describes every one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from typing import Final

from edge.journal_policy import JournalPolicy
from pacs.errors import PacsError
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.rules import Side

_IN_ORDER_FOUND: Final = re.compile(r"/dev/tty(USB|ACM)\d+")


class ConfigError(PacsError):
    """The configuration cannot be used; ``problems`` has one printable line for each key that is wrong."""

    def __init__(self, path: Path, problems: tuple[str, ...]) -> None:
        self.path = path
        self.problems = tuple(
            "".join(each if each.isprintable() else "\ufffd" for each in problem) for problem in problems
        )
        super().__init__(f"{path}:\n" + "\n".join(f"  {problem}" for problem in self.problems))


@unique
class Pins(StrEnum):
    """Which gpiozero pin factory drives the door; there is no fallback from one to another."""

    LGPIO = "lgpio"
    MOCK = "mock"


@unique
class EnergiseTo(StrEnum):
    """What current does to the strike: ``unlock`` is fail-secure, ``lock`` is fail-safe."""

    UNLOCK = "unlock"
    LOCK = "lock"


@unique
class Wiring(StrEnum):
    """The circuit of an input at rest: a cut wire of a closed circuit reads as open, or as pressed."""

    NORMALLY_CLOSED = "normally_closed"
    NORMALLY_OPEN = "normally_open"


@unique
class Backend(StrEnum):
    """How a reader is spoken to: a PN532 on a serial line, or any contactless reader that PC/SC knows."""

    PN532 = "pn532"
    PCSC = "pcsc"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderConfig:
    """One reader and its signals; pins are BCM numbers, ``None`` when not fitted.

    ``device`` is a serial port; with ``backend`` PCSC it is the reader's name, and ``baud`` means nothing.
    """

    side: Side
    device: Path
    backend: Backend = Backend.PN532
    baud: int
    green_pin: int | None
    red_pin: int | None
    buzzer_pin: int | None
    reset_pin: int | None

    @property
    def changes_name(self) -> bool:
        """Whether ``device`` is whichever adapter was found in that place of the order, which a restart can change."""
        return self.backend is Backend.PN532 and _IN_ORDER_FOUND.fullmatch(str(self.device)) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorConfig:
    """The wiring of one door; pins are BCM numbers, ``None`` when not fitted."""

    id: DoorId
    strike_pin: int
    energise_to: EnergiseTo
    contact_pin: int | None
    contact_wiring: Wiring
    rex_pin: int | None
    rex_wiring: Wiring
    tamper_pin: int | None
    tamper_wiring: Wiring
    sounder_pin: int | None
    readers: tuple[ReaderConfig, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FireConfig:
    """The fire alarm's input, which all doors of a controller share; a BCM number."""

    pin: int
    wiring: Wiring


@unique
class UseTpm(StrEnum):
    """Whether new keys are made in a TPM: where there is one, or nowhere else, or never."""

    AUTO = "auto"
    REQUIRED = "required"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPaths:
    """Where the keys and certificates are.

    ``renewed``: a device key with its certificate, in one file, that take the place of the configured ones while they are
    newer. ``tpm``: of keys that are to be made; those that are there say themselves what they are. ``statement``: the key
    statement that is followed, which may say that another root follows the configured one.
    """

    device_certificate: Path
    device_key: Path
    event_key: Path
    root_certificate: Path
    policy_public_key: Path
    passphrase_file: Path
    tpm: UseTpm = UseTpm.AUTO
    renewed: Path | None = None
    statement: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a controller is told about itself.

    ``require_sync``: the time of day is not believed before the machine's clock was synchronised over the network.
    """

    path: Path
    controller_id: ControllerId
    site_id: SiteId
    state_dir: Path
    pins: Pins
    hub_host: str
    hub_port: int
    keys: KeyPaths
    doors: tuple[DoorConfig, ...]
    fire: FireConfig | None
    journal: JournalPolicy
    require_sync: bool
