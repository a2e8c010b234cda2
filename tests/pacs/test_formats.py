"""Everything that crosses a wire: round trips, and no error but its own on any bytes."""

from __future__ import annotations

import contextlib
import hashlib
import random
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pacs import bundle, cbor, envelope
from pacs.entitlement_table import EntitlementTable, Shape
from pacs.errors import MalformedData, PacsError, VerificationError
from pacs.events import Batch, Event, EventDraft, EventKind, event_hash, genesis, seal_batch
from pacs.findings import Level
from pacs.identifiers import AccessLevelId, ControllerId, CredentialId, JournalId, SiteId
from pacs.messages import (
    CHUNK_BYTES,
    MAX_FINDING_CHARACTERS,
    MAX_FINDING_NUMBER,
    MAX_FINDINGS,
    Acknowledgement,
    ControllerStatus,
    DocumentAssembler,
    DocumentChunk,
    DocumentKind,
    Hello,
    IssuedCertificate,
    RenewalRequest,
    Report,
    ReportedFinding,
    split_document,
)
from pacs.reason import Reason
from pacs.revocation import MEDIA_TYPE, Status, StatusList
from pacs.rules import AccessLevel, Entitlement, Policy
from pacs.topics import Down, DownTopic, Up, UpTopic, down_root, up_filter, up_root
from tests.pacs import strategies as own

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
TRUSTED = envelope.trusted_keys(KEY.public_key())
JOURNAL = JournalId("0" * 32)
GATE = ControllerId("gate-1")
LEVELS = (AccessLevelId("a"), AccessLevelId("b"))

versions = st.fixed_dictionaries(dict.fromkeys(DocumentKind, own.naturals))

PARSERS: dict[str, Callable[[bytes], object]] = {
    "policy": lambda data: bundle.read(data, b""),
    "entitlements": lambda data: EntitlementTable.read(data, Shape(sets=1, short=2, long=1), LEVELS),
    "sealed policy": lambda data: bundle.open_bundle(data, TRUSTED),
    "status list": lambda data: StatusList.open(data, TRUSTED),
    "event": Event.from_bytes,
    "batch": lambda data: Batch.open(data, GATE, TRUSTED),
    "hello": Hello.from_bytes,
    "acknowledgement": Acknowledgement.from_bytes,
    "status": ControllerStatus.from_bytes,
    "renewal": RenewalRequest.from_bytes,
    "report": Report.from_bytes,
    "certificate": IssuedCertificate.from_bytes,
    "chunk": DocumentChunk.from_bytes,
    "envelope": lambda data: envelope.open_sealed(data, "x", TRUSTED),
    "up topic": lambda data: UpTopic.parse(data.decode("latin-1")),
    "down topic": lambda data: DownTopic.parse(data.decode("latin-1")),
    "credential id": lambda data: CredentialId.parse(data.decode("latin-1")),
    "site id": lambda data: SiteId(data.decode("latin-1")),
}

items = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.integers(0, 12), inner, max_size=12),
    max_leaves=12,
)


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=300))
def test_any_bytes_give_a_value_or_the_named_error(name: str, data: bytes) -> None:
    """No parser of foreign bytes lets another exception out."""
    with contextlib.suppress(MalformedData):
        assert PARSERS[name](data) is not None


@pytest.mark.parametrize("name", PARSERS)
@given(item=items)
def test_any_cbor_gives_a_value_or_the_named_error(name: str, item: object) -> None:
    """Well-formed CBOR of another shape is refused by name, signed or not."""
    data = cbor.encode(item)
    for attempt in (data, envelope.seal(data, bundle.MEDIA_TYPE, KEY), envelope.seal(data, MEDIA_TYPE, KEY)):
        with contextlib.suppress(PacsError):
            assert PARSERS[name](attempt) is not None


@given(policy=own.policies())
def test_policy_round_trip(policy: Policy) -> None:
    """A bundle gives back the policy, and equal policies have equal bytes."""
    sealed = bundle.seal(policy, KEY)
    assert bundle.open_bundle(sealed, TRUSTED) == policy
    assert bundle.seal(bundle.open_bundle(sealed, TRUSTED), KEY) == sealed


