"""With `lan.multicast`, discovery (mDNS, SSDP, broadcasts) leaves by the LAN instead of the tunnel."""

import pytest

from tests.manage.conftest import Watch
from tests.manage.laptop import MARK, MIRROR, TIER_LAN, TUNNEL, UPLINK, Laptop, manage
from tests.netns.namespace import LAN, wait_until

GROUPS = ["224.0.0.251", "239.255.255.250", "255.255.255.255"]
ON: dict[str, object] = {"multicast": True}
ROUTERS = ["10.77.0.1 metric 700", "192.168.188.1 metric 600"]
OBSERVE = "[lan]\nmulticast = true\n"
LAYOUTS = pytest.mark.parametrize("layout", ["single", "tiered"])


def ways(laptop: Laptop) -> set[str]:
    return {laptop.way(group) for group in GROUPS}


def lines(laptop: Laptop, table: int = MIRROR) -> list[str]:
    return [line for line in laptop.routes("inet", table) if line.startswith(("224.", "255."))]


def by(*devices: str) -> list[str]:
    groups = ("224.0.0.0/4", "255.255.255.255")
    return [f"{dst} dev {device} proto static scope link" for dst in groups for device in devices]


@LAYOUTS
def test_switched_on_it_leaves_by_the_device_of_the_default_route(layout: str, laptop: Laptop) -> None:
    off, text = manage(layout=layout), manage(layout=layout, lan=ON)
    laptop.sync(off)
    before = laptop.state()
    assert {TUNNEL} == ways(laptop)
    laptop.sync(text)
    assert {UPLINK} == ways(laptop)
    assert by(UPLINK) == lines(laptop, TIER_LAN if layout == "tiered" else MIRROR)
    for group, dst in zip(GROUPS, ("224.0.0.0/4", "224.0.0.0/4", "255.255.255.255"), strict=True):
        said = laptop.fz("explain", group, config=text)
        assert f"lan.multicast has added a route for {dst} to the VPN's table" in said and "kernel agrees" in said
    laptop.sync(off)
    assert before == laptop.state()
    # The default route with the lowest metric counts; main may have the same route itself.
    laptop.batch(["route del default", *(f"route add default via {router}" for router in ROUTERS)])
    laptop.batch([f"route add 255.255.255.255 dev {LAN} proto static scope link"])
    laptop.sync(text)
    assert {LAN} == ways(laptop)
    assert [] == laptop.sync(text)


def test_in_observe_mode_too(laptop: Laptop) -> None:
    before = laptop.state()
    decided_by_local = laptop.way("ff02::fb")
    laptop.fz("sync", config=OBSERVE)
    assert by(UPLINK) == lines(laptop)
    assert decided_by_local == laptop.way("ff02::fb")
    assert f"leaves by {UPLINK} only" in laptop.fz("doctor", "-v", config=OBSERVE)
    assert [] == laptop.sync(OBSERVE)
    laptop.sync("[tunnel]\ninterface = 'tun-firezone'\n")
    assert [] == lines(laptop)
    laptop.sync(OBSERVE)
    laptop.down(OBSERVE)
    assert before == laptop.state()


def test_it_goes_with_the_copies_although_the_tunnel_has_gone(laptop: Laptop) -> None:
    laptop.batch([f"rule add not fwmark {MARK} lookup {MIRROR}"])
    laptop.sync(OBSERVE)
    assert by(UPLINK) == lines(laptop)
    laptop.batch([f"link del {TUNNEL}"])
    assert [] == laptop.planned(OBSERVE)
    laptop.down(OBSERVE)
    assert [] == laptop.contents()


def test_watch_follows_the_default_route(laptop: Laptop, watch: Watch) -> None:
    daemon = watch(manage(lan=ON))
    assert {UPLINK} == ways(laptop)
    laptop.batch(["route replace default via 192.168.188.1"])
    wait_until(lambda: {LAN} == ways(laptop), "multicast follows")
    laptop.batch(["route del default"])
    wait_until(lambda: sorted(by(LAN, UPLINK)) == sorted(lines(laptop)), "multicast leaves by every mirrored device")
    assert 1 == len(ways(laptop)), "the kernel sends a packet by one of them only"
    assert [] == [line for line in laptop.status(manage(lan=ON))["lan"] if line["verdict"] == "stale"]
    assert [] == daemon.complaints
