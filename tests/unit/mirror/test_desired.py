"""What was judged at the last look saves work, and changes no answer."""

import random
from dataclasses import replace

from fz_iproute.mirror.config import Config, Lan, Tunnel
from fz_iproute.mirror.desired import Desired, desired
from fz_iproute.mirror.model import Link, Route, Snapshot
from fz_iproute.mirror.plan import plan
from fz_iproute.mirror.prefix import FAMILIES, Prefix
from tests.unit.routes import LINKS, gatewayed, lookup, route, snapshot, tunnel

MOVES = 250
CONFIGS = [
    Config(),
    Config(tunnel=Tunnel(interface="wg7")),
    Config(tunnel=Tunnel(mode="manage", internet=True, on_down="closed", routes=(Prefix.parse("10.9.0.0/16"),))),
    Config(lan=Lan(multicast=True, deny=(Prefix.parse("10.1.0.0/16"),), allow=(Prefix.parse("172.16.0.0/12"),))),
]
MODEM = {"ppp0": Link("ppp0", 9, up=True, loopback=False, word="ppp0", may_be_tunnel=True)}
LANS = [
    *(route(dst, device) for dst in ("10.0.0.0/24", "10.1.0.0/24", "fd00:1::/64") for device in ("eth0", "ppp0")),
    route("198.51.100.0/24", "eth1"),
    route("10.0.0.0/24", prefsrc="10.0.0.7"),
    gatewayed("172.16.1.0/24", "10.0.0.1"),
    route("224.0.0.0/4", protocol="static"),
]
WIDE = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]
OF_VPN = [
    *(tunnel(dst) for dst in ("default", "100.64.0.0/11", "10.1.0.0/16", *WIDE)),
    route("default", "ppp0", scope=None, protocol="static"),
    route("default", "eth1", protocol="static", metric=1024, scope=None),
    route("224.0.0.0/4", "ppp0", protocol="static"),
    route("10.0.0.0/24", protocol="245", scope=None),
]
RULES = [lookup(table, family=family) for table in sorted(Config().tables.ids) for family in FAMILIES]


def some(chance: random.Random, routes: list[Route]) -> list[Route]:
    """Mostly a few, or none."""
    share = chance.choice([0.0, 0.1, 0.5])
    return [each for each in routes if chance.random() < share]


def moved(chance: random.Random, seen: Snapshot) -> Snapshot:
    """The machine after a change."""
    family, table = chance.choice(FAMILIES), chance.choice(sorted(Config().tables.ids))
    new = snapshot(some(chance, LANS), [*some(chance, OF_VPN), *some(chance, LANS)])
    match chance.randrange(5):
        case 0:
            numbered = {family: frozenset(["tun-firezone"]) for family in FAMILIES if chance.random() < 0.5}
            return replace(seen, numbered=numbered if chance.random() < 0.5 else seen.numbered)
        case 1:
            return replace(seen, links={**LINKS, **MODEM, "eth0": LINKS["eth0"]._replace(up=chance.random() < 0.7)})
        case 2:
            return replace(seen, rules=tuple(rule for rule in RULES if chance.random() < 0.2))
        case 3:
            return replace(seen, main={**seen.main, family: new.main[family]})
    routes = new.tables[Config().tables.single][family]
    return replace(seen, tables={**seen.tables, table: {**seen.tables[table], family: routes}})


def fresh(last: Desired) -> Desired:
    """The last answer, of which nothing can be used again."""
    unlike = {
        family: found._replace(given=(), judged=found.judged._replace(inputs=()))
        for family, found in last.by_family.items()
    }
    return replace(last, by_family=unlike)


def test_an_answer_that_uses_the_last_one_is_the_same_as_a_new_one() -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    for config in CONFIGS:
        chance = random.Random(seed)
        seen = snapshot([], links=LINKS | MODEM)
        last = desired(config, seen)
        used = 0
        for _ in range(MOVES):
            seen = moved(chance, seen)
            answer, expected = desired(config, seen, last), desired(config, seen, fresh(last))
            used += any(answer.by_family[family] is last.by_family[family] for family in FAMILIES)
            assert expected == replace(answer, by_family=expected.by_family)
            assert plan(expected) == plan(answer)
            last = answer
        assert 0 < used < MOVES
