"""Changing a site's keys one at a time while its doors go on: what each change writes, and how the hub is given it.

``keys.signed`` is the root's newest statement (``pacs.key_statement``). A change writes the site's directory; ``deliver``
then makes the hub's directory say the same, as often as it takes. New keys get files of their own names; a private key
is removed once nothing that it signs is believed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pacs.card import p256
from pacs.certificates import renew_from
from pacs.envelope import key_id
from pacs.errors import MalformedData, StoreError, VerificationError
from pacs.key_statement import KeyStatement, open_statement, seal
from pacs.root_change import RootChange
from pacs.wiring import toml_table
from provisioning.authority import Authority, Purpose
from provisioning.keystore import (
    NewFile,
    Passphrase,
    public_pem,
    put_file,
    read_file,
    read_key,
    read_public_key,
)
from provisioning.pkcs11_keys import TokenKey
from provisioning.site import Site, secret_key

STATEMENT: Final = Path("keys.signed")
ROOTS: Final = Path("root.cert.pem")
"""The newest first; the one before it until it is retired."""
INTERMEDIATES: Final = {"devices": Purpose.NODE, "web": Purpose.SERVER}
_FILES_OF: Final = {"devices": "devices", "web": "web-authority"}
_LEAVES_OF: Final = {"devices": ("broker", "client"), "web": ("web",)}
_RETIRED_KEPT: Final = 4
"""Orders to doors last a year at most; no policy key is changed more often than that for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a change of keys comes to: ``files`` to put, the last one decisive, then files to ``remove``.

    Paths are relative to the site's directory. ``key``: what the new key is known by, of a retirement the old one.
    """

    key: str
    files: Sequence[NewFile]
    remove: Sequence[Path] = ()
    statement: KeyStatement | None = None

    def carry_out(self, directory: Path) -> None:
        """Write it, every file whole or not at all; raises ``StoreError``, and may then be done again."""
        for file in self.files:
            put_file(directory, file)
        for path in self.remove:
            (directory / path).unlink(missing_ok=True)


def stated(site: Site) -> KeyStatement | None:
    """The root's newest statement in the site's directory, verified; None: there is none. Raises ``StoreError``."""
    path = site.directory / STATEMENT
    if not path.exists():
        return None
    keys = [each.public_key() for each in roots(site)]
    try:
        return open_statement(
            read_file(path), *(key for key in keys if isinstance(key, ec.EllipticCurvePublicKey))
        )
    except (MalformedData, VerificationError) as error:
        raise StoreError(f"{path}: not what this site's root signed ({error})") from error


def roots(site: Site) -> list[x509.Certificate]:
    """The newest first."""
    return x509.load_pem_x509_certificates(read_file(site.directory / "root.cert.pem"))


def trusted_issuers(site: Site) -> dict[str, ec.EllipticCurvePublicKey]:
    """Whose cards the site's doors believe: those that the root states, or the one that the site was made with."""
    said = stated(site)
    if said is None:
        return {site.issuer: site.card_issuer_public_key()}
    return {issuer: p256.parse_point(point) for issuer, point in said.issuers.items()}


def rotate_policy(
    site: Site, root: Authority, passphrase: Passphrase, now: datetime, *, at_once: bool
) -> Change:
    """A new policy key beside the one in use; ``at_once``: in its place, because that one is not to be believed any more.

    Raises ``StoreError`` when the change before is not over.
    """
    said = stated_or_first(site, now)
    if len(said.policy_keys) > 1 and not at_once:
        raise StoreError("the last change of the policy key is not over: retire the old key first")
    key = ed25519.Ed25519PrivateKey.generate()
    name = key_id(key.public_key()).hex()
    raw = _raw(key.public_key())
    keys = (raw,) if at_once else (*said.policy_keys, raw)
    statement = next_statement(said, now, policy_keys=keys)
    return Change(
        key=name,
        files=[
            secret_key(f"policy-{name}.key.pem", key, passphrase),
            description(site, policy_key_id=name),
            *public_files(statement, root),
        ],
        remove=_policy_files(site, passphrase, but=statement) if at_once else (),
        statement=statement,
    )


def retire_policy(site: Site, root: Authority, passphrase: Passphrase, now: datetime) -> Change:
    """Nothing new by the old policy key is believed any more; what doors took before stays good.

    Raises ``StoreError`` when there is no newer key.
    """
    said = stated_or_first(site, now)
    *old, newest = said.policy_keys
    if not old:
        raise StoreError("there is one policy key only: change it first")
    retired = (*said.retired_policy_keys, *old)[-_RETIRED_KEPT:]
    statement = next_statement(said, now, policy_keys=(newest,), retired_policy_keys=retired)
    names = ", ".join(_name(each) for each in old)
    return Change(
        key=names,
        files=public_files(statement, root),
        remove=_policy_files(site, passphrase, but=statement),
        statement=statement,
    )


