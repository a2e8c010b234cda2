"""What one hub process is told: where its site's keys and data are, and where it listens.

A TOML file (`--config hub.toml`) or the same things on the command line. Relative paths are relative to
the file. Unknown keys are refused: a misspelt setting never silently becomes a default.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from hub.alarms import AlarmBounds
from pacs.errors import MalformedData
from pacs.schedule import zone

_ENVIRONMENT = "DREMPEL_PASSPHRASE_FILE"
_DATABASE_PASSWORD = "DREMPEL_DATABASE_PASSWORD"  # noqa: S105 -- the variable's name
_TOP = {
    "site_dir",
    "data_dir",
    "passphrase_file",
    "site_name",
    "time_zone",
    "database",
    "http",
    "mqtt",
    "alarms",
}
_DATABASE_KEYS = {"url", "password_file"}
_HTTP = {"listen", "origin", "certificate", "key", "trusted_proxies"}
_MQTT = {"listen", "binary"}
_ALARMS = {"silent_after_s", "unconfirmed_after_s", "remind_after_s"}


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
    schedules follow; empty: as they are. ``origin`` is the address people type, for links; by default it
    follows ``http``. ``database_url`` (``postgresql+psycopg://user@host/name``, without a password) takes the
    place of the SQLite file; the password is in ``database_password_file``, which only its owner may read, or in
    the environment, ``DREMPEL_DATABASE_PASSWORD``. ``certificate`` and ``key`` (PEM) turn on HTTPS. Without
    them ``http`` must be loopback, or stand behind a proxy named in ``trusted_proxies`` with an https ``origin``.
    ``alarms`` says when the hub's patience with doors, and with whoever acknowledged an alarm, ends.
    """

    site_dir: Path
    data_dir: Path
    http: Address = Address("127.0.0.1", 8000)
    mqtt: Address = Address("127.0.0.1", 8883)
    origin: str = ""
    certificate: Path | None = None
    key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    broker_binary: Path | None = None
    passphrase_file: Path | None = None
    database_url: str = ""
    database_password_file: Path | None = None
    site_name: str = ""
    time_zone: str = ""
    alarms: AlarmBounds = field(default_factory=AlarmBounds)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise MalformedData("http.certificate and http.key: give both, or neither")
        if self.origin and not self.origin.startswith(("http://", "https://")):
            raise MalformedData("http.origin: an address such as https://hub.example.org expected")
        if self.database_url:
            _check_database(self.database_url)
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
    def is_https(self) -> bool:
        """True when browsers reach this hub over TLS; cookies are then ``__Host-`` and Secure."""
        return self.public_origin.startswith("https://")

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.data_dir / "hub.sqlite"

    @classmethod
    def from_toml(cls, path: Path) -> Settings:
        """Read a settings file; raises ``MalformedData`` naming the key that is wrong."""
        try:
            table = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise MalformedData(f"{path}: cannot be read ({error.strerror})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise MalformedData(f"{path}: not TOML: {error}") from error
        try:
            return _from_table(table, path.resolve().parent)
        except MalformedData as error:
            raise MalformedData(f"{path}: {error}") from error


def passphrase_file(settings: Settings) -> Path:
    """The file that opens the site's keys: the setting, the environment, or the one in ``site_dir``."""
    named = settings.passphrase_file or os.environ.get(_ENVIRONMENT)
    return Path(named) if named else settings.site_dir / "passphrase"


def database_address(settings: Settings) -> URL:
    """Where the database is, with its password; not for a log.

    Raises ``MalformedData`` when others may read the password's file, or it cannot be read.
    """
    if not settings.database_url:
        return URL.create("sqlite", database=str(settings.database))
    address = make_url(settings.database_url)
    path = settings.database_password_file
    if path is None:
        return address.set(password=os.environ.get(_DATABASE_PASSWORD) or None)
    try:
        if path.stat().st_mode & 0o077:
            raise MalformedData(f"{path}: only its owner may read it; chmod 600 {path}")
        return address.set(password=path.read_text("utf-8").strip())
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


def _from_table(table: Mapping[str, Any], base: Path) -> Settings:
    http, mqtt, database = _table(table, "http"), _table(table, "mqtt"), _table(table, "database")
    alarms = _table(table, "alarms")
    tables = (
        ("", table, _TOP),
        ("database.", database, _DATABASE_KEYS),
        ("http.", http, _HTTP),
        ("mqtt.", mqtt, _MQTT),
        ("alarms.", alarms, _ALARMS),
    )
    for where, names, known in tables:
        for name in sorted(set(names) - known):
            raise MalformedData(f"unknown setting {where}{name}; known: {', '.join(sorted(known))}")
    if "data_dir" not in table:
        raise MalformedData("data_dir: missing; name a directory for the database")

    def located(names: Mapping[str, Any], name: str) -> Path | None:
        text = _text(names, name)
        return base / Path(text).expanduser() if text else None

    proxies = http.get("trusted_proxies", [])
    if not (isinstance(proxies, list) and all(isinstance(each, str) for each in proxies)):
        raise MalformedData("http.trusted_proxies: a list of addresses expected")
    return Settings(
        site_dir=located(table, "site_dir") or base,
        data_dir=located(table, "data_dir") or base,
        passphrase_file=located(table, "passphrase_file"),
        database_url=_text(database, "url"),
        database_password_file=located(database, "password_file"),
        site_name=_text(table, "site_name"),
        time_zone=_text(table, "time_zone"),
        http=Address.parse(_text(http, "listen") or "127.0.0.1:8000"),
        mqtt=Address.parse(_text(mqtt, "listen") or "127.0.0.1:8883"),
        origin=_text(http, "origin"),
        certificate=located(http, "certificate"),
        key=located(http, "key"),
        trusted_proxies=tuple(proxies),
        broker_binary=located(mqtt, "binary"),
        alarms=_bounds(alarms),
    )


def _bounds(table: Mapping[str, Any]) -> AlarmBounds:
    """Whole seconds, from ten to a day."""
    given = {}
    for name, value in table.items():
        if type(value) is not int or not 10 <= value <= 86_400:
            raise MalformedData(f"alarms.{name}: 10 to 86400 seconds expected")
        given[name.removesuffix("_s")] = timedelta(seconds=value)
    return AlarmBounds(**given)


def _table(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = table.get(name, {})
    if not isinstance(value, dict):
        raise MalformedData(f"{name}: a table [{name}] expected")
    return value


def _text(table: Mapping[str, Any], name: str) -> str:
    value = table.get(name, "")
    if not isinstance(value, str):
        raise MalformedData(f"{name}: text expected")
    return value
