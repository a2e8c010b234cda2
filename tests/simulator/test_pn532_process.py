"""The virtual PN532 as a process: its orders, its reports, and its times against the floor."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pacs.identifiers import CredentialId
from simulator import airtime
from simulator.link_faults import LinkFault, LinkOptions
from simulator.pn532 import ReaderFault
from simulator.pn532_process import ApduReport, Pn532Process
from simulator.rf_link import AnswerToSelect
from simulator.virtual_card import ReplayingCard, VirtualCard, new_v2_card
from tests.simulator.pn532_host import TYPE_A, BareHost, nfcpy_frontend

SELECT = bytes.fromhex("00a4040008a00000089800000100")
CERTIFICATE = bytes.fromhex("00ca7f2100")
SIGN = bytes.fromhex("0088000020") + bytes(range(32)) + b"\x00"


@pytest.fixture(scope="module")
def card() -> VirtualCard:
    """A genuine card with a certificate of 248 bytes, signing in 33 ms."""
    return new_v2_card(
        issuer_key=ec.generate_private_key(ec.SECP256R1()),
        issuer="DREMPELTESTISSUE",
        credential_id=CredentialId(UUID(int=7).bytes),
        valid_from=date(2025, 1, 1),
        valid_until=date(2026, 1, 1),
    )


@pytest.fixture
def fast() -> Iterator[Pn532Process]:
    """A process without waits."""
    with Pn532Process(timing="none") as process:
        yield process


def test_nfcpy_reads_a_card_in_another_process(fast: Pn532Process, card: VirtualCard) -> None:
    """A card is inserted and removed by orders, their instants are this machine's monotonic clock."""
    with nfcpy_frontend(fast.path) as frontend:
        assert frontend.sense(TYPE_A) is None
        before_ns = time.monotonic_ns()
        inserted_ns = fast.insert(card, LinkOptions(uid=bytes.fromhex("01020304")))
        assert before_ns < inserted_ns < time.monotonic_ns()
        assert frontend.sense(TYPE_A).sdd_res == bytes.fromhex("01020304")
        removed_ns, _ = fast.remove()
        assert inserted_ns < removed_ns < time.monotonic_ns()
        assert frontend.sense(TYPE_A) is None


def test_the_card_comes_back_as_it_left(fast: Pn532Process, card: VirtualCard) -> None:
    """What a card has become in the field, here its recording, is in the report of its removal."""
    replaying = ReplayingCard.restore(card.state() | {"recorded": ""})
    with closing(BareHost(fast.path)) as host:
        host.wake()
        host.command(b"\x12\x00")
        fast.insert(replaying)
        host.activate()
        _, number = host.apdu(SELECT, 0)
        signature, _ = host.apdu(SIGN, number)
    _, left = fast.remove()
    assert isinstance(left, ReplayingCard)
    assert left.recorded == signature[2:-2]
    assert fast.remove()[1] is None


def test_faults_by_order(fast: Pn532Process, card: VirtualCard) -> None:
    """Reader faults and link faults are had by name from outside."""
    with closing(BareHost(fast.path)) as host:
        host.wake()
        fast.fault(ReaderFault.DEAF, times=1)
        host.send(bytes.fromhex("0000ff02fed4022a00"))
        assert host.frame(0.05) is None
        host.command(b"\x12\x00")
        fast.insert(card, LinkOptions(fault=LinkFault.ENDLESS_WAIT))
        host.activate()
        assert host.communicate(b"\x02" + SELECT) == (0, b"\xf2\x01")
        fast.insert(card, LinkOptions(pulled_after_ms=1))
        assert fast.remove()[1] is not None


def test_plugged_in_again_under_its_link(tmp_path: Path) -> None:
    """The link follows the terminal; it goes when the process does, told to stop or not."""
    link = tmp_path / "reader"
    with Pn532Process(timing="none", link=link) as process:
        process.fault(ReaderFault.UNPLUG)
        assert process.path == ""
        process.fault(ReaderFault.PLUG)
        assert str(link.readlink()) == process.path
        with closing(BareHost(str(link))) as host:
            host.wake()
    assert not link.is_symlink()
    with Pn532Process(timing="none", link=link) as process:
        os.kill(process.pid, 15)
        deadline = time.monotonic() + 10
        while link.is_symlink() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not link.is_symlink()
        with pytest.raises(RuntimeError, match="ended"):
            process.remove()


