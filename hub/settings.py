"""What one hub process is told: where its site's keys and data are, and where it listens.

The command line comes before the environment (``DREMPEL_…``), which comes before a TOML file (``--config hub.toml``),
which comes before the defaults. Relative paths in the file start at the file. Unknown keys and variables are refused:
a misspelt setting never silently becomes a default. ``KEYS`` names every setting; docs/configuration-hub.md says what
each one is for.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from hub import setting_kinds
from hub.alarms import AlarmBounds
from hub.muster_copies import CopySettings
from hub.oidc_provider import PROMPTS, OidcSettings
from hub.pages.languages import LANGUAGES, SOURCE
from hub.periods import Periods
from hub.setting_kinds import PATH, TEXT, TEXTS, Given, Key, list_of, one_of, parsed, period, seconds
from hub.webhooks import networks
from pacs.errors import MalformedData
from pacs.schedule import zone

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port to listen on; port 0 means any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``HOST:PORT`` or ``[IPV6]:PORT``; raises ``MalformedData``."""
        host, colon, port = text.rpartition(":")
        if not (colon and host and port.isascii() and port.isdecimal() and int(port) <= 65535):
            raise MalformedData(f"listen address {text!r}: HOST:PORT expected, such as 127.0.0.1:8000")
        return cls(host.strip("[]"), int(port))

    @property
    def is_loopback(self) -> bool:
        """True when only programs on this machine can reach it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a hub process is told.

    ``site_dir`` holds the hub's keys as ``drempel-provision site create`` made them; ``data_dir`` the
    database and the broker's data. ``site_name`` is shown on the pages and ``time_zone`` (IANA) is the one
    schedules follow; empty: as they are. ``language`` is that of the pages for a browser that asks for none of
    theirs. ``origin`` is the address people type, for links; by default it follows ``http``. ``database_url``
    (``postgresql+psycopg://user@host/name``, without a password) takes the
    place of the SQLite file; the password is in ``database_password_file``, which only its owner may read, or it is
    ``database_password``, which only the environment gives. ``certificate`` and ``key`` (PEM) turn on HTTPS. Without
    them ``http`` must be loopback, or stand behind a proxy named in ``trusted_proxies`` with an https ``origin``.
    ``mqtt_advertised``: where a controller is told at its enrolment to connect; by default by the name of the broker's machine
    that the site was made with. ``mqtt_servers``: where the nodes of a cluster of brokers are. With them this process runs no broker, unless it is
    the ``cluster_node`` that listens for the others at ``cluster_listen`` and finds them at ``cluster_routes``.
    ``alarms`` says when the hub's patience with doors, and with whoever acknowledged an alarm, ends; ``retention`` how long
    what is kept; ``muster_copies`` where the roll call is copied to; ``oidc`` which OpenID provider operators may sign in
    by; ``card_return_address`` what is printed on cards for who finds one.
    """

    site_dir: Path
    data_dir: Path
    http: Address = Address("127.0.0.1", 8000)
    mqtt: Address = Address("127.0.0.1", 8883)
    mqtt_servers: tuple[Address, ...] = ()
    mqtt_advertised: Address | None = None
    cluster_node: str = ""
    cluster_listen: Address | None = None
    cluster_routes: tuple[Address, ...] = ()
    origin: str = ""
    certificate: Path | None = None
    key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    broker_binary: Path | None = None
    passphrase_file: Path | None = None
    database_url: str = ""
    database_password_file: Path | None = None
    database_password: str = field(default="", repr=False)
    site_name: str = ""
    time_zone: str = ""
    language: str = SOURCE
    alarms: AlarmBounds = field(default_factory=AlarmBounds)
    retention: Periods = field(default_factory=Periods)
    muster_copies: CopySettings = field(default_factory=CopySettings)
    oidc: OidcSettings = field(default_factory=OidcSettings)
    card_return_address: str = ""
    webhooks_allow: tuple[str, ...] = ()
    webhooks_ca_file: Path | None = None
    log_level: str = "info"
    log_format: str = "json"

    def __post_init__(self) -> None:
        networks(self.webhooks_allow)
        if (self.certificate is None) != (self.key is None):
            raise MalformedData("http.certificate and http.key: give both, or neither")
        if self.origin and not self.origin.startswith(("http://", "https://")):
            raise MalformedData("http.origin: an address such as https://hub.example.org expected")
        if self.database_url:
            _check_database(self.database_url)
        if (self.mqtt_servers or self.cluster_node) and not self.database_url:
            raise MalformedData(
                "mqtt.servers, cluster.node: a hub on SQLite has one broker of its own; several need PostgreSQL (database.url)"
            )
        if len({bool(self.cluster_node), self.cluster_listen is not None, bool(self.cluster_routes)}) > 1:
            raise MalformedData("cluster.node, cluster.listen and cluster.routes: give all three, or none")
        if self.cluster_node and not re.fullmatch("[A-Za-z0-9_-]{1,32}", self.cluster_node):
            raise MalformedData("cluster.node: 1 to 32 characters of A-Z a-z 0-9 _ - expected")
        if self.time_zone:
            zone(self.time_zone)
        behind_proxy = self.trusted_proxies and self.origin.startswith("https://")
        if self.certificate is None and not self.http.is_loopback and not behind_proxy:
            raise MalformedData(
                f"http.listen {self.http} can be reached from the network without encryption: set"
                " http.certificate and http.key, or listen on 127.0.0.1 behind a proxy"
            )

    @property
    def public_origin(self) -> str:
        """Scheme, host and port as the browser shows them, without a trailing slash."""
        scheme = "https" if self.certificate else "http"
        return self.origin.rstrip("/") or f"{scheme}://{self.http}"

    @property
    def runs_broker(self) -> bool:
        """Whether this process runs one."""
        return bool(self.cluster_node) or not self.mqtt_servers

    @property
    def is_https(self) -> bool:
        """True when browsers reach this hub over TLS; cookies are then ``__Host-`` and Secure."""
        return self.public_origin.startswith("https://")

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.data_dir / "hub.sqlite"

    @classmethod
    def from_toml(cls, path: Path | None, environment: Mapping[str, str] = _NOTHING, **said: Any) -> Settings:
        """As ``Configuration.read``, without the origins."""
        return Configuration.read(path, environment, **said).settings


