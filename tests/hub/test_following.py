"""What other processes did is acted on, also when acting on it fails at first."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hub import following
from hub.following import Following
from hub.live import LiveBus
from hub.news import News
from hub.store import controllers
from hub.store.controllers import Controller
from pacs.identifiers import ControllerId
from tests.hub.databases import SITE, fresh_database, make_site
from tests.hub.test_retention import NOW


@pytest.mark.parametrize("is_told", [False, True])
def test_a_change_is_not_forgotten_when_acting_on_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_told: bool
) -> None:
    """Found by looking, or heard from another process: whoever has to act on it is asked again until it is done."""
    monkeypatch.setattr(following, "LOOK_EVERY_S", 3600.0 if is_told else 0.1)
    database = fresh_database(tmp_path / "hub.sqlite")
    looked, failed, done = threading.Event(), threading.Event(), threading.Event()

    def elsewhere(news: News) -> None:
        looked.set()
        if news.registry and not failed.is_set():
            failed.set()
            raise OSError("the broker takes no orders now")
        if news.registry:
            done.set()

    with database.write() as connection:
        make_site(connection)
    subject = Following(database, LiveBus(), tell=lambda _: None, elsewhere=elsewhere)
    subject.start()
    try:
        assert looked.wait(10)
        if is_told:
            subject.hear(bytes(News(process="another", registry=True)))
        else:
            with database.write() as connection:
                gate = Controller(
                    id=ControllerId("gate"),
                    site_id=SITE,
                    event_public_key=bytes(32),
                    certificate_serial="0a",
                    software=None,
                    registered_at=NOW,
                )
                controllers.register(connection, gate)
        assert failed.wait(10)
        assert done.wait(10)
    finally:
        subject.stop()
        database.close()
