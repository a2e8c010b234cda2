"""What controller and hub say to each other besides events; topics are in ``pacs.topics``.

The link is mutually authenticated and each controller can only use its own topics, so these carry no
signature of their own. Documents do, inside.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import Self

from pacs import cbor
from pacs.cbor import Fields, milliseconds
from pacs.errors import MalformedData
from pacs.findings import Level, Value
from pacs.health import ControllerHealth
from pacs.identifiers import JournalId

MAX_MESSAGE_BYTES = 64_000
CHUNK_BYTES = 48_000
MAX_CHUNKS = 350
CONFIRMED_DIGEST_BYTES = 8
"""How much of a document's SHA-256 the event has that confirms it."""
MAX_FINDINGS = 48
MAX_FINDING_CHARACTERS = 300
MAX_FINDING_VALUES = 12
MAX_FINDING_NUMBER = 2**53
FORMAT = 1
_WORD = re.compile(r"[a-z0-9_]{1,64}")


@unique
class DocumentKind(StrEnum):
    """The two signed documents a door decides by."""

    POLICY = "policy"
    REVOCATIONS = "revocations"


def _open(data: bytes, what: str) -> Fields:
    fields = Fields(cbor.decode(data, limit=MAX_MESSAGE_BYTES), what)
    if fields.take(0, int) != FORMAT:
        raise MalformedData(f"{what}: format not known")
    return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Sent on every connection: what the controller holds.

    ``first_sequence`` to ``last_sequence`` are the events it can still send; 1 and 0 when there is none.
    A version is 0 when no such document is held.
    """

    journal_id: JournalId
    first_sequence: int
    last_sequence: int
    versions: Mapping[DocumentKind, int]
    software: str

    def __bytes__(self) -> bytes:
        return cbor.encode(
            {
                0: FORMAT,
                1: str(self.journal_id),
                2: self.first_sequence,
                3: self.last_sequence,
                4: self.versions.get(DocumentKind.POLICY, 0),
                5: self.versions.get(DocumentKind.REVOCATIONS, 0),
                6: self.software,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ``MalformedData``."""
        fields = _open(data, "hello")
        hello = cls(
            journal_id=fields.parsed(1, JournalId),
            first_sequence=fields.natural(2),
            last_sequence=fields.natural(3),
            versions={
                DocumentKind.POLICY: fields.natural(4),
                DocumentKind.REVOCATIONS: fields.natural(5),
            },
            software=_short(fields.take(6, str)),
        )
        fields.finish()
        return hello


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """Every event of this journal up to and with ``sequence`` is stored at the hub; 0: none."""

    journal_id: JournalId
    sequence: int

    def __bytes__(self) -> bytes:
        return cbor.encode({0: FORMAT, 1: str(self.journal_id), 2: self.sequence})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ``MalformedData``."""
        fields = _open(data, "acknowledgement")
        acknowledgement = cls(journal_id=fields.parsed(1, JournalId), sequence=fields.natural(2))
        fields.finish()
        return acknowledgement


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerStatus:
    """The heartbeat, and with ``online`` false the last will.

    ``withheld_count``: events behind ``last_sequence`` that cannot be sent yet; absent: none. ``unread_count``: cards
    that could not be read since the start. ``broken_readers``: ``door/side`` of each.
    ``health``: None in a last will. Fields that are not known here are ignored: a newer controller may say more.
    """

    online: bool
    sent_at: datetime
    clock_trusted: bool = False
    journal_id: JournalId | None = None
    last_sequence: int = 0
    acknowledged_sequence: int = 0
    versions: Mapping[DocumentKind, int] = field(default_factory=dict)
    unread_count: int = 0
    broken_readers: tuple[str, ...] = ()
    health: ControllerHealth | None = None
    withheld_count: int = 0
    certificate: str | None = None
    """Serial number (hex) of the one that it connected with."""
    certificate_ends: datetime | None = None

    def __bytes__(self) -> bytes:
        return cbor.encode(
            cbor.without_none(
                {
                    0: FORMAT,
                    1: self.online,
                    2: milliseconds(self.sent_at),
                    3: self.clock_trusted,
                    4: None if self.journal_id is None else str(self.journal_id),
                    5: self.last_sequence,
                    6: self.acknowledged_sequence,
                    7: self.versions.get(DocumentKind.POLICY, 0),
                    8: self.versions.get(DocumentKind.REVOCATIONS, 0),
                    9: self.unread_count,
                    10: list(self.broken_readers),
                    11: None if self.health is None else self.health.fields,
                    12: self.withheld_count or None,
                    13: self.certificate,
                    14: None if self.certificate_ends is None else milliseconds(self.certificate_ends),
                }
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ``MalformedData``."""
        fields = _open(data, "status")
        health = fields.maybe(11, dict)
        return cls(
            online=fields.take(1, bool),
            sent_at=fields.moment(2),
            clock_trusted=fields.take(3, bool),
            journal_id=fields.maybe_parsed(4, JournalId),
            last_sequence=fields.natural(5),
            acknowledged_sequence=fields.natural(6),
            versions={
                DocumentKind.POLICY: fields.natural(7),
                DocumentKind.REVOCATIONS: fields.natural(8),
            },
            unread_count=fields.natural(9),
            broken_readers=tuple(
                _short(cbor.exactly(name, str, "status reader")) for name in fields.take(10, list)[:64]
            ),
            health=None if health is None else ControllerHealth.from_fields(health),
            withheld_count=_count(fields.maybe(12, int) or 0),
            certificate=_short_or_none(fields.maybe(13, str)),
            certificate_ends=fields.maybe_moment(14),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalRequest:
    """Asks for another certificate: a request (PKCS#10, DER) for a new key, which the event key vouches for.

    ``proof``: Ed25519 over ``pacs.enrolment.proof_of`` the request.
    """

    certificate_request: bytes
    proof: bytes

    def __bytes__(self) -> bytes:
        return cbor.encode({0: FORMAT, 1: self.certificate_request, 2: self.proof})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ``MalformedData``."""
        fields = _open(data, "renewal")
        asked = cls(certificate_request=fields.take(1, bytes), proof=fields.sized(2, 64))
        fields.finish()
        return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """The answer: the certificate and those above it (PEM, the leaf first)."""

    chain: str

    def __bytes__(self) -> bytes:
        return cbor.encode({0: FORMAT, 1: self.chain})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ``MalformedData``."""
        fields = _open(data, "certificate")
        issued = cls(chain=fields.take(1, str))
        fields.finish()
        return issued


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedFinding:
    """``name``: what was looked at, ``what`` was found, and the ``advice``, if any: the controller's own words, in English.

    ``code``, ``subject`` (which door, side or part) and ``values`` say the same as ``pacs.findings`` has it; empty where
    the controller knows no codes. Each text has at most ``MAX_FINDING_CHARACTERS``, there are at most ``MAX_FINDING_VALUES``.
    """

    level: Level
    name: str
    what: str
    advice: str = ""
    code: str = ""
    subject: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def document(self) -> list[object]:
        """As it is sent and stored."""
        said = [self.level.value, self.name, self.what, self.advice]
        return [*said, self.code, self.subject, dict(self.values)]

    @classmethod
    def of(cls, document: object) -> Self:
        """Raises ``MalformedData``. A document of four parts is that of a controller that knows no codes."""
        parts = cbor.exactly(document, list, "report finding")
        if len(parts) not in (4, 7):
            raise MalformedData("report finding: four or seven parts expected")
        level, *texts = (_printable(part) for part in parts[:6])
        if level not in (*Level,):
            raise MalformedData("report finding: level not known")
        name, what, advice, code, subject = (*texts, "", "")[:5]
        if code and not _WORD.fullmatch(code):
            raise MalformedData("report finding: a code is at most 64 small letters, digits and underscores")
        values = cbor.exactly(parts[6], dict, "report finding's values") if len(parts) > 4 else {}
        if len(values) > MAX_FINDING_VALUES:
            raise MalformedData(f"report finding: at most {MAX_FINDING_VALUES} values expected")
        return cls(
            level=Level(level),
            name=name,
            what=what,
            advice=advice,
            code=code,
            subject=subject,
            values={_value_name(key): _value(value) for key, value in values.items()},
        )


def _printable(part: object) -> str:
    text = cbor.exactly(part, str, "report finding")
    if len(text) > MAX_FINDING_CHARACTERS or not text.isprintable():
        raise MalformedData(f"report finding: printable texts of at most {MAX_FINDING_CHARACTERS} expected")
    return text


def _value_name(key: object) -> str:
    if isinstance(key, str) and _WORD.fullmatch(key):
        return key
    raise MalformedData(
        "report finding: the name of a value is at most 64 small letters, digits and underscores"
    )


def _value(value: object) -> Value:
    if not isinstance(value, int):
        return _printable(value)
    if isinstance(value, bool) or abs(value) > MAX_FINDING_NUMBER:
        raise MalformedData(f"report finding: numbers of at most {MAX_FINDING_NUMBER} expected")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a controller found when it examined itself, at most ``MAX_FINDINGS``; by its own clock."""

    examined_at: datetime
    findings: tuple[ReportedFinding, ...]

    def __bytes__(self) -> bytes:
        found = [each.document for each in self.findings]
        return cbor.encode({0: FORMAT, 1: milliseconds(self.examined_at), 2: found})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ``MalformedData``."""
        fields = _open(data, "report")
        at, found = fields.moment(1), fields.take(2, list)
        fields.finish()
        if len(found) > MAX_FINDINGS:
            raise MalformedData(f"report: at most {MAX_FINDINGS} findings expected")
        return cls(examined_at=at, findings=tuple(map(ReportedFinding.of, found)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentChunk:
    """One part of a signed document; ``digest`` is SHA-256 over the whole, ``index`` counts from 0."""

    kind: DocumentKind
    version: int
    digest: bytes
    index: int
    count: int
    part: bytes

    def __bytes__(self) -> bytes:
        return cbor.encode(
            {
                0: FORMAT,
                1: self.kind.value,
                2: self.version,
                3: self.digest,
                4: self.index,
                5: self.count,
                6: self.part,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ``MalformedData``."""
        fields = _open(data, "document chunk")
        chunk = cls(
            kind=fields.parsed(1, DocumentKind),
            version=fields.natural(2),
            digest=fields.sized(3, 32),
            index=fields.natural(4),
            count=fields.natural(5),
            part=fields.take(6, bytes),
        )
        fields.finish()
        if not (1 <= chunk.count <= MAX_CHUNKS and chunk.index < chunk.count and len(chunk.part) >= 1):
            raise MalformedData("document chunk: index, count or length out of range")
        return chunk


def split_document(kind: DocumentKind, version: int, document: bytes) -> list[DocumentChunk]:
    """The chunks that carry this document; raises ``MalformedData`` when it is empty or too large."""
    parts = [document[start : start + CHUNK_BYTES] for start in range(0, len(document), CHUNK_BYTES)]
    if not 1 <= len(parts) <= MAX_CHUNKS:
        raise MalformedData(f"document: 1 to {MAX_CHUNKS * CHUNK_BYTES} bytes expected")
    digest = hashlib.sha256(document).digest()
    return [
        DocumentChunk(kind=kind, version=version, digest=digest, index=index, count=len(parts), part=part)
        for index, part in enumerate(parts)
    ]


class DocumentAssembler:
    """Puts one document at a time together; a chunk of another one starts afresh."""

    __slots__ = ("_digest", "_parts")

    def __init__(self) -> None:
        self._digest = b""
        self._parts: dict[int, bytes] = {}

    def add(self, chunk: DocumentChunk) -> bytes | None:
        """The whole document once its last part is here, else None.

        Raises ``MalformedData`` when all parts are here and their digest is another.
        """
        if chunk.digest != self._digest:
            self._digest, self._parts = chunk.digest, {}
        self._parts[chunk.index] = chunk.part
        if len(self._parts) < chunk.count:
            return None
        parts, self._digest, self._parts = self._parts, b"", {}
        document = b"".join(part for _, part in sorted(parts.items()))
        if hashlib.sha256(document).digest() != chunk.digest:
            raise MalformedData("document: its parts do not give the digest they carry")
        return document


def _count(number: int) -> int:
    if not 0 <= number < 2**53:
        raise MalformedData("message: a count out of range")
    return number


def _short_or_none(text: str | None) -> str | None:
    return None if text is None else _short(text)


def _short(text: str) -> str:
    if len(text) > 100:
        raise MalformedData("message: a text of at most 100 characters expected")
    return text
