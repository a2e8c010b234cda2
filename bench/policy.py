"""What a large policy, and an examination, cost a door: to load, to hold, to decide by, and whoever holds a card to it meanwhile.

The controller is the real one, in a process of its own, with an emulated PN532 in another; documents are handed to
its service as the uplink would.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pacs import bundle
from pacs.card.p256 import encode_point
from pacs.credential import Technology, VerifiedCredential
from pacs.decision import ClockReading, decide
from pacs.identifiers import AccessLevelId, ControllerId, CredentialId, DoorId, ScheduleId, SiteId
from pacs.messages import DocumentKind, split_document
from pacs.revocation import Status, StatusList
from pacs.rules import AccessLevel, AccessRule, Door, Entitlement, Policy, Side
from pacs.schedule import ALWAYS, Schedule
from provisioning.keystore import read_key
from provisioning.readers import DoorWiring, add_controller
from provisioning.site import create_site
from simulator.link_faults import LinkOptions
from simulator.pn532_process import Pn532Process
from simulator.virtual_card import VirtualCard, new_v2_card

SIZES = (100, 10_000, 100_000)
REVOKED = 100_000
_TAPS = 60
_VERSIONS = 12
_WITHIN_S = 60.0
_LEVELS = tuple(AccessLevelId(f"level-{number}") for number in range(20))
_CONTROLLER, _DOOR, _SITE = ControllerId("c1"), DoorId("front"), SiteId("bench")
_HOLDER = CredentialId(bytes(16))


def measure() -> dict[str, float]:
    """Takes about half a minute; returns the figures, keys beginning with ``policy.``."""
    figures: dict[str, float] = {}
    for size in SIZES:
        figures[f"policy.decide_us_{size}"] = decide_us(size)
    for cards, revoked in ((2_000, 60), (70_000, 2_000)):
        size, travelling = status_list_bytes(cards, revoked)
        figures[f"policy.status_list_bytes_{cards}"] = size
        figures[f"policy.status_list_mqtt_bytes_{cards}"] = travelling
    with tempfile.TemporaryDirectory(prefix="drempel-bench-") as name:
        figures |= _at_a_door(Path(name))
    return figures


def large_policy(size: int, *, now: datetime, issuers: dict[str, bytes] | None = None) -> Policy:
    """One door, and this many people with two access levels each."""
    always = Schedule(id=ScheduleId("always"), windows=(ALWAYS,), holiday_windows=(ALWAYS,))
    people = [_HOLDER, *(CredentialId(secrets.token_bytes(16)) for _ in range(size - 1))]
    return bundle.with_table(
        Policy(
            site_id=_SITE,
            version=1,
            issued_at=now,
            expires_at=now + timedelta(days=7),
            time_zone="Europe/Amsterdam",
            issuers=issuers or {},
            doors={_DOOR: Door(id=_DOOR, controller_id=_CONTROLLER, unlock_ms=50)},
            access_levels={
                level: AccessLevel(id=level, rules=(AccessRule(door_id=_DOOR, schedule_id=always.id),))
                for level in _LEVELS
            },
            schedules={always.id: always},
            entitlements={
                credential_id: Entitlement(
                    credential_id=credential_id,
                    status_index=index,
                    access_level_ids=(_LEVELS[index % 20], _LEVELS[index * 7 % 20]),
                    valid_until=now + timedelta(days=365),
                )
                for index, credential_id in enumerate(people)
            },
        )
    )


def status_list(cards: int, revoked: int, *, now: datetime) -> StatusList:
    """A list of ``cards`` credentials of which ``revoked``, drawn by lot, are; never the first."""
    lot = secrets.SystemRandom().sample(range(1, cards), revoked)
    return StatusList.build(
        site_id=_SITE,
        version=1,
        issued_at=now,
        expires_at=now + timedelta(days=7),
        size=cards,
        statuses=dict.fromkeys(lot, Status.INVALID),
    )


def decide_us(size: int) -> float:
    """The median time of a decision about somebody who is listed, policy and list as they are read."""
    now = datetime.now(UTC)
    policy = large_policy(size, now=now, issuers={"A" * 16: b""})
    revocations = status_list(2 * REVOKED, REVOKED, now=now)
    clock = ClockReading(at=now, trusted=True)
    spent_ns = []
    people = list(policy.entitlements)
    for credential_id in secrets.SystemRandom().choices(people, k=2_000):
        credential = VerifiedCredential(
            credential_id=credential_id,
            technology=Technology.PKOC_V2,
            issuer="A" * 16,
            valid_from=now.date() - timedelta(days=1),
            valid_until=now.date() + timedelta(days=1),
        )
        begun_ns = time.perf_counter_ns()
        decide(credential, _DOOR, Side.ENTRY, policy=policy, revocations=revocations, clock=clock)
        spent_ns.append(time.perf_counter_ns() - begun_ns)
    return median(spent_ns) / 1e3


def status_list_bytes(cards: int, revoked: int) -> tuple[int, int]:
    """Bytes of a signed list, and of the MQTT payloads that carry it."""
    sealed = status_list(cards, revoked, now=datetime.now(UTC)).seal(Ed25519PrivateKey.generate())
    return len(sealed), sum(
        len(bytes(chunk)) for chunk in split_document(DocumentKind.REVOCATIONS, 1, sealed)
    )


def _at_a_door(directory: Path) -> dict[str, float]:
    now = datetime.now(UTC)
    site = create_site(directory / "site", _SITE, now=now)
    passphrase = site.passphrase()
    signer = read_key(site.directory / "policy.key.pem", passphrase)
    if not isinstance(signer, Ed25519PrivateKey):
        raise TypeError("an Ed25519 policy key expected")
    made = add_controller(
        site,
        site.authority(passphrase),
        _CONTROLLER,
        [DoorWiring(id=_DOOR, device=str(directory / "reader"))],
        now=now,
        pins="mock",
        broker_host="localhost",
        broker_port=9,
    )
    issuers = {site.issuer: encode_point(site.card_issuer_public_key())}
    policy = large_policy(SIZES[-1], now=now, issuers=issuers)
    documents = directory / "documents"
    documents.mkdir()
    for version in range(1, _VERSIONS + 1):
        sealed = bundle.seal(replace(policy, version=version), signer)
        (documents / f"policy-{version:03}").write_bytes(sealed)
    listed = status_list(2 * REVOKED, REVOKED, now=now).seal(signer)
    (documents / "revocations").write_bytes(listed)
    figures: dict[str, float] = {
        "policy.bundle_bytes": len(sealed),
        "policy.bundle_mqtt_chunks": len(split_document(DocumentKind.POLICY, 1, sealed)),
        "policy.status_list_bytes_200000": len(listed),
    }
    arguments = [str(made.directory / "controller.toml"), str(documents)]
    figures |= _child("hold", arguments)
    card = new_v2_card(
        issuer_key=site.card_issuer_key(passphrase),
        issuer=site.issuer,
        credential_id=_HOLDER,
        valid_from=now.date() - timedelta(days=1),
        valid_until=now.date() + timedelta(days=365),
    )
    return figures | _taps(arguments, card, directory / "reader")


def _child(part: str, arguments: list[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.policy_door", part, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_WITHIN_S)  # noqa: S603 - ours
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _taps(arguments: list[str], card: VirtualCard, link: Path) -> dict[str, float]:
    """From the card in the field to the strike, at rest and while one large bundle after the other is loaded."""
    with (
        Pn532Process(link=link) as reader,
        subprocess.Popen(  # noqa: S603 - ours
            [sys.executable, "-m", "bench.policy_door", "run", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as door,
    ):
        given_up = threading.Timer(4 * _WITHIN_S, door.kill)
        given_up.start()
        try:
            heard = _Heard(door)
            heard.wait("ready")
            idle = _tap_ms(reader, card, heard, count=_TAPS)
            heard.tell("load")
            heard.wait("loaded_s")
            loading = _tap_ms(reader, card, heard, count=_TAPS)
            heard.tell("rest")
            again = _tap_ms(reader, card, heard, count=_TAPS)
            heard.tell("examine")
            heard.wait("examined_s")
            examining = _tap_ms(reader, card, heard, count=_TAPS)
            heard.tell("rest")
            again += _tap_ms(reader, card, heard, count=_TAPS)
        finally:
            given_up.cancel()
            door.terminate()
    cuts, examining_cuts, idle_cuts = (
        quantiles(found, n=20, method="inclusive") for found in (loading, examining, idle + again)
    )
    return {
        "policy.load_s": median(heard.loaded_s),
        "policy.loads": len(heard.loaded_s),
        "policy.tap_idle_p50_ms": idle_cuts[9],
        "policy.tap_idle_p95_ms": idle_cuts[18],
        "policy.tap_loading_p50_ms": cuts[9],
        "policy.tap_loading_p95_ms": cuts[18],
        "policy.tap_loading_over_idle_p50": cuts[9] / idle_cuts[9],
        "policy.tap_loading_over_idle_p95": cuts[18] / idle_cuts[18],
        "policy.examination_s": median(heard.examined_s),
        "policy.examinations": len(heard.examined_s),
        "policy.tap_examining_p50_ms": examining_cuts[9],
        "policy.tap_examining_p95_ms": examining_cuts[18],
        "policy.tap_examining_over_idle_p50": examining_cuts[9] / idle_cuts[9],
        "policy.tap_examining_over_idle_p95": examining_cuts[18] / idle_cuts[18],
    }


class _Heard:
    """What the door says, line by line."""

    def __init__(self, door: subprocess.Popen[str]) -> None:
        self._door = door
        self.loaded_s: list[float] = []
        self.examined_s: list[float] = []

    def tell(self, order: str) -> None:
        stdin = self._door.stdin
        if stdin is None:
            raise RuntimeError("the door does not listen")
        stdin.write(order + "\n")
        stdin.flush()

    def wait(self, what: str) -> Any:
        stdout = self._door.stdout
        for line in stdout or ():
            said = json.loads(line)
            if "loaded_s" in said:
                self.loaded_s.append(said["loaded_s"])
            if "examined_s" in said:
                self.examined_s.append(said["examined_s"])
            if what in said:
                if said[what] is None:
                    raise RuntimeError(f"{said} where a grant was due")
                return said[what]
        raise RuntimeError("the door has ended")


def _tap_ms(reader: Pn532Process, card: VirtualCard, heard: _Heard, *, count: int) -> list[float]:
    found = []
    for _ in range(count + 5):
        inserted_ns = reader.insert(card, LinkOptions(uid=b"\x04" + secrets.token_bytes(6)))
        try:
            struck_ns = heard.wait("struck_ns")
        finally:
            reader.remove()
        found.append((struck_ns - inserted_ns) / 1e6)
        time.sleep(0.12)  # the lock falls, the reader sees the field empty
    return found[5:]
