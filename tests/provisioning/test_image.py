"""What is written onto a card with Raspberry Pi OS Lite, for either system, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from configparser import ConfigParser
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pacs.enrolment import FINGERPRINT_BYTES, SECRET_BYTES, EnrolmentCode
from pacs.errors import MalformedData
from pacs.identifiers import ControllerId, DoorId, SiteId
from provisioning.cli import main
from provisioning.image import (
    ImageSettings,
    System,
    command_line,
    config_text,
    user_data,
)
from provisioning.image_network import FixedAddress, network_config
from provisioning.readers import DoorWiring, add_controller
from provisioning.site import create_site
from tests.firmware_config.card import CMDLINE, CONFIG, FIRMWARE, ROOT, boot_partition, shelf

CODE = str(
    EnrolmentCode(
        address="https://hub.other.example:8443",
        secret=bytes(range(SECRET_BYTES)),
        fingerprint=bytes(range(FINGERPRINT_BYTES)),
    )
)
CLOUD_INIT = ROOT / "build" / "cloud-init" / "usr" / "lib" / "python3" / "dist-packages"
SETTINGS = ImageSettings(
    controller=ControllerId("c_front"), ntp=("hub.example",), ntp_fallback=("ntp.example",)
)


@pytest.fixture(scope="module")
def bureau(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with one controller of two doors, and a signed release on a shelf."""
    bureau = tmp_path_factory.mktemp("bureau")
    now = datetime.now(UTC)
    site = create_site(bureau / "site", SiteId("west"), now=now, broker_hosts=("hub.example",))
    doors = [DoorWiring(id=DoorId(name), device=f"/dev/drempel-reader-{name}") for name in ("a", "b")]
    add_controller(site, site.authority(site.passphrase()), ControllerId("c-hall"), doors, now=now)
    shelf(bureau / "shelf")
    return bureau


def config(bureau: Path, boot: Path, controller: str, *options: str | Path) -> Result:
    arguments = ["--site-dir", bureau / "site", "--controller", controller, "--release", bureau / "shelf"]
    arguments += ["--release-key", bureau / "shelf" / "release.pub.pem", "--out", boot, *options]
    return CliRunner().invoke(main, ["image", "config", *map(str, arguments), "--format", "json"])


def files(boot: Path) -> dict[str, bytes]:
    return {str(path.relative_to(boot)): path.read_bytes() for path in boot.rglob("*") if path.is_file()}


@pytest.mark.parametrize("system", System)
def test_a_card_is_written_for_its_system_and_again_without_a_trace(
    bureau: Path, tmp_path: Path, system: System
) -> None:
    """What Bookworm starts with is not on Trixie's card, and writing twice gives what writing once did."""
    boot = boot_partition(tmp_path / "boot", system)
    result = config(bureau, boot, "c-front", "--code", CODE)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["os"] == system.value
    written = files(boot)
    assert ("firstrun.sh" in written) is (system is System.BOOKWORM)
    assert ({"user-data", "meta-data", "network-config"} <= set(written)) is (system is System.TRIXIE)
    assert written["drempel/code"] == f"{CODE}\n".encode()
    assert {"drempel/drempel-0.1.0.tar.gz", "drempel/first-boot.sh", "drempel/settings"} <= set(written)
    assert not any(name.startswith("drempel/controller") for name in written)
    settings = written["drempel/settings"].decode().splitlines()
    assert {"DREMPEL_NTP='hub.other.example'", "DREMPEL_HUB_PORTS='8443, 8883'", "DREMPEL_SSH='no'"} <= set(
        settings
    )
    again = config(bureau, boot, "c-front", "--code", CODE)
    assert (again.exit_code, files(boot)) == (0, written)


