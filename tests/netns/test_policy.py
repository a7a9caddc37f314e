"""The [lan] section on a real kernel: what is copied, what is not, and what goes when the policy changes."""

import json
from collections.abc import Callable

import pytest

from tests.netns.namespace import LAN, MIRROR, TUNNEL, Machine, Namespace, wait_until


def verdict(namespace: Namespace, dst: str, config: str = "") -> str:
    """What `status` says of a LAN route."""
    (line,) = (line for line in namespace.status(config)["lan"] if line["dst"] == dst)
    return f"{line['verdict']} {line['route']}  # {line['reason']}"


def mirrored(namespace: Namespace) -> list[str]:
    """The destinations in the mirror table that are not the tunnel's."""
    lines = namespace.routes("inet") + namespace.routes("inet6")
    return sorted(line.split()[0] for line in lines if TUNNEL not in line)


def lan(namespace: Namespace, *prefixes: str, device: str = "lan0", words: str = "") -> None:
    namespace.batch(
        f"-6 route add {prefix} dev {device} {words}"
        if ":" in prefix
        else f"route add {prefix} dev {device} scope link {words}"
        for prefix in prefixes
    )


ROUTER = '[lan]\nallow = ["10.200.0.0/16", "fd00:200::/32"]\n'


def test_allow_also_copies_what_main_reaches_through_a_router_of_the_lan(machine: Machine) -> None:
    machine.batch(
        [
            "route add 10.200.1.0/24 via 192.168.188.1 metric 50",
            "route add 10.201.1.0/24 via 192.168.188.1",
            "-6 route add fd00:200:1::/48 via fd00:188::1",
            "-6 route add fd00:201:1::/48 via fd00:188::1",
        ]
    )
    machine.neighbour.address("lo", "10.200.1.1/32")
    machine.neighbour.address("lo", "fd00:200:1::1/128")
    machine.fz("sync")
    hosts = ("10.200.1.1", "fd00:200:1::1")
    assert [TUNNEL, TUNNEL] == [machine.way(host) for host in hosts]
    machine.fz("sync", config=ROUTER)
    assert [f"10.200.1.0/24 via 192.168.188.1 dev {LAN} metric 50"] == machine.route("10.200.1.0/24")
    assert [[], []] == [machine.route("10.201.1.0/24"), machine.route("fd00:201:1::/48")]
    for host in hosts:
        wait_until(lambda host=host: machine.reaches(host), "the host behind the router answers")
    machine.fz("sync")
    assert 1 == len(machine.route("10.200.1.0/24")), "without lan.allow, the copy looks like a route of the VPN"
    machine.batch(["route del 10.200.1.0/24", "-6 route del fd00:200:1::/48"])
    machine.fz("sync", config=ROUTER)
    assert [TUNNEL, TUNNEL] == [machine.way(host) for host in hosts]


# What is a LAN, and what is not


def test_the_tunnels_own_connected_routes_are_not_copied(machine: Machine) -> None:
    machine.address(TUNNEL, "100.70.0.1/16")
    machine.fz("sync")
    before = ["100.100.111.0/24", "100.64.0.0/11", "100.96.0.0/11", "default"]
    assert before == sorted(line.split()[0] for line in machine.routes("inet") if TUNNEL in line)
    assert "is the tunnel" in verdict(machine, "100.70.0.0/16")


def lose_the_carrier(quiet: Namespace) -> None:
    quiet.veth("lan1", "10.1.0.1/24", peer="far1")
    quiet.ip("link", "set", "far1", "down")
    wait_until(lambda: "linkdown" in quiet.route("10.1.0.0/24", "main")[0], "the kernel noticed")


@pytest.mark.parametrize(
    ("furnish", "copied"),
    [
        (lambda quiet: quiet.tunnel("tap-lab", "10.1.0.1/24"), "10.1.0.0/24"),  # its operstate is UNKNOWN
        (lambda quiet: quiet.bridge("br0", "10.1.0.1/24"), "10.1.0.0/24"),
        (lambda quiet: quiet.address("lan0", "10.1.0.1", "peer", "10.1.0.2/32"), "10.1.0.2"),
        (lose_the_carrier, "10.1.0.0/24"),
    ],
    ids=["another TUN device", "a bridge without ports", "a point-to-point address", "a device without carrier"],
)
def test_this_is_a_lan_too(furnish: Callable[[Namespace], object], copied: str, quiet: Namespace) -> None:
    furnish(quiet)
    quiet.fz("sync")
    assert [copied] == mirrored(quiet)
    assert "" == quiet.fz("plan")


# What no `ip` command can recreate

INEXACT = {
    "seg6 in IPv4": "route add 10.7.0.0/24 encap seg6 mode encap segs fd00::1 dev lan0 scope link",
    "seg6 in IPv6": "-6 route add fd00:7::/64 encap seg6 mode encap segs fd00::1 dev lan0",
    "ip in IPv4": "route add 10.7.0.0/24 encap ip id 5 dst 10.9.9.9 dev lan0 scope link",
    "ip6 in IPv6": "-6 route add fd00:7::/64 encap ip6 id 5 dst fd00:9::9 dev lan0",
    "locked mtu": "route add 10.7.0.0/24 dev lan0 scope link mtu lock 1400",
    "locked mtu in IPv6": "-6 route add fd00:7::/64 dev lan0 mtu lock 1400",
    "one lock of two": "route add 10.7.0.0/24 dev lan0 scope link mtu 1400 advmss lock 1000",
    "an rtt below 1 ms": "route add 10.7.0.0/24 dev lan0 scope link rtt 1",
    "too many nexthops": "route add 10.7.0.0/24 scope link" + " nexthop dev lan0" * 160,
}


