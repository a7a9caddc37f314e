"""Checks where DNS queries go."""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from fz_iproute.diagnosis.checks.finding import Found, Level, or_ok
from fz_iproute.diagnosis.lookup import Decision, Packet
from fz_iproute.diagnosis.machine import Machine
from fz_iproute.diagnosis.remedy import advice
from fz_iproute.mirror.prefix import Family, Prefix, PrefixSet

_FOR_ALL = "~."


class _Server(NamedTuple):
    """A name server."""

    place: str  # where it is configured: a file, or an interface of systemd-resolved
    host: Prefix
    device: str = ""  # the interface by which it is asked: its zone, or its link for systemd-resolved; "" if any
    for_all: bool = False  # systemd-resolved asks the servers of this link about all names

    def __str__(self) -> str:
        return str(self.host).partition("/")[0]


def dns(machine: Machine) -> Iterator[Found]:
    """Check that DNS queries go into the tunnel like all other traffic."""
    path, hosts = _resolv_conf(machine)
    if not path:
        yield Found("info", "could not look: /etc/resolv.conf cannot be read")
        return
    servers = list(_servers(machine, path, hosts))
    said = [f"{each.place}: {each} ({_where(machine, _way(machine, each))})" for each in servers]
    seen = f"{'; '.join(said)}; whether they answer was not tried" if said else f"{path}: no server"
    yield from or_ok((*_outside(machine, servers), *_out_of_reach(machine, servers)), seen)


def _servers(machine: Machine, path: str, hosts: Iterable[str]) -> Iterator[_Server]:
    """The name servers: with systemd-resolved, those of each link and the global ones; else those in the file `path`.

    Older snapshots do not tell which link a server belongs to. Then the file counts, too.
    """
    names = {link.ifindex: name for name, link in machine.snapshot.links.items()}
    lines = [line.split() for line in machine.facts.get("resolved", "").splitlines()]
    if path != "/run/systemd/resolve/resolv.conf" or not lines:
        yield from (_Server(path, *each) for each in _parsed(hosts))
        return
    by_link = {host for _, *words in lines for host, _ in _parsed(words)}
    yield from (_Server(path, *each) for each in _parsed(hosts) if each[0] not in by_link)
    for index, *words in lines:
        if device := names.get(int(index)):
            yield from (_Server(device, host, device, _FOR_ALL in words) for host, _ in _parsed(words))


def _parsed(hosts: Iterable[str]) -> Iterator[tuple[Prefix, str]]:
    """The address and the zone of each host: the interface in `fe80::1%eth0`."""
    for word in hosts:
        host, _, zone = word.partition("%")
        try:
            yield Prefix.parse(str(ip_address(host))), zone
        except ValueError:
            continue


def _resolv_conf(machine: Machine) -> tuple[str, list[str]]:
    """The resolv.conf in force, and its servers.

    If it only points to systemd-resolved, the file in which systemd-resolved lists all its servers.
    """
    facts = machine.facts
    places = [f"/etc/netns/{machine.netns}/resolv.conf"] if machine.netns else []
    path = next((place for place in (*places, "/etc/resolv.conf") if place in facts), "")
    servers = _nameservers(facts.get(path, ""))
    behind = "/run/systemd/resolve/resolv.conf"
    if servers == ["127.0.0.53"] and behind in facts:
        return behind, _nameservers(facts[behind])
    return path, servers


def _nameservers(text: str) -> list[str]:
    lines = (line.split() for line in text.splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def _way(machine: Machine, server: _Server) -> Decision:
    # systemd-resolved sets IP_UNICAST_IF, so only routes by the interface of the link count.
    return machine.network.way(
        Packet(server.host.family, server.host.address, oif=server.device, ipproto=17, sport=50000, dport=53)
    )


def _where(machine: Machine, decision: Decision) -> str:
    if decision.stays:
        return "on this machine"
    if decision.outcome != "unicast":
        return "out of reach"
    route = decision.route
    is_in_lan = route and route.dst != "default" and route.attributes.on_link
    return machine.network.hop(decision, "into", "to the LAN by" if is_in_lan else "out of", machine.goal.tunnels)


def _out_of_reach(machine: Machine, servers: list[_Server]) -> Iterator[Found]:
    """Servers to which no packet gets. Only if there is no other one, names cannot be looked up."""
    lost = [server for server in servers if _where(machine, _way(machine, server)) == "out of reach"]
    level: Level = "warning" if len(lost) == len(servers) else "info"
    for server in lost:
        seen = f"{server.place}: {server} (out of reach)"
        by = f" --oif {server.device}" if server.device else ""
        words = f"`{machine.fz_iproute('explain')} {server}{by}` says why"
        yield Found(level, seen, "this machine cannot send it queries", advice(words))


def _outside(machine: Machine, servers: list[_Server]) -> Iterator[Found]:
    """Servers outside the tunnel: in a mirrored LAN, or asked by another interface than the tunnel."""
    tunnelled = any(each.for_all and machine.is_tunnelled(_way(machine, each)) for each in servers)
    for server in servers:
        family: Family = server.host.family
        if not machine.has_internet(family):
            continue
        decision = _way(machine, server)
        lans = PrefixSet(route.prefix for route in machine.goal.judged[family].wanted)
        lan = lans.covering(server.host)
        # If the tunnel's link is for all names, systemd-resolved asks other links only about their own domains.
        if not machine.gets_out(decision) or (server.device and not server.for_all and tunnelled):
            continue
        why = "everything else goes into the tunnel, but the local network sees which names you look up"
        devices = " ".join(decision.devices)
        if server.place.startswith("/run/") or server.place == server.device:
            remedy = f"resolvectl dns {server.device or devices} ADDRESS, with a server behind the tunnel"
        else:
            remedy = f"in {server.place}, replace {server} by a server behind the tunnel: nameserver ADDRESS"
        seen = f"{server} is in the copied LAN {lan}" if lan else f"{server} is asked by {devices}, around the tunnel"
        yield Found("warning", f"{server.place}: {seen}", why, advice(remedy))
