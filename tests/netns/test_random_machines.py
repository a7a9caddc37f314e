"""Hundreds of machines broken at random: what is said of them is true, and remedies help and do no harm.

The kernel is the judge: `ip route get` says where packets go, before and after a remedy is carried out as printed.
"""

import gc
import json
import os
import random
import re
import signal
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fz_iproute.cli import main as fz_iproute
from fz_iproute.record import take
from fz_iproute.record.facts import facts
from fz_iproute.record.recording import Recording
from fz_iproute.verbs import doctor
from tests.netns import told
from tests.netns.namespace import MARK, MIRROR, TIER_INTERNET, TUNNEL, Namespace
from tests.netns.random_machine import (
    BRIDGE,
    CABLE,
    DEVICES,
    LANDS,
    SYNC,
    TABLES,
    TUNNELS,
    WIFI,
    Plan,
    plan,
)
from tests.netns.remedies import UNDO, carried_out
from tests.netns.test_lookup import ask
from tests.netns.told import Told

# scripts/test sets it, so that what has failed is tried again with the same dice.
# The same machines in each run, unless another number is given: FZ_MACHINES_SEED=random for fresh ones.
_GIVEN = os.environ.get("FZ_MACHINES_SEED", "4129676551")
FRESH = random.randrange(2**32) if _GIVEN == "random" else int(_GIVEN)
PARTS = 4  # for as many processors
MACHINES = int(os.environ.get("FZ_MACHINES") or 300)  # more by hand

Finding = dict[str, str]
Probe = tuple[str, str, str, int]  # family, destination, source, mark


class Lan(NamedTuple):
    """A route of main that needs no router."""

    prefix: Any
    device: str


class Kernel(NamedTuple):
    """Of each probe the device by which it leaves: "lo" if it is for this machine, "" if nobody takes it."""

    ways: dict[Probe, str]
    routed: set[Probe]  # those that leave through a router
    lans: dict[str, list[Lan]]
    main: set[str]  # the families in which some rule leads to main
    tunnels: set[str]  # the configured one, and what the VPN's default route leaves by
    mark: int  # as configured
    multicast: bool  # it is to leave by the LAN
    received: dict[tuple[str, str], bool]  # by device and source: does rp_filter let such packets to us in?
    hops: dict[str, set[str]]  # by host: the device, and the router if there is one, before and after connect()
    routes: dict[str, list[tuple[Any, str]]]  # of main, by family: the prefix, and device and router; none into tunnels
    own: dict[str, list[Lan]]  # the networks of this machine's own addresses, also without a route in main

    def is_lan(self, probe: Probe, device: str) -> bool:
        """The device leads to a LAN with this host: main has a route, or the machine has an address there."""
        if is_in_lan(self.lans, probe, device):
            return True
        return probe not in self.routed and is_in_lan(self.own, probe, device)


