"""The [lan] section on a real kernel: what is copied, what is not, and what goes when the policy changes."""

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


PRIVATE = ["10.1.0.0/16", "169.254.0.0/16", "172.16.5.0/24", "192.168.0.0/24", "fd00:1::/64", "fe80::/64"]
PUBLIC = ["198.51.100.0/24", "2001:db8:1::/64"]


def test_a_public_prefix_is_copied_by_default_with_a_warning(quiet: Namespace) -> None:
    lan(quiet, *PUBLIC)
    done = quiet.fz_done("sync")
    assert PUBLIC == mirrored(quiet)
    assert all(f"warning: {prefix} " in done.stderr for prefix in PUBLIC)


def test_trust_private_copies_private_prefixes_and_what_allow_has(quiet: Namespace) -> None:
    lan(quiet, *PRIVATE, *PUBLIC)
    config = '[lan]\ntrust = "private"\n'
    quiet.fz("sync", config=config)
    assert PRIVATE == mirrored(quiet)
    line = verdict(quiet, PUBLIC[0], config)
    assert line.startswith("skipped ") and "lan.trust" in line
    quiet.fz("sync", config=f'{config}allow = ["{PUBLIC[0]}", "2001:db8::/32"]\n')
    assert sorted([*PRIVATE, *PUBLIC]) == mirrored(quiet)


ROUTER = '[lan]\nallow = ["10.200.0.0/16", "fd00:200::/32"]\n'


def behind_a_router(machine: Machine) -> None:
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


def test_allow_also_copies_what_main_reaches_through_a_router_of_the_lan(machine: Machine) -> None:
    behind_a_router(machine)
    machine.fz("sync")
    hosts = ("10.200.1.1", "fd00:200:1::1")
    assert [TUNNEL, TUNNEL] == [machine.way(host) for host in hosts]
    machine.fz("sync", config=ROUTER)
    assert [f"10.200.1.0/24 via 192.168.188.1 dev {LAN} metric 50"] == machine.route("10.200.1.0/24")
    assert [[], []] == [machine.route("10.201.1.0/24"), machine.route("fd00:201:1::/48")]
    for host in hosts:
        wait_until(lambda host=host: machine.reaches(host), "the host behind the router answers")
    machine.batch(["route del 10.200.1.0/24", "-6 route del fd00:200:1::/48"])
    machine.fz("sync", config=ROUTER)
    assert [TUNNEL, TUNNEL] == [machine.way(host) for host in hosts]


def test_a_lan_that_is_too_wide_is_refused(quiet: Namespace) -> None:
    lan(quiet, "0.0.0.0/1", "128.0.0.0/1", "2000::/3", "10.0.0.0/8", "10.1.0.0/16", "fd00::/48", "fd00:1::/64")
    quiet.fz("sync")
    assert ["10.0.0.0/8", "10.1.0.0/16", "fd00:1::/64", "fd00::/48"] == mirrored(quiet)
    assert "lan.min_prefixlen" in verdict(quiet, "128.0.0.0/1")
    quiet.fz("sync", config="[lan]\nmin_prefixlen = { inet = 16, inet6 = 64 }\n")
    assert ["10.1.0.0/16", "fd00:1::/64"] == mirrored(quiet)


def test_without_pruning_stale_copies_stay_and_changed_ones_follow(quiet: Namespace) -> None:
    lan(quiet, "10.1.0.0/16", "10.2.0.0/16", "fd00:1::/64", "fd00:2::/64")
    quiet.fz("sync")
    quiet.batch(["route del 10.1.0.0/16", "route change 10.2.0.0/16 dev lan0 scope link mtu 1400"])
    quiet.batch(["-6 route del fd00:1::/64", "-6 route change fd00:2::/64 dev lan0 mtu 1400"])
    quiet.fz("sync", config="[lan]\nprune = false\n")
    assert ["10.1.0.0/16", "10.2.0.0/16", "fd00:1::/64", "fd00:2::/64"] == mirrored(quiet)
    assert "mtu 1400" in quiet.route("10.2.0.0/16")[0] and "mtu 1400" in quiet.route("fd00:2::/64")[0]
    assert "" == quiet.fz("plan", config="[lan]\nprune = false\n")


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ('deny = ["198.51.100.0/24", "2001:db8::/32"]', []),
        ('deny = ["0.0.0.0/0", "2001:db8:1::9/128"]', []),
        ('deny = ["198.51.100.0/24"]', PUBLIC[1:]),
        ('exclude_interfaces = ["lan*"]', []),
        ('interfaces = ["eth*"]', []),
        ('interfaces = ["eth*", "lan?"]', PUBLIC),
        ("min_prefixlen = { inet = 25, inet6 = 65 }", []),
    ],
)
def test_a_policy_that_no_longer_wants_a_copy_removes_it(policy: str, kept: list[str], quiet: Namespace) -> None:
    lan(quiet, *PUBLIC)
    quiet.fz("sync")
    assert PUBLIC == mirrored(quiet)
    quiet.fz("sync", config=f"[lan]\n{policy}\n")
    assert kept == mirrored(quiet)


