"""A TPM 2.0 as a keeper: P-256 keys that never leave it, and secrets that it gives back on its own machine only.

Debian's tpm2-tools and tpm2-openssl do the work, as programs and as a provider of the OpenSSL below Python's ``ssl``. What
is kept here are blobs that only the TPM that made them can load, below the primary key of its owner hierarchy. Every object
is free of dictionary-attack protection: a TPM counts power cuts as attacks on those that are not. No PCR, no password
(docs/adr/0031). Everything raises ``StoreError`` with what to do when there is no TPM, or it is another one.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from edge.tpm_blobs import key_in, sealed_parts, sealed_text
from pacs.errors import MalformedData, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICE: Final = Path("/dev/tpmrm0")
"""The kernel's resource manager, which programs can share."""
TCTI_VARIABLE: Final = "TPM2TOOLS_TCTI"
"""Names another way to a TPM, as tpm2-tools has it."""
PACKAGES: Final = "openssl tpm2-openssl tpm2-tools"
TIMEOUT_S: Final = 30.0
"""Of one program; making a key takes a slow chip some seconds."""
NO_PASSWORD: Final = b""
"""What a key of the TPM is unlocked with where a password is asked for."""

_BOUND: Final = "fixedtpm|fixedparent|userwithauth|noda"
_PARENT: Final = (  # the parent that tpm2-openssl derives for itself
    "-C", "o", "-G", "ecc256:aes128cfb", "-a", f"{_BOUND}|sensitivedataorigin|restricted|decrypt",
)  # fmt: skip
_TOGETHER: Final = ("-provider", "tpm2", "-provider", "default", "-propquery", "?tpm2.signature=yes")
_ENROL: Final = (
    "move configuration and state away, then: drempel-provision reader swap, and drempel-edge enrol"
)


def is_there() -> bool:
    """Whether this machine has a TPM, working or not."""
    return bool(os.environ.get(TCTI_VARIABLE)) or DEVICE.exists()


def answer() -> None:
    """Ask it for a few bytes."""
    _run("tpm2_getrandom", "4", "--hex")


def make_key() -> bytes:
    """Make a P-256 key in the TPM; PEM of its blob, which this TPM has proven to load."""
    with _directory() as work:
        _parent(work)
        attributes = f"{_BOUND}|sensitivedataorigin|sign|decrypt"
        blob = ("-u", f"{work}/public", "-r", f"{work}/private")
        _run("tpm2_create", "-Q", "-C", f"{work}/parent", "-G", "ecc256", "-a", attributes, *blob)
        _run("tpm2_encodeobject", "-Q", "-C", f"{work}/parent", *blob, "-o", f"{work}/pem")
        pem = (work / "pem").read_bytes()
    TpmKey(pem)
    return pem


def seal(secret: bytes) -> bytes:
    """A text that gives ``secret`` back by ``unseal`` on this TPM alone; at most 128 bytes (TPM 2.0 Part 2, 11.1.14)."""
    with _directory() as work:
        _parent(work)
        blob = ("-u", f"{work}/public", "-r", f"{work}/private")
        _run("tpm2_create", "-Q", "-C", f"{work}/parent", "-a", _BOUND, "-i", "-", *blob, stdin=secret)
        return sealed_text((work / "public").read_bytes(), (work / "private").read_bytes())


def unseal(data: bytes) -> bytes:
    """What was sealed in it."""
    try:
        public, private = sealed_parts(data)
    except MalformedData as error:
        raise StoreError(f"the TPM: {error}; {_ENROL}") from error
    with _directory() as work:
        (work / "public").write_bytes(public)
        (work / "private").write_bytes(private)
        _parent(work)
        blob = ("-u", f"{work}/public", "-r", f"{work}/private")
        _run("tpm2_load", "-Q", "-C", f"{work}/parent", *blob, "-c", f"{work}/object")
        return _run("tpm2_unseal", "-Q", "-c", f"{work}/object")


@lru_cache(maxsize=1)  # a failure is not kept: it is tried again
def provide() -> None:
    """Let TLS of this process use keys of the TPM, from now on.

    OpenSSL then verifies in the TPM too: releases of tpm2-openssl before 1.2 cannot be told to sign there only.
    """
    import _ssl
    import ctypes

    _check_reachable()
    os.environ["TPM2OPENSSL_TCTI"] = _tcti()
    os.environ.setdefault("TSS2_LOG", "all+none")
    try:
        library = ctypes.CDLL(_ssl.__file__)  # and with it the very OpenSSL that ssl uses
        load: Any = library.OSSL_PROVIDER_load
    except (AttributeError, OSError) as error:
        raise StoreError(
            "the TPM: this Python's TLS takes no providers; run the controller with Debian's python3"
        ) from error
    load.restype, load.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)
    for name in (b"default", b"tpm2"):
        if not load(None, name):
            answer()  # knows better what is wrong
            raise StoreError(f"the TPM: TLS cannot use it; run: sudo apt-get install {PACKAGES}")
    library.EVP_set_default_properties(None, b"?tpm2.signature=yes")