class Land(NamedTuple):
    """The namespace that becomes one machine after the other, and how the program is run on it."""

    namespace: Namespace
    config: Path
    fz: Callable[..., str]
    recordings: list[Recording]  # what `doctor` has looked at

    def become(self, wanted: Plan) -> None:
        """Empty the namespace, and build this machine."""
        self.config.write_text(wanted.config)
        for device in (*DEVICES, "all", "default"):
            self.namespace.sysctl(f"net.ipv4.conf.{device}.rp_filter", 0)
        for option in ("", "-6 "):
            lines = ["rule flush", "rule add priority 0 lookup local protocol kernel"]
            lines += [f"addr flush dev {device}" for device in DEVICES]
            lines += [f"link set {device} up" for device in DEVICES]
            lines += [f"route flush table {table}" for table in TABLES]
            # `flush` spares this one, which a remedy adds.
            lines += [f"route del unreachable default metric {2**32 - 1} table {table}" for table in TABLES]
            lines += ["rule add lookup main priority 32766 protocol kernel"]
            lines += ["rule add lookup default priority 32767 protocol kernel"]
            self.namespace.batch((option + line for line in lines), force=True)
        lines = [*wanted.lines, SYNC]
        while lines:
            place = lines.index(SYNC)
            self.namespace.batch(lines[:place], force=True)
            if place + 1 < len(lines):
                self.sync()
            lines = lines[place + 1 :]
        for name, value in wanted.sysctls.items():
            self.namespace.sysctl(name, value)

    def sync(self) -> None:
        self.fz("-q", "sync")

    def doctor(self) -> list[Finding]:
        found: list[Finding] = json.loads(self.fz("doctor", "--json"))["checks"]
        return found

    def look(self) -> "Kernel":
        """Where the kernel sends the probes, and what it has in main."""
        ways: dict[Probe, str] = {}
        routed: set[Probe] = set()
        document = tomllib.loads(self.config.read_text())
        configured, multicast = document["tunnel"], document.get("lan", {}).get("multicast", False)
        lans, main, tunnels = {}, set(), {configured["interface"]}
        received: dict[tuple[str, str], bool] = {}
        hops: dict[str, set[str]] = {}
        by_main: dict[str, list[tuple[Any, str]]] = {}
        for family, probes in PROBES.items():
            tables = [f"route show table {table}" for table in ("main", MIRROR, TIER_INTERNET)]
            lines = ["rule show", *tables, *map(question, probes)]
            lines += [
                f"route get {LANDS[family].own[device].split('/')[0]} from {source} iif {device}"
                for device, source in (RECEIVED if family == "inet" else ())
            ]
            rules, routes, *rest = ask(self.namespace, family, lines)  # type: ignore[arg-type]
            lans[family] = list(_lans(family, routes))
            by_main[family] = [
                (ip_network(route["dst"]), _hop(route))
                for route in routes
                if route.get("type", "unicast") == "unicast" and route["dst"] != "default"
                if route["dev"] not in TUNNELS
            ]
            if any(rule.get("table") == "main" and "suppress_prefixlen" not in rule for rule in rules):
                main.add(family)
            for route in (route for table in rest[:2] for route in table):
                if route["dst"] == "default" and route.get("dev") in TUNNELS:
                    tunnels.add(route["dev"])
            for probe, answer in zip(RECEIVED if family == "inet" else (), rest[2 + len(probes) :], strict=True):
                if not isinstance(answer, str) or "Invalid" in answer:  # cross-device link, or, since 6.18, argument
                    received[probe] = not isinstance(answer, str)
            first: dict[str, Any] = {}
            for probe, answer in zip(probes, rest[2 : 2 + len(probes)], strict=True):
                refused = isinstance(answer, str) or answer[0].get("type") in REFUSALS
                ways[probe] = "" if refused else answer[0]["dev"]
                if not refused and "gateway" in answer[0]:
                    routed.add(probe)
                if not (probe[2] or probe[3]):
                    first[probe[1]] = {} if refused else answer[0]
            hops |= self._hops(family, first)
        own = {family: list(_own(family, ways)) for family in LANDS}
        mark = configured.get("fwmark", MARK)
        return Kernel(ways, routed, lans, main, tunnels, mark, multicast, received, hops, by_main, own)

    def _hops(self, family: str, first: dict[str, Any]) -> dict[str, set[str]]:
        """How packets to each host leave: by the `first` decision, and after connect().

        IPv4 decides again then, with the source that the route of the first decision gives.
        """
        found = {host: {_hop(route)} for host, route in first.items()}
        sources = {host: route["prefsrc"] for host, route in first.items() if family == "inet" and "prefsrc" in route}
        lines = [f"route get {host} from {source}" for host, source in sources.items()]
        for host, again in zip(sources, ask(self.namespace, "inet", lines), strict=True):
            is_lost = isinstance(again, str) or again[0].get("type") in REFUSALS
            found[host].add("" if is_lost else _hop(again[0]))
        return found


def _hop(route: Any) -> str:
    return f"{route.get('dev', '')} {route.get('gateway', '')}".strip()


def question(probe: Probe) -> str:
    _, dst, src, mark = probe
    return " ".join(["route get", dst, *(["from", src] if src else []), *(["mark", hex(mark)] if mark else [])])