@given(policy=own.policies())
def test_a_table_is_a_mapping_of_its_entries(policy: Policy) -> None:
    """A bundle that was read gives each entry by its id, none by another, and can be sealed to the same bytes again."""
    opened = bundle.open_bundle(bundle.seal(policy, KEY), TRUSTED)
    table = opened.entitlements
    assert isinstance(table, EntitlementTable)
    assert len(table) == len(policy.entitlements)
    assert dict(table) == policy.entitlements
    for other in (CredentialId(b"\xff" * 16), CredentialId(b"\xff" * 32)):
        assert table.get(other) == policy.entitlements.get(other)
    again = EntitlementTable.of(policy.entitlements, policy.access_levels)
    assert bytes(table) == bytes(again)


@given(
    policy=own.policies(),
    changes=st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=4)), max_size=3),
)
def test_one_content_has_one_table(policy: Policy, changes: list[tuple[int, bytes]]) -> None:
    """Bytes that are taken for a table are exactly those its entries would be written as."""
    table = EntitlementTable.of(policy.entitlements, policy.access_levels)
    data = bytearray(bytes(table))
    for place, change in changes:
        begin = place % (len(data) + 1)
        data[begin : begin + len(change)] = change
    with contextlib.suppress(MalformedData):
        read = EntitlementTable.read(bytes(data), table.shape, policy.access_levels)
        assert bytes(EntitlementTable.of(dict(read), policy.access_levels)) == bytes(data)


def entries(*numbers: int, **rules: Any) -> dict[CredentialId, Entitlement]:
    """Of these credentials, each with both levels."""
    ids = [CredentialId(bytes([number]) * 16) for number in numbers]
    return {
        each: Entitlement(credential_id=each, status_index=7, access_level_ids=LEVELS, **rules)
        for each in ids
    }


