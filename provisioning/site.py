"""One site's directory: its authorities, its card issuer, its policy signer, and what its hub is given.

::

    DIR/  site.toml  passphrase  root.cert.pem  devices.*  web-authority.*  card-issuer.*  policy.*
          keys.signed  card-keys  card-journal/
          root/      the root's key, under a passphrase of its own; it belongs into a safe
          hub/       what the hub's machine gets, likewise
          controllers/<id>/   what each controller gets (readers.py), likewise

The root's key certifies the two intermediates and is needed for no daily work. The hub holds that of ``devices``,
because it lets controllers in; neither the hub nor a controller holds the card issuer's: they can make no card.
"""

from __future__ import annotations

import secrets
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pacs import envelope
from pacs.card import p256
from pacs.card.cvc import check_issuer
from pacs.errors import MalformedData, StoreError
from pacs.identifiers import SiteId
from pacs.key_statement import KeyStatement, seal
from pacs.wiring import toml_table
from provisioning.authority import Authority, Purpose, certificate_pem, generate_key
from provisioning.card_keys import CardKeys
from provisioning.keystore import (
    NewFile,
    Passphrase,
    make_directory,
    public_pem,
    read_file,
    read_key,
    read_public_key,
    refuse_existing,
    seal_key,
)
from provisioning.pkcs11_keys import KeyAddress, KeyToken, TokenAccess, TokenKey

HUB_NAME: Final = "hub"
BROKER_NAME: Final = "broker"
WEB_NAME: Final = "web"
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_ISSUER_CHARACTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An existing site directory. ``issuer`` is the card issuer's identification reference (16 characters).

    ``broker_host`` is the name by which controllers reach the broker; its certificate carries it. ``root_name``:
    where in it the newest root's key was put. ``root_at`` and ``card_issuer_at`` say in which PKCS#11 token these keys are; None: in a file.
    """

    directory: Path
    id: SiteId
    issuer: str
    policy_key_id: str
    broker_host: str
    root_name: str = "root"
    root_at: KeyAddress | None = None
    card_issuer_at: KeyAddress | None = None

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Read ``site.toml``. Raises ``StoreError`` when there is none or it is damaged."""
        path = directory / "site.toml"
        try:
            table = tomllib.loads(read_file(path).decode("utf-8"))
            return cls(
                directory=directory,
                id=SiteId(table["site"]),
                issuer=check_issuer(table["issuer"]),
                policy_key_id=str(table["policy_key_id"]),
                broker_host=str(table["broker_host"]),
                root_name=str(table.get("root_name", "root")),
                root_at=_address(table, "root_key"),
                card_issuer_at=_address(table, "card_issuer_key"),
            )
        except (ValueError, KeyError, TypeError, MalformedData) as error:
            raise StoreError(f"{path}: not a site's description ({error})") from error

    def at(self, site_id: SiteId) -> Self:
        """The same keys for another site of the same hub."""
        return replace(self, id=site_id)

    @property
    def hub_directory(self) -> Path:
        """What the hub's machine is given."""
        return self.directory / "hub"

    def passphrase(self, file: Path | None = None) -> Passphrase:
        """The site's passphrase, from ``file`` or the directory's own; raises ``StoreError``."""
        return Passphrase.from_file(file or self.directory / "passphrase")

    @property
    def root_directory(self) -> Path:
        """Where the root's key was put unless another place was named; gone once it is in the safe."""
        return self.directory / self.root_name

    def authority(self, passphrase: Passphrase) -> Authority:
        """The intermediate ``devices``, able to certify controllers, brokers and the hub; raises ``StoreError``."""
        return self._authority("devices", passphrase)

    def web_authority(self, passphrase: Passphrase) -> Authority:
        """The intermediate that certifies what browsers reach, and nothing that connects; raises ``StoreError``."""
        return self._authority("web-authority", passphrase)

    def root(
        self,
        directory: Path | None = None,
        passphrase: Passphrase | None = None,
        tokens: TokenAccess | None = None,
    ) -> Authority:
        """The root, of several the newest, able to certify intermediates, from its token or the directory it was put into.

        Without a ``passphrase`` it is the one beside the key. Raises ``StoreError``.
        """
        certificate = _certificate(self.directory / "root.cert.pem")
        if self.root_at is not None:
            return Authority(certificate, _key_in_token(self.root_at, tokens))
        directory = directory or self.root_directory
        key = _p256(directory / "root.key.pem", passphrase or Passphrase.from_file(directory / "passphrase"))
        if key.public_key() != certificate.public_key():
            raise StoreError(
                f"{directory / 'root.key.pem'}: not the key of the site's newest root; name the directory of that one"
            )
        return Authority(certificate, key)

    def card_issuer_key(
        self, passphrase: Passphrase | None = None, tokens: TokenAccess | None = None
    ) -> ec.EllipticCurvePrivateKey:
        """The key that signs card certificates, from its token or by the site's passphrase; raises ``StoreError``."""
        if self.card_issuer_at is not None:
            return _key_in_token(self.card_issuer_at, tokens)
        return _p256(self._of_issuer("key.pem"), passphrase or self.passphrase())

    def card_issuer_public_key(self) -> ec.EllipticCurvePublicKey:
        """The key that verifies card certificates; raises ``StoreError``."""
        path = self._of_issuer("pub.pem")
        key = read_public_key(path)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise StoreError(f"{path}: a P-256 key expected")
        return key

    def _of_issuer(self, ending: str) -> Path:
        """A file of the issuer that makes cards; that of the first one has no name of its own."""
        own = self.directory / f"card-issuer-{self.issuer}.{ending}"
        return own if own.exists() else self.directory / f"card-issuer.{ending}"

    def _authority(self, name: str, passphrase: Passphrase) -> Authority:
        certificate, *above = _certificates(self.directory / f"{name}.cert.pem")
        return Authority(certificate, _p256(self.directory / f"{name}.key.pem", passphrase), tuple(above))