def _lans(family: str, routes: list[Any]) -> Iterator[Lan]:
    for route in routes:
        is_unicast = route.get("type", "unicast") == "unicast" and "gateway" not in route and route["dst"] != "default"
        if is_unicast and (family == "inet6" or route.get("scope") == "link") and route["dev"] not in (*TUNNELS, "lo"):
            yield Lan(ip_network(route["dst"]), route["dev"])


def _own(family: str, ways: dict[Probe, str]) -> Iterator[Lan]:
    for device, address in LANDS[family].own.items():
        here = ip_interface(address)
        if device not in TUNNELS and ways.get((family, str(here.ip), "", 0)) == "lo":
            yield Lan(here.network, device)


MDNS = "224.0.0.251"
REFUSALS = ("unreachable", "blackhole", "prohibit")


@pytest.fixture(scope="module")
def land(long_lived: Callable[[], Namespace]) -> Iterator[Land]:
    namespace = long_lived()
    for name in ("all", "default"):
        # Else a route whose router does not answer is avoided.
        namespace.sysctl(f"net.ipv6.conf.{name}.forwarding", 1)
        namespace.sysctl(f"net.ipv6.conf.{name}.addr_gen_mode", 1)
        namespace.sysctl(f"net.ipv4.conf.{name}.rp_filter", 0)
    namespace.sysctl("net.ipv4.conf.all.promote_secondaries", 1)
    for device in (WIFI, CABLE, BRIDGE):
        namespace.veth(device)
    for device in TUNNELS:
        namespace.tunnel(device)
    config = namespace.config()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNTIME_DIRECTORY", str(namespace.runtime))
        patch.setattr(take, "facts", lambda *words: {**facts(*words), "/etc/resolv.conf": SERVERS})

        def fz(*words: str) -> str:
            """The program in this process; its stdout."""
            out = StringIO()
            before = signal.getsignal(signal.SIGTERM)
            with redirect_stdout(out):
                fz_iproute(["-c", str(config), "--netns", namespace.name, *words])
            signal.signal(signal.SIGTERM, before)
            gc.enable()
            return out.getvalue()

        recordings: list[Recording] = []

        def keep(*arguments: Any) -> Recording:
            recordings[:] = [take.take(*arguments)]
            return recordings[0]

        patch.setattr(doctor, "take", keep)
        yield Land(namespace, config, fz, recordings)


def probes() -> dict[str, list[Probe]]:
    """All hosts, by every source, with and without the mark."""
    every = {}
    for family, land in LANDS.items():
        found: list[Probe] = []
        for dst in (*land.hosts, *land.internet, *([MDNS] if family == "inet" else [])):
            sources = [address.split("/")[0] for address in land.own.values()]
            found += [(family, dst, source, 0) for source in ("", *sources)]
            found += [(family, dst, "", mark) for mark in (MARK, 0x7)]
        every[family] = found
    return every


PROBES = probes()
RECEIVED = [
    (device, source) for device in (WIFI, CABLE) for source in (*LANDS["inet"].hosts[:6], *LANDS["inet"].internet)
]
SERVERS = "nameserver 192.168.1.1\nnameserver 8.8.8.8\nnameserver fd00:1::1\nnameserver 2600::1\n"

ASKED = [dst for land in LANDS.values() for dst in (*land.hosts[:7], land.internet[0])]
INTERNET = {family: land.internet for family, land in LANDS.items()}
OWN = {device: [land.own[device].split("/")[0] for land in LANDS.values()] for device in DEVICES}


def is_in_lan(lans: dict[str, list[Lan]], probe: Probe, device: str) -> bool:
    """True if main reaches the host without a router, by this device, or "" for any."""
    host = ip_address(probe[1])
    return any(host in lan.prefix and device in ("", lan.device) for lan in lans[probe[0]])


def troubles(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(each["name"], each["seen"]) for each in findings if each["level"] in ("warning", "failure")}


class Examined(NamedTuple):
    """What `doctor` and the kernel say of a machine."""

    findings: list[Finding]
    kernel: Kernel

    @classmethod
    def of(cls, land: Land) -> "Examined":
        return cls(land.doctor(), land.look())


