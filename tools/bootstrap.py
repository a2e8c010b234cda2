"""Make the virtual environment from hashed locks; needs nothing but Python and its standard library.

``bootstrap.py [--only run|dev] [--venv DIR]``: ``run`` installs what the programs need, ``dev`` the tests and
checks as well. A second call with unchanged locks does nothing. pip's own configuration (files, PIP_* variables)
says where packages come from; it is handed on to uv. Exit status 1: a requirement is missing, and the message says which.
"""

from __future__ import print_function

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys

MINIMUM = (3, 11)
CANDIDATES = ("python3", "python3.13", "python3.12", "python3.11", "python3.14")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# pip's option: uv's environment variable
PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "no-index": "UV_NO_INDEX",
    "cert": "SSL_CERT_FILE",
}
SEPARATOR = {"UV_FIND_LINKS": ","}


def stop(message):
    """Print what is missing and the next step; end with status 1."""
    sys.stderr.write("\n" + message + "\n")
    sys.exit(1)


def use_suitable_python():
    """Start again under a Python that is new enough, if this one is not."""
    if sys.version_info >= MINIMUM:
        return
    for name in CANDIDATES:
        path = shutil.which(name)
        test = "import sys; sys.exit(sys.version_info < (%d, %d))" % MINIMUM
        if path and subprocess.call([path, "-c", test], stderr=subprocess.DEVNULL) == 0:
            os.execv(path, [path] + sys.argv)
    stop(
        "Python %d.%d or newer is needed; this is %s (%s).\n"
        "Next step: install one (Debian 12: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3 …"
        % (MINIMUM + (sys.version.split()[0], sys.executable))
    )


def create_environment(venv):
    """Make the directory ``venv``; return the command which runs pip for it."""
    python = os.path.join(venv, "bin", "python")
    with_pip = subprocess.call([sys.executable, "-c", "import ensurepip"], stderr=subprocess.DEVNULL) == 0
    if not os.path.exists(python):
        print("Creating %s with %s" % (os.path.relpath(venv, ROOT), sys.executable))
        sys.stdout.flush()
        extra = [] if with_pip else ["--without-pip"]
        if subprocess.call([sys.executable, "-m", "venv"] + extra + [venv]) != 0:
            shutil.rmtree(venv, ignore_errors=True)
            stop("The virtual environment could not be made: see the message above.")
    if subprocess.call([python, "-c", "import pip"], stderr=subprocess.DEVNULL) == 0:
        return [python, "-m", "pip"]
    if subprocess.call([sys.executable, "-c", "import pip"], stderr=subprocess.DEVNULL) == 0:
        return [sys.executable, "-m", "pip", "--python", python]
    shutil.rmtree(venv, ignore_errors=True)
    stop(
        "This Python has neither ensurepip nor pip, so no virtual environment can be filled.\n"
        "Next step (Debian, Ubuntu): sudo apt-get install python3-venv   then run the same command again."
    )
    return None


def uv_environment(pip):
    """Return the process environment in which uv finds packages where pip would."""
    environment = dict(os.environ)
    # Hashes say what a package is; an index only says where it is, so every configured one may be asked.
    environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    environment.setdefault("UV_NO_PROGRESS", "1")
    listing = subprocess.run(pip + ["config", "list"], stdout=subprocess.PIPE, check=False).stdout.decode("utf-8", "replace")
    found = {}
    for scope in ("global", "install", ":env:"):  # later ones win, as in pip
        for name, value in re.findall(r"^%s\.([a-z-]+)='(.*)'$" % re.escape(scope), listing, re.MULTILINE):
            found[name] = value
    for name, variable in PIP_TO_UV.items():
        if found.get(name):
            values = found[name].replace("\\n", " ").split()
            environment.setdefault(variable, SEPARATOR.get(variable, " ").join(values))
    return environment


def fingerprint(files):
    """Hash what the installation depends on."""
    digest = hashlib.sha256(sys.version.encode())
    for name in files:
        with open(os.path.join(ROOT, name), "rb") as source:
            digest.update(source.read())
    return digest.hexdigest()


def run(command, environment=None):
    """Run a command; on failure say which one, and stop."""
    status = subprocess.call(command, env=environment, cwd=ROOT)
    if status != 0:
        stop("Failed (status %d): %s" % (status, " ".join(shlex.quote(part) for part in command)))


def install(venv, lock, files, stamp):
    """Fill the environment from ``lock`` and install this project into it, editable."""
    pip = create_environment(venv)
    python = os.path.join(venv, "bin", "python")
    quiet = ["--quiet", "--disable-pip-version-check"]
    run(pip + ["install"] + quiet + ["--require-hashes", "--only-binary", ":all:", "-r", "requirements/uv.txt"])
    uv = [os.path.join(venv, "bin", "uv"), "pip", "install", "--python", python, "--no-config"]
    environment = uv_environment(pip)
    print("Installing the packages of %s (each checked against its hash)" % lock)
    sys.stdout.flush()
    run(uv + ["--quiet", "--require-hashes", "-r", lock], environment)
    run(uv + ["--quiet", "--no-deps", "--no-build-isolation", "--offline", "--editable", "."], environment)
    with open(stamp, "w") as target:
        target.write(fingerprint(files))


def main():
    """Bring the environment up to date."""
    use_suitable_python()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=("run", "dev"), default="dev")
    parser.add_argument("--venv", default=os.path.join(ROOT, ".venv"))
    options = parser.parse_args()
    venv = os.path.abspath(options.venv)
    for kind in ("run", "dev") if options.only == "run" else ("dev",):  # dev holds all of run
        lock = "requirements/%s.txt" % kind
        files = [lock, "requirements/uv.txt", "pyproject.toml", "tools/bootstrap.py"]
        stamp = os.path.join(venv, ".drempel-" + kind)
        if os.path.exists(stamp) and open(stamp).read() == fingerprint(files):
            return
    lock = "requirements/%s.txt" % options.only
    files = [lock, "requirements/uv.txt", "pyproject.toml", "tools/bootstrap.py"]
    install(venv, lock, files, os.path.join(venv, ".drempel-" + options.only))


if __name__ == "__main__":
    main()
