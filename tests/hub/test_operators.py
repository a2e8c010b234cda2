"""Signing in: links that work once, passwords, sessions, tokens; and what is never stored."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, cast

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from hub.api.attempts import Attempts
from hub.api.problems import Problem
from hub.oidc import OpenIdConnect
from hub.oidc_provider import Answer, Identity, OidcSettings, Provider
from hub.operators import (
    BROWSER_LIFETIME,
    LINK_LIFETIME,
    SESSION_IDLE,
    SESSION_LIFETIME,
    Operators,
    Principal,
    SignInRefused,
)
from hub.roles import PERMISSIONS, Permission, Role
from hub.store.database import Database
from hub.store.schema import metadata, sign_in_tries
from tests.hub.databases import fresh_database

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PASSWORD = "correct horse battery staple"
QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = fresh_database(tmp_path / "hub.sqlite")
    yield made
    made.close()


@pytest.fixture
def operators(database: Database) -> Operators:
    return Operators(database, QUICK)


def joined(operators: Operators, name: str = "Nadia", role: Role | None = None) -> str:
    """A session of somebody who followed a first link and chose a password."""
    link = operators.links.create(name="", role=role, now=NOW)
    return operators.links.follow(link, name=name, password=PASSWORD, now=NOW)


def refused(code: str) -> pytest.RaisesExc[SignInRefused]:
    return pytest.RaisesExc(SignInRefused, check=lambda error: error.code == code)


def test_a_first_link_makes_an_administrator(operators: Operators) -> None:
    """Nobody exists until the first link is followed, and who follows it may do everything."""
    assert not operators.are_there_any()
    session = operators.sessions.principal(joined(operators), NOW)
    assert session is not None
    assert operators.are_there_any()
    assert session.role is Role.ADMINISTRATOR
    assert all(session.may(permission) for permission in Permission)


def test_a_link_works_once(operators: Operators) -> None:
    """The second to follow a link is refused."""
    link = operators.links.create(name="", role=None, now=NOW)
    operators.links.follow(link, name="Nadia", password=None, now=NOW)
    with refused("link_unusable"):
        operators.links.follow(link, name="Eve", password=None, now=NOW)


def test_first_links_do_not_pile_up(operators: Operators) -> None:
    """Before there is anybody, only the newest unnamed link works, and none is left when one was followed."""
    older, named, newest = (operators.links.create(name=name, role=None, now=NOW) for name in ("", "Eve", ""))
    with refused("link_unusable"):
        operators.links.look_at(older, NOW)
    operators.links.follow(named, name="", password=None, now=NOW)
    with refused("link_unusable"):
        operators.links.look_at(newest, NOW)
    later = [operators.links.create(name="", role=Role.GUARD, now=NOW) for _ in range(2)]
    for number, link in enumerate(later):
        operators.links.follow(link, name=f"Guard {number}", password=None, now=NOW)


def test_of_many_who_follow_a_link_at_once_one_succeeds(operators: Operators) -> None:
    """The race for a link has one winner."""
    link = operators.links.create(name="", role=None, now=NOW)
    won: list[str] = []
    start = threading.Barrier(6)

    def follow(number: int) -> None:
        start.wait(10)
        try:
            won.append(operators.links.follow(link, name=f"Somebody {number}", password=None, now=NOW))
        except SignInRefused:
            return

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(won) == 1


def test_looking_at_a_link_does_not_use_it(operators: Operators) -> None:
    """A preview that fetches the address leaves the link usable."""
    link = operators.links.create(name="", role=Role.GUARD, now=NOW)
    assert operators.links.look_at(link, NOW).role == Role.GUARD
    assert operators.links.follow(link, name="Nadia", password=None, now=NOW)


def test_a_link_ends_after_fifteen_minutes(operators: Operators) -> None:
    """Up to the last second it works, then no longer."""
    link = operators.links.create(name="", role=None, now=NOW)
    last = NOW + LINK_LIFETIME - timedelta(seconds=1)
    assert operators.links.look_at(link, last).used_at is None
    with refused("link_unusable"):
        operators.links.look_at(link, NOW + LINK_LIFETIME)
    with refused("link_unusable"):
        operators.links.follow(link, name="Nadia", password=None, now=NOW + LINK_LIFETIME)


def test_a_refused_choice_leaves_the_link_usable(operators: Operators) -> None:
    """Too short a password, or a taken name, can be corrected."""
    joined(operators, "Nadia")
    link = operators.links.create(name="", role=Role.GUARD, now=NOW)
    with refused("password_unusable"):
        operators.links.follow(link, name="Hans", password="short", now=NOW)
    with refused("name_taken"):
        operators.links.follow(link, name=" nadia ", password=PASSWORD, now=NOW)
    assert operators.links.follow(link, name="Hans", password=PASSWORD, now=NOW)


@pytest.mark.parametrize("password", ["", "eleven char", "aaaaaaaaaaaaaaa", "Nadia of the gate", "x" * 257])
def test_a_weak_password_is_refused(operators: Operators, password: str) -> None:
    """Short, endless, monotonous, or the name itself."""
    link = operators.links.create(name="", role=None, now=NOW)
    with refused("password_unusable"):
        operators.links.follow(link, name="Nadia of the gate", password=password, now=NOW)


@pytest.mark.parametrize("name", ["", "   ", "x" * 65, "line\nbreak", "\u0000"])
def test_an_unusable_name_is_refused(operators: Operators, name: str) -> None:
    """Empty, endless or unprintable."""
    link = operators.links.create(name="", role=None, now=NOW)
    with refused("name_unusable"):
        operators.links.follow(link, name=name, password=None, now=NOW)


def test_signing_in_later_with_the_password(operators: Operators) -> None:
    """Case and outer spaces of the name do not matter; the password does."""
    joined(operators)
    token = operators.sessions.sign_in("  NADIA ", PASSWORD, NOW)
    principal = operators.sessions.principal(token, NOW)
    assert principal is not None
    assert principal.name == "Nadia"
    for name, password in (("Nadia", PASSWORD + "!"), ("Nobody", PASSWORD), ("", ""), ("Nadia", "")):
        with refused("name_or_password_wrong"):
            operators.sessions.sign_in(name, password, NOW)


def test_who_chose_no_password_cannot_sign_in_by_password(operators: Operators) -> None:
    """The one-time link's session is all they have."""
    link = operators.links.create(name="", role=None, now=NOW)
    operators.links.follow(link, name="Nadia", password=None, now=NOW)
    with refused("name_or_password_wrong"):
        operators.sessions.sign_in("Nadia", "", NOW)


