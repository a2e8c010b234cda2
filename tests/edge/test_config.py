"""The configuration accepts what is documented and names what is wrong."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import config, config_file
from edge.config_keys import KEYS
from pacs.rules import Side

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration-edge.md"
KEY_FILES = (
    "device.cert.pem",
    "device.key.pem",
    "event.key.pem",
    "root.cert.pem",
    "policy.pub.pem",
    "passphrase",
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with the files a configuration names."""
    for name in KEY_FILES:
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(0o600)
    return tmp_path


GOOD = """\
[controller]
id = "c-1"
site = "west"
state_dir = "state"
pins = "lgpio"

[hub]
host = "localhost"
port = 8883

[keys]
device_certificate = "device.cert.pem"
device_key = "device.key.pem"
event_key = "event.key.pem"
root_certificate = "root.cert.pem"
policy_public_key = "policy.pub.pem"
passphrase_file = "passphrase"

[fire]
pin = 26

[[door]]
id = "front"
strike_pin = 17
energise_to = "unlock"
contact_pin = 27
tamper_pin = 6
sounder_pin = 12

[[door.reader]]
side = "entry"
device = "/dev/ttyAMA0"
baud = 921600
green_pin = 23
buzzer_pin = 25
"""


def load(site: Path, text: str, **environment: str) -> config.Config:
    """Write and load."""
    path = site / "controller.toml"
    path.write_text(text)
    return config_file.load(path, environment=environment)


def problems(site: Path, text: str) -> tuple[str, ...]:
    """The problems of a text that must be refused."""
    with pytest.raises(config.ConfigError) as caught:
        load(site, text)
    return caught.value.problems


def test_what_is_written_arrives(site: Path) -> None:
    """Every value arrives where it belongs, with paths made absolute."""
    loaded = load(site, GOOD)
    assert (loaded.controller_id, loaded.site_id, loaded.hub_host, loaded.hub_port) == (
        "c-1",
        "west",
        "localhost",
        8883,
    )
    assert loaded.state_dir == site / "state"
    assert loaded.keys.device_key == site / "device.key.pem"
    assert loaded.fire == config.FireConfig(pin=26, wiring=config.Wiring.NORMALLY_CLOSED)
    (door,) = loaded.doors
    assert (door.id, door.strike_pin, door.energise_to) == ("front", 17, config.EnergiseTo.UNLOCK)
    assert (door.tamper_pin, door.tamper_wiring, door.sounder_pin) == (
        6,
        config.Wiring.NORMALLY_CLOSED,
        12,
    )
    assert (door.rex_pin, door.rex_wiring) == (None, config.Wiring.NORMALLY_CLOSED)
    (reader,) = door.readers
    assert (reader.side, reader.device, reader.baud) == (Side.ENTRY, Path("/dev/ttyAMA0"), 921600)


def test_a_reader_behind_pcsc_is_named(site: Path) -> None:
    """Its device is a name as PC/SC tells it, not a path beside the file."""
    text = GOOD.replace('device = "/dev/ttyAMA0"', 'device = "ACS ACR1252 00 00"\nbackend = "pcsc"')
    ((reader,),) = (door.readers for door in load(site, text).doors)
    assert (reader.backend, str(reader.device)) == (config.Backend.PCSC, "ACS ACR1252 00 00")


def test_every_placeholder_is_a_problem_of_its_own(site: Path) -> None:
    """All of a file are reported together, each with its key."""
    text = GOOD
    for value in ("c-1", "west", "localhost", "front"):
        text = text.replace(f'"{value}"', '"CHANGE-ME"')
    assert {problem.split(":")[0] for problem in problems(site, text)} == {
        "[controller] id",
        "[controller] site",
        "[hub] host",
        "[[door]] 1 id",
    }


def test_a_controller_without_a_fire_input_says_so(site: Path) -> None:
    """The table is optional; when it is there its pin is not."""
    without = GOOD.replace("[fire]\npin = 26\n", "")
    assert load(site, without).fire is None
    assert problems(site, GOOD.replace("pin = 26\n", "")) == ("[fire] pin: missing; add it",)


def test_the_documented_example_is_accepted(site: Path) -> None:
    """The example in the document is a working configuration."""
    example = DOCUMENT.read_text().split("```toml\n")[1].split("```")[0]
    (door,) = load(site, example).doors
    assert [reader.side for reader in door.readers] == [Side.ENTRY, Side.EXIT]