def takes_more(before: Kernel, after: Kernel) -> bool:
    """True if the tunnel takes more of the internet than before."""
    was, becomes = (
        [len(truth.in_tunnel(truth.internet(family))) for family in LANDS] for truth in (Truth(*before), Truth(*after))
    )
    return any(now > then for then, now in zip(was, becomes, strict=True))


def harm(before: Kernel, after: Kernel) -> Iterator[str]:
    """What a remedy has broken, by the kernel's word."""
    for family in before.main - after.main:
        yield f"no rule leads to main any more ({family})"
    for probe, was in before.ways.items():
        becomes = after.ways[probe]
        if was == becomes or (after.multicast and probe[1] == MDNS):
            continue
        if probe[3]:
            if probe[3] == before.mark and was not in ("", "lo", *TUNNELS) and becomes in ("", *TUNNELS):
                yield f"marked packets do not get out: {probe} {was} -> {becomes}"
        elif was in TUNNELS and becomes not in ("", "lo", *TUNNELS) and not is_in_lan(after.lans, probe, becomes):
            yield f"left the tunnel: {probe} {was} -> {becomes}"
        elif was and becomes != "lo" and before.is_lan(probe, was) and not after.is_lan(probe, becomes):
            yield f"lost in the LAN: {probe} {was} -> {becomes}"
        elif probe[2] and was not in ("", "lo", *TUNNELS) and not is_in_lan(after.lans, probe, becomes):
            family, host, source, _ = probe
            is_its_card = is_in_lan(before.own, (family, source, "", 0), was)
            if is_its_card and before.ways[family, host, "", 0] in before.tunnels:
                yield f"answers do not get out as connections come in: {probe} {was} -> {becomes}"


def lies(found: Examined, all_told: Told, config: str) -> Iterator[str]:
    """What `doctor`, `status`, `explain` and `detect` say of where packets go, and the kernel does not."""
    said = defaultdict(list)
    for each in found.findings:
        said[each["name"]].append(each)
    truth = Truth(*found.kernel)
    # These speak of the configured tunnel, which is not there.
    silent = ("leak", "multicast") if "tun-missing" in config else ()
    for name, judge in JUDGES.items():
        for each in said[name] if name not in silent else ():
            if wrong := judge(each, truth):
                yield f"{name}: {each['level']} {each['seen']!r}: {wrong}"

    if not silent:
        yield from _unnamed_leaks(said["leak"], truth)
    yield from told.lies(all_told, truth.to, OWN, TUNNELS, INTERNET)
    yield from told.wrong_lans(all_told.vpns, truth.hops, truth.routes)

    cards = (f"{WIFI} ", f"{CABLE} ", f"{BRIDGE} ")  # they may reach no LAN, which is no fault of the VPN
    is_well = not troubles(found.findings)
    is_well = is_well and all(each["level"] == "ok" or each["seen"].startswith(cards) for each in said["shadows"])
    if is_well and "deny" not in config:
        for (family, dst, source, mark), way in truth.ways.items():
            if not (source or mark) and way in truth.tunnels and is_in_lan(truth.lans, (family, dst, "", 0), ""):
                yield f"all is well, but {dst} of the LAN enters {way}"


# How the kernel is asked about packets that a rule selects.
SELECTED = {"uidrange 7-9": "uid 8", "dport 9100": "ipproto tcp dport 9100"}
SOME_PACKETS = re.compile(r"^some packets to (.*?) (enter .*|leave by .*|are refused|have no route): (.*)$")


