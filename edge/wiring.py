"""Where a controller's parts are put together, run, and ended.

What no first tap needs is imported by the thread that uses it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from edge import watchdog
from edge.clock import BUILT, Clock, utc_now
from edge.command_intake import CommandIntake
from edge.config import Backend, Config, ReaderConfig
from edge.controller import DoorController
from edge.door_io import DoorIo, open_pins
from edge.door_state import DoorState
from edge.ending import Ending, stop_together
from edge.examination import Examination
from edge.finding import Finding
from edge.inputs import DocumentAccepted, DocumentRefused, Input, PartFailed, Started, Stopping
from edge.journal import Journal
from edge.journal_opening import open_journal
from edge.keystore import Keystore, in_force, read_certificate, read_policy_keys, read_root_keys
from edge.late_uplink import LateUplink
from edge.nfc.pn532 import Pn532
from edge.nfc.reader import Antenna, Reader, ReaderSettings
from edge.order_store import Receiver
from edge.policy_store import PolicyStore
from edge.reporting import Reported, Reporter
from edge.service import Service, Trace
from edge.signers import Signers
from edge.snapshot import ControllerSnapshot
from edge.state_dir import make_state_dir
from edge.status_socket import StatusServer
from edge.timetable import Timetable
from pacs.card.p256 import parse_point
from pacs.card.pkoc import reader_identifier
from pacs.commands import ID_BYTES
from pacs.credential import TrustAnchors
from pacs.identifiers import DoorId
from pacs.messages import Report
from pacs.rules import Side

if TYPE_CHECKING:
    from edge.uplink import Uplink

Readers: TypeAlias = Mapping[tuple[DoorId, Side], Reader]

SWITCH_INTERVAL_S: Final = 0.0005
"""How long one thread may keep another from the interpreter; the default of 5 ms is a whole phase of a tap."""


class _Part(Protocol):
    """What is started, and stopped with the others."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


