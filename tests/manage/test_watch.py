"""`watch` in manage mode: it restores what somebody deletes, and follows the tunnel and the configuration."""

import signal

import pytest

from tests.manage.conftest import Watch
from tests.manage.laptop import MARK, MIRROR, PRIORITIES, TIERS, TUNNEL, UPLINK, Laptop, manage
from tests.netns.namespace import wait_until

SINGLE, TIERED = manage(), manage(layout="tiered")
LAYOUTS = pytest.mark.parametrize("config", [SINGLE, TIERED], ids=["single", "tiered"])


ADDRESS6 = "fd00:2021:1111::5/128"
BOTH = ("", "-6 ")
# What somebody does to the tiered layout, step by step. No rule goes twice, because that would be a fight.
EACH_RULE = [[f"{option}rule del pref {priority}"] for option in BOTH for priority in PRIORITIES]
TOGETHER = [
    [f"{option}rule add not fwmark {MARK:#x} lookup {MIRROR} pref 77" for option in BOTH],
    [f"{option}rule del pref {priority}" for option in BOTH for priority in PRIORITIES],
    [f"{option}route flush dev {TUNNEL} table {table}" for option in BOTH for table in TIERS],
]


@pytest.mark.parametrize("damage", [EACH_RULE, TOGETHER], ids=["each rule", "together"])
def test_what_somebody_changes_is_restored(damage: list[list[str]], laptop: Laptop, watch: Watch) -> None:
    daemon = watch(TIERED)
    whole = laptop.state()
    for lines in damage:
        laptop.batch(lines, force=True)
        wait_until(lambda: whole == laptop.state(), f"all is as before {lines}")
    assert [] == daemon.complaints, daemon.log


def test_a_rule_with_another_protocol_is_replaced_by_ours(laptop: Laptop, watch: Watch) -> None:
    """Only the protocol differs, which the plain list of rules does not show. networkd would delete such a rule."""
    daemon = watch(SINGLE)
    whole = laptop.state()
    wait_until(lambda: daemon.counters()["passes"] > 1, "it has heard the echo of its own commands")
    rule = f"pref 32765 not fwmark {MARK:#x} lookup {MIRROR}"
    laptop.batch([f"rule del {rule} protocol kernel", f"rule add {rule} protocol boot"])
    wait_until(lambda: whole == laptop.state(), "it is ours again")
    assert [] == daemon.complaints, daemon.log


@LAYOUTS
def test_a_tunnel_that_goes_and_comes_back_gets_its_routes(config: str, laptop: Laptop, watch: Watch) -> None:
    daemon = watch(config)
    whole = laptop.state()
    hosts = ["8.8.8.8", "2001:db8::1"]

    def assert_way(device: str) -> None:
        wait_until(lambda: dict.fromkeys(hosts, device) == laptop.leads(hosts), f"packets take {device}")

    laptop.ip("link", "set", "dev", TUNNEL, "down")
    assert_way(UPLINK)
    laptop.ip("link", "set", "dev", TUNNEL, "up")  # without its IPv6 address, which does not survive this
    ways = {"8.8.8.8": TUNNEL, "2001:db8::1": "unreachable"}
    wait_until(lambda: ways == laptop.leads(hosts), "IPv6 is blocked")
    laptop.address(TUNNEL, ADDRESS6)
    assert_way(TUNNEL)
    wait_until(lambda: whole == laptop.state(), "all is as before")
    laptop.vpn.close()
    assert_way(UPLINK)
    laptop.tunnel(TUNNEL, "100.64.0.5/32", ADDRESS6)
    assert_way(TUNNEL)
    assert [] == daemon.complaints, daemon.log


def test_a_tunnel_that_is_renamed_is_missing_until_it_has_its_name_back(laptop: Laptop, watch: Watch) -> None:
    daemon = watch(manage(on_down="closed", lan={"exclude_interfaces": ["tun-*"]}))
    for old, new, way in ((TUNNEL, "tun-x", "unreachable"), ("tun-x", TUNNEL, TUNNEL)):
        for words in (["down"], ["name", new]):
            laptop.ip("link", "set", "dev", old, *words)
        laptop.ip("link", "set", "dev", new, "up")
        wait_until(lambda way=way: {"8.8.8.8": way} == laptop.leads(["8.8.8.8"]), f"packets take {way}")
    assert [] == daemon.complaints, daemon.log


# A new configuration


def test_while_the_default_file_is_away_packets_do_not_leave_the_tunnel(laptop: Laptop, watch: Watch) -> None:
    """A package upgrade may move it away for a moment. The default configuration would remove everything."""
    path = laptop.config(manage(on_down="closed"))
    daemon = watch("", default_config=True, environment={"FZ_IPROUTE_CONFIG": str(path)})
    whole = laptop.state()
    path.rename(path.with_suffix(".away"))
    daemon.wait_for("the last good configuration stays in force")
    daemon.counters()
    assert whole == laptop.state()
    path.with_suffix(".away").rename(path)
    daemon.send(signal.SIGHUP)
    daemon.counters()
    assert whole == laptop.state()
    assert 2 == len(daemon.complaints), daemon.log


ELSEWHERE = {"single": 1001, "user": 1002, "lan": 1003, "internet": 1004}
CHANGES = {
    "routes and internet": manage(routes=["100.96.0.0/11", "10.1.0.0/16", "fd00:1::/48"], internet=False),
    "priority, mark": manage(rules={"single": 50}, fwmark="0x2021/0xffff"),
    "mark, tables and layout": manage(layout="tiered", fwmark=9, tables=dict(ELSEWHERE)),
    "all": manage(interface="tun-other", layout="tiered", fwmark=9, tables=dict(ELSEWHERE), internet=False, routes=[]),
    "back to observing": "[tunnel]\ninterface = 'tun-firezone'\n",
}


def test_a_new_configuration_takes_effect_and_leaves_nothing_behind(laptop: Laptop, watch: Watch) -> None:
    laptop.tunnel("tun-other", "100.64.0.6/32", "fd00:2021:1111::6/128")
    laptop.wait_for_carrier(4)
    expected = {}
    for name, text in CHANGES.items():
        laptop.sync(text)
        expected[name] = laptop.state()
        laptop.down(text)
    daemon = watch(SINGLE)
    for name, text in CHANGES.items():
        daemon.reload(text)
        wait_until(lambda: expected[name] == laptop.state(), f"{name}: nothing else is left")  # noqa: B023
        daemon.reload(SINGLE)
    released = "the default route into tun-firezone (IPv4 and IPv6) goes, and nothing replaces it"
    assert [True, True] == [released in text for text in daemon.complaints], daemon.log


@LAYOUTS
def test_what_was_there_before_stays_when_the_mode_becomes_observe(config: str, laptop: Laptop, watch: Watch) -> None:
    """The rules and routes of a VPN's client look like ours."""
    laptop.sync(config)
    daemon = watch(config)
    whole = laptop.state()
    daemon.reload(config.replace("mode = 'manage'", "mode = 'observe'"))
    assert whole == laptop.state()
    laptop.ip("route", "add", "10.5.0.0/24", "dev", UPLINK)
    wait_until(lambda: any("10.5.0.0/24" in line for table in TIERS for line in laptop.contents(table)), "it is copied")
