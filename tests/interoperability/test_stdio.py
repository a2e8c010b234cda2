"""Readers and cards as separate processes that exchange lines of hex, in every pairing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pacs.card import p256, personalisation
from pacs.card.dialogue import command_chaining, get_response, run
from pacs.errors import CardError
from simulator.card_deck import DECK
from tests.pacs.card.material import CHALLENGE, ISSUER, ISSUER_KEY, certificate

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
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **environment},
        )

    def say(self, line: bytes) -> None:
        """Send one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def hear(self) -> bytes:
        """The next line of standard output; empty at its end."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def hear_error(self) -> bytes:
        """The next line of standard error."""
        assert self._process.stderr is not None
        return self._process.stderr.readline()

    def end(self) -> tuple[int, str]:
        """Close its input and wait: exit status and what is left on standard error."""
        _, error = self._process.communicate(timeout=30)
        return self._process.returncode, error.decode()

    def stop(self) -> None:
        """Make sure that it is gone and its pipes are closed."""
        if self._process.poll() is None:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and not pipe.closed:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait(30)


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


def _pem(directory: Path, point: str) -> str:
    key = p256.parse_point(bytes.fromhex(point))
    path = directory / "issuer.pem"
    path.write_bytes(
        key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return str(path)


@pytest.fixture
def issuer_key(tmp_path: Path) -> Path:
    """The test issuer's private key in a file."""
    path = tmp_path / "issuer.key.pem"
    path.write_bytes(
        ISSUER_KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


def _our_v2(issuer_key: Path, *more: str) -> list[str]:
    known = ["--issuer-key", str(issuer_key), "--iir", ISSUER, "--credential-id", UUID]
    return [*OUR_CARD, "--pkoc", "v2", *known, *more]


# ---------------------------------------------------------------- our reader, our card


def test_our_v2(tmp_path: Path, issuer_key: Path) -> None:
    """Two taps of one V2 card: verified with its UUID, issuer and technology, exit status 0."""
    with started(_our_v2(issuer_key, "--valid-from", "2027-01-01", "--valid-to", "2027-12-31")) as card:
        told = json.loads(card.hear_error())
        assert told["issuer_public_key"] == p256.encode_point(ISSUER_KEY.public_key()).hex()
        assert (told["iir"], told["credential_id"], told["pkoc"]) == (ISSUER, UUID, "v2")
        trust = f"{ISSUER}={_pem(tmp_path, told['issuer_public_key'])}"
        for _ in range(2):
            reading, status = converse([*OUR_READER, "--trust", trust, *AT], card)
            assert status == 0
            assert reading == {
                "credential_id": UUID,
                "issuer": ISSUER,
                "technology": "pkoc-v2",
                "outcome": "verified",
                "reason": None,
                "detail": "",
            }
        assert card.end() == (0, "")


def test_our_v2_with_defaults(tmp_path: Path) -> None:
    """A card that made everything up itself is verified today by what it said of itself."""
    with started([*OUR_CARD, "--pkoc", "v2"]) as card:
        told = json.loads(card.hear_error())
        trust = f"{told['iir']}={_pem(tmp_path, told['issuer_public_key'])}"
        reading, status = converse([*OUR_READER, "--trust", trust], card)
        assert (reading["credential_id"], status) == (told["credential_id"], 0)


@pytest.mark.parametrize("form", ["point", "compressed", "x"])
def test_our_v1(form: str) -> None:
    """An enrolled V1 card is verified under the x coordinate of its key."""
    with started([*OUR_CARD, "--pkoc", "v1"]) as card:
        key = json.loads(card.hear_error())["public_key"]
        forms = {"point": key, "compressed": f"0{2 + int(key[-1], 16) % 2}{key[2:66]}", "x": key[2:66]}
        other = p256.encode_point(ISSUER_KEY.public_key()).hex()
        enrolled = ["--enrolled-v1", other, "--enrolled-v1", forms[form]]
        reading, status = converse([*OUR_READER, *enrolled], card)
        assert status == 0
        assert (reading["credential_id"], reading["technology"], reading["issuer"]) == (
            key[2:66],
            "pkoc-v1",
            None,
        )


def test_our_v1_not_enrolled() -> None:
    """A V1 card is refused when another is enrolled, and not even tried when none is."""
    other = p256.encode_point(ISSUER_KEY.public_key()).hex()
    with started([*OUR_CARD, "--pkoc", "v1"]) as card:
        card.hear_error()
        reading, status = converse([*OUR_READER, "--enrolled-v1", other], card)
        assert (reading["outcome"], reading["reason"], status) == ("refused", "card_not_enrolled", 1)
        reading, status = converse(OUR_READER, card)
        assert (reading["outcome"], reading["reason"], status) == ("unreadable", "technology_unsupported", 3)


@pytest.mark.parametrize("kind", sorted(set(DECK) - {"genuine", "v1", "replaying"}))
def test_bad_cards(tmp_path: Path, issuer_key: Path, kind: str) -> None:
    """Each bad card of the deck is refused, or not read, for its own reason; V1 is no way around."""
    enrolled = p256.encode_point(ISSUER_KEY.public_key())
    with started(_our_v2(issuer_key, "--kind", kind)) as card:
        told = json.loads(card.hear_error())
        trust = f"{ISSUER}={_pem(tmp_path, enrolled.hex())}"
        extra = [] if kind == "blank" else ["--enrolled-v1", told["public_key"]]
        reading, status = converse([*OUR_READER, "--trust", trust, *extra], card)
    expected = DECK[kind].expected
    assert reading["reason"] == expected
    refused = type(expected).__name__ == "Reason"
    assert (reading["outcome"], status) == (("refused", 1) if refused else ("unreadable", 3))
    vouched = kind in {"cloned", "expired", "not-yet-valid"}
    assert reading["credential_id"] == (UUID if vouched else None)


def test_replayed_answer(tmp_path: Path, issuer_key: Path) -> None:
    """A recorded answer does not pass a second transaction."""
    with started(_our_v2(issuer_key, "--kind", "replaying")) as card:
        told = json.loads(card.hear_error())
        reader = [*OUR_READER, "--trust", f"{ISSUER}={_pem(tmp_path, told['issuer_public_key'])}"]
        assert converse(reader, card)[1] == 0
        reading, status = converse(reader, card)
        assert (reading["outcome"], reading["reason"], status) == ("refused", "signature_invalid", 1)


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        ("2026-12-31T23:59:59Z", "certificate_not_yet_valid"),
        ("2027-01-01", None),
        ("2027-12-31T23:59:59", None),
        ("2028-01-01T00:00:00+02:00", "certificate_expired"),
    ],
)
def test_dates(tmp_path: Path, issuer_key: Path, at: str, reason: str | None) -> None:
    """The certificate's first and last day count, judged on the calendar of the time given."""
    with started(_our_v2(issuer_key, "--valid-from", "2027-01-01", "--valid-to", "2027-12-31")) as card:
        told = json.loads(card.hear_error())
        trust = f"{ISSUER}={_pem(tmp_path, told['issuer_public_key'])}"
        reading, _ = converse([*OUR_READER, "--trust", trust, "--at", at], card)
        assert reading["reason"] == reason


