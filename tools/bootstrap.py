"""Make the virtual environment from hashed locks; needs nothing but Python and its standard library.

``bootstrap.py [--only run|dev|fuzz|pcsc]``: ``run`` installs what the programs need, ``dev`` the tests and checks as well.
A second call with unchanged locks does nothing. pip's own configuration (its files and PIP_* variables) says where
packages come from, and is handed on to uv. Exit status 1: something is missing, and the message says what to do.
Written for any Python 3.6, so that an old one can still say that it is too old.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NoReturn  # noqa: UP035  an old Python must still reach the message

MINIMUM = (3, 11)
CANDIDATES = ("python3.13", "python3.12", "python3.11", "python3.14")
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pacs", "edge", "hub", "provisioning", "simulator")
VENV = ROOT / ".venv"
PYTHON = str(VENV / "bin" / "python")

# pip's option: uv's environment variable, and what separates its values
PIP_TO_UV = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "no-index": ("UV_NO_INDEX", " "),
    "cert": ("SSL_CERT_FILE", " "),
}


def stop(message: str) -> NoReturn:
    """Print what is missing and the next step; end with status 1."""
    sys.stderr.write(f"\n{message}\n")
    sys.exit(1)


def works(*command: str) -> bool:
    """Say whether a command can be run and succeeds."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def run(*command: str, **environment: str) -> None:
    """Run a command; when it fails say which one, and stop."""
    status = subprocess.call(command, env={**os.environ, **environment}, cwd=str(ROOT))
    if status != 0:
        stop("Failed with status {}: {}".format(status, " ".join(command)))


def use_suitable_python() -> None:
    """Start again under a Python that is new enough, if this one is not."""
    if sys.version_info >= MINIMUM:
        return
    for name in CANDIDATES:
        path = shutil.which(name)
        if path and works(path, "-c", "import sys"):
            os.execv(path, [path, *sys.argv])
    stop(
        f"Python 3.11 or newer is needed; this is {sys.version.split()[0]} ({sys.executable}).\n"
        "Next step: install one (Debian: sudo apt-get install python3 python3-venv),\n"
        "or name one: make PYTHON=/path/to/python3 …"
    )


def environment_with_pip() -> List[str]:  # noqa: UP006  see the import
    """Make the virtual environment if there is none; return the command that runs pip for it."""
    if not works(PYTHON, "-c", f"import sys; sys.exit(sys.version_info < {MINIMUM})"):
        shutil.rmtree(str(VENV), ignore_errors=True)
        print(f"Making .venv with {sys.executable}", flush=True)
        extra = [] if works(sys.executable, "-c", "import ensurepip") else ["--without-pip"]
        run(sys.executable, "-m", "venv", *extra, str(VENV))
    if works(PYTHON, "-c", "import pip"):
        return [PYTHON, "-m", "pip"]
    if works(sys.executable, "-m", "pip", "--python", PYTHON, "--version"):
        return [sys.executable, "-m", "pip", "--python", PYTHON]
    shutil.rmtree(str(VENV), ignore_errors=True)
    stop(
        "This Python has neither ensurepip nor pip, so a virtual environment could not be filled.\n"
        "Next step (Debian, Ubuntu): sudo apt-get install python3-venv\nThen run the same command again."
    )


def where_packages_are(pip: List[str]) -> Dict[str, str]:  # noqa: UP006  see the import
    """Return pip's configured places as uv's variables; those already set stay."""
    listing = subprocess.run([*pip, "config", "list"], stdout=subprocess.PIPE, check=False).stdout.decode()
    found: Dict[str, str] = {}  # noqa: UP006  see the import
    for scope in ("global", "install", ":env:"):  # the later wins, as in pip
        found.update(re.findall(rf"^{re.escape(scope)}\.([a-z-]+)='(.*)'$", listing, re.MULTILINE))
    # A hash says what a package is and an index only where it is, so each may be asked for any.
    variables = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_NO_PROGRESS": "1"}
    for option, (variable, separator) in PIP_TO_UV.items():
        if option in found:
            variables[variable] = separator.join(found[option].replace("\\n", " ").split())
    return {name: value for name, value in variables.items() if name not in os.environ}


def fingerprint(only: str) -> str:
    """Hash what an installation depends on."""
    digest = hashlib.sha256(str(ROOT).encode())
    for name in (f"requirements/{only}.txt", "requirements/uv.txt", "pyproject.toml", "tools/bootstrap.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def is_ready(only: str) -> bool:
    """Say whether the environment holds what the lock names."""
    stamp = VENV / f".drempel-{only}"
    return stamp.exists() and stamp.read_text() == fingerprint(only) and works(PYTHON, "-c", "")


def install(only: str) -> None:
    """Fill the environment from its lock and install this project into it, editable."""
    pip = environment_with_pip()
    quiet = ["--quiet", "--disable-pip-version-check"]
    run(*pip, "install", *quiet, "--require-hashes", "--only-binary", ":all:", "-r", "requirements/uv.txt")
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--no-config", "--python", PYTHON]
    uv.append(
        "--compile-bytecode"
    )  # several processes start at once, and some systems forbid them to compile
    print(f"Installing requirements/{only}.txt, each package checked against its hash", flush=True)
    locks = [[f"requirements/{only}.txt"]]
    if only == "pcsc":  # it is compiled, by what has a lock of its own
        locks = [["requirements/build-pcsc.txt"], [*locks[0], "--no-build-isolation"]]
    for lock in locks:
        run(*uv, "--require-hashes", "-r", *lock, **where_packages_are(pip))
    run(*uv, "--offline", "--no-deps", "--no-build-isolation", "--editable", ".")
    run(PYTHON, "-m", "compileall", "-q", *PACKAGES)
    (VENV / f".drempel-{only}").write_text(fingerprint(only))


def main() -> None:
    """Bring the environment up to date."""
    use_suitable_python()
    parser = argparse.ArgumentParser(description="Make .venv from hashed locks.")
    parser.add_argument(
        "--only",
        choices=("run", "dev", "fuzz", "pcsc"),
        default="dev",
        help="dev holds all of run; fuzz and pcsc add to dev",
    )
    only = parser.parse_args().only
    if not (is_ready(only) or (only == "run" and is_ready("dev"))):
        install(only)


if __name__ == "__main__":
    main()
