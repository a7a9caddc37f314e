"""With `interface = "auto"`, watch serves the full tunnel that is up, and leaves nothing in the former's table."""

from collections.abc import Callable

from tests.netns.namespace import LAN, MARK, MIRROR, TUNNEL, Machine, wait_until
from tests.netns.test_tree import terminal
from tests.watch import oracle
from tests.watch.conftest import Watch
from tests.watch.test_config_reload import ALL
from tests.watch.test_figures import metrics

AUTO = '[tunnel]\ninterface = "auto"\n'
OTHER = 77


def are(machine: Machine, first: list[str], second: list[str]) -> Callable[[], bool]:
    """Whether these are the destinations of the copies in the tables of the two VPNs."""
    expected = {MIRROR: set(first), OTHER: set(second)}
    return lambda: (
        expected
        == {table: {dst for dst in oracle.destinations(machine, table) if not dst.endswith("/0")} for table in expected}
    )


def firezone(machine: Machine, verb: str) -> None:
    machine.batch(f"{option}rule {verb} not fwmark {MARK:#x} lookup {MIRROR} pref 32765" for option in ("", "-6 "))


def another(machine: Machine, verb: str) -> None:
    for option in ("", "-6 "):
        machine.batch([f"{option}route {verb} default dev wg7 table {OTHER}"])
        machine.batch([f"{option}rule {verb} not fwmark 0x4d lookup {OTHER} pref 500"])


def told(machine: Machine, config: str, tunnel: str) -> tuple[float, bool, bool]:
    """What `metrics` says: whether a watch runs, whether it tells its counters, and whether copies are in step."""
    found = metrics(machine.fz("metrics", config=config))
    assert 1 == found[f"fz_iproute_tunnel_up{{{tunnel}}}"]
    in_step = sum(found[f"fz_iproute_copies{{{family},in_step}}"] for family in ("inet", "inet6"))
    return found["fz_iproute_watch_running{}"], "fz_iproute_watch_passes_total{}" in found, in_step > 0


def test_watch_moves_to_the_vpn_that_is_up(machine: Machine, watch: Watch) -> None:
    machine.tunnel("wg7")
    daemon = watch(AUTO)
    wait_until(are(machine, ALL, []), "Firezone is served")
    firezone(machine, "del")
    wait_until(are(machine, [], []), "nobody is served")
    another(machine, "add")
    wait_until(are(machine, [], ALL), "the other one is served")
    daemon.wait_for("all traffic goes into wg7 (IPv4 and IPv6)")
    wait_until(lambda: (1, True, True) == told(machine, AUTO, "wg7"), "the pass has ended, and metrics tell of it")
    assert (0, False, False) == told(machine, "", TUNNEL), "the numbers of the former table have gone"
    another(machine, "del")
    firezone(machine, "add")
    wait_until(are(machine, ALL, []), "Firezone is served again")
    daemon.wait_for("woken by: a VPN came or went")
    assert ([], []) == (daemon.complaints, daemon.says("new configuration"))


def test_a_second_vpn_does_not_end_the_copies_of_the_first(machine: Machine, watch: Watch) -> None:
    """The second one takes IPv6 only, so without the copies, the IPv4 LANs could not be reached any more."""
    machine.batch([f"-6 rule del not fwmark {MARK:#x} lookup {MIRROR} pref 32765"])
    machine.tunnel("wg7")
    daemon = watch(AUTO)
    wait_until(are(machine, ALL, []), "Firezone is served")
    machine.batch(
        [f"-6 route add default dev wg7 table {OTHER}", f"-6 rule add not fwmark 0x4d lookup {OTHER} pref 500"]
    )
    daemon.wait_for(
        "tun-firezone and wg7 need copies: name one in tunnel.interface; until then, tun-firezone is served"
    )
    machine.ip("address", "add", "10.55.0.1/24", "dev", LAN)
    wait_until(are(machine, [*ALL, "10.55.0.0/24"], []), "Firezone is still served")
    assert (1, True, True) == told(machine, AUTO, TUNNEL), "all verbs serve the same one"
    assert "" == machine.fz("plan", config=AUTO)
    machine.batch([f"route del {dst} table {MIRROR}" for dst in ("192.168.188.0/24", "10.77.0.0/24", "10.55.0.0/24")])
    wait_until(are(machine, [*ALL, "10.55.0.0/24"], []), "what somebody deletes comes back")
    machine.batch([f"rule del not fwmark {MARK:#x} lookup {MIRROR} pref 32765"])
    wait_until(are(machine, [], [*ALL, "10.55.0.0/24"]), "the other one is served")


def test_status_follows_the_vpn_too(machine: Machine) -> None:
    machine.tunnel("wg7")
    with terminal(machine, "status", "-c", str(machine.config(AUTO)), "--watch") as made:
        made.wait_for("tun-firezone is up")
        firezone(machine, "del")
        another(machine, "add")
        made.wait_for("wg7 is up")


def test_down_says_that_it_cannot_know_the_table_of_a_vpn_that_has_gone(machine: Machine) -> None:
    """While the VPN is there, `down` removes all copies, and needs no words."""
    machine.tunnel("wg7")
    firezone(machine, "del")
    another(machine, "add")
    machine.fz("sync", config=AUTO)
    assert are(machine, [], ALL)()
    assert "warning" not in machine.fz_done("down", config=AUTO).stderr
    assert are(machine, [], [])()
    machine.fz("sync", config=AUTO)
    another(machine, "del")
    assert "copies in the table of a former VPN are not found" in machine.fz_done("down", config=AUTO).stderr
