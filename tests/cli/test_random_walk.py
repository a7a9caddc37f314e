"""Random machines: whatever main and the mirror table hold, an oracle agrees with the result of a sync.

The oracle imports nothing of the program. The program is forked instead of started, which is faster.
"""

import json
from fnmatch import fnmatchcase
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.cli.world import DEADLINE, INTERNET_TABLE, LAN_TABLE, MAIN, TABLE, Document, World, link, rules, tunnel
from tests.starter import starter

FAMILIES = ("inet", "inet6")
NETWORKS = {
    "inet": [
        "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3", "192.168.5.0/24", "203.0.113.0/24", "198.51.100.7", "100.64.1.0/24",
        "8.0.0.0/6", "10.0.0.0/8", "169.254.0.0/16", "default",
    ],
    "inet6": ["fe80::/64", "fd00:1::/64", "fd00:1::5", "2001:db8:1::/64", "2001:db8::/32", "fd00::/48", "default"],
}  # fmt: skip
SOURCES = {"inet": ["10.1.2.9", "192.168.5.9"], "inet6": ["fd00:1::9"]}
GATEWAYS = {"inet": ["10.1.2.1", "192.168.5.1"], "inet6": ["fe80::1"]}
DEVICES = ["eth0", "eth1", "wlan0", "lo", "tun-firezone", "it's"]
PRIVATE = [
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10",
]  # fmt: skip


# Machines


@st.composite
def a_route(draw: st.DrawFn, family: str) -> Document:
    """A route as `ip -json` prints it; most are on-link and can be copied."""
    odd = st.integers(0, 9).map(lambda number: number == 0)
    route: Document = {"dst": draw(st.sampled_from(NETWORKS[family])), "dev": draw(st.sampled_from(DEVICES))}
    if draw(st.booleans()):
        route["protocol"] = draw(st.sampled_from(["kernel", "static", "dhcp", "ra", "77"]))
    if gatewayed := draw(st.integers(0, 3)) == 0:
        route["gateway"] = draw(st.sampled_from(GATEWAYS[family]))
    if family == "inet" and not gatewayed and not draw(odd):
        route["scope"] = "link"
    if draw(st.booleans()):
        route["prefsrc"] = draw(st.sampled_from(SOURCES[family]))
    metric = draw(st.sampled_from([0, 100, 600] if family == "inet" else [256, 1024]))
    if metric:
        route["metric"] = metric
    if family == "inet" and draw(odd):
        route["tos"] = "0x10"
    if draw(odd):
        route["metrics"] = [
            draw(st.sampled_from([{"mtu": 1400}, {"mtu": 1300, "advmss": 1200}, {"rtt": 20}, {"ecn": None}]))
        ]
        if "mtu" in route["metrics"][0] and draw(st.booleans()):
            route["_lock"] = ["mtu"]
    route["flags"] = draw(st.sampled_from([[], [], [], ["linkdown"]] + ([["onlink"]] if gatewayed else [])))
    if family == "inet6":
        route["pref"] = draw(st.sampled_from(["medium", "medium", "low"]))
        if draw(odd):
            route["expires"] = draw(st.sampled_from([-3, 1800]))
    if draw(odd):
        route["encap"] = "mpls"
    return route


def settled(family: str, routes: list[Document]) -> list[Document]:
    """The routes that a kernel can hold at the same time, in the order of its dump."""
    kept: dict[tuple[object, ...], Document] = {}
    for route in routes:
        place = (route["dst"], route.get("tos", ""), route.get("metric", 0))
        if family == "inet6":
            # One route a path; and several through gateways would become a single multipath route.
            place += ("gatewayed",) if "gateway" in route else (route["dev"],)
        else:
            place += (meaning(family, route),)
        kept.setdefault(place, route)

    def place_in_dump(route: Document) -> tuple[object, ...]:
        # Gatewayed ones last: test_writes.py has a test of mixed twins.
        return route["dst"], route.get("tos", ""), route.get("metric", 0), "gateway" in route

    return sorted(kept.values(), key=place_in_dump)


PLACEHOLDER = "245"


def place(route: Document) -> tuple[object, ...]:
    """IPv4 adds no second route here if it is to be a new one."""
    return route["dst"], route.get("tos", ""), route.get("metric", 0)


def path(route: Document) -> tuple[object, ...]:
    return route["dst"], route.get("tos", ""), route["dev"], route.get("gateway", "")


def some(*texts: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(texts), max_size=2, unique=True)