def test_a_link_for_somebody_known_sets_a_new_password_and_ends_old_sessions(operators: Operators) -> None:
    """The way back for who forgot a password, or whose session was stolen."""
    old = joined(operators)
    link = operators.links.create(name="nadia", role=None, now=NOW)
    new = operators.links.follow(link, name="ignored", password="another good sentence", now=NOW)
    assert operators.sessions.principal(old, NOW) is None
    assert operators.sessions.principal(new, NOW) is not None
    assert operators.sessions.sign_in("Nadia", "another good sentence", NOW)
    with refused("name_or_password_wrong"):
        operators.sessions.sign_in("Nadia", PASSWORD, NOW)


def test_a_link_does_not_change_a_role(operators: Operators) -> None:
    """A link for somebody known keeps their role, and naming another is refused."""
    joined(operators, role=Role.GUARD)
    with refused("role_differs"):
        operators.links.create(name="Nadia", role=Role.ADMINISTRATOR, now=NOW)
    link = operators.links.create(name="Nadia", role=None, now=NOW)
    principal = operators.sessions.principal(
        operators.links.follow(link, name="", password=None, now=NOW), NOW
    )
    assert principal is not None
    assert principal.role is Role.GUARD


def test_a_session_ends_idle_and_ends_anyway(operators: Operators) -> None:
    """An hour without use, or twelve hours of use."""
    token = joined(operators)
    assert operators.sessions.principal(token, NOW + SESSION_IDLE) is None
    step, at = SESSION_IDLE - timedelta(minutes=1), NOW
    while at + step < NOW + SESSION_LIFETIME:
        at += step
        assert operators.sessions.principal(token, at) is not None
    assert operators.sessions.principal(token, NOW + SESSION_LIFETIME) is None


