"""The [lan] section on a real kernel: what is copied, what is not, and what goes when the policy changes."""

import pytest

from tests.netns.namespace import LAN, TUNNEL, Machine, Namespace, wait_until


def mirrored(namespace: Namespace) -> list[str]:
    """The destinations in the mirror table that are not the tunnel's."""
    lines = namespace.routes("inet") + namespace.routes("inet6")
    return sorted(line.split()[0] for line in lines if TUNNEL not in line)


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


def test_these_are_lans_too(quiet: Namespace) -> None:
    """Another TUN device, a bridge without ports, a point-to-point address, and a device without carrier."""
    quiet.tunnel("tap-lab", "10.1.0.1/24")  # its operstate is UNKNOWN
    quiet.bridge("br0", "10.2.0.1/24")
    quiet.address("lan0", "10.3.0.1", "peer", "10.3.0.2/32")
    quiet.veth("lan1", "10.4.0.1/24", peer="far1")
    quiet.ip("link", "set", "far1", "down")
    wait_until(lambda: "linkdown" in quiet.route("10.4.0.0/24", "main")[0], "the kernel noticed")
    quiet.fz("sync")
    assert ["10.1.0.0/24", "10.2.0.0/24", "10.3.0.2", "10.4.0.0/24"] == mirrored(quiet)
    assert "" == quiet.fz("plan")


# What no `ip` command can recreate

INEXACT = {
    "10.7.1.0/24": "encap seg6 mode encap segs fd00::1 dev lan0 scope link",
    "fd00:7:1::/64": "encap seg6 mode encap segs fd00::1 dev lan0",
    "10.7.2.0/24": "encap ip id 5 dst 10.9.9.9 dev lan0 scope link",
    "fd00:7:2::/64": "encap ip6 id 5 dst fd00:9::9 dev lan0",
    "10.7.3.0/24": "dev lan0 scope link mtu lock 1400",
    "fd00:7:3::/64": "dev lan0 mtu lock 1400",
    "10.7.4.0/24": "dev lan0 scope link mtu 1400 advmss lock 1000",  # one lock of two
    "10.7.5.0/24": "dev lan0 scope link rtt 1",  # less than 1 ms
    "10.7.6.0/24": "scope link" + " nexthop dev lan0" * 160,  # too many
}


def test_what_no_command_can_recreate_is_skipped_and_reported_and_its_former_copy_goes(quiet: Namespace) -> None:
    lans = [*INEXACT, "10.8.0.0/24", "fd00:8::/64"]
    quiet.batch(
        f"-6 route add {dst} dev lan0" if ":" in dst else f"route add {dst} dev lan0 scope link" for dst in lans
    )
    quiet.fz("sync")
    assert sorted(lans) == mirrored(quiet)
    for dst, words in INEXACT.items():
        quiet.ip("route", "del", dst)
        quiet.ip("route", "add", dst, *words.split())
    done = quiet.fz_done("sync")
    assert 0 == done.returncode
    assert ["10.8.0.0/24", "fd00:8::/64"] == mirrored(quiet)
    skipped = {line["dst"] for line in quiet.status()["lan"] if line["verdict"] == "skipped"}
    assert set(INEXACT) == skipped == {dst for dst in INEXACT if f"# {dst} " in done.stderr}


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