# ---------------------------------------------------------------- our reader, a foreign card

CARD_TYPE = "731e060a2b0601040183d22508105310" + "43" * 16
HABITS: dict[str, dict[str, Any]] = {
    "plain": {"profile": "v2"},
    "SELECT must be exact": {"profile": "v2", "exact_select": True},
    "upper case": {"profile": "v2", "upper_case": True},
    "other issuer": {"profile": "v2", "iir": "ZZZZ999900000000"},
    "subject of any bytes": {"profile": "v2", "subject": "00ff" * 8},
    "version list": {"profile": "v2", "select": "5c0402000100"},
    "unknown claim before": {"profile": "v2", "claims_before": CARD_TYPE},
    "unknown claims around": {"profile": "v2", "claims_before": CARD_TYPE, "claims_after": CARD_TYPE},
    "long certificate": {"profile": "v2", "claims_after": "7382020406012a538201fd" + "5a" * 509},
    "long certificate, claim first": {
        "profile": "v2",
        "claims_before": "73820404" + "06012a" + "538203fd" + "5a" * 1021,
    },
    "trailing objects": {"profile": "v2", "trailing": "420155"},
    "V1": {"profile": "v1"},
    "V1 1.1": {"profile": "v1", "select": "5c020101", "version": "0101"},
    "V1 list": {"profile": "v1", "select": "5c0401010100", "version": "0101"},
    "V1 signature first": {"profile": "v1", "signature_first": True},
    "V1 trailing": {"profile": "v1", "trailing": "7f0155"},
    "V1 6B00": {"profile": "v1", "unknown": "6b00"},
    "V1 6A88": {"profile": "v1", "unknown": "6a88"},
    "V1 6E00": {"profile": "v1", "unknown": "6e00"},
    "V1 SELECT must be exact": {"profile": "v1", "exact_select": True},
}


