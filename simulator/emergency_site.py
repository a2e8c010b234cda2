"""An emergency site in a directory: every command a process, as a person would start it; hardware alone is virtual."""

from __future__ import annotations

import csv
import itertools
import json
import os
import queue
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self

import httpx

from simulator.controller_process import ControllerProcess
from simulator.emergency_commands import DOORS, LEVEL, Command, Step, closing, opening
from simulator.hub_process import HubApi, free_ports
from simulator.pn532_process import Pn532Process
from simulator.scenario import PEOPLE
from simulator.virtual_card import VirtualCard

SITE: Final = "emergency"
_WITHIN_S: Final = 120.0
_STOP_WITHIN_S: Final = 20.0
_LOOK_S: Final = 0.1
_NO_ACCIDENT: Final = 6
"""So many bytes of a name stand nowhere by chance."""


class RehearsalFailedError(RuntimeError):
    """Something is not as it must be; the message says what, and what the command said."""


@dataclass(slots=True, kw_only=True)
class Record:
    """What was done: the commands typed, seconds by step in order, and how many of what there is."""

    commands: int = 0
    steps_s: dict[str, float] = field(default_factory=dict)
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> dict[str, Any]:
        """As ``--format json`` has it."""
        took_s = sum(self.steps_s.values())
        return {
            "commands": self.commands,
            "seconds": round(took_s, 1),
            "minutes": round(took_s / 60, 1),
            "steps_s": {name: round(each_s, 1) for name, each_s in self.steps_s.items()},
            **self.found,
        }

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count what is done within as this step."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.steps_s[name] = self.steps_s.get(name, 0.0) + time.monotonic() - began_s


@dataclass(slots=True, kw_only=True)
class _Door:
    """A door's virtual hardware, and what its controller said of cards."""

    id: str
    line: Path
    device: Path
    code: str = ""
    traces: queue.SimpleQueue[dict[str, Any]] = field(default_factory=queue.SimpleQueue)
    reader: Pn532Process | None = None

    @property
    def variables(self) -> dict[str, str]:
        """Those of the commands for this door."""
        return {
            "DOOR": self.id,
            "CODE": self.code,
            "READER": str(self.line),
            "DEVICE": str(self.device),
        }

    def hear(self, report: dict[str, Any]) -> None:
        """Keep what was decided."""
        if "trace" in report:
            self.traces.put(report)


