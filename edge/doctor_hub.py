"""What ``drempel-edge doctor`` looks at on the way to the hub: certificates, broker, documents."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from edge.config import Config
from edge.finding import Check, Finding
from edge.keystore import (
    Keystore,
    read_certificate,
    read_certificates,
    read_policy_keys,
    read_root_key,
)
from edge.link_state import NEXT_STEPS, LinkCause, cause_of
from edge.signers import Signers
from edge.status import counted, duration
from pacs import bundle
from pacs.certificates import renew_from
from pacs.errors import MalformedData, StoreError, VerificationError
from pacs.messages import DocumentKind
from pacs.revocation import StatusList
from pacs.rules import Policy

STEP_S: Final = 5.0
"""What each step to the broker may take."""
_COPY: Final = "provision this controller again and copy its directory"
_RENEW: Final = "it renews itself while it is connected; after its end: drempel-provision reader re-enrol, and drempel-edge enrol"
_CHECKS: Final = {DocumentKind.POLICY: Check.POLICY, DocumentKind.REVOCATIONS: Check.REVOCATIONS}
_REFUSALS: Final = {
    1: "it does not speak MQTT 3.1.1",
    2: "it does not take this client id",
    3: "it is not available",
    4: "it does not know this controller",
    5: "it does not let this controller in",
}


def examine_certificates(config: Config, now: datetime) -> Iterator[Finding]:
    """Whether the keys can be used, fit their certificate, and for how long that is valid."""
    try:
        keystore = Keystore.open(config.keys, config.controller_id)
        chain = read_certificates(keystore.paths.device_certificate)
        root = read_certificate(config.keys.root_certificate)
    except StoreError as error:
        yield Finding.failed(Check.KEYS, error)
        return
    yield Finding.ok(Check.KEYS, "can be read, and belong to the certificate")
    device = keystore.device_certificate
    try:
        for below, above in pairwise([*chain, root]):
            below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        yield Finding.fail(Check.CERTIFICATE_CHAIN, "does not lead to the site's root", _COPY)
    else:
        yield Finding.ok(Check.CERTIFICATE_CHAIN, "leads to the site's root")
    names = _dns_names(device)
    if config.controller_id in names:
        yield Finding.ok(Check.CERTIFICATE_NAMES, f"CN and DNS name {config.controller_id}")
    else:
        what = f"the DNS names {', '.join(names) or '(none)'} lack {config.controller_id}: the broker goes by them"
        yield Finding.fail(Check.CERTIFICATE_NAMES, what, _COPY)
    yield _validity(Check.CERTIFICATE_DATES, device, now, _RENEW)
    for authority in chain[1:2]:
        yield _validity(
            Check.AUTHORITY_DATES, authority, now, "at the bureau: drempel-provision key rotate devices"
        )
    yield _validity(Check.ROOT_DATES, root, now, "at the bureau: drempel-provision key rotate root")


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _validity(check: Check, certificate: x509.Certificate, now: datetime, advice: str) -> Finding:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        return Finding.fail(
            check, f"valid from {begins:%Y-%m-%d %H:%M} UTC only", "is the clock right? see above"
        )
    if now >= ends:
        return Finding.fail(check, f"expired on {ends:%Y-%m-%d}", advice)
    what = f"{counted((ends - now).days, 'day')} left, until {ends:%Y-%m-%d}"
    return Finding.warn(check, what, advice) if now >= renew_from(certificate) else Finding.ok(check, what)


def examine_broker(config: Config, status: dict[str, Any] | None, now: datetime) -> Iterator[Finding]:
    """Each step to the broker, up to the first that fails. The session of the running controller is left alone."""
    if status and "link" in status:
        link = status["link"]
        if link["state"] == "online" and link["answered"]:
            yield Finding.ok(Check.HUB_LINK, "online, and the hub answers")
        else:
            again = "" if link["retry_in_s"] is None else f", again in {duration(link['retry_in_s'])}"
            what = f"{link['state']}{again}: {link['words'] or 'the hub has not answered'}"
            yield Finding.warn(Check.HUB_LINK, what, "the next lines say which step fails")
    host, port = config.hub_host, config.hub_port
    step = Check.BROKER_TCP
    try:
        with socket.create_connection((host, port), timeout=STEP_S) as plain:
            yield Finding.ok(step, f"{host}:{port} accepts")
            step = Check.BROKER_TLS
            context = Keystore.open(config.keys, config.controller_id).tls_context()
            with context.wrap_socket(plain, server_hostname=host) as secure:
                shown = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
                left = counted((shown.not_valid_after_utc - now).days, "day")
                yield Finding.ok(
                    step, f"{secure.version()}; a certificate of this site for {host}, {left} left"
                )
                yield _connect(secure)
    except (OSError, StoreError) as error:
        words = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
        yield Finding.fail(step, f"{host}:{port}: {words}", NEXT_STEPS[cause_of(error)])


def _connect(secure: ssl.SSLSocket) -> Finding:
    """MQTT 3.1.1 §3.1 and §3.2 under a client id of its own: that of the controller would end its session."""
    step, advice = Check.BROKER_MQTT, "is this controller registered at the hub, and not withdrawn?"
    client_id = b"doctor-" + os.urandom(8).hex().encode()
    variable = b"\x00\x04MQTT\x04\x02\x00\x0a" + len(client_id).to_bytes(2) + client_id
    try:
        secure.settimeout(STEP_S)
        secure.sendall(b"\x10" + bytes([len(variable)]) + variable)
        answer = secure.recv(4)
        secure.sendall(b"\xe0\x00")
    except TimeoutError:
        return Finding.fail(step, f"accepted and silent for {STEP_S:g} s", "restart the broker")
    except OSError as error:
        if (
            cause := cause_of(error)
        ) is LinkCause.CERTIFICATE_REFUSED:  # TLS 1.3 says so behind the handshake
            return Finding.fail(step, str(error), NEXT_STEPS[cause])
        return Finding.fail(step, f"ended by the broker ({error.strerror or type(error).__name__})", advice)
    if answer == b"\x20\x02\x00\x00":
        return Finding.ok(step, "CONNECT accepted")
    if len(answer) == 4 and answer[:2] == b"\x20\x02":
        return Finding.fail(step, _REFUSALS.get(answer[3], f"refused with {answer[3]}"), advice)
    return Finding.fail(step, "ended by the broker" if not answer else "no MQTT", advice)


def held_documents(config: Config) -> Mapping[DocumentKind, tuple[Policy | StatusList | None, str]]:
    """What is on disk, verified, without changing it; and why not, where there is none.

    Raises ``StoreError`` when the policy key cannot be used.
    """
    trusted = _believed(config).kept
    held: dict[DocumentKind, tuple[Policy | StatusList | None, str]] = {}
    for kind in DocumentKind:
        document: Policy | StatusList | None = None
        problem = ""
        try:
            data = (config.state_dir / "policy" / f"{kind.value}.signed").read_bytes()
            if kind is DocumentKind.POLICY:
                document = bundle.open_bundle(data, trusted)
            else:
                document = StatusList.open(data, trusted)
            if document.site_id != config.site_id:
                problem = f"of site {document.site_id}"
                document = None
        except FileNotFoundError:
            problem = "never received"
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        except (MalformedData, VerificationError) as error:
            problem = f"not usable: {error}"
        held[kind] = document, problem
    return held


def _believed(config: Config) -> Signers:
    signers = Signers(
        read_policy_keys(config.keys.policy_public_key),
        partial(read_root_key, config.keys.root_certificate),
    )
    try:
        data = (config.state_dir / "policy" / "keys.signed").read_bytes()
        signers.follow(signers.verified(data), data)
    except FileNotFoundError:
        pass
    except (OSError, MalformedData, VerificationError):
        signers.believe_nobody()
    return signers


def examine_policy(config: Config, now: datetime) -> Iterator[Finding]:
    """Whether a door could decide by what is held: age, end, doors, issuers."""
    try:
        held = held_documents(config)
    except StoreError as error:
        yield Finding.failed(Check.POLICY, error)
        return
    for kind, (document, problem) in held.items():
        check = _CHECKS[kind]
        if document is None:
            yield Finding.fail(check, problem, "connect to the hub, which sends it")
        elif document.expires_at <= now:
            what = f"version {document.version} expired on {document.expires_at:%Y-%m-%d}"
            yield Finding.fail(check, what, "connect to the hub, which sends a newer one")
        else:
            age = duration((now - document.issued_at).total_seconds())
            yield Finding.ok(check, f"version {document.version}, {age} old")
    policy, _ = held[DocumentKind.POLICY]
    if isinstance(policy, Policy):
        yield from _doors(config, policy, held[DocumentKind.REVOCATIONS][0], now)


def _doors(
    config: Config, policy: Policy, revocations: Policy | StatusList | None, now: datetime
) -> Iterator[Finding]:
    if not policy.issuers:
        yield Finding.fail(
            Check.ISSUERS, "the policy trusts no issuer of cards", "add the site's card issuer at the hub"
        )
    issued = [document.issued_at for document in (policy, revocations) if document]
    for door in config.doors:
        known = policy.doors.get(door.id)
        if known is None:
            advice = "give it this id at the hub, or correct [[door]] id"
            yield Finding.fail(Check.DOOR, "the policy does not know it", advice, subject=door.id)
        elif known.controller_id != config.controller_id:
            what = f"the policy gives it to controller {known.controller_id}"
            yield Finding.fail(Check.DOOR, what, "move it to this controller at the hub", subject=door.id)
        elif (age_s := (now - min(issued)).total_seconds()) > known.max_policy_age_s:
            what = f"its documents are {duration(age_s)} old, allowed are {duration(known.max_policy_age_s)}"
            what = f"{what}: then {known.when_too_old.value}"
            yield Finding.warn(Check.DOOR, what, "connect to the hub", subject=door.id)
        else:
            yield Finding.ok(Check.DOOR, f"in the policy, {known.mode.value}", subject=door.id)
