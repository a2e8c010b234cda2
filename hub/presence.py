"""What controllers say of themselves: hello, heartbeat and last will, as part of a ``hub.record.Recording``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from typing import Any

from hub.fit import UNKNOWN_HASH
from hub.record import Recording
from hub.store import controllers, device_certificates, documents
from hub.store.journals import Anomaly, AnomalyKind, Head
from pacs.health import ControllerHealth
from pacs.identifiers import ControllerId
from pacs.messages import ControllerStatus, DocumentKind, Hello


def hello(recording: Recording, controller_id: ControllerId, hello: Hello, *, is_repeated: bool) -> None:
    """A controller connected: take note of what it holds, and of what it can no longer send."""
    head = recording.head(controller_id, hello.journal_id, recording.now, first=hello.first_sequence)
    if hello.first_sequence > head.sequence + 1:
        head = _events_missing(recording, head, hello.first_sequence)
    elif hello.last_sequence < head.sequence and not is_repeated:
        recording.note(
            Anomaly(
                controller_id=controller_id,
                journal_id=hello.journal_id,
                kind=AnomalyKind.JOURNAL_BEHIND,
                detail=f"it has {hello.last_sequence} events, {head.sequence} are stored",
                at=recording.now,
                has_hole=True,  # what it records from now on has numbers that are taken, until it begins another journal
                unknown_from=controllers.state(
                    recording.connection, controller_id, recording.now
                ).complete_until,
            )
        )
    recording.to_acknowledge[controller_id, hello.journal_id] = None
    _note_state(
        recording,
        controller_id,
        hello.versions,
        is_hello=True,
        is_repeated=is_repeated,
        is_all_stored=hello.last_sequence <= head.sequence,
        journal_id=hello.journal_id,
        first_sequence=hello.first_sequence,
        last_sequence=hello.last_sequence,
        software=hello.software,
        hello_at=recording.now,
    )


def status(
    recording: Recording, controller_id: ControllerId, status: ControllerStatus, *, is_repeated: bool
) -> None:
    """A heartbeat, or the broker's word that the connection is gone."""
    if not status.online:
        recording.offline(controller_id)
        return
    if status.certificate is not None:
        recording.certificates_changed |= device_certificates.in_use(
            recording.connection,
            controller_id,
            status.certificate,
            recording.now,
            ends=status.certificate_ends,
        )
    head = recording.known_head(controller_id, status.journal_id) if status.journal_id else None
    held_through = status.last_sequence + status.withheld_count
    _note_state(
        recording,
        controller_id,
        status.versions,
        is_hello=False,
        is_repeated=is_repeated,
        is_all_stored=head is not None and held_through <= head.sequence,
        clock_trusted=status.clock_trusted,
        unread_count=status.unread_count,
        broken_readers=list(status.broken_readers),
        **({"health": shown_health(status.health)} if status.health else {}),
    )
    if status.journal_id is None:
        return
    controllers.said(
        recording.connection, controller_id, journal_id=status.journal_id, last_sequence=held_through
    )
    if head is not None:
        if status.clock_trusted and status.sent_at <= recording.now:
            said_at = status.sent_at
        else:
            said_at = recording.now
        if said_at is not recording.now or not is_repeated:  # an old message proves nothing of this moment
            controllers.stored_up_to(
                recording.connection, controller_id, status.journal_id, head.sequence, said_at
            )
        # also when there is nothing new: a controller knows by it that somebody is here to be asked
        recording.to_acknowledge[controller_id, status.journal_id] = None


def shown_health(health: ControllerHealth) -> dict[str, Any]:
    """As it is stored, and as the interface shows it: JSON values only."""
    return {
        **asdict(health),
        "doors": [{**asdict(door), "door_id": str(door.door_id)} for door in health.doors],
        "readers": [asdict(reader) for reader in health.readers],
    }


def _note_state(
    recording: Recording,
    controller_id: ControllerId,
    versions: Mapping[DocumentKind, int],
    *,
    is_hello: bool,
    is_repeated: bool,
    is_all_stored: bool,
    **facts: Any,
) -> None:
    recording.changed[controller_id] = None
    recording.alive(controller_id)
    unproven: Collection[DocumentKind] = ()
    if is_all_stored and not is_repeated:  # a confirmation that is on its way is not missing
        unproven = documents.unproven(recording.connection, controller_id, versions)
    recording.told.append(
        lambda documents: documents.said(controller_id, versions, hello=is_hello, unproven=unproven)
    )
    controllers.said(
        recording.connection,
        controller_id,
        policy_version=versions.get(DocumentKind.POLICY, 0),
        revocations_version=versions.get(DocumentKind.REVOCATIONS, 0),
        **facts,
    )
    if not is_repeated:  # an old message told again says nothing about what is enforced by now
        for kind, version in versions.items():
            documents.withdraw(recording.connection, controller_id, kind, above=version)


def _events_missing(recording: Recording, head: Head, first: int) -> Head:
    """The controller no longer has what the hub lacks: go on behind the gap, which stays on record."""
    recording.note(
        Anomaly(
            controller_id=head.controller_id,
            journal_id=head.journal_id,
            kind=AnomalyKind.EVENTS_MISSING,
            detail=f"events {head.sequence + 1} to {first - 1} are nowhere",
            at=recording.now,
            first_sequence=head.sequence + 1,
            last_sequence=first - 1,
            has_hole=True,
            unknown_from=controllers.state(
                recording.connection, head.controller_id, recording.now
            ).complete_until,
            unknown_until=recording.now,
        )
    )
    head = replace(head, sequence=first - 1, hash=UNKNOWN_HASH)
    recording.heads[head.controller_id, head.journal_id] = head
    return head
