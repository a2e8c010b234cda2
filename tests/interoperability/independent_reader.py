"""A PKOC reader that shares no code with the project: ``python independent_reader.py '{"profile": "v2", …}'``.

Commands go out and answers come in as lines of hex, the last line out is JSON with what it verified.
``issuer_public_key`` (hex) is whom it trusts; the other settings are the habits of readers in the field.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature


def _send(command: str) -> bytes:
    sys.stdout.write(command + "\n")
    sys.stdout.flush()
    return bytes.fromhex(sys.stdin.readline())


def _exchange(command: str) -> bytes:
    answer = _send(command)
    data = answer[:-2]
    while answer[-2] == 0x61:
        answer = _send(f"00c00000{answer[-1]:02x}")
        data += answer[:-2]
    if answer[-2:] != b"\x90\x00":
        raise SystemExit(f"{command[:8]} answered {answer[-2:].hex()}")
    return data


def _objects(data: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """(tag, value, whole object) of each data object."""
    at = 0
    while at < len(data):
        start, at = at, at + (2 if data[at] & 31 == 31 else 1)
        tag, size, at = data[start:at].hex(), data[at], at + 1
        if size > 128:
            count = size - 128
            size, at = int.from_bytes(data[at : at + count], "big"), at + count
        yield tag, data[at : at + size], data[start : at + size]
        at += size


def _verify(point: bytes, signature: bytes, message: bytes) -> None:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))


def _read_v2(config: dict[str, Any], le: str) -> dict[str, str]:
    if config.get("info", True) and _exchange("00ca7f63" + le) != bytes.fromhex("7f63045c020200"):
        raise SystemExit("INFO")
    outer = {tag: value for tag, value, _ in _objects(_exchange("00ca7f21" + le))}
    (_, body, signed), (_, signature, _) = _objects(outer["7f21"])
    _verify(bytes.fromhex(config["issuer_public_key"]), signature, signed)
    fields = {tag: value for tag, value, _ in _objects(body)}
    point = {tag: value for tag, value, _ in _objects(fields["7f49"])}["86"]
    challenge = os.urandom(32)
    answer = {tag: value for tag, value, _ in _objects(_exchange("0088000020" + challenge.hex() + le))}
    _verify(point, answer["9e"], challenge)
    claims = [{tag: value for tag, value, _ in _objects(claim)} for _, claim, _ in _objects(fields["65"])]
    uuid = next(claim["53"] for claim in claims if claim["06"].hex() == "2b0601040183d2250801")
    return {"iir": fields["42"].decode(), "uuid": uuid.hex(), "public_key": point.hex()}


def _read_v1(config: dict[str, Any], le: str, versions: bytes) -> dict[str, str]:
    transaction = os.urandom(16)
    fields = {
        "5c": "5c02" + versions[: 2 if not config.get("oldest") else len(versions)][-2:].hex(),
        "4c": "4c10" + transaction.hex(),
        "4d": "4d20" + "00" * 32,
    }
    data = "".join(fields[tag] for tag in config.get("order", ["5c", "4c", "4d"])) + config.get("extra", "")
    answer = {tag: value for tag, value, _ in _objects(_exchange(f"80800001{len(data) // 2:02x}{data}{le}"))}
    _verify(answer["5a"], answer["9e"], transaction)
    return {"public_key": answer["5a"].hex()}


def main() -> None:
    """Read one card."""
    config = json.loads(sys.argv[1])
    le = "" if config.get("without_le") else "00"
    versions = {tag: value for tag, value, _ in _objects(_exchange("00a4040008a000000898000001" + le))}["5c"]
    read = _read_v2(config, le) if config["profile"] == "v2" else _read_v1(config, le, versions)
    sys.stdout.write(json.dumps(read) + "\n")


if __name__ == "__main__":
    main()
