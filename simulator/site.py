"""A whole site in real processes: broker, hub and controllers, and for each door virtual PN532s and a virtual door.

Nothing here decides or verifies; it provisions as a technician would, holds cards to readers, and
collects what each part says of itself.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Literal, Self

from pacs.credential import Technology, VerifiedCredential
from pacs.identifiers import ControllerId, CredentialId, DoorId
from pacs.rules import Door, DoorMode, Side
from provisioning.card_keys import CardKeys
from provisioning.encoder import IssuedCard, Issuer, issue_card, issue_v1_card
from provisioning.hub_client import HubClient
from provisioning.readers import DoorWiring, ProvisionedController, add_controller
from provisioning.site import create_site
from simulator.card_issuing import Profile
from simulator.controller_process import ControllerProcess
from simulator.hub_process import HubApi, HubProcess
from simulator.installation import wire
from simulator.pn532_process import ApduReport, Pn532Process
from simulator.scenario import (
    Description,
    Fittings,
    Holder,
    Resident,
    door_body,
    resident_body,
    schedule_body,
)
from simulator.station import DoorStation, Tap, strike_ns
from simulator.virtual_card import VirtualCard

TAP_WITHIN_S: Final = 10.0
CHANGEOVER_S: Final = 0.35
"""From one card's leaving to the next one's coming: the same card that is back sooner has not left for a reader."""
LATE_WITHIN_S: Final = 60.0
CARD_YEARS: Final = timedelta(days=365)


class VirtualSite:
    """A context manager: provisions ``description`` in ``directory`` and runs it.

    ``timing``: ``realistic`` lets line, air and card take their modelled time. ``log`` takes what the processes
    write. ``on_step`` is told what is being done. ``cable``: given the broker's port, says at which one a
    controller finds it.
    """

    def __init__(
        self,
        description: Description,
        directory: Path,
        *,
        timing: Literal["none", "realistic"] = "realistic",
        log: IO[Any] | int | None = None,
        on_step: Callable[[str], None] = lambda _step: None,
        cable: Callable[[ControllerId, int], int] = lambda _controller_id, port: port,
    ) -> None:
        self.description = description
        self._directory = directory
        self._timing = timing
        self._log = log
        self._on_step = on_step
        self._cable = cable
        self._parts = contextlib.ExitStack()
        self._now = datetime.now(UTC)
        on_step("making keys and certificates")
        site = create_site(directory / "site", description.site_id, now=self._now)
        self._site, self._passphrase = site, site.passphrase()
        CardKeys.read(site.directory, self._passphrase).with_simulated_batch().write(
            site.directory, self._passphrase
        )
        self.issuer = Issuer.of(site, self._passphrase)
        self.hub = HubProcess(site.hub_directory, directory / "hub-data", stderr=log)
        self.stations: dict[DoorId, DoorStation] = {}
        self.api: HubApi
        self.bureau: HubClient

    @property
    def directory(self) -> Path:
        """Where everything of it lies."""
        return self._directory

    # ---- life

    def __enter__(self) -> Self:
        try:
            self._on_step("starting broker and hub")
            self._parts.callback(self.hub.stop)
            self.hub.start()
            token = self.hub.command("token", "create", "--name=simulator", "--role=administrator")
            self.api = self._parts.enter_context(HubApi(self.hub.url, token))
            self._on_step("registering doors, rules and people")
            self.bureau = self._parts.enter_context(HubClient(self.hub.url, token))
            by_controller = sorted(self.description.doors, key=lambda door: door.controller_id)
            for controller_id, doors in itertools.groupby(by_controller, key=lambda door: door.controller_id):
                self._provision(controller_id, tuple(doors))
            self._describe()
            self._on_step("starting readers and controllers")
            for reader in (each for station in self.stations.values() for each in station.readers.values()):
                self._parts.callback(reader.stop)
                reader.start()
            for station in self.stations.values():
                self._parts.callback(self._stop_controller, station)
            for controller in {
                id(each.controller): each.controller for each in self.stations.values()
            }.values():
                controller.start()
            self.wait_until_confirmed()
        except BaseException:
            self._parts.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parts.close()

    def _provision(self, controller_id: ControllerId, doors: Sequence[Door]) -> None:
        fitted = [(door.id, self.description.fittings.get(door.id, Fittings())) for door in doors]
        devices = {
            (door_id, side): self._directory / f"reader-{door_id}-{side}"
            for door_id, fittings in fitted
            for side in (Side.ENTRY, *((Side.EXIT,) if fittings.exit_reader else ()))
        }
        made = self.register_controller(
            controller_id,
            *(DoorWiring(id=door.id, device=str(devices[door.id, Side.ENTRY])) for door in doors),
        )
        config = made.directory / "controller.toml"
        wire(config, fitted, devices)

        def hear(report: dict[str, Any]) -> None:
            for door in doors:
                if report.get("door") in (None, door.id):
                    self.stations[door.id].hear(report)

        controller = ControllerProcess(config, stderr=self._log, on_report=hear)
        for door in doors:
            exchanges: list[ApduReport] = []
            self.stations[door.id] = DoorStation(
                door=door,
                readers={
                    side: Pn532Process(timing=self._timing, link=device, on_apdu=exchanges.append)
                    for (door_id, side), device in devices.items()
                    if door_id == door.id
                },
                config=config,
                controller=controller,
                exchanges=exchanges,
            )

    def register_controller(self, controller_id: ControllerId, *doors: DoorWiring) -> ProvisionedController:
        """Make a controller's directory and register it, with its doors, at the hub."""
        made = add_controller(
            self._site,
            self._site.authority(self._passphrase),
            controller_id,
            doors,
            now=self._now,
            pins="mock",
            broker_host="127.0.0.1",
            broker_port=self._cable(controller_id, self.hub.mqtt_port),
        )
        self.bureau.register_controller(made)
        return made

    def _describe(self) -> None:
        described = self.description
        for area_id, name in described.areas.items():
            self.api.post("/areas", {"id": area_id, "name": name})
        for schedule in described.schedules:
            self.api.post("/schedules", schedule_body(schedule))
        for level in described.access_levels:
            rules = [{"door_id": rule.door_id, "schedule_id": rule.schedule_id} for rule in level.rules]
            self.api.post(
                "/access-levels",
                {"id": level.id, "name": level.id.replace("-", " ").capitalize(), "rules": rules},
            )
        for door in described.doors:
            self.api.patch(f"/doors/{door.id}", door_body(door, described.names[door.id]))
        for resident in described.residents:
            self.api.post("/cardholders", resident_body(resident))

    @staticmethod
    def _stop_controller(station: DoorStation) -> None:
        with contextlib.suppress(RuntimeError):
            station.controller.stop()

    # ---- cards

    def issue(self, resident: Resident, *, profile: Profile = Profile.V2, register: bool = True) -> Holder:
        """Make a key and a certificate on a blank card, tap it once, and give it to a resident."""
        card = VirtualCard(profile=profile)
        issued = self._personalise(card)
        self.issuer.journal.given_out(issued.serial)
        if register:
            body = {**issued.registration, "cardholder_id": resident.id}
            self.api.post("/cards", body)
        return holder_of(
            issued, card, label=f"{resident.given_name} {resident.family_name}", issuer=self.issuer
        )

    def _personalise(self, card: VirtualCard) -> IssuedCard:
        def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
            meanwhile()
            return card.answer(command)

        if card.profile is Profile.V1:
            return issue_v1_card(transceive, self.issuer, now=datetime.now(UTC))
        today = datetime.now(UTC).date()
        return issue_card(
            transceive,
            self.issuer,
            valid_from=today - timedelta(days=1),
            valid_until=today + CARD_YEARS,
            now=datetime.now(UTC),
        )

    def block(self, credential_id: CredentialId, status: str = "suspended") -> Any:
        """Block a card at the hub; returns what the hub says, and the ``version`` that carries it at this site."""
        return self._changed(credential_id, "block", {"status": status, "reason": "reported lost"})

    def reinstate(self, credential_id: CredentialId) -> Any:
        """Make it valid again; returns what ``block`` does."""
        return self._changed(credential_id, "reinstate", {"reason": "found again"})

    def _changed(self, credential_id: CredentialId, what: str, body: dict[str, str]) -> Any:
        answer = self.api.post(f"/cards/{credential_id}/{what}", body)
        return answer | {"version": answer["versions"][self.description.site_id]}

    def wait_for_distribution(self, credential_id: CredentialId, version: int) -> dict[DoorId, datetime]:
        """When each door confirmed that it enforces this version of a card's status, by the hub's clock."""
        seen: dict[DoorId, datetime] = {}

        def confirmed() -> bool:
            for each in self.api.get(f"/cards/{credential_id}/distribution")["confirmations"]:
                if each["confirmed_at"] and each["version"] >= version:
                    seen[DoorId(each["door_id"])] = datetime.fromisoformat(each["confirmed_at"])
            return len(seen) == len(self.stations)

        self.wait_until(confirmed, f"every door enforcing version {version}")
        return seen

    def switch(self, door_id: DoorId, mode: DoorMode) -> None:
        """Change a door's mode, and wait until its controller confirms it."""
        self.api.patch(f"/doors/{door_id}", {"mode": mode.value})
        self.wait_until_confirmed()

    # ---- taps

    def tap(self, holder: Holder, door_id: DoorId, side: Side = Side.ENTRY) -> Tap:
        """Hold a card to one of a door's readers until the door has decided, then take it away.

        Raises RuntimeError when the door says nothing within 10 s.
        """
        station = self.stations[door_id]
        reader = station.readers[side]
        time.sleep(max(0.0, station.empty_since_s + CHANGEOVER_S - time.monotonic()))
        station.exchanges.clear()
        while not station.traces.empty():
            station.traces.get()
        inserted_ns = reader.insert(holder.card, replace(holder.link, uid=holder.uid))
        try:
            trace = station.traces.get(timeout=TAP_WITHIN_S)
        except queue.Empty:
            raise RuntimeError(
                f"{door_id} did not decide about {holder.label} within {TAP_WITHIN_S} s"
            ) from None
        finally:
            _, left = reader.remove()
            holder.card = left or holder.card
            station.empty_since_s = time.monotonic()
        marks = trace["marks"]
        if (
            "sign" in marks
        ):  # the reader tells of the last answer once it is out, which can be after the door opened
            self.wait_until(
                lambda: station.exchanges[-1].sent_ns > marks["certificate"], "the reader's last answer"
            )
        return Tap(
            door_id=door_id,
            outcome=trace["trace"],
            reason=trace["reason"],
            sequence=trace["sequence"],
            credential=trace["credential"],
            inserted_ns=inserted_ns,
            marks=marks,
            exchanges=tuple(station.exchanges),
            strike_ns=strike_ns(trace["released_ns"], trace["marks"]),
        )

    # ---- what the hub knows

    def wait_until(self, holds: Callable[[], bool], what: str, *, within_s: float = LATE_WITHIN_S) -> float:
        """Seconds until ``holds``; raises RuntimeError naming ``what`` when it takes longer than ``within_s``."""
        begun_s = time.monotonic()
        while not holds():
            if time.monotonic() - begun_s > within_s:
                raise RuntimeError(f"not within {within_s} s: {what}")
            time.sleep(0.01)
        return time.monotonic() - begun_s

    def wait_until_confirmed(self) -> None:
        """Wait until each door is online and enforces the newest documents."""
        self.wait_until(self.is_confirmed, "every door online with the newest documents")

    def is_confirmed(self) -> bool:
        """Whether each door is online and enforces the newest documents."""
        if not self.api.get("/documents")["settled"]:
            return False
        return all(
            door["online"]
            and door["policy_version"] == door["policy_newest"] > 0
            and door["revocations_version"] == door["revocations_newest"] > 0
            for door in self.doors()
        )

    def doors(self) -> list[dict[str, Any]]:
        """The state of each door, as the hub shows it."""
        found: list[dict[str, Any]] = self.api.get("/doors")["doors"]
        return found

    def events(self) -> list[dict[str, Any]]:
        """Every event the hub has stored."""
        found: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            page = self.api.get("/events", after=after, limit=500)
            found += page["events"]
            after = page["next_after"]
        return found


def holder_of(issued: IssuedCard, card: VirtualCard, *, label: str, issuer: Issuer) -> Holder:
    """A card just issued, with what a correct reader verifies on it."""
    v2 = issued.technology is Technology.PKOC_V2
    return Holder(
        label=label,
        card=card,
        credential=VerifiedCredential(
            credential_id=issued.credential_id,
            technology=issued.technology,
            issuer=issuer.reference if v2 else None,
            valid_from=issued.valid_from,
            valid_until=issued.valid_until,
        ),
    )