def _address(table: Mapping[str, str], name: str) -> KeyAddress | None:
    return KeyAddress.parse(table[name]) if name in table else None


def _key_in_token(address: KeyAddress, tokens: TokenAccess | None) -> ec.EllipticCurvePrivateKey:
    if tokens is None:
        raise StoreError(f"{address}: the key is in a token; name --pkcs11-module and --pin-file")
    return tokens.key(address)


def _certificate(path: Path) -> x509.Certificate:
    return _certificates(path)[0]


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(read_file(path))
    except ValueError as error:
        raise StoreError(f"{path}: not a certificate in PEM") from error


def _p256(path: Path, passphrase: Passphrase) -> ec.EllipticCurvePrivateKey:
    key = read_key(path, passphrase)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StoreError(f"{path}: a P-256 key expected")
    return key


def create_site(
    directory: Path,
    site_id: SiteId,
    *,
    now: datetime,
    passphrase: Passphrase | None = None,
    broker_hosts: Sequence[str] = ("localhost",),
    issuer: str | None = None,
    root_directory: Path | None = None,
    root_token: KeyToken | None = None,
    card_issuer_token: KeyToken | None = None,
) -> Site:
    """Make a site's directory with all its keys, and return it.

    Without a ``passphrase`` one is generated and kept in ``directory/passphrase``. ``broker_hosts`` are
    names or addresses of the hub's machine, the first being the one controllers use. ``issuer`` is
    random unless given. ``root_directory`` is made for the root's key; without it that is ``directory/root``.
    With tokens the keys of root and card issuer are made there instead of as files.
    Raises ``StoreError`` when one of them exists, ``MalformedData`` for a bad host or issuer; then nothing was made.
    """
    refuse_existing(directory)
    issuer = issuer or generate_issuer()
    with ExitStack() as undo:
        in_tokens: list[TokenKey] = []
        for token, label in (
            (root_token, f"{site_id} root"),
            (card_issuer_token, f"{site_id} card issuer {issuer}"),
        ):
            if token is not None:
                in_tokens.append(token.make_key(label))
                undo.callback(in_tokens[-1].destroy)
        files = site_files(
            site_id,
            now=now,
            passphrase=passphrase,
            broker_hosts=broker_hosts,
            issuer=issuer,
            root_key=in_tokens[0] if root_token else None,
            card_issuer_key=in_tokens[-1] if card_issuer_token else None,
        )
        if root_directory is None or root_token is not None:
            make_directory(directory, [*files.site, *under("root", files.root)])
        else:
            make_directory(root_directory, files.root)
            undo.callback(shutil.rmtree, root_directory)  # a root that nothing leads to
            make_directory(directory, files.site)
        undo.pop_all()
    return Site.open(directory)


def generate_issuer() -> str:
    """A random issuer identification reference: strangers can read it, so it names nobody."""
    return "".join(secrets.choice(_ISSUER_CHARACTERS) for _ in range(16))


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFiles:
    """Everything that ``create_site`` writes: the site's own directory, and the root's."""

    site: Sequence[NewFile]
    root: Sequence[NewFile]


