"""An example of each body that this API takes, for its description."""

from __future__ import annotations

from typing import Any, Final

_CARD: Final = "3f2b8c1e-5a4d-4e6f-9b7a-1c2d3e4f5a6b"
_WINDOW: Final = {"weekdays": [0, 1, 2, 3, 4], "start_minute": 480, "end_minute": 1080}
_REASON: Final = "Reported lost at the reception"

BODIES: Final[dict[str, Any]] = {
    "Acknowledgement": {"note": "Somebody carried a pram out"},
    "AreaChange": {"name": "Inner courtyard"},
    "Block": {"status": "suspended", "reason": _REASON},
    "CardholderChange": {"room": "B-12"},
    "Device": {"certificate_request": "MIIB", "event_public_key": "9d" * 32, "proof": "17" * 64},
    "DoorChange": {"unlock_ms": 5000},
    "End": {"at": "2027-01-31T18:00:00+01:00", "reason": "Moves out"},
    "Erasure": {"reason": "Asked for by the person"},
    "GivenAnswer": {"answer": "grant"},
    "Few": {"few": 40},
    "IssuerRetirement": {"reason": "Every card of it was replaced"},
    "KeySwitch": {"reason": "The kitchen is being rebuilt"},
    "LevelChange": {"name": "Residents"},
    "Heartbeat": {"run": "5e" * 16, "works": True},
    "Lifting": {"reason": "The inquiry is over"},
    "ShorterPeriods": {"precise_h": 24, "leavers_days": 7, "reason": "asked for by the residents"},
    "Move": {"controller_id": "gate-2"},
    "NamedHoliday": {"name": "King's Day"},
    "NewArea": {"id": "courtyard", "name": "Courtyard"},
    "NewCard": {"credential_id": _CARD, "cardholder_id": "7c1f02aa93d4e5b6", "technology": "pkoc-v2"},
    "NewCardholder": {"category": "resident", "given_name": "Ama", "family_name": "Mensah"},
    "NewCommand": {"action": "unlock_once", "reason": "Delivery for the kitchen"},
    "NewTest": {"action": "test_signals", "reason": "The buzzer was replaced"},
    "NewCode": {"purpose": "swap", "days": 2},
    "NewController": {"id": "gate", "event_public_key": "9d" * 32, "certificate_serial": "4f01"},
    "NewDoor": {"id": "front", "controller_id": "gate", "name": "Front door"},
    "DutyChange": {"end_minute": 690},
    "ExemptionEnd": {"reason": "Back from hospital"},
    "NewCorrection": {"cardholder_id": "7c1f02aa93d4e5b6", "kind": "reported", "reason": "Came to the desk"},
    "NewDuty": {
        "name": "Weekly registration", "whom": "category", "category": "resident", "weekdays": [0],
        "start_minute": 540, "end_minute": 660, "early_min": 30, "late_min": 30,
    },
    "NewExemption": {
        "cardholder_id": "7c1f02aa93d4e5b6", "first_day": "2027-02-01", "last_day": "2027-02-07",
        "reason": "Away with leave",
    },
    "NewIssuingJob": {
        "cardholder_id": "7c1f02aa93d4e5b6", "station_id": "reception-cards", "replaces": _CARD, "why": "lost",
    },
    "VoidCards": {"reason": "The site closes"},
    "ToldStep": {"attempt": "5e" * 16, "step": "key_made"},
    "NewBatch": {"station_id": "cards", "cardholder_ids": ["7c1f02aa93d4e5b6"]},
    "NewMovement": {"technology": "pkoc-v2", "cause": "received", "cards": 200, "reason": "Delivery 2027-114"},
    "PutBack": {"attempt": "5e" * 16},
    "MadeCard": {"attempt": "5e" * 16, "credential_id": _CARD, "public_key": "04" + "6b" * 64},
    "VoidedCard": {"credential_id": _CARD},
    "NotMade": {"attempt": "5e" * 16, "failure": "card_removed", "spoilt": False},
    "NewHold": {
        "door_id": "front", "since": "2027-01-30T20:00:00+01:00", "until": "2027-01-31T06:00:00+01:00",
        "ends_at": "2027-04-30T00:00:00+02:00", "reason": "Inquiry into a fire",
    },
    "NewLevel": {
        "id": "residents", "name": "Residents", "rules": [{"door_id": "front", "schedule_id": "always"}],
    },
    "NewLink": {"name": "Night desk", "role": "guard"},
    "NewOrder": {"action": "set_mode", "mode": "lockdown", "reason": "Fight in the courtyard"},
    "NewSite": {"id": "oostkade", "name": "Oostkade", "time_zone": "Europe/Amsterdam"},
    "PostSettings": {"name": "Gatehouse", "door_ids": ["main-entrance"], "when_closed": "attended"},
    "NewStation": {"id": "front-desk", "kind": "desk", "name": "Front desk"},
    "NewTransfer": {
        "cardholder_ids": ["7c1f02aa93d4e5b6"], "to_site_id": "oostkade", "access_level_ids": ["residents-oostkade"],
        "reason": "Transfer of 31 January",
    },
    "Replacement": {
        "credential_id": "9d3c7a52-0b1e-4f6d-8c2a-5e4f3a2b1c0d", "technology": "pkoc-v2", "reason": "Card broken",
    },
    "NewSchedule": {"id": "working-days", "name": "Working days", "windows": [_WINDOW]},
    "NewToken": {"name": "monitoring", "role": "technician", "permissions": ["metrics.read"], "expires_in_days": 90},
    "NewWebhook": {"url": "https://hooks.example.org/drempel", "kinds": ["alarm.raised", "card.blocked"]},
    "NotRead": {"run": "5e" * 16, "fault": "card_gone"},
    "OperatorChange": {"disabled": True},
    "Presented": {
        "run": "5e" * 16, "random": "a0" * 16, "technology": "pkoc-v1", "signature": "17" * 64,
        "public_key": "04" + "6b" * 64,
    },
    "Reinstatement": {"reason": "Found again"},
    "Revocation": {"reason": "Stolen from the wall"},
    "ScheduleChange": {"windows": [_WINDOW]},
    "WebhookChange": {"enabled": True},
    "SiteChange": {"name": "Oostkade"},
}  # fmt: skip