def test_signing_out_ends_the_session(operators: Operators) -> None:
    """The cookie is worth nothing afterwards."""
    token = joined(operators)
    principal = operators.sessions.principal(token, NOW)
    assert principal is not None
    operators.sessions.sign_out(token, principal, NOW)
    assert operators.sessions.principal(token, NOW) is None


def test_a_disabled_operator_is_out_at_once(operators: Operators) -> None:
    """Sessions end, the password no longer works; enabling lets them in again."""
    token = joined(operators)
    pending = operators.links.create(name="Nadia", role=None, now=NOW)
    somebody = operators.sessions.principal(token, NOW)
    assert somebody is not None
    operator_id = somebody.actor.removeprefix("operator:")
    operators.set_disabled(operator_id, disabled=True, now=NOW)
    assert operators.sessions.principal(token, NOW) is None
    with refused("name_or_password_wrong"):
        operators.sessions.sign_in("Nadia", PASSWORD, NOW)
    with refused("link_unusable"):
        operators.links.follow(pending, name="", password=None, now=NOW)
    operators.set_disabled(operator_id, disabled=False, now=NOW)
    assert operators.sessions.sign_in("Nadia", PASSWORD, NOW)


def test_a_token_works_until_it_expires_or_is_revoked(operators: Operators) -> None:
    """Programs have a role, an optional end, and can be shut out at once."""
    token = operators.tokens.create(name="bureau", role=Role.GUARD, lifetime=timedelta(days=1), now=NOW)
    principal = operators.tokens.principal(token, NOW)
    assert principal is not None
    assert (principal.actor, principal.role, principal.csrf_token) == ("token:bureau", Role.GUARD, None)
    assert operators.tokens.principal(token, NOW + timedelta(days=1)) is None
    assert operators.tokens.principal(token + "x", NOW) is None
    with refused("token_name_taken"):
        operators.tokens.create(name="bureau", role=Role.GUARD, lifetime=None, now=NOW)
    operators.tokens.revoke("bureau", NOW)
    assert operators.tokens.principal(token, NOW) is None
    with refused("token_unknown"):
        operators.tokens.revoke("nobody", NOW)


def test_no_secret_is_stored(operators: Operators, database: Database, tmp_path: Path) -> None:
    """Neither link, session, token nor password stands in any table or file, and the password is argon2id."""
    link = operators.links.create(name="", role=None, now=NOW)
    session = operators.links.follow(link, name="Nadia", password=PASSWORD, now=NOW)
    token = operators.tokens.create(name="bureau", role=Role.GUARD, lifetime=None, now=NOW)
    with database.read() as connection:
        rows = [row for table in metadata.sorted_tables for row in connection.execute(select(table))]
    database.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("hub.sqlite*")) + repr(rows).encode()
    for secret in (link, session, token, PASSWORD):
        assert secret.encode() not in stored
    assert b"$argon2id$" in stored


def test_csrf_tokens_differ_by_session_and_do_not_tell_the_cookie(operators: Operators) -> None:
    """Each session has its own, and it is not the cookie."""
    tokens = [joined(operators, "Nadia"), operators.sessions.sign_in("Nadia", PASSWORD, NOW)]
    principals = [operators.sessions.principal(token, NOW) for token in tokens]
    csrf = [principal.csrf_token for principal in principals if principal]
    assert len(set(csrf)) == 2
    assert not set(csrf) & set(tokens)