@st.composite
def machines(draw: st.DrawFn) -> dict[str, Any]:
    up = {name: name in ("lo", "tun-firezone") or draw(st.integers(0, 4)) > 0 for name in DEVICES}
    tiered = draw(st.booleans())
    machine: dict[str, Any] = {
        "links": [
            link(index, name, *(["LOOPBACK"] if name == "lo" else []), *(["UP"] if up[name] else []))
            for index, name in enumerate(DEVICES, start=1)
        ],
        "rules": {family: rules() for family in FAMILIES},
        "routes": {},
        "tiered": tiered,
        "lan": {
            "trust": draw(st.sampled_from(["any", "private"])),
            "allow": draw(some("10.1.0.0/16", "203.0.113.0/24", "2001:db8::/32")),
            "deny": draw(some("10.1.2.3/32", "192.168.0.0/16", "fd00:1::/64")),
            "interfaces": draw(st.sampled_from([["*"], ["*"], ["eth*", "it*"]])),
            "exclude_interfaces": draw(st.sampled_from([[], [], ["eth1"]])),
            "prune": draw(st.integers(0, 4)) > 0,
        },
    }  # fmt: skip
    if tiered:
        machine["rules"]["inet"] = rules({"priority": 200, "src": "all", "table": str(LAN_TABLE)})
    for family in FAMILIES:
        # A device that is down has no routes.
        main = [route for route in draw(st.lists(a_route(family), max_size=7)) if up[route["dev"]]]
        main = settled(family, main)
        changed = [
            {**route, **draw(st.sampled_from([{}, {"protocol": "bird"}, {"prefsrc": SOURCES[family][0]}]))}
            for route in main
        ]
        copies = [route for route in changed if route["dst"] != "default" and draw(st.booleans())]
        others = [route for route in draw(st.lists(a_route(family), max_size=3)) if up[route["dev"]]]
        copies = [
            {key: value for key, value in route.items() if key not in ("_lock", "expires")} for route in copies + others
        ]
        vpn = [tunnel("default")]
        vpn += draw(
            st.lists(st.sampled_from([tunnel(dst) for dst in NETWORKS[family] if dst != "default"]), max_size=2)
        )
        # A deletion cannot tell an encapsulated twin from its own: such copies are left alone.
        paths = {path(route) for route in (*main, *copies) if "encap" not in route}
        copies = [route for route in copies if "encap" not in route or path(route) not in paths]
        mirror = copies if tiered else vpn + copies
        machine["routes"][family] = {str(MAIN): main, str(LAN_TABLE if tiered else TABLE): settled(family, mirror)}
        if tiered:
            machine["routes"][family][str(INTERNET_TABLE)] = vpn[:1]
    return machine


# The oracle


def network(dst: str, family: str) -> Any:
    return ip_network({"inet": "0.0.0.0/0", "inet6": "::/0"}[family] if dst == "default" else dst)


def within(inner: Any, outer: str) -> bool:
    other = ip_network(outer)
    return inner.version == other.version and inner.subnet_of(other)


def meaning(family: str, route: Document) -> str:
    """The route without its state, as text."""
    said = {"protocol": "boot", "metric": 0, **({"scope": "global"} if family == "inet" else {}), **route}
    said["flags"] = [flag for flag in route.get("flags", []) if flag == "onlink"]
    return json.dumps({key: value for key, value in said.items() if key not in ("expires", "_lock")}, sort_keys=True)


