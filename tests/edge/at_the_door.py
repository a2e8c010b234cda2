"""What happens at the doors of the small site, and what a controller answers: the words its tests are written in."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from edge.controller import DoorController
from edge.door_state import DoorState
from edge.effects import Effect, Record, ReleaseStrike
from edge.inputs import (
    CardClaimed,
    CardPresented,
    CardRefused,
    CommandAccepted,
    ContactChanged,
    DocumentAccepted,
    Now,
    Tick,
)
from pacs.commands import Action, Command
from pacs.events import Detail, EventDraft, EventKind
from pacs.identifiers import CredentialId, DoorId, OperatorId
from pacs.messages import DocumentKind
from pacs.reason import Reason
from pacs.rules import Side
from pacs.situation import ModeOrder
from tests.edge.small_site import (
    ATTENDED,
    BACK,
    CONTROLLER,
    FRONT,
    NOON,
    RESIDENT,
    SITE,
    credential,
    now,
    policy,
    revocations,
)

DIGEST = bytes(8)
_COMMANDS = itertools.count(1)
REQUEST = (1).to_bytes(16)
"""That of the first referral."""


def make(
    *,
    has_contact: bool = True,
    has_policy: bool = True,
    orders: Mapping[DoorId, ModeOrder] | None = None,
    **rules: Any,
) -> DoorController:
    """A controller of two doors, holding the documents of the small site; requests are numbered from 1."""
    numbers = itertools.count(1)
    return DoorController(
        [DoorState(FRONT, has_contact=has_contact), DoorState(BACK, has_contact=has_contact)],
        draw=lambda: next(numbers).to_bytes(16),
        policy=policy(**rules) if has_policy else None,
        revocations=revocations() if has_policy else None,
        orders=orders,
    )


def presented(who: CredentialId = RESIDENT, *, at: DoorId = FRONT, side: Side = Side.ENTRY) -> CardPresented:
    return CardPresented(door_id=at, side=side, credential=credential(who))


def refused(reason: Reason = Reason.CERTIFICATE_FORGED, *, side: Side = Side.ENTRY) -> CardRefused:
    return CardRefused(door_id=FRONT, side=side, reason=reason, credential_id=RESIDENT, technology=None)


def drafts(effects: list[Effect]) -> list[EventDraft]:
    return [effect.draft for effect in effects if isinstance(effect, Record)]


def kinds(effects: list[Effect]) -> list[EventKind]:
    return [draft.kind for draft in drafts(effects)]


def shape(effects: list[Effect]) -> list[type[Effect]]:
    return [type(effect) for effect in effects]


def opened(at: DoorId = FRONT, *, is_open: bool = True) -> ContactChanged:
    return ContactChanged(door_id=at, open=is_open)


def closed_door(**rules: Any) -> DoorController:
    """A controller whose contacts have reported closed doors."""
    controller = make(**rules)
    for at in (FRONT, BACK):
        controller.on(opened(at, is_open=False), now())
    return controller


def ticked(controller: DoorController, after_s: float, **more: Any) -> list[Effect]:
    """What the passing of time alone brings about."""
    return controller.on(Tick(), now(after_s, **more))


def released(effects: list[Effect]) -> list[int]:
    """For how long each strike is released, in order."""
    return [effect.unlock_ms for effect in effects if isinstance(effect, ReleaseStrike)]


def reasons(effects: list[Effect]) -> list[Reason | None]:
    """Those of the events, in order."""
    return [draft.reason for draft in drafts(effects)]


def details(effects: list[Effect], kind: EventKind) -> list[Mapping[str, Detail]]:
    """Those of the events of this kind."""
    return [draft.details for draft in drafts(effects) if draft.kind is kind]


def commanded(
    action: Action, at: DoorId = FRONT, *, issued_at: datetime = NOON, **more: Any
) -> CommandAccepted:
    """A command with an id of its own."""
    return CommandAccepted(
        command=Command(
            command_id=next(_COMMANDS).to_bytes(16),
            site_id=SITE,
            controller_id=CONTROLLER,
            door_id=at,
            action=action,
            issued_at=issued_at,
            expires_at=issued_at + timedelta(minutes=5),
            operator_id=OperatorId("op-1"),
            **more,
        )
    )


def answered(
    action: Action, *, request: bytes = REQUEST, who: CredentialId = ATTENDED, at: DoorId = FRONT
) -> CommandAccepted:
    """An answer to a referral."""
    return commanded(action, at, request_id=request, credential_id=who)


def accept(controller: DoorController, at: Now, **rules: Any) -> list[Effect]:
    return controller.on(
        DocumentAccepted(
            kind=DocumentKind.POLICY,
            version=2,
            digest=DIGEST,
            policy=policy(version=2, **rules),
            revocations=revocations(),
        ),
        at,
    )


def claimed(who: CredentialId = RESIDENT, *, at: DoorId = FRONT, side: Side = Side.ENTRY) -> CardClaimed:
    return CardClaimed(door_id=at, side=side, credential=credential(who))


def accepted(**rules: Any) -> DocumentAccepted:
    return DocumentAccepted(
        kind=DocumentKind.POLICY,
        version=2,
        digest=DIGEST,
        policy=policy(**rules),
        revocations=revocations(),
    )