def documented() -> dict[str, dict[str, str]]:
    """Table → key → documented default, from the document."""
    found: dict[str, dict[str, str]] = {}
    for part in DOCUMENT.read_text().split("\n## ")[1:]:
        if heading := re.match(r"`\[+([a-z.]+)\]+`", part):
            found[heading[1]] = dict(
                re.findall(r"^\| `([a-z_]+)` \|.*?\| ([^|]*) \| [^|]*\|$", part, re.MULTILINE)
            )
    return found


def test_document_and_code_name_the_same_keys_and_defaults() -> None:
    """Every documented key is accepted with the documented default, and every accepted key is documented."""
    in_code = {
        section: {
            key: "required"
            if spec.required
            else "none"
            if spec.default is None
            else f"`{_as_toml(spec.default)}`"
            for key, spec in keys.items()
        }
        for section, keys in KEYS.items()
    }
    assert documented() == in_code


def _as_toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.mark.parametrize(
    ("was", "becomes", "problem"),
    [
        ('id = "c-1"', 'id = "c 1"', "[controller] id: write 1 to 48"),
        ('id = "c-1"', "id = 1", "[controller] id: write a text"),
        ('id = "c-1"', 'id = "<controller>"', '[controller] id: still the placeholder "<controller>"'),
        ('id = "c-1"', 'id = "changeme"', "[controller] id: still the placeholder"),
        ('id = "c-1"', 'id = "c-1"\ncolour = "red"', "[controller] colour: unknown"),
        ("[hub]", "[hubb]", "hubb: unknown"),
        ('pins = "lgpio"', 'pins = "auto"', '[controller] pins: write one of "lgpio", "mock"'),
        ("port = 8883", 'port = "8883"', "[hub] port: write a whole number"),
        ("port = 8883", "port = true", "[hub] port: write a whole number"),
        ("port = 8883", "port = 0", "[hub] port: write a whole number"),
        ('"root.cert.pem"', '"absent.pem"', "[keys] root_certificate: there is no file"),
        ('"root.cert.pem"', f'"{"x" * 300}"', "[keys] root_certificate: "),
        ('"root.cert.pem"', f'"{"x/" * 3000}"', "[keys] root_certificate: "),
        ('"state"', '"st\\u0000ate"', "[controller] state_dir: no path has"),
        ("strike_pin = 17", "strike_pin = 28", "[[door]] 1 strike_pin: write a whole number from 2 to 27"),
        ("strike_pin = 17", "", "[[door]] 1 strike_pin: missing"),
        (
            "strike_pin = 17",
            "strike_pin = 23",
            "[[door]] 1 [[door.reader]] 1 green_pin: 23 is already [[door]] 1 strike_pin",
        ),
        ("baud = 921600", "baud = 9600", "[[door]] 1 [[door.reader]] 1 baud: write one of 115200"),
        (
            'side = "entry"',
            'side = "left"',
            '[[door]] 1 [[door.reader]] 1 side: write one of "entry", "exit"',
        ),
        ("pin = 26", "pin = 17", "[[door]] 1 strike_pin: 17 is already [fire] pin"),
        ("tamper_pin = 6", "tamper_pin = 25", "[[door]] 1 [[door.reader]] 1 buzzer_pin: 25 is already"),
        (
            "sounder_pin = 12",
            "sounder_pin = 27",
            "[[door]] 1 sounder_pin: 27 is already [[door]] 1 contact_pin",
        ),
        ("[fire]", "[[fire]]", "[fire]: write it as a table"),
        ("[[door.reader]]", "[door.reader]", "[[door]] 1 reader: write it as [[door.reader]]"),
        ("[[door.reader]]", "[[door.reeder]]", "[[door]] 1 reeder: unknown"),
    ],
)
def test_a_wrong_value_is_named_with_its_fix(site: Path, was: str, becomes: str, problem: str) -> None:
    """One change to a good file gives a problem that names the key and what to write."""
    assert GOOD.count(was) >= 1
    assert any(found.startswith(problem) for found in problems(site, GOOD.replace(was, becomes, 1)))


def test_two_doors_share_nothing(site: Path) -> None:
    """A second door with the first one's id, pins and reader is refused for each of them."""
    doors = GOOD[GOOD.index("[[door]]") :]
    named = " ".join(problems(site, GOOD + doors))
    for key in ("id: front", "strike_pin: 17", "buzzer_pin: 25", "device: /dev/ttyAMA0"):
        assert f"{key} is already" in named


def test_two_readers_on_one_side_are_refused(site: Path) -> None:
    """A door has one reader for each side."""
    second = '[[door.reader]]\nside = "entry"\ndevice = "/dev/ttyUSB0"\n'
    assert any("side: used twice" in found for found in problems(site, GOOD + second))