@pytest.mark.parametrize("habit", sorted(HABITS))
def test_foreign_cards(tmp_path: Path, habit: str) -> None:
    """Our reader verifies a card that shares no code with it, whatever its habits."""
    config = HABITS[habit]
    with started([*OTHER_CARD, json.dumps(config)]) as card:
        told = json.loads(card.hear_error())
        issuer = config.get("iir", "INDEPENDENT00001")
        trust = f"{issuer}={_pem(tmp_path, told['issuer_public_key'])}"
        enrolled = ["--enrolled-v1", told["public_key"]] if config["profile"] == "v1" else []
        reading, status = converse([*OUR_READER, "--trust", trust, *enrolled, *AT], card)
        assert (reading["outcome"], status) == ("verified", 0), reading
        v1 = config["profile"] == "v1"
        assert reading["credential_id"] == (
            told["public_key"][2:66] if v1 else "00112233-4455-6677-8899-aabbccddeeff"
        )
        if "long" in habit:
            assert len(told["certificate"]) > 2 * 256


# ---------------------------------------------------------------- a foreign reader, our card

READERS: dict[str, dict[str, Any]] = {
    "V2": {"profile": "v2"},
    "V2 without INFO": {"profile": "v2", "info": False},
    "V2 without Le": {"profile": "v2", "without_le": True},
    "V1": {"profile": "v1"},
    "V1 without Le": {"profile": "v1", "without_le": True},
    "V1 reversed": {"profile": "v1", "order": ["4d", "4c", "5c"]},
    "V1 with unknown tags": {"profile": "v1", "extra": "420155"},
    "V1 oldest version": {"profile": "v1", "oldest": True},
}


@pytest.mark.parametrize("profile", ["v1", "v2"])
@pytest.mark.parametrize("habit", sorted(READERS))
def test_foreign_readers(habit: str, profile: str, issuer_key: Path) -> None:
    """Our card satisfies a reader that shares no code with it; a V2 card a V1 reader too."""
    config = READERS[habit]
    if profile == "v1" and config["profile"] == "v2":
        pytest.skip("a V1 card has no certificate to show")
    command = _our_v2(issuer_key) if profile == "v2" else [*OUR_CARD, "--pkoc", "v1"]
    with started(command) as card:
        told = json.loads(card.hear_error())
        config = {**config, "issuer_public_key": told["issuer_public_key"]}
        reading, status = converse([*OTHER_READER, json.dumps(config)], card)
        assert status == 0
        assert reading["public_key"] == told["public_key"]
        if config["profile"] == "v2":
            assert (reading["iir"], reading["uuid"]) == (ISSUER, uuid.UUID(UUID).hex)


