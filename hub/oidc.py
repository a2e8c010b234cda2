"""Signing in by OpenID Connect: what is begun here, answered there, and whom it lets in.

An account at the provider opens this hub only for the operator who connected it: signed in here, or by a one-time link.
No claim makes an operator or gives a role. A request lives ten minutes and is answered once, by the browser that began
it; who is refused, and why, is in the audit log.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from hub import audit
from hub.oidc_provider import Answer, Identity, Provider
from hub.operators import (
    Principal,
    SignInRefused,
    accept_link,
    digest,
    forget_ways_in,
    free_name,
    open_session,
)
from hub.store import oidc as rows
from hub.store import operators as operator_rows
from hub.store import passkeys as passkey_rows
from hub.store.database import Database
from hub.store.errors import NotFound
from hub.store.oidc import IdentityRow, RequestRow

REQUEST_LIFETIME = timedelta(minutes=10)
_KEPT = timedelta(hours=1)
"""An answer that comes late is told so for that long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Where to send the browser, and by what it is known when it comes back."""

    address: str
    browser: str


class OpenIdConnect:
    """Sign-in by one provider. Methods that check something raise ``SignInRefused``."""

    def __init__(self, database: Database, provider: Provider) -> None:
        self._database = database
        self._provider = provider

    @property
    def label(self) -> str:
        """What people call the provider."""
        return self._provider.settings.shown_label

    @property
    def issuer(self) -> str:
        """How the provider calls itself."""
        return self._provider.settings.issuer

    def begin(
        self,
        now: datetime,
        *,
        browser: str | None,
        next_address: str = "/",
        operator_id: str | None = None,
        link: str | None = None,
        name: str = "",
    ) -> Begun:
        """Begin to sign somebody in; to connect the account of ``operator_id``; or to follow ``link``, as ``name``.

        ``browser`` is what the browser said it is known by, None: nothing.
        """
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        browser = browser or secrets.token_urlsafe(32)
        link_hash = None if link is None else digest(link)
        if link_hash is not None:
            with self._database.read() as connection:
                known = operator_rows.link_by_hash(connection, link_hash)
                name = known.name if known and known.name else free_name(connection, name)
        address = self._provider.address(state=state, nonce=nonce, verifier=verifier)
        with self._database.write() as connection:
            rows.forget_requests(connection, now - _KEPT)
            row = RequestRow(
                state_hash=digest(state),
                browser_hash=digest(browser),
                nonce=nonce,
                verifier=verifier,
                operator_id=operator_id,
                link_hash=link_hash,
                name=name,
                next=next_address,
                expires_at=now + REQUEST_LIFETIME,
            )
            rows.add_request(connection, row)
        return Begun(address=address, browser=browser)

    def taken(self, state: str, browser: str | None, now: datetime) -> RequestRow:
        """The request that is answered, which cannot be answered again."""
        with self._database.write() as connection:
            request = rows.request_by_hash(connection, digest(state))
            code = _unusable(request, browser, now)
            if request is not None and code is None:
                rows.use_request(connection, request.state_hash, now)
                return request
            if request is not None:
                rows.remove_request(connection, request.state_hash)  # so that nobody fills the log with one
                _note_refusal(connection, code or "", now)
        raise SignInRefused(
            code or "", "That took too long, was sent twice, or was begun in another browser. Begin again."
        )

    def complete(
        self, request: RequestRow, answer: Answer, principal: Principal | None, now: datetime
    ) -> str | None:
        """A session's token; None when ``principal`` connected their own account."""
        who = None
        try:
            who = self._provider.identity(answer, nonce=request.nonce, verifier=request.verifier, now=now)
            if request.operator_id is not None:
                self._connect(request.operator_id, who, principal, now)
                return None
            if request.link_hash is not None:
                return self._follow(request.link_hash, request.name, who, now)
            return self._sign_in(who, now)
        except SignInRefused as refused:
            with self._database.write() as connection:
                _note_refusal(connection, refused.code, now, who, request.operator_id)
            raise

    def account_of(self, operator_id: str) -> IdentityRow | None:
        """By what an operator signs in at this provider."""
        with self._database.read() as connection:
            found = rows.identity_of(connection, operator_id)
        return found if found and found.issuer == self.issuer else None

    def _sign_in(self, who: Identity, now: datetime) -> str:
        with self._database.write() as connection:
            known = rows.identity(connection, who.issuer, who.subject)
            operator = known and operator_rows.operator_by_id(connection, known.operator_id)
            if not operator:
                raise SignInRefused(
                    "account_unknown",
                    "That account is not connected to anybody here. Ask an administrator for a one-time link,"
                    " or sign in another way and connect it on the page Account.",
                )
            if operator.disabled_at is not None:
                raise SignInRefused(
                    "operator_disabled", "You are shut out of this hub. Ask an administrator to let you in."
                )
            rows.used_identity(connection, operator.id, now)
            return open_session(connection, operator, now, "session.open_by_oidc")

    def _connect(self, operator_id: str, who: Identity, principal: Principal | None, now: datetime) -> None:
        if principal is None or principal.actor != f"operator:{operator_id}":
            raise SignInRefused(
                "session_over", "You are not signed in any more. Sign in, and connect the account again."
            )
        with self._database.write() as connection:
            _check_free(connection, who, operator_id)
            _link(connection, operator_id, who, now)

    def _follow(self, link_hash: bytes, name: str, who: Identity, now: datetime) -> str:
        with self._database.write() as connection:
            operator = accept_link(connection, link_hash, name, now)
            _check_free(connection, who, operator.id)
            forget_ways_in(connection, operator.id)
            _link(connection, operator.id, who, now)
            rows.used_identity(connection, operator.id, now)
            return open_session(connection, operator, now, "session.open_by_link")


