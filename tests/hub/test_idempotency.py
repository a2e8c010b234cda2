"""Idempotency keys: sent again is not done again, whatever happens in between."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.api import idempotency
from hub.api.problems import Code, Problem
from hub.roles import Role
from hub.store import idempotency as store
from hub.store.idempotency import KeyedRequest, State
from tests.hub.databases import empty_address, fresh_database
from tests.hub.running import Clock, RunningHub, running_hub

pytestmark = pytest.mark.slow

PERSON = {"category": "resident", "given_name": "Ama", "family_name": "Mensah"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, database_kind: str) -> Iterator[RunningHub]:
    settings = {} if database_kind == "sqlite" else {"database_url": empty_address()}
    with running_hub(tmp_path_factory.mktemp("keys"), **settings) as running:
        yield running


@pytest.fixture
def admin(hub: RunningHub) -> Iterator[httpx.Client]:
    hub.clock.ahead = timedelta()
    with hub.token(Role.ADMINISTRATOR) as program:
        yield program


def a_key() -> dict[str, str]:
    return {"idempotency-key": f'"{secrets.token_hex(8)}"'}


def people(admin: httpx.Client) -> int:
    return len(admin.get("/api/v1/cardholders", params={"limit": 500}).json()["cardholders"])


def code_of(answer: httpx.Response) -> Any:
    return answer.json().get("code")


def test_the_same_again_is_answered_and_not_done(admin: httpx.Client) -> None:
    """Status and body are those of the first time; quotes around the key make no difference."""
    key, before = secrets.token_hex(8), people(admin)
    first = admin.post("/api/v1/cardholders", json=PERSON, headers={"idempotency-key": key})
    again = admin.post("/api/v1/cardholders", json=PERSON, headers={"idempotency-key": f'"{key}"'})
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert people(admin) == before + 1


def test_the_place_of_what_was_made_comes_back_too(admin: httpx.Client) -> None:
    """The header Location is kept with the answer."""
    key = a_key() | {"content-type": "text/csv"}
    first = admin.post("/api/v1/imports?dry_run=true", content=b"a,b\n", headers=key)
    again = admin.post("/api/v1/imports?dry_run=true", content=b"a,b\n", headers=key)
    assert first.status_code == 202
    assert first.headers["location"] == again.headers["location"]


def test_a_key_is_for_one_content_and_one_address(admin: httpx.Client) -> None:
    """Anything else under it is refused, and nothing is done."""
    key, before = a_key(), people(admin)
    assert admin.post("/api/v1/cardholders", json=PERSON, headers=key).status_code == 201
    other = admin.post("/api/v1/cardholders", json=PERSON | {"given_name": "Efua"}, headers=key)
    assert (other.status_code, code_of(other)) == (422, "key_reused")
    elsewhere = admin.post("/api/v1/areas", json=PERSON, headers=key)
    assert code_of(elsewhere) == "key_reused"
    assert people(admin) == before + 1


def test_a_key_belongs_to_who_sent_it(hub: RunningHub, admin: httpx.Client) -> None:
    """Another program may use the same key for its own request, and learns nothing of the first."""
    key, before = a_key(), people(admin)
    with hub.token(Role.SITE_MANAGER) as other:
        ids = {
            each.post("/api/v1/cardholders", json=PERSON, headers=key).json()["id"] for each in (admin, other)
        }
    assert len(ids) == 2
    assert people(admin) == before + 2


def test_what_was_refused_may_be_tried_again(admin: httpx.Client) -> None:
    """A problem takes no key: corrected circumstances lead to another answer."""
    key = a_key()
    mark = f"m-{secrets.token_hex(4)}"
    door = {"id": mark, "controller_id": mark, "name": "Door"}
    assert code_of(admin.post("/api/v1/doors", json=door, headers=key)) == "reference_unknown"
    controller = {"id": mark, "event_public_key": "9d" * 32, "certificate_serial": secrets.token_hex(8)}
    assert admin.post("/api/v1/controllers", json=controller).status_code == 201
    assert admin.post("/api/v1/doors", json=door, headers=key).status_code == 201


def test_many_at_once_are_done_once(hub: RunningHub, admin: httpx.Client) -> None:
    """Of eight at the same moment one enrols somebody; the others are told to wait, or get its answer."""
    key, before = a_key(), people(admin)
    gate = threading.Barrier(8)

    def send(_: int) -> httpx.Response:
        with hub.client(authorization=admin.headers["authorization"]) as program:
            gate.wait(20)
            return program.post("/api/v1/cardholders", json=PERSON, headers=key)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))
    assert {each.status_code for each in answers} <= {201, 409}
    assert all(code_of(each) == "key_in_use" for each in answers if each.status_code == 409)
    assert all("retry-after" in each.headers for each in answers if each.status_code == 409)
    assert len({each.json()["id"] for each in answers if each.status_code == 201}) == 1
    assert people(admin) == before + 1


def test_a_secret_is_not_kept(hub: RunningHub, admin: httpx.Client) -> None:
    """A one-time link is not made twice, and is nowhere in the database."""
    key = a_key()
    made = admin.post("/api/v1/operators/links", json={}, headers=key)
    token = made.json()["path"].rpartition("/")[2]
    again = admin.post("/api/v1/operators/links", json={}, headers=key)
    assert (again.status_code, code_of(again)) == (409, "answer_not_kept")
    with hub.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM idempotency_keys").all()
    assert len(rows) >= 1
    assert token not in str(rows)


def test_a_day_later_a_key_is_new(hub: RunningHub, admin: httpx.Client) -> None:
    """The answer is forgotten after 24 hours, and its row is gone."""
    key, before = a_key(), people(admin)
    admin.post("/api/v1/cardholders", json=PERSON, headers=key)
    hub.clock.ahead += timedelta(hours=23, minutes=59)
    assert "idempotent-replayed" in admin.post("/api/v1/cardholders", json=PERSON, headers=key).headers
    hub.clock.ahead += timedelta(minutes=2)
    assert admin.post("/api/v1/cardholders", json=PERSON, headers=key).status_code == 201
    assert people(admin) == before + 2
    with hub.database.read() as connection:
        oldest = connection.exec_driver_sql("SELECT count(*) FROM idempotency_keys").scalar()
    assert oldest == 1


@pytest.mark.parametrize("key", ["", "with space", '"open', "x" * 65, '""', 'a"b', "é"])
def test_what_is_no_key_is_refused(admin: httpx.Client, key: str) -> None:
    """With its name, before anything is done."""
    before = people(admin)
    answer = admin.post(
        "/api/v1/cardholders", json=PERSON, headers=[(b"idempotency-key", key.encode("latin-1"))]
    )
    assert (answer.status_code, code_of(answer)) == (422, "invalid")
    assert people(admin) == before


def test_a_stranger_is_told_to_sign_in(hub: RunningHub) -> None:
    """A key opens nothing."""
    with hub.client(origin=hub.url) as stranger:
        assert code_of(stranger.post("/api/v1/cardholders", json=PERSON, headers=a_key())) == "not_signed_in"


def test_an_answer_outlives_a_restart(tmp_path: Path) -> None:
    """Another process gives the same answer."""
    key = a_key()
    with running_hub(tmp_path) as first, first.token() as program:
        authorization = program.headers["authorization"]
        made = program.post("/api/v1/cardholders", json=PERSON, headers=key)
    second = RunningHub.again(first)
    try:
        with second.client(authorization=authorization) as program:
            again = program.post("/api/v1/cardholders", json=PERSON, headers=key)
        assert again.json() == made.json()
        assert again.headers["idempotent-replayed"] == "true"
    finally:
        second.stop()


# -- killed in between --------------------------------------------------------------------------------


def keyed(clock: Clock, attempt: str = "1") -> KeyedRequest:
    return KeyedRequest(
        actor="token:x", key="k", fingerprint=b"f", attempt=attempt, state=State.BEGUN, begun_at=clock()
    )


@pytest.mark.parametrize("written", [False, True])
def test_what_a_kill_leaves_says_whether_it_was_done(
    hub: RunningHub, admin: httpx.Client, written: bool
) -> None:
    """Killed before its transaction: done by the next one. After it: not done again, and the caller is told."""
    key, before = a_key(), people(admin)
    original = idempotency._keep
    failed = RuntimeError("killed before it answered")

    def killed(*_: Any, **__: Any) -> None:
        raise failed

    patched = pytest.MonkeyPatch()
    try:
        if written:
            patched.setattr(idempotency, "_keep", killed)
        else:
            patched.setattr(idempotency, "_witness", lambda _mine: killed)
            patched.setattr(idempotency, "_forget", lambda *_: None)
        assert admin.post("/api/v1/cardholders", json=PERSON, headers=key).status_code == 500
    finally:
        patched.undo()
    assert idempotency._keep is original
    assert people(admin) == before + written
    at_once = admin.post("/api/v1/cardholders", json=PERSON, headers=key)
    assert code_of(at_once) == "key_in_use"
    hub.clock.ahead += idempotency.LEASE
    later = admin.post("/api/v1/cardholders", json=PERSON, headers=key)
    assert later.status_code == (409 if written else 201)
    assert code_of(later) == ("outcome_unknown" if written else None)
    assert people(admin) == before + 1


def test_an_attempt_that_was_overtaken_writes_nothing(tmp_path: Path) -> None:
    """A key that was taken over refuses the transaction of the one who held it before."""
    database, clock = fresh_database(tmp_path / "hub.sqlite"), Clock()
    first, second = keyed(clock, "1"), keyed(clock, "2")
    with database.write() as connection:
        store.begin(connection, first)
        store.begin(connection, second)
    with database.write() as connection:
        assert not store.mark_written(connection, first)
        assert store.mark_written(connection, second)
        store.forget(connection, second)
    with database.read() as connection:
        found = store.get(connection, "token:x", "k")
    assert found is not None
    assert (found.attempt, found.state) == ("2", State.WRITTEN)
    database.close()


@given(st.text(max_size=70) | st.from_regex(r'"?[ -~]{0,66}"?', fullmatch=True))
def test_a_key_is_text_or_refused(text: str) -> None:
    """Whatever the header holds: a key of 1 to 64 printable characters, or a problem."""
    bare = re.fullmatch(r"[!#-~]{1,64}", text)
    quoted = re.fullmatch(r'"([ !#-\[\]-~]{1,64})"', text)
    if bare or quoted:
        assert idempotency.parse(text) == (quoted[1] if quoted else text)
    else:
        with pytest.raises(Problem) as caught:
            idempotency.parse(text)
        assert caught.value.code is Code.INVALID
