"""Reads the routes that decide where packets go. A machine may have a million routes, so not all of them are read."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from fz_iproute.ip.answers import answers_of, nexthops_of, parsed, shape_is_known
from fz_iproute.ip.ip import Source
from fz_iproute.mirror import parse, parse_rules
from fz_iproute.mirror.model import Link, Route, Rule, Snapshot, by_destination
from fz_iproute.mirror.prefix import FAMILIES, PRIVATE, Family, Prefix
from fz_iproute.mirror.words import LOCAL, MAIN, of_table

_MAIN = of_table(MAIN)

# Public hosts that represent the internet. One in each half of it, because some VPNs split their default route.
SAMPLES = [Prefix.parse(host) for host in ("9.9.9.9/32", "149.112.112.112/32", "2620:fe::fe/128", "2a00:1450::1/128")]
_RFC1918 = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")


def decisive_routes(source: Source, snapshot: Snapshot) -> dict[int, dict[Family, tuple[Route, ...]]]:
    """The routes that decide where packets to the internet and to LANs go, by table and family.

    Tables of the snapshot are not read again. Other tables that rules look up are read completely, except main,
    which may have a million routes. Of main, only the routes that are on-link, private, or match a host in
    `SAMPLES` are read. If these do not tell where main sends the rest of the internet, all of main is read.

    Each of the five questions about main costs a dump of it, because the kernel filters by table, protocol and
    device, but not by destination. With a million routes, a dump takes half a second.
    """
    found: dict[int, dict[Family, tuple[Route, ...]]] = {
        table: dict(families) for table, families in snapshot.tables.items()
    }
    links = snapshot.links
    questions = {
        family: [of_table(table) for table in _looked_up(snapshot.rules, family) if table not in (*found, MAIN)]
        for family in FAMILIES
    }
    # Main of IPv6 is complete in the snapshot, because it cannot be filtered by scope.
    samples = [f"{_MAIN} match {host}" for host in SAMPLES if host.family == "inet"]
    questions["inet"] += [*samples, *(f"{_MAIN} root {prefix}" for prefix in _RFC1918)]
    routes = _routes(source, questions, links)
    if _needs_all_of_main([routes["inet", question] for question in samples], "inet", snapshot):
        routes |= _routes(source, {"inet": [_MAIN]}, links)
    main: dict[Family, dict[str, list[Route]]] = {
        "inet": by_destination(route for route in snapshot.main["inet"] if route.attributes.on_link),
        "inet6": by_destination(_decisive(snapshot)),
    }
    for (family, question), listing in routes.items():
        if question.startswith(_MAIN):
            main[family] |= by_destination(listing)  # each answer has all routes to its destinations
        else:
            table = parse_rules.table_number(question.split()[3])
            found.setdefault(table, {})[family] = listing
    found[MAIN] = {family: tuple(chain.from_iterable(here.values())) for family, here in main.items()}
    return found


def matching_routes(
    source: Source, hosts: Sequence[Prefix], snapshot: Snapshot
) -> dict[int, dict[Family, tuple[Route, ...]]]:
    """The routes that match one of some addresses, in main and each table that a rule looks up; and all of local.

    All addresses are of the same family. The result is by table and family.
    """
    family = hosts[0].family
    questions = {
        table: [f"{of_table(table)} match {host}" for host in hosts] for table in _looked_up(snapshot.rules, family)
    }
    questions[LOCAL] = [of_table(LOCAL)]  # it also tells which networks this machine belongs to
    routes = _routes(source, {family: [*chain.from_iterable(questions.values())]}, snapshot.links)
    return {
        table: {family: tuple(dict.fromkeys(chain.from_iterable(routes[family, question] for question in part)))}
        for table, part in questions.items()
    }


def _routes(
    source: Source, questions: Mapping[Family, Sequence[str]], links: Mapping[str, Link]
) -> dict[tuple[Family, str], tuple[Route, ...]]:
    """The routes that answer these questions, by family and question."""
    try:
        asked = [source.ask(family, question) for family, part in questions.items() for question in part]
        listings = {key: parsed(*key, text) for key, text in answers_of(source, asked).items()}
        with shape_is_known():
            nexthops = nexthops_of(source, listings.values())
            return {key: parse.routes(listing, key[0], links, nexthops) for key, listing in listings.items()}
    finally:
        source.abandon()


def _decisive(snapshot: Snapshot) -> Iterable[Route]:
    """The routes of IPv6 main that decide where packets to the internet and to LANs go."""
    main = snapshot.main["inet6"]
    prefixes = {route: Prefix.of_route(route.dst, "inet6") for route in main}
    samples = [host for host in SAMPLES if host.family == "inet6"]
    around = [[route for route in main if prefixes[route].covers(host)] for host in samples]
    if _needs_all_of_main(around, "inet6", snapshot):
        return main
    return [
        route
        for route, prefix in prefixes.items()
        if route.attributes.on_link or PRIVATE.covers(prefix) or any(prefix.covers(host) for host in samples)
    ]


def _needs_all_of_main(around: Sequence[Iterable[Route]], family: Family, snapshot: Snapshot) -> bool:
    """True if the routes to the samples (`around`) do not tell where main sends most of the internet."""
    if any(_is_into_tunnel(routes, snapshot.links) for routes in around):
        return True
    if not any(route.dst == "default" for routes in around for route in routes):
        return True
    rules = (rule for rule in snapshot.rules if (rule.family, rule.table) == (family, MAIN))
    return any(name.startswith("suppress") for rule in rules for name, _ in rule.options)


def _is_into_tunnel(routes: Iterable[Route], links: Mapping[str, Link]) -> bool:
    """True if the narrowest of these routes to a host leads into a tunnel, and may be part of a split default route."""

    def length(route: Route) -> int:
        return Prefix.of_route(route.dst, route.attributes.family).length

    route = max(routes, key=length, default=None)
    return (
        route is not None
        and length(route) <= _WIDE
        and any(device in links and links[device].may_be_tunnel for device in route.attributes.devices)
    )


# The greatest prefix length of the parts of a split default route.
_WIDE = 16


def _looked_up(rules: Iterable[Rule], family: Family) -> list[int]:
    """The tables that decide the route of a packet. `local` also tells which source addresses are possible."""
    return sorted({MAIN, LOCAL, *(rule.table for rule in rules if rule.family == family and rule.table)})
