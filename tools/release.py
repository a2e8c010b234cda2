"""Build the archive of a release: the controller's program with everything it needs, ready to run where it is unpacked.

``release.py --out DIR [--python 3.11 …] [--platform aarch64-manylinux_2_28]``. What a release holds:

* ``bin/``: the programs; each runs the operating system's Python on what lies beside it, isolated from the rest.
* ``lib/VERSION/``: the packages of the lock that ``drempel[edge,desk]`` needs, for one Python each, and the program.
  The operating system brings lgpio (python3-lgpio, which Raspberry Pi adds to Debian), for which there is no wheel for each
  of them.
* ``firmware_config/``: what turns a blank Pi into a controller.

Packages are those of requirements/run.txt, each checked against its hash. Two runs make the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

from tools.bootstrap import where_packages_are

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venv" / "bin" / "uv"
PROGRAMS = {"drempel-edge": "edge.__main__", "drempel-desk": "edge.desk.__main__"}
LEFT_OUT = ("lgpio", "setuptools")
"""The operating system's; and what nothing of ours runs, though it is asked for."""
PLAIN_SOURCE = ("pydes",)
"""Plain Python without a wheel. Anything else that had none would be compiled, for this machine's processor."""
OTHER_ROOMS = ("hub", "provisioning", "simulator")
PYTHONS = ("3.11", "3.13")
"""Of Bookworm and of Trixie."""
PLATFORM = "aarch64-manylinux_2_28"

LAUNCH = '''"""Run a program of this release with the packages that lie beside it."""

import runpy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "lib" / "{}.{}".format(*sys.version_info)))
module = sys.argv.pop(1)
runpy.run_module(module, run_name="__main__", alter_sys=True)
'''
PROGRAM = """\
#!/bin/sh
# -I: neither the environment nor the user's own packages have a say.
here=$(dirname "$(readlink -f "$0")")
exec /usr/bin/python3 -I "$here/../launch.py" {} "$@"
"""


def needed(*extras: str) -> set[str]:
    """The normalised names of everything that these extras of the project need, on any Linux."""
    found: set[str] = set()
    waiting = [Requirement(f"drempel[{','.join(extras)}]")]
    while waiting:
        requirement = waiting.pop()
        name = normalised(requirement.name)
        if name in found and not requirement.extras:
            continue
        found.add(name)
        for text in importlib.metadata.requires(requirement.name) or []:
            part = Requirement(text)
            wanted = [{"extra": extra, "sys_platform": "linux"} for extra in (*requirement.extras, "")]
            if part.marker is None or any(part.marker.evaluate(environment) for environment in wanted):
                waiting.append(part)
    return found - {"drempel", *LEFT_OUT}


def normalised(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(names: set[str]) -> str:
    """The entries of the lock for these packages, hashes included; stops when one is missing."""
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8").strip())
    chosen = {normalised(entry.split("==")[0].split("[")[0]): entry for entry in entries}
    missing = sorted(names - chosen.keys())
    if missing:
        sys.exit(f"requirements/run.txt does not lock {', '.join(missing)}; run make lock")
    return "\n".join(chosen[name] for name in sorted(names)) + "\n"


def build(directory: Path, pythons: list[str], platform: str | None) -> None:
    """Put the release's files into an empty directory."""
    requirements = directory / "requirements.txt"
    names = needed("edge", "desk")
    requirements.write_text(locked(names), encoding="utf-8")
    wheels = [f"--only-binary={name}" for name in sorted(names.difference(PLAIN_SOURCE))]
    pip = [str(UV), "pip", "install", "--quiet", "--no-config", "--link-mode", "copy"]
    environment = {**os.environ, **where_packages_are([sys.executable, "-m", "pip"])}
    for python in pythons:
        target = ["--target", str(directory / "lib" / python), "--python-version", python]
        target += ["--python-platform", platform] if platform else []
        for what in (["--require-hashes", "-r", str(requirements)], [str(ROOT)]):
            source = wheels if "-r" in what else ["--offline"]
            # What is built is built by what the lock has installed here, not by what is newest.
            building = ["--no-build-isolation", *source]
            subprocess.run([*pip, "--no-deps", *target, *building, *what], check=True, env=environment)
        for room in OTHER_ROOMS:
            shutil.rmtree(directory / "lib" / python / room)
        shutil.rmtree(directory / "lib" / python / "bin")
    (directory / "bin").mkdir()
    for name, module in PROGRAMS.items():
        (directory / "bin" / name).write_text(PROGRAM.format(module), encoding="utf-8")
        (directory / "bin" / name).chmod(0o755)
    (directory / "launch.py").write_text(LAUNCH, encoding="utf-8")
    shutil.copytree(ROOT / "firmware_config", directory / "firmware_config")
    shutil.copy(ROOT / "LICENSE", directory)


def archive(directory: Path) -> bytes:
    """The directory's files as a tar archive compressed with gzip, in order, without owners and times."""
    made = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=made, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as target,
    ):
        for path in sorted(directory.rglob("*")):
            if (
                not path.is_file()
                or "__pycache__" in path.parts
                or path.name in {".lock", "RECORD", "uv_cache.json"}
            ):
                continue
            member = tarfile.TarInfo(str(path.relative_to(directory)))
            content = path.read_bytes()
            member.size, member.mode = len(content), 0o755 if path.stat().st_mode & 0o100 else 0o644
            target.addfile(member, io.BytesIO(content))
    return made.getvalue()


def main() -> None:
    """Build one archive and name it."""
    parser = argparse.ArgumentParser(description="Build the archive of a release.")
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="directory; default: build")
    parser.add_argument("--python", action="append", dest="pythons", help=f"default: {' and '.join(PYTHONS)}")
    parser.add_argument("--platform", default=PLATFORM, help=f"default: {PLATFORM}; 'here' is this machine's")
    given = parser.parse_args()
    platform = None if given.platform == "here" else given.platform
    with tempfile.TemporaryDirectory() as temporary:
        build(Path(temporary), given.pythons or list(PYTHONS), platform)
        made = archive(Path(temporary))
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"drempel-{importlib.metadata.version('drempel')}.tar.gz"
    path.write_bytes(made)
    print(path)


if __name__ == "__main__":
    main()