def wrong_losses(land: Land, findings: list[Finding]) -> Iterator[str]:
    """What `doctor` says of some packets to a LAN, and the kernel does not. It speaks of the time after a `sync`."""
    if not any(each["name"] == "mirror" and each["level"] == "ok" for each in findings):
        return
    for match in filter(None, (SOME_PACKETS.match(each["seen"]) for each in findings if each["name"] == "shadows")):
        prefixes, becomes, by = match.groups()
        family = "inet6" if ":" in prefixes else "inet"
        selector = next((asked for selector, asked in SELECTED.items() if selector in by), "")
        networks = [ip_network(prefix) for prefix in re.sub(REST, "", prefixes).split(", ") if "part" not in prefix]
        hosts = [host for host in LANDS[family].hosts if any(ip_address(host) in network for network in networks)]
        answers = ask(land.namespace, family, [f"route get {host} {selector}" for host in hosts])  # type: ignore[arg-type]
        ways = {"" if isinstance(each, str) else each[0]["dev"] for each in answers}
        tried["some packets"] += 1
        lost = [""] if becomes in ("are refused", "have no route") else becomes.split()
        if answers and ways.isdisjoint(lost):
            yield f"shadows: {match[0]!r}: the kernel says {ways}"


LEAK = re.compile(
    r"^(some )?(IPv\d)(?: from (\S+)/\d+)? to (.*?) ((?:goes into \S+ or )?leaves by (\S+), outside the tunnel"
    r"|goes into (\S+)|is refused|has no route): (.*)$"
)


def wrong_leaks(land: Land, findings: list[Finding]) -> Iterator[str]:
    """What `doctor` says of some packets to the internet, and the kernel does not."""
    for match in filter(None, (LEAK.match(each["seen"]) for each in findings if each["name"] == "leak")):
        is_some, name, *_, rule = match.groups()
        selector = next((asked for selector, asked in SELECTED.items() if selector in rule), None)
        if is_some and selector:
            family = FAMILIES[name]
            lines = [f"route get {host} {selector}" for host in LANDS[family].internet]
            answers = ask(land.namespace, family, lines)  # type: ignore[arg-type]
            tried["leaks of some packets"] += 1
            if all(isinstance(each, str) or each[0]["dev"] in TUNNELS for each in answers):
                yield f"leak: {match[0]!r}: the kernel says {answers}"


class Truth(Kernel):
    """Questions about it."""

    def internet(self, family: str, mark: int = 0) -> list[str]:
        return [self.ways[family, dst, "", mark] for dst in LANDS[family].internet]

    def to(self, prefix: str, source: str = "") -> list[str]:
        """The ways of unmarked packets to the hosts in a prefix, this machine aside."""
        network = ip_network(prefix)
        return [
            way
            for (_, dst, src, mark), way in self.ways.items()
            if (src, mark) == (source, 0) and ip_address(dst) in network and way != "lo"
        ]

    def in_tunnel(self, ways: list[str]) -> list[str]:
        return [way for way in ways if way in self.tunnels]


# How a finding ends a list of names.
REST = r" and (\d+ more|others)"


def _mark(finding: Finding, truth: Truth) -> str:
    ways = truth.internet("inet", truth.mark) + truth.internet("inet6", truth.mark)
    if finding["level"] == "ok" and "stay out" in finding["seen"] and truth.in_tunnel(ways):
        return "the kernel sends marked packets into the tunnel"
    if finding["level"] == "failure" and "into the tunnel" in finding["seen"] and not truth.in_tunnel(ways):
        return "the kernel sends no marked packet into the tunnel"
    return ""


def _leak(finding: Finding, truth: Truth) -> str:
    ways = {family: truth.internet(family) for family in LANDS}
    inside = {family: truth.in_tunnel(here) for family, here in ways.items()}
    out = {family: {*here} - {"", "lo", *TUNNELS} for family, here in ways.items()}
    if "to the internet do not enter" in finding["seen"]:
        return next((f"all of {family} does" for family in LANDS if len(inside[family]) == len(ways[family])), "")
    if finding["level"] == "ok":
        return f"some does: {out}" if any(out.values()) else ""
    if other := re.fullmatch(r"\S+: (?:some )?(\S+) leaves by (\S+), outside the VPN", finding["seen"]):
        return "" if other[2] in out[FAMILIES[other[1]]] else f"the kernel says {ways}"
    match = LEAK.match(finding["seen"])
    assert match, finding
    is_some, name, source, prefixes, _, by, into, _ = match.groups()
    if is_some:
        return ""  # see wrong_leaks
    whole = "::/0" if name == "IPv6" else "0.0.0.0/0"
    named = [whole if prefix.endswith("the internet") else prefix for prefix in re.sub(REST, "", prefixes).split(", ")]
    for prefix in named:
        there = truth.to(prefix, source or "") if prefix != whole or source else truth.internet(FAMILIES[name])
        if there and len(truth.in_tunnel(there)) == len(there):
            return f"all packets to {prefix} enter the tunnel"
    if finding["level"] == "failure" and prefixes == "the internet" and not source:
        return "" if (by or into or "") in truth.internet(FAMILIES[name]) else f"the kernel says {ways}"
    return ""


