"""Who still goes by the root before the newest, while one follows the other."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from sqlalchemy import Connection

from hub.store import device_certificates
from hub.store.device_certificates import DeviceCertificate
from pacs.certificates import CLOCK_SKEW, leads_to
from pacs.errors import StoreError
from pacs.identifiers import ControllerId, SiteId

_END = "-----END CERTIFICATE-----"


def below_former_root(connection: Connection, roots: Path) -> list[tuple[ControllerId, SiteId]]:
    """Controllers that the broker admits by a certificate of the former root; none while there is one root.

    ``roots``: the file of the root certificates, the newest first. Of a certificate that was made elsewhere the time says
    which root it is of. Raises ``StoreError`` when the file cannot be read.
    """
    try:
        newest, *former = x509.load_pem_x509_certificates(roots.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(f"{roots}: no certificates in PEM") from error
    if not former:
        return []
    found = {
        (each.controller_id, site_id): None
        for each, site_id in device_certificates.not_refused(connection)
        if not _is_below(each, newest)
    }
    return list(found)


def _is_below(certificate: DeviceCertificate, root: x509.Certificate) -> bool:
    if certificate.chain is None:
        made_at = root.not_valid_before_utc + CLOCK_SKEW  # to the second
        return certificate.issued_at > made_at + timedelta(seconds=1)
    return _leads_to(certificate.chain.partition(_END)[2], root)


@lru_cache(64)  # what stands above a leaf is the same for thousands of them
def _leads_to(above: str, root: x509.Certificate) -> bool:
    try:
        return leads_to(x509.load_pem_x509_certificates(above.encode()), [root])
    except ValueError:
        return False
