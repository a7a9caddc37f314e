"""Rebuilds the addresses of the links, and gives addresses to the routers at the other ends of cables."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_interface

from fz_iproute.lab.devices import Device
from fz_iproute.lab.printed import Found, Lost, Printed, command
from fz_iproute.mirror.ip_json import Document
from fz_iproute.mirror.model import Command, Link
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import is_word


def addresses(printed: Printed, links: Mapping[str, Link]) -> Found:
    """Add exactly the recorded addresses. First delete those that the kernel itself gave to the loopback device."""
    for family in FAMILIES:
        yield Command.of(family, ("address", "flush", "dev", "lo"))
    for document in printed.addresses:
        link = links.get(document.get("ifname", ""))
        if link is None:
            continue  # the missing link was already reported
        found = document.get("addr_info", ())
        yield from (_address(address, link) for address in found if address.get("family") == "inet")
        # The kernel lists the IPv6 addresses of a link in reverse: the last one that was added comes first.
        yield from (_address(address, link) for address in reversed(found) if address.get("family") == "inet6")


def _address(address: Document, link: Link) -> Command | Lost:
    family: Family = "inet" if address["family"] == "inet" else "inet6"
    local, length = address.get("local", ""), address.get("prefixlen")
    what = f"address {local}/{length} dev {link.name}"
    if link.word is None:
        return Lost(what, "its link cannot be named")
    words = [f"{local}/{length}"]
    if "address" in address:
        words = [str(local), "peer", f"{address['address']}/{length}"]
    words += ["dev", link.word]
    for option in ("broadcast", "scope", "metric"):
        if option in address:
            words += [option, str(address[option])]
    words += [flag for flag in ("noprefixroute", "mngtmpaddr", "home") if address.get(flag) is True]
    if address.get("deprecated") is True:
        words += ["preferred_lft", "0"]
    if family == "inet6":
        words.append("nodad")
    label = str(address.get("label", link.name))
    if label.startswith(f"{link.word}:"):  # `ip` accepts no other labels
        words += ["label", label]
    return command(what, family, ("address", "add", *words))


def missing_sources(printed: Printed) -> list[str]:
    """The source addresses of IPv4 routes that no link has. A stale copy has such a source.

    The kernel accepts such a route only while the address exists. IPv6 needs nothing: there, the kernel removes the
    source from a route when the address disappears.
    """
    there = {address.get("local") for document in printed.addresses for address in document.get("addr_info", ())}
    wanted = (
        rest.get("prefsrc")
        for (family, _), listing in printed.routes.items()
        if family == "inet"
        for _, rest in listing
    )
    return [source for source in dict.fromkeys(wanted) if source and source not in there and is_word(source)]


def routers(printed: Printed, wanted: Sequence[Device]) -> list[Command]:
    """Give the gateways of routes their addresses, in the namespace FAR at the ends of the cables that lead there.

    So these routers answer pings.
    """
    networks = {
        document["ifname"]: [ip_interface(f"{each['local']}/{each['prefixlen']}") for each in document["addr_info"]]
        for document in filter(None, printed.addresses)
    }
    far_ends = {device.name: device.far_end for device in wanted if device.kind == "veth"}
    found: dict[Command, None] = {}
    paths = [*printed.nexthops, *(rest for listing in printed.routes.values() for _, rest in listing)]
    for hop in (hop for path in paths for hop in (path, *path.get("nexthops", ()))):
        if "gateway" in hop and hop["dev"] in far_ends:
            router = ip_address(hop["gateway"])
            for near in networks.get(hop["dev"], ()):
                if router in near.network and router != near.ip:
                    far = f"{router}/{near.network.prefixlen}"
                    words = ("address", "add", far, *(["nodad"] if router.version == 6 else []))
                    family: Family = "inet" if router.version == 4 else "inet6"
                    found[Command.of(family, (*words, "dev", far_ends[hop["dev"]]))] = None
    return list(found)
