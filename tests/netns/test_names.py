"""Whatever bytes a device name holds, routes by that device are copied, or reported with its name."""

from fz_iproute.mirror import parse_rules
from tests.netns.namespace import MAIN, MIRROR, Namespace, comparable, mirrored, run
from tests.netns.wiretap import Wiretap

KEYWORDS = ["dev", "via", "metric", "nexthop", "table", "if1"]
QUOTES = ['a"b', "a'b", "'q", '"q', "'"]
SHELL = ["$x", "$(id)", ";x", "&x", "*", "~", "a\\"]
OPTIONS = ["-x", "--help", "a@b"]
COMMENTS = ["#x", "a#b"]
FOREIGN = ["ü€", "\u202eabc", "a\u3000b", "a\u2028b"]
BYTES = ["\udcff\udcfe", "a\udc80", "\x01", "\x1b[31m"]
NAMES = KEYWORDS + QUOTES + SHELL + OPTIONS + COMMENTS + FOREIGN + BYTES


def furnish(namespace: Namespace, name: str, number: int = 1) -> None:
    """A device of this name with a connected network in each family, and a multipath route over it."""
    far = f"far{number}"
    device = namespace.odd_veth(name, far, f"10.{number}.0.5/24", f"fd00:{number}::5/64")
    namespace.batch([f"route add 10.{number}.8.0/21 scope link nexthop dev {device} weight 2 nexthop dev {far}"])


def assert_copied(namespace: Namespace) -> None:
    for family, least in (("inet", 2), ("inet6", 3)):
        expected = comparable(mirrored(namespace.raw(family, MAIN)))
        assert least * len(NAMES) == len(expected)
        assert expected == comparable(mirrored(namespace.raw(family, MIRROR)))


def test_routes_of_a_device_are_copied_whatever_its_name(namespace: Namespace, wiretap: Wiretap) -> None:
    for number, name in enumerate(NAMES, start=1):
        furnish(namespace, name, number)
    lines = namespace.fz("plan")

    namespace.fz("sync")
    assert_copied(namespace)

    wiretap.clear()
    namespace.fz("sync", path=wiretap.path)
    assert [] == wiretap.writes

    for option in ("-4", "-6"):
        namespace.ip(option, "route", "flush", "table", str(MIRROR))
    run("sh", stdin=lines)
    assert_copied(namespace)


def test_a_device_that_no_line_can_name_is_skipped_and_reported(namespace: Namespace) -> None:
    device = namespace.odd_veth("#x", "far", "10.1.0.5/24")
    namespace.veth(device, "10.9.0.5/24")
    done = namespace.fz_done("sync")
    assert 0 == done.returncode
    assert [] == namespace.route("10.1.0.0/24")
    assert 1 == len(namespace.route("10.9.0.0/24"))
    assert "10.1.0.0/24" in done.stderr and "#x" in done.stderr
    assert ["skipped"] == [line["verdict"] for line in namespace.status()["lan"] if line["dst"] == "10.1.0.0/24"]


def test_a_tunnel_with_a_strange_name_is_recognised(namespace: Namespace) -> None:
    namespace.veth("lan0", "10.1.0.5/24")
    namespace.veth("tun$'", "10.3.0.5/24")
    namespace.fz("sync", config='[tunnel]\ninterface = "tun$\'"\n')
    assert (1, 0) == (len(namespace.route("10.1.0.0/24")), len(namespace.route("10.3.0.0/24")))


def test_protocols_are_named_as_ip_names_them_and_remedies_write_numbers(namespace: Namespace) -> None:
    """A machine may lack /etc/protocols. Then `ip` knows no names."""
    namespace.batch([f"rule add pref {1000 + each} ipproto {each} lookup {MIRROR}" for each in range(1, 256)])
    rules = parse_rules.rules(namespace.ip_json("-N", "rule"), "inet")
    named = {line.partition(":")[0]: line.split()[4] for line in namespace.ip("rule").splitlines() if "ipproto" in line}
    for rule in (rule for rule in rules if str(rule.priority) in named):
        number, said, by_ip = str(rule.priority - 1000), str(rule).split()[3], named[str(rule.priority)]
        assert said in (number, by_ip) or by_ip == f"ipproto-{number}"
        assert ("ipproto", number) == rule.words[2:4]
    assert len(named) == 255
