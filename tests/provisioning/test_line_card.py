"""A card behind two pipes, and what the other end may say."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.card.dialogue import nothing
from pacs.errors import CardError, CardGone, ReaderBroken
from provisioning import line_card
from provisioning.line_card import LineCard


@contextmanager
def other_end(answer: Callable[[str], bytes]) -> Iterator[LineCard]:
    """A card whose other end answers each line with what ``answer`` makes of it."""
    told, commands = os.pipe()
    answers, said = os.pipe()

    def serve() -> None:
        with os.fdopen(told) as lines, os.fdopen(said, "wb") as out:
            for line in lines:
                out.write(answer(line.strip()) + b"\n")
                out.flush()

    thread = Thread(target=serve)
    thread.start()
    try:
        yield LineCard(commands=commands, answers=answers, answer_s=20)
    finally:
        os.close(commands)
        thread.join()
        os.close(answers)


@pytest.mark.parametrize(
    ("line", "error", "text"),
    [
        (b"!card_gone no answer", CardGone, "no answer"),
        (b"!deadline too slow", CardError, "too slow"),
        (b"!reader_broken unplugged; plug it in", ReaderBroken, "unplugged; plug it in"),
        (b"!who_knows", ReaderBroken, "who_knows"),
        (b"what?", CardError, "hex"),
    ],
)
def test_what_the_other_end_says_is_wrong(line: bytes, error: type[Exception], text: str) -> None:
    """A fault in words is raised as the error that it names."""
    with other_end(lambda _line: line) as card, pytest.raises(error, match=text):
        card(b"\x00\xa4", nothing)


@given(st.binary(max_size=40).filter(lambda raw: b"\n" not in raw))
def test_any_line(raw: bytes) -> None:
    """Any line is an answer, a card's error or a reader's; a question is answered, or refused likewise."""
    card = LineCard(commands=os.open(os.devnull, os.O_WRONLY), answers=_holding(raw + b"\n" + raw + b"\n"))
    for ask in (lambda: card(b"\x00", nothing), lambda: card.await_card(0)):
        with suppress(CardError, ReaderBroken):
            ask()


def _holding(data: bytes) -> int:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading


def test_whether_a_card_lies_there() -> None:
    """One that can tell is asked until it says so or the time is over; of one that cannot, a card always lies there."""
    turns = iter([b"?none", b"?none", b"?card", b"?card", b"?lifted"])
    with other_end(lambda _line: next(turns)) as card:
        assert card.await_card(5)
        assert card.await_lift(5)
    with other_end(lambda _line: b"?none") as card:
        assert not card.await_card(0)
    with other_end(lambda _line: b"6f00") as card:
        assert card.await_card(5)
        assert card.await_lift(5)


def test_without_the_desks_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader cannot be used where its program is not installed, and that is said with what to do."""
    assert line_card.bridge_command("pn532:/dev/x").endswith("drempel-desk bridge --reader pn532:/dev/x")
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ReaderBroken) as caught:
        line_card.bridge_command("pn532:/dev/x")
    assert "drempel[desk]" in caught.value.advice
