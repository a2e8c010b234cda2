from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import Backend
from edge.desk.config import DeskConfig, DeskConfigError

TOKEN = "drempel_station_" + "A" * 43
GOOD = f'hub = "https://hub.example.org/"\ntoken = "{TOKEN}"\nbackend = "pcsc"\ndevice = "ACR1252"\n'


def written(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    path = tmp_path / "desk.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_says_all_there_is(tmp_path: Path) -> None:
    """Four keys are needed; the token is in no representation."""
    config = DeskConfig.load(written(tmp_path, GOOD))
    assert (config.hub, config.backend, config.device) == (
        "https://hub.example.org",
        Backend.PCSC,
        "ACR1252",
    )
    assert config.allow_v1
    assert TOKEN not in repr(config)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("https", "http", "hub: https"),
        (TOKEN, "drempel_other", "token: one of a station"),
        (TOKEN, "<the token>", "token: still a placeholder"),
        ('"pcsc"', '"usb"', "backend: one of"),
        ('device = "ACR1252"', "", "device: missing"),
        ('"ACR1252"', '"ACR1252"\nspeed = 1', "speed: unknown"),
        ('"ACR1252"', '"ACR1252"\nallow_v1 = "yes"', "allow_v1: true or false"),
        ('"ACR1252"', '"ACR1252"\nauthority = "nowhere.pem"', "authority: a file"),
        ("device", "device device", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    """The key, and what to do; never the token."""
    with pytest.raises(DeskConfigError, match=said) as refused:
        DeskConfig.load(written(tmp_path, GOOD.replace(old, new)))
    assert TOKEN not in str(refused.value)


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """With the command that mends it."""
    with pytest.raises(DeskConfigError, match="chmod 600"):
        DeskConfig.load(written(tmp_path, GOOD, 0o640))
    with pytest.raises(DeskConfigError, match="check the path"):
        DeskConfig.load(tmp_path / "nowhere.toml")
