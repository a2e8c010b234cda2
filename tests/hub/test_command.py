"""drempel-hub from its command line, and what its settings file may say."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from hub.__main__ import main
from hub.operators import Operators
from hub.roles import Permission, Role
from hub.settings import Address, Settings
from hub.store import sites
from hub.store.database import Database
from pacs.errors import MalformedData
from pacs.identifiers import SiteId
from provisioning.hub_client import HubClient
from provisioning.site import Site, create_site
from tests.hub.databases import fresh_database
from tests.hub.running import PASSWORD

pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A hub's data directory that has been started before."""
    fresh_database(tmp_path / "data" / "hub.sqlite").close()
    return tmp_path / "data"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return create_site(tmp_path / "site", SiteId("test-site"), now=datetime.now(UTC))


def hub(*arguments: object) -> Result:
    """One command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@contextmanager
def started(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``drempel-hub run`` as a process of its own, and the first line it prints."""
    command = [sys.executable, "-m", "hub", "run", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)


# -- run --------------------------------------------------------------------------------------------


def test_run_serves_says_where_and_stops_when_told(site: Site, tmp_path: Path) -> None:
    """With the settings file of ``site create``: addresses and first link printed, SIGTERM ends it with 0."""
    settings = site.directory / "hub" / "hub.toml"
    with started("--config", settings, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0") as (process, line):
        found = re.fullmatch(r"Drempel hub: (\S+) +controllers: (\S+)\n", line)
        assert found is not None, line
        assert process.stdout is not None
        link = re.search(r"http://\S+", process.stdout.readline())
        assert link is not None
        where = json.loads((site.directory / "hub" / "data" / "listening.json").read_text())
        assert where == {"http": found[1], "mqtt": found[2], "pid": process.pid}
        assert httpx.get(f"{found[1]}/readyz").status_code == 200
        assert httpx.get(link[0]).status_code == 200
        second = hub("operator", "link", "--config", settings, "--name", "Night desk", "--role", "guard")
        address = re.search(r"http://\S+", second.output)
        assert address is not None
        assert address[0].startswith(found[1] + "/link/")
        assert "Night desk" in httpx.get(address[0]).text
        made = hub("token", "create", "--config", settings, "--name", "bureau", "--role", "technician")
        headers = {"authorization": f"Bearer {made.output.strip()}"}
        assert httpx.get(f"{found[1]}/api/v1/doors", headers=headers).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stderr is not None
        logged = [json.loads(each) for each in process.stderr.read().splitlines()]
        assert {entry["event"] for entry in logged} >= {"audit_head"}
    mode = (site.directory / "hub" / "data" / "hub.sqlite").stat().st_mode & 0o777
    assert mode == 0o600


def test_run_over_https(site: Site, tmp_path: Path) -> None:
    """With the site's own certificate the pages are served over TLS, and the cookie is bound to the host.

    Its key is encrypted like the hub's others; the bureau believes it by the site's root.
    """
    root = site.directory / "root.cert.pem"
    settings = tmp_path / "hub.toml"
    settings.write_text(
        f'site_dir = "site/hub"\ndata_dir = "data"\npassphrase_file = "{site.directory}/hub/passphrase"\n'
        '[http]\nlisten = "127.0.0.1:0"\ncertificate = "site/hub/web.cert.pem"\nkey = "site/hub/web.key.pem"\n'
        '[mqtt]\nlisten = "127.0.0.1:0"\n'
    )
    with started("--config", settings) as (process, line):
        assert "https://127.0.0.1:" in line
        assert process.stdout is not None
        link = process.stdout.readline().split()[-1].replace("127.0.0.1", "localhost")
        origin = link.split("/link/")[0]
        context = ssl.create_default_context(cafile=str(root))
        with httpx.Client(verify=context, headers={"origin": origin}) as browser:
            answer = browser.post(link, data={"name": "Nadia", "password": PASSWORD})
            assert answer.status_code == 303
            assert "__Host-drempel=" in answer.headers["set-cookie"]
            assert "Secure" in answer.headers["set-cookie"]
            assert "max-age" in answer.headers["strict-transport-security"]
            assert browser.get(origin + "/").status_code == 200
        token = hub("token", "create", "--config", settings, "--name", "bureau", "--role", "technician")
        with HubClient(origin, token.output.strip(), root=root) as bureau:
            bureau.check("controllers")


def test_a_killed_hub_starts_again(site: Site, tmp_path: Path) -> None:
    """After kill -9 the same data serve on, and what was made is there."""
    where = ("--site-dir", site.directory / "hub", "--data-dir", tmp_path / "data")
    anywhere = ("--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0")
    with started(*where, *anywhere) as (process, _):
        made = hub("token", "create", "--data-dir", tmp_path / "data", "--name", "bureau")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
    with started(*where, *anywhere) as (_, line):
        headers = {"authorization": f"Bearer {made.output.strip()}"}
        assert httpx.get(f"{line.split()[2]}/api/v1/doors", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda site: (site / "hub" / "broker.key.pem").unlink(), "broker.key.pem: cannot be read"),
        (lambda site: (site / "hub" / "passphrase").write_text("wrong"), "this passphrase"),
        (lambda site: (site / "hub" / "passphrase").chmod(0o644), "chmod 600"),
        (lambda site: (site / "hub" / "site.toml").write_text("site = 1"), "site.toml"),
    ],
)
def test_a_hub_that_cannot_start_says_why(site: Site, tmp_path: Path, break_it: object, said: str) -> None:
    """One sentence naming the file, exit status 1, no traceback."""
    assert callable(break_it)
    break_it(site.directory)
    arguments = ["--site-dir", site.directory / "hub", "--data-dir", tmp_path / "data"]
    command = [sys.executable, "-m", "hub", "run", *map(str, arguments), "--http", "127.0.0.1:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_said(site: Site, tmp_path: Path) -> None:
    """Somebody else's port: the address and the option to change it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = hub(
            "run", "--site-dir", site.directory / "hub", "--data-dir", tmp_path / "data", "--http", address
        )
    assert done.exit_code == 1
    assert f"{address}: cannot listen" in done.output
    assert "--http" in done.output


# -- operators, tokens, audit -----------------------------------------------------------------------


def test_tokens_are_printed_once_listed_and_revoked(data: Path) -> None:
    """The list never shows a token; a name is used once; a revoked one is said to be."""
    made = hub("token", "create", "--data-dir", data, "--name", "bureau", "--expires", "30d")
    token = made.output.strip()
    assert token.startswith("drempel_")
    listed = hub("token", "list", "--data-dir", data).output
    assert listed.startswith("bureau\tsite_manager\tevery site\t20")
    assert listed.endswith("\tnever used\n")
    assert token not in listed
    again = hub("token", "create", "--data-dir", data, "--name", "bureau")
    assert (again.exit_code, "exists" in again.output) == (1, True)
    assert hub("token", "revoke", "bureau", "--data-dir", data).exit_code == 0
    assert "revoked" in hub("token", "list", "--data-dir", data).output
    assert hub("token", "revoke", "nobody", "--data-dir", data).exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("token", "create", "--name", "with space"),
        ("token", "create", "--name", "x", "--role", "king"),
        ("token", "create", "--name", "x", "--expires", "0d"),
        ("token", "create", "--name", "x", "--expires", "soon"),
        ("token", "create", "--name", "x", "--expires", "9999d"),
        ("token", "create", "--name", "x", "--permission", "everything"),
        ("token", "create"),
        ("audit", "verify", "--expect", "nonsense"),
        ("operator", "link", "--role", "king"),
        ("nothing",),
    ],
)
def test_wrong_usage_is_status_2(data: Path, arguments: tuple[str, ...]) -> None:
    """A value that cannot be right is refused before anything is done."""
    assert hub(*arguments, *(("--data-dir", data) if len(arguments) > 1 else ())).exit_code == 2


def test_a_command_needs_to_know_which_hub(tmp_path: Path) -> None:
    """Without a place it is wrong usage; a place where there is no hub is not made into one."""
    assert hub("token", "list").exit_code == 2
    done = hub("token", "list", "--data-dir", tmp_path / "nowhere")
    assert done.exit_code == 1
    assert "no hub here yet" in done.output
    assert not (tmp_path / "nowhere").exists()


def test_the_audit_log_is_verified(data: Path) -> None:
    """The head is printed, found again later, and tampering is exit status 1 with the entry."""
    for name in ("one", "two", "three"):
        hub("token", "create", "--data-dir", data, "--name", name)
    first = hub("audit", "verify", "--data-dir", data)
    head = first.output.strip()
    assert (first.exit_code, head.split(":")[0]) == (0, "3")
    hub("token", "revoke", "one", "--data-dir", data)
    assert hub("audit", "verify", "--data-dir", data, "--expect", head).exit_code == 0
    database = opened(data)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE audit SET subject = 'token:other' WHERE id = 2")
    database.close()
    done = hub("audit", "verify", "--data-dir", data)
    assert (done.exit_code, "entry 2 was changed" in done.output) == (1, True)


def opened(data: Path) -> Database:
    return Database.at(data / "hub.sqlite")


def test_operators_are_listed_disabled_and_enabled(data: Path) -> None:
    """By name, as people know them."""
    database = opened(data)
    operators = Operators(database)
    now = datetime.now(UTC)
    operators.links.follow(
        operators.links.create(name="", role=Role.GUARD, now=now), name="Olu", password=None, now=now
    )
    database.close()
    assert hub("operator", "list", "--data-dir", data).output == "Olu\tguard\tevery site\tenabled\n"
    assert hub("operator", "disable", "olu", "--data-dir", data).exit_code == 0
    assert "disabled" in hub("operator", "list", "--data-dir", data).output
    assert hub("operator", "enable", "Olu", "--data-dir", data).exit_code == 0
    assert "enabled" in hub("operator", "list", "--data-dir", data).output
    for verb in (("disable",), ("end-sessions",), ("passkeys", "remove")):
        assert hub("operator", *verb, "Nobody", "--data-dir", data).exit_code == 1


def test_somebody_gets_in_again_from_the_command_line(data: Path) -> None:
    """A link for who is known, sessions ended, passkeys removed; with the hub stopped."""
    database = opened(data)
    operators, now = Operators(database), datetime.now(UTC)
    link = operators.links.create(name="", role=Role.GUARD, now=now)
    session = operators.links.follow(link, name="Olu", password=PASSWORD, now=now)
    assert hub("operator", "end-sessions", "olu", "--data-dir", data).exit_code == 0
    assert operators.sessions.principal(session, now) is None
    assert hub("operator", "passkeys", "remove", "Olu", "--data-dir", data).output == "0 removed\n"
    made = hub("operator", "link", "Olu", "--data-dir", data)
    token = made.output.strip().rpartition("/link/")[2]
    again = operators.links.follow(token, name="", password="another good sentence", now=now)
    principal = operators.sessions.principal(again, now)
    database.close()
    assert principal is not None
    assert (principal.name, principal.role) == ("Olu", Role.GUARD)


def test_tokens_and_links_are_scoped(data: Path) -> None:
    """To sites that there are, and to some of the role's permissions; one that never expires is warned of."""
    database = opened(data)
    with database.write() as connection:
        site = sites.Site(id=SiteId("wilgenoord"), name="W", time_zone="UTC", created_at=datetime.now(UTC))
        sites.add(connection, site)
    made = hub(
        "token", "create", "--data-dir", data, "--name", "board", "--role", "auditor", "--site", "wilgenoord",
        "--permission", "events.read", "--expires", "never",
    )  # fmt: skip
    assert "never expires" in made.stderr
    principal = Operators(database).tokens.principal(made.stdout.strip(), datetime.now(UTC))
    assert principal is not None
    assert principal.sites == frozenset({SiteId("wilgenoord")})
    assert {each for each in Permission if principal.may(each)} == {Permission.EVENTS_READ}
    beyond = hub(
        "token", "create", "--data-dir", data, "--name", "x", "--role", "guard", "--permission", "audit.read"
    )
    assert (beyond.exit_code, "no permission audit.read" in beyond.output) == (1, True)
    assert hub("token", "create", "--data-dir", data, "--name", "x", "--site", "nowhere").exit_code == 1
    link = hub("operator", "link", "Ana", "--data-dir", data, "--role", "guard", "--site", "wilgenoord")
    Operators(database).links.follow(
        link.output.strip().rpartition("/link/")[2], name="", password=None, now=datetime.now(UTC)
    )
    database.close()
    assert hub("operator", "list", "--data-dir", data).output == "Ana\tguard\twilgenoord\tenabled\n"


# -- settings ---------------------------------------------------------------------------------------


def test_settings_are_read_relative_to_their_file(tmp_path: Path) -> None:
    """Every key, and paths beside the file."""
    file = tmp_path / "hub.toml"
    file.write_text(
        'site_dir = "keys"\ndata_dir = "data"\npassphrase_file = "/run/secret"\nsite_name = "Wilgenoord"\n'
        'time_zone = "Europe/Amsterdam"\n'
        '[http]\nlisten = "[::]:443"\norigin = "https://hub.example.org/"\ncertificate = "c.pem"\nkey = "k.pem"\n'
        'trusted_proxies = ["192.0.2.1"]\n[mqtt]\nlisten = "0.0.0.0:8883"\nbinary = "bin/nats-server"\n'
    )
    settings = Settings.from_toml(file)
    assert settings.site_dir == tmp_path / "keys"
    assert settings.database == tmp_path / "data" / "hub.sqlite"
    assert settings.passphrase_file == Path("/run/secret")
    assert settings.http == Address("::", 443)
    assert str(settings.http) == "[::]:443"
    assert (settings.certificate, settings.key) == (tmp_path / "c.pem", tmp_path / "k.pem")
    assert settings.broker_binary == tmp_path / "bin" / "nats-server"
    assert settings.public_origin == "https://hub.example.org"
    assert settings.is_https


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "data_dir"),
        ("data_dir = 1", "data_dir"),
        ('data_dir = "d"\nport = 1', "unknown setting port"),
        ('data_dir = "d"\n[http]\nlissten = "x"', "unknown setting http.lissten"),
        ('data_dir = "d"\n[http]\nlisten = "8000"', "HOST:PORT"),
        ('data_dir = "d"\n[http]\nlisten = "127.0.0.1:99999"', "HOST:PORT"),
        ('data_dir = "d"\n[http]\nlisten = "0.0.0.0:80"', "without encryption"),
        ('data_dir = "d"\n[http]\nkey = "k"', "give both"),
        ('data_dir = "d"\n[http]\norigin = "hub.example.org"', "origin"),
        ('data_dir = "d"\n[http]\ntrusted_proxies = "all"', "trusted_proxies"),
        ('data_dir = "d"\nmqtt = 1', "mqtt"),
        ('data_dir = "d"\ntime_zone = "Mars/Base"', "time zone"),
        ("data_dir = ", "not TOML"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, said: str) -> None:
    """The file and the key that is wrong; nothing silently becomes a default."""
    file = tmp_path / "hub.toml"
    file.write_text(text)
    with pytest.raises(MalformedData, match=re.escape(said)) as error:
        Settings.from_toml(file)
    assert str(file) in str(error.value)


def test_a_missing_settings_file_is_named(tmp_path: Path) -> None:
    """The file, not a traceback."""
    with pytest.raises(MalformedData, match="cannot be read"):
        Settings.from_toml(tmp_path / "none.toml")