def run_controller(
    config: Config,
    *,
    factory: Any = None,
    on_trace: Callable[[Trace], None] | None = None,
    on_ready: Callable[[], None] = lambda: None,
    wall: Callable[[], datetime] | None = None,
) -> None:
    """Run until SIGTERM or SIGINT, in the main thread; then every strike is locked and every event durable.

    ``factory``: a gpiozero pin factory in place of the configured one. ``on_ready``: the readers are on their way.
    ``wall``: the wall clock in place of the machine's. Raises ``PacsError`` when it cannot start. Where a disk or
    a broker hangs at the end, the process ends by itself after ``edge.ending.END_AFTER_S``.
    """
    wall = wall or utc_now
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    watchdog.tell("STATUS=starting")
    make_state_dir(config.state_dir)

    def put(happened: Input) -> None:
        service.put(happened)

    inputs: SimpleQueue[Input] = SimpleQueue()  # there before the first pin can report
    with contextlib.ExitStack() as parts:
        ending = Ending(partial(inputs.put, Stopping()))
        parts.callback(ending.over)
        ending.handle(signal.SIGTERM, signal.SIGINT)
        doors = DoorIo(
            config.doors,
            factory=factory or open_pins(config.pins, config.state_dir),
            put=inputs.put,
            fire=config.fire,
        )
        parts.callback(_close_doors, doors, ending)
        ending.lock = doors.lock_all
        signers = Signers(
            read_policy_keys(config.keys.policy_public_key),
            partial(read_root_keys, config.keys.root_certificate),
        )
        store = PolicyStore(config.state_dir / "policy", site_id=config.site_id, signers=signers)
        journal = open_journal(
            config.state_dir / "journal", controller_id=config.controller_id, policy=config.journal
        )
        parts.callback(journal.close)
        clock = _clock(config, journal, store, wall)
        receiver = Receiver(
            site_id=config.site_id,
            controller_id=config.controller_id,
            door_ids=frozenset(door.id for door in config.doors),
            signers=signers,
        )
        commands = CommandIntake(
            config.state_dir / "commands",
            receiver,
            clock=clock,
            put=put,
            first_start=journal.opening.created,
        )
        controller = DoorController(
            [DoorState(door.id, has_contact=door.contact_pin is not None) for door in config.doors],
            draw=partial(secrets.token_bytes, ID_BYTES),
            policy=store.held.policy,
            revocations=store.held.revocations,
            orders=commands.orders,
        )
        readers = _readers(config, put, doors.reset, wall)
        said = _Said(
            clock=clock,
            journal=journal,
            store=store,
            controller=controller,
            commands=commands,
            snapshot=lambda: reporter.latest,
            in_memory=lambda: service.in_memory,
            report=lambda: examination.latest,
        )
        examination = Examination(
            partial(_examine_itself, config, wall), private=lambda: controller.private_doors, clock=wall
        )
        uplink = LateUplink(partial(_uplink, config, said, put), put)
        adopt = Trust(readers.values())
        adopt(store.held.policy.issuers if store.held.policy else {})  # before the first card
        answers = StatusServer(config.state_dir)
        reporter = Reporter(
            Reported(
                config=config,
                software=software(),
                clock=clock,
                doors=controller,
                journal=journal,
                store=store,
                link=uplink.link,
                certificate=uplink.certificate,
                readers=readers,
            ),
            guard=guard_of(readers, doors.timetable, config.state_dir),
            publish=answers.publish,
        )
        service = Service(
            controller,
            clock=clock,
            journal=journal,
            doors=doors,
            documents=store,
            commands=commands,
            notify=uplink.notify,
            adopt=adopt,
            examine=examination.ask,
            on_tick=reporter.turn,
            on_trace=on_trace,
            queue=inputs,
            journal_policy=config.journal,
        )
        _tell_found(store, put)
        doors.start()
        begun: list[_Part] = [*readers.values(), commands, uplink, answers, examination]
        parts.callback(stop_together, [part.stop for part in begun])
        parts.callback(doors.close)  # first of all
        parts.callback(ending.begin)
        for part in begun:
            part.start()
        watchdog.tell("READY=1")
        on_ready()
        opening = journal.opening
        gc.freeze()  # what is loaded stays: no collection has to walk through it
        started = Started(
            details={"software": software(), "unclean": opening.unclean, "new_journal": opening.created}
        )
        service.run(started, opening.gaps)


def _clock(config: Config, journal: Journal, store: PolicyStore, wall: Callable[[], datetime]) -> Clock:
    synchronised: Callable[[], bool | None] | None = None
    if config.require_sync:
        from edge.time_sync import is_synchronised

        synchronised = is_synchronised
    clock = Clock(BUILT, journalled=journal.newest_trusted_time(), synchronised=synchronised, wall=wall)
    if issued := [document.issued_at for document in store.held.documents]:
        clock.issued(max(issued))
    return clock


def _close_doors(doors: DoorIo, ending: Ending) -> None:
    try:
        doors.close()
    finally:
        ending.lock = lambda: None


def _tell_found(store: PolicyStore, put: Callable[[Input], None]) -> None:
    """What is held is confirmed at every start: a confirmation that was lost would never come otherwise."""
    for unusable in store.unusable:
        put(DocumentRefused(kind=unusable.kind, reason=unusable.reason))
    if store.versions_lost:
        put(PartFailed(part="versions", error="unreadable"))
    if store.statement_lost:
        put(PartFailed(part="key_statement", error="unreadable"))
    held = store.held
    for kind, version in store.versions.items():
        if version:
            put(
                DocumentAccepted(
                    kind=kind,
                    version=version,
                    digest=held.digest(kind),
                    policy=held.policy,
                    revocations=held.revocations,
                )
            )


def guard_of(readers: Readers, timetable: Timetable, state_dir: Path) -> watchdog.Watchdog:
    """Watches every thread that reads cards, and the one that locks doors.

    What a restart has to find is kept in the service's RUNTIME_DIRECTORY, or in ``state_dir`` where there is none.
    """
    return watchdog.Watchdog(
        {"timetable": timetable},
        readers={f"reader {door}/{side}": reader for (door, side), reader in readers.items()},
        memory=Path(os.environ.get("RUNTIME_DIRECTORY") or state_dir) / "restarted-for",
        is_sound=lambda: not timetable.failed,
        within_s=watchdog.interval_s(),
    )