def test_five_doors_are_refused(site: Path) -> None:
    """A controller has one to four doors."""
    text = GOOD[: GOOD.index("[[door]]")]
    many = "".join(f'[[door]]\nid = "d{n}"\nstrike_pin = {n + 2}\nenergise_to = "lock"\n' for n in range(5))
    assert len(load(site, text + many.rsplit("[[door]]", 1)[0]).doors) == 4
    assert problems(site, text + many) == ("[[door]]: write 1 to 4 doors, there are 5",)
    assert any("there are 0" in found for found in problems(site, text))


@pytest.mark.parametrize("name", ["root.cert.pem", "policy.pub.pem", "controller.toml"])
@pytest.mark.parametrize("mode", [0o664, 0o646, 0o622])
def test_what_decides_whom_to_believe_is_refused_when_others_can_change_it(
    site: Path, name: str, mode: int
) -> None:
    """Everybody may read it; the fix is named."""
    path = site / name
    path.touch()
    path.chmod(0o644)
    load(site, GOOD)
    path.chmod(mode)
    (found,) = problems(site, GOOD)
    assert f"chmod go-w {path}" in found


@pytest.mark.parametrize("name", ["device.cert.pem", "device.key.pem", "event.key.pem", "passphrase"])
@pytest.mark.parametrize("mode", [None, 0o644])
def test_what_only_the_link_to_the_hub_needs_keeps_no_door_shut(
    site: Path, name: str, mode: int | None
) -> None:
    """A file that is absent, or that others can read, is for the uplink to report: the doors need none of them."""
    if mode is None:
        (site / name).unlink()
    else:
        (site / name).chmod(mode)
    assert name in {path.name for path in dataclasses.astuple(load(site, GOOD).keys)}


def test_the_environment_replaces_the_passphrase_file(site: Path) -> None:
    """DREMPEL_PASSPHRASE_FILE wins, and may stand alone."""
    other = site / "other"
    loaded = load(site, GOOD, DREMPEL_PASSPHRASE_FILE=str(other))
    assert loaded.keys.passphrase_file == other
    without = re.sub("passphrase_file.*", "", GOOD)
    assert load(site, without, DREMPEL_PASSPHRASE_FILE=str(other)).keys.passphrase_file == other
    assert "DREMPEL_PASSPHRASE_FILE" in problems(site, without)[0]


def test_a_file_that_is_absent_or_not_toml_is_named(site: Path) -> None:
    """The error names the file."""
    with pytest.raises(config.ConfigError, match=r"absent\.toml"):
        config_file.load(site / "absent.toml", environment={})
    assert problems(site, "= nonsense")[0].startswith("is not TOML")


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = " + "9" * 10_000, "#" * (config_file.MAX_BYTES + 1), "\0"]
)
def test_what_no_parser_likes_is_one_named_problem(site: Path, text: str) -> None:
    """Depth, digits and length have an end."""
    assert len(problems(site, text)) == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda values: st.lists(values, max_size=3),
)
LINES = st.one_of(
    st.sampled_from(GOOD.splitlines()),
    st.text(max_size=30),
    st.builds(
        lambda line, value: f"{line.split('=')[0]} = {json.dumps(value)}",
        st.sampled_from(GOOD.splitlines()),
        VALUES,
    ),
    st.sampled_from(
        ["[fire]", "[[door]]", "[[door.reader]]", "[door]", "[[fire]]", "[door.reader]", "[hub]"]
    ),
)


@given(places=st.lists(st.tuples(st.integers(0, len(GOOD.splitlines())), LINES), max_size=6))
def test_whatever_is_written_is_read_or_refused_by_name(places: list[tuple[int, str]]) -> None:
    """Lines added to a good file anywhere: a configuration, or problems of one line each, and nothing else."""
    lines = GOOD.splitlines()
    for place, line in places:
        lines.insert(place, line)
    with TemporaryDirectory() as directory:
        for name in (*KEY_FILES, "controller.toml"):
            (Path(directory) / name).touch(0o600)
        path = Path(directory) / "controller.toml"
        path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        found = refusals(path)
    assert found is None or found
    assert all(problem and problem.isprintable() for problem in found or ())


def refusals(path: Path) -> tuple[str, ...] | None:
    """Why a file is refused; None when it is not."""
    try:
        config_file.load(path, environment={})
    except config.ConfigError as error:
        return error.problems
    return None


def test_a_problem_is_one_printable_line(site: Path) -> None:
    """Whatever stands in the file: what is told of it cannot move a terminal's cursor."""
    text = GOOD.replace('id = "c-1"', 'id = "todo\\n\\u001b[2J"\n"a\\nb" = 1')
    found = problems(site, text)
    assert len(found) == 2
    assert all(problem.isprintable() for problem in found)
