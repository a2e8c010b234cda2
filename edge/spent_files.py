"""Files of the journal that nobody needs: let go of at once, removed once it is durable why."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from edge import journal_notes as notes
from edge import journal_recovery as recovery
from edge.chain import Chain, Segment
from edge.state_files import StateFiles


class Awaited:
    """The event that has to say why files go."""

    def __init__(self) -> None:
        """Nothing says it yet."""
        self._chain: Chain | None = None
        self._sequence = 0

    def is_said(self, chain: Chain, sequence: int) -> None:
        """By this event, which was appended."""
        self._sequence, self._chain = sequence, chain

    @property
    def is_durable(self) -> bool:
        """Whether a power cut cannot take the event any more."""
        return self._chain is not None and self._chain.durable_through >= self._sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spent:
    """The whole chain or some of its segments, by their paths and sizes. ``because``: what has to be durable first."""

    chain: Chain
    sizes: dict[Path, int]
    is_whole: bool
    because: Awaited | None

    @classmethod
    def of(
        cls, chain: Chain, parts: Sequence[Segment], because: Awaited | None, *, is_whole: bool = True
    ) -> Self:
        sizes = {segment.path: segment.size for segment in parts}
        return cls(chain=chain, sizes=sizes, is_whole=is_whole, because=because)

    @property
    def may_go(self) -> bool:
        return self.because is None or self.because.is_durable


class SpentFiles:
    """``release`` and ``note`` never wait; ``remove`` and ``sync`` do. Every method but ``release`` raises ``OSError``."""

    def __init__(self, directory: Path, files: StateFiles, guard: threading.Lock) -> None:
        """Open or create the note of what nobody needs. ``guard`` is that of the chains."""
        self._directory = directory
        self._files = files
        self._guard = guard
        self._spent: list[_Spent] = []
        path = directory / notes.ACKNOWLEDGED
        self._noted_fd = files.open(path, create=not path.exists())
        self.abandoned: Path | None = None
        """A chain whose files are kept aside."""
        self.left_bytes = 0
        """Of files that were let go of and are still there: kept aside, or not to be removed."""

    def release(
        self, chains: tuple[Chain, ...], because: Awaited | None = None
    ) -> tuple[tuple[Chain, ...], int]:
        """Let go of ended chains and whole files; returns the chains that stay and the bytes that are free.

        ``because``: the event that has to be durable before the files go. The caller holds the guard.
        """
        kept = chains
        while len(kept) > 1 and kept[0].released >= kept[0].last_sequence:
            kept = kept[1:]
        chain = kept[0]
        parts = chain.segments
        while len(parts) > 1 and parts[0].last_sequence <= chain.released:
            parts = parts[1:]
        spent = [_Spent.of(ended, ended.segments, because) for ended in chains[: -len(kept)]]
        in_use = {segment.path for segment in parts}
        freed = [segment for segment in chain.segments if segment.path not in in_use]
        if freed:
            spent.append(_Spent.of(chain, freed, because, is_whole=False))
        chain.segments = parts
        self._spent += spent
        return kept, sum(sum(each.sizes.values()) for each in spent)

    def note(self, chain: Chain) -> None:
        """Write down what nobody needs of the oldest chain, as far as it is durable why."""
        with self._guard:
            pending = [each for each in self._spent if not each.may_go]
            if any(each.chain is not chain for each in pending):
                return
            released = chain.acknowledged if pending else chain.released
            data = notes.acknowledged_bytes(chain.journal_id, released)
            self._files.write_at(self._noted_fd, data, 0)

    def remove(self, chain: Chain) -> None:
        """Remove what may go, once that is durable; what is damaged or abandoned is kept aside.

        What cannot be removed is tried again the next time.
        """
        with self._guard:
            ready = [each for each in self._spent if each.may_go]
        if not ready:
            return
        self.note(chain)
        self.sync()
        failure: OSError | None = None
        for each in ready:
            try:
                self._remove(each)
            except OSError as error:
                failure = failure or error
        with self._guard:
            self._spent = [each for each in self._spent if each not in ready or each.sizes]
            stuck = sum(sum(each.sizes.values()) for each in ready)
        self.left_bytes = stuck + recovery.quarantined_bytes(self._directory)
        if failure:
            raise failure

    def _remove(self, spent: _Spent) -> None:
        """Forget each file that is gone; raises ``OSError`` at the first that is not."""
        for path in tuple(spent.sizes):
            with contextlib.suppress(FileNotFoundError):
                if path.parent == self.abandoned or path in spent.chain.damaged:
                    recovery.quarantine(self._directory, path, self._files)
                else:
                    self._files.remove(path)
            del spent.sizes[path]
        if spent.is_whole:
            with contextlib.suppress(
                OSError
            ):  # an empty directory takes no room, and is removed at the next start
                self._files.remove_directory(spent.chain.directory)

    def sync(self) -> None:
        """Make the note durable."""
        self._files.sync(self._noted_fd)

    def close(self) -> None:
        """Close the note."""
        os.close(self._noted_fd)