def test_every_role_but_one_can_watch_and_only_some_can_block() -> None:
    """The permission map says who may block a card, see names, and manage operators."""

    def holding(permission: Permission) -> set[Role]:
        return {role for role in Role if permission in PERMISSIONS[role]}

    assert holding(Permission.EVENTS_READ) == set(Role) - {Role.ISSUING_DESK}
    desk = {Role.GUARD, Role.RECEPTION, Role.SITE_MANAGER, Role.ADMINISTRATOR}
    assert holding(Permission.CARDS_BLOCK) == desk | {Role.ISSUING_DESK}
    assert holding(Permission.NAMES_READ) == desk | {Role.ISSUING_DESK}
    assert holding(Permission.MOVEMENTS_READ) == desk
    makes_cards = {Permission.CARDHOLDERS_READ, Permission.CARDHOLDERS_ENROL, Permission.NAMES_READ} | {
        *(Permission.CARDS_READ, Permission.CARDS_MANAGE, Permission.CARDS_BLOCK)
    }
    assert PERMISSIONS[Role.ISSUING_DESK] == makes_cards | {Permission.ACCOUNT_MANAGE}
    assert PERMISSIONS[Role.ISSUING_DESK] | PERMISSIONS[Role.GUARD] < PERMISSIONS[Role.RECEPTION]
    assert holding(Permission.OPERATORS_MANAGE) == {Role.ADMINISTRATOR}
    assert holding(Permission.AUDIT_READ) == {Role.AUDITOR, Role.ADMINISTRATOR}


def test_guessing_from_everywhere_does_not_keep_a_known_browser_out() -> None:
    """A thousand sources together have twenty tries at a name; who signed in before has their own."""
    attempts = Attempts(lambda: NOW)
    for number in range(20):
        attempts.count(f"198.51.100.{number}", "nadia")
    with pytest.raises(Problem):
        attempts.count("192.0.2.20", "Nadia")
    for number in range(30):
        with contextlib.suppress(Problem):
            attempts.count("192.0.2.20", f"name {number}")
    for _ in range(10):
        attempts.count("192.0.2.20", "nadia", known_browser="browser")
    with pytest.raises(Problem):
        attempts.count("192.0.2.20", "nadia", known_browser="browser")
    attempts.forgive("192.0.2.20", "nadia", known_browser="browser")
    attempts.count("192.0.2.20", "nadia", known_browser="browser")


def test_a_browser_is_known_for_who_signed_in_with_it(operators: Operators) -> None:
    """For each of a desk's people, and for nobody else; not after it was forgotten or its time is over."""
    first = joined(operators)
    browser = operators.browsers.remember(first, None, NOW)
    assert browser is not None
    assert operators.browsers.remember(first, browser, NOW) is None
    link = operators.links.create(name="Olu", role=Role.GUARD, now=NOW)
    second = operators.links.follow(link, name="", password=None, now=NOW)
    assert not operators.browsers.knows(browser, "Olu", NOW)
    assert operators.browsers.remember(second, browser, NOW) == browser
    assert operators.browsers.remember(second, "made up", NOW) not in (None, "made up")
    assert [operators.browsers.knows(browser, name, NOW) for name in ("nadia", "OLU", "Eve")] == [
        True,
        True,
        False,
    ]
    assert not operators.browsers.knows("made up", "nadia", NOW)
    assert not operators.browsers.knows(browser, "nadia", NOW + BROWSER_LIFETIME)
    principal = operators.sessions.principal(second, NOW)
    assert principal is not None
    operators.end_sessions(principal.actor.removeprefix("operator:"), now=NOW)
    assert [operators.browsers.knows(browser, name, NOW) for name in ("nadia", "olu")] == [True, False]