FAMILIES = {"IPv4": "inet", "IPv6": "inet6"}


def _unnamed_leaks(findings: list[Finding], truth: Truth) -> Iterator[str]:
    """Each family that leaves outside the tunnel although it takes all of the other must be named."""
    for name, family in FAMILIES.items():
        ways, others = truth.internet(family), [truth.internet(other) for other in LANDS if other != family]
        is_out = not {"", "lo", *TUNNELS} & {*ways}
        if is_out and all(len(truth.in_tunnel(here)) == len(here) for here in others):
            tried["leaks"] += 1
            if not any(each["seen"].startswith(f"{name} to ") and each["level"] == "failure" for each in findings):
                yield f"{name} leaves by {ways}, which doctor does not name"


LOST = re.compile(
    r"^(?:after `sync`, )?packets to (.*?)(?:, a part of a LAN,)? (?:are refused|have no route|enter|leave by)"
)


def _shadows(finding: Finding, truth: Truth) -> str:
    if match := LOST.search(finding["seen"]):
        # The kernel names the same device, whether the packets go to a router or to the LAN.
        prefixes = re.sub(REST, "", match[1]).split(", ")
        prefixes = [] if "through the router" in finding["seen"] or "a part of" in match[1] else prefixes
        for prefix in prefixes:
            network = ip_network(prefix)
            lans = [lan for lans in truth.lans.values() for lan in lans if lan.prefix.version == network.version]
            devices = {lan.device for lan in lans if network.subnet_of(lan.prefix)}
            hops = set().union(*(hops for host, hops in truth.hops.items() if ip_address(host) in network)) - {"lo"}
            if hops and hops <= devices:  # and not through a router
                return f"the kernel reaches {prefix}"
    return ""


def _multicast(finding: Finding, truth: Truth) -> str:
    inside = bool(truth.in_tunnel([truth.ways["inet", MDNS, "", 0]]))
    return "" if inside == ("goes into the tunnel" in finding["seen"]) else "the kernel does not"


def _tunnel(finding: Finding, truth: Truth) -> str:
    if " leads into it" in finding["seen"]:
        tried["no routes"] += 1
        unmarked = {probe: way for probe, way in truth.ways.items() if probe[1] != MDNS and probe[3] != truth.mark}
        inside = [probe for probe, way in unmarked.items() if way == TUNNEL]
        return f"{inside} enter it" if inside else ""
    match = re.search(r"but (all traffic|IPv4|IPv6) goes into (\S+)", finding["seen"])
    if match and match[2] not in truth.internet("inet6" if match[1] == "IPv6" else "inet"):
        return "it does not"
    if match and finding["level"] == "ok":
        for family, lans in truth.lans.items():
            for lan in lans:
                if match[2] in truth.to(str(lan.prefix)):
                    return f"{lan} ({family}) cannot be reached"
    return ""


def _rp_filter(finding: Finding, truth: Truth) -> str:
    device, _, rest = finding["seen"].partition(" ")
    uplinks = {host: truth.ways["inet", host, "", truth.mark] for host in LANDS["inet"].internet}
    if "by which the VPN's client sends" in finding["seen"]:
        servers = [host for host, uplink in uplinks.items() if uplink == device]
        if servers and all(truth.received.get((device, host)) for host in servers):
            return "the kernel lets the answers in"
    if match := re.search(r"and (.*) is not copied", rest):
        sources = [source for _, source in RECEIVED if ip_address(source) in ip_network(match[1].split(",")[0])]
        if sources and all(truth.received.get((device, source)) for source in sources):
            return "the kernel lets them in"
    if finding["level"] == "ok" and len(truth.in_tunnel(truth.internet("inet"))) == len(LANDS["inet"].internet):
        for host, uplink in uplinks.items():
            if truth.received.get((uplink, host)) is False:
                return f"the kernel drops what {uplink} receives from {host}"
    return ""


