"""A secret of 256 bits split into shares of words (SLIP-0039): so many of them are the secret, fewer say nothing of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import shamir_mnemonic
from shamir_mnemonic.rs1024 import create_checksum
from shamir_mnemonic.wordlist import WORD_INDEX_MAP, WORDLIST

from pacs.errors import MalformedData

MAX_SHARES: Final = 16
WORDS: Final = 33
"""Of a share of 256 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareSet:
    """What all shares of one secret have in common. ``identifier`` is 15 random bits that stand in each of them."""

    identifier: int
    count: int
    threshold: int

    def by_number(self, shares: Sequence[Share]) -> Mapping[int, shamir_mnemonic.Share]:
        """Raise ``MalformedData`` naming a share that is of another set, or is there twice."""
        parsed: dict[int, shamir_mnemonic.Share] = {}
        for share in shares:
            found = share.parsed()
            if found.identifier != self.identifier:
                raise MalformedData(f"{share.name}: a share of another backup, not of this one")
            if found.index in parsed:
                raise MalformedData(f"{share.name}: the same share as one before; another person's is needed")
            parsed[found.index] = found
        return parsed

    def combine(self, shares: Sequence[Share]) -> bytes:
        """The secret, 32 bytes. Raises ``MalformedData`` as ``by_number``, and saying how many are missing."""
        parsed = self.by_number(shares)
        if len(parsed) < self.threshold:
            raise MalformedData(f"{len(parsed)} shares; {self.threshold} of the {self.count} open this file")
        enough = list(parsed.values())[: self.threshold]
        try:
            secret: bytes = shamir_mnemonic.combine_mnemonics([each.mnemonic() for each in enough])
        except (shamir_mnemonic.MnemonicError, ValueError) as error:
            raise MalformedData(f"the shares do not belong together ({error})") from error
        if len(secret) != 32:
            raise MalformedData("the shares do not belong to this file")
        return secret


def split(secret: bytes, *, count: int, threshold: int) -> tuple[ShareSet, list[tuple[str, ...]]]:
    """Split 32 random bytes; the words of each share.

    Raises ``MalformedData`` unless 2 ≤ ``threshold`` ≤ ``count`` ≤ ``MAX_SHARES``.
    """
    if not 2 <= threshold <= count <= MAX_SHARES:
        raise MalformedData(
            f"{threshold} of {count} shares: 2 at least, and at most as many as there are, {MAX_SHARES} at most"
        )
    # 256 random bits need no stretching: exponent 0
    (mnemonics,) = shamir_mnemonic.generate_mnemonics(1, [(threshold, count)], secret, iteration_exponent=0)
    identifier = shamir_mnemonic.Share.from_mnemonic(mnemonics[0]).identifier
    made = ShareSet(identifier=identifier, count=count, threshold=threshold)
    return made, [tuple(mnemonic.split()) for mnemonic in mnemonics]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One person's words, which were read without a mistake; ``name`` is what to call them."""

    name: str
    words: tuple[str, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str, name: str) -> Self:
        """Read the words of a share's page, or words alone.

        Lines that begin with ``#`` and numbers before words are passed over. Raises ``MalformedData`` naming the word
        that is wrong, as far as that can be told.
        """
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        words = [word.lower() for word in re.findall(r"[^\s\d.]+", " ".join(lines))]
        for number, word in enumerate(words, start=1):
            if word not in WORD_INDEX_MAP:
                near = difflib.get_close_matches(word, WORDLIST, n=3)
                advice = f"; is it {' or '.join(near)}?" if near else ""
                raise MalformedData(f"{name}: word {number}, {word[:16]!r}, is none of the list{advice}")
        if len(words) != WORDS:
            raise MalformedData(f"{name}: {len(words)} words; a share has {WORDS}")
        share = cls(name=name, words=tuple(words))
        if share._misfit():
            places = share._places()
            where = f"look at word {' or '.join(map(str, places))}" if places else "look at each of them"
            raise MalformedData(f"{name}: a word is not the one on the page, or two were swapped; {where}")
        try:
            share.parsed()
        except (shamir_mnemonic.MnemonicError, ValueError) as error:
            raise MalformedData(f"{name}: not a share ({error})") from error
        return share

    def parsed(self) -> shamir_mnemonic.Share:
        """As the library reads it."""
        return shamir_mnemonic.Share.from_mnemonic(" ".join(self.words))

    def _misfit(self) -> int:
        return _misfit([WORD_INDEX_MAP[word] for word in self.words])

    def _places(self) -> list[int]:
        """The places at which another word alone would make the checksum right, from 1."""
        indices = [WORD_INDEX_MAP[word] for word in self.words]
        misfit = _misfit(indices)
        found = []
        for place in range(len(indices)):
            effects = {
                0
            }  # the checksum is linear: each bit of a word flips some of its bits, whatever the rest is
            for bit in range(10):
                indices[place] ^= 1 << bit
                flipped = misfit ^ _misfit(indices)
                effects |= {effect ^ flipped for effect in effects}
                indices[place] ^= 1 << bit
            if misfit in effects:
                found.append(place + 1)
        return found


def _misfit(indices: Sequence[int]) -> int:
    """By which bits the last three words differ from the checksum of those before; 0: they are it."""
    misfit = 0
    for word, right in zip(indices[-3:], create_checksum(indices[:-3], b"shamir_extendable"), strict=True):
        misfit = misfit << 10 | word ^ right
    return misfit