def test_strangers_passwords_take_turns_and_hold_up_nobody_known(database: Database) -> None:
    """While a stranger's hash is reckoned the next stranger is sent away, and a known browser signs in."""
    hashing, go_on = threading.Event(), threading.Event()

    class Slow(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - as the library names it
            if password == "slow":
                hashing.set()
                go_on.wait(30)
            return super().verify(hash, password)

    operators = Operators(database, Slow(time_cost=1, memory_cost=64, parallelism=1))
    joined(operators)

    def stranger() -> None:
        with pytest.raises(SignInRefused):
            operators.sessions.sign_in("Nadia", "slow", NOW)

    thread = threading.Thread(target=stranger)
    thread.start()
    try:
        assert hashing.wait(30)
        with refused("busy"):
            operators.sessions.sign_in("Nadia", PASSWORD, NOW)
        assert operators.sessions.sign_in("Nadia", PASSWORD, NOW, is_known_browser=True)
    finally:
        go_on.set()
        thread.join(30)


def test_guessing_from_elsewhere_does_not_keep_the_guard_out() -> None:
    """Another source's guesses leave the guard's own tries."""
    attempts = Attempts(lambda: NOW)
    for _ in range(5):
        attempts.count("203.0.113.7", "nadia")
    with pytest.raises(Problem):
        attempts.count("203.0.113.7", "NADIA ")
    attempts.count("192.0.2.20", "nadia")


def test_one_source_cannot_go_through_many_accounts() -> None:
    """Thirty tries in five minutes, whichever names they are for; one IPv6 subscriber is one source."""
    attempts = Attempts(lambda: NOW)
    for number in range(30):
        attempts.count(f"2001:db8::{number:x}", f"name {number}")
    with pytest.raises(Problem) as refusal:
        attempts.count("2001:db8::ffff", "another name")
    assert refusal.value.headers["Retry-After"] == "300"


def test_a_guesser_gains_nothing_by_going_to_the_next_process(database: Database) -> None:
    """Processes that share a database share the tries, for five minutes; each who is right starts anew in all."""
    at = [NOW]
    first, second = (Attempts(lambda: at[0], database) for _ in range(2))
    for _ in range(2):
        first.count("203.0.113.7", "nadia")
        second.count("203.0.113.7", "nadia")
    first.forgive("203.0.113.7", "nadia")
    for attempts in (first, second, first):
        attempts.count("203.0.113.7", "nadia")
    first.count("203.0.113.7", "nadia")
    first.count("203.0.113.7", "nadia")
    with pytest.raises(Problem):
        second.count("203.0.113.7", "NADIA ")
    second.count("192.0.2.20", "nadia")
    at[0] += timedelta(minutes=5)
    second.count("203.0.113.7", "nadia")
    with database.read() as connection:
        assert set(connection.scalars(select(sign_in_tries.c.at))) == {at[0]}


def test_a_right_password_forgives_the_wrong_ones() -> None:
    """Who finally gets it right starts anew."""
    attempts = Attempts(lambda: NOW)
    for _ in range(4):
        for _ in range(4):
            attempts.count("192.0.2.20", "nadia")
        attempts.forgive("192.0.2.20", "nadia")


def test_a_principal_says_nothing_of_secrets(operators: Operators) -> None:
    """What may reach a log by accident holds neither cookie nor password."""
    token = joined(operators)
    principal = operators.sessions.principal(token, NOW)
    assert isinstance(principal, Principal)
    assert token not in repr(principal)
    assert principal.csrf_token is not None
    assert principal.csrf_token not in repr(principal)


class Vouching:
    """A provider that is believed: whoever comes back is ``subject``."""

    def __init__(self, subject: str) -> None:
        self.settings = OidcSettings(issuer="https://login.example.org", client_id="hub")
        self.subject = subject

    def address(self, **said: str) -> str:
        return said["state"]

    def identity(self, *_: object, **__: object) -> Identity:
        return Identity(self.settings.issuer, self.subject)


def test_an_account_is_one_operators_and_a_request_is_answered_once(
    operators: Operators, database: Database
) -> None:
    """Of several who bring the same answer at once, one is signed in; what is refused changes nothing."""
    oidc = OpenIdConnect(database, cast("Provider", Vouching("f3a1-77")))
    link = operators.links.create(name="", role=Role.GUARD, now=NOW)
    begun = oidc.begin(NOW, browser=None, link=link, name="Nadia")
    assert oidc.complete(oidc.taken(begun.address, begun.browser, NOW), Answer(code="x"), None, NOW)
    other = operators.links.create(name="", role=Role.ADMINISTRATOR, now=NOW)
    begun = oidc.begin(NOW, browser=None, link=other, name="Eve")
    with refused("account_taken"):
        oidc.complete(oidc.taken(begun.address, begun.browser, NOW), Answer(code="x"), None, NOW)
    assert operators.links.look_at(other, NOW).used_at is None
    begun = oidc.begin(NOW, browser=None)
    won: list[str] = []
    start = threading.Barrier(4)

    def come_back() -> None:
        start.wait(10)
        with contextlib.suppress(SignInRefused):
            won.append(oidc.taken(begun.address, begun.browser, NOW).next)

    threads = [threading.Thread(target=come_back) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert won == ["/"]