def _overrides(finding: Finding, truth: Truth) -> str:
    if match := re.search(r"^packets to (.*), which main has", finding["seen"]):
        ways = [way for prefix in re.sub(REST, "", match[1]).split(", ") for way in truth.to(prefix)]
        return "they do not" if ways and not truth.in_tunnel(ways) else ""
    if match := re.search(r"^(?:[a-z]+ )?(\S+) .*in main is overridden", finding["seen"]):
        ways = truth.to(match[1])
        return "" if not ways or set(ways) - {"", *truth.tunnels} else "no packet takes the copy"
    return ""


def _dns(finding: Finding, truth: Truth) -> str:
    for server, where in re.findall(r": ([0-9a-f.:]+) \(([^)]*)\)", finding["seen"]):
        way = truth.ways["inet6" if ":" in server else "inet", server, "", 0]
        said = {"out of reach": [""], "on this machine": ["lo"]}.get(where) or where.split()
        if way not in said:
            return f"{server}: {way!r}"
    if match := re.search(r": (\S+) is in the copied LAN", finding["seen"]):
        way = truth.ways["inet6" if ":" in match[1] else "inet", match[1], "", 0]
        return "" if way and way not in truth.tunnels else f"{match[1]}: {way!r}"
    return ""


JUDGES: dict[str, Callable[[Finding, Truth], str]] = {
    "tunnel": _tunnel,
    "mark": _mark,
    "leak": _leak,
    "shadows": _shadows,
    "multicast": _multicast,
    "rp_filter": _rp_filter,
    "overrides": _overrides,
    "dns": _dns,
}


tried: Counter[str] = Counter()


def one(land: Land, seed: int) -> list[str]:
    """What is wrong with one machine."""
    made = plan(random.Random(seed))
    land.become(made)
    before = Examined.of(land)
    all_told = Told.of(land.recordings[0], ASKED)
    some = (*wrong_losses(land, before.findings), *wrong_leaks(land, before.findings))
    wrong = [*lies(before, all_told, made.config), *some]
    is_fresh = True
    for finding in before.findings:
        remedy = finding["remedy"]
        if finding["level"] not in ("warning", "failure"):
            continue
        if not remedy:
            wrong.append(f"{finding['name']}: {finding['seen']}: nothing to do")
        if not is_fresh:
            land.become(made)
            is_fresh = True
        _, _, undo = remedy.partition(UNDO)
        if " sync && " in remedy:
            undo = ""  # it would leave the copies there
        untouched = land.namespace.raw_everything(but=0) if undo else None
        refused = carried_out(remedy, land.config, land.fz)
        if refused is None:
            continue
        is_fresh = False
        tried[finding["name"]] += 1
        after = Examined.of(land)
        faults = [refused] if refused else []
        new = troubles(after.findings) - troubles(before.findings)
        if takes_more(before.kernel, after.kernel):
            # What has been outside before is a problem now. If it has not been there before, `harm` finds it.
            new = {each for each in new if each[0] not in ("leak", "dns")}
        faults += [f"new: {each}" for each in new]
        faults += list(harm(before.kernel, after.kernel))[:2]
        if (finding["name"], finding["seen"]) in troubles(after.findings):
            faults.append("no effect")
        if undo:
            tried["undo"] += 1
            faults += filter(None, [carried_out(undo, land.config, land.fz)])
            if land.namespace.raw_everything(but=0) != untouched:
                faults.append("undone, it leaves the machine changed")
        wrong += [f"{finding['name']}: {finding['seen']}\n  {remedy}: {fault}" for fault in faults]
    wrong += _idle_advice(before.findings, all_told)
    if all_told.advised or "sync" in all_told.verbs:
        land.become(made)
        wrong += _after_the_advised_sync(land, before.kernel, all_told)
    return [f"machine {seed}: {each}\n{made}" for each in wrong]