class Rehearsal:
    """A context manager: a site in an empty ``directory``, ended with everything that was started for it.

    Methods raise ``RehearsalFailedError``. ``on_step`` is told what is being done, ``log`` takes what the processes write.
    """

    def __init__(
        self,
        directory: Path,
        *,
        residents: int,
        doors: Sequence[str] = DOORS,
        on_step: Callable[[str], None] = lambda _step: None,
        log: IO[Any] | int | None = None,
    ) -> None:
        self.directory = directory
        self.opened, self.closed = Record(), Record()
        self.record = self.opened
        self._residents = residents
        self._on_step = on_step
        self._log = log
        self._parts = ExitStack()
        self._hub = self._parts.enter_context(ExitStack())
        self._doors = [
            _Door(id=each, line=directory / f"reader-{each}", device=directory / each) for each in doors
        ]
        http, mqtt = free_ports(2)
        self.url = f"https://localhost:{http}"
        self._stick, self._safe = directory / "stick", directory / "safe"
        self._stick.mkdir(mode=0o700)
        self._variables = {
            "SITE": SITE,
            "HOST": "localhost",
            "HUB": self.url,
            "REASON": "the site closes",
            "ROOT": str(self._stick / "root"),
        }
        (directory / "people.csv").write_text(people(residents), "utf-8")
        (directory / "hub.toml").write_text(
            f'site_dir = "site/hub"\ndata_dir = "data"\n\n[http]\nlisten = "127.0.0.1:{http}"\n'
            f'origin = "{self.url}"\ncertificate = "site/hub/web.cert.pem"\nkey = "site/hub/web.key.pem"\n\n'
            f'[mqtt]\nlisten = "127.0.0.1:{mqtt}"\n',
            "utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def open(self) -> None:
        """Open the site, and hold a card to each door."""
        for door in self._doors:
            door.reader = self._parts.enter_context(Pn532Process(timing="none", link=door.line))
        keys, *others = opening([each.id for each in self._doors])
        self._take(keys)
        self._stick.rename(self._safe)
        for step in others:
            self._take(step)
        with self.record.timed("arrival"):
            self._on_step("arrival")
            with self._api() as api:
                self._until(lambda: _is_confirmed(api), "every door has the cards")
        with self.record.timed("taps"):
            self._on_step("taps")
            self._check_cards()
            for door, card in zip(self._doors, self._cards(), strict=False):
                self._tap(door, card, "opened")

    def close(self) -> None:
        """Close it again, and look for what must not be left."""
        self.record = self.closed
        steps = {step.name: step for step in closing()}
        cards = list(itertools.islice(self._cards(), len(self._doors)))
        self._take(steps["hand over"])
        self._take(steps["void"])
        with self.record.timed("taps"), self._api() as api:
            for door, card in zip(self._doors, cards, strict=True):
                self._tap(door, card, "refused")
            stated = api.get("/keys")["statement"]
        self._safe.rename(self._stick)
        self._take(steps["retire"])
        with self.record.timed("retire"), self._api() as api:
            self._until(
                lambda: _follows(api, above=stated), "every door knows that the card issuer is retired"
            )
            for door, card in zip(self._doors, cards, strict=True):
                self._tap(door, card, "retired")
        self._take(steps["revoke"])
        with self.record.timed("revoke"), self._api() as api:
            self._until(
                lambda: not any(door["online"] for door in api.get("/doors")["doors"]), "no door is let in"
            )
        self._hub.close()
        if not self._told_of_people():
            raise RehearsalFailedError(
                "no name is in the hub's files: nothing could be proven by their absence"
            )
        self._take(steps["erase"])
        self._take(steps["destroy"])
        self._check_nothing_left()

    def _told_of_people(self) -> list[str]:
        """The files, but the list itself, in which a name or a number of somebody stands."""
        listed = people(self._residents).splitlines()[1:]
        words = {name.encode() for line in listed for name in line.split(",")[:3]}
        words = {word for word in words if len(word) >= _NO_ACCIDENT}
        found = (each for each in self.directory.rglob("*") if each.is_file() and each.suffix != ".csv")
        return sorted(
            str(file.relative_to(self.directory))
            for file in found
            if any(word in content for content in [file.read_bytes()] for word in words)
        )

    def _check_nothing_left(self) -> None:
        statement = json.loads((self.directory / "erased.json").read_text("utf-8"))
        self.record.found |= {
            "erased": statement["deleted"],
            "remaining": sum(statement["remaining"].values()),
        }
        if told := self._told_of_people():
            raise RehearsalFailedError(f"names or numbers of people are left in {', '.join(told)}")
        left = [
            path.name for place in ("site", "stick") for path in (self.directory / place).rglob("*.key.pem")
        ]
        if left:
            raise RehearsalFailedError(f"private keys are left: {left}")

    # ---- commands

    def _take(self, step: Step) -> None:
        self._on_step(step.name)
        with self.record.timed(step.name):
            for command in step.commands:
                for door in self._doors if command.per_door else [None]:
                    self.record.commands += 1
                    self._type(command, door)

    def _type(self, command: Command, door: _Door | None) -> None:
        if command.stays and door is not None:
            config = door.device / "controller.toml"
            controller = ControllerProcess(config, person=False, on_report=door.hear, stderr=self._log)
            self._parts.callback(_stop_controller, controller)
            controller.start()
            return
        if command.stays:
            self._start(command.rehearsed)
            return
        said = self._run(command.rehearsed, door.variables if door else {})
        if (statement := self.directory / "erased.json").exists():
            self._variables["HEAD"] = json.loads(statement.read_text("utf-8"))["audit_head"]
        if door is not None and (code := re.search(r"^\s+Code\s+(\S+)$", said, re.MULTILINE)):
            door.code = code[1]

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        programs = str(Path(sys.executable).parent)
        path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**os.environ, **self._variables, **variables, "PATH": path}

    def _run(self, line: str, variables: Mapping[str, str]) -> str:
        ran = subprocess.run(
            ["/bin/sh", "-c", f"umask 077; {line}"],
            cwd=self.directory,
            env=self._environment(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            raise RehearsalFailedError(
                f"{line}\nended with status {ran.returncode}: {ran.stdout}{ran.stderr}"
            )
        return ran.stdout

    def _start(self, line: str) -> None:
        """The hub; returns once it answers."""
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"umask 077; exec {line}"],
            cwd=self.directory,
            env=self._environment({}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            start_new_session=True,
        )
        self._hub.callback(_stop, process)

        def is_ready() -> bool:
            if process.poll() is not None:
                raise RehearsalFailedError(f"{line}\nended with status {process.returncode}")
            try:
                return httpx.get(f"{self.url}/readyz", timeout=1.0, verify=self._trust()).is_success
            except httpx.HTTPError:
                return False

        self._until(is_ready, "the hub answers")

    # ---- what has come of it

    def _api(self) -> HubApi:
        token = (self.directory / "token").read_text("utf-8").strip()
        return HubApi(self.url, token, self._trust())

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.directory / "site" / "root.cert.pem")

    def _check_cards(self) -> None:
        with (self.directory / "cards.csv").open(encoding="utf-8", newline="") as report:
            outcomes = [row["outcome"] for row in csv.DictReader(report)]
        issued = outcomes.count("issued")
        self.record.found |= {"residents": self._residents, "doors": len(self._doors), "cards": issued}
        if issued != self._residents:
            raise RehearsalFailedError(
                f"{issued} cards for {self._residents} residents: {sorted(set(outcomes))}"
            )

    def _cards(self) -> Iterator[VirtualCard]:
        for file in sorted((self.directory / "cards").glob("*.json")):
            yield VirtualCard.from_json(file.read_text("utf-8"))

    def _tap(self, door: _Door, card: VirtualCard, outcome: str) -> None:
        """Hold a card to a door, which has to open where the outcome is ``opened``, and to stay shut where it is another."""
        if door.reader is None:
            raise RehearsalFailedError(f"{door.id} has no reader")
        door.reader.insert(card)
        try:
            trace = door.traces.get(timeout=_WITHIN_S)
        except queue.Empty:
            raise RehearsalFailedError(f"{door.id} said nothing about a card") from None
        finally:
            door.reader.remove()
        if ("strike" in trace["marks"]) is not (outcome == "opened"):
            raise RehearsalFailedError(f"{door.id}: {trace['trace']}, {trace['reason']}")
        self.record.found.setdefault(outcome, {})[door.id] = trace["reason"]

    @staticmethod
    def _until(holds: Callable[[], bool], what: str) -> None:
        until_s = time.monotonic() + _WITHIN_S
        while not holds():
            if time.monotonic() > until_s:
                raise RehearsalFailedError(f"not within {_WITHIN_S:g} s: {what}")
            time.sleep(_LOOK_S)


def people(residents: int) -> str:
    """The list that the hub imports: fictitious people, in rooms of four."""
    lines = ["external_id,given_name,family_name,access_levels,room"]
    for number in range(residents):
        given, family = PEOPLE[number % len(PEOPLE)][0], PEOPLE[(number // len(PEOPLE)) % len(PEOPLE)][1]
        lines.append(f"E-{number + 1:04},{given},{family},{LEVEL},{number // 4 + 1:03}")
    return "\n".join(lines) + "\n"


def _is_confirmed(api: HubApi) -> bool:
    if not api.get("/documents")["settled"]:
        return False
    return all(
        door["online"]
        and door["policy_version"] == door["policy_newest"] > 0
        and door["revocations_version"] == door["revocations_newest"] > 0
        for door in api.get("/doors")["doors"]
    )


def _follows(api: HubApi, *, above: int) -> bool:
    """Whether every door has what the root stated after ``above``."""
    keys = api.get("/keys")
    return keys["statement"] > above and not keys["waiting"] and _is_confirmed(api)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _stop_controller(controller: ControllerProcess) -> None:
    with suppress(RuntimeError):
        controller.stop()
