"""Write requirements/release.wheels: which file of each locked package a release carries, for each Python it is for.

A line is a Python, the file's name and its SHA-256. It stops where there is no wheel for the Pi's processor. ``tests/test_release_wheels.py`` holds the table and the lock together.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tools.release import PLAIN_SOURCE, PLATFORM, PYTHONS, ROOT, locked, needed

TABLE: Final = ROOT / "requirements" / "release.wheels"


def chosen(python: str) -> list[str]:
    """The lines for one Python, by what pip would install there from wheels alone."""
    machine, _, libc = PLATFORM.partition("-")
    with tempfile.TemporaryDirectory() as temporary:
        requirements, report = Path(temporary, "requirements.txt"), Path(temporary, "report.json")
        requirements.write_text(locked(needed("edge", "desk")), encoding="utf-8")
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--no-deps",
        ]
        pip += ["--only-binary", ":all:", "--no-binary", ",".join(PLAIN_SOURCE), "--no-build-isolation"]
        pip += ["--python-version", python, "--target", temporary, "--report", str(report)]
        pip += ["--platform", f"{libc}_{machine}", "--platform", f"manylinux2014_{machine}"]
        subprocess.run([*pip, "--require-hashes", "-r", str(requirements)], check=True)
        files = [item["download_info"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return sorted(
        f"{python} {file['url'].rpartition('/')[2]} {file['archive_info']['hashes']['sha256']}"
        for file in files
    )


def main() -> None:
    """Write the table."""
    lines = [line for python in PYTHONS for line in chosen(python)]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