@pytest.mark.parametrize("line", INEXACT.values(), ids=list(INEXACT))
def test_what_no_command_can_recreate_is_skipped_and_reported_and_its_former_copy_goes(
    line: str, quiet: Namespace
) -> None:
    family = ["-6"] if line.startswith("-6 ") else []
    dst = "fd00:7::/64" if family else "10.7.0.0/24"
    lan(quiet, dst, "10.8.0.0/24", "fd00:8::/64")
    quiet.fz("sync")
    assert 1 == len(quiet.route(dst))
    quiet.ip(*family, "route", "del", dst)
    quiet.ip(*line.split())
    done = quiet.fz_done("sync")
    assert 0 == done.returncode
    assert ["10.8.0.0/24", "fd00:8::/64"] == mirrored(quiet)
    assert f"# {dst} " in done.stderr
    assert verdict(quiet, dst).startswith("skipped ")


def test_a_twin_without_a_lock_is_copied_next_to_one_with_a_lock(quiet: Namespace) -> None:
    quiet.batch(["route add 10.7.0.0/24 dev lan0 scope link mtu lock 1400 metric 10"])
    quiet.batch(["route add 10.7.0.0/24 dev lan0 scope link metric 20"])
    quiet.fz("sync")
    assert ["10.7.0.0/24 dev lan0 scope link metric 20"] == quiet.route("10.7.0.0/24")


@pytest.mark.parametrize("mode", [0, 1])
def test_nexthop_objects_are_understood_in_both_modes_of_the_kernel(mode: int, quiet: Namespace) -> None:
    """With net.ipv4.nexthop_compat_mode = 0, `ip` prints only the object of a route."""
    quiet.sysctl("net.ipv4.nexthop_compat_mode", mode)
    quiet.veth("lan1")
    quiet.veth(TUNNEL)
    quiet.batch(f"nexthop add id {number} dev {dev}" for number, dev in enumerate(("lan0", "lan1", TUNNEL), start=1))
    quiet.batch(["-6 nexthop add id 4 dev lan0"])
    quiet.ip("nexthop", "add", "id", "9", "group", "1/2")
    quiet.batch(f"route add 10.{number}.0.0/16 nhid {number} scope link" for number in (1, 3, 9))
    quiet.batch(["-6 route add fd00:4::/64 nhid 4"])
    quiet.fz("sync")
    assert ["10.1.0.0/16", "10.9.0.0/16", "fd00:4::/64"] == mirrored(quiet)
    assert "" == quiet.fz("plan")


def test_an_expired_ipv6_route_is_not_copied_and_its_copy_goes(quiet: Namespace) -> None:
    quiet.batch(["-6 route add fd00:1::/64 dev lan0 expires 1", "-6 route add fd00:2::/64 dev lan0 expires 600"])
    quiet.fz("sync")

    def unexpired() -> list[str]:
        routes = quiet.ip_json("-6", "route", "show", "table", "main")
        return [route["dst"] for route in routes if route.get("expires", 0) >= 0]

    wait_until(lambda: "fd00:1::/64" not in unexpired(), "the route expired")
    quiet.fz("sync")
    assert ["fd00:2::/64"] == mirrored(quiet)


def test_routes_of_other_types_are_not_copied(quiet: Namespace) -> None:
    quiet.batch(["route add unreachable 10.1.0.0/16", "route add blackhole 10.2.0.0/16", "route add throw 10.3.0.0/16"])
    quiet.batch(["-6 route add unreachable fd00:1::/64", "-6 route add blackhole fd00:2::/64"])
    quiet.batch(["route add broadcast 10.4.0.255 dev lan0 scope link", "route add multicast 224.1.0.0/16 dev lan0"])
    quiet.fz("sync")
    assert [] == mirrored(quiet)
    assert [] == quiet.routes("inet", MIRROR)


@pytest.mark.parametrize(("count", "is_mirrored"), [(2, True), (8, False)])
def test_public_on_link_routes_that_cover_much_of_the_internet_stay_in_the_tunnel(
    count: int, is_mirrored: bool, machine: Machine
) -> None:
    """DHCP option 121 can push one /8 after the other."""
    pushed = [f"{first}.0.0.0/8" for first in (8, 9, *range(20, 98 + 20)) if first != 100][:count]
    machine.batch(f"route add {prefix} dev {LAN} scope link proto dhcp" for prefix in pushed)
    machine.fz("sync")
    ways = {machine.way(f"{prefix.split('.')[0]}.1.2.3") for prefix in pushed}
    assert {LAN if is_mirrored else TUNNEL} == ways
    assert LAN == machine.way("192.168.188.1")
    reasons = {each["reason"] for each in machine.status()["lan"] if each["dst"] in pushed}
    assert is_mirrored is not any("covers much of the internet" in reason for reason in reasons)
    found = [each for each in json.loads(machine.fz("doctor", "--json"))["checks"] if each["name"] == "prefixes"]
    assert {"warning"} == {each["level"] for each in found}
    allowed = ", ".join(f'"{prefix}"' for prefix in pushed)
    machine.fz("sync", config=f"[lan]\nallow = [{allowed}]\n")
    assert {LAN} == {machine.way(f"{prefix.split('.')[0]}.1.2.3") for prefix in pushed}
