"""One thing a technician is told: how bad it is, what was found, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final, Self

from pacs.errors import PacsError
from pacs.messages import Level

__all__ = ["Check", "Finding", "Level"]

_AT_A_LOSS: Final = "look at the log, and report this"


@unique
class Check(StrEnum):
    """What was looked at. Programs go by these words: none is renamed or given another meaning."""

    CONFIGURATION = "configuration"
    USER = "user"
    CONTROLLER = "controller"
    READER = "reader"
    DEVICE = "device"
    PINS = "pins"
    STRIKE = "strike"
    CONTACT = "contact"
    REX = "rex"
    TAMPER = "tamper"
    CLOCK_NTP = "clock_ntp"
    CLOCK = "clock"
    KEYS = "keys"
    CERTIFICATE_CHAIN = "certificate_chain"
    CERTIFICATE_NAMES = "certificate_names"
    CERTIFICATE_DATES = "certificate_dates"
    AUTHORITY_DATES = "authority_dates"
    ROOT_DATES = "root_dates"
    HUB_LINK = "hub_link"
    BROKER_TCP = "broker_tcp"
    BROKER_TLS = "broker_tls"
    BROKER_MQTT = "broker_mqtt"
    POLICY = "policy"
    REVOCATIONS = "revocations"
    ISSUERS = "issuers"
    DOOR = "door"
    STATE_DIR = "state_dir"
    DISK_SPACE = "disk_space"
    DISK_WRITABLE = "disk_writable"
    DISK_FILESYSTEM = "disk_filesystem"
    JOURNAL = "journal"
    PROGRAM = "program"
    TEMPERATURE = "temperature"
    SUPPLY = "supply"
    WATCHDOG_SERVICE = "watchdog_service"
    WATCHDOG_MACHINE = "watchdog_machine"
    EXAMINATION = "examination"
    """A part of the doctor itself failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``subject``: which door, side or part, where there are several; ``advice``: empty when there is nothing to do."""

    level: Level
    check: Check
    subject: str
    what: str
    advice: str = ""

    @classmethod
    def ok(cls, check: Check, what: str, *, subject: str = "") -> Self:
        """As it should be."""
        return cls(level=Level.OK, check=check, subject=subject, what=what)

    @classmethod
    def warn(cls, check: Check, what: str, advice: str, *, subject: str = "") -> Self:
        """Look after it."""
        return cls(level=Level.WARN, check=check, subject=subject, what=what, advice=advice or _AT_A_LOSS)

    @classmethod
    def fail(cls, check: Check, what: str, advice: str, *, subject: str = "") -> Self:
        """Mend it."""
        return cls(level=Level.FAIL, check=check, subject=subject, what=what, advice=advice or _AT_A_LOSS)

    @classmethod
    def failed(cls, check: Check, error: PacsError) -> Self:
        """Mend it, as the error says behind its semicolon."""
        what, _, advice = str(error).partition("; ")
        return cls.fail(check, what, advice)

    @property
    def name(self) -> str:
        """Check and subject, for a person."""
        return f"{self.check.value.replace('_', ' ')} {self.subject}".rstrip()

    def line(self) -> str:
        """What, and what to do, in one line."""
        text = f"{self.what}  → {self.advice}" if self.advice else self.what
        return " ".join(text.splitlines())

    def document(self) -> dict[str, str]:
        """As JSON."""
        return {
            "level": self.level.value,
            "check": self.check.value,
            "subject": self.subject,
            "name": self.name,
            "what": self.what,
            "advice": self.advice,
        }
