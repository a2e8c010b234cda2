"""An issuing desk: the real program of a station, with a pile of virtual blank cards."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import IO, Any

from simulator.reporting_process import ReportingProcess
from simulator.virtual_card import VirtualCard


class IssuingDesk(ReportingProcess):
    """``drempel-provision card desk``; a blank card lies on the reader whenever it looks."""

    def __init__(
        self,
        directory: Path,
        site_directory: Path,
        hub_url: str,
        token: str,
        *,
        log: IO[Any] | int | None = None,
    ) -> None:
        self._pile = directory / "cards"
        self._pile.mkdir(exist_ok=True)
        token_file = directory / "station-token"
        token_file.touch(0o600)
        token_file.write_text(token)
        card = f"{shlex.quote(sys.executable)} -m simulator card --stdio --kind blank"
        files = f'{shlex.quote(str(self._pile))}/"$(date +%s%N)".json'
        arguments = [
            *("provisioning.cli", "card", "desk", f"--site-dir={site_directory}", f"--hub={hub_url}"),
            *(f"--token-file={token_file}", f"--state-file={directory / 'made.json'}", "--format=json"),
            *("--card-process", shlex.join(["sh", "-c", f"exec {card} --file {files}"])),
        ]
        super().__init__(arguments, name="the issuing desk", log=log)

    def card(self, credential_id: str) -> VirtualCard:
        """The card that was made with this credential id; raises KeyError."""
        for file in self._pile.glob("*.json"):
            found = VirtualCard.from_json(file.read_text("utf-8"))
            if str(found.credential_id) == credential_id:
                return found
        raise KeyError(credential_id)
