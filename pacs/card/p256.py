"""P-256 keys and signatures in the raw forms cards use: points of 65 bytes, signatures r‖s of 64.

ECDSA with SHA-256 throughout (ES256).
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pacs.errors import MalformedData, VerificationError
from pacs.reason import Reason

POINT_BYTES: Final = 65
SIGNATURE_BYTES: Final = 64
ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

_CURVE: Final = ec.SECP256R1()
_ES256: Final = ec.ECDSA(hashes.SHA256())


def parse_point(raw: bytes) -> ec.EllipticCurvePublicKey:
    """The key of an uncompressed point 04‖x‖y. Raises ``MalformedData`` unless it is on the curve."""
    if len(raw) != POINT_BYTES or raw[0] != 0x04:
        raise MalformedData("public key: 04 and 64 bytes expected")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, raw)
    except ValueError as error:
        raise MalformedData("public key: not a point of P-256") from error


def encode_point(key: ec.EllipticCurvePublicKey) -> bytes:
    """The uncompressed point, 65 bytes. Raises ``MalformedData`` for a key of another curve."""
    if not isinstance(key.curve, ec.SECP256R1):
        raise MalformedData(f"public key: P-256 expected, not {key.curve.name}")
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def verify(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes, reason: Reason) -> None:
    """Raise ``VerificationError(reason)`` unless ``signature`` is 64 bytes r‖s by ``key`` over ``message``.

    r and s outside 1 … n−1 are refused (FIPS 186-5 §6.4.2).
    """
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if len(signature) != SIGNATURE_BYTES or not (0 < r < ORDER and 0 < s < ORDER):
        raise VerificationError(reason, "signature: r or s is out of range")
    try:
        key.verify(utils.encode_dss_signature(r, s), message, _ES256)
    except InvalidSignature as error:
        raise VerificationError(reason, "signature does not verify") from error


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Signature of ``message``, 64 bytes r‖s."""
    r, s = utils.decode_dss_signature(key.sign(message, _ES256))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")
