"""The closed sets of reasons: why a door stayed shut or opened, and why a card could not be read.

The values are wire strings: they stand in events, in the hub's database and on its pages.
A value is never renamed; a test reaches each one.
"""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class Reason(StrEnum):
    """Why a presentation was granted, denied or referred."""

    # granted
    ENTITLED = "entitled"
    EXIT_FREE = "exit_free"
    DOOR_UNLOCKED = "door_unlocked"
    ESCORTED = "escorted"
    ANTIPASSBACK_SOFT = "antipassback_soft"
    UNLISTED_ADMITTED = "unlisted_admitted"
    COMMANDED = "commanded"
    ATTENDED_GRANT = "attended_grant"
    LOCAL_GRANT = "local_grant"
    HUB_AWAY_ADMITTED = "hub_away_admitted"

    # referred: a person decides
    DOOR_ATTENDED = "door_attended"
    CARDHOLDER_ATTENDED = "cardholder_attended"
    ESCORT_AWAITED = "escort_awaited"
    UNLISTED_REFERRED = "unlisted_referred"
    LOCAL_AWAITED = "local_awaited"

    # denied: the presentation is not authentic (found while verifying)
    ISSUER_UNKNOWN = "issuer_unknown"
    CERTIFICATE_FORGED = "certificate_forged"
    CERTIFICATE_UNSUPPORTED = "certificate_unsupported"
    SIGNATURE_INVALID = "signature_invalid"
    ANSWER_REPLAYED = "answer_replayed"

    # denied: authentic, but not entitled (found while deciding)
    POLICY_MISSING = "policy_missing"
    POLICY_TOO_OLD = "policy_too_old"
    CLOCK_UNTRUSTED = "clock_untrusted"
    DOOR_UNKNOWN = "door_unknown"
    DOOR_OUT_OF_SERVICE = "door_out_of_service"
    DOOR_LOCKDOWN = "door_lockdown"
    CERTIFICATE_NOT_YET_VALID = "certificate_not_yet_valid"
    CERTIFICATE_EXPIRED = "certificate_expired"
    TECHNOLOGY_NOT_ALLOWED = "technology_not_allowed"
    CARD_NOT_ENROLLED = "card_not_enrolled"
    CREDENTIAL_UNLISTED = "credential_unlisted"
    STATUS_UNKNOWN = "status_unknown"
    CREDENTIAL_REVOKED = "credential_revoked"
    CREDENTIAL_SUSPENDED = "credential_suspended"
    CREDENTIAL_NOT_YET_VALID = "credential_not_yet_valid"
    CREDENTIAL_EXPIRED = "credential_expired"
    NO_ACCESS_LEVEL = "no_access_level"
    OUTSIDE_SCHEDULE = "outside_schedule"
    FIRST_PERSON_AWAITED = "first_person_awaited"
    ANTIPASSBACK_HARD = "antipassback_hard"
    ANTIPASSBACK_TIMED = "antipassback_timed"
    INTERLOCKED = "interlocked"
    HUB_AWAY = "hub_away"

    # denied: our own fault
    INTERNAL_FAULT = "internal_fault"
    JOURNAL_FAILED = "journal_failed"

    # a policy document, not a card
    DOCUMENT_MALFORMED = "document_malformed"
    DOCUMENT_OTHER_SITE = "document_other_site"
    DOCUMENT_NOT_NEWER = "document_not_newer"
    DOCUMENT_EXPIRED = "document_expired"
    SIGNER_UNKNOWN = "signer_unknown"

    # a command, not a card
    COMMAND_MALFORMED = "command_malformed"
    COMMAND_OTHER_CONTROLLER = "command_other_controller"
    COMMAND_EXPIRED = "command_expired"
    COMMAND_NOT_YET_VALID = "command_not_yet_valid"
    COMMAND_REPEATED = "command_repeated"
    COMMAND_RETAINED = "command_retained"
    COMMAND_OUT_OF_PLACE = "command_out_of_place"
    REQUEST_UNKNOWN = "request_unknown"
    ATTENDED_REFUSED = "attended_refused"


@unique
class ReadFault(StrEnum):
    """Why a card could not be read; says nothing about a person."""

    CARD_GONE = "card_gone"
    ATS_INVALID = "ats_invalid"
    PROTOCOL_ERROR = "protocol_error"
    WAIT_LIMIT = "wait_limit"
    LENGTH_LIMIT = "length_limit"
    DEADLINE = "deadline"
    ANSWER_MALFORMED = "answer_malformed"
    STATUS_WORD = "status_word"
    NOT_PKOC = "not_pkoc"
    TECHNOLOGY_UNSUPPORTED = "technology_unsupported"
