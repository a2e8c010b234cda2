"""What people and programs enter: text, language tags, moments; how it is kept, and what is refused."""

from __future__ import annotations

import re
import secrets
import unicodedata
from datetime import UTC, datetime

from pacs.cbor import END_OF_TIME
from pacs.errors import MalformedData

_REFUSED_CATEGORIES = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
_DIRECTION_OVERRIDES = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LANGUAGE_TAG = re.compile(
    r"(?P<language>[a-z]{2,3})(?:-(?P<script>[a-z]{4}))?(?:-(?P<region>[a-z]{2}|[0-9]{3}))?"
    r"(?P<rest>(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*)",
    re.IGNORECASE,
)
LONGEST_LANGUAGE_TAG = 35
_LATIN = (
    "LATIN ",
    "MODIFIER LETTER ",
    "FEMININE ORDINAL",
    "MASCULINE ORDINAL",
)  # ʿ, ʾ and ʻ of transliterations
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


def readable(text: str) -> str:
    """``text`` in normal form (NFC) without surrounding space.

    Raises ``MalformedData`` when nothing is left, and for control characters and direction overrides.
    """
    text = unicodedata.normalize("NFC", text).strip()
    if not text:
        raise MalformedData("text expected, not only spaces")
    if any(
        unicodedata.category(each) in _REFUSED_CATEGORIES or each in _DIRECTION_OVERRIDES for each in text
    ):
        raise MalformedData("control characters are not allowed")
    return text


def latin(text: str) -> str:
    """``text`` as ``readable`` keeps it; raises ``MalformedData`` unless its letters are Latin ones."""
    text = readable(text)
    letters = (unicodedata.name(each, "") for each in text if unicodedata.category(each).startswith("L"))
    if not all(name.startswith(_LATIN) for name in letters):
        raise MalformedData("Latin letters expected")
    return text


def identifier(name: str) -> str:
    """An id for what people call ``name``: its letters and digits in ASCII; drawn by lot when it has none."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or secrets.token_hex(4)


def language_tag(text: str) -> str:
    """A BCP 47 tag of language, script, region and variants (RFC 5646 §2.1), in its usual case: ``uz-Cyrl-UZ``.

    Raises ``MalformedData`` for anything else, extensions and private use included.
    """
    found = _LANGUAGE_TAG.fullmatch(text) if len(text) <= LONGEST_LANGUAGE_TAG else None
    if found is None:
        raise MalformedData("a language tag such as nl, ti or fa-AF expected")
    parts = [found["language"].lower()]
    if found["script"]:
        parts.append(found["script"].title())
    if found["region"]:
        parts.append(found["region"].upper())
    return "-".join(parts) + found["rest"].lower()


def moment(at: datetime) -> datetime:
    """The aware ``at``; raises ``MalformedData`` for one that no document can carry."""
    if not _FIRST <= at < END_OF_TIME:
        raise MalformedData(f"times lie between 1970 and {END_OF_TIME.year}")
    return at
