"""Who may do what: roles, and the permissions each one holds.

Every route names one permission; nothing else in the hub asks for a role.
"""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class Permission(StrEnum):
    """One thing a route lets somebody do."""

    ACCOUNT_MANAGE = "account.manage"
    EVENTS_READ = "events.read"
    NAMES_READ = "names.read"
    MOVEMENTS_READ = "movements.read"
    ALARMS_ACKNOWLEDGE = "alarms.acknowledge"
    ATTENDED_ANSWER = "attended.answer"
    DOORS_READ = "doors.read"
    DOORS_COMMAND = "doors.command"
    DOORS_TEST = "doors.test"
    DOORS_MANAGE = "doors.manage"
    CONTROLLERS_READ = "controllers.read"
    CONTROLLERS_MANAGE = "controllers.manage"
    ACCESS_READ = "access.read"
    ACCESS_MANAGE = "access.manage"
    CARDHOLDERS_READ = "cardholders.read"
    CARDHOLDERS_ENROL = "cardholders.enrol"
    CARDHOLDERS_MANAGE = "cardholders.manage"
    CARDS_READ = "cards.read"
    CARDS_MANAGE = "cards.manage"
    CARDS_BLOCK = "cards.block"
    DESK_IDENTIFY = "desk.identify"
    OPERATORS_MANAGE = "operators.manage"
    AUDIT_READ = "audit.read"
    METRICS_READ = "metrics.read"
    WEBHOOKS_MANAGE = "webhooks.manage"
    SITES_MANAGE = "sites.manage"
    RETENTION_READ = "retention.read"
    RETENTION_HOLD = "retention.hold"
    RETENTION_CONFIRM = "retention.confirm"
    RETENTION_SHORTEN = "retention.shorten"
    REGISTRATION_READ = "registration.read"
    REGISTRATION_MANAGE = "registration.manage"
    REGISTRATION_CORRECT = "registration.correct"


@unique
class Role(StrEnum):
    """What an operator or an API token is."""

    GUARD = "guard"
    ISSUING_DESK = "issuing_desk"
    RECEPTION = "reception"
    SITE_MANAGER = "site_manager"
    TECHNICIAN = "technician"
    AUDITOR = "auditor"
    ADMINISTRATOR = "administrator"


_SIGN_IN = {Permission.ACCOUNT_MANAGE}
_WATCH = {*_SIGN_IN, Permission.EVENTS_READ, Permission.DOORS_READ}
_PEOPLE = {Permission.NAMES_READ, Permission.CARDHOLDERS_READ, Permission.CARDS_READ, Permission.CARDS_BLOCK}
_GUARD = {
    *_PEOPLE,
    Permission.MOVEMENTS_READ,
    Permission.ATTENDED_ANSWER,
    Permission.DESK_IDENTIFY,
    Permission.DOORS_COMMAND,
    Permission.ALARMS_ACKNOWLEDGE,
}
_ISSUE = {Permission.CARDHOLDERS_ENROL, Permission.CARDS_MANAGE}
_DESK = {*_ISSUE, Permission.CARDHOLDERS_MANAGE, Permission.ACCESS_READ}
_DOORS = {
    Permission.DOORS_TEST,
    Permission.DOORS_MANAGE,
    Permission.CONTROLLERS_READ,
    Permission.CONTROLLERS_MANAGE,
    Permission.ACCESS_READ,
}

_REPORTS = {Permission.REGISTRATION_READ, Permission.REGISTRATION_CORRECT}
_KEEP = {Permission.RETENTION_READ, Permission.RETENTION_HOLD, Permission.RETENTION_CONFIRM}

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.GUARD: frozenset(_WATCH | _GUARD),
    Role.ISSUING_DESK: frozenset(_SIGN_IN | _PEOPLE | _ISSUE),
    Role.RECEPTION: frozenset(_WATCH | _GUARD | _DESK | _REPORTS),
    Role.SITE_MANAGER: frozenset(
        _WATCH
        | _GUARD
        | _DESK
        | _DOORS
        | _KEEP
        | _REPORTS
        | {Permission.ACCESS_MANAGE, Permission.REGISTRATION_MANAGE, Permission.RETENTION_SHORTEN}
    ),
    Role.TECHNICIAN: frozenset(_WATCH | _DOORS | {Permission.ALARMS_ACKNOWLEDGE, Permission.METRICS_READ}),
    Role.AUDITOR: frozenset(
        _WATCH
        | {Permission.CONTROLLERS_READ, Permission.ACCESS_READ, Permission.CARDS_READ, Permission.AUDIT_READ}
        | {Permission.RETENTION_READ, Permission.RETENTION_CONFIRM, Permission.METRICS_READ}
    ),
    Role.ADMINISTRATOR: frozenset(Permission),
}
