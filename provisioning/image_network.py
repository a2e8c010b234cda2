"""How a controller's machine comes onto the network: by DHCP, or under an address of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_interface
from typing import Any, Final, Self

from pacs.errors import MalformedData

INTERFACE: Final = "eth0"
Address = IPv4Address | IPv6Address
_EVERYWHERE: Final = {4: "0.0.0.0/0", 6: "::/0"}
_DEPTH: Final = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedAddress:
    """``gateway`` None: the hub, the name servers and whatever else is needed are in the same network."""

    address: IPv4Interface | IPv6Interface
    gateway: Address | None
    name_servers: tuple[Address, ...]

    @classmethod
    def parse(cls, address: str, gateway: str | None, name_servers: Sequence[str]) -> Self:
        """Read what somebody typed, such as 10.0.0.5/24, 10.0.0.1 and 10.0.0.2; raises ``MalformedData``."""
        try:
            return cls(
                address=ip_interface(address),
                gateway=None if gateway is None else ip_address(gateway),
                name_servers=tuple(ip_address(each) for each in name_servers),
            )
        except ValueError as error:
            raise MalformedData(f"network: {error}") from error

    def __post_init__(self) -> None:
        own, network = self.address.ip, self.address.network
        if not 0 < network.prefixlen < _DEPTH[own.version]:
            raise MalformedData(f"network: {own} needs the length of its network, such as {own}/24")
        ends = {network.network_address, network.broadcast_address}
        if not _is_hosts(own) or (network.prefixlen < _DEPTH[own.version] - 1 and own in ends):
            raise MalformedData(f"network: {self.address} is no address of a machine")
        if self.gateway is not None and (self.gateway == own or self.gateway not in network):
            raise MalformedData(f"network: the gateway {self.gateway} is no other machine of {network}")
        servers = self.name_servers
        if not servers or not all(_is_hosts(each) and each.version == own.version for each in servers):
            raise MalformedData(f"network: name the name servers, by the IPv{own.version} address of each")

    @property
    def ethernet(self) -> dict[str, Any]:
        """Of cloud-init's network-config, version 2."""
        found: dict[str, Any] = {"dhcp4": False, "dhcp6": False, "addresses": [str(self.address)]}
        if self.gateway is not None:
            found["routes"] = [{"to": _EVERYWHERE[self.gateway.version], "via": str(self.gateway)}]
        return found | {"nameservers": {"addresses": [str(each) for each in self.name_servers]}}

    @property
    def keyfile(self) -> str:
        """NetworkManager's own form (nm-settings-keyfile(5)), preferred to whatever else is there for the interface."""
        route = f",{self.gateway}" if self.gateway is not None else ""
        lines = ["[connection]", "id=drempel", "type=ethernet", f"interface-name={INTERFACE}"]
        lines += ["autoconnect-priority=100"]
        for version in (4, 6):
            lines += ["", f"[ipv{version}]"]
            if version == self.address.version:
                servers = "".join(f"{each};" for each in self.name_servers)
                lines += ["method=manual", f"address1={self.address}{route}", f"dns={servers}"]
            else:
                lines += ["method=disabled"]
        return "\n".join(lines) + "\n"


def network_config(fixed: FixedAddress | None) -> str:
    """cloud-init's network-config, version 2 (JSON is YAML): the first Ethernet; a start does not wait for it."""
    wired = fixed.ethernet if fixed else {"dhcp4": True, "dhcp6": True}
    wired["optional"] = True
    return json.dumps({"network": {"version": 2, "ethernets": {INTERFACE: wired}}}, indent=2) + "\n"


def _is_hosts(address: Address) -> bool:
    return not (
        address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address.is_link_local
        or address == IPv4Address("255.255.255.255")
    )