def test_a_copy_through_a_router_stays_when_allow_no_longer_has_it(machine: Machine) -> None:
    """Without lan.allow, a copy through a router looks like a route of the VPN."""
    behind_a_router(machine)
    machine.fz("sync", config=ROUTER)
    machine.fz("sync")
    assert 1 == len(machine.route("10.200.1.0/24"))


# What is a LAN, and what is not


def test_the_tunnels_own_connected_routes_are_not_copied(machine: Machine) -> None:
    machine.address(TUNNEL, "100.70.0.1/16")
    machine.fz("sync")
    before = ["100.100.111.0/24", "100.64.0.0/11", "100.96.0.0/11", "default"]
    assert before == sorted(line.split()[0] for line in machine.routes("inet") if TUNNEL in line)
    assert "is the tunnel" in verdict(machine, "100.70.0.0/16")


def test_another_tun_device_is_a_lan_though_its_state_is_unknown(quiet: Namespace) -> None:
    quiet.tunnel("tap-lab", "10.1.0.1/24")
    (link,) = quiet.ip_json("link", "show", "tap-lab")
    assert "UNKNOWN" == link["operstate"]
    quiet.fz("sync")
    assert ["10.1.0.0/24"] == mirrored(quiet)


def test_a_bridge_is_a_lan_with_and_without_ports(quiet: Namespace) -> None:
    quiet.bridge("br0", "10.1.0.1/24")
    quiet.fz("sync")
    assert ["10.1.0.0/24"] == mirrored(quiet)
    quiet.ip("link", "set", "lan0", "master", "br0")
    wait_until(lambda: "LOWER_UP" in quiet.ip("link", "show", "br0"), "the bridge has a carrier")
    assert "" == quiet.fz("plan")


def test_a_route_whose_carrier_is_lost_is_copied_and_comes_back_with_it(quiet: Namespace) -> None:
    quiet.veth("lan1", "10.1.0.1/24", peer="far1")
    quiet.ip("link", "set", "far1", "down")
    wait_until(lambda: "linkdown" in quiet.route("10.1.0.0/24", "main")[0], "the kernel noticed")
    quiet.fz("sync")
    assert "linkdown" in quiet.route("10.1.0.0/24")[0]
    quiet.ip("link", "set", "far1", "up")
    wait_until(lambda: "linkdown" not in quiet.route("10.1.0.0/24")[0], "the carrier is back")
    assert "" == quiet.fz("plan")


def test_a_point_to_point_address_is_a_lan_of_one(quiet: Namespace) -> None:
    quiet.ip("addr", "add", "10.1.0.1", "peer", "10.1.0.2/32", "dev", "lan0")
    quiet.fz("sync")
    assert ["10.1.0.2"] == mirrored(quiet)


# What no `ip` command can recreate

INEXACT = {
    "seg6 in IPv4": ("10.7.0.0/24", "route add 10.7.0.0/24 encap seg6 mode encap segs fd00::1 dev lan0 scope link"),
    "seg6 in IPv6": ("fd00:7::/64", "-6 route add fd00:7::/64 encap seg6 mode encap segs fd00::1 dev lan0"),
    "ip in IPv4": ("10.7.0.0/24", "route add 10.7.0.0/24 encap ip id 5 dst 10.9.9.9 dev lan0 scope link"),
    "ip6 in IPv6": ("fd00:7::/64", "-6 route add fd00:7::/64 encap ip6 id 5 dst fd00:9::9 dev lan0"),
    "locked mtu": ("10.7.0.0/24", "route add 10.7.0.0/24 dev lan0 scope link mtu lock 1400"),
    "locked mtu in IPv6": ("fd00:7::/64", "-6 route add fd00:7::/64 dev lan0 mtu lock 1400"),
    "one lock of two": ("10.7.0.0/24", "route add 10.7.0.0/24 dev lan0 scope link mtu 1400 advmss lock 1000"),
    "an rtt below 1 ms": ("10.7.0.0/24", "route add 10.7.0.0/24 dev lan0 scope link rtt 1"),
    "too many nexthops": (
        "10.7.0.0/24",
        "route add 10.7.0.0/24 scope link" + " nexthop dev lan0" * 160,
    ),
}


