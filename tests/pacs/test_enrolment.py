from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pacs.enrolment import EnrolmentCode, fingerprint
from pacs.errors import MalformedData

HUB = "https://hub.wilgenoord.example"
CODE = EnrolmentCode(address=HUB, secret=bytes(range(16)), fingerprint=fingerprint(b"root"))
codes = st.builds(
    EnrolmentCode,
    address=st.sampled_from((HUB, f"{HUB}:8443", "http://127.0.0.1:8000", "https://[2001:db8::1]:8443")),
    secret=st.binary(min_size=16, max_size=16),
    fingerprint=st.binary(min_size=16, max_size=16),
)


@given(codes)
def test_a_code_survives_being_printed_and_typed(code: EnrolmentCode) -> None:
    """What is printed is read again, also in lower case and with blanks for dashes."""
    assert EnrolmentCode.parse(str(code)) == code
    typed = str(code).replace("-", " ").lower()
    assert EnrolmentCode.parse(f"  {typed} ") == code


@given(codes, st.integers(0, 55), st.sampled_from("0123456789ABCDEFGHJKMNPQRSTVWXYZ"))
def test_a_mistyped_character_is_found(code: EnrolmentCode, place: int, other: str) -> None:
    """One character typed for another never gives another code."""
    address, _, groups = str(code).partition("#")
    digits = groups.replace("-", "")
    assume(digits[place] != other)
    with pytest.raises(MalformedData, match="mistyped"):
        EnrolmentCode.parse(f"{address}#{digits[:place]}{other}{digits[place + 1 :]}")


def test_letters_that_look_like_digits_are_read_as_such() -> None:
    """Whoever reads a 0 as O, or a 1 as I or L, has the right code all the same."""
    address, _, groups = str(CODE).partition("#")
    assert "0" in groups
    assert EnrolmentCode.parse(f"{address}#{groups.replace('0', 'O').replace('1', 'l')}") == CODE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("C7QX-C7QX", "address, #"),
        (f"{HUB}/#C7QX-C7QX", "there are 8 characters"),
        (f"{HUB}/#C7Q*-C7QX", "group 1 has a character"),
        (str(CODE).replace("wilgenoord", "wilgenord"), "mistyped"),
        (str(CODE).replace("https", "http"), "https expected"),
        (str(CODE).replace("//", "//me@"), "an address such as"),
        (str(CODE).replace("/#", "/path#"), "an address such as"),
    ],
)
def test_what_is_wrong_with_a_code_is_said(text: str, said: str) -> None:
    """Too short, a wrong address or a character that no code has: each is named, and nothing of the code repeated."""
    with pytest.raises(MalformedData, match=re.escape(said)) as refused:
        EnrolmentCode.parse(text)
    assert not re.search("[0-9A-Z]{4}-", str(refused.value))


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but ``MalformedData`` comes of what somebody types."""
    with pytest.raises(MalformedData):
        EnrolmentCode.parse(text)
    with pytest.raises(MalformedData):
        EnrolmentCode.parse(f"{HUB}/#{text}")


def test_a_code_knows_its_root_and_keeps_its_secret_to_itself() -> None:
    """Another root does not fit it, and nothing that logs the value shows the secret."""
    assert CODE.fits(b"root")
    assert not CODE.fits(b"another")
    assert CODE.secret.hex() not in repr(CODE)
    assert "secret" not in repr(CODE)
