"""The hub's settings: the same by file and environment, one table in the documentation, and who gave what."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hub.__main__ import main
from hub.settings import KEYS, Address, Configuration, Settings, value_of
from pacs.errors import MalformedData

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration-hub.md"
OTHER_WORDS = {"site_dir", "data_dir", "passphrase_file", "site_name", "time_zone"}
"""Their defaults are no values, and the document says so in words."""


def documented() -> dict[str, tuple[str, str, str]]:
    """Key → variable, type and default, from the table."""
    row = re.compile(r"^\| `([a-z_.]+)` \| `([A-Z_]+)` \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)
    return {
        name: (variable, said, default) for name, variable, said, default in row.findall(DOCUMENT.read_text())
    }


def a_default(name: str) -> str:
    plain = Configuration.read(None, {"DREMPEL_DATA_DIR": "/data"})
    shown = plain.shown(next(key for key in KEYS if key.name == name))
    return f"`{shown}`" if shown else "none"


def test_the_document_is_the_code() -> None:
    """Every setting there is has one row, with its variable, its type and its default."""
    found = documented()
    assert list(found) == [key.name for key in KEYS]
    for key in KEYS:
        variable, said, default = found[key.name]
        assert (variable, said) == (key.variable, key.kind.said), key.name
        if key.name not in OTHER_WORDS:
            assert default == a_default(key.name), key.name


def test_every_field_of_the_settings_has_a_key() -> None:
    """None can be set by a test alone."""
    plain = set(Settings.__dataclass_fields__)
    assert {key.field.partition(".")[0] for key in KEYS} == plain
    assert len({key.field for key in KEYS}) == len({key.variable for key in KEYS}) == len(KEYS)


SAMPLES: dict[str, tuple[str, str]] = {
    "HOST:PORT": ('"127.0.0.1:1234"', "127.0.0.1:1234"),
    "path": ('"/some/where"', "/some/where"),
    "list of HOST:PORT": ('["192.0.2.1:8883", "192.0.2.2:8883"]', "192.0.2.1:8883, 192.0.2.2:8883"),
    "list of texts": ('["192.0.2.1", "192.0.2.2"]', "192.0.2.1, 192.0.2.2"),
    "true or false": ("true", "true"),
}
PARTICULAR = {
    "muster.copy_to": ('["/mnt/reception", "/media/stick"]', "/mnt/reception, /media/stick"),
    "webhooks.allow": ('["10.1.0.0/16", "fd00::/8"]', "10.1.0.0/16, fd00::/8"),
    "time_zone": ('"Europe/Brussels"', "Europe/Brussels"),
    "database.url": ('"postgresql+psycopg://hub@db/hub"', "postgresql+psycopg://hub@db/hub"),
    "oidc.issuer": ('"https://login.example.org"', "https://login.example.org"),
    "oidc.scopes": ('["openid", "profile"]', "openid, profile"),
    "http.origin": ('"https://hub.example.org"', "https://hub.example.org"),
}


NODE, LISTEN, ROUTES = 'node = "a"', 'listen = "127.0.0.1:6222"', 'routes = ["127.0.0.1:6223"]'
BESIDE = {
    "oidc.issuer": 'client_id = "hub"',
    "oidc.client_id": 'issuer = "https://login.example.org"',
    "http.certificate": 'key = "/k"',
    "http.key": 'certificate = "/c"',
    "cluster.node": f"{LISTEN}\n{ROUTES}",
    "cluster.listen": f"{NODE}\n{ROUTES}",
    "cluster.routes": f"{NODE}\n{LISTEN}",
}
"""What some settings cannot be without."""
SHARED = {"mqtt.servers", "cluster.node", "cluster.listen", "cluster.routes"}
"""Of several processes, which need PostgreSQL."""


def sample(name: str, said: str) -> tuple[str, str]:
    """One value, as TOML and as a variable writes it."""
    if name in PARTICULAR:
        return PARTICULAR[name]
    if number := re.match(r"(\d+) to (\d+)", said):
        return number[2], number[2]
    if ", " in said:
        word = said.rsplit(", ", maxsplit=1)[-1]
        return f'"{word}"', word
    return SAMPLES.get(said, ('"Wilgenoord"', "Wilgenoord"))


@pytest.mark.parametrize("name", [key.name for key in KEYS if not key.is_secret])
def test_file_and_environment_say_the_same(tmp_path: Path, name: str) -> None:
    """Each setting can be given by both, and the variable comes before the file."""
    key = next(each for each in KEYS if each.name == name)
    in_toml, as_text = sample(name, key.kind.said)
    table, _, last = name.rpartition(".")
    pair = BESIDE.get(name, "")
    top = "" if name == "data_dir" else 'data_dir = "data"\n'
    if not table:
        top += f"{last} = {in_toml}\n"
    section = f"[{table}]\n{pair}\n" if table else ""
    if name in SHARED:
        section = '[database]\nurl = "postgresql+psycopg://hub@db/hub"\n' + section
    written = tmp_path / "hub.toml"
    written.write_text(top + section + (f"{last} = {in_toml}\n" if table else ""))
    by_file = Configuration.read(written)
    assert by_file.origins[name] == str(written)
    without = tmp_path / "without.toml"
    without.write_text(top + section if table else 'data_dir = "data"\n')
    by_variable = Configuration.read(without, {key.variable: as_text})
    assert by_variable.origins[name] == key.variable
    assert value_of(by_file.settings, key) == value_of(by_variable.settings, key) is not None
    assert by_file.shown(key) == by_variable.shown(key) == as_text
    assert Configuration.read(written, {key.variable: as_text}).origins[name] == key.variable
    assert Configuration.read(written, {key.variable: ""}).origins[name] == str(written)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[mqtt]\nservers = ["192.0.2.1:8883"]\n', "PostgreSQL"),
        (f"[cluster]\n{NODE}\n{LISTEN}\n{ROUTES}\n", "PostgreSQL"),
        (f'[database]\nurl = "postgresql+psycopg://hub@db/hub"\n[cluster]\n{NODE}\n', "all three"),
        (
            f'[database]\nurl = "postgresql+psycopg://h@d/h"\n[cluster]\nnode = "a b"\n{LISTEN}\n{ROUTES}\n',
            "cluster.node",
        ),
    ],
)
def test_several_processes_are_set_up_whole_or_not_at_all(tmp_path: Path, text: str, named: str) -> None:
    """On SQLite, without its parts, or under a name that no broker has: refused, saying why."""
    written = tmp_path / "hub.toml"
    written.write_text(f'data_dir = "data"\n{text}')
    with pytest.raises(MalformedData, match=named):
        Settings.from_toml(written)


def test_the_command_line_comes_first(tmp_path: Path) -> None:
    """Before the variable, and the file."""
    written = tmp_path / "hub.toml"
    written.write_text('data_dir = "data"\n[http]\nlisten = "127.0.0.1:1"\n')
    environment = {"DREMPEL_HTTP_LISTEN": "127.0.0.1:2"}
    found = Configuration.read(written, environment, http=Address("127.0.0.1", 3), time_zone=None)
    assert found.settings.http.port == 3
    assert found.origins["http.listen"] == "command line"
    assert Configuration.read(written, environment).settings.http.port == 2


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("DREMPEL_HTTP_LISSTEN", "x", "unknown variable DREMPEL_HTTP_LISSTEN"),
        ("DREMPEL_HTTP_LISTEN", "8000", "DREMPEL_HTTP_LISTEN: listen address '8000'"),
        ("DREMPEL_ALARMS_REMIND_AFTER_S", "9", "10 to 86400 seconds expected"),
        ("DREMPEL_ALARMS_REMIND_AFTER_S", "1e3", "10 to 86400 seconds expected"),
        ("DREMPEL_ALARMS_REMIND_AFTER_S", "٣٠٠", "10 to 86400 seconds expected"),
        ("DREMPEL_LOG_LEVEL", "loud", "one of debug, info, warning, error expected"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, said: str) -> None:
    """A misspelt one never silently becomes a default."""
    with pytest.raises(MalformedData, match=re.escape(said)):
        Configuration.read(None, {"DREMPEL_DATA_DIR": "/data", variable: value})


def hub(*arguments: str, **environment: str) -> Any:
    return CliRunner().invoke(main, arguments, env=environment)


def test_show_says_who_gave_what_and_no_secret(tmp_path: Path) -> None:
    """A line for each setting: name, value, origin."""
    written = tmp_path / "hub.toml"
    written.write_text('data_dir = "data"\n[log]\nlevel = "debug"\n')
    shown = hub(
        "config", "show", "--config", str(written),
        DREMPEL_DATABASE_PASSWORD="hunter2hunter2", DREMPEL_SITE_NAME="Wilgenoord",
    )  # fmt: skip
    lines = {line.split("\t")[0]: line.split("\t")[1:] for line in shown.output.splitlines()}
    assert list(lines) == [key.name for key in KEYS]
    assert lines["log.level"] == ["debug", str(written)]
    assert lines["site_name"] == ["Wilgenoord", "DREMPEL_SITE_NAME"]
    assert lines["http.listen"] == ["127.0.0.1:8000", "default"]
    assert lines["database.password"] == ["(set)", "DREMPEL_DATABASE_PASSWORD"]
    assert "hunter2" not in shown.output


def test_check_looks_at_the_files(tmp_path: Path) -> None:
    """What is missing is named, and the exit status says so."""
    written = tmp_path / "hub.toml"
    written.write_text('data_dir = "data"\n[http]\ncertificate = "c.pem"\nkey = "k.pem"\n')
    wrong = hub("config", "check", "--config", str(written))
    assert wrong.exit_code == 1
    for name in ("http.certificate", "http.key", "passphrase_file"):
        assert f"{name}: {tmp_path}" in wrong.output
    for name in ("c.pem", "k.pem", "passphrase"):
        (tmp_path / name).write_text("x")
    right = hub("config", "check", "--config", str(written))
    assert (right.exit_code, right.output) == (0, "the settings can be used\n")
    assert hub("config", "check").exit_code == 2
