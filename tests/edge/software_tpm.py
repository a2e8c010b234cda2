"""A TPM 2.0 in software: swtpm behind tpm2-abrmd, which shares it as the kernel's resource manager shares a chip."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

import pytest

from edge.tpm import TCTI_VARIABLE
from tests.hub.controller import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping

_PATH = f"{os.environ['PATH']}:/usr/sbin"
_PROGRAMS = ("swtpm", "tpm2-abrmd", "dbus-daemon", "tpm2_encodeobject", "openssl")
_FILES = ("ossl-modules/tpm2.so", "libtss2-tcti-tabrmd.so.0")
MISSING = [
    *(name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None),
    *(name for name in _FILES if not [*Path("/usr/lib").glob(f"*/{name}")]),
]
needs_tpm = pytest.mark.skipif(
    bool(MISSING),
    reason=f"NOT CHECKED: no {', '.join(MISSING)} here, so nobody has seen keys in a TPM",
)


class SoftwareTpm:
    """One chip with what it remembers; on while in its context."""

    def __init__(self) -> None:
        self._parts = ExitStack()
        self._on: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> Mapping[str, str]:
        """Of a program that is to use it."""
        return {
            TCTI_VARIABLE: "tabrmd:bus_type=session,bus_name=org.drempel.Tpm",
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self._directory}/bus",
        }

    def __enter__(self) -> Self:
        # A socket's path has to be short.
        self._directory = Path(self._parts.enter_context(TemporaryDirectory(prefix="tpm-")))
        self._parts.callback(self.power_cut)
        self.power()
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def power(self) -> None:
        """Give it power; returns once it answers."""
        chip, bus = f"unixio,path={self._directory}/chip", f"{self._directory}/bus"
        self._start("dbus-daemon", "--session", "--nofork", f"--address=unix:path={bus}")
        self._start(
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._directory}", "--server", f"type={chip}",
            "--ctrl", f"type={chip}.ctrl", "--flags", "not-need-init,startup-clear",
        )  # fmt: skip
        eventually(lambda: all(Path(path).exists() for path in (bus, f"{self._directory}/chip")))
        self._start(
            "tpm2-abrmd", "--session", "--dbus-name=org.drempel.Tpm", f"--tcti=swtpm:path={self._directory}/chip",
            *(["--allow-root"] if os.geteuid() == 0 else []),
        )  # fmt: skip
        eventually(self._answers)

    def power_cut(self) -> None:
        """Take its power, with no word before."""
        for process in reversed(self._on):
            process.kill()
            process.wait()
        self._on.clear()
        for name in ("bus", "chip", "chip.ctrl"):
            (self._directory / name).unlink(missing_ok=True)

    def _answers(self) -> bool:
        asked = subprocess.run(
            ["tpm2_getrandom", "1"], env=os.environ | self.environment, capture_output=True, check=False
        )
        return asked.returncode == 0

    def _start(self, program: str, *arguments: str) -> None:
        path = shutil.which(program, path=_PATH)
        assert path is not None
        self._on.append(
            subprocess.Popen(
                [path, *arguments],
                env=os.environ | self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
