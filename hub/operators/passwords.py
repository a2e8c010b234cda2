"""Names and passwords: which are taken, how they are compared, and how many are hashed at once."""

from __future__ import annotations

import secrets
import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from hub.operators.refusal import SignInRefused

PASSWORD_LENGTHS = range(12, 257)
_HASHING_S = 2.0  # how long a stranger's password waits for its turn


class Passwords:
    """Argon2id; strangers take turns, and those who are known never wait for them."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._hashing = threading.BoundedSemaphore(2)  # each hash takes 64 MiB; for those who are known …
        self._hashing_of_strangers = threading.BoundedSemaphore(1)  # … and for everybody else
        self._decoy = self._hasher.hash(secrets.token_urlsafe())

    def hashed(self, password: str) -> str:
        """What is stored of a password."""
        with self._hashing:
            return self._hasher.hash(password)

    def are_outdated(self, stored: str) -> bool:
        """True when what is stored was hashed as is not done any more."""
        return self._hasher.check_needs_rehash(stored)

    def match(self, stored: str | None, password: str, *, is_known: bool) -> bool:
        """Whether it is the password; takes as long where nothing is stored.

        Raises ``SignInRefused`` (``busy``) when a stranger's turn does not come; ``is_known`` waits as long as needed.
        """
        turn = self._hashing if is_known else self._hashing_of_strangers
        if not turn.acquire(timeout=None if is_known else _HASHING_S):
            raise SignInRefused("busy", "Too many people are signing in. Try again in a moment.")
        try:
            matches = self._hasher.verify(stored or self._decoy, password[: PASSWORD_LENGTHS.stop])
            return matches and stored is not None
        except (VerifyMismatchError, InvalidHashError):
            return False
        finally:
            turn.release()


def name_key(name: str) -> str:
    """A name as it is compared: compatibility forms, case and outer spaces do not matter."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def check_name(name: str) -> str:
    """``name`` without outer spaces; raises ``SignInRefused`` unless 1–64 printable characters."""
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise SignInRefused("name_unusable", "Choose a name of 1 to 64 ordinary characters.")
    return name


def check_password(password: str, name: str) -> str:
    """``password``; raises ``SignInRefused`` unless 12–256 characters that are not the name."""
    if len(password) not in PASSWORD_LENGTHS:
        raise SignInRefused(
            "password_unusable", "Choose a password of at least 12 characters; a sentence is fine."
        )
    if name_key(password) == name_key(name) or len(set(password)) < 4:
        raise SignInRefused("password_unusable", "That password is too easy to guess. Choose another one.")
    return password
