"""A tap as somebody may see it: with names, or without anything that says who."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from hub.api import fields
from hub.api.fields import Answer
from hub.store import directory, doors, sites
from hub.store.events import StoredEvent
from pacs.events import EventKind
from pacs.reason import Reason
from pacs.rules import Side


class EventAnswer(Answer):
    """One stored event; ``id`` is the order of arrival. Who it was is null for those who may not see names.

    ``occurred_at`` is the controller's clock, to be trusted when ``clock_trusted``; of a ``coarse`` one the hour is all that is kept.
    """

    id: int
    kind: EventKind
    occurred_at: datetime
    clock_trusted: bool
    coarse: bool
    received_at: datetime
    site_id: fields.Site
    controller_id: fields.Controller
    journal_id: str
    sequence: int
    door_id: fields.Door | None
    door_name: str | None
    side: Side | None
    reason: Reason | None
    credential_id: fields.Credential | None
    cardholder_id: fields.Cardholder | None
    person: str | None

    def without_names(self) -> EventAnswer:
        """The same event, saying nothing about who."""
        return self.model_copy(update={"credential_id": None, "cardholder_id": None, "person": None})


def answers(connection: Connection, events: Sequence[StoredEvent]) -> list[EventAnswer]:
    """Stored events with the names of doors and people."""
    people = directory.names_of(connection, (each.cardholder_id for each in events if each.cardholder_id))
    door_names = doors.names(connection, {each.door_id for each in events if each.door_id})
    site_of = sites.of_controllers(connection)
    return [
        EventAnswer(
            id=each.id,
            kind=each.kind,
            occurred_at=each.occurred_at,
            clock_trusted=each.clock_trusted,
            coarse=each.coarse,
            received_at=each.received_at,
            site_id=site_of[each.controller_id],
            controller_id=each.controller_id,
            journal_id=each.journal_id,
            sequence=each.sequence,
            door_id=each.door_id,
            door_name=door_names.get(each.door_id) if each.door_id else None,
            side=each.side,
            reason=each.reason,
            credential_id=each.credential_id,
            cardholder_id=each.cardholder_id,
            person=people.get(each.cardholder_id) if each.cardholder_id else None,
        )
        for each in events
    ]