def rotate_issuer(
    site: Site,
    root: Authority,
    passphrase: Passphrase,
    now: datetime,
    *,
    at_once: bool,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
) -> Change:
    """A new card issuer, which makes every new card; ``at_once``: no card of the others is believed any more.

    ``key``: fresh, and in a token where the one before is.
    """
    said = stated_or_first(site, now)
    in_token = {"card_issuer_key": str(key.address)} if isinstance(key, TokenKey) else {}
    issuers = {} if at_once else dict(said.issuers)
    statement = next_statement(said, now, issuers={**issuers, issuer: p256.encode_point(key.public_key())})
    gone = [
        path for old, point in said.issuers.items() if at_once for path in _issuer_files(site, old, point)
    ]
    return Change(
        key=issuer,
        files=[
            *([] if in_token else [secret_key(f"card-issuer-{issuer}.key.pem", key, passphrase)]),
            NewFile(path=Path(f"card-issuer-{issuer}.pub.pem"), data=public_pem(key.public_key())),
            *public_files(statement, root),
            description(site, issuer=issuer, **in_token),
        ],
        remove=gone,
        statement=statement,
    )


def retire_issuer(site: Site, root: Authority, issuer: str, now: datetime) -> Change:
    """No card of this issuer is believed any more; raises ``StoreError`` for the one that makes cards, and an unknown one."""
    said = stated_or_first(site, now)
    if issuer not in said.issuers:
        raise StoreError(f"{issuer}: not an issuer that this site's doors believe")
    if issuer == site.issuer:
        raise StoreError(f"{issuer}: makes this site's cards: change it first")
    left = {each: point for each, point in said.issuers.items() if each != issuer}
    statement = next_statement(said, now, issuers=left)
    return Change(
        key=issuer,
        files=public_files(statement, root),
        remove=_issuer_files(site, issuer, said.issuers[issuer]),
        statement=statement,
    )


def rotate_intermediate(
    site: Site, root: Authority, which: str, passphrase: Passphrase, now: datetime
) -> Change:
    """A new ``devices`` or ``web`` authority below the root; what the old one certified is good until it ends."""
    said = stated(site)
    authority = authority_below(site, root, which, now, said.root_change if said else None)
    return Change(
        key=f"{authority.certificate.serial_number:x}", files=authority_files(which, authority, passphrase)
    )


def authority_below(
    site: Site, root: Authority, which: str, now: datetime, change: RootChange | None
) -> Authority:
    """A new authority, with how its root followed the one before, for whoever knows that one alone."""
    made = root.intermediate(f"Drempel {which} {site.id}", INTERMEDIATES[which], now)
    links = change.links[::-1] if change else ()
    return replace(made, above=tuple(map(x509.load_der_x509_certificate, links)))


def authority_files(which: str, authority: Authority, passphrase: Passphrase) -> list[NewFile]:
    """Its key and its certificate, under the names of what it is for."""
    name = _FILES_OF[which]
    return [
        secret_key(f"{name}.key.pem", authority.key, passphrase),
        NewFile(path=Path(f"{name}.cert.pem"), data=authority.pem),
    ]


def common_name(certificate: x509.Certificate) -> str:
    """By which its subject is called."""
    return str(certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)


# ---- the hub's directory


def deliver(
    site: Site, passphrase: Passphrase, hub: Path, hub_passphrase: Passphrase, now: datetime
) -> Change:
    """What the hub's directory has to get so that it says what the site's does; raises ``StoreError``."""
    if not (hub / "site.toml").exists():
        raise StoreError(f"{hub}: not a hub's directory; name where it is with --hub-dir")
    files: list[NewFile] = []
    remove: list[Path] = []
    said = stated(site)
    if said is not None:
        held = {key_id(key.public_key()): path for path, key in _policy_keys(hub, hub_passphrase)}
        ours = {key_id(key.public_key()): key for _, key in _policy_keys(site.directory, passphrase)}
        new = [name for name in said.accepted if name in ours and name not in held]
        files = [secret_key(f"policy-{name.hex()}.key.pem", ours[name], hub_passphrase) for name in new]
        remove = [path.relative_to(hub) for name, path in held.items() if name not in said.accepted]
        files += [_copied(site, name) for name in ("policy.pub.pem", str(STATEMENT))]
    devices = site.authority(passphrase)
    authority = _copied(site, "devices.cert.pem")
    roots = _copied(site, str(ROOTS))
    files.append(roots)
    if not _holds(hub, authority):
        files += [secret_key("devices.key.pem", devices.key, hub_passphrase), authority]
    files += _renewed(devices, "devices", hub, now) + _renewed(
        site.web_authority(passphrase), "web", hub, now
    )
    changed = [file for file in files if file.is_secret or not _holds(hub, file)]
    # the hub reads its directory while it runs: whom to believe comes first, what decides comes last
    order = {ROOTS: 0, STATEMENT: 2}
    return Change(key="", files=sorted(changed, key=lambda file: order.get(file.path, 1)), remove=remove)


