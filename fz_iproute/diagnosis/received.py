"""Says why the kernel drops a received packet although rules and routes have a way for it."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fz_iproute.diagnosis.lookup import Decision, Packet
from fz_iproute.diagnosis.reach import Network

# What `ip route get` says of a source or a destination that no packet from a wire may have, and of rp_filter.
MARTIAN = ("Invalid argument", "Invalid cross-device link")
_UNREACHABLE = "No route to host"


class Drop(NamedTuple):
    """Why, and the error that `ip route get` gives then; none if it does not look at that."""

    why: str
    errors: tuple[str, ...]


def drops(packet: Packet, decision: Decision, network: Network, sysctls: Mapping[str, str]) -> Iterator[Drop]:
    """`network` has the routes to both addresses of the packet. A sysctl that is missing is not known."""
    if packet.family == "inet6":
        if decision.outcome == "unicast" and sysctls.get("ipv6/conf/all/forwarding") == "0":
            yield Drop("this machine does not forward IPv6 (net.ipv6.conf.all.forwarding = 0)", ())
        return
    if decision.outcome == "unicast" or decision.error:
        name = f"ipv4/conf/{packet.iif}/forwarding"
        if sysctls.get(name) == "0":
            yield Drop(
                f"this machine does not forward what {packet.iif} receives ({_spelled(name)} = 0)", (_UNREACHABLE,)
            )
    if why := _bad_source(packet, network, sysctls):
        yield Drop(why, MARTIAN)


def _bad_source(packet: Packet, network: Network, sysctls: Mapping[str, str]) -> str:
    """Why the kernel does not believe that the packet comes from its source, "" if it does."""

    def setting(name: str) -> int:
        values = [sysctls.get(f"ipv4/conf/{place}/{name}", "0") for place in ("all", packet.iif)]
        return max(int(value) for value in values if value.isdecimal())

    # The answer, as the kernel looks for its way: nobody has chosen a device, and lo stands for this machine.
    mark = packet.mark if setting("src_valid_mark") else 0
    answer = network.way(packet._replace(dst=packet.src, src=packet.dst, iif="lo", mark=mark))
    if answer.outcome == "local":
        return "its source is an address of this machine"
    if answer.outcome not in ("unicast", "none") and not answer.error:
        return f"its source is a {answer.outcome} address"
    strictness = setting("rp_filter")
    if strictness and answer.error:
        return f"{packet.iif} has rp_filter = {strictness}, and there is no way back to its source"
    if strictness == 1 and packet.iif not in answer.devices:
        by = " or ".join(answer.devices)
        return f"{packet.iif} has a strict rp_filter, and the answer to its source would leave by {by}"
    return ""


def _spelled(name: str) -> str:
    # sysctl wants slashes for names with dots.
    return f"net/{name}" if "." in name else f"net.{name.replace('/', '.')}"
