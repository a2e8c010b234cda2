"""The mode a door is in, and what gave it that mode."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Final

from pacs.rules import Door, DoorMode, Policy, WhenClockUntrusted
from pacs.schedule import active_since, local_time
from pacs.situation import ModeOrder, Situation

STRICTNESS: Final = (
    DoorMode.UNLOCKED,
    DoorMode.SECURED,
    DoorMode.ATTENDED,
    DoorMode.LOCKDOWN,
    DoorMode.OUT_OF_SERVICE,
)
"""From the one that admits anybody to the one that admits nobody."""


@unique
class ModeCause(StrEnum):
    """What gave a door its mode; the values are wire strings."""

    POLICY = "policy"
    SCHEDULE = "schedule"
    COMMAND = "command"
    POST = "post"
    CLOCK_UNTRUSTED = "clock_untrusted"


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveMode:
    """``by``: the schedule's id, or the id in hex of the command that gave the mode or opened the post; or empty."""

    mode: DoorMode
    cause: ModeCause
    by: str = ""


def effective_mode(
    door: Door, policy: Policy, situation: Situation, *, at: datetime, clock_trusted: bool
) -> EffectiveMode:
    """The mode of a door at this aware moment. Total.

    Where somebody watches at a post, an attended door is secured. Otherwise:
    A command's order comes first while it lasts; then the first of the door's mode rules whose schedule holds; then
    the door's own mode. A schedule unlocks a door with ``first_person_levels`` only once such a person was admitted
    in its window. On an untrusted clock an order with an end unlocks nothing.
    """
    found = _ordered_or_ruled(door, policy, situation, at=at, clock_trusted=clock_trusted)
    if situation.post and found.mode is DoorMode.ATTENDED:
        return EffectiveMode(mode=DoorMode.SECURED, cause=ModeCause.POST, by=situation.post.hex())
    return found


def _ordered_or_ruled(
    door: Door, policy: Policy, situation: Situation, *, at: datetime, clock_trusted: bool
) -> EffectiveMode:
    order = situation.order
    if order and _in_force(order, at, clock_trusted=clock_trusted):
        return EffectiveMode(mode=order.mode, cause=ModeCause.COMMAND, by=order.command_id.hex())
    if not clock_trusted and door.when_clock_untrusted is WhenClockUntrusted.LEVELS_ONLY:
        modes = (door.mode, *(rule.mode for rule in door.mode_rules))
        return EffectiveMode(mode=max(modes, key=STRICTNESS.index), cause=ModeCause.CLOCK_UNTRUSTED)
    if door.mode_rules:
        local = local_time(at, policy.time_zone)
        for rule in door.mode_rules:
            since = active_since(policy.schedules[rule.schedule_id], local, policy.holidays)
            if since is None:
                continue
            if rule.mode is DoorMode.UNLOCKED and first_person_missing(door, since, situation):
                continue
            return EffectiveMode(mode=rule.mode, cause=ModeCause.SCHEDULE, by=rule.schedule_id)
    return EffectiveMode(mode=door.mode, cause=ModeCause.POLICY)


def first_person_missing(door: Door, since: datetime, situation: Situation) -> bool:
    """Whether the door waits for somebody of its ``first_person_levels`` in the window that began at ``since``."""
    if not door.first_person_levels:
        return False
    seen = situation.first_person_at
    return seen is None or seen < since


def _in_force(order: ModeOrder, at: datetime, *, clock_trusted: bool) -> bool:
    if order.until is None:
        return True
    if not clock_trusted:
        return order.mode is not DoorMode.UNLOCKED
    return at < order.until
