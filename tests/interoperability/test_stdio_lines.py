"""What the two commands make of broken lines and wrong options."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.read_stdio import load_issuer_key, read_command
from pacs.card import p256
from simulator.card_stdio import card_command
from tests.pacs.card.material import ISSUER, ISSUER_KEY, NOON


def _run(command: click.Command, *options: str, lines: bytes = b"", **environment: str) -> Result:
    result = CliRunner().invoke(command, ["--stdio", *options], input=lines, env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (b"", "card_gone"),
        (b"\n", "answer_malformed"),
        (b"900\n", "answer_malformed"),
        (b"hello\n", "answer_malformed"),
        (b"\xff\xfe\x00\n", "answer_malformed"),
        (b"90\n", "answer_malformed"),
        (b"9000", "card_gone"),
        (b"5c0201009000\n", "card_gone"),
        (b"5c0201009000\n7f21\n", "answer_malformed"),
        (b"6a82\n", "not_pkoc"),
        (b"6f00\n", "status_word"),
        (b"5c0201009000\n" + b"6101\n" * 50, "length_limit"),
        (b"00" * 200_000 + b"\n", "length_limit"),
        (b"5c03010001 9000\n6a88\n", "answer_malformed"),
        (b"5c0202009000\r\n6a88\r\n", "technology_unsupported"),
    ],
)
def test_broken_answers(lines: bytes, reason: str) -> None:
    """Garbage and an early end are unreadable with a named reason; nothing appears on standard error."""
    done = _run(read_command, lines=lines)
    reading = json.loads(done.stdout.splitlines()[-1])
    assert (reading["outcome"], reading["reason"]) == ("unreadable", reason)
    assert (done.exit_code, done.stderr) == (3, "")


def test_broken_commands() -> None:
    """Lines that are no command get a status word, and the card goes on."""
    lines = [
        b"",
        b"zz",
        b"00",
        b"00a4",
        b"\xff\xfe",
        b"00 A4 04 00 08 A000000898000001 00",
        b"0" * 300_000,
        b"00CA7F63",
    ]
    done = _run(card_command, lines=b"\n".join(lines))
    answers = ["6700", "6f00", "6700", "6700", "6f00", "5c0201009000", "6700", "7f63045c0202009000"]
    assert (done.exit_code, done.stdout.splitlines()) == (0, answers)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--trust", "TESTISSUER000001"],
        ["--trust", "short=issuer.pem"],
        ["--trust", "TESTISSUER000001=/nowhere.pem"],
        ["--enrolled-v1", "zz"],
        ["--enrolled-v1", ""],
        ["--enrolled-v1", "04" + "11" * 64],
        ["--at", "yesterday"],
        ["--at", "1900-01-01"],
    ],
)
def test_reader_options(options: list[str]) -> None:
    """A wrong option is named before anything is sent."""
    done = _run(read_command, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert options[0] in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--iir", "lower"],
        ["--credential-id", "1"],
        ["--valid-from", "soon"],
        ["--valid-from", "2030-01-01", "--valid-to", "2029-01-01"],
        ["--valid-to", "2120-01-01"],
        ["--issuer-key", "/nowhere.pem"],
        ["--pkoc", "v1", "--kind", "forged"],
    ],
)
def test_card_options(options: list[str]) -> None:
    """A card that cannot be made is explained."""
    done = _run(card_command, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Error" in done.stderr


def test_encrypted_issuer_key(tmp_path: Path) -> None:
    """The issuer's key opens with the passphrase file that the environment names, and not without."""
    key, passphrase = tmp_path / "issuer.key.pem", tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")
    key.write_bytes(
        ISSUER_KEY.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"correct horse"),
        )
    )
    opened = _run(card_command, "--issuer-key", str(key), DREMPEL_PASSPHRASE_FILE=str(passphrase))
    told = json.loads(opened.stderr.splitlines()[0])
    assert told["issuer_public_key"] == p256.encode_point(ISSUER_KEY.public_key()).hex()
    passphrase.write_text("another\n")
    for named in (str(passphrase), "", "/nowhere"):
        closed = _run(card_command, "--issuer-key", str(key), DREMPEL_PASSPHRASE_FILE=named)
        assert closed.exit_code == 2
        assert "issuer.key.pem" in closed.stderr


def test_other_keys_are_refused(tmp_path: Path) -> None:
    """A P-384 key is neither trusted nor issues cards."""
    other = ec.generate_private_key(ec.SECP384R1())
    private, public = tmp_path / "key.pem", tmp_path / "pub.pem"
    private.write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    public.write_bytes(
        other.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    refusals = (
        _run(read_command, "--trust", f"{ISSUER}={public}"),
        _run(card_command, "--issuer-key", str(private)),
    )
    assert [refusal.exit_code for refusal in refusals] == [2, 2]
    assert all("P-256" in refusal.stderr for refusal in refusals)


def test_issuer_key_from_a_certificate(tmp_path: Path) -> None:
    """A certificate is as good as the bare key it certifies."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "card issuer")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(ISSUER_KEY.public_key())
        .serial_number(1)
        .not_valid_before(NOON)
        .not_valid_after(NOON + timedelta(days=1))
        .sign(ISSUER_KEY, hashes.SHA256())
    )
    path = tmp_path / "issuer.cert.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    assert load_issuer_key(path) == ISSUER_KEY.public_key()
