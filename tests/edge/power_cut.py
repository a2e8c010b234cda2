"""A disk whose power goes: it keeps only what was made durable, as POSIX promises it and no more.

Content is durable after ``sync`` of its file, a name after ``sync_directory`` of its directory. ``cut_at`` is the
number of the operation at which the power goes; ``image`` writes what is on the disk afterwards. Of what was not made
durable a disk keeps what it likes: nothing, all of it, the half of a write, or, page by page and name by name and in no
order, some of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum, unique
from pathlib import Path
from random import Random

from edge.state_files import StateFiles


class PowerCut(BaseException):
    """The power went. Not an ``Exception``: no handler may catch it."""


@unique
class Survives(Enum):
    """What becomes of that which was not made durable."""

    NOTHING = "nothing"
    EVERYTHING = "everything"
    HALF_OF_LAST_WRITE = "half"
    ZEROES = "zeroes"
    SOME = "some"


PAGE_BYTES = 64
"""Small, so that a small test has many."""


@dataclass(eq=False)
class Node:
    """A file or directory; ``durable`` and ``durable_names`` are what the disk would keep."""

    is_directory: bool
    content: bytes = b""
    durable: bytes = b""
    before_last_write: bytes = b""
    names: dict[str, Node] = field(default_factory=dict)
    durable_names: dict[str, Node] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> Node:
        """What lies there, all of it durable."""
        if not path.is_dir():
            data = path.read_bytes()
            return cls(is_directory=False, content=data, durable=data, before_last_write=data)
        names = {child.name: cls.of(child) for child in path.iterdir()}
        return cls(is_directory=True, names=dict(names), durable_names=dict(names))


class PowerCutFiles(StateFiles):
    """Does everything for real under ``root``, and keeps account of what would survive."""

    def __init__(self, root: Path, cut_at: int | None = None) -> None:
        self.root = root
        self.cut_at = cut_at
        self.operations = 0
        self._top = Node.of(root)
        self._open: dict[int, Node] = {}

    def image(self, target: Path, survives: Survives, dice: Random | None = None) -> None:
        """Write what the disk holds after the cut."""
        self._dice = dice or Random(self.operations)
        self._write(self._top, target, survives)

    def open(self, path: Path, *, create: bool = False) -> int:
        self._count()
        fd = super().open(path, create=create)
        if create:
            self._node(path.parent).names[path.name] = Node(is_directory=False)
        self._open[fd] = self._node(path)
        return fd

    def write_at(self, fd: int, data: bytes, offset: int) -> int:
        self._count()
        node = self._open[fd]
        node.before_last_write = node.content
        content = node.content[:offset].ljust(offset, b"\0") + data + node.content[offset + len(data) :]
        node.content = content
        return super().write_at(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        self._count()
        node = self._open[fd]
        node.before_last_write, node.content = node.content, node.content[:size]
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        self._count()
        self._open[fd].durable = self._open[fd].content
        os.fstat(fd)  # the descriptor must be open

    def sync_directory(self, path: Path) -> None:
        self._count()
        node = self._node(path)
        node.durable_names = dict(node.names)

    def make_directory(self, path: Path) -> None:
        if not path.is_dir():
            self._count()
            path.mkdir(mode=0o700)
            self._node(path.parent).names[path.name] = Node(is_directory=True)
            self.sync_directory(path.parent)

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)
        self._node(target.parent).names[target.name] = self._node(source.parent).names.pop(source.name)

    def remove(self, path: Path) -> None:
        self._count()
        super().remove(path)
        del self._node(path.parent).names[path.name]

    def remove_directory(self, path: Path) -> None:
        self._count()
        super().remove_directory(path)
        del self._node(path.parent).names[path.name]

    def _count(self) -> None:
        if self.cut_at is not None and self.operations >= self.cut_at:
            raise PowerCut
        self.operations += 1

    def _node(self, path: Path) -> Node:
        node = self._top
        for name in path.relative_to(self.root).parts:
            if name not in node.names:  # made behind our back, such as the lock
                node.names[name] = Node.of(self.root / path.relative_to(self.root))
            node = node.names[name]
        return node

    def _write(self, node: Node, target: Path, survives: Survives) -> None:
        if node.is_directory:
            target.mkdir(mode=0o700, exist_ok=True)
            for name, child in self._names(node, survives).items():
                self._write(child, target / name, survives)
            return
        target.write_bytes(self._some(node) if survives is Survives.SOME else _surviving(node, survives))

    def _names(self, node: Node, survives: Survives) -> dict[str, Node]:
        """A name that was made, changed or removed and not made durable is there or not, each for itself."""
        match survives:
            case Survives.NOTHING:
                return node.durable_names
            case Survives.SOME:
                candidates = {*node.names, *node.durable_names}
                sides = {
                    name: self._dice.choice((node.names, node.durable_names)) for name in sorted(candidates)
                }
                return {name: side[name] for name, side in sides.items() if name in side}
            case _:
                return node.names

    def _some(self, node: Node) -> bytes:
        """Each page as it is or as it was; where the file has grown, also as zeroes."""
        size = self._dice.choice((len(node.content), len(node.durable)))
        pages = []
        for begin in range(0, size, PAGE_BYTES):
            page = self._dice.choice((node.content, node.durable))[begin : begin + PAGE_BYTES]
            pages.append(page.ljust(PAGE_BYTES, b"\0"))
        return b"".join(pages)[:size]


def _surviving(node: Node, survives: Survives) -> bytes:
    match survives:
        case Survives.EVERYTHING:
            return node.content
        case Survives.HALF_OF_LAST_WRITE if len(node.content) > len(node.durable):
            begin = max(len(node.before_last_write), len(node.durable))
            return node.content[: begin + (len(node.content) - begin) // 2]
        case Survives.ZEROES if len(node.content) > len(node.durable):
            return node.durable.ljust(len(node.content), b"\0")
        case _:
            return node.durable