class Trust:
    """Gives every reader the issuers of the policy; readers keep what they have verified while these stay."""

    def __init__(self, readers: Iterable[Reader]) -> None:
        self._readers = tuple(readers)
        self._issuers: Mapping[str, bytes] = {}

    def __call__(self, issuers: Mapping[str, bytes]) -> None:
        """Raises ``MalformedData`` when a key is not a point of the curve; everything then stays as it was."""
        if issuers == self._issuers:
            return
        anchors = TrustAnchors(issuers={issuer: parse_point(point) for issuer, point in issuers.items()})
        for reader in self._readers:
            reader.trust(anchors)
        self._issuers = issuers


def antenna_of(reader: ReaderConfig) -> Antenna:
    """The hardware behind a reader, closed."""
    if reader.backend is Backend.PCSC:
        from edge.nfc.pcsc import Pcsc

        return Pcsc(str(reader.device))
    return Pn532(str(reader.device), max_baud=reader.baud)


def _readers(
    config: Config, put: Callable[[Any], None], reset: Callable[..., None], wall: Callable[[], datetime]
) -> Readers:
    return {
        (door.id, reader.side): Reader(
            antenna_of(reader),
            door_id=door.id,
            side=reader.side,
            reader_identifier=reader_identifier(config.site_id, f"{door.id}/{reader.side}"),
            trust=TrustAnchors(issuers={}),
            put=put,
            now=wall,
            settings=ReaderSettings(allow_v1=True),  # whether V1 opens this door is the policy's matter
            reset=partial(reset, door.id, reader.side),
        )
        for door in config.doors
        for reader in door.readers
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What heartbeats are made from."""

    clock: Clock
    journal: Journal
    store: PolicyStore
    controller: DoorController
    commands: CommandIntake
    snapshot: Callable[[], ControllerSnapshot | None]
    in_memory: Callable[[], int]
    report: Callable[[], Report | None]


def _examine_itself(config: Config, wall: Callable[[], datetime]) -> Iterable[Finding]:
    from edge.doctor import examine_itself

    return examine_itself(config, now=wall())


def _uplink(config: Config, said: _Said, put: Callable[[Any], None]) -> Uplink:
    """Raises ``StoreError`` when a key of the controller cannot be used: its doors work all the same."""
    from edge.heartbeat import Heartbeat
    from edge.renewal import Renewal
    from edge.uplink import Counts, Uplink, UplinkSettings

    counts = Counts()
    keystore = Keystore.open(config.keys, config.controller_id)
    renewal = Renewal(keystore, config.controller_id, lambda: said.clock.now().clock.at)
    heartbeat = Heartbeat(
        config.state_dir,
        clock=said.clock,
        journal=said.journal,
        cards=said.controller,
        versions=lambda: said.store.versions,
        snapshot=said.snapshot,
        counts=counts,
        refused_commands=lambda: said.commands.counts,
        in_memory=said.in_memory,
        certificate=lambda: renewal.connected_with,
    )
    settings = UplinkSettings(
        host=config.hub_host,
        port=config.hub_port,
        controller_id=config.controller_id,
        software=software(),
    )
    return Uplink(
        settings,
        journal=said.journal,
        event_key=keystore.event_key,
        tls_context=lambda: renewal.tls_context(time.monotonic()),
        renewal=renewal,
        put=put,
        status=heartbeat.status,
        counts=counts,
        standing=heartbeat.standing,
        report=said.report,
        has_expired=lambda: (
            read_certificate(in_force(config.keys).device_certificate).not_valid_after_utc <= utc_now()
        ),
    )


def software() -> str:
    """Name and version, as told to the hub."""
    return f"drempel {importlib.metadata.version('drempel')}"
