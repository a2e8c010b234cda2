from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import suite

UNSTEADY = """
from pathlib import Path

def test_fails_the_first_time():
    seen = Path(__file__).with_name("seen")
    had_been = seen.exists()
    seen.touch()
    assert had_been
"""


@pytest.fixture
def tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def test_what_passes_alone_passes_and_is_named(tests: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A test that fails once is run again, and called unsteady."""
    (tests / "test_it.py").write_text(UNSTEADY)
    assert suite.main([]) == 0
    assert "UNSTEADY" in capfd.readouterr().out


def test_what_fails_again_fails(tests: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A test that is wrong stays a failure."""
    (tests / "test_it.py").write_text("def test_wrong():\n    assert False\n")
    assert suite.main([]) == 1
    assert "UNSTEADY" not in capfd.readouterr().out


def test_many_failures_are_believed_at_once(tests: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """More than a few are no accident: they are not run again."""
    body = "\n".join(f"def test_{number}():\n    assert False\n" for number in range(suite.AGAIN_AT_MOST + 1))
    (tests / "test_it.py").write_text(body)
    assert suite.main([]) == 1
    assert "once more" not in capfd.readouterr().out
