"""What ``drempel-edge doctor`` looks at on the way to the hub: certificates, broker, documents."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from cryptography import x509

from edge.config import Config
from edge.finding import Code, Finding
from edge.keystore import (
    Keystore,
    read_certificates,
    read_policy_keys,
    read_root_keys,
    roots_in_force,
)
from edge.link_state import NEXT_STEPS, LinkCause, cause_of
from edge.signers import Signers
from pacs import bundle
from pacs.certificates import leads_to, renew_from
from pacs.errors import MalformedData, StoreError, VerificationError
from pacs.messages import DocumentKind
from pacs.revocation import StatusList
from pacs.rules import Policy

STEP_S: Final = 5.0
"""What each step to the broker may take."""
_REFUSALS: Final = {
    1: Code.BROKER_MQTT_VERSION,
    2: Code.BROKER_MQTT_CLIENT_ID,
    3: Code.BROKER_MQTT_UNAVAILABLE,
    4: Code.BROKER_MQTT_UNKNOWN,
    5: Code.BROKER_MQTT_REFUSED,
}


def examine_certificates(config: Config, now: datetime) -> Iterator[Finding]:
    """Whether the keys can be used, fit their certificate, and for how long that is valid."""
    try:
        keystore = Keystore.open(config.keys, config.controller_id)
        chain = read_certificates(keystore.paths.device_certificate)
        roots = roots_in_force(keystore.paths)
    except StoreError as error:
        yield Finding.failed(Code.KEYS_UNUSABLE, error)
        return
    yield Finding.of(Code.KEYS_FIT)
    device = keystore.device_certificate
    if not leads_to(chain, roots):
        yield Finding.of(Code.CERTIFICATE_CHAIN_ASTRAY)
    else:
        yield Finding.of(Code.CERTIFICATE_CHAIN_LEADS)
    names = _dns_names(device)
    if config.controller_id in names:
        yield Finding.of(Code.CERTIFICATE_NAMES_FIT, controller=config.controller_id)
    else:
        lacking, listed = config.controller_id, ", ".join(names) or "(none)"
        yield Finding.of(Code.CERTIFICATE_NAMES_LACK, names=listed, controller=lacking)
    yield _validity("CERTIFICATE_DATES", device, now)
    for authority in chain[1:2]:
        yield _validity("AUTHORITY_DATES", authority, now)
    yield _validity("ROOT_DATES", roots[0], now)


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _validity(check: str, certificate: x509.Certificate, now: datetime) -> Finding:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        return Finding.of(Code[f"{check}_NOT_YET"], from_at=begins)
    if now >= ends:
        return Finding.of(Code[f"{check}_EXPIRED"], until_at=ends)
    code = Code[f"{check}_ENDING" if now >= renew_from(certificate) else f"{check}_VALID"]
    return Finding.of(code, until_at=ends, days=(ends - now).days)


def examine_broker(config: Config, status: dict[str, Any] | None, now: datetime) -> Iterator[Finding]:
    """Each step to the broker, up to the first that fails. The session of the running controller is left alone."""
    if status and "link" in status:
        link = status["link"]
        if link["state"] == "online" and link["answered"]:
            yield Finding.of(Code.HUB_LINK_ANSWERED)
        else:
            phase, problem = link["state"], link["words"] or "the hub has not answered"
            if (retry_s := link["retry_in_s"]) is None:
                yield Finding.of(Code.HUB_LINK_AWAY, phase=phase, problem=problem)
            else:
                yield Finding.of(Code.HUB_LINK_WAITING, phase=phase, retry_s=retry_s, problem=problem)
    host, port = config.hub_host, config.hub_port
    failed = Code.BROKER_TCP_FAILED
    try:
        with socket.create_connection((host, port), timeout=STEP_S) as plain:
            yield Finding.of(Code.BROKER_TCP_ACCEPTS, host=f"{host}:{port}")
            failed = Code.BROKER_TLS_FAILED
            context = Keystore.open(config.keys, config.controller_id).tls_context()
            with context.wrap_socket(plain, server_hostname=host) as secure:
                shown = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
                days = (shown.not_valid_after_utc - now).days
                yield Finding.of(Code.BROKER_TLS_SPOKEN, version=secure.version(), host=host, days=days)
                yield _connect(secure)
    except (OSError, StoreError) as error:
        words = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
        yield Finding.of(failed, host=f"{host}:{port}", problem=words, advice=NEXT_STEPS[cause_of(error)])


def _connect(secure: ssl.SSLSocket) -> Finding:
    """MQTT 3.1.1 §3.1 and §3.2 under a client id of its own: that of the controller would end its session."""
    client_id = b"doctor-" + os.urandom(8).hex().encode()
    variable = b"\x00\x04MQTT\x04\x02\x00\x0a" + len(client_id).to_bytes(2) + client_id
    try:
        secure.settimeout(STEP_S)
        secure.sendall(b"\x10" + bytes([len(variable)]) + variable)
        answer = secure.recv(4)
        secure.sendall(b"\xe0\x00")
    except TimeoutError:
        return Finding.of(Code.BROKER_MQTT_SILENT, patience_s=STEP_S)
    except OSError as error:
        if (
            cause := cause_of(error)
        ) is LinkCause.CERTIFICATE_REFUSED:  # TLS 1.3 says so behind the handshake
            return Finding.of(Code.BROKER_MQTT_CERTIFICATE, problem=error, advice=NEXT_STEPS[cause])
        return Finding.of(Code.BROKER_MQTT_BROKEN, problem=error.strerror or type(error).__name__)
    if answer == b"\x20\x02\x00\x00":
        return Finding.of(Code.BROKER_MQTT_ACCEPTED)
    if len(answer) == 4 and answer[:2] == b"\x20\x02":
        if (refused := _REFUSALS.get(answer[3])) is not None:
            return Finding.of(refused)
        return Finding.of(Code.BROKER_MQTT_REFUSED_OTHERWISE, status=answer[3])
    return Finding.of(Code.BROKER_MQTT_OTHER if answer else Code.BROKER_MQTT_ENDED)


Documents = Mapping[DocumentKind, tuple[Policy | StatusList | None, str]]
"""Each kind; and why not, where there is none."""


def held_documents(config: Config, pause: Callable[[], None] = lambda: None) -> Documents:
    """What is on disk, verified, without changing it.

    ``pause`` is called again and again meanwhile. Raises ``StoreError`` when the policy key cannot be used.
    """
    trusted = _believed(config).kept
    held: dict[DocumentKind, tuple[Policy | StatusList | None, str]] = {}
    for kind in DocumentKind:
        document: Policy | StatusList | None = None
        problem = ""
        try:
            data = (config.state_dir / "policy" / f"{kind.value}.signed").read_bytes()
            if kind is DocumentKind.POLICY:
                document = bundle.open_bundle(data, trusted, pause=pause)
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
        partial(read_root_keys, config.keys.root_certificate),
    )
    try:
        data = (config.state_dir / "policy" / "keys.signed").read_bytes()
        signers.follow(signers.verified(data), data)
    except FileNotFoundError:
        pass
    except (OSError, MalformedData, VerificationError):
        signers.believe_nobody()
    return signers


def examine_policy(
    config: Config, now: datetime, documents: Callable[[], Documents] | None = None
) -> Iterator[Finding]:
    """Whether a door could decide by what is held: age, end, doors, issuers."""
    try:
        held = documents() if documents else held_documents(config)
    except StoreError as error:
        yield Finding.failed(Code.POLICY_KEY_UNUSABLE, error)
        return
    for kind, (document, problem) in held.items():
        if document is None:
            yield Finding.of(Code[f"{kind.name}_UNUSABLE"], problem=problem)
        elif (until := document.expires_at) <= now:
            yield Finding.of(Code[f"{kind.name}_EXPIRED"], version=document.version, until_at=until)
        else:
            age_s = (now - document.issued_at).total_seconds()
            yield Finding.of(Code[f"{kind.name}_HELD"], version=document.version, age_s=age_s)
    policy, _ = held[DocumentKind.POLICY]
    if isinstance(policy, Policy):
        yield from _doors(config, policy, held[DocumentKind.REVOCATIONS][0], now)


def _doors(
    config: Config, policy: Policy, revocations: Policy | StatusList | None, now: datetime
) -> Iterator[Finding]:
    if not policy.issuers:
        yield Finding.of(Code.ISSUERS_NONE)
    issued = [document.issued_at for document in (policy, revocations) if document]
    for door in config.doors:
        known = policy.doors.get(door.id)
        if known is None:
            yield Finding.of(Code.DOOR_UNKNOWN, subject=door.id)
        elif known.controller_id != config.controller_id:
            yield Finding.of(Code.DOOR_ELSEWHERE, controller=known.controller_id, subject=door.id)
        elif (age_s := (now - min(issued)).total_seconds()) > known.max_policy_age_s:
            allowed_s, then = known.max_policy_age_s, known.when_too_old.value
            yield Finding.of(Code.DOOR_TOO_OLD, age_s=age_s, allowed_s=allowed_s, then=then, subject=door.id)
        else:
            yield Finding.of(Code.DOOR_KNOWN, mode=known.mode.value, subject=door.id)
