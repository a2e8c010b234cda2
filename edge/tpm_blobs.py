"""What only a TPM can use, as it lies in a file: a key as OpenSSL's TSS2 PRIVATE KEY, a sealed secret in a text of our own."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from pacs.errors import MalformedData

_KEY: Final = re.compile(rb"-----BEGIN TSS2 PRIVATE KEY-----.+?-----END TSS2 PRIVATE KEY-----", re.DOTALL)
_BEGIN: Final = b"-----BEGIN DREMPEL TPM SEALED-----"
_END: Final = b"-----END DREMPEL TPM SEALED-----"


def key_in(data: bytes) -> bytes | None:
    """The first key of a TPM in a PEM text; None: there is none."""
    found = _KEY.search(data)
    return found[0] + b"\n" if found else None


def is_sealed(data: bytes) -> bool:
    """Whether the file holds a sealed secret, be it damaged."""
    return data.startswith(_BEGIN)


def sealed_text(public: bytes, private: bytes) -> bytes:
    """The text of a sealed object: TPM2B_PUBLIC and TPM2B_PRIVATE (TPM 2.0 Part 2, 12.2.5 and 12.3.7)."""
    return b"\n".join([_BEGIN, base64.b64encode(public + private), _END, b""])


def sealed_parts(data: bytes) -> tuple[bytes, bytes]:
    """TPM2B_PUBLIC and TPM2B_PRIVATE, each behind its size in two bytes; raises ``MalformedData``."""
    text = data.strip()
    if not text.startswith(_BEGIN) or not text.endswith(_END):
        raise MalformedData("a sealed secret: its first or last line is missing")
    try:
        blob = base64.b64decode(text[len(_BEGIN) : -len(_END)].strip(), validate=True)
    except binascii.Error as error:
        raise MalformedData("a sealed secret: not base64") from error
    end = 2 + int.from_bytes(blob[:2])
    if len(blob) < end + 2 or len(blob) != end + 2 + int.from_bytes(blob[end : end + 2]):
        raise MalformedData("a sealed secret: not two structures of a TPM")
    return blob[:end], blob[end:]
