"""What the issuing desk's page says of jobs, steps and failures."""

from __future__ import annotations

from collections.abc import Mapping

from hub.pages.words import N_
from hub.store.issuing import Failure, JobState, Loss, Step

ISSUING_STEPS: Mapping[Step, str] = {
    Step.WAITING_FOR_CARD: N_("A blank card on the reader"),
    Step.CARD_FOUND: N_("Card found"),
    Step.KEY_MADE: N_("Key made on the card"),
    Step.CERTIFICATE_WRITTEN: N_("Certificate written"),
    Step.LOCKED: N_("Locked"),
    Step.CHECKED: N_("Checked by a whole tap, and registered"),
}

JOB_STATES: Mapping[JobState, str] = {
    JobState.QUEUED: N_("Waiting for the station"),
    JobState.TAKEN: N_("Being made"),
    JobState.DONE: N_("Card issued, checked"),
    JobState.FAILED: N_("No card was made"),
    JobState.VOIDED: N_("No card was made, and a blank one was spoilt"),
    JobState.CANCELLED: N_("Cancelled"),
}

FAILURES: Mapping[Failure, tuple[str, str]] = {
    Failure.NO_CARD: (
        N_("Nobody laid a card on the reader."),
        N_("Start again with a blank card in your hand."),
    ),
    Failure.CARD_NOT_BLANK: (
        N_("The card on the reader was issued before."),
        N_("Take a blank one and start again."),
    ),
    Failure.CARD_REMOVED: (
        N_("The card left the reader too early, several times."),
        N_("Start again, and let it lie until this page says that it is done."),
    ),
    Failure.CARD_FAULT: (
        N_("The card does not answer as such a card does."),
        N_("Put it aside as spoilt, and start again with another one."),
    ),
    Failure.KEY_NOT_PROVEN: (
        N_("The card could not prove its key."),
        N_("Put it aside: it is broken or not genuine. Start again with another one."),
    ),
    Failure.READER_BROKEN: (
        N_("The reader stopped working while it wrote."),
        N_("Put the card aside as spoilt. See to the reader, then start again."),
    ),
    Failure.ISSUER_FAULT: (
        N_("The station cannot sign cards."),
        N_("See what its program says about the site's keys."),
    ),
    Failure.TORN: (
        N_("The card was interrupted and cannot be finished."),
        N_("Destroy it: its certificate is revoked. Start again with another one."),
    ),
    Failure.NOT_REGISTERED: (
        N_("The hub did not take the card."),
        N_("Destroy it, and start again with another one."),
    ),
    Failure.PERSON_ERASED: (N_("This person was forgotten."), N_("No card is needed.")),
}
"""What went wrong, and what to do."""

LOSSES: Mapping[Loss, str] = {
    Loss.LOST: N_("Lost: it stops working now"),
    Loss.STOLEN: N_("Stolen: it stops working now"),
    Loss.BROKEN: N_("Broken: it works until the new one does"),
}
