"""Write docs/decision.md: the order of checks, as the docstring of ``decide()`` has it."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Final

TARGET: Final = Path(__file__).resolve().parent.parent / "docs" / "decision.md"
HEAD: Final = """\
# The decision, check by check

Written by `make docs` from the docstring of `pacs/decision.py::decide`; a test compares the two. The first check that applies decides.
`unlock_ms` is 0 unless the outcome is a grant. What the door is told to do by each rule when nobody vouches for its clock is in [time.md](time.md).

| # | when | outcome | reason |
|--:|---|---|---|
"""


def checks(docstring: str) -> list[tuple[str, str]]:
    """Number and text of each check."""
    text = inspect.cleandoc(docstring)
    found = re.findall(r"^(\d+)\. (.+?)(?=^\d+\. |\Z)", text, re.MULTILINE | re.DOTALL)
    return [(number, " ".join(check.split())) for number, check in found]


def rows(number: str, check: str) -> list[str]:
    """One line for each outcome of a check."""
    lines = []
    for part in check.split("; "):
        when, colon, rest = part.partition(": ")
        if not colon:
            when, rest = "otherwise", part
        for outcome, reasons in re.findall(r"(grant|deny|refer) ((?:``\w+``(?: \(\w+\))?(?:, )?)+)", rest):
            named = reasons.strip().rstrip(",").replace("``", "`")
            lines.append(f"| {number} | {when} | {outcome} | {named} |")
    return lines


def page() -> str:
    """The whole document."""
    from pacs.decision import decide

    found = [line for number, check in checks(decide.__doc__ or "") for line in rows(number, check)]
    return HEAD + "\n".join(found) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(TARGET.parent.parent))
    TARGET.write_text(page())
