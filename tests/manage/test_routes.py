"""The tunnel's routes: those of the configuration, in the tables of the layout. Defaults need the Internet Resource."""

import pytest

from tests.manage.laptop import MIRROR, ROUTES, TIER_INTERNET, TIER_LAN, TIERS, TUNNEL, Laptop, manage, pasted
from tests.netns.namespace import LAN, Namespace

SINGLE, TIERED = manage(), manage(layout="tiered")
LAYOUTS = pytest.mark.parametrize("layout", ["single", "tiered"])
EXPLICIT = [f"{prefix} dev {TUNNEL} proto static" for prefix in ROUTES]
EXPLICIT += [f"fd00:2021:1111::/48 dev {TUNNEL} proto static metric 1024 pref medium"]
DEFAULTS = [f"default dev {TUNNEL} proto static", f"default dev {TUNNEL} proto static metric 1024 pref medium"]


def into_tunnel(laptop: Namespace, table: int = MIRROR) -> list[str]:
    """The routes that manage mode adds to the copies."""
    lines = laptop.routes("inet", table) + laptop.routes("inet6", table)
    return sorted(line for line in lines if f"dev {TUNNEL}" in line or line.startswith("unreachable"))


def test_the_picture(namespace: Namespace) -> None:
    """Word for word what the README and scripts/demo show of a machine that runs Firezone."""
    namespace.veth(LAN, "192.168.188.112/24 metric 600")
    namespace.tunnel(TUNNEL, "100.64.0.5/32")
    namespace.fz("sync", config=manage(routes=ROUTES))
    assert [
        "default dev tun-firezone proto static",
        "100.64.0.0/11 dev tun-firezone proto static",
        "100.96.0.0/11 dev tun-firezone proto static",
        "100.100.111.0/24 dev tun-firezone proto static",
        "192.168.188.0/24 dev wlp192s0 proto kernel scope link src 192.168.188.112 metric 600",
    ] == namespace.routes("inet", 539098368)
    assert [
        "0: from all lookup local",
        "32765: not from all fwmark 0xfd002021 lookup 539098368",
        "32766: from all lookup main",
        "32767: from all lookup default",
    ] == [" ".join(line.split()) for line in namespace.ip("rule", "list").splitlines()]


@pytest.mark.parametrize(
    ("config", "expected"),
    [(SINGLE, [EXPLICIT + DEFAULTS, [], []]), (TIERED, [EXPLICIT, [], DEFAULTS])],
    ids=["single", "tiered"],
)
def test_each_table_of_the_layout_has_its_routes(config: str, expected: list[list[str]], laptop: Laptop) -> None:
    laptop.sync(config)
    assert list(map(sorted, expected)) == [into_tunnel(laptop, table) for table in TIERS]


FOREIGN = [
    f"route add 10.200.0.0/16 via 192.168.188.1 table {MIRROR}",
    f"route add 10.201.0.0/16 dev {TUNNEL} proto bird table {MIRROR}",
    f"route add blackhole 10.202.0.0/16 proto static table {MIRROR}",
    f"route add unreachable default proto static metric 7000 table {MIRROR}",
    f"route add 10.203.0.0/16 via 192.168.188.1 proto static table {TIER_LAN}",
    f"route add 10.204.0.0/16 dev {LAN} scope link table 77",
    f"-6 route add fd00:200::/48 via fd00:188::1 table {MIRROR}",
    f"-6 route add blackhole fd00:201::/48 proto static table {MIRROR}",
    f"-6 route add fd00:202::/48 dev {TUNNEL} proto bird table {TIER_INTERNET}",
]


@LAYOUTS
def test_the_routes_of_others_in_our_tables_stay(layout: str, laptop: Laptop) -> None:
    other = manage(layout={"single": "tiered", "tiered": "single"}[layout])
    laptop.batch(FOREIGN)
    before = laptop.state()
    laptop.sync(manage(layout=layout))
    laptop.sync(other)
    after = laptop.state().tables
    for key, routes in before.tables.items():
        assert [] == [route for route in routes if route not in after.get(key, [])]
    laptop.down(other)
    assert before == laptop.state()


# Whatever the configuration


CONFIGURATIONS = {
    "auto": manage(layout="auto"),
    "leaking": manage(internet_leak="allow"),
    "nothing": manage(routes=[], internet=False),
    "all options": manage(on_down="closed", fwmark="0x2021/0xffff", lan={"multicast": True}),
    "all options, in tiers": manage(on_down="closed", layout="tiered", lan={"multicast": True}),
    "claims": manage(routes=["192.168.188.0/25", "192.168.188.0/24", "10.0.0.0/8", "fd00::/8"], internet=False),
    "twice, and single addresses": manage(
        routes=["203.0.113.0/24", "203.0.113.0/24", "203.0.113.7/32", "fd00::7/128"], tables={"single": 2**32 - 1}
    ),
}


@pytest.mark.parametrize("config", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_a_second_sync_has_nothing_to_do_the_pasted_plan_does_the_same_and_down_undoes_it(
    config: str, laptop: Laptop
) -> None:
    before = laptop.state()
    assert laptop.sync(config)
    after = laptop.state()
    assert [] == laptop.sync(config)
    laptop.down(config)
    assert before == laptop.state()
    assert [] == laptop.down(config)
    pasted(laptop.planned(config))
    assert after == laptop.state()
    assert [] == laptop.planned(config)


def test_the_pasted_plan_of_a_move_does_what_sync_does(laptop: Laptop) -> None:
    laptop.sync(SINGLE)
    laptop.ip("rule", "add", "not", "fwmark", "0xfd002021", "lookup", str(MIRROR), "pref", "9")
    pasted(laptop.planned(TIERED))
    after = laptop.state()
    laptop.down(TIERED)
    laptop.sync(TIERED)
    assert after == laptop.state()
