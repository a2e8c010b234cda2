"""What ``drempel-edge doctor`` looks at in the TPM: whether it answers, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from edge import tpm
from edge.config import KeyPaths, UseTpm
from edge.finding import Code, Finding
from edge.keystore import in_force
from edge.tpm_blobs import is_sealed, key_in
from pacs.errors import StoreError

_KEPT: Final = {
    (True, True): Code.TPM_KEEPS_KEYS,
    (True, False): Code.TPM_KEEPS_DEVICE_KEY,
    (False, True): Code.TPM_KEEPS_PASSPHRASE,
    (False, False): Code.TPM_EMPTY,
}


def examine_tpm(keys: KeyPaths) -> Iterator[Finding]:
    """One line. Whether its keys are those of the certificate is told with the keys."""
    kept = (key_in(_held(in_force(keys).device_key)) is not None, is_sealed(_held(keys.passphrase_file)))
    is_needed = any(kept) or keys.tpm is UseTpm.REQUIRED
    if not is_needed and (keys.tpm is UseTpm.NEVER or not tpm.is_there()):
        yield Finding.of(Code.TPM_UNUSED)
        return
    try:
        tpm.answer()
    except StoreError as error:
        yield Finding.failed(Code.TPM_FAILED if is_needed else Code.TPM_UNUSABLE, error)
    else:
        yield Finding.of(_KEPT[kept])


def _held(path: Path) -> bytes:
    """Nothing where it cannot be read: that is told with the keys."""
    with suppress(OSError):
        return path.read_bytes()
    return b""