def test_without_a_code_the_controllers_own_keys_go_onto_the_card(bureau: Path, tmp_path: Path) -> None:
    """Made by `reader add`; both strikes are low from power-on, and the state has its place."""
    boot = boot_partition(tmp_path / "boot", System.TRIXIE)
    assert config(bureau, boot, "c-hall").exit_code == 0
    assert b'state_dir = "/var/lib/drempel"' in (boot / "drempel/controller/controller.toml").read_bytes()
    assert (boot / "drempel/controller/device.key.pem").exists()
    text = (boot / "config.txt").read_text()
    assert [line for line in text.splitlines() if line.startswith("gpio=")] == [
        "gpio=17=op,dl",
        "gpio=5=op,dl",
    ]
    assert config(bureau, boot, "c-nobody").exit_code == 1


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (CODE[:-5], "14 groups of four characters expected"),
        (CODE.replace("0", "1", 1), "does not pass its check"),
        (CODE.replace("hub.other", "hub.othre"), "compare address and groups"),
        (CODE.partition("#")[2], "the hub's address"),
        (CODE[:-1] + "U", "group 14 has a character that no code has"),
        (
            str(
                EnrolmentCode(
                    address="http://127.0.0.1:8080",
                    secret=bytes(SECRET_BYTES),
                    fingerprint=bytes(FINGERPRINT_BYTES),
                )
            ),
            "set http.origin",
        ),
    ],
)
def test_a_code_that_no_hub_takes_is_not_written(bureau: Path, tmp_path: Path, code: str, why: str) -> None:
    """The bureau hears what is wrong with it; not the technician, whose Pi would try it each minute and say so in its log."""
    boot = boot_partition(tmp_path / "boot", System.TRIXIE)
    before = files(boot)
    result = config(bureau, boot, "c-front", "--code", code)
    assert (result.exit_code, files(boot)) == (1, before)
    assert why in " ".join(result.output.split())


def test_a_code_is_written_as_it_was_printed(bureau: Path, tmp_path: Path) -> None:
    """However it was typed."""
    boot = boot_partition(tmp_path / "boot", System.TRIXIE)
    address, _, groups = CODE.partition("#")
    typed = f"{address}#{groups.lower().replace('-', ' ')}"
    assert config(bureau, boot, "c-front", "--code", typed).exit_code == 0
    assert (boot / "drempel/code").read_text() == f"{CODE}\n"


def test_a_dry_run_writes_nothing(bureau: Path, tmp_path: Path) -> None:
    """It names every file that would be there."""
    boot = boot_partition(tmp_path / "boot", System.BOOKWORM)
    before = files(boot)
    said = json.loads(config(bureau, boot, "c-front", "--code", CODE, "--dry-run").stdout)
    assert files(boot) == before
    assert {"firstrun.sh", "cmdline.txt", "config.txt", "drempel/code"} <= set(said["files"])


def test_a_release_that_the_key_did_not_sign_is_not_written(bureau: Path, tmp_path: Path) -> None:
    """The bureau proves what it puts on a card."""
    boot = boot_partition(tmp_path / "boot", System.BOOKWORM)
    before = files(boot)
    CliRunner().invoke(main, ["release", "key", str(tmp_path / "other")])
    result = config(
        bureau, boot, "c-front", "--code", CODE, "--release-key", tmp_path / "other/release.pub.pem"
    )
    assert (result.exit_code, files(boot)) == (1, before)


def test_a_directory_that_is_no_boot_partition_is_refused(bureau: Path, tmp_path: Path) -> None:
    """Without its cmdline.txt nobody knows the root."""
    result = config(bureau, tmp_path, "c-front", "--code", CODE)
    assert result.exit_code == 1
    assert "first partition of a card" in result.output


@pytest.mark.parametrize("system", System)
def test_the_command_line_leaves_the_serial_line_and_the_root_alone(system: System) -> None:
    """No console on the reader's line, no enlarging, one line, and the same when done again."""
    line = command_line(CMDLINE[system], system)
    assert line.count("\n") == 1
    assert line.startswith("console=tty1 root=PARTUUID=4e639091-02 ")
    assert not {"resize", "console=serial0,115200", "init=/usr/lib/raspberrypi-sys-mods/firstboot"} & set(
        line.split()
    )
    assert ("systemd.run=/boot/firmware/firstrun.sh" in line) is (system is System.BOOKWORM)
    assert command_line(line, system) == line


