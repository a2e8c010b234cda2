"""A PKOC card that shares no code with the project: ``python independent_card.py '{"profile": "v2", …}'``.

Answers hex lines on standard input. What the configuration may ask for are the habits of cards in the
field. The first line on standard error is JSON with the keys.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

AID = "a000000898000001"
UUID_CLAIM = "731e060a2b0601040183d22508015310"


def _sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> str:
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return f"{r:064x}{s:064x}"


def _point(key: ec.EllipticCurvePrivateKey) -> str:
    encoding, form = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    return key.public_key().public_bytes(encoding, form).hex()


def _length(content: str) -> str:
    size = len(content) // 2
    return f"{size:02x}" if size < 128 else f"81{size:02x}" if size < 256 else f"82{size:04x}"


def _digits(yymmdd: str) -> str:
    return "".join(f"0{digit}" for digit in yymmdd)


class Card:
    """One card; ``config`` names its habits."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.trailing: str = config.get("trailing", "")
        self.selected: str = config.get("select", "5c020100")
        self.unknown: str = config.get("unknown", "6d00")
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.issuer = ec.generate_private_key(ec.SECP256R1())
        self.rest = ""
        uuid = UUID_CLAIM + config.get("uuid", "00112233445566778899aabbccddeeff")
        claims = config.get("claims_before", "") + uuid + config.get("claims_after", "")
        iir = config.get("iir", "INDEPENDENT00001").encode().hex()
        body = (
            f"5f2901004210{iir}7f494d06082a8648ce3d0301078641{_point(self.key)}"
            f"5f2010{config.get('subject', '20' * 16)}5f2506{_digits('270101')}5f2406{_digits('281231')}"
            f"65{_length(claims)}{claims}"
        )
        signed = f"7f4e{_length(body)}{body}"
        content = f"{signed}5f3740{_sign(self.issuer, bytes.fromhex(signed))}"
        self.certificate = f"7f21{_length(content)}{content}"

    def answer(self, command: str) -> str:
        """Hex in, hex with the status word out."""
        command = command.lower()
        if command.startswith("00a40400"):
            exact = f"00a4040008{AID}00"
            if command != exact and (self.config.get("exact_select") or not exact.startswith(command)):
                return "6a82"
            return self.selected + "9000"
        if self.config["profile"] == "v1":
            return self._authenticate(command) if command.startswith("80800001") else self.unknown
        if command.startswith("00c00000"):
            return self._part(self.rest, int(command[8:10], 16) or 256)
        if command == "00ca7f2100":
            return self._part(self.certificate, 256)
        if command.startswith("0088000020") and len(command) == 76:
            signature = "9e40" + _sign(self.key, bytes.fromhex(command[10:74]))
            return signature + self.trailing + "9000"
        return "6d00"

    def _part(self, data: str, size: int) -> str:
        part, self.rest = data[: 2 * size], data[2 * size :]
        left = len(self.rest) // 2
        return part + (f"61{min(left, 256) & 255:02x}" if left else self.trailing + "9000")

    def _authenticate(self, command: str) -> str:
        data = bytes.fromhex(command[10 : 10 + 2 * int(command[8:10], 16)])
        fields = {}
        while data:
            fields[data[0]], data = data[2 : 2 + data[1]], data[2 + data[1] :]
        if fields[0x5C].hex() != self.config.get("version", "0100"):
            return "6985"
        parts = [f"5a41{_point(self.key)}", f"9e40{_sign(self.key, fields[0x4C])}"]
        if self.config.get("signature_first"):
            parts.reverse()
        return "".join(parts) + self.trailing + "9000"


def main() -> None:
    """Serve until the end of input."""
    card = Card(json.loads(sys.argv[1]))
    keys = {
        "public_key": _point(card.key),
        "issuer_public_key": _point(card.issuer),
        "certificate": card.certificate,
    }
    sys.stderr.write(json.dumps(keys) + "\n")
    sys.stderr.flush()
    for line in sys.stdin:
        answer = card.answer(line.strip())
        sys.stdout.write((answer.upper() if card.config.get("upper_case") else answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
