from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.card.apdu import CommandAPDU, ResponseAPDU
from pacs.errors import MalformedData

BYTES = st.integers(0, 255)


@given(
    header=st.tuples(BYTES, BYTES, BYTES, BYTES),
    data=st.one_of(st.binary(max_size=300), st.integers(250, 260).map(bytes)),
    le=st.one_of(st.none(), st.integers(1, 0x10000)),
)
def test_command_round_trip(header: tuple[int, int, int, int], data: bytes, le: int | None) -> None:
    """Every command is read back as it was."""
    cla, ins, p1, p2 = header
    command = CommandAPDU(cla=cla, ins=ins, p1=p1, p2=p2, data=data, le=le)
    assert CommandAPDU.from_bytes(bytes(command)) == command


@given(st.binary(max_size=600))
def test_any_command_bytes(raw: bytes) -> None:
    """Arbitrary bytes are a command or MalformedData."""
    try:
        command = CommandAPDU.from_bytes(raw)
    except MalformedData:
        return
    assert CommandAPDU.from_bytes(bytes(command)) == command


@given(st.binary(max_size=300))
def test_any_answer_bytes(raw: bytes) -> None:
    """Arbitrary bytes are an answer, written back the same, or MalformedData."""
    try:
        answer = ResponseAPDU.from_bytes(raw)
    except MalformedData:
        return
    assert bytes(answer) == raw


@pytest.mark.parametrize(
    ("text", "data", "le"),
    [
        ("00A40400", "", None),
        ("00A4040000", "", 256),
        ("00A4040010", "", 16),
        ("00A4040002ABCD", "ABCD", None),
        ("00A4040002ABCD00", "ABCD", 256),
        ("00A40400000000", "", 65536),
        ("00A40400000100", "", 256),
        ("00A40400000002ABCD", "ABCD", None),
        ("00A40400000002ABCD0000", "ABCD", 65536),
    ],
)
def test_forms(text: str, data: str, le: int | None) -> None:
    """The seven forms of ISO/IEC 7816-4 §5.1 are told apart."""
    command = CommandAPDU.from_bytes(bytes.fromhex(text))
    assert (command.data.hex().upper(), command.le) == (data, le)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00A404",
        "00A4040003ABCD",
        "00A4040001ABCDEF",
        "00A404000000",
        "00A40400000003ABCD",
        "00A404000000000000",
    ],
)
def test_malformed_commands(text: str) -> None:
    """A length that does not match is refused."""
    with pytest.raises(MalformedData):
        CommandAPDU.from_bytes(bytes.fromhex(text))


@pytest.mark.parametrize(
    "fields",
    [
        {"cla": 256, "ins": 0},
        {"cla": 0, "ins": -1},
        {"cla": 0, "ins": 0, "le": 0},
        {"cla": 0, "ins": 0, "data": bytes(65536)},
    ],
)
def test_values_out_of_range(fields: dict[str, int]) -> None:
    """A command that cannot be written cannot be made."""
    with pytest.raises(MalformedData):
        CommandAPDU(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "90", "0000", "AB6001", "6000", "ABCD"])
def test_no_status_word(text: str) -> None:
    """An answer ends with SW1 61 to 6F or 90 to 9F."""
    with pytest.raises(MalformedData):
        ResponseAPDU.from_bytes(bytes.fromhex(text))
