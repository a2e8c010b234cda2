"""The fields of requests and answers that several resources share, checked one by one.

Ids follow ``pacs.identifiers``; names are text that people read, never parsed. Unknown fields are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
)

from hub.entered import LONGEST_LANGUAGE_TAG, language_tag, latin, moment, readable
from pacs.errors import MalformedData
from pacs.identifiers import (
    AccessLevelId,
    AreaId,
    CardholderId,
    ControllerId,
    CredentialId,
    DoorId,
    PostId,
    ScheduleId,
    SiteId,
    StationId,
)
from pacs.schedule import zone
from pacs.wiring import Wiring

T = TypeVar("T")


class Body(BaseModel):
    """What somebody sends."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Answer(BaseModel):
    """What the hub returns."""

    model_config = ConfigDict(from_attributes=True)


class OneTimeSecret(Answer):
    """An answer with a secret that is shown once: never kept for an idempotency key."""


def _validated(parse: Callable[[Any], T]) -> Callable[[Any], T]:
    def check(value: Any) -> T:
        try:
            return parse(value)
        except MalformedData as error:
            raise ValueError(str(error)) from error

    return check


def _identifier(kind: Callable[[Any], Any]) -> tuple[PlainValidator, PlainSerializer]:
    schema = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,48}$")]
    return PlainValidator(_validated(kind), json_schema_input_type=schema), PlainSerializer(
        str, return_type=str
    )


Issuer = Annotated[str, Field(pattern="^[A-Z0-9]{16}$")]
"""The identification reference of a card issuer."""

_CREDENTIAL = "^([0-9A-Fa-f]{64}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$"


def _credential(value: Any) -> CredentialId:
    if isinstance(value, CredentialId):
        return value
    if not (isinstance(value, str) and re.fullmatch(_CREDENTIAL, value)):
        raise MalformedData("a UUID or 64 hex digits expected")
    return CredentialId.parse(value)


def _written(shape: str, said: str) -> BeforeValidator:
    """Only the text that the description promises, not all that the parser would make something of."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and not re.fullmatch(shape, value):
            raise ValueError(f"{said} expected")
        if isinstance(value, int | float):
            raise ValueError(f"{said} expected")  # noqa: TRY004 -- what a validator may raise
        return value

    return BeforeValidator(check)


Site = Annotated[SiteId, *_identifier(SiteId)]
Door = Annotated[DoorId, *_identifier(DoorId)]
Controller = Annotated[ControllerId, *_identifier(ControllerId)]
Schedule = Annotated[ScheduleId, *_identifier(ScheduleId)]
Station = Annotated[StationId, *_identifier(StationId)]
Post = Annotated[PostId, *_identifier(PostId)]
Level = Annotated[AccessLevelId, *_identifier(AccessLevelId)]
Area = Annotated[AreaId, *_identifier(AreaId)]
Cardholder = Annotated[CardholderId, *_identifier(CardholderId)]
Credential = Annotated[
    CredentialId,
    PlainValidator(
        _validated(_credential), json_schema_input_type=Annotated[str, Field(pattern=_CREDENTIAL)]
    ),
    PlainSerializer(str, return_type=str),
]


def _zone_name(name: str) -> str:
    zone(name)
    return name


def _wiring(value: Any) -> Wiring:
    return value if isinstance(value, Wiring) else Wiring.from_fields(value)


Wired = Annotated[
    Wiring,
    PlainValidator(_validated(_wiring), json_schema_input_type=dict[str, Any]),
    PlainSerializer(lambda wiring: wiring.fields, return_type=dict[str, Any]),
]


def _credential_in_path(credential_id: Annotated[str, Path(pattern=_CREDENTIAL)]) -> CredentialId:
    return CredentialId.parse(credential_id)


def _credential_behind(
    after: Annotated[str | None, Query(pattern=_CREDENTIAL)] = None,
) -> CredentialId | None:
    return None if after is None else CredentialId.parse(after)


CredentialInPath = Annotated[CredentialId, Depends(_credential_in_path)]
AfterCredential = Annotated[CredentialId | None, Depends(_credential_behind)]
Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_validated(readable))]
LatinName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_validated(latin))]
ReasonText = Annotated[str, Field(min_length=3, max_length=300), AfterValidator(_validated(readable))]
Room = Annotated[str, Field(min_length=1, max_length=50), AfterValidator(_validated(readable))]
DoorNote = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_validated(readable))]
ExternalId = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_validated(readable))]
Language = Annotated[
    str, Field(min_length=2, max_length=LONGEST_LANGUAGE_TAG), AfterValidator(_validated(language_tag))
]
Instant = Annotated[
    AwareDatetime,
    AfterValidator(_validated(moment)),
    _written(
        r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)",
        "a time of RFC 3339 with its offset",
    ),
]
Day = Annotated[date, _written(r"\d{4}-\d\d-\d\d", "a day such as 2026-04-27")]
TimeZone = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_validated(_zone_name))]
Limit = Annotated[int, Field(ge=1, le=500)]
