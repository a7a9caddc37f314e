"""Checks whether the machine can renew its DHCP leases."""

from collections.abc import Iterator

from fz_iproute.diagnosis.checks.finding import Found, or_ok
from fz_iproute.diagnosis.machine import Machine
from fz_iproute.diagnosis.remedy import advice
from fz_iproute.mirror.prefix import Prefix


def dhcp(machine: Machine) -> Iterator[Found]:
    """Check that no DHCP server of this machine is inside an explicit route of the VPN."""
    yield from or_ok(_taken_servers(machine), "no known DHCP server is inside a route of the VPN")


def _taken_servers(machine: Machine) -> Iterator[Found]:
    for server in machine.facts.get("dhcp.servers", "").split():
        decision = machine.way("inet", Prefix.of_route(server, "inet").address)
        route = decision.route
        if machine.is_tunnelled(decision) and route and route.dst != "default":
            why = (
                "the lease cannot be renewed there: the question goes into the tunnel, until the client asks everybody"
            )
            words = f"let the VPN route less than {route.dst}, or let another DHCP server give the lease"
            yield Found("warning", f"{route.dst} of the VPN takes the DHCP server {server}", why, advice(words))