class Oracle:
    """What the mirror table must hold after a sync."""

    def __init__(self, machine: dict[str, Any], family: str) -> None:
        self.family = family
        self.lan = machine["lan"]
        self.tiered = machine["tiered"]
        self.links = {each["ifname"]: each["flags"] for each in machine["links"]}
        tables = machine["routes"]
        number = str(LAN_TABLE if self.tiered else TABLE)
        self.tunnels = {"tun-firezone"} | {
            route["dev"]
            for each in FAMILIES
            for route in tables[each].get(str(INTERNET_TABLE) if self.tiered else number, [])
            if route["dst"] == "default"
            # Somebody's copy of main's default route is no way into the tunnel.
            and meaning(each, route) not in [meaning(each, other) for other in tables[each][str(MAIN)]]
        }
        self.before = tables[family][number]
        self.foreign = [route for route in self.before if not self._ours(route)]
        self.stale = [route for route in self.before if self._ours(route)]
        self.claims = [] if self.tiered else [network(r["dst"], family) for r in self.foreign if r["dst"] != "default"]
        self.main = tables[family][str(MAIN)]
        self.wanted = [route for route in self.main if self._wanted(route)]
        # Nobody knows whether a copy has the lock, so it stays if somebody has made one.
        locked = [meaning(family, route) for route in self.main if "_lock" in route and self._allowed(route)]
        self.wanted += [route for route in self.stale if meaning(family, route) in locked]

    def _about_the_lan(self, route: Document) -> bool:
        on_link = "gateway" not in route and (self.family == "inet6" or route.get("scope") == "link")
        target = network(route["dst"], self.family)
        return route["dst"] != "default" and (on_link or any(within(target, allowed) for allowed in self.lan["allow"]))

    def _ours(self, route: Document) -> bool:
        carried = route["dev"] in self.tunnels or "LOOPBACK" in self.links[route["dev"]]
        return self._about_the_lan(route) and not carried and "encap" not in route

    def _wanted(self, route: Document) -> bool:
        target = network(route["dst"], self.family)
        is_claimed = any(target.subnet_of(claim) for claim in self.claims)
        return self._allowed(route) and "_lock" not in route and not is_claimed

    def _allowed(self, route: Document) -> bool:
        target = network(route["dst"], self.family)
        flags = self.links[route["dev"]]
        allowed = any(within(target, each) for each in self.lan["allow"])
        device = route["dev"]
        return (
            self._about_the_lan(route)
            and route.get("expires", 0) >= 0
            and "encap" not in route
            and device not in self.tunnels
            and "UP" in flags
            and "LOOPBACK" not in flags
            and any(fnmatchcase(device, glob) for glob in self.lan["interfaces"])
            and not any(fnmatchcase(device, glob) for glob in self.lan["exclude_interfaces"])
            and not any(
                within(target, each) or target.overlaps(ip_network(each))
                for each in self.lan["deny"]
                if ip_network(each).version == target.version
            )
            and target.prefixlen >= {"inet": 8, "inet6": 48}[self.family]
            and (self.lan["trust"] == "any" or allowed or any(within(target, each) for each in PRIVATE))
        )

    def judge(self, after: list[Document]) -> None:
        """Compare with what the table holds."""
        held = {place(route): route for route in after if route.get("protocol") == PLACEHOLDER}
        assert self._held() == {key: route.get("type", route.get("dev")) for key, route in held.items()}
        after = [route for route in after if route not in held.values()]
        foreign = [route for route in after if not self._ours(route)]
        copies = [route for route in after if self._ours(route)]
        assert self.said(self.foreign) == self.said(foreign)
        wanted = list(self.wanted)
        if not self.lan["prune"]:
            reached = {route["dst"] for route in wanted}
            wanted += [route for route in self.stale if route["dst"] not in reached]
        assert self.said(wanted) == self.said(copies)

    def _held(self) -> dict[object, str]:
        """Which refused copies have placeholders, and where those lead."""
        if self.family == "inet6" or not self.lan["prune"]:
            return {}
        said = {meaning(self.family, route) for route in self.stale}
        taken = {place(route) for route in (*self.foreign, *self.wanted)}
        hidden = {(route["dst"], route.get("metric", 0)) for route in self.wanted}
        found = {}
        for route in self.main:
            metric = route.get("metric", 0)
            on_link = "gateway" not in route and route.get("scope") == "link"
            is_whole = "encap" not in route  # a copy without it is no copy of this route
            is_refused = on_link and is_whole and meaning(self.family, route) in said and not self._allowed(route)
            is_free = place(route) not in taken and not any(
                dst == route["dst"] and other >= metric for dst, other in hidden
            )
            if is_refused and is_free:
                found[place(route)] = "throw" if self.tiered else self._leads(network(route["dst"], self.family))
        return {key: way for key, way in found.items() if way}

    def _leads(self, target: Any) -> str:
        """The tunnel if it takes packets to the prefix now, else nothing."""
        around = [route for route in self.foreign if target.subnet_of(network(route["dst"], self.family))]
        best = min(around, key=lambda route: (-network(route["dst"], self.family).prefixlen, route.get("metric", 0)))
        return "" if "gateway" in best or best["dev"] not in self.tunnels else str(best["dev"])

    def said(self, routes: list[Document]) -> list[str]:
        """The routes as text, in an order that can be compared. Among IPv4 twins, the first one carries the traffic."""
        if self.family == "inet6":
            return sorted(meaning(self.family, route) for route in routes)
        routes = sorted(routes, key=lambda route: (route["dst"], route.get("tos", ""), route.get("metric", 0)))
        return [meaning(self.family, route) for route in routes]


# The walk


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("walk"))


def run(world: World, *argv: str) -> tuple[int, str, str]:
    """Run the program on this machine."""
    done = starter().run(argv, world.environment, DEADLINE)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.long
@settings(max_examples=40, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
@given(machine=machines())
def test_after_a_sync_the_oracle_agrees_and_nothing_is_left_to_do(world: World, machine: dict[str, Any]) -> None:
    world.load()
    world.state |= {key: machine[key] for key in ("links", "rules", "routes")}
    world.save()
    oracles = {family: Oracle(machine, family) for family in FAMILIES}
    lan = "".join(f"{key} = {json.dumps(value)}\n" for key, value in machine["lan"].items())
    options = ("-c", world.config(f"[lan]\n{lan}"))
    table = LAN_TABLE if machine["tiered"] else TABLE

    code, out, err = run(world, "sync", *options)
    note(err)
    assert (0, "") == (code, out), err
    for family in FAMILIES:
        oracles[family].judge(world.table(family, table))
        assert machine["routes"][family][str(MAIN)] == world.table(family, MAIN)

    assert (0, "") == run(world, "plan", "--exit-code", *options)[:2]

    code, _, err = run(world, "down", *options)
    assert 0 == code, err
    for family, oracle in oracles.items():
        assert oracle.said(oracle.foreign) == oracle.said(world.table(family, table))