@pytest.mark.parametrize("place", ["taken", "absent/link"])
def test_no_file_is_lost_to_a_link(tmp_path: Path, place: str) -> None:
    """What is no link is left alone, also beside it; that, and a directory that is not there, are one line and status 1."""
    for name in ("taken", "taken.new"):
        (tmp_path / name).write_text("kept")
    arguments = [sys.executable, "-m", "simulator.pn532_process", f"--link={tmp_path / place}"]
    ended = subprocess.run(arguments, capture_output=True, text=True, input="", timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert str(tmp_path / place) in ended.stderr
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "taken": "kept",
        "taken.new": "kept",
    }


def test_wrong_orders_are_refused_and_survived() -> None:
    """Every line gets a line; what is no order gets an error."""
    orders = [
        "",
        "x",
        "[]",
        '{"insert": {}}',
        '{"insert": 1}',
        '{"fault": "unheard_of"}',
        '{"remove": true, "link": 1}',
    ]
    orders += ['{"fault": "deaf", "times": "often"}', '{"remove": true}']
    done = subprocess.run(
        [sys.executable, "-m", "simulator.pn532_process"],
        input="\n".join(orders) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, *reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert first["path"].startswith("/dev/pts/")
    assert [next(iter(report)) for report in reports] == ["error"] * 8 + ["removed"]
    assert done.stderr == ""


def cpu_s(pid: int) -> float:
    """Processor time a process has had: fields 14 and 15 of proc(5)'s stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_idle_costs_nothing(fast: Pn532Process) -> None:
    """Waiting in an endless search, the process takes next to no processor time."""
    with closing(BareHost(fast.path)) as host:
        host.wake()
        host.start(bytes.fromhex("4a0100"))
        before_s = cpu_s(fast.pid)
        assert host.frame(1.0) is None
        assert cpu_s(fast.pid) - before_s <= 0.1


@pytest.mark.parametrize(
    ("baud", "code", "options"),
    [
        (921_600, 7, LinkOptions()),
        (115_200, 4, LinkOptions(uid=bytes.fromhex("01020304"))),
        (921_600, 7, LinkOptions(ats=AnswerToSelect(fwi=5, fsci=2, historical=b"chained and slow"))),
    ],
    ids=["921600", "115200", "waits and short frames"],
)
def test_no_tap_beats_the_floor(card: VirtualCard, baud: int, code: int, options: LinkOptions) -> None:
    """The floor of the very bytes exchanged is below every tap through the modelled reader, and the best is close."""
    reports: queue.SimpleQueue[ApduReport] = queue.SimpleQueue()
    ratios = []
    fsc = airtime.FRAME_SIZES[options.ats.fsci]
    with (
        Pn532Process(timing="realistic", on_apdu=reports.put) as process,
        closing(BareHost(process.path)) as host,
    ):
        host.wake()
        host.command(b"\x12\x00")
        host.speed(baud, code)
        for _ in range(4):
            host.start(bytes.fromhex("4a0100"))
            started_ns = process.insert(card, options)
            assert host.finish()[0] == 1
            status, ats = host.communicate(b"\xe0\x80")
            assert (status, ats) == (0, bytes(options.ats))
            number, exchanges = 0, []
            for command in (SELECT, CERTIFICATE, SIGN):
                answer, number = host.apdu(command, number, fsc=fsc)
                exchanges.append((command, answer))
                assert answer[-2:] == b"\x90\x00"
            spent_ms = (time.monotonic_ns() - started_ns) / 1e6
            seen = [reports.get(timeout=20) for _ in exchanges]
            assert [(report.command, report.answer) for report in seen] == exchanges
            assert [report.computing_ms for report in seen] == [0.0, 0.0, 33.0]
            assert started_ns < seen[0].sent_ns < seen[1].sent_ns < seen[2].sent_ns
            floor = airtime.tap_floor(
                exchanges,
                uid_length=len(options.uid),
                baud=baud,
                computing_ms=[report.computing_ms for report in seen],
                ats_length=len(ats),
                fsc=fsc,
                fwi=options.ats.fwi,
            )
            assert (seen[2].sent_ns - started_ns) / 1e6 >= floor.total
            ratios.append(spent_ms / floor.total)
            process.remove()
            host.command(bytes.fromhex("320100"))
    assert min(ratios) < 2.0, ratios
