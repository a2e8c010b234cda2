"""The texts of the pages, for translators: extracts them and brings each language's ``hub.po`` up to date.

Texts are the literals given to ``_``, ``N_``, ``gettext`` and ``ngettext``, in Python and in templates, the words of
``SignInRefused``, every problem's title and next step, and what controllers find on themselves and advise. A text that is no longer used is dropped;
a new one waits for its translation.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

from edge.advice import ADVICES
from hub.api.problems import Code
from hub.pages.languages import DOMAIN, LANGUAGES, SOURCE, catalogue_path
from pacs.findings import PLACEHOLDER, Check
from pacs.findings import Code as FindingCode

HUB = Path(__file__).resolve().parent.parent / "hub"
METHODS = [("**/templates/**.html", "jinja2"), ("**.py", "python")]
KEYWORDS = {
    "_": None,
    "N_": None,
    "gettext": None,
    "ngettext": (1, 2),
    "SignInRefused": (2,),
    "BeyondOwnRights": None,
}


def extracted() -> Catalog:
    """Every text there is to translate, with the places where it is used."""
    found = Catalog(domain=DOMAIN)
    in_files = extract_from_dir(
        HUB, METHODS, {"**/templates/**.html": {"trim_blocks": "true"}}, keywords=KEYWORDS
    )
    for name, line, text, _comments, _context in in_files:
        found.add(text, locations=[(name, line)])
    for text in _of_problems():
        found.add(text, locations=[("api/problems.py", 0)])
    for text in _of_findings():
        found.add(text, locations=[("pages/findings.py", 0)])
    return found


def translated(code: str) -> Catalog:
    """What stands in a language's file."""
    with catalogue_path(code).open("rb") as file:
        return read_po(file, locale=code, domain=DOMAIN)


def update(code: str) -> Catalog:
    """Bring a language's file up to date; answers what it holds now."""
    catalogue = translated(code)
    catalogue.update(extracted(), no_fuzzy_matching=True, update_creation_date=False)
    catalogue.obsolete.clear()
    written = BytesIO()
    write_po(written, catalogue, width=110, no_location=True, sort_output=True, ignore_obsolete=True)
    catalogue_path(code).write_bytes(written.getvalue())
    return catalogue


def untranslated(catalogue: Catalog) -> list[str]:
    """The texts that lack a translation, or have one that nobody has confirmed."""
    return [_first(each.id) for each in messages(catalogue) if each.fuzzy or not all(_forms(each))]


def messages(catalogue: Catalog) -> Iterator[Message]:
    """Every text, without the file's header."""
    return (each for each in catalogue if each.id)


def _forms(message: Message) -> tuple[str, ...]:
    return message.string if isinstance(message.string, tuple) else (str(message.string or ""),)


def _first(identity: str | tuple[str, ...] | list[str]) -> str:
    return identity if isinstance(identity, str) else identity[0]


def _of_problems() -> Iterator[str]:
    for code in Code:
        yield code.value.title
        yield code.value.next_step


def _of_findings() -> Iterator[str]:
    yield from (check.words for check in Check)
    yield from (text for code in FindingCode for text in (code.value.what, code.value.advice) if _says(text))
    yield from ADVICES


def _says(text: str) -> bool:
    return bool(PLACEHOLDER.sub("", text).strip())


def main() -> None:
    """Update every language, and list what waits for a translation."""
    lacking = 0
    for code in LANGUAGES:
        if code == SOURCE:
            continue
        texts = untranslated(update(code))
        lacking += len(texts)
        print(f"{catalogue_path(code)}: {len(texts)} to translate")
        for text in texts:
            print(f"  {text}")
    sys.exit(1 if lacking else 0)


if __name__ == "__main__":
    main()
