from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from hub.inbox import Message
from hub.lanes import LIGHT_BYTES, Lanes, Mark

ROOM = 1 << 30


def message(controller: str, number: int, size: int = 4) -> Message:
    return Message(f"up/{controller}/events", number.to_bytes(4).rjust(size, b"\0"))


def drained(lanes: Lanes, most_bytes: int = ROOM) -> list[Message | Mark]:
    found: list[Message | Mark] = []
    while True:
        taken, mark = lanes.take(most_bytes, 0.0)
        if not taken and mark is None:
            return found
        found += taken
        found += [] if mark is None else [mark]


@given(
    sent=st.lists(st.tuples(st.sampled_from("abc"), st.integers(4, 3_000)) | st.none(), max_size=60),
    most_bytes=st.integers(1, 20_000),
)
def test_every_message_comes_out_once_in_the_order_of_its_controller(
    sent: list[tuple[str, int] | None], most_bytes: int
) -> None:
    """However much is taken at a time; and a mark stands behind all that was before it and none that came after."""
    lanes = Lanes(ROOM)
    sections: dict[int, int] = {}  # of each message, by its number: how many marks come before it
    marks = 0
    for number, each in enumerate(sent):
        if each is None:
            lanes.mark(Mark.LINK_LOST)
            marks += 1
        else:
            assert lanes.put([message(each[0], number, each[1])], 0.0) == 0
            sections[number] = marks
    found: dict[str, list[int]] = {}
    passed = 0
    for taken in drained(lanes, most_bytes):
        if isinstance(taken, Mark):
            passed += 1
        else:
            number = int.from_bytes(taken.payload[-4:])
            assert sections.pop(number) == passed
            found.setdefault(taken.topic, []).append(number)
    assert (passed, sections) == (marks, {})
    assert all(numbers == sorted(numbers) for numbers in found.values())


def test_a_backlog_waits_for_who_sends_as_it_happens() -> None:
    """Of a controller with much to send only a part is taken at a time, after what all the others sent."""
    lanes = Lanes(ROOM)
    lanes.put([message("slow", number, 20_000) for number in range(50)], 0.0)
    lanes.put([message("late", number, 20_000) for number in range(50)], 0.0)
    lanes.put([message("gate", 1, LIGHT_BYTES // 2)], 0.0)
    taken, _ = lanes.take(100_000, 0.0)
    assert [each.topic.split("/")[1] for each in taken] == ["gate", "slow", "late", "slow", "late", "slow"]


def test_whoever_puts_waits_for_room() -> None:
    """With no room messages are refused after the time given; with room made meanwhile they are taken."""
    lanes = Lanes(1)
    assert lanes.put([message("a", 1), message("a", 2), message("a", 3)], 0.01) == 2
    put = threading.Thread(target=lanes.put, args=([message("a", 4)], 60.0))
    put.start()
    assert [each.payload[-1] for each in lanes.take(ROOM)[0]] == [1]
    put.join(60)
    assert [each.payload[-1] for each in lanes.take(ROOM)[0]] == [4]


def test_what_a_controller_says_before_its_turn_does_not_wait_behind_its_own_backlog() -> None:
    """It is taken first, whatever the same controller has waiting."""
    lanes = Lanes(ROOM)
    lanes.put([message("a", number, 3_000) for number in range(50)], 0.0)
    ahead = Message("up/a/ahead", b"somebody waits")
    lanes.put([ahead], 0.0)
    assert drained(lanes, 1)[0] == ahead
