"""Changing the root: another one, which the root before certifies, and the end of that one.

Everybody believes both until the old one is retired. What the new one certifies carries how it follows the old one, so that
whoever knows the old one alone believes it too: a controller that was away, an operator's machine.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from pacs.errors import StoreError
from pacs.root_change import MAX_LINKS, RootChange
from provisioning.authority import Authority, certificate_pem
from provisioning.keystore import NewFile, Passphrase, read_file
from provisioning.pkcs11_keys import TokenKey
from provisioning.rotation import (
    INTERMEDIATES,
    ROOTS,
    Change,
    authority_below,
    authority_files,
    common_name,
    description,
    next_statement,
    public_files,
    roots,
    stated_or_first,
)
from provisioning.site import Site, secret_key


def new_root(root: Authority, now: datetime, key: TokenKey | None = None) -> Authority:
    """A root to follow this one, under its name; ``key``: made in a token."""
    return Authority.create(common_name(root.certificate), now, key)


def root_files(new: Authority) -> list[NewFile]:
    """What belongs into a new root's own directory: its key, under a passphrase of its own."""
    passphrase = Passphrase.generate()
    certificate = NewFile(path=Path("root.cert.pem"), data=certificate_pem(new.certificate))
    return [certificate, passphrase.file, secret_key("root.key.pem", new.key, passphrase)]


def rotate_root(
    site: Site, root: Authority, new: Authority, passphrase: Passphrase, now: datetime, *, name: str
) -> Change:
    """Another root, which the one before certifies; both are believed until that one is retired.

    Below it are new authorities for devices and pages. ``name``: of the directory of its key in the site's own, when it is
    there. Raises ``StoreError`` when the change before is not over.
    """
    said = stated_or_first(site, now)
    if said.root_change is not None and said.root_change.former_is_believed:
        raise StoreError("the last change of the root is not over: retire the old root first")
    before = said.root_change.links if said.root_change else ()
    link = root.link(new.certificate, now).public_bytes(Encoding.DER)
    change = RootChange(
        certificate=new.certificate.public_bytes(Encoding.DER),
        links=(*before, link)[-MAX_LINKS:],
        former_is_believed=True,
    )
    statement = next_statement(said, now, root_change=change)
    both = certificate_pem(new.certificate) + certificate_pem(root.certificate)
    in_token = {"root_key": str(new.key.address)} if isinstance(new.key, TokenKey) else {}
    below = [
        file
        for which in INTERMEDIATES
        for file in authority_files(which, authority_below(site, new, which, now, change), passphrase)
    ]
    return Change(
        key=fingerprint(new.certificate),
        files=[
            *below,
            description(site, root_name=name, **in_token),
            NewFile(path=ROOTS, data=both),
            *public_files(statement, new),
        ],
        statement=statement,
    )


def retire_root(site: Site, root: Authority, now: datetime) -> Change:
    """The root before the newest is believed no longer: not what it certified, and not what it states.

    Raises ``StoreError`` when there is none.
    """
    said = stated_or_first(site, now)
    change = said.root_change
    if change is None or not change.former_is_believed:
        raise StoreError("there is one root only: change it first")
    statement = next_statement(said, now, root_change=replace(change, former_is_believed=False))
    return Change(
        key=", ".join(fingerprint(each) for each in roots(site)[1:]),
        files=[NewFile(path=ROOTS, data=certificate_pem(root.certificate)), *public_files(statement, root)],
        remove=_former_root_files(site, root),
        statement=statement,
    )


def _former_root_files(site: Site, newest: Authority) -> list[Path]:
    """What is of earlier roots in the site's directory."""
    return [
        path.relative_to(site.directory)
        for certificate in site.directory.glob("root*/root.cert.pem")
        if read_file(certificate) != certificate_pem(newest.certificate)
        for path in sorted(certificate.parent.iterdir())
    ]


def directory_name(new: Authority) -> str:
    """Where in the site's directory its key is put unless another place was named."""
    return f"root-{fingerprint(new.certificate)[:8]}"


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of it, hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()
