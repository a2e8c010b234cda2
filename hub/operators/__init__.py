"""Who works with the hub, people and programs: what they may, and how they are known.

Secrets that the hub makes are 256 random bits, stored as SHA-256; passwords are argon2id. None of them is logged.
"""

from hub.operators.accounts import Operators
from hub.operators.api_tokens import API_PREFIX, TOKEN_LIFETIME
from hub.operators.browsers import BROWSER_LIFETIME
from hub.operators.one_time_links import LINK_LIFETIME, accept_link, forget_ways_in, free_name
from hub.operators.passwords import name_key
from hub.operators.principal import BeyondOwnRights, Principal, seen, sees_operator
from hub.operators.refusal import SignInRefused, digest
from hub.operators.sessions import SESSION_IDLE, SESSION_LIFETIME, open_session
from hub.operators.ways_in import ways_in

__all__ = [
    "API_PREFIX",
    "BROWSER_LIFETIME",
    "LINK_LIFETIME",
    "SESSION_IDLE",
    "SESSION_LIFETIME",
    "TOKEN_LIFETIME",
    "BeyondOwnRights",
    "Operators",
    "Principal",
    "SignInRefused",
    "accept_link",
    "digest",
    "forget_ways_in",
    "free_name",
    "name_key",
    "open_session",
    "seen",
    "sees_operator",
    "ways_in",
]