_BOUND = seconds(10, 86_400)


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise ValueError("absolute paths expected")
    return path


_MODES = {"0600": 0o600, "0640": 0o640, "0644": 0o644}


def _mode(text: str) -> int:
    if text not in _MODES:
        raise ValueError(f"one of {', '.join(_MODES)} expected")
    return _MODES[text]


_MODE = replace(parsed(", ".join(_MODES), _mode), shown=lambda mode: f"{mode:04o}")
_ADDRESS = parsed("HOST:PORT", Address.parse)

KEYS = (
    Key(name="site_dir", field="site_dir", kind=PATH),
    Key(name="data_dir", field="data_dir", kind=PATH),
    Key(name="passphrase_file", field="passphrase_file", kind=PATH),
    Key(name="site_name", field="site_name", kind=TEXT),
    Key(name="time_zone", field="time_zone", kind=TEXT),
    Key(name="language", field="language", kind=one_of(*LANGUAGES)),
    Key(name="database.url", field="database_url", kind=TEXT),
    Key(name="database.password_file", field="database_password_file", kind=PATH),
    Key(name="database.password", field="database_password", kind=TEXT, is_secret=True),
    Key(name="http.listen", field="http", kind=_ADDRESS),
    Key(name="http.origin", field="origin", kind=TEXT),
    Key(name="http.certificate", field="certificate", kind=PATH),
    Key(name="http.key", field="key", kind=PATH),
    Key(name="http.trusted_proxies", field="trusted_proxies", kind=TEXTS),
    Key(name="mqtt.listen", field="mqtt", kind=_ADDRESS),
    Key(name="mqtt.servers", field="mqtt_servers", kind=list_of("HOST:PORT", Address.parse)),
    Key(name="mqtt.advertised", field="mqtt_advertised", kind=_ADDRESS),
    Key(name="mqtt.binary", field="broker_binary", kind=PATH),
    Key(name="cluster.node", field="cluster_node", kind=TEXT),
    Key(name="cluster.listen", field="cluster_listen", kind=_ADDRESS),
    Key(name="cluster.routes", field="cluster_routes", kind=list_of("HOST:PORT", Address.parse)),
    Key(name="alarms.silent_after_s", field="alarms.silent_after", kind=_BOUND),
    Key(name="alarms.unconfirmed_after_s", field="alarms.unconfirmed_after", kind=_BOUND),
    Key(name="alarms.remind_after_s", field="alarms.remind_after", kind=_BOUND),
    Key(name="retention.precise_h", field="retention.precise", kind=period(1, 72, "hours")),
    Key(name="retention.coarse_days", field="retention.coarse", kind=period(1, 30, "days")),
    Key(name="retention.doors_days", field="retention.doors", kind=period(1, 366, "days")),
    Key(name="retention.totals_days", field="retention.totals", kind=period(1, 1830, "days")),
    Key(name="retention.leavers_days", field="retention.leavers", kind=period(0, 366, "days")),
    Key(name="retention.registration_days", field="retention.registration", kind=period(1, 92, "days")),
    Key(name="cards.return_address", field="card_return_address", kind=TEXT),
    Key(name="muster.copy_to", field="muster_copies.folders", kind=list_of("path", _absolute)),
    Key(name="muster.copy_every_s", field="muster_copies.every", kind=seconds(10, 3600)),
    Key(name="muster.copy_mode", field="muster_copies.mode", kind=_MODE),
    Key(name="oidc.issuer", field="oidc.issuer", kind=TEXT),
    Key(name="oidc.client_id", field="oidc.client_id", kind=TEXT),
    Key(name="oidc.client_secret_file", field="oidc.client_secret_file", kind=PATH),
    Key(name="oidc.client_secret", field="oidc.client_secret", kind=TEXT, is_secret=True),
    Key(name="oidc.scopes", field="oidc.scopes", kind=TEXTS),
    Key(name="oidc.prompt", field="oidc.prompt", kind=one_of(*PROMPTS)),
    Key(name="oidc.label", field="oidc.label", kind=TEXT),
    Key(name="oidc.ca_file", field="oidc.ca_file", kind=PATH),
    Key(name="webhooks.allow", field="webhooks_allow", kind=TEXTS),
    Key(name="webhooks.ca_file", field="webhooks_ca_file", kind=PATH),
    Key(name="log.level", field="log_level", kind=one_of("debug", "info", "warning", "error")),
    Key(name="log.format", field="log_format", kind=one_of("json", "text")),
)
"""Every setting: its place in the file, the field it sets, and how it is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The settings in force, and by name who gave each: the file, a variable, the command line or nobody."""

    settings: Settings
    origins: Mapping[str, str]

    @classmethod
    def read(cls, path: Path | None, environment: Mapping[str, str] = _NOTHING, **said: Any) -> Configuration:
        """Put settings together; ``said`` are fields from the command line, None for those not given.

        Raises ``MalformedData`` naming the key or variable that is wrong.
        """
        try:
            table = {} if path is None else tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise MalformedData(f"{path}: cannot be read ({error.strerror})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise MalformedData(f"{path}: not TOML: {error}") from error
        base = path.resolve().parent if path else Path.cwd()
        try:
            found = setting_kinds.given(KEYS, table, base, environment, file=str(path))
            found |= {key.name: Given(said[key.field], "command line") for key in KEYS if said.get(key.field)}
            settings = _assembled(
                {key.field: found[key.name].value for key in KEYS if key.name in found}, base
            )
        except MalformedData as error:
            raise MalformedData(f"{path}: {error}" if path else str(error)) from error
        origins = {key.name: found[key.name].origin if key.name in found else "default" for key in KEYS}
        return cls(settings=settings, origins=origins)

    def shown(self, key: Key) -> str:
        """The value in force as text; of a secret only whether there is one."""
        value = value_of(self.settings, key)
        if key.is_secret:
            return "(set)" if value else ""
        return "" if value is None else key.kind.shown(value)


def value_of(settings: Settings, key: Key) -> Any:
    """What ``settings`` say about one key."""
    value: Any = settings
    for name in key.field.split("."):
        value = getattr(value, name)
    return value


def _assembled(fields: Mapping[str, Any], base: Path) -> Settings:
    if fields.get("data_dir") is None:
        raise MalformedData("data_dir: missing; name a directory for the database")
    plain = {name: value for name, value in fields.items() if "." not in name}
    plain["site_dir"] = plain.get("site_dir") or base
    nested: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        if "." in name:
            whole, _, part = name.partition(".")
            nested.setdefault(whole, {})[part] = value
    return Settings(
        **plain,
        alarms=replace(AlarmBounds(), **nested.get("alarms", {})),
        retention=replace(Periods(), **nested.get("retention", {})),
        muster_copies=replace(CopySettings(), **nested.get("muster_copies", {})),
        oidc=replace(OidcSettings(), **nested.get("oidc", {})),
    )


def passphrase_file(settings: Settings) -> Path:
    """The file that opens the site's keys: the setting, or the one in ``site_dir``."""
    return settings.passphrase_file or settings.site_dir / "passphrase"


def database_address(settings: Settings) -> URL:
    """Where the database is, with its password; not for a log.

    Raises ``MalformedData`` when others may read the password's file, or it cannot be read.
    """
    if not settings.database_url:
        return URL.create("sqlite", database=str(settings.database))
    address = make_url(settings.database_url)
    return address.set(password=_secret(settings.database_password_file, settings.database_password) or None)


def oidc_secret(settings: Settings) -> str:
    """What proves to the OpenID provider that this is the hub; empty: nothing does. Raises as ``database_address``."""
    return _secret(settings.oidc.client_secret_file, settings.oidc.client_secret)


def _secret(path: Path | None, said: str) -> str:
    if path is None:
        return said
    try:
        if path.stat().st_mode & 0o077:
            raise MalformedData(f"{path}: only its owner may read it; chmod 600 {path}")
        return path.read_text("utf-8").strip()
    except OSError as error:
        raise MalformedData(f"{path}: cannot be read ({error.strerror})") from error


def _check_database(text: str) -> None:
    try:
        address = make_url(text)
    except ArgumentError:
        raise MalformedData("database.url: postgresql+psycopg://user@host/name expected") from None
    if address.drivername != "postgresql+psycopg":
        raise MalformedData("database.url: postgresql+psycopg://user@host/name expected")
    if address.password or "password" in address.query:
        raise MalformedData(
            "database.url holds a password: put it into a file that only its owner reads, database.password_file"
        )


def faults(settings: Settings) -> list[str]:
    """What is wrong with the files that the settings name; empty: nothing that can be seen from here."""
    files = {
        "passphrase_file": passphrase_file(settings),
        "http.certificate": settings.certificate,
        "http.key": settings.key,
        "mqtt.binary": settings.broker_binary,
        "oidc.ca_file": settings.oidc.ca_file,
    }
    found = [f"{name}: {path} is not there" for name, path in files.items() if path and not path.is_file()]
    if not settings.site_dir.is_dir():
        found.append(f"site_dir: {settings.site_dir} is not a directory")
    for name, read in (
        ("database.password_file", database_address),
        ("oidc.client_secret_file", oidc_secret),
    ):
        try:
            read(settings)
        except MalformedData as error:
            found.append(f"{name}: {error}")
    return found
