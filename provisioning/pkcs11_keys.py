"""Keys that were made in a PKCS#11 token and never leave it: they sign there, and are found by their label.

Needs the extra ``pkcs11``, which is imported when a token is first opened. A key in a token stands for an encrypted
file wherever a P-256 key signs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self
from urllib.parse import quote, unquote

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from pacs.errors import MalformedData, StoreError
from provisioning.keystore import read_secret

if TYPE_CHECKING:  # an extra that most desks do without
    import pkcs11

INSTALL: Final = "a key in a PKCS#11 token needs python-pkcs11: pip install 'drempel[pkcs11]'"
_SCHEME: Final = "pkcs11:"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAddress:
    """In which token a key is, and what it is called there; a subset of the URI of RFC 7512."""

    token: str
    label: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read ``pkcs11:token=…;object=…``; raises ``MalformedData``."""
        parts = dict(part.partition("=")[::2] for part in uri.removeprefix(_SCHEME).split(";"))
        if not uri.startswith(_SCHEME) or set(parts) != {"token", "object"} or not all(parts.values()):
            raise MalformedData(f"{uri!r}: pkcs11:token=…;object=… expected")
        return cls(token=unquote(parts["token"]), label=unquote(parts["object"]))

    def __str__(self) -> str:
        return f"{_SCHEME}token={quote(self.token, safe='')};object={quote(self.label, safe='')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAccess:
    """How tokens are reached: the maker's library, and the file of mode 0600 that holds the user's PIN."""

    module: Path
    pin_file: Path

    def open(self, label: str) -> KeyToken:
        """Log in to the token of that label. Raises ``StoreError`` saying what to do."""
        pin = read_secret(self.pin_file).decode("utf-8", "replace")
        pkcs11 = _pkcs11()
        if not self.module.is_file():
            raise StoreError(f"{self.module}: no such PKCS#11 module; name the library of the token's maker")
        with _explained(f"token {label!r}"):
            library = pkcs11.lib(str(self.module))
            try:
                token = library.get_token(token_label=label)
            except pkcs11.NoSuchToken:
                found = (
                    ", ".join(sorted({repr(each.label) for each in library.get_tokens() if each.label}))
                    or "none"
                )
                raise StoreError(
                    f"token {label!r}: not there; connect it, or name another: {found}"
                ) from None
            try:
                session = token.open(rw=True, user_pin=pin)
            except pkcs11.UserAlreadyLoggedIn:  # this process is, by a session that it still has
                session = token.open(rw=True)
            return KeyToken(label=label, session=session)

    def key(self, address: KeyAddress) -> TokenKey:
        """The key at ``address``; its session lasts as long as it does. Raises ``StoreError``."""
        return self.open(address.token).key(address.label)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyToken:
    """A token somebody is logged in to."""

    label: str
    session: pkcs11.Session = field(repr=False)

    def key(self, label: str) -> TokenKey:
        """The P-256 key of that label; raises ``StoreError``."""
        pkcs11 = _pkcs11()
        with _explained(f"key {label!r} in token {self.label!r}"):
            try:
                private = self.session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=label)
                public = self.session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=label)
            except pkcs11.NoSuchKey:
                raise StoreError(
                    f"key {label!r}: not in token {self.label!r}; is it the right one?"
                ) from None
        return TokenKey(private, public, KeyAddress(token=self.label, label=label), self.session)

    def make_key(self, label: str) -> TokenKey:
        """Make a P-256 key in the token, which will never give it away.

        Raises ``StoreError`` when it has one of that label, or makes only keys that can be taken out.
        """
        pkcs11 = _pkcs11()
        attribute = pkcs11.Attribute
        with _explained(f"key {label!r} in token {self.label!r}"):
            if next(iter(self.session.get_objects({attribute.LABEL: label})), None) is not None:
                raise StoreError(
                    f"key {label!r}: token {self.label!r} has one already; keys are never overwritten"
                )
            domain = self.session.create_domain_parameters(
                pkcs11.KeyType.EC,
                {attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters("secp256r1")},
                local=True,
            )
            public, private = domain.generate_keypair(
                label=label,
                store=True,
                private_template={
                    attribute.PRIVATE: True,
                    attribute.SENSITIVE: True,
                    attribute.EXTRACTABLE: False,
                    attribute.SIGN: True,
                    attribute.DERIVE: False,
                },
            )
            made = TokenKey(private, public, KeyAddress(token=self.label, label=label), self.session)
            if not (private[attribute.NEVER_EXTRACTABLE] and private[attribute.ALWAYS_SENSITIVE]):
                made.destroy()
                raise StoreError(f"token {self.label!r} makes only keys that can be taken out; use another")
        return made


class TokenKey(ec.EllipticCurvePrivateKey):
    """A P-256 key in a token. It signs; everything that would need its number raises ``StoreError``."""

    def __init__(self, private: Any, public: Any, address: KeyAddress, session: pkcs11.Session) -> None:
        self.address = address
        self._private = private
        self._public = public
        self._session = session  # which would end with its last reference
        with _explained(str(address)):
            point = bytes(public[_pkcs11().Attribute.EC_POINT])
        try:
            # An OCTET STRING around the uncompressed point (PKCS #11 §6.3.3); some tokens leave it out.
            self._public_key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point[-65:])
        except ValueError as error:
            raise StoreError(f"{address}: a P-256 key expected") from error

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return ec.SECP256R1()

    @property
    def key_size(self) -> int:
        """Bits of the curve."""
        return 256

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """What verifies its signatures."""
        return self._public_key

    def sign(self, data: bytes | bytearray | memoryview, signature_algorithm: Any) -> bytes:
        """Signature of ``data`` in DER; ECDSA with SHA-256 only. Raises ``StoreError``."""
        if not isinstance(signature_algorithm, ec.ECDSA) or not isinstance(
            signature_algorithm.algorithm, SHA256
        ):
            raise StoreError(f"{self.address}: signs by ECDSA with SHA-256 only")
        with _explained(str(self.address)):
            raw = self._private.sign(hashlib.sha256(data).digest(), mechanism=_pkcs11().Mechanism.ECDSA)
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))

    def destroy(self) -> None:
        """Remove the key from its token, for ever. Raises ``StoreError``."""
        with _explained(str(self.address)):
            self._private.destroy()
            self._public.destroy()

    def exchange(self, *_: Any, **__: Any) -> NoReturn:
        """Not done with these keys."""
        self._stays()

    def private_numbers(self) -> NoReturn:
        """Never known."""
        self._stays()

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        """Never known."""
        self._stays()

    def __copy__(self) -> TokenKey:
        return self

    def __deepcopy__(self, memo: Any) -> TokenKey:
        return self

    def _stays(self) -> NoReturn:
        raise StoreError(f"{self.address}: the key stays in its token and only signs")


def _pkcs11() -> Any:
    try:
        import pkcs11
        import pkcs11.util.ec
    except ImportError as error:
        raise StoreError(INSTALL) from error
    return pkcs11


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the library's errors into ``StoreError``."""
    pkcs11 = _pkcs11()
    advice = {
        pkcs11.PinIncorrect: "the PIN is wrong; a token locks itself after a few",
        pkcs11.PinLocked: "the PIN is locked after too many wrong ones; its security officer can set another",
        pkcs11.TokenNotPresent: "was taken out",
        pkcs11.DeviceRemoved: "was taken out",
    }
    try:
        yield
    except pkcs11.PKCS11Error as error:
        said = advice.get(type(error)) or f"refused: {type(error).__name__} {error}".rstrip()
        raise StoreError(f"{what}: {said}") from error
