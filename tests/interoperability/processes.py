"""Readers and cards as processes that exchange lines of hex."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from pacs.card import p256
from tests.pacs.card.material import ISSUER, ISSUER_KEY

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
UUID = "3e1a9c53-6d1f-4c55-9f0e-6a2f7c0b1d11"
OUR_READER = [sys.executable, "-m", "edge.read_stdio", "--stdio"]
OUR_CARD = [sys.executable, "-m", "simulator.card_stdio", "--stdio"]
OTHER_READER = [sys.executable, str(HERE / "independent_reader.py")]
OTHER_CARD = [sys.executable, str(HERE / "independent_card.py")]
AT = ["--at", "2027-06-15T12:00:00Z"]


class Process:
    """A started program with line-wise pipes."""

    def __init__(self, command: Sequence[str], **environment: str) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **environment},
        )

    def say(self, line: bytes) -> None:
        """Send one line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def hear(self) -> bytes:
        """The next line of standard output; empty at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def hear_error(self) -> bytes:
        """The next line of standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def end(self) -> tuple[int, str]:
        """Close its input and wait: exit status and what is left on standard error."""
        _, error = self.process.communicate(timeout=30)
        return self.process.returncode, error.decode()

    def stop(self) -> None:
        """Make sure that it is gone and its pipes are closed."""
        if self.process.poll() is None:
            self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None and not pipe.closed:
                with suppress(BrokenPipeError):
                    pipe.close()
        self.process.wait(30)


@contextmanager
def started(command: Sequence[str], **environment: str) -> Iterator[Process]:
    """A process that is gone afterwards."""
    process = Process(command, **environment)
    try:
        yield process
    finally:
        process.stop()


def converse(reader_command: Sequence[str], card: Process) -> tuple[dict[str, Any], int]:
    """Run a reader against a card that is already there: its result line and exit status."""
    with started(reader_command) as reader:
        while not (line := reader.hear()).startswith(b"{"):
            if not line:
                pytest.fail(f"the reader ended early: {reader.end()}")
            card.say(line)
            reader.say(card.hear())
        status, error = reader.end()
        assert error == ""
        return json.loads(line), status


def write_public(directory: Path, point: str) -> str:
    """A public key (hex of its point) in a PEM file: its path."""
    key = p256.parse_point(bytes.fromhex(point))
    path = directory / "issuer.pem"
    path.write_bytes(
        key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return str(path)


def write_issuer_key(directory: Path) -> Path:
    """The test issuer's private key in a PEM file."""
    path = directory / "issuer.key.pem"
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(ISSUER_KEY.private_bytes(encoding, form, serialization.NoEncryption()))
    return path


def our_v2(issuer_key: Path, *more: str) -> list[str]:
    """The command of our V2 card, issued by the test issuer."""
    known = ["--issuer-key", str(issuer_key), "--iir", ISSUER, "--credential-id", UUID]
    return [*OUR_CARD, "--pkoc", "v2", *known, *more]
