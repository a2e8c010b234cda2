"""What is wrong with a file of people, in the reader's language. The store keeps it in English, as the API says it."""

from __future__ import annotations

import re
from collections.abc import Callable

from hub.pages.words import N_

_SAID = {
    re.compile(pattern): text
    for pattern, text in (
        (r"this is missing", N_("This is missing.")),
        (r"this column is missing", N_("This column is missing.")),
        (r"this column is there twice", N_("This column is there twice.")),
        (r"this line is not JSON", N_("This line is not JSON.")),
        (r"an object expected", N_("An object is expected here.")),
        (r"no such field", N_("There is no such field.")),
        (r"no such column; there are (.+)", N_("There is no such column. There are %(what)s.")),
        (r"the same person stands in row (\d+)", N_("The same person stands in row %(what)s.")),
        (r"this person belongs to another site", N_("This person belongs to another site.")),
        (r"no such access level: (.+)", N_("There is no such access level: %(what)s")),
        (r"at most (\d+) characters expected", N_("Write at most %(what)s characters.")),
        (r"text expected.*", N_("Write a text here.")),
        (r"Latin letters expected", N_("Write it in Latin letters.")),
        (r"control characters are not allowed", N_("It has control characters, which are not allowed.")),
        (r"resident, visitor or staff expected", N_("Write resident, visitor or staff.")),
        (
            r"ids of access levels expected, .*|AccessLevelId: .*",
            N_("Write the ids of access levels, with spaces between them."),
        ),
        (r"yes or no expected", N_("Write yes or no.")),
        (r"a language tag .*", N_("Write a language tag such as nl, ti or fa-AF.")),
        (r"a date such as .*", N_("Write a date such as 2026-03-31, or a time with its offset.")),
        (r"a time needs its offset, .*", N_("A time needs its offset, such as 2026-03-31T18:00+02:00.")),
        (r"times lie between 1970 and (\d+)", N_("Times lie between 1970 and %(what)s.")),
        (r"who needs an escort cannot be one", N_("Who needs an escort cannot be one.")),
        (r"only a minor has a guardian", N_("Only a minor has a guardian.")),
        (r"nobody is their own guardian", N_("Nobody is their own guardian.")),
        (r"a visitor's access needs an end", N_("A visitor's access needs an end.")),
        (r"must be after valid_from", N_("It has to be after valid_from.")),
        (r"import: no rows", N_("The file has no rows.")),
        (r"import: at most (\d+) rows expected", N_("The file has more than %(what)s rows.")),
        (r"import: at most (\d+) bytes expected", N_("The file is larger than %(what)s bytes.")),
        (r"import: a JSON array .*", N_("The file is to be one JSON array of objects.")),
        (r"import: not JSON", N_("The file is not JSON.")),
        (r"line (\d+): not UTF-8.*", N_("Line %(what)s is not UTF-8. Save the file as CSV UTF-8.")),
        (r"row (\d+): quotation marks .*", N_("Quotation marks or line ends are wrong in row %(what)s.")),
    )
}


def fault_text(problem: str, gettext: Callable[[str], str]) -> str | None:
    """``problem`` in the reader's language; None for one that is not known here."""
    for pattern, text in _SAID.items():
        if found := pattern.fullmatch(problem):
            return gettext(text) % {"what": found.group(1) if pattern.groups else ""}
    return None
