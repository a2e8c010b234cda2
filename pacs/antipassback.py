"""Areas, and which credential was last seen entering which: the memory anti-passback is judged by.

It holds what was seen and nothing else. Whoever may have left unseen is forgiven: after a restart the memory is
empty, and ``forgive`` empties it for an area whenever somebody could pass without a card.
"""

from __future__ import annotations

from dataclasses import dataclass

from pacs.identifiers import AreaId, CredentialId


@dataclass(frozen=True, slots=True)
class _Entry:
    area_id: AreaId
    at_s: float
    seen: bool


class Whereabouts:
    """The last entry of each credential; times are monotonic seconds."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[CredentialId, _Entry] = {}

    def moved(
        self, credential_id: CredentialId, into: AreaId | None, now_s: float, *, seen: bool = True
    ) -> AreaId | None:
        """This credential passed into an area; None: to where no area is. Returns the area it was in before.

        ``seen``: by a contact; otherwise it was admitted, and may have stayed where it was.
        """
        before = self._entries.pop(credential_id, None)
        if into is not None:
            self._entries[credential_id] = _Entry(into, now_s, seen)
        return before.area_id if before else None

    def was_seen(self, credential_id: CredentialId) -> bool:
        """Whether a contact saw its last entry; also when there was none."""
        entry = self._entries.get(credential_id)
        return entry is None or entry.seen

    def inside_s(self, credential_id: CredentialId, area_id: AreaId | None, now_s: float) -> float | None:
        """How long ago it entered this area; None when it was not seen entering, or was seen leaving."""
        entry = self._entries.get(credential_id)
        if area_id is None or entry is None or entry.area_id != area_id:
            return None
        return max(0.0, now_s - entry.at_s)

    def forgive(self, area_id: AreaId) -> int:
        """Forget who entered this area; returns how many there were."""
        inside = [credential_id for credential_id, entry in self._entries.items() if entry.area_id == area_id]
        for credential_id in inside:
            del self._entries[credential_id]
        return len(inside)
