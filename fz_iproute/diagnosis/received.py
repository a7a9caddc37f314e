"""Says why the kernel drops a received packet for reasons that rules and routes do not show."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fz_iproute.diagnosis.lookup import Decision, Packet
from fz_iproute.diagnosis.reach import Network
from fz_iproute.mirror.words import sysctl_name

# The errors of `ip route get` if a received packet must not have these addresses, or if rp_filter drops it.
MARTIAN = ("Invalid argument", "Invalid cross-device link")
_UNREACHABLE = "No route to host"


class Drop(NamedTuple):
    """A reason for which the kernel drops the packet."""

    why: str
    errors: tuple[str, ...]  # the error that `ip route get` prints then; empty if it ignores this reason


def drops(packet: Packet, decision: Decision, network: Network, sysctls: Mapping[str, str]) -> Iterator[Drop]:
    """Find the reasons. `network` must have the routes to both addresses of the packet.

    If a sysctl is not in `sysctls`, nothing is concluded from it.
    """
    if packet.family == "inet6":
        if decision.outcome == "unicast" and sysctls.get("ipv6/conf/all/forwarding") == "0":
            yield Drop("this machine does not forward IPv6 (net.ipv6.conf.all.forwarding = 0)", ())
        return
    if decision.outcome == "unicast" or decision.error:
        name = f"ipv4/conf/{packet.iif}/forwarding"
        if sysctls.get(name) == "0":
            yield Drop(
                f"this machine does not forward what {packet.iif} receives ({sysctl_name(name)} = 0)", (_UNREACHABLE,)
            )
    if why := _bad_source(packet, network, sysctls):
        yield Drop(why, MARTIAN)


def _bad_source(packet: Packet, network: Network, sysctls: Mapping[str, str]) -> str:
    """Why the kernel does not accept the source address of the packet; "" if it does."""
    # The kernel looks up the answer to the source, as if this machine (`lo`) sent it by no particular device.
    mark = packet.mark if in_force(sysctls, packet.iif, "src_valid_mark") else 0
    answer = network.way(packet._replace(dst=packet.src, src=packet.dst, iif="lo", mark=mark))
    if answer.outcome == "local":
        return "its source is an address of this machine"
    if answer.outcome not in ("unicast", "none") and not answer.error:
        return f"its source is a {answer.outcome} address"
    strictness = in_force(sysctls, packet.iif, "rp_filter")
    if strictness and answer.error:
        return f"{packet.iif} has rp_filter = {strictness}, and there is no way back to its source"
    if strictness == 1 and packet.iif not in answer.devices:
        by = " or ".join(answer.devices)
        return f"{packet.iif} has a strict rp_filter, and the answer to its source would leave by {by}"
    return ""


def in_force(sysctls: Mapping[str, str], device: str, name: str) -> int:
    """The value of an IPv4 sysctl for a device. The kernel uses the larger one of the values for all and for it."""
    return max(int(sysctls.get(f"ipv4/conf/{place}/{name}", "0")) for place in ("all", device))