LIKE = EntitlementTable.of(entries(1, 2), LEVELS)
SETS, FIRST, SECOND = bytes(LIKE)[:6], bytes(LIKE)[6:42], bytes(LIKE)[42:]
DEFECTS: dict[str, tuple[bytes, Shape]] = {
    "twice the same id": (SETS + FIRST + FIRST, LIKE.shape),
    "not in order": (SETS + SECOND + FIRST, LIKE.shape),
    "longer than it says": (bytes(LIKE) + b"\0", LIKE.shape),
    "shorter than it says": (bytes(LIKE)[:-1], LIKE.shape),
    "another level": (SETS[:-1] + b"\x02" + FIRST + SECOND, LIKE.shape),
    "another set": (SETS + FIRST[:23] + b"\x01" + FIRST[24:] + SECOND, LIKE.shape),
    "an unknown flag": (SETS + FIRST[:20] + b"\x10" + FIRST[21:] + SECOND, LIKE.shape),
    "escort and escorted": (SETS + FIRST[:20] + b"\x0c" + FIRST[21:] + SECOND, LIKE.shape),
    "beyond the calendar": (SETS + FIRST[:24] + b"\xff" * 5 + b"\xfe" + FIRST[30:] + SECOND, LIKE.shape),
    "a set nobody holds": (
        b"\0\0" + SETS + FIRST[:23] + b"\x01" + FIRST[24:] + SECOND[:23] + b"\x01" + SECOND[24:],
        replace(LIKE.shape, sets=2),
    ),
    "the same set twice": (SETS + SETS + FIRST + SECOND, replace(LIKE.shape, sets=2)),
    "no sets at all": (FIRST + SECOND, replace(LIKE.shape, sets=0)),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_table_with_a_defect_is_refused(defect: str) -> None:
    """Each rule of the form is held, also against a signer that breaks it."""
    data, shape = DEFECTS[defect]
    with pytest.raises(MalformedData, match="entitlements"):
        EntitlementTable.read(data, shape, LEVELS)


@pytest.mark.parametrize(
    "bad",
    [
        entries(1, valid_from=datetime(1969, 12, 31, tzinfo=UTC)),
        entries(1, valid_until=datetime(9999, 1, 1, tzinfo=UTC)),
        {each: replace(entry, status_index=2**32) for each, entry in entries(1).items()},
        {each: replace(entry, access_level_ids=(AccessLevelId("c"),)) for each, entry in entries(1).items()},
    ],
    ids=["too early", "too late", "index", "level"],
)
def test_what_the_form_has_no_room_for_is_not_sealed(bad: dict[CredentialId, Entitlement]) -> None:
    """A table that no door would take is never made."""
    with pytest.raises(MalformedData, match="entitlements"):
        EntitlementTable.of(bad, LEVELS)


LARGE = Policy(
    site_id=SiteId("s"),
    version=1,
    issued_at=datetime(2026, 1, 1, tzinfo=UTC),
    expires_at=datetime(2026, 1, 8, tzinfo=UTC),
    time_zone="UTC",
    issuers={},
    doors={},
    access_levels={level: AccessLevel(id=level, rules=()) for level in LEVELS},
    entitlements={
        each: Entitlement(credential_id=each, status_index=number, access_level_ids=LEVELS[number % 2 :])
        for number, each in enumerate(CredentialId(number.to_bytes(16)) for number in range(2_500))
    },
)


def test_reading_pauses() -> None:
    """Every so many entries of a table, whoever waits for the interpreter gets it."""
    pauses: list[None] = []
    opened = bundle.open_bundle(bundle.seal(LARGE, KEY), TRUSTED, pause=lambda: pauses.append(None))
    assert opened == LARGE
    assert len(pauses) == 3


def test_an_old_format_is_refused() -> None:
    """A bundle of another format is malformed, whatever else is in it."""
    payload = cbor.encode({**cbor.decode(bundle.signed_part(LARGE), limit=10**6), 0: 1})
    with pytest.raises(MalformedData, match="format"):
        bundle.read(payload, bytes(EntitlementTable.of(LARGE.entitlements, LARGE.access_levels)))


@pytest.mark.parametrize("point", [b"", b"\x04" + bytes(64), b"\x04" + b"\xff" * 64, bytes(65)])
def test_an_issuer_key_is_a_point_of_the_curve(point: bytes) -> None:
    """A bundle with another one is malformed, so no door ever holds a key it cannot use."""
    bad = replace(LARGE, issuers={"DREMPEL000000001": point})
    with pytest.raises(MalformedData):
        bundle.open_bundle(bundle.seal(bad, KEY), TRUSTED)


@given(policy=own.policies(), place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_no_flipped_bit_survives(policy: Policy, place: int, bit: int) -> None:
    """A signed bundle with any one bit changed is refused."""
    sealed = bytearray(bundle.seal(policy, KEY))
    sealed[place % len(sealed)] ^= 1 << bit
    with pytest.raises((MalformedData, VerificationError)):
        bundle.open_bundle(bytes(sealed), TRUSTED)


@given(event=own.events)
def test_event_round_trip(event: Event) -> None:
    """An event gives back itself."""
    assert Event.from_bytes(bytes(event)) == event


@given(
    hello=st.builds(
        Hello,
        journal_id=own.journal_ids,
        first_sequence=own.naturals,
        last_sequence=own.naturals,
        versions=versions,
        software=st.text(max_size=100),
    ),
    status=st.builds(
        ControllerStatus,
        online=st.booleans(),
        sent_at=own.moments,
        clock_trusted=st.booleans(),
        journal_id=st.none() | own.journal_ids,
        last_sequence=own.naturals,
        acknowledged_sequence=own.naturals,
        versions=versions,
        unread_count=own.naturals,
        broken_readers=st.lists(st.text(max_size=100), max_size=4).map(tuple),
    ),
    acknowledgement=st.builds(Acknowledgement, journal_id=own.journal_ids, sequence=own.naturals),
)
def test_messages_round_trip(
    hello: Hello, status: ControllerStatus, acknowledgement: Acknowledgement
) -> None:
    """Each message gives back itself."""
    assert Hello.from_bytes(bytes(hello)) == hello
    assert ControllerStatus.from_bytes(bytes(status)) == status
    assert Acknowledgement.from_bytes(bytes(acknowledgement)) == acknowledgement
    asked = RenewalRequest(certificate_request=bytes(status), proof=bytes(64))
    assert RenewalRequest.from_bytes(bytes(asked)) == asked
    issued = IssuedCertificate(chain=hello.software)
    assert IssuedCertificate.from_bytes(bytes(issued)) == issued


finding_texts = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=MAX_FINDING_CHARACTERS)


@given(
    examined_at=own.moments,
    findings=st.lists(
        st.builds(
            ReportedFinding,
            level=st.sampled_from(Level),
            name=finding_texts,
            what=finding_texts,
            advice=finding_texts,
            code=st.from_regex("[a-z_]{0,64}", fullmatch=True),
            subject=finding_texts,
            values=st.dictionaries(
                st.from_regex("[a-z_]{1,64}", fullmatch=True),
                finding_texts | st.integers(-MAX_FINDING_NUMBER, MAX_FINDING_NUMBER),
                max_size=3,
            ),
        ),
        max_size=6,
    ),
)
def test_reports_round_trip(examined_at: datetime, findings: list[ReportedFinding]) -> None:
    """A report gives back itself; with one finding more than may be in it it is malformed."""
    report = Report(examined_at=examined_at, findings=tuple(findings))
    assert Report.from_bytes(bytes(report)) == report
    many = (ReportedFinding(level=Level.OK, name="", what=""),) * (MAX_FINDINGS + 1)
    with pytest.raises(MalformedData):
        Report.from_bytes(bytes(replace(report, findings=many)))


@pytest.mark.parametrize(
    "finding",
    [
        ReportedFinding(level=Level.OK, name="disk", what="x" * (MAX_FINDING_CHARACTERS + 1)),
        ReportedFinding(level=Level.OK, name="disk", what="two\nlines"),
        ReportedFinding(level=Level.OK, name="disk", what="", code="Disk full"),
        ReportedFinding(level=Level.OK, name="disk", what="", code="c" * 65),
        ReportedFinding(level=Level.OK, name="disk", what="", values={"Free": 1}),
        ReportedFinding(level=Level.OK, name="disk", what="", values={"free": MAX_FINDING_NUMBER + 1}),
        ReportedFinding(level=Level.OK, name="disk", what="", values={"free": True}),
        ReportedFinding(level=Level.OK, name="disk", what="", values={"free": "\x00"}),
        ReportedFinding(level=Level.OK, name="disk", what="", values={f"v{n}": n for n in range(13)}),
    ],
)
def test_a_finding_that_no_page_could_show_is_malformed(finding: ReportedFinding) -> None:
    """What is too long or cannot be printed, a code or a name that is none, too many values, too large a number."""
    with pytest.raises(MalformedData):
        Report.from_bytes(bytes(Report(examined_at=datetime(2026, 1, 5, tzinfo=UTC), findings=(finding,))))


def test_a_finding_of_a_controller_that_knows_no_codes_is_taken() -> None:
    """Four parts, as before there were codes; five are nothing that was ever sent."""
    old = ["warn", "journal", "full", "make room"]
    taken = ReportedFinding.of(old)
    assert (taken.level, taken.what, taken.code, taken.values) == (Level.WARN, "full", "", {})
    with pytest.raises(MalformedData):
        ReportedFinding.of([*old, "journal_full"])


@given(document=st.binary(min_size=1, max_size=20), repeats=st.integers(1, 9000), seed=st.randoms())
def test_documents_travel_in_chunks(document: bytes, repeats: int, seed: random.Random) -> None:
    """Chunks in any order, even doubled, give back the document."""
    whole = document * repeats
    chunks = split_document(DocumentKind.POLICY, 7, whole)
    assert all(len(bytes(chunk)) <= 64_000 for chunk in chunks)
    seed.shuffle(chunks)
    assembler = DocumentAssembler()
    results = [assembler.add(DocumentChunk.from_bytes(bytes(chunk))) for chunk in (chunks[0], *chunks)]
    if len(chunks) == 1:
        assert set(results) == {whole}
    else:
        assert results[-1] == whole
        assert not any(results[:-1])


def test_a_mixed_document_is_refused() -> None:
    """A part of another document under this one's digest does not get through."""
    first, second = split_document(DocumentKind.POLICY, 1, b"a" * (CHUNK_BYTES + 1))
    forged = DocumentChunk(
        kind=second.kind, version=1, digest=second.digest, index=1, count=2, part=b"another"
    )
    assembler = DocumentAssembler()
    assert assembler.add(first) is None
    with pytest.raises(MalformedData):
        assembler.add(forged)


@given(
    size=st.integers(min_value=1, max_value=500),
    marks=st.dictionaries(st.integers(min_value=0, max_value=499), st.sampled_from(Status)),
    version=own.naturals,
)
def test_status_list_round_trip(size: int, marks: dict[int, Status], version: int) -> None:
    """Every credential has the status it was given, and those beyond the end have none."""
    marks = {index: status for index, status in marks.items() if index < size}
    issued_at = datetime(2026, 1, 1, tzinfo=UTC)
    built = StatusList.build(
        site_id=SiteId("s"),
        version=version,
        issued_at=issued_at,
        expires_at=issued_at,
        size=size,
        statuses=marks,
    )
    opened = StatusList.open(built.seal(KEY), TRUSTED)
    assert opened == built
    assert [opened.status(index) for index in range(size)] == [
        marks.get(index, Status.VALID) for index in range(size)
    ]
    assert opened.status(size + 8) is None
    assert opened.status(-1) is None


def test_status_list_of_the_draft() -> None:
    """The 2-bit example of draft-ietf-oauth-status-list §4.1 gives the bytes C9 44 F9."""
    values = [1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3]
    packed = bytearray(3)
    for index, value in enumerate(values):
        packed[index // 4] |= value << (index % 4 * 2)
    assert packed.hex() == "c944f9"
    example = StatusList(
        site_id=SiteId("s"),
        version=1,
        issued_at=datetime(2026, 1, 1, tzinfo=UTC),
        expires_at=datetime(2026, 1, 1, tzinfo=UTC),
        packed=bytes(packed),
    )
    assert [example.status(i) for i in (0, 1, 2, 3)] == [Status.INVALID, Status.SUSPENDED, Status.VALID, None]


def test_a_zip_bomb_is_refused() -> None:
    """A list that inflates beyond the bound costs bounded work and is refused."""
    claims = {
        2: "urn:drempel:site:s",
        4: 1,
        6: 1,
        65533: {"bits": 2, "lst": zlib.compress(bytes(64 * 1024 * 1024), 9)},
        -65537: 1,
    }
    with pytest.raises(MalformedData, match="longer than allowed"):
        StatusList.open(envelope.seal(cbor.encode(claims), MEDIA_TYPE, KEY), TRUSTED)


@pytest.mark.parametrize(
    ("sealed", "error"),
    [
        (envelope.seal(b"p", "x", OTHER_KEY), Reason.SIGNER_UNKNOWN),
        (envelope.seal(b"p", "x", KEY)[:-1] + b"\xff", Reason.SIGNATURE_INVALID),
        (envelope.seal(b"p", "y", KEY), None),
        (envelope.seal(b"p", "x", KEY)[1:], None),
        (envelope.seal(b"p", "x", KEY) + b"\0", None),
    ],
    ids=["another key", "another signature", "another type", "no tag", "trailing byte"],
)
def test_envelope_refusals(sealed: bytes, error: Reason | None) -> None:
    """Each way an envelope can be wrong has its own name."""
    with pytest.raises(VerificationError if error else MalformedData) as caught:
        envelope.open_sealed(sealed, "x", TRUSTED)
    if isinstance(caught.value, VerificationError):
        assert caught.value.reason is error


def test_envelope_follows_rfc_9052() -> None:
    """The signature is Ed25519 over the Sig_structure of RFC 9052 §4.4, built here by hand."""
    sealed = envelope.seal(b"payload", "t", KEY)
    assert sealed[:2] == b"\xd2\x84"
    protected, unprotected, payload, signature = cbor.decode(sealed[1:], limit=1000)
    assert (unprotected, payload) == ({}, b"payload")
    structure = b"\x84" + b"\x6aSignature1" + bytes([0x40 + len(protected)]) + protected + b"\x40\x47payload"
    KEY.public_key().verify(signature, structure)


def _chain(drafts: list[EventDraft]) -> list[bytes]:
    encoded: list[bytes] = []
    previous = genesis(GATE, JOURNAL)
    for sequence, draft in enumerate(drafts, 1):
        encoded.append(bytes(Event(sequence=sequence, previous_hash=previous, draft=draft)))
        previous = event_hash(encoded[-1])
    return encoded


@given(drafts=st.lists(own.drafts, min_size=1, max_size=6))
def test_batch_round_trip(drafts: list[EventDraft]) -> None:
    """A batch gives back its events, their bytes and the last hash."""
    encoded = _chain(drafts)
    batch = Batch.open(seal_batch(GATE, JOURNAL, len(encoded), encoded, KEY), GATE, TRUSTED)
    assert [event.draft for event in batch.events] == drafts
    assert list(batch.encoded) == encoded
    assert batch.last_hash == hashlib.sha256(encoded[-1]).digest()
    assert batch.events[0].previous_hash == genesis(GATE, JOURNAL)


@given(drafts=st.lists(own.drafts, min_size=3, max_size=6, unique_by=repr), choice=st.integers(min_value=0))
def test_a_batch_cannot_lose_or_swap_an_event(drafts: list[EventDraft], choice: int) -> None:
    """Dropping, swapping or replacing an event under a signed head is noticed."""
    encoded = _chain(drafts)
    sealed_head = cbor.decode(seal_batch(GATE, JOURNAL, len(encoded), encoded, KEY), limit=10**6)[0]
    middle = 1 + choice % (len(encoded) - 2)
    tampered: tuple[list[bytes], ...] = (
        encoded[:middle] + encoded[middle + 1 :],
        encoded[:-1],
        [*encoded[:middle], encoded[middle - 1], *encoded[middle + 1 :]],
        [],
    )
    for events in tampered:
        with pytest.raises(MalformedData):
            Batch.open(cbor.encode([sealed_head, events]), GATE, TRUSTED)


def test_a_batch_of_another_controller_is_refused() -> None:
    """A head signed for one controller is worth nothing on another one's topic."""
    encoded = _chain(
        [
            EventDraft(
                kind=EventKind.DOOR_OPENED,
                occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
                clock_trusted=True,
            )
        ]
    )
    with pytest.raises(MalformedData, match="another controller"):
        Batch.open(seal_batch(GATE, JOURNAL, 1, encoded, KEY), ControllerId("gate-2"), TRUSTED)


@given(controller=own.names.map(ControllerId), up=st.sampled_from(Up), down=st.sampled_from(Down))
def test_topics_round_trip(controller: ControllerId, up: Up, down: Down) -> None:
    """Each topic parses to what it was built from, below its controller's own branch."""
    up_topic, down_topic = UpTopic(controller, up), DownTopic(controller, down)
    assert UpTopic.parse(str(up_topic)) == up_topic
    assert DownTopic.parse(str(down_topic)) == down_topic
    assert str(up_topic).startswith(up_root(controller) + "/")
    assert str(down_topic).startswith(down_root(controller) + "/")


@pytest.mark.parametrize(
    "topic",
    ["drempel/up/99/gate-1/events", "drempel/up/00/gate+/events", "other/up/00/gate-1/events", "drempel/up"],
)
def test_foreign_topics_are_refused(topic: str) -> None:
    """A wrong shard, a wildcard, another root or another depth is no topic of ours."""
    with pytest.raises(MalformedData):
        UpTopic.parse(topic)


def test_topics_as_they_stand_on_the_wire() -> None:
    """The layout that brokers and their permissions are configured for."""
    assert str(UpTopic(GATE, Up.EVENTS)) == up_root(GATE) + "/events"
    assert (up_filter(), up_filter(3)) == ("drempel/up/+/+/+", "drempel/up/03/+/+")
    assert str(DownTopic(GATE, Down.DOCUMENT)) == "drempel/down/gate-1/document"


@pytest.mark.parametrize(
    "data",
    [
        b"\xd8\x1c\x80",
        b"\xc2\x41\x01",
        b"\xbf\x01\x02\xff",
        b"\x18\x01",
        b"\x01\x02",
        b"\xa2\x01\x02\x01\x03",
        b"\x81" * 50,
    ],
    ids=["shared reference", "bignum", "indefinite", "long form", "trailing", "duplicate key", "deep"],
)
def test_cbor_that_is_not_deterministic_is_refused(data: bytes) -> None:
    """One value has one encoding, without tags."""
    with pytest.raises(MalformedData):
        cbor.decode(data, limit=1000)


def test_true_is_not_one() -> None:
    """A flag where a number is expected is refused, though Python finds them equal."""
    with pytest.raises(MalformedData):
        cbor.Fields({1: True}, "x").natural(1)


@pytest.mark.parametrize(
    ("at", "taken"),
    [(-1, False), (0, True), (cbor.milliseconds(cbor.END_OF_TIME) - 1, True), (253_402_300_799_999, False)],
)
def test_no_time_is_near_the_end_of_the_calendar(at: int, taken: bool) -> None:
    """A time that a time zone would move out of the calendar is malformed, from whoever it comes."""
    with contextlib.nullcontext() if taken else pytest.raises(MalformedData):
        cbor.moment(at, "time")