def _idle_advice(findings: list[Finding], told: Told) -> Iterator[str]:
    """Where `status` advises a verb that has nothing to say, or none although `doctor` finds a LAN cut."""
    bad = [
        each for each in findings if each["level"] in ("warning", "failure") or "leave out every LAN" in each["seen"]
    ]
    for verb in filter(None, told.verbs):
        tried[f"status: {verb}"] += 1
    if "doctor" in told.verbs and not bad:
        yield f"status advises doctor {told.verbs}, which finds nothing: {told.vpn}"
    if "detect" in told.verbs and all(vpn.advice == "nothing" for vpn in told.vpns):
        yield f"status advises detect {told.verbs}, which advises nothing: {told.vpn}"
    for each in bad:
        if each["name"] in ("mirror", "shadows") and each["level"] == "failure" and not any(told.verbs):
            yield f"status advises nothing, but doctor says: {each['name']} {each['seen']}"


def _after_the_advised_sync(land: Land, was: Kernel, told: Told) -> Iterator[str]:
    """What a sync does that `explain` or `status` advises: it brings back LANs, and cuts none."""
    land.sync()
    ways = Truth(*land.look())
    tried["advice of explain"] += bool(told.advised)
    for address in told.advised:
        if ways.in_tunnel(ways.to(address)):
            yield f"explain: {address} {told.sentences[address]}: still {ways.to(address)}"
    if "sync" in told.verbs:
        cut = [probe for probe, by in was.ways.items() if by and not probe[3] and was.is_lan(probe, by)]
        cut = [probe for probe in cut if ways.ways[probe] in was.tunnels]
        if cut:
            yield f"status advises a sync, which cuts {cut[:3]}"


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_that_doctor_says_is_false(part: int, land: Land) -> None:
    tried.clear()
    seeds = range(FRESH + part, FRESH + MACHINES, PARTS)
    wrong = [each for seed in seeds for each in one(land, seed)]
    print(f"FZ_MACHINES_SEED={FRESH}: {len(seeds)} machines, remedies tried: {dict(tried)}")
    assert not wrong, f"FZ_MACHINES_SEED={FRESH}: {len(wrong)}\n" + "\n\n".join(wrong[:20])


_KEYS = ('layout = "single"', 'layout = "tiered"', "single = 1234", "lan = 1234", "user = 1234")

# Each may be wrong for the machine.
OTHER_SETTINGS = [
    *(f'[tunnel]\ninterface = "{TUNNEL}"\n[tables]\n{keys}\n' for keys in _KEYS),
    *(f'[tunnel]\ninterface = "{name}"\n' for name in ("tun-missing", WIFI, CABLE, *sorted(TUNNELS), "auto")),
]


def changed(land: Land, dice: random.Random, made: Plan) -> Iterator[str]:
    """What is wrong after a sync with other settings: a LAN is cut, or a second sync has something to do."""
    land.become(made)
    land.sync()
    was = land.look()
    lan = made.config.partition("[lan]")[2]
    settings = dice.choice(OTHER_SETTINGS) + (f"[lan]{lan}" if lan else "")
    land.config.write_text(settings)
    land.sync()
    again = land.fz("sync")
    land.config.write_text(made.config)
    now = land.look()
    if again:
        yield f"{settings}a second sync: {again}"
    reached = [probe for probe, by in was.ways.items() if by and not probe[3] and was.is_lan(probe, by)]
    if cut := [probe for probe in reached if now.ways[probe] in was.tunnels]:
        yield f"{settings}cuts {cut[:3]}"


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_no_setting_of_a_table_or_interface_cuts_a_lan(part: int, land: Land) -> None:
    wrong = []
    for seed in range(FRESH + part, FRESH + MACHINES // 8, PARTS):
        dice = random.Random(seed)
        made = plan(dice)
        if "manage" not in made.config:
            wrong += [f"machine {seed}: {each}\n{made}" for each in changed(land, dice, made)]
    assert not wrong, f"FZ_MACHINES_SEED={FRESH}: {len(wrong)}\n" + "\n\n".join(wrong[:20])