def site_files(
    site_id: SiteId,
    *,
    now: datetime,
    passphrase: Passphrase | None,
    broker_hosts: Sequence[str],
    issuer: str,
    root_key: TokenKey | None = None,
    card_issuer_key: TokenKey | None = None,
) -> SiteFiles:
    """Make the keys and certificates of a site, but those that are in a token already.

    Raises ``MalformedData`` for a bad host or issuer.
    """
    check_issuer(issuer)
    own, hubs, roots = passphrase or Passphrase.generate(), Passphrase.generate(), Passphrase.generate()
    root = Authority.create(f"Drempel site {site_id}", now, root_key)
    devices = root.intermediate(f"Drempel devices {site_id}", Purpose.NODE, now)
    web = root.intermediate(f"Drempel web {site_id}", Purpose.SERVER, now)
    issuer_key, policy_key = card_issuer_key or generate_key(), ed25519.Ed25519PrivateKey.generate()
    hosts = (*broker_hosts, *LOOPBACK)
    description = {
        "site": site_id,
        "issuer": issuer,
        "policy_key_id": envelope.key_id(policy_key.public_key()).hex(),
        "broker_host": broker_hosts[0],
        "created_at": now.isoformat(timespec="seconds"),
        **({"root_key": str(root_key.address)} if root_key else {}),
        **({"card_issuer_key": str(card_issuer_key.address)} if card_issuer_key else {}),
    }
    root_certificate = NewFile(path=Path("root.cert.pem"), data=certificate_pem(root.certificate))
    public = [
        root_certificate,
        NewFile(path=Path("devices.cert.pem"), data=certificate_pem(devices.certificate)),
        NewFile(path=Path("card-issuer.pub.pem"), data=public_pem(issuer_key.public_key())),
        NewFile(path=Path("policy.pub.pem"), data=public_pem(policy_key.public_key())),
        NewFile(path=Path("keys.signed"), data=_first_statement(root, policy_key, issuer, issuer_key, now)),
        NewFile(path=Path("site.toml"), data=toml_table(description).encode()),
    ]
    of_hub = [
        *public,
        hubs.file,
        secret_key("devices.key.pem", devices.key, hubs),
        secret_key("policy.key.pem", policy_key, hubs),
        *_leaf("broker", devices, BROKER_NAME, Purpose.NODE, hubs, now, hosts),
        *_leaf("client", devices, HUB_NAME, Purpose.CLIENT, hubs, now),
        *_leaf("web", web, WEB_NAME, Purpose.SERVER, hubs, now, hosts),
        NewFile(path=Path("hub.toml"), data=_hub_toml(broker_hosts[0]).encode()),
    ]
    return SiteFiles(
        site=[
            *public,
            *([own.file] if passphrase is None else []),
            secret_key("devices.key.pem", devices.key, own),
            NewFile(path=Path("web-authority.cert.pem"), data=certificate_pem(web.certificate)),
            secret_key("web-authority.key.pem", web.key, own),
            *([] if card_issuer_key else [secret_key("card-issuer.key.pem", issuer_key, own)]),
            CardKeys.generate().file(own),
            secret_key("policy.key.pem", policy_key, own),
            *under("hub", of_hub),
        ],
        root=[] if root_key else [root_certificate, roots.file, secret_key("root.key.pem", root.key, roots)],
    )


def _first_statement(
    root: Authority,
    policy_key: ed25519.Ed25519PrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> bytes:
    """Its version is the time, as that of every later one (``rotation``)."""
    statement = KeyStatement(
        version=int(now.timestamp()),
        issued_at=now.replace(microsecond=0),
        policy_keys=(policy_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),),
        issuers={issuer: p256.encode_point(issuer_key.public_key())},
    )
    return seal(statement, root.key.public_key(), partial(p256.sign, root.key))


def _leaf(
    file: str,
    authority: Authority,
    name: str,
    purpose: Purpose,
    passphrase: Passphrase,
    now: datetime,
    hosts: Sequence[str] = (),
) -> list[NewFile]:
    key = generate_key()
    certificate = authority.certify(
        name=name, public_key=key.public_key(), purpose=purpose, now=now, hosts=hosts
    )
    return [
        NewFile(path=Path(f"{file}.cert.pem"), data=authority.chain_pem(certificate)),
        secret_key(f"{file}.key.pem", key, passphrase),
    ]


def under(directory: str, files: Sequence[NewFile]) -> list[NewFile]:
    """The same files, in a directory of that name."""
    return [replace(file, path=Path(directory) / file.path) for file in files]


def secret_key(
    name: str, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, passphrase: Passphrase
) -> NewFile:
    """The file of an encrypted private key."""
    return NewFile(path=Path(name), data=seal_key(key, passphrase), is_secret=True)


def _hub_toml(host: str) -> str:
    if host in LOOPBACK:
        mqtt = "127.0.0.1:8883"
        http: dict[str, str | int] = {"listen": "127.0.0.1:8000"}
    else:
        mqtt = "0.0.0.0:8883"
        http = {
            "listen": "0.0.0.0:8443",
            "origin": f"https://[{host}]:8443" if ":" in host else f"https://{host}:8443",
            "certificate": "web.cert.pem",
            "key": "web.key.pem",
        }
    return "\n".join(
        [
            "# drempel-hub run --config hub.toml; relative paths start at this file.",
            toml_table({"data_dir": "data", "passphrase_file": "passphrase"}),
            toml_table(http, header="[http]"),
            "# Mutual TLS: only devices certified below root.cert.pem are let in.",
            toml_table({"listen": mqtt}, header="[mqtt]"),
        ]
    )
