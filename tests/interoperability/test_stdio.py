"""Our reader and our card as separate processes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge import read_stdio
from pacs.card import p256
from pacs.card.dialogue import get_response, run
from pacs.errors import CardError, MalformedData
from pacs.reason import ReadFault, Reason
from simulator import card_stdio
from simulator.card_deck import DECK
from tests.interoperability.processes import (
    AT,
    OUR_CARD,
    OUR_READER,
    UUID,
    converse,
    our_v2,
    started,
    write_issuer_key,
    write_public,
)
from tests.pacs.card.bureau import MemoryBureau
from tests.pacs.card.material import ISSUER, ISSUER_KEY


@pytest.fixture
def issuer_key(tmp_path: Path) -> Path:
    """The test issuer's private key in a file."""
    return write_issuer_key(tmp_path)


def test_our_v2(tmp_path: Path, issuer_key: Path) -> None:
    """Two taps of one V2 card: verified with its UUID, issuer and technology, exit status 0."""
    with started(our_v2(issuer_key, "--valid-from", "2027-01-01", "--valid-to", "2027-12-31")) as card:
        told = json.loads(card.hear_error())
        assert told["issuer_public_key"] == p256.encode_point(ISSUER_KEY.public_key()).hex()
        assert (told["iir"], told["credential_id"], told["pkoc"]) == (ISSUER, UUID, "v2")
        trust = f"{ISSUER}={write_public(tmp_path, told['issuer_public_key'])}"
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
        trust = f"{told['iir']}={write_public(tmp_path, told['issuer_public_key'])}"
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
    """A V1 card is refused when another is enrolled, and when none is."""
    other = p256.encode_point(ISSUER_KEY.public_key()).hex()
    with started([*OUR_CARD, "--pkoc", "v1"]) as card:
        card.hear_error()
        reading, status = converse([*OUR_READER, "--enrolled-v1", other], card)
        assert (reading["outcome"], reading["reason"], status) == ("refused", "card_not_enrolled", 1)
        reading, status = converse(OUR_READER, card)
        assert (reading["outcome"], reading["reason"], status) == ("refused", "card_not_enrolled", 1)


@pytest.mark.parametrize("kind", sorted(set(DECK) - {"genuine", "v1", "replaying"}))
def test_bad_cards(tmp_path: Path, issuer_key: Path, kind: str) -> None:
    """Each bad card of the deck is refused, or not read, for its own reason; V1 is no way around."""
    enrolled = p256.encode_point(ISSUER_KEY.public_key())
    with started(our_v2(issuer_key, "--kind", kind)) as card:
        told = json.loads(card.hear_error())
        trust = f"{ISSUER}={write_public(tmp_path, enrolled.hex())}"
        extra = [] if kind == "blank" else ["--enrolled-v1", told["public_key"]]
        reading, status = converse([*OUR_READER, "--trust", trust, *extra], card)
    # a blank card offers V1, but has no key to answer with
    expected = ReadFault.STATUS_WORD if kind == "blank" else DECK[kind].expected
    assert reading["reason"] == expected
    refused = isinstance(expected, Reason)
    assert (reading["outcome"], status) == (("refused", 1) if refused else ("unreadable", 3))
    vouched = kind in {"cloned", "expired", "not-yet-valid"}
    assert reading["credential_id"] == (UUID if vouched else None)


@pytest.mark.parametrize(
    ("load", "kind", "der"),
    [
        (read_stdio.load_issuer_key, "PUBLIC", "300b300606042a030405030100"),
        (card_stdio.load_issuer_key, "PRIVATE", "300f020100300606042a03040504020400"),
    ],
)
def test_a_key_of_a_kind_nobody_knows(
    tmp_path: Path, load: Callable[[Path], object], kind: str, der: str
) -> None:
    """An algorithm this library has never heard of is a file of no use, not a fault."""
    path = tmp_path / "key.pem"
    text = base64.b64encode(bytes.fromhex(der)).decode()
    path.write_text(f"-----BEGIN {kind} KEY-----\n{text}\n-----END {kind} KEY-----\n")
    with pytest.raises(MalformedData):
        load(path)


def test_replayed_answer(tmp_path: Path, issuer_key: Path) -> None:
    """A recorded answer does not pass a second transaction."""
    with started(our_v2(issuer_key, "--kind", "replaying")) as card:
        told = json.loads(card.hear_error())
        reader = [*OUR_READER, "--trust", f"{ISSUER}={write_public(tmp_path, told['issuer_public_key'])}"]
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
    with started(our_v2(issuer_key, "--valid-from", "2027-01-01", "--valid-to", "2027-12-31")) as card:
        told = json.loads(card.hear_error())
        trust = f"{ISSUER}={write_public(tmp_path, told['issuer_public_key'])}"
        reading, _ = converse([*OUR_READER, "--trust", trust, "--at", at], card)
        assert reading["reason"] == reason


def test_reader_whose_card_is_closed() -> None:
    """A reader that nobody listens to ends without a traceback and not with success."""
    with started(OUR_READER) as reader:
        process = reader.process
        assert process.stdout is not None
        process.stdout.close()
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) != 0
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


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

        link = get_response(transceive)
        done = run(MemoryBureau().issue(), link)
        with pytest.raises(CardError) as caught:
            run(MemoryBureau().issue(), link)
        assert caught.value.status_word == 0x6985
        assert card.end() == (0, "")
    assert file.stat().st_mode & 0o777 == 0o600
    with started(blank) as card:
        told = json.loads(card.hear_error())
        assert (told["public_key"], told["iir"], told["locked"]) == (done.made.public_key.hex(), ISSUER, True)
        trust = f"{ISSUER}={write_public(tmp_path, p256.encode_point(ISSUER_KEY.public_key()).hex())}"
        assert converse([*OUR_READER, "--trust", trust, *AT], card)[1] == 0