def test_config_txt_keeps_what_was_there() -> None:
    """Our part stands at the end, once."""
    fragment = (FIRMWARE / "config.txt").read_text()
    text = config_text(CONFIG, fragment, (17, 5))
    assert text.startswith(CONFIG)
    assert config_text(text, fragment, (17, 5)) == text
    for line in (
        "enable_uart=1",
        "dtoverlay=disable-bt",
        "dtparam=strict_gpiod",
        "dtparam=watchdog=on",
        "gpio=5=op,dl",
    ):
        assert line in text.splitlines()
    assert "dtoverlay=tpm-slb9670" not in text.splitlines()
    with_tpm = config_text(text, fragment, (17, 5), tpm=True).splitlines()
    assert {"dtparam=spi=on", "dtoverlay=tpm-slb9670"} <= set(with_tpm)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ntp": ("hub'; reboot; '",)},
        {"ntp_fallback": ()},
        {"updates": "http://updates.example"},
        {"updates": "https://updates.example/$(reboot)"},
        {"ssh_keys": ("ssh-ed25519",)},
        {"ssh_keys": ("ssh-ed25519 AAAA a\nssh-rsa BBBB b",)},
        {"strike_pins": (1,)},
        {"strike_pins": (8,), "tpm": True},
        {"maintenance_at": "24:00"},
        {"root_mib": 100},
        {"hub_ports": (0,)},
    ],
)
def test_a_setting_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    """Before it reaches a shell or a firewall."""
    with pytest.raises(MalformedData):
        ImageSettings(**({"controller": ControllerId("c"), "ntp": (), "ntp_fallback": ("a",)} | wrong))  # type: ignore[arg-type]


@pytest.mark.skipif(
    not CLOUD_INIT.exists(), reason="NOT CHECKED: tools/system.sh has not unpacked cloud-init"
)
def test_cloud_init_accepts_what_is_written(tmp_path: Path) -> None:
    """By its own schema, which refuses another value in the same place."""
    check = "import sys; from cloudinit.config.schema import *; validate_cloudconfig_file(sys.argv[1], get_schema())"

    def accepts(text: str) -> bool:
        (tmp_path / "user-data").write_text(text)
        command = [sys.executable, "-W", "ignore", "-c", check, str(tmp_path / "user-data")]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(CLOUD_INIT)}
        )
        assert done.returncode == 0 or "Cloud config schema errors" in done.stderr, done.stderr
        return done.returncode == 0

    assert accepts(user_data(SETTINGS))
    assert not accepts(user_data(SETTINGS).replace('"system": true', '"system": 3'))


FIXED = ["--address", "10.0.0.5/24", "--gateway", "10.0.0.1", "--dns", "10.0.0.2", "--dns", "10.0.0.3"]


@pytest.mark.parametrize("system", System)
def test_a_machine_has_its_own_address_where_that_was_asked_for(
    bureau: Path, tmp_path: Path, system: System
) -> None:
    """The same for both systems in NetworkManager's form, among the files whose sums are checked at the first start."""
    boot = boot_partition(tmp_path / "boot", system)
    assert config(bureau, boot, "c-front", "--code", CODE, *FIXED).exit_code == 0
    parsed = ConfigParser()
    parsed.read(boot / "drempel" / "network.nmconnection")
    assert dict(parsed["ipv4"]) == {
        "method": "manual",
        "address1": "10.0.0.5/24,10.0.0.1",
        "dns": "10.0.0.2;10.0.0.3;",
    }
    assert (parsed["connection"]["interface-name"], parsed["ipv6"]["method"]) == ("eth0", "disabled")
    assert "network.nmconnection" in (boot / "drempel/SHA256SUMS").read_text()
    by_dhcp = boot_partition(tmp_path / "other", system)
    assert config(bureau, by_dhcp, "c-front", "--code", CODE).exit_code == 0
    assert not (by_dhcp / "drempel/network.nmconnection").exists()