def _renewed(authority: Authority, which: str, hub: Path, now: datetime) -> list[NewFile]:
    """The certificates of the hub's own keys that an earlier authority made, or whose time it is, made again."""
    found = []
    for name in _LEAVES_OF[which]:
        path = hub / f"{name}.cert.pem"
        if not path.exists():
            continue
        before = x509.load_pem_x509_certificate(read_file(path))
        if now < renew_from(before) and read_file(path).endswith(authority.pem):
            continue
        key = before.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise StoreError(f"{path}: not of a P-256 key")
        made = authority.certify(
            name=common_name(before), public_key=key, purpose=_purpose(before), now=now, hosts=_hosts(before)
        )
        found.append(NewFile(path=Path(path.name), data=authority.chain_pem(made)))
    return found


def _purpose(certificate: x509.Certificate) -> Purpose:
    usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    return next(purpose for purpose in Purpose if set(purpose.value) == usages)


def _hosts(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = (x509.DNSName, x509.IPAddress)
    return [str(name.value) for name in names if isinstance(name, hosts)]


def _copied(site: Site, name: str) -> NewFile:
    return NewFile(path=Path(name), data=read_file(site.directory / name))


def _holds(directory: Path, file: NewFile) -> bool:
    path = directory / file.path
    return path.exists() and read_file(path) == file.data


# ---- the site's directory


def stated_or_first(site: Site, now: datetime) -> KeyStatement:
    """What is stated; before the first statement, what the site was made with."""
    said = stated(site)
    if said is not None:
        return said
    path = site.directory / "policy.pub.pem"
    key = read_public_key(path)
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise StoreError(f"{path}: an Ed25519 key expected")
    point = p256.encode_point(site.card_issuer_public_key())
    return KeyStatement(version=1, issued_at=now, policy_keys=(_raw(key),), issuers={site.issuer: point})


def next_statement(said: KeyStatement, now: datetime, **changes: Any) -> KeyStatement:
    """The version is the time, so that a directory put back from a copy makes no version twice."""
    return replace(
        said,
        version=max(said.version + 1, int(now.timestamp())),
        issued_at=now.replace(microsecond=0),
        **changes,
    )


def public_files(statement: KeyStatement, root: Authority) -> list[NewFile]:
    """The policy keys for controllers yet to be made, and the statement for those that are there."""
    sealed = seal(statement, root.key.public_key(), partial(p256.sign, root.key))
    pems = b"".join(public_pem(key) for key in statement.accepted.values())
    return [NewFile(path=Path("policy.pub.pem"), data=pems), NewFile(path=STATEMENT, data=sealed)]


def description(site: Site, **changes: str) -> NewFile:
    """``site.toml`` with these changes."""
    table = tomllib.loads(read_file(site.directory / "site.toml").decode("utf-8"))
    return NewFile(path=Path("site.toml"), data=toml_table({**table, **changes}).encode())


def _policy_keys(directory: Path, passphrase: Passphrase) -> list[tuple[Path, ed25519.Ed25519PrivateKey]]:
    found = []
    for path in sorted(directory.glob("policy*.key.pem")):
        key = read_key(path, passphrase)
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise StoreError(f"{path}: an Ed25519 key expected")
        found.append((path, key))
    return found


def _policy_files(site: Site, passphrase: Passphrase, *, but: KeyStatement) -> list[Path]:
    """The files of policy keys that this statement no longer believes."""
    return [
        path.relative_to(site.directory)
        for path, key in _policy_keys(site.directory, passphrase)
        if key_id(key.public_key()) not in but.accepted
    ]


def _issuer_files(site: Site, issuer: str, point: bytes) -> list[Path]:
    """The files of an issuer; those of the first one have no name of their own."""
    for name in (f"card-issuer-{issuer}", "card-issuer"):
        path = site.directory / f"{name}.pub.pem"
        if path.exists() and public_pem(p256.parse_point(point)) == read_file(path):
            return [Path(f"{name}.key.pem"), Path(f"{name}.pub.pem")]
    return []


def _raw(key: ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _name(raw: bytes) -> str:
    return key_id(ed25519.Ed25519PublicKey.from_public_bytes(raw)).hex()