@pytest.mark.parametrize("kind", INEXACT)
def test_what_no_command_can_recreate_is_skipped_and_reported_by_name(kind: str, quiet: Namespace) -> None:
    dst, line = INEXACT[kind]
    option = ["-6"] if line.startswith("-6 ") else []
    quiet.ip(*option, *line.removeprefix("-6 ").split())
    lan(quiet, "10.8.0.0/24", "fd00:8::/64")
    done = quiet.fz_done("sync")
    assert 0 == done.returncode
    assert ["10.8.0.0/24", "fd00:8::/64"] == mirrored(quiet)
    assert f"warning: {dst} " in done.stderr
    assert verdict(quiet, dst).startswith("skipped ")


def test_a_copy_goes_when_no_command_can_recreate_its_original_any_more(quiet: Namespace) -> None:
    lan(quiet, "10.7.0.0/24")
    quiet.fz("sync")
    quiet.batch(["route change 10.7.0.0/24 dev lan0 scope link mtu lock 1400"])
    quiet.fz("sync")
    assert [] == mirrored(quiet)


def test_a_twin_without_a_lock_is_copied_next_to_one_with_a_lock(quiet: Namespace) -> None:
    quiet.batch(["route add 10.7.0.0/24 dev lan0 scope link mtu lock 1400 metric 10"])
    quiet.batch(["route add 10.7.0.0/24 dev lan0 scope link metric 20"])
    quiet.fz("sync")
    assert ["10.7.0.0/24 dev lan0 scope link metric 20"] == quiet.route("10.7.0.0/24")


@pytest.mark.parametrize("mode", [0, 1])
def test_nexthop_objects_are_understood_in_both_modes_of_the_kernel(mode: int, quiet: Namespace) -> None:
    """With net.ipv4.nexthop_compat_mode = 0, `ip` prints only the object of a route."""
    quiet.sysctl("net.ipv4.nexthop_compat_mode", mode)
    quiet.veth("tun-firezone")
    quiet.batch(["nexthop add id 1 dev lan0", "nexthop add id 3 dev tun-firezone"])
    quiet.batch(["route add 10.1.0.0/16 nhid 1 scope link", "route add 10.3.0.0/16 nhid 3 scope link"])
    quiet.fz("sync")
    assert ["10.1.0.0/16"] == mirrored(quiet)
    assert "" == quiet.fz("plan")


def test_an_expired_ipv6_route_is_not_copied_and_its_copy_goes(quiet: Namespace) -> None:
    quiet.batch(["-6 route add fd00:1::/64 dev lan0 expires 1", "-6 route add fd00:2::/64 dev lan0 expires 600"])
    quiet.fz("sync")

    def expired() -> bool:
        routes = quiet.ip_json("-6", "route", "show", "table", "main")
        return all(route.get("expires", 0) >= 0 for route in routes if route["dst"] == "fd00:2::/64") and not any(
            route.get("expires", 0) >= 0 for route in routes if route["dst"] == "fd00:1::/64"
        )

    wait_until(expired, "the route expired")
    quiet.fz("sync")
    assert ["fd00:2::/64"] == mirrored(quiet)


def test_routes_of_other_types_are_not_copied(quiet: Namespace) -> None:
    quiet.batch(["route add unreachable 10.1.0.0/16", "route add blackhole 10.2.0.0/16", "route add throw 10.3.0.0/16"])
    quiet.batch(["-6 route add unreachable fd00:1::/64", "-6 route add blackhole fd00:2::/64"])
    quiet.batch(["route add broadcast 10.4.0.255 dev lan0 scope link", "route add multicast 224.1.0.0/16 dev lan0"])
    quiet.fz("sync")
    assert [] == mirrored(quiet)
    assert [] == quiet.routes("inet", MIRROR)