@pytest.mark.parametrize(
    ("address", "gateway", "dns", "why"),
    [
        ("10.0.0.5", "10.0.0.1", ["10.0.0.2"], "needs the length of its network"),
        ("10.0.0.256/24", None, ["10.0.0.2"], "10.0.0.256"),
        ("10.0.0.0/24", None, ["10.0.0.2"], "no address of a machine"),
        ("10.0.0.255/24", None, ["10.0.0.2"], "no address of a machine"),
        ("127.0.0.1/8", None, ["10.0.0.2"], "no address of a machine"),
        ("224.0.0.5/4", None, ["10.0.0.2"], "no address of a machine"),
        ("10.0.0.5/24", "10.0.1.1", ["10.0.0.2"], "no other machine of 10.0.0.0/24"),
        ("10.0.0.5/24", "10.0.0.5", ["10.0.0.2"], "no other machine"),
        ("10.0.0.5/24", "router", ["10.0.0.2"], "router"),
        ("10.0.0.5/24", None, [], "name the name servers"),
        ("10.0.0.5/24", None, ["2001:db8::2"], "by the IPv4 address of each"),
        ("10.0.0.5/24", None, ["0.0.0.0"], "name the name servers"),  # noqa: S104
        ("2001:db8::5/64", "10.0.0.1", ["2001:db8::2"], "no other machine"),
        ("fe80::5%eth0\nevil/64", None, ["2001:db8::2"], "network:"),
    ],
)
def test_an_address_that_cannot_be_is_refused(
    address: str, gateway: str | None, dns: list[str], why: str
) -> None:
    """By name, before a card with it hangs in a corridor."""
    with pytest.raises(MalformedData, match=why):
        FixedAddress.parse(address, gateway, dns)


@pytest.mark.skipif(
    not CLOUD_INIT.exists(), reason="NOT CHECKED: tools/system.sh has not unpacked cloud-init"
)
@pytest.mark.parametrize(
    "fixed",
    [
        FixedAddress.parse("10.0.0.5/24", "10.0.0.1", ["10.0.0.2", "10.0.0.3"]),
        FixedAddress.parse("10.0.0.5/24", None, ["10.0.0.2"]),
        FixedAddress.parse("2001:db8::5/64", None, ["2001:db8::2"]),  # of a way out this writer makes ::/64
    ],
)
def test_cloud_init_makes_the_same_of_an_address(tmp_path: Path, fixed: FixedAddress) -> None:
    """By its own parser and its own writer for NetworkManager: addresses, way out and name servers are those of our file."""
    render = (
        "import json, sys; from cloudinit.net.network_manager import Renderer\n"
        "from cloudinit.net.network_state import parse_net_config_data as parse\n"
        "Renderer().render_network_state(parse(json.loads(sys.argv[1])['network']), target=sys.argv[2])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", render, network_config(fixed), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(CLOUD_INIT)},
    )
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.rglob("*.nmconnection")
    theirs, ours = ConfigParser(), ConfigParser()
    theirs.read(written)
    ours.read_string(fixed.keyfile)
    family = f"ipv{fixed.address.version}"
    found = dict(theirs[family])
    if fixed.gateway is not None:
        to, via = found.pop("route1").split(",")[:2]
        assert to == "0.0.0.0/0"
        found["address1"] += f",{via}"
    assert {key: found[key] for key in ("method", "address1", "dns")} == dict(ours[family])


def test_the_bureaus_files_are_not_left_half_written(bureau: Path, tmp_path: Path) -> None:
    """A card that cannot be written says so, and starts as it did: what a start begins with is written last."""
    boot = boot_partition(tmp_path / "boot", System.BOOKWORM)
    (boot / "drempel").mkdir()
    (boot / "drempel" / "settings").mkdir()
    before = (boot / "cmdline.txt").read_bytes()
    result = config(bureau, boot, "c-front", "--code", CODE)
    assert result.exit_code == 1
    assert (boot / "cmdline.txt").read_bytes() == before
