"""What is said of a change of keys before and after it: what goes on, what stops, and what is to be done next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

POLICY, ISSUER, ROOT = "policy", "card-issuer", "root"
_NOT_CONNECTED: Final = (
    "A controller that is not connected believes the old key until it is; once its documents are older than its doors'"
    " bound (max_policy_age_s) it does with cards what its policy says."
)

GOES_ON: Final[Mapping[str, Sequence[str]]] = {
    POLICY: (
        "Nothing stops. A controller believes both keys from the next document on, whenever it gets that.",
        "The hub signs with the new key once every controller has confirmed; `key list --hub` says who has not.",
        "Then: drempel-provision key retire policy",
    ),
    ISSUER: (
        "Nothing stops. New cards are made with the new key, and open where the hub has this statement.",
        "Old cards go on opening until they end; `key list --hub` says how many are left.",
        "Then: drempel-provision key retire card-issuer ISSUER",
    ),
    "devices": (
        "Nothing stops. What the old authority certified is good until it ends; what is renewed comes from the new one.",
        "A hub that runs certifies with it within seconds; its broker and its own client go by it too.",
    ),
    ROOT: (
        "Nothing stops. What the old root certified goes on; what is certified from now on is believed by who knows either.",
        "Controllers hear of the new root with their next document and renew themselves below it.",
        "One that is away follows when it comes back, as long as the old root is not retired; `key list --hub` says who has not.",
        "Codes that were made for devices name the old root: make them again.",
        "Give the new root.cert.pem to operators' machines and issuing desks; with the old one they go on until that ends.",
        "Put the new root's directory into the safe, its passphrase apart from it, and make a new backup: site backup.",
        "Then: drempel-provision key retire root",
    ),
    "web": ("Nothing stops. A hub that runs shows its pages' new certificate within seconds.",),
}
STOPS: Final[Mapping[str, Sequence[str]]] = {
    POLICY: (
        "Commands given in the last five minutes are refused where they have not arrived: give them again.",
        "A door keeps the mode it was ordered into until its controller restarts, and is locked down then.",
        "Order such modes again once the hub signs with the new key.",
        _NOT_CONNECTED,
        "Cards go on opening.",
    ),
    ISSUER: (
        "Every card of the old issuers is refused at a door from when it gets the hub's next policy, for good.",
        _NOT_CONNECTED,
    ),
}
