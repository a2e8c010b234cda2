"""What a controller can find when it examines itself: each kind by a stable code, with its words in English.

In the words ``%(name)s`` stands for a value. A value whose name ends in ``_s`` is a duration in seconds, one in ``_at`` a
moment in Unix seconds; both are whole numbers, and every other one is a whole number or a text. ``problem`` and ``advice``
are sentences of their own, in English, that a reader's language may have words for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, unique
from typing import Final

Value = int | str
PLACEHOLDER: Final = re.compile(r"%\((\w+)\)s")


@unique
class Level(StrEnum):
    """How bad a finding is; ``warn``: the doors work, and something will go wrong or could not be examined."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


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
    TPM = "tpm"
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

    @property
    def words(self) -> str:
        """For a person, in English."""
        return self.value.replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What is said of one kind of finding; ``advice``: empty when there is nothing to do."""

    check: Check
    level: Level
    what: str
    advice: str = ""

    @property
    def values(self) -> frozenset[str]:
        """The names of the values that it takes."""
        return frozenset(PLACEHOLDER.findall(self.what + self.advice))

    def fits(self, values: Mapping[str, Value]) -> bool:
        """Whether these are its values, each of its kind."""
        return values.keys() == self.values and all(
            isinstance(value, int) for name, value in values.items() if name.endswith(("_s", "_at"))
        )


def _ok(check: Check, what: str) -> Wording:
    return Wording(check=check, level=Level.OK, what=what)


def _warn(check: Check, what: str, advice: str) -> Wording:
    return Wording(check=check, level=Level.WARN, what=what, advice=advice)


def _fail(check: Check, what: str, advice: str) -> Wording:
    return Wording(check=check, level=Level.FAIL, what=what, advice=advice)


_RESTART: Final = "sudo systemctl restart drempel-edge"
_CLOCK: Final = "set the clock: timedatectl set-ntp true; fit a clock with a battery"
_COPY: Final = "provision this controller again and copy its directory"
_RENEW: Final = "it renews itself while it is connected; after its end: drempel-provision reader re-enrol, and drempel-edge enrol"
_NEW_AUTHORITY: Final = "at the bureau: drempel-provision key rotate devices"
_NEW_ROOT: Final = "at the bureau: drempel-provision key rotate root"
_REGISTERED: Final = "is this controller registered at the hub, and not withdrawn?"
_SEEN: Final = "%(chip)s; cards: %(reads)s read, %(failures)s not; lost: %(losses)s in %(running_s)s"
_STANDS: Final = "%(mode)s, strike %(strike)s, contact %(contact)s"
_FREE: Final = "%(mib)s MiB free at %(path)s"
_WAIT: Final = "events waiting for the hub: %(waiting)s"
_VALID: Final = "valid until %(until_at)s, days left: %(days)s"
_EXPIRED: Final = "expired on %(until_at)s"
_NOT_YET: Final = "valid from %(from_at)s only"
_CLOCK_RIGHT: Final = "is the clock right? see above"
_UNTOLD: Final = "not told of a private door"


@unique
class Code(Enum):
    """Every kind; on the wire by its name in lower case, which is neither changed nor given another meaning."""

    CONFIGURATION_READ = _ok(Check.CONFIGURATION, "controller %(controller)s, doors: %(doors)s")
    CONFIGURATION_WRONG = _fail(Check.CONFIGURATION, "%(problem)s", "correct %(path)s")
    USER_RIGHT = _ok(Check.USER, "%(user)s, whom state and keys belong to")
    USER_UNSEEN = _warn(
        Check.USER, "neither state_dir nor keys can be seen", "run this as the controller's user"
    )
    USER_TWO = _warn(
        Check.USER,
        "%(first)s belongs to %(owner)s, and %(other)s to %(other_owner)s",
        "give both to the controller's user: sudo chown -R %(owner)s %(other)s",
    )
    USER_OTHER = _warn(
        Check.USER,
        "%(first)s belongs to %(owner)s: what works for %(user)s may fail for it",
        "sudo -u %(owner)s %(command)s; or, if that is wrong, chown",
    )
    CONTROLLER_RUNS = _ok(Check.CONTROLLER, "running for %(running_s)s, %(software)s")
    CONTROLLER_STOPPED = _warn(Check.CONTROLLER, "not running", "sudo systemctl start drempel-edge")
    CONTROLLER_STARTING = _warn(Check.CONTROLLER, "starting", "ask again in a minute")
    CONTROLLER_SILENT = _fail(Check.CONTROLLER, "%(problem)s", "%(advice)s")
    CONTROLLER_MUTE = _warn(
        Check.CONTROLLER, "does not answer at its status socket", "look at %(path)s; " + _RESTART
    )
    CONTROLLER_OUTDATED = _warn(
        Check.CONTROLLER,
        "running for %(running_s)s, %(software)s; started with other doors than this file has",
        _RESTART,
    )
    DEVICE_MOVES = _warn(
        Check.DEVICE,
        "%(device)s is whichever adapter was found in that order",
        "name the socket: device = one of /dev/drempel-reader-* or /dev/serial/by-path/*",
    )
    READER_SEEN = _ok(Check.READER, _SEEN)
    READER_ASKED = _ok(Check.READER, "%(chip)s; the field is on, no card in it")
    READER_ASKED_CARD = _ok(Check.READER, "%(chip)s; a card is in the field")
    READER_PRIVATE = _ok(Check.READER, _UNTOLD)
    READER_PRIVATE_AMISS = _warn(
        Check.READER, _UNTOLD, "something is amiss with it: run drempel-edge doctor at this controller"
    )
    READER_UNTOLD = _warn(Check.READER, "not examined: the controller has it and does not tell", "ask again")
    READER_UNUSED = _warn(
        Check.READER,
        "%(device)s is not used: the controller was started with another configuration",
        _RESTART,
    )
    READER_LOST = _fail(Check.READER, "lost for %(lost_s)s: %(problem)s", "%(advice)s")
    READER_BROKEN = _fail(Check.READER, "%(problem)s", "%(advice)s")
    READER_STARTING = _warn(Check.READER, "%(state)s for %(state_s)s", "ask again")
    READER_OFTEN_LOST = _warn(
        Check.READER, _SEEN, "look at its cable, plugs and supply: fix what is loose, shorten what is long"
    )
    READER_OFTEN_FAILS = _warn(
        Check.READER, _SEEN, "keep metal and other readers away from the antenna; look at its cable"
    )
    READER_SLOW = _warn(
        Check.READER,
        "%(chip)s; %(baud)s baud wanted",
        "shorten the cable, or lower baud: every tap takes longer than it could",
    )
    PINS_STAND = _ok(Check.PINS, _STANDS)
    PINS_PRIVATE = _ok(Check.PINS, _UNTOLD)
    PINS_ALARM = _fail(Check.PINS, _STANDS + ", alarms: %(alarms)s", "look at the door")
    PINS_TAKEN = _warn(
        Check.PINS,
        "the controller has them",
        "systemctl stop drempel-edge, then again with --with-pins",
    )
    PINS_UNASKED = _warn(
        Check.PINS,
        "not examined: nobody allowed it",
        "with somebody at the door: drempel-edge doctor --with-pins",
    )
    PINS_FAILED = _fail(
        Check.PINS,
        "%(problem)s",
        "is this a Raspberry Pi? is another program using a pin? sudo usermod -aG gpio drempel, then "
        + _RESTART,
    )
    STRIKE_MOVED = _ok(
        Check.STRIKE,
        "pin %(pin)s released for %(pulse_s)s and locked; did it move? if not, look at its driver and supply",
    )
    STRIKE_LEFT = _warn(Check.STRIKE, "not moved: nobody allowed it", "again, with somebody at the door")
    CONTACT_AT_REST = _ok(Check.CONTACT, "door closed")
    CONTACT_OPEN = _warn(
        Check.CONTACT, "door open", "if that is not so: a wire is cut, or contact_wiring is not %(wiring)s"
    )
    REX_AT_REST = _ok(Check.REX, "not pressed")
    REX_PRESSED = _warn(
        Check.REX, "pressed", "if that is not so: a wire is cut, or rex_wiring is not %(wiring)s"
    )
    TAMPER_AT_REST = _ok(Check.TAMPER, "case closed")
    TAMPER_OPEN = _warn(
        Check.TAMPER, "case open", "if that is not so: a wire is cut, or tamper_wiring is not %(wiring)s"
    )
    CLOCK_NTP_SET = _ok(Check.CLOCK_NTP, "synchronised")
    CLOCK_NTP_UNKNOWN = _warn(Check.CLOCK_NTP, "the kernel does not say", "run: timedatectl")
    CLOCK_NTP_NOT_SET = _warn(
        Check.CLOCK_NTP,
        "not synchronised",
        "let systemd-timesyncd reach a time server: timedatectl timesync-status",
    )
    CLOCK_RIGHT = _ok(Check.CLOCK, "%(now_at)s")
    CLOCK_BEFORE_BUILD = _fail(Check.CLOCK, "%(now_at)s is before this program was built", _CLOCK)
    CLOCK_BEFORE_POLICY = _fail(Check.CLOCK, "%(now_at)s is before the issue of the policy", _CLOCK)
    CLOCK_BEFORE_REVOCATIONS = _fail(Check.CLOCK, "%(now_at)s is before the issue of the revocations", _CLOCK)
    CLOCK_BEFORE_JOURNAL = _fail(Check.CLOCK, "%(now_at)s is before the newest file of the journal", _CLOCK)
    CLOCK_DISTRUSTED = _fail(
        Check.CLOCK, "%(now_at)s; the controller does not trust it: %(distrust)s", _CLOCK
    )
    TPM_UNUSED = _ok(Check.TPM, "not used; the keys are encrypted files")
    TPM_KEEPS_DEVICE_KEY = _ok(Check.TPM, "keeps the device key; the passphrase of the event key is a file")
    TPM_KEEPS_PASSPHRASE = _ok(Check.TPM, "keeps the passphrase of the event key; the device key is a file")
    TPM_KEEPS_KEYS = _ok(Check.TPM, "keeps the device key and the passphrase of the event key")
    TPM_EMPTY = _warn(
        Check.TPM,
        "answers, and keeps none of the keys",
        "the next renewal makes the device key there; for all of them: drempel-provision reader swap, and drempel-edge enrol",
    )
    TPM_UNUSABLE = _warn(Check.TPM, "there is one, and it is not used: %(problem)s", "%(advice)s")
    TPM_FAILED = _fail(
        Check.TPM, "%(problem)s; the doors open without it, and the hub is not reached", "%(advice)s"
    )
    KEYS_FIT = _ok(Check.KEYS, "can be read, and belong to the certificate")
    KEYS_UNUSABLE = _fail(Check.KEYS, "%(problem)s", "%(advice)s")
    CERTIFICATE_CHAIN_LEADS = _ok(Check.CERTIFICATE_CHAIN, "leads to the site's root")
    CERTIFICATE_CHAIN_ASTRAY = _fail(Check.CERTIFICATE_CHAIN, "does not lead to the site's root", _COPY)
    CERTIFICATE_NAMES_FIT = _ok(Check.CERTIFICATE_NAMES, "CN and DNS name %(controller)s")
    CERTIFICATE_NAMES_LACK = _fail(
        Check.CERTIFICATE_NAMES,
        "the DNS names %(names)s lack %(controller)s: the broker goes by them",
        _COPY,
    )
    CERTIFICATE_DATES_VALID = _ok(Check.CERTIFICATE_DATES, _VALID)
    CERTIFICATE_DATES_ENDING = _warn(Check.CERTIFICATE_DATES, _VALID, _RENEW)
    CERTIFICATE_DATES_EXPIRED = _fail(Check.CERTIFICATE_DATES, _EXPIRED, _RENEW)
    CERTIFICATE_DATES_NOT_YET = _fail(Check.CERTIFICATE_DATES, _NOT_YET, _CLOCK_RIGHT)
    AUTHORITY_DATES_VALID = _ok(Check.AUTHORITY_DATES, _VALID)
    AUTHORITY_DATES_ENDING = _warn(Check.AUTHORITY_DATES, _VALID, _NEW_AUTHORITY)
    AUTHORITY_DATES_EXPIRED = _fail(Check.AUTHORITY_DATES, _EXPIRED, _NEW_AUTHORITY)
    AUTHORITY_DATES_NOT_YET = _fail(Check.AUTHORITY_DATES, _NOT_YET, _CLOCK_RIGHT)
    ROOT_DATES_VALID = _ok(Check.ROOT_DATES, _VALID)
    ROOT_DATES_ENDING = _warn(Check.ROOT_DATES, _VALID, _NEW_ROOT)
    ROOT_DATES_EXPIRED = _fail(Check.ROOT_DATES, _EXPIRED, _NEW_ROOT)
    ROOT_DATES_NOT_YET = _fail(Check.ROOT_DATES, _NOT_YET, _CLOCK_RIGHT)
    HUB_LINK_ANSWERED = _ok(Check.HUB_LINK, "online, and the hub answers")
    HUB_LINK_AWAY = _warn(Check.HUB_LINK, "%(phase)s: %(problem)s", "the next lines say which step fails")
    HUB_LINK_WAITING = _warn(
        Check.HUB_LINK,
        "%(phase)s, again in %(retry_s)s: %(problem)s",
        "the next lines say which step fails",
    )
    BROKER_TCP_ACCEPTS = _ok(Check.BROKER_TCP, "%(host)s accepts")
    BROKER_TCP_FAILED = _fail(Check.BROKER_TCP, "%(host)s: %(problem)s", "%(advice)s")
    BROKER_TLS_SPOKEN = _ok(
        Check.BROKER_TLS, "%(version)s; a certificate of this site for %(host)s, days left: %(days)s"
    )
    BROKER_TLS_FAILED = _fail(Check.BROKER_TLS, "%(host)s: %(problem)s", "%(advice)s")
    BROKER_MQTT_ACCEPTED = _ok(Check.BROKER_MQTT, "CONNECT accepted")
    BROKER_MQTT_SILENT = _fail(
        Check.BROKER_MQTT, "accepted and silent for %(patience_s)s", "restart the broker"
    )
    BROKER_MQTT_CERTIFICATE = _fail(Check.BROKER_MQTT, "%(problem)s", "%(advice)s")
    BROKER_MQTT_ENDED = _fail(Check.BROKER_MQTT, "ended by the broker", _REGISTERED)
    BROKER_MQTT_BROKEN = _fail(Check.BROKER_MQTT, "ended by the broker (%(problem)s)", _REGISTERED)
    BROKER_MQTT_OTHER = _fail(Check.BROKER_MQTT, "no MQTT", _REGISTERED)
    BROKER_MQTT_VERSION = _fail(Check.BROKER_MQTT, "it does not speak MQTT 3.1.1", _REGISTERED)
    BROKER_MQTT_CLIENT_ID = _fail(Check.BROKER_MQTT, "it does not take this client id", _REGISTERED)
    BROKER_MQTT_UNAVAILABLE = _fail(Check.BROKER_MQTT, "it is not available", _REGISTERED)
    BROKER_MQTT_UNKNOWN = _fail(Check.BROKER_MQTT, "it does not know this controller", _REGISTERED)
    BROKER_MQTT_REFUSED = _fail(Check.BROKER_MQTT, "it does not let this controller in", _REGISTERED)
    BROKER_MQTT_REFUSED_OTHERWISE = _fail(Check.BROKER_MQTT, "refused with %(status)s", _REGISTERED)
    POLICY_HELD = _ok(Check.POLICY, "version %(version)s, %(age_s)s old")
    POLICY_UNUSABLE = _fail(Check.POLICY, "%(problem)s", "connect to the hub, which sends it")
    POLICY_EXPIRED = _fail(
        Check.POLICY,
        "version %(version)s expired on %(until_at)s",
        "connect to the hub, which sends a newer one",
    )
    POLICY_KEY_UNUSABLE = _fail(Check.POLICY, "%(problem)s", "%(advice)s")
    REVOCATIONS_HELD = _ok(Check.REVOCATIONS, "version %(version)s, %(age_s)s old")
    REVOCATIONS_UNUSABLE = _fail(Check.REVOCATIONS, "%(problem)s", "connect to the hub, which sends it")
    REVOCATIONS_EXPIRED = _fail(
        Check.REVOCATIONS,
        "version %(version)s expired on %(until_at)s",
        "connect to the hub, which sends a newer one",
    )
    ISSUERS_NONE = _fail(
        Check.ISSUERS, "the policy trusts no issuer of cards", "add the site's card issuer at the hub"
    )
    DOOR_KNOWN = _ok(Check.DOOR, "in the policy, %(mode)s")
    DOOR_UNKNOWN = _fail(
        Check.DOOR,
        "the policy does not know it",
        "give it this id at the hub, or correct [[door]] id",
    )
    DOOR_ELSEWHERE = _fail(
        Check.DOOR,
        "the policy gives it to controller %(controller)s",
        "move it to this controller at the hub",
    )
    DOOR_TOO_OLD = _warn(
        Check.DOOR,
        "its documents are %(age_s)s old, allowed are %(allowed_s)s: then %(then)s",
        "connect to the hub",
    )
    STATE_DIR_THERE = _ok(Check.STATE_DIR, "%(path)s is there")
    STATE_DIR_ABSENT = _warn(Check.STATE_DIR, "%(path)s is not there", "it is made at the first start")
    STATE_DIR_WRONG = _fail(Check.STATE_DIR, "%(path)s: %(problem)s", "%(advice)s")
    DISK_SPACE_ENOUGH = _ok(Check.DISK_SPACE, _FREE)
    DISK_SPACE_LITTLE = _warn(Check.DISK_SPACE, _FREE, "make room, or use a larger card")
    DISK_SPACE_NONE = _fail(
        Check.DISK_SPACE, _FREE, "make room: journalctl --vacuum-size=50M; use a larger card"
    )
    DISK_WRITABLE_YES = _ok(Check.DISK_WRITABLE, "%(path)s takes and keeps a file")
    DISK_WRITABLE_NO = _fail(Check.DISK_WRITABLE, "%(path)s: %(problem)s", "%(advice)s")
    DISK_FILESYSTEM_KEEPS = _ok(Check.DISK_FILESYSTEM, "%(filesystem)s")
    DISK_FILESYSTEM_FORGETS = _warn(
        Check.DISK_FILESYSTEM,
        "%(filesystem)s: what is on it is gone after a power cut",
        "use ext4",
    )
    DISK_FILESYSTEM_OPEN = _fail(
        Check.DISK_FILESYSTEM,
        "%(filesystem)s keeps no file modes: keys can be read by anybody",
        "use ext4",
    )
    JOURNAL_FLOWS = _ok(Check.JOURNAL, _WAIT)
    JOURNAL_WAITS = _warn(Check.JOURNAL, _WAIT, "restore the connection to the hub")
    JOURNAL_RESTS = _ok(Check.JOURNAL, "%(kib)s KiB, files: %(files)s; the controller does not run")
    PROGRAM_COMPILED = _ok(Check.PROGRAM, "is compiled")
    PROGRAM_RECOMPILED = _warn(
        Check.PROGRAM, "is compiled again at each start, which takes seconds", "%(command)s"
    )
    TEMPERATURE_FINE = _ok(Check.TEMPERATURE, "%(celsius)s °C")
    TEMPERATURE_HIGH = _warn(Check.TEMPERATURE, "%(celsius)s °C", "give the case air")
    TEMPERATURE_TOO_HIGH = _fail(
        Check.TEMPERATURE,
        "%(celsius)s °C",
        "the processor slows down: move it out of the sun, open the case",
    )
    SUPPLY_FINE = _ok(Check.SUPPLY, "no undervoltage")
    SUPPLY_LOW = _fail(Check.SUPPLY, "undervoltage", "use the board's own supply and a short cable")
    WATCHDOG_SERVICE_FED = _ok(Check.WATCHDOG_SERVICE, "fed within %(interval_s)s")
    WATCHDOG_SERVICE_STALLED = _fail(
        Check.WATCHDOG_SERVICE,
        "%(parts)s hangs",
        "one restart is tried; plug a reader out and in, and look at the log",
    )
    WATCHDOG_SERVICE_NONE = _warn(
        Check.WATCHDOG_SERVICE,
        "nobody restarts the controller when it hangs",
        "start it by drempel-edge.service, which has WatchdogSec",
    )
    WATCHDOG_MACHINE_ACTIVE = _ok(Check.WATCHDOG_MACHINE, "%(device)s is active")
    WATCHDOG_MACHINE_UNUSED = _warn(
        Check.WATCHDOG_MACHINE,
        "%(device)s is not used",
        "RuntimeWatchdogSec=14 in /etc/systemd/system.conf, then restart",
    )
    EXAMINATION_FORBIDDEN = _fail(
        Check.EXAMINATION, "not for this user: %(problem)s", "run this as the controller's user"
    )
    EXAMINATION_FAILED = _fail(Check.EXAMINATION, "could not be done: %(problem)s", "report this")

    @property
    def word(self) -> str:
        """As it stands on the wire."""
        return self.name.lower()


CODES: Final[Mapping[str, Code]] = {code.word: code for code in Code}
"""Word → code."""
