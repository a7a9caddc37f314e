"""What `status`, `explain` and `detect` tell of a recorded machine, and whether the kernel agrees."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from fz_iproute.diagnosis.detect import Vpn, detect
from fz_iproute.diagnosis.status import as_document, status
from fz_iproute.diagnosis.summary import summary
from fz_iproute.mirror.config_text import parse
from fz_iproute.record.recorded_ip import RecordedIp
from fz_iproute.record.recording import Recording
from fz_iproute.verbs.brief import mends
from fz_iproute.verbs.explain import Question, explain
from fz_iproute.verbs.seen import seen

SYNC = "fz-iproute sync"


class Told(NamedTuple):
    """The document of `status` and its sentence about the VPN, those of `explain` by address, and `detect`'s VPNs.

    Sentences of `explain` with doubts are left out.
    """

    status: dict[str, Any]
    vpn: str  # "" if the VPN is not there
    verbs: tuple[str, str]  # which `status` advises for the VPN and for the LAN; "" for none
    sentences: dict[str, str]
    vpns: list[Vpn]

    @classmethod
    def of(cls, recorded: Recording, addresses: Sequence[str]) -> "Told":
        config, source = parse(recorded.config, "snapshot"), RecordedIp(recorded)
        machine = seen(source, config)
        found = status(config, *machine)
        said = summary(found)
        vpn = "" if found.absent else said.vpn
        answers = {address: explain(Question(address, mark=0), config, source, SYNC)[0] for address in addresses}
        sentences = {address: each.sentence for address, each in answers.items() if not each.decision.doubts}
        return cls(
            as_document(found),
            vpn,
            (said.verb, mends(said, None)),
            sentences,
            detect(config, *machine),
        )

    @property
    def advised(self) -> list[str]:
        """The addresses that a sync would bring back, as `explain` says."""
        return [
            address
            for address, said in self.sentences.items()
            if said.endswith(f"is not in the VPN's table yet; run `{SYNC}`")
        ]


Ways = Callable[[str, str], list[str]]  # of unmarked packets to the hosts in a prefix, from a source or ""


def lies(
    told: Told,
    ways: Ways,
    own: Mapping[str, Sequence[str]],
    tunnels: Collection[str],
    internet: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """What the kernel contradicts; `own` are the addresses of each device, `internet` hosts in all parts of it."""
    for family, hosts in internet.items():
        here = {way for host in hosts for way in ways(host, "")}
        state = told.status["tunnel"]["internet"][family]
        carrier = told.status["tunnel"]["carriers"].get(family, {}).get("dev", [])
        is_carried, is_refused = here <= set(carrier or tunnels), "" in here
        is_wrong = is_carried != (state == "active" or bool(carrier)) or (state == "blocked" and not is_refused)
        # If parts of the internet are reached in different ways, `status` speaks of most of it, and of what gets out.
        name = "IPv4( and IPv6)?" if family == "inet" else "(IPv4 and )?IPv6"
        some = re.search(rf"some {name} leaves? by ", told.vpn)
        # A rule may send a single host elsewhere, which is no large part.
        leaving = [host for host in hosts if not {"", "lo", *tunnels}.issuperset(ways(host, ""))]
        if state == "active" and told.vpn and len(leaving) > 1 and not some:
            yield f"status: {told.vpn!r} does not say that some {family} leaves: {leaving}"
        if len(here) == 1 and is_wrong and not some:
            yield f"status: {family} is {state}, by {carrier}: {here}"
        by = "".join(here) if here.isdisjoint(("", "lo", *tunnels)) else ""
        words = rf"{'IPv4( and IPv6)?' if family == 'inet' else 'IPv6'} leaves? by {by}\b"
        if len(here) == 1 and by and told.vpn and not re.search(words, told.vpn):
            yield f"status: {told.vpn!r} does not say that {family} leaves by {by}"
    for lan in told.status["lan"]:
        if lan["reachable"] is None or not lan["route"].startswith(lan["dst"]) or "proto 245" in lan["route"]:
            continue
        devices = {device for each in told.status["lan"] if each["dst"] == lan["dst"] for device in each["dev"]}
        here = ways(lan["dst"], "")
        # A program that connects sends from the address of the route, which another rule may select.
        bound = [ways(lan["dst"], source) for device in devices for source in own.get(device, ())]
        if lan["reachable"] and here and devices.isdisjoint(here):
            yield f"status: {lan['dst']} is reachable: {here}"
        # Where two links are in one LAN, its packets may well leave by the other one, as is said then.
        is_said = "source" in lan["lost"] or all(way in lan["lost"] for way in here)
        is_lost = not lan["reachable"] and not is_said
        if is_lost and here and all(devices.issuperset(each) for each in (here, *bound)):
            yield f"status: packets to {lan['dst']} {lan['lost']}: {here}"
    yield from _of_losses(told, ways, own)
    yield from _of_sentences(told, ways, tunnels)


def _of_losses(told: Told, ways: Ways, own: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for loss in told.status["losses"]:
        parts = [] if loss["extent"] == "some packets" or loss["due"] else loss["dst"]
        for part in parts:
            # A program that connects sends from an own address, which another rule may select.
            sources = ["", *(source for each in own.values() for source in each)]
            here = [] if part.startswith("a part of") else [way for source in sources for way in ways(part, source)]
            lost = {"are refused": [""], "have no route": [""]}.get(loss["lost"], loss["lost"].split())
            if here and set(here).isdisjoint(lost):
                yield f"status: packets to {part} {loss['lost']} by {loss['by']}: {here}"


def _of_sentences(told: Told, ways: Ways, tunnels: Collection[str]) -> Iterator[str]:
    in_step = {lan["dst"] for lan in told.status["lan"] if lan["verdict"] == "in step"}
    for address, said in told.sentences.items():
        (way,) = ways(address, "") or ["lo"]
        is_tunnel = way in tunnels and (
            way in said or not re.search("because (all traffic|IPv[46].*) goe?s? into", said)
        )
        is_lan = way not in ("", told.status["tunnel"]["interface"])
        if ("goes into the tunnel" in said and not is_tunnel) or (said.startswith("leaves by") and not is_lan):
            yield f"explain: {address} {said}: {way!r}"
        missing = re.search(r"(\S+) is not in the VPN's table yet", said)
        if missing and missing[1] in in_step:
            yield f"explain: {address} {said}: it is in step"
        if " to the LAN" in said and way in tunnels:
            yield f"explain: {address} {said}: {way!r}"


def wrong_lans(
    vpns: Sequence[Vpn], hops: Mapping[str, set[str]], main: Mapping[str, Sequence[tuple[Any, str]]]
) -> Iterator[str]:
    """What `detect` says of LANs, and the kernel does not.

    `hops` tells how packets to each host leave, and `main` has the routes of main by family, without those into a
    tunnel: the prefix, and how it is reached.
    """
    for vpn in vpns:
        if vpn.advice == "nothing" and vpn.cut and not vpn.elsewhere:
            yield f"detect: {vpn.interface} cuts {vpn.cut}, and the advice is {vpn.why}"
        for lan in (*vpn.kept, *vpn.cut):
            routes, prefix = main[lan.family], ip_network(str(lan))
            ways = {way for other, way in routes if other == prefix}
            parts = [other for other, _ in routes if other != prefix and other.subnet_of(prefix)]
            hosts: dict[str, list[bool]] = defaultdict(list)
            for host, taken in hops.items():
                address = ip_address(host)
                if address in prefix and "lo" not in taken and not any(address in part for part in parts):
                    holes = (ip_network(hole.removeprefix("a part of ")) for hole in vpn.holes)
                    hosts["a hole" if any(address in hole for hole in holes) else "the LAN"].append(taken <= ways)
            is_lost = not any(hosts["the LAN"] + hosts["a hole"])
            if lan in vpn.kept and (not all(hosts["the LAN"]) or (is_lost and hosts["a hole"])):
                yield f"detect: {lan} is {vpn.lan}, but not reached: {hops}"
            if lan in vpn.kept and hosts["a hole"] and all(hosts["a hole"]):
                yield f"detect: all of {lan} is reached, but {vpn.holes} are said to be cut"
            if lan in vpn.cut and hosts["the LAN"] and all(hosts["the LAN"]):
                yield f"detect: {lan} is {vpn.lan}, but reached"
