"""Our reader against cards, and our card against readers, that share no code with the project."""

from __future__ import annotations

import json
import uuid
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from edge.read_stdio import Outcome, StdioCard, read_card
from pacs.card import p256
from pacs.credential import TrustAnchors, Verifier
from pacs.identifiers import CredentialId
from simulator.virtual_card import VirtualCard, new_v1_card, new_v2_card
from tests.interoperability.processes import (
    AT,
    OTHER_CARD,
    OTHER_READER,
    OUR_CARD,
    OUR_READER,
    UUID,
    converse,
    our_v2,
    started,
    write_issuer_key,
    write_public,
)
from tests.pacs.card.material import CHALLENGE, ISSUER, ISSUER_KEY, NOON

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
def test_foreign_cards(habit: str) -> None:
    """Our reader verifies a card that shares no code with it, whatever its habits."""
    config = HABITS[habit]
    v1 = config["profile"] == "v1"
    with started([*OTHER_CARD, json.dumps(config)]) as card:
        told = json.loads(card.hear_error())
        issuer_key = p256.parse_point(bytes.fromhex(told["issuer_public_key"]))
        trust = TrustAnchors(issuers={config.get("iir", "INDEPENDENT00001"): issuer_key})
        enrolled = frozenset({CredentialId.parse(told["public_key"][2:66])} if v1 else ())
        assert card.process.stdout is not None
        assert card.process.stdin is not None
        link = StdioCard(card.process.stdout, card.process.stdin)
        reading = read_card(link, Verifier(trust), CHALLENGE, enrolled_v1=enrolled, at=NOON)
    assert reading.outcome is Outcome.VERIFIED, reading
    expected = told["public_key"][2:66] if v1 else "00112233-4455-6677-8899-aabbccddeeff"
    assert str(reading.credential_id) == expected
    if "long" in habit:
        assert len(told["certificate"]) > 2 * 256


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


@pytest.mark.parametrize(
    ("habit", "profile"),
    [
        (habit, profile)
        for habit in sorted(READERS)
        for profile in ("v1", "v2")
        if habit.startswith(profile.upper()) or profile == "v2"
    ],
)
def test_foreign_readers(habit: str, profile: str) -> None:
    """Our card satisfies a reader that shares no code with it; a V2 card a V1 reader too."""
    card = _new_v2() if profile == "v2" else new_v1_card()
    config = {**READERS[habit], "issuer_public_key": p256.encode_point(ISSUER_KEY.public_key()).hex()}
    with started([*OTHER_READER, json.dumps(config)]) as reader:
        while not (line := reader.hear()).startswith(b"{"):
            if not line:
                pytest.fail(f"the reader ended early: {reader.end()}")
            reader.say(card.answer(bytes.fromhex(line.decode())).hex().encode() + b"\n")
        assert reader.end() == (0, "")
    reading = json.loads(line)
    assert reading["public_key"] == card.public_key.hex()
    if config["profile"] == "v2":
        assert (reading["iir"], reading["uuid"]) == (ISSUER, uuid.UUID(UUID).hex)


def _new_v2() -> VirtualCard:
    return new_v2_card(
        issuer_key=ISSUER_KEY,
        issuer=ISSUER,
        credential_id=CredentialId.parse(UUID),
        valid_from=date(2027, 1, 1),
        valid_until=date(2028, 1, 1),
    )


@pytest.mark.parametrize("profile", ["v1", "v2"])
def test_our_reader_process_and_a_foreign_card(tmp_path: Path, profile: str) -> None:
    """The reader's command line does with a foreign card what the tests above do without it."""
    with started([*OTHER_CARD, json.dumps({"profile": profile})]) as card:
        told = json.loads(card.hear_error())
        trust = ["--trust", f"INDEPENDENT00001={write_public(tmp_path, told['issuer_public_key'])}"]
        enrolled = ["--enrolled-v1", told["public_key"]] if profile == "v1" else []
        reading, status = converse([*OUR_READER, *trust, *enrolled, *AT], card)
    assert (reading["outcome"], reading["technology"], status) == ("verified", f"pkoc-{profile}", 0)


@pytest.mark.parametrize("profile", ["v1", "v2"])
def test_our_card_process_and_a_foreign_reader(tmp_path: Path, profile: str) -> None:
    """The card's command line does with a foreign reader what the tests above do without it."""
    command = our_v2(write_issuer_key(tmp_path)) if profile == "v2" else [*OUR_CARD, "--pkoc", "v1"]
    with started(command) as card:
        told = json.loads(card.hear_error())
        config = {"profile": profile, "issuer_public_key": told["issuer_public_key"]}
        reading, status = converse([*OTHER_READER, json.dumps(config)], card)
    assert (reading["public_key"], status) == (told["public_key"], 0)