# ---------------------------------------------------------------- broken lines


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
        (b"5c03010001 9000\n", "answer_malformed"),
        (b"5c0201009000\r\n6a88\r\n", "technology_unsupported"),
    ],
)
def test_broken_answers(lines: bytes, reason: str) -> None:
    """Garbage and an early end are unreadable with a named reason; nothing appears on standard error."""
    done = subprocess.run(OUR_READER, input=lines, capture_output=True, cwd=ROOT, timeout=60, check=False)
    reading = json.loads(done.stdout.splitlines()[-1])
    assert (reading["outcome"], reading["reason"]) == ("unreadable", reason)
    assert (done.returncode, done.stderr) == (3, b"")


def test_reader_whose_card_is_closed() -> None:
    """A reader that nobody listens to ends without a traceback and not with success."""
    with started(OUR_READER) as reader:
        process = reader._process
        assert process.stdout is not None
        process.stdout.close()
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) != 0
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


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
    done = subprocess.run(
        OUR_CARD, input=b"\n".join(lines), capture_output=True, cwd=ROOT, timeout=60, check=False
    )
    answers = [b"6700", b"6f00", b"6700", b"6700", b"6f00", b"5c0201009000", b"6700", b"7f63045c0202009000"]
    assert (done.returncode, done.stdout.split(b"\n")) == (0, [*answers, b""])
    assert len(done.stderr.splitlines()) == 1


# ---------------------------------------------------------------- options


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
    done = subprocess.run(
        [*OUR_READER, *options], input=b"", capture_output=True, cwd=ROOT, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert options[0].encode() in done.stderr
    assert b"Traceback" not in done.stderr


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
    done = subprocess.run(
        [*OUR_CARD, *options], input=b"", capture_output=True, cwd=ROOT, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr


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
    with started(_our_v2(key), DREMPEL_PASSPHRASE_FILE=str(passphrase)) as card:
        told = json.loads(card.hear_error())
        assert told["issuer_public_key"] == p256.encode_point(ISSUER_KEY.public_key()).hex()
    passphrase.write_text("another\n")
    for environment in ({"DREMPEL_PASSPHRASE_FILE": str(passphrase)}, {"DREMPEL_PASSPHRASE_FILE": ""}):
        with started(_our_v2(key), **environment) as card:
            status, error = card.end()
            assert status == 2
            assert "issuer.key.pem" in error


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
    for command in (
        [*OUR_READER, "--trust", f"{ISSUER}={public}"],
        [*OUR_CARD, "--issuer-key", str(private)],
    ):
        done = subprocess.run(command, input=b"", capture_output=True, cwd=ROOT, timeout=60, check=False)
        assert done.returncode == 2
        assert b"P-256" in done.stderr


# ---------------------------------------------------------------- personalisation across processes


def test_blank_card_is_personalised_and_kept(tmp_path: Path, issuer_key: Path) -> None:
    """A blank card in a file is personalised by lines of hex, locked, and read in a later process."""
    file = tmp_path / "card.json"
    blank = [*OUR_CARD, "--kind", "blank", "--file", str(file)]
    with started(blank) as card:
        assert json.loads(card.hear_error())["public_key"] is None

        def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
            card.say(command.hex().encode() + b"\n")
            meanwhile()
            return bytes.fromhex(card.hear().decode())

        link = get_response(command_chaining(transceive))
        done = run(personalisation.personalise(CHALLENGE, lambda key: certificate(public_key=key)), link)
        with pytest.raises(CardError) as caught:
            run(personalisation.personalise(CHALLENGE, lambda key: certificate(public_key=key)), link)
        assert caught.value.status_word == 0x6985
        assert card.end() == (0, "")
    assert file.stat().st_mode & 0o777 == 0o600
    with started(blank) as card:
        told = json.loads(card.hear_error())
        assert (told["public_key"], told["iir"], told["locked"]) == (done.public_key.hex(), ISSUER, True)
        trust = f"{ISSUER}={_pem(tmp_path, p256.encode_point(ISSUER_KEY.public_key()).hex())}"
        assert converse([*OUR_READER, "--trust", trust, *AT], card)[1] == 0
