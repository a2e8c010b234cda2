"""What the closed sets of the domain are called on a page.

``N_`` marks a text for the translators; ``Words`` looks it up when a page is rendered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from hub.api.alarms import AlarmState
from hub.api.door_status import Lock
from hub.api.orders import Arrival
from hub.completeness import Cause
from hub.muster import Why
from hub.registration import Standing, Timing
from hub.roles import Role
from hub.station_taps import TapResult
from hub.store.alarms import AlarmKind, Clearance
from hub.store.attendance import RequestState
from hub.store.cardholders import Category
from hub.store.cards import CardStatus
from hub.store.door_state import Contact
from hub.store.journals import AnomalyKind
from hub.store.posts import DoorStanding, Ended
from hub.store.reports import CorrectionKind
from pacs.commands import Action
from pacs.events import EventKind
from pacs.findings import Level
from pacs.messages import DocumentKind
from pacs.modes import ModeCause
from pacs.reason import Reason
from pacs.rules import (
    Antipassback,
    DoorMode,
    Side,
    WhenClockUntrusted,
    WhenHubAway,
    WhenTooOld,
    WhenUnlisted,
)
from pacs.situation import Attendance

T = TypeVar("T")


def N_(text: str) -> str:  # noqa: N802 - gettext's customary name
    """Mark ``text`` for translation, and return it."""
    return text


AT_KIOSKS: Mapping[TapResult, str] = {
    TapResult.VALID: N_("The card is good."),
    TapResult.NOT_YET_VALID: N_("The card is not valid yet."),
    TapResult.EXPIRED: N_("The card is no longer valid."),
    TapResult.SUSPENDED: N_("The card is blocked."),
    TapResult.REVOKED: N_("The card is blocked."),
    TapResult.UNKNOWN: N_("The card is not known here."),
    TapResult.ISSUER_UNKNOWN: N_("The card is not known here."),
    TapResult.UNSUPPORTED: N_("The card is not known here."),
    TapResult.FORGED: N_("The card is not known here."),
    TapResult.NOT_OURS: N_("The card is not known here."),
    TapResult.REPLAYED: N_("The card was not read."),
    TapResult.NOT_READ: N_("The card was not read."),
}
TIMINGS: Mapping[Timing, str] = {
    Timing.EARLY: N_("early"),
    Timing.ON_TIME: N_("in time"),
    Timing.LATE: N_("late"),
}
STANDINGS: Mapping[Standing, str] = {
    Standing.NOT_REPORTED: N_("not reported"),
    Standing.NOT_YET: N_("not yet reported"),
    Standing.CANNOT_BE_TOLD: N_("cannot be told"),
    Standing.REPORTED: N_("reported"),
    Standing.EXEMPT: N_("exempt"),
}
CORRECTIONS: Mapping[CorrectionKind, str] = {
    CorrectionKind.REPORTED: N_("marked as reported"),
    CorrectionKind.WITHDRAWN: N_("report withdrawn"),
}
REASONS: Mapping[Reason, str] = {
    Reason.ENTITLED: N_("entitled"),
    Reason.EXIT_FREE: N_("the way out is free"),
    Reason.DOOR_UNLOCKED: N_("the door is unlocked"),
    Reason.ESCORTED: N_("entitled, with an escort"),
    Reason.ANTIPASSBACK_SOFT: N_("entitled, though not seen leaving"),
    Reason.UNLISTED_ADMITTED: N_("issued since the door last heard"),
    Reason.COMMANDED: N_("opened by an operator"),
    Reason.ATTENDED_GRANT: N_("approved by a person"),
    Reason.LOCAL_GRANT: N_("admitted by somebody's card at the door"),
    Reason.HUB_AWAY_ADMITTED: N_("entitled, while nobody could be asked"),
    Reason.LOCAL_AWAITED: N_("a card at the door has to admit them; nobody else can be asked"),
    Reason.HUB_AWAY: N_("nobody could be asked"),
    Reason.DOOR_ATTENDED: N_("a person decides at this door"),
    Reason.CARDHOLDER_ATTENDED: N_("a person decides about this card"),
    Reason.ESCORT_AWAITED: N_("an escort is needed"),
    Reason.UNLISTED_REFERRED: N_("not in the list of cards; a person decides"),
    Reason.ISSUER_UNKNOWN: N_("the card is from an unknown issuer"),
    Reason.CERTIFICATE_FORGED: N_("the card's certificate is forged"),
    Reason.CERTIFICATE_UNSUPPORTED: N_("the card's certificate is of an unknown kind"),
    Reason.SIGNATURE_INVALID: N_("the card could not prove that it is genuine"),
    Reason.ANSWER_REPLAYED: N_("the card repeated an old answer"),
    Reason.POLICY_MISSING: N_("the door has no policy yet"),
    Reason.POLICY_TOO_OLD: N_("the door's policy is too old"),
    Reason.CLOCK_UNTRUSTED: N_("the door's clock cannot be trusted"),
    Reason.DOOR_UNKNOWN: N_("the door is not in its policy"),
    Reason.DOOR_OUT_OF_SERVICE: N_("the door is out of service"),
    Reason.DOOR_LOCKDOWN: N_("the door is in lockdown"),
    Reason.CERTIFICATE_NOT_YET_VALID: N_("the card is not valid yet"),
    Reason.CERTIFICATE_EXPIRED: N_("the card has expired"),
    Reason.TECHNOLOGY_NOT_ALLOWED: N_("this kind of card is not allowed at the door"),
    Reason.CARD_NOT_ENROLLED: N_("the card is not enrolled"),
    Reason.CREDENTIAL_UNLISTED: N_("the card is not in the list of cards"),
    Reason.CREDENTIAL_REVOKED: N_("the card is blocked for good"),
    Reason.CREDENTIAL_SUSPENDED: N_("the card is blocked for now"),
    Reason.CREDENTIAL_NOT_YET_VALID: N_("the card may not be used yet"),
    Reason.CREDENTIAL_EXPIRED: N_("the card may no longer be used"),
    Reason.NO_ACCESS_LEVEL: N_("the card has no access to this door"),
    Reason.OUTSIDE_SCHEDULE: N_("not at this time"),
    Reason.FIRST_PERSON_AWAITED: N_("somebody of the staff has to come first"),
    Reason.ANTIPASSBACK_HARD: N_("entered before and not seen leaving"),
    Reason.ANTIPASSBACK_TIMED: N_("entered a moment ago"),
    Reason.INTERLOCKED: N_("the other door is open"),
    Reason.STATUS_UNKNOWN: N_("whether the card is blocked is not known at the door"),
    Reason.JOURNAL_FAILED: N_("the door cannot record events"),
    Reason.INTERNAL_FAULT: N_("the door's controller made an error"),
    Reason.DOCUMENT_MALFORMED: N_("the document is damaged"),
    Reason.DOCUMENT_OTHER_SITE: N_("the document is for another site"),
    Reason.DOCUMENT_NOT_NEWER: N_("the document is not newer"),
    Reason.DOCUMENT_EXPIRED: N_("the document has expired"),
    Reason.SIGNER_UNKNOWN: N_("the signer is unknown"),
    Reason.COMMAND_MALFORMED: N_("the command is damaged"),
    Reason.COMMAND_OTHER_CONTROLLER: N_("the command is for another controller"),
    Reason.COMMAND_EXPIRED: N_("the command came too late"),
    Reason.COMMAND_NOT_YET_VALID: N_("the command is from the future"),
    Reason.COMMAND_REPEATED: N_("the command had come before"),
    Reason.COMMAND_RETAINED: N_("the command was not sent just now"),
    Reason.COMMAND_OUT_OF_PLACE: N_("the door cannot do that as it is now"),
    Reason.REQUEST_UNKNOWN: N_("nobody waits for this answer"),
    Reason.ATTENDED_REFUSED: N_("refused by a person"),
}

EVENTS: Mapping[EventKind, str] = {
    EventKind.ACCESS_GRANTED: N_("Granted"),
    EventKind.ACCESS_DENIED: N_("Refused"),
    EventKind.ACCESS_REFERRED: N_("Waits for a person"),
    EventKind.DOOR_OPENED: N_("opened"),
    EventKind.DOOR_CLOSED: N_("closed"),
    EventKind.DOOR_FORCED: N_("forced open"),
    EventKind.DOOR_HELD_WARNING: N_("about to be held open too long"),
    EventKind.DOOR_HELD: N_("held open too long"),
    EventKind.DOOR_ALARM_CLEARED: N_("closed again after an alarm"),
    EventKind.DOOR_MODE_CHANGED: N_("mode changed"),
    EventKind.DOOR_ATTENDANCE_CHANGED: N_("who decides there changed"),
    EventKind.POST_OPENED: N_("post opened: somebody watches"),
    EventKind.POST_CLOSED: N_("post closed"),
    EventKind.TAMPER_OPENED: N_("housing opened"),
    EventKind.TAMPER_CLOSED: N_("housing closed"),
    EventKind.FIRE_REPORTED: N_("fire alarm"),
    EventKind.FIRE_CLEARED: N_("fire alarm over"),
    EventKind.TAPS_COUNTED: N_("taps counted"),
    EventKind.REFERRAL_ENDED: N_("waiting ended"),
    EventKind.ANTIPASSBACK_FORGIVEN: N_("forgot who is inside"),
    EventKind.DOOR_NOT_ENTERED: N_("granted, but not opened"),
    EventKind.EXIT_REQUESTED: N_("exit button pressed"),
    EventKind.READER_LOST: N_("reader lost"),
    EventKind.READER_RESTORED: N_("reader works again"),
    EventKind.POLICY_APPLIED: N_("policy applied"),
    EventKind.POLICY_REFUSED: N_("policy refused"),
    EventKind.COMMAND_EXECUTED: N_("command executed"),
    EventKind.COMMAND_REFUSED: N_("command refused"),
    EventKind.CONTROLLER_STARTED: N_("controller started"),
    EventKind.CONTROLLER_STOPPED: N_("controller stopped"),
    EventKind.CLOCK_CHANGED: N_("clock changed"),
    EventKind.JOURNAL_GAP: N_("gap in the journal"),
    EventKind.JOURNAL_FULL: N_("journal full"),
    EventKind.JOURNAL_RESTORED: N_("journal works again"),
    EventKind.INTERNAL_FAULT: N_("controller error"),
}

CAUSES: Mapping[Cause, str] = {
    Cause.NEVER_SEEN: N_("the controller was never connected"),
    Cause.OFFLINE: N_("the controller was offline"),
    Cause.NOT_PROVEN: N_("the controller had not said what it holds"),
    Cause.EXPIRED: N_("it is no longer kept who passed"),
    Cause.ARRIVING: N_("events were still arriving"),
    Cause.NOT_RUNNING: N_("the controller was not running"),
    Cause.UNCLEAN_START: N_("the controller ended without warning"),
    Cause.READER_LOST: N_("the reader did not work"),
    Cause.EVENTS_MISSING: N_("events are missing"),
    Cause.JOURNAL_REPLACED: N_("the journal was replaced; what it had not sent is lost"),
    Cause.JOURNAL_GAP: N_("the journal has a gap"),
    Cause.DOOR_MOVED: N_("the door was moved to another controller"),
    Cause.CLOCK_WRONG: N_("the controller's clock was wrong"),
    Cause.CLOCK_UNTRUSTED: N_("the controller's clock could not be trusted"),
    Cause.CHAIN_BROKEN: N_("events are kept aside that do not continue the record"),
    Cause.DUPLICATE_DIFFERS: N_("events are kept aside that contradict the record"),
    Cause.JOURNAL_BEHIND: N_("the controller was set back to an earlier state"),
    Cause.NOT_TOLD_YET: N_("the controller has not told of these moments yet"),
    Cause.NOT_THERE_YET: N_("the door was not there yet"),
    Cause.NOT_WHOLE: N_("the record was not whole; why is no longer kept"),
    Cause.PRIVATE: N_("a private door: nobody's taps are recorded"),
}

ANOMALIES: Mapping[AnomalyKind, str] = {
    AnomalyKind.BATCH_MALFORMED: N_("events that cannot be read"),
    AnomalyKind.SIGNATURE_INVALID: N_("events that are not signed by it"),
    AnomalyKind.CHAIN_BROKEN: N_("events that do not continue its journal"),
    AnomalyKind.DUPLICATE_DIFFERS: N_("events that differ from those stored"),
    AnomalyKind.EVENTS_MISSING: N_("events are missing"),
    AnomalyKind.JOURNAL_REPLACED: N_("the journal was replaced; what it had not sent is lost"),
    AnomalyKind.JOURNAL_BEHIND: N_("it has lost events that are stored here"),
    AnomalyKind.JOURNAL_GAP: N_("the journal has a gap"),
    AnomalyKind.DOOR_MOVED: N_("the door was moved here"),
    AnomalyKind.NOT_RUNNING: N_("the controller was not running"),
    AnomalyKind.UNCLEAN_START: N_("the controller ended without warning"),
    AnomalyKind.CLOCK_WRONG: N_("times that cannot be right"),
    AnomalyKind.CLOCK_UNTRUSTED: N_("times that it does not believe itself"),
    AnomalyKind.READER_LOST: N_("the reader did not work"),
    AnomalyKind.CONTROLLER_REVOKED: N_("events of a device that was revoked"),
    AnomalyKind.PRIVATE_TAP: N_("it names people at a private door"),
    AnomalyKind.MESSAGE_MALFORMED: N_("messages that cannot be read"),
    AnomalyKind.NOT_STORABLE: N_("events that could not be stored"),
}

MODES: Mapping[DoorMode, str] = {
    DoorMode.SECURED: N_("Secured: opens for cards with access"),
    DoorMode.UNLOCKED: N_("Unlocked: opens for everybody"),
    DoorMode.ATTENDED: N_("Attended: a person decides"),
    DoorMode.LOCKDOWN: N_("Lockdown: no entry; the way out is free"),
    DoorMode.OUT_OF_SERVICE: N_("Out of service"),
}

MODE_NAMES: Mapping[DoorMode, str] = {
    DoorMode.SECURED: N_("Secured"),
    DoorMode.UNLOCKED: N_("Unlocked"),
    DoorMode.ATTENDED: N_("Attended"),
    DoorMode.LOCKDOWN: N_("Lockdown"),
    DoorMode.OUT_OF_SERVICE: N_("Out of service"),
}

MODE_CAUSES: Mapping[str, str] = {
    ModeCause.POLICY.value: N_("as set for this door"),
    ModeCause.SCHEDULE.value: N_("by its schedule"),
    ModeCause.COMMAND.value: N_("ordered by an operator"),
    ModeCause.POST.value: N_("because somebody watches at its post"),
    ModeCause.CLOCK_UNTRUSTED.value: N_("because its clock cannot be trusted"),
    "policy_missing": N_("because it has no policy yet"),
    "door_unknown": N_("because it is not in its policy"),
}

ATTENDANCE: Mapping[Attendance, str] = {
    Attendance.HUB: N_("those who are asked here, or a card at the door"),
    Attendance.LOCAL: N_("a card at the door alone"),
    Attendance.UNATTENDED: N_("nobody: who is entitled is admitted"),
    Attendance.NOBODY: N_("nobody can be asked: they are refused"),
}

ALARMS: Mapping[AlarmKind, str] = {
    AlarmKind.FIRE: N_("Fire alarm"),
    AlarmKind.FORCED: N_("Forced open"),
    AlarmKind.TAMPER: N_("Housing opened"),
    AlarmKind.HELD: N_("Held open too long"),
    AlarmKind.DOOR_SILENT: N_("Not connected"),
    AlarmKind.READER_LOST: N_("Reader lost"),
    AlarmKind.RECORD_BROKEN: N_("Record in doubt"),
    AlarmKind.CONTROLLER_FAULT: N_("Controller error"),
    AlarmKind.JOURNAL_FULL: N_("Journal full"),
    AlarmKind.CLOCK_UNTRUSTED: N_("Clock not trusted"),
    AlarmKind.POLICY_TOO_OLD: N_("Policy too old"),
    AlarmKind.POLICY_UNCONFIRMED: N_("Change not confirmed"),
    AlarmKind.RENEWAL_OVERDUE: N_("Certificate not renewed"),
}

ADVICE: Mapping[AlarmKind, str] = {
    AlarmKind.FIRE: N_("Follow the fire plan. Meanwhile no door reports being forced or held."),
    AlarmKind.FORCED: N_("Opened without a card, a button or a command. Go and look."),
    AlarmKind.TAMPER: N_("Somebody may be at the reader's wires. Go and look."),
    AlarmKind.HELD: N_("Anybody can walk in until it is closed."),
    AlarmKind.DOOR_SILENT: N_("It decides by itself on what it last received; nothing is seen of it here."),
    AlarmKind.READER_LOST: N_("Cards are not read there. Let people in by hand."),
    AlarmKind.RECORD_BROKEN: N_("What is listed of it may not be all, or not be right. Tell the technician."),
    AlarmKind.CONTROLLER_FAULT: N_("It refused rather than guess. Tell the technician."),
    AlarmKind.JOURNAL_FULL: N_("It was away too long to keep all its events."),
    AlarmKind.CLOCK_UNTRUSTED: N_("Its times may be wrong, and schedules may not be followed."),
    AlarmKind.POLICY_TOO_OLD: N_("It may refuse or admit by old rules."),
    AlarmKind.POLICY_UNCONFIRMED: N_("A block or another change may not be in force there."),
    AlarmKind.RENEWAL_OVERDUE: N_(
        "Nothing is seen of it here any more once the certificate has ended. Tell the technician."
    ),
}

ALARM_STATES: Mapping[AlarmState, str] = {
    AlarmState.STANDING: N_("Alarm"),
    AlarmState.ACKNOWLEDGED: N_("Acknowledged"),
    AlarmState.OVER: N_("Over"),
    AlarmState.CLOSED: N_("Closed"),
}

CLEARANCES: Mapping[Clearance, str] = {
    Clearance.EVENT: N_("the door says so"),
    Clearance.SEEN: N_("the hub sees it"),
    Clearance.RESTARTED: N_("its controller started anew; how it ended is not known"),
    Clearance.WITHDRAWN: N_("its controller is no longer in use there"),
    Clearance.ACKNOWLEDGED: N_("acknowledged"),
}

DOCUMENTS: Mapping[DocumentKind, str] = {
    DocumentKind.POLICY: N_("rules"),
    DocumentKind.REVOCATIONS: N_("blocked cards"),
}

CONTACTS: Mapping[Contact, str] = {Contact.OPEN: N_("Open"), Contact.CLOSED: N_("Closed")}

LOCKS: Mapping[Lock, str] = {
    Lock.LOCKED: N_("Locked, apart from single openings"),
    Lock.UNLOCKED: N_("Unlocked"),
}

CLOCK_DISTRUSTS: Mapping[str, str] = {
    "before_build": N_("it is before its own software was made"),
    "before_journal": N_("it is before an event that it recorded"),
    "before_document": N_("it is before a document that it holds was made"),
    "far_ahead": N_("it is far ahead of its documents"),
    "not_synchronised": N_("it was not set over the network yet"),
}
"""As controllers say it; a newer one may say more."""

READER_STATES: Mapping[str, str] = {
    "starting": N_("starting"),
    "ok": N_("works"),
    "lost": N_("lost"),
}
"""As controllers say it; a newer one may say more."""

ARRIVALS: Mapping[Arrival, str] = {
    Arrival.SENT: N_("Sent, not carried out yet"),
    Arrival.EXECUTED: N_("Executed"),
    Arrival.REFUSED: N_("Refused by the door"),
    Arrival.UNANSWERED: N_("No answer: not known whether it was carried out"),
    Arrival.NOT_GIVEN: N_("Not sent: its controller is not in use"),
}

REQUEST_STATES: Mapping[RequestState, str] = {
    RequestState.WAITING: N_("Waits"),
    RequestState.ANSWERED: N_("Answered"),
    RequestState.GRANTED: N_("Opened"),
    RequestState.REFUSED: N_("Refused"),
    RequestState.TIMEOUT: N_("Nobody answered in time"),
    RequestState.WITHDRAWN: N_("Withdrawn by the door"),
    RequestState.REPLACED: N_("Another card was presented"),
    RequestState.UNANSWERED: N_("Over; the door has not said what became of it"),
    RequestState.UNKNOWN: N_("Ended at the door"),
}

POSTS_ENDED: Mapping[Ended, str] = {
    Ended.SIGNED_OFF: N_("Closed: whoever watched signed off."),
    Ended.NOT_ANSWERED: N_("Closed: nobody answered whether they were still there."),
    Ended.TAKEN_OVER: N_("Taken over by somebody else."),
    Ended.SESSION_OVER: N_("Closed: whoever watched was signed out, or may no longer."),
    Ended.PAGE_GONE: N_("Closed: no page of it was open for a minute."),
}

POST_DOORS: Mapping[DoorStanding, tuple[str, str]] = {
    DoorStanding.OPEN: ("good", N_("Open: whoever is entitled passes by their own card")),
    DoorStanding.OPENING: ("warn", N_("Has not answered: not open, as far as the hub has heard")),
    DoorStanding.REFUSED: ("bad", N_("The door refused")),
    DoorStanding.ORDERED: ("bad", N_("Closed here by an order of another mode")),
    DoorStanding.CLOSING: ("warn", N_("Has not answered; closes by itself at")),
    DoorStanding.CLOSED: ("", N_("Closed")),
}

ACTIONS: Mapping[Action, str] = {
    Action.UNLOCK_ONCE: N_("Unlock once"),
    Action.TEST_SIGNALS: N_("Test lights and buzzer"),
    Action.EXAMINE: N_("Examine itself"),
    Action.SET_MODE: N_("Set mode"),
    Action.CLEAR_MODE: N_("Back to its own mode"),
    Action.OPEN_POST: N_("Open the post"),
    Action.CLOSE_POST: N_("Close the post"),
    Action.GRANT: N_("Let in"),
    Action.REFUSE: N_("Refuse"),
}

LEVELS: Mapping[Level, tuple[str, str]] = {
    Level.FAIL: ("bad", N_("Mend it")),
    Level.WARN: ("warn", N_("Look after it")),
    Level.OK: ("good", N_("In order")),
}

STATUSES: Mapping[CardStatus, str] = {
    CardStatus.VALID: N_("Valid"),
    CardStatus.SUSPENDED: N_("Suspended"),
    CardStatus.REVOKED: N_("Revoked"),
}

CATEGORIES: Mapping[Category, str] = {
    Category.RESIDENT: N_("Resident"),
    Category.VISITOR: N_("Visitor"),
    Category.STAFF: N_("Staff"),
}

WHYS: Mapping[Why, str] = {
    Why.NEVER_SEEN: N_("no passage on record"),
    Why.PASSAGE_NOT_SEEN: N_("let through, but nobody saw whether they went"),
    Why.CLOCK: N_("the door's clock could not be believed"),
    Why.RECORD: N_("the door's record is not whole"),
    Why.NO_READER: N_("one can leave there without a card"),
    Why.UNNAMED: N_("somebody passed, or could, without a card"),
    Why.OPEN: N_("the door stands open or unlocked"),
    Why.DOOR_GONE: N_("where that door leads is not known any more"),
}

WHEN_TOO_OLD: Mapping[WhenTooOld, str] = {
    WhenTooOld.DENY: N_("Refuse every card"),
    WhenTooOld.CONTINUE: N_("Go on with the rules it has"),
}

WHEN_CLOCK_UNTRUSTED: Mapping[WhenClockUntrusted, str] = {
    WhenClockUntrusted.DENY: N_("Refuse every card"),
    WhenClockUntrusted.CONTINUE: N_("Take the time that the clock shows"),
    WhenClockUntrusted.LEVELS_ONLY: N_(
        "Go by access levels, whatever the time; in the strictest of its modes"
    ),
}

WHEN_UNLISTED: Mapping[WhenUnlisted, str] = {
    WhenUnlisted.DENY: N_("Refuse it"),
    WhenUnlisted.REFER: N_("A person decides"),
    WhenUnlisted.ADMIT: N_("Admit it"),
}

WHEN_HUB_AWAY: Mapping[WhenHubAway, str] = {
    WhenHubAway.DENY: N_("They are refused"),
    WhenHubAway.LOCAL: N_("A card at the door that admits others decides"),
    WhenHubAway.UNATTENDED: N_("Who has access is admitted"),
}

ANTIPASSBACK: Mapping[Antipassback, str] = {
    Antipassback.OFF: N_("Off: is admitted again"),
    Antipassback.SOFT: N_("Soft: is admitted, and the event says so"),
    Antipassback.HARD: N_("Hard: is refused until seen leaving"),
    Antipassback.TIMED: N_("For a time: is refused for so long after entering"),
}

TAPS: Mapping[TapResult, tuple[str, str]] = {
    TapResult.VALID: (N_("Valid"), ""),
    TapResult.NOT_YET_VALID: (
        N_("Not valid yet"),
        N_("It opens nothing before their stay, or the card, begins."),
    ),
    TapResult.EXPIRED: (
        N_("Expired"),
        N_("Ask whether they still live here. A new card is made at the issuing desk."),
    ),
    TapResult.SUSPENDED: (
        N_("Blocked for now"),
        N_("It was reported lost, or held back. Compare the face; keep the card if it is not theirs."),
    ),
    TapResult.REVOKED: (
        N_("Blocked for good"),
        N_("It opens nothing any more. Keep it; a new one is made at the issuing desk."),
    ),
    TapResult.UNKNOWN: (
        N_("Not known here"),
        N_("The card is genuine, and nobody at this site has it. Ask who they are, and where they got it."),
    ),
    TapResult.ISSUER_UNKNOWN: (
        N_("From another issuer"),
        N_("Whoever made it is not believed here. Identify them otherwise."),
    ),
    TapResult.UNSUPPORTED: (
        N_("Not understood"),
        N_("What is on the card breaks the standard. Identify them otherwise, and tell the technician."),
    ),
    TapResult.FORGED: (
        N_("Forged"),
        N_(
            "It proves nothing: a copy, or tampered with. Identify them otherwise, and tell the site manager."
        ),
    ),
    TapResult.REPLAYED: (
        N_("Not fresh"),
        N_("An old answer came, not the card's. Hold it again; if that helps nothing, tell the technician."),
    ),
    TapResult.NOT_READ: (N_("Not read"), N_("Hold the card still on the reader.")),
    TapResult.NOT_OURS: (N_("Another kind of card"), N_("Ask for the card of the reception centre.")),
}

SIDES: Mapping[Side, str] = {Side.ENTRY: N_("entry"), Side.EXIT: N_("exit")}

ROLES: Mapping[Role, str] = {
    Role.GUARD: N_("guard"),
    Role.ISSUING_DESK: N_("issuing desk"),
    Role.RECEPTION: N_("reception"),
    Role.SITE_MANAGER: N_("site manager"),
    Role.TECHNICIAN: N_("technician"),
    Role.AUDITOR: N_("auditor"),
    Role.ADMINISTRATOR: N_("administrator"),
}


def spoken(
    words: Mapping[T, str], kind: Callable[[str], T], gettext: Callable[[str], str]
) -> Callable[[str], str]:
    """A function from the wire string of a closed set to its translated text."""
    return lambda value: gettext(words[kind(value)])
