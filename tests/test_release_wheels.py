from __future__ import annotations

import re

from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from tools.release import PLAIN_SOURCE, PYTHONS, locked, needed
from tools.wheels import TABLE

GLIBC = 28
"""The wheels are built against 2.28 at the most; Bookworm has 2.36, Trixie 2.41."""


def runs(tag: Tag, python: str) -> bool:
    """Whether a package of that tag runs on a Pi's Debian with that Python."""
    interpreter = python.replace(".", "")
    own = tag.interpreter == f"cp{interpreter}" and tag.abi in {tag.interpreter, "abi3"}
    stable = tag.abi == "abi3" and int(tag.interpreter.removeprefix("cp3")) <= int(interpreter[1:])
    libc = re.fullmatch(r"manylinux(?:_2_(\d+)|2014)_aarch64", tag.platform)
    anywhere = tag.abi == "none" and tag.interpreter == "py3" and tag.platform == "any"
    return anywhere or ((own or stable) and libc is not None and int(libc[1] or 17) <= GLIBC)


def test_every_package_of_a_release_is_locked_for_the_processor_of_a_pi() -> None:
    """Each Python's packages are those of the lock, each file's hash is in it, and its tags are those of 64-bit ARM."""
    entries = re.split(r"\n(?=\S)", locked(needed("edge", "desk")).strip())
    hashes = {
        canonicalize_name(entry.split("==")[0]): set(re.findall(r"sha256:(\w{64})", entry))
        for entry in entries
    }
    versions = {
        canonicalize_name(entry.split("==")[0]): re.split(r"[ ;]", entry.split("==")[1])[0]
        for entry in entries
    }
    found: dict[str, dict[str, str]] = {python: {} for python in PYTHONS}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        python, file, sha256 = line.split(" ")
        if file.endswith(".whl"):
            name, version, _, tags = parse_wheel_filename(file)
            assert any(runs(tag, python) for tag in tags), file
        else:
            name, version = parse_sdist_filename(file)
            assert name in PLAIN_SOURCE
        assert sha256 in hashes[name], file
        found[python][name] = str(version)
    assert found == dict.fromkeys(PYTHONS, versions)
