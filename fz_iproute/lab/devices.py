"""Rebuilds the links: bridges, tunnels, and network cards. Each card becomes a cable (veth) to another namespace."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from fz_iproute.lab.printed import Lost, is_name
from fz_iproute.mirror.ip_json import Document
from fz_iproute.mirror.model import Command, Link

# The network namespace with the other ends of the cables.
FAR = "neighbour"


class Device(NamedTuple):
    """A link to be made."""

    name: str
    far_end: str  # the name of the other end of its cable, in the namespace FAR
    kind: str  # loopback, veth, tun, bridge
    up: bool
    carrier: bool
    master: str  # the bridge that it belongs to, "" for none
    options: tuple[tuple[str, str], ...]  # for `ip link set`


def devices(documents: Iterable[Document]) -> tuple[list[Device], list[Lost]]:
    """The links to be made, and the recorded links that cannot exist."""
    found: dict[str, Document] = {}
    lost = []
    for document in filter(None, documents):
        name = document["ifname"]
        if is_name(name) and name not in found:
            found[name] = document
        else:
            lost.append(Lost(f"link {name!r}", "no link can have this name, or another link has it"))
    masters = {document.get("master") for document in found.values()}
    return [_device(place, document, masters) for place, document in enumerate(found.values(), 1)], lost


def _device(place: int, document: Document, masters: set[object]) -> Device:
    name, flags = document["ifname"], document["flags"]
    if name == "lo":
        kind = "loopback"
    elif document["link_type"] != "ether":
        kind = "tun"
    else:
        kind = "bridge" if name in masters else "veth"
    return Device(
        name=name,
        far_end=f"far{place}",
        kind=kind,
        up="UP" in flags,
        carrier="LOWER_UP" in flags,
        master=document.get("master", ""),
        options=tuple(_options(document, kind)),
    )


def _options(document: Document, kind: str) -> Iterator[tuple[str, str]]:
    if kind == "loopback":
        return
    if isinstance(mtu := document.get("mtu"), int):
        yield ("mtu", str(mtu))
    if "MULTICAST" not in document["flags"]:
        yield ("multicast", "off")
    if kind != "tun":
        if "NOARP" in document["flags"]:
            yield ("arp", "off")
        if _ETHERNET.fullmatch(address := str(document.get("address"))) and address != _NO_ADDRESS:
            yield ("address", address)


_ETHERNET = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NO_ADDRESS = "00:00:00:00:00:00"  # may be in a redacted snapshot


def cables_and_bridges(wanted: Sequence[Device]) -> Iterator[Command]:
    """The commands that make cables and bridges."""
    for device in wanted:
        if device.kind == "veth":
            words = ("type", "veth", "peer", "name", device.far_end, "netns", FAR)
            yield Command.of("inet", ("link", "add", "name", device.name, *words))
        elif device.kind == "bridge":
            yield Command.of("inet", ("link", "add", "name", device.name, "type", "bridge"))


def stand_in(tunnel: Device) -> Device:
    """A cable, to use instead of a tunnel that cannot be made. Like a tunnel, it uses no ARP."""
    return tunnel._replace(kind="veth", options=(*tunnel.options, ("arp", "off")))


def link_states(wanted: Sequence[Device], links: Mapping[str, Link]) -> Iterator[Command]:
    """Set the options of the links, put them into their bridges, and set them up. `links` exist by now.

    Each option has its own command. If `ip` refuses one option, the others are set nevertheless.
    """
    here = [(device, word) for device in wanted if device.name in links and (word := links[device.name].word)]
    for device, word in here:
        for option in device.options:
            yield Command.of("inet", ("link", "set", "dev", word, *option))
    for device, word in here:
        if device.master in links and (master := links[device.master].word):
            yield Command.of("inet", ("link", "set", "dev", word, "master", master))
    for device, word in here:
        if device.up:
            yield Command.of("inet", ("link", "set", "dev", word, "up"))


def far_states(wanted: Sequence[Device]) -> Iterator[Command]:
    """Set up the ends in FAR of cables with a carrier: a cable has a carrier if its other end is up."""
    for device in wanted:
        if device.kind == "veth" and device.carrier:
            yield Command.of("inet", ("link", "set", "dev", device.far_end, "up"))