class TpmKey(ec.EllipticCurvePrivateKey):
    """A P-256 key whose private half is in the TPM."""

    def __init__(self, pem: bytes) -> None:
        """``pem``: a text that contains it. Raises ``StoreError`` also when it was made by another TPM."""
        key = key_in(pem)
        if key is None:
            raise StoreError("the TPM: this is none of its keys; enrol again")
        self.pem = key
        """The blob by itself."""
        said = _run(
            "openssl", "pkey", *_TOGETHER, "-passin", "pass:", "-in", "/dev/stdin", "-pubout", stdin=self.pem
        )
        public = load_pem_public_key(said)
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            raise StoreError("the TPM: this is no P-256 key; enrol again")
        self._public = public

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The other half."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """In bits."""
        return self._public.key_size

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA with SHA-256, DER; raises ``UnsupportedAlgorithm`` for anything else, ``StoreError``."""
        if not isinstance(signature_algorithm.algorithm, hashes.SHA256):
            raise UnsupportedAlgorithm("a key of the TPM signs with SHA-256")
        with _directory() as work:
            (work / "key").write_bytes(self.pem)
            return _run(
                "openssl", "dgst", "-sha256", *_TOGETHER, "-passin", "pass:", "-sign", f"{work}/key", stdin=bytes(data)
            )  # fmt: skip

    def __copy__(self) -> TpmKey:
        return self

    def __deepcopy__(self, _memo: object) -> TpmKey:
        return self

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:  # noqa: ARG002 - cryptography's interface
        """Raises ``UnsupportedAlgorithm``: nothing here needs it."""
        self._stays()

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        """Raises ``UnsupportedAlgorithm``."""
        self._stays()

    def private_bytes(self, *_: object, **__: object) -> bytes:
        """Raises ``UnsupportedAlgorithm``."""
        self._stays()

    def _stays(self) -> NoReturn:
        raise UnsupportedAlgorithm("the private key stays in the TPM")


def _tcti() -> str:
    return os.environ.get(TCTI_VARIABLE) or f"device:{DEVICE}"


def _check_reachable() -> None:
    if os.environ.get(TCTI_VARIABLE):
        return
    if not DEVICE.exists():
        raise StoreError(
            f"the TPM: there is no {DEVICE}; is the module seated, and its dtoverlay in config.txt? Without it: {_ENROL}"
        )
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise StoreError(
            f"the TPM: {DEVICE} is not for this user; run: sudo usermod --append --groups tss drempel"
        )


@contextmanager
def _directory() -> Iterator[Path]:
    """For blobs and contexts, of which none is a secret."""
    try:
        with TemporaryDirectory(prefix="drempel-tpm-") as directory:
            yield Path(directory)
    except OSError as error:
        raise StoreError(f"the TPM: no room for its files ({error.strerror}); make room in /tmp") from error


def _parent(work: Path) -> None:
    _run("tpm2_createprimary", "-Q", *_PARENT, "-c", f"{work}/parent")


def _run(*command: str, stdin: bytes = b"") -> bytes:
    """What a program says; raises ``StoreError`` when it fails."""
    _check_reachable()
    environment = os.environ | {TCTI_VARIABLE: _tcti(), "TPM2OPENSSL_TCTI": _tcti(), "TSS2_LOG": "all+none"}
    try:
        ran = subprocess.run(  # noqa: S603 - the caller's fixed arguments
            command, input=stdin, capture_output=True, check=False, timeout=TIMEOUT_S, env=environment
        )
    except FileNotFoundError as error:
        raise StoreError(f"the TPM: no {command[0]} here; run: sudo apt-get install {PACKAGES}") from error
    except subprocess.TimeoutExpired as error:
        raise StoreError(
            f"the TPM: silent for {TIMEOUT_S:g} s; take the machine's power and give it back"
        ) from error
    if ran.returncode:
        raise StoreError(f"the TPM: {_reason(command[0], ran.stderr.decode(errors='replace'))}")
    return ran.stdout


def _reason(program: str, said: str) -> str:
    """What was wrong and what to do, from a program's complaints."""
    if "init fail" in said or "tcti" in said:
        return "does not answer; take the machine's power and give it back, then: drempel-edge doctor"
    if "unable to load provider" in said:
        return f"no provider tpm2 for OpenSSL; run: sudo apt-get install {PACKAGES}"
    # OpenSSL has no other words for a key that its provider refused.
    if "integrity" in said or "Could not read" in said:
        return f"what is kept here was made by another one, or is damaged, or this one was cleared; {_ENROL}"
    lines = said.strip().splitlines() or [program]
    first = "".join(each if each.isprintable() else " " for each in lines[0])[:160]
    return f"does not do it ({first}); take the machine's power and give it back, then: drempel-edge doctor"