def disconnect(database: Database, operator_id: str, now: datetime, by: Principal | None = None) -> bool:
    """Forget an operator's account at a provider; False when there was none.

    Raises ``SignInRefused`` when it is all that somebody, ``by`` themselves, can sign in with.
    """
    with database.write() as connection:
        operator = operator_rows.operator_by_id(connection, operator_id)
        if operator is None:
            raise NotFound("operator is not there")
        if (
            by is not None
            and not operator.password_hash
            and not passkey_rows.of_operator(connection, operator_id)
        ):
            raise SignInRefused(
                "last_way_in",
                "You have nothing else to sign in with. Add a passkey first, or ask for a one-time link.",
            )
        if not rows.remove_identity_of(connection, operator_id):
            return False
        subject = f"operator:{operator_id}"
        actor = by.actor if by else audit.SYSTEM
        audit.record(connection, now=now, actor=actor, action="oidc.disconnect", subject=subject)
    return True


def _unusable(request: RequestRow | None, browser: str | None, now: datetime) -> str | None:
    """Why a request cannot be answered."""
    if request is None:
        return "state_unknown"
    if browser is None or digest(browser) != request.browser_hash:
        return "other_browser"
    if request.used_at is not None:
        return "state_used"
    return "state_expired" if now >= request.expires_at else None


def _check_free(connection: Connection, who: Identity, operator_id: str) -> None:
    known = rows.identity(connection, who.issuer, who.subject)
    if known is not None and known.operator_id != operator_id:
        raise SignInRefused(
            "account_taken",
            "That account belongs to another operator here. Sign out of the sign-in service, and use your own.",
        )


def _link(connection: Connection, operator_id: str, who: Identity, now: datetime) -> None:
    rows.remove_identity_of(connection, operator_id)
    rows.add_identity(
        connection,
        IdentityRow(issuer=who.issuer, subject=who.subject, operator_id=operator_id, linked_at=now),
    )
    subject = f"operator:{operator_id}"
    audit.record(
        connection, now=now, actor=subject, action="oidc.connect", subject=subject, detail=_account(who)
    )


def _note_refusal(
    connection: Connection,
    code: str,
    now: datetime,
    who: Identity | None = None,
    operator_id: str | None = None,
) -> None:
    known = rows.identity(connection, who.issuer, who.subject) if who else None
    concerned = operator_id or (known.operator_id if known else None)
    audit.record(
        connection,
        now=now,
        actor=audit.SYSTEM,
        action="oidc.refuse",
        subject=f"operator:{concerned}" if concerned else "operator:unknown",
        detail={"why": code} | (_account(who) if who else {}),
    )


def _account(who: Identity) -> dict[str, str | int]:
    """Which account it was, for comparing; a provider may use addresses of people for subjects."""
    return {"account": digest(f"{who.issuer} {who.subject}").hex()[:16]}
