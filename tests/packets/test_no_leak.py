"""While everything changes, no packet for the tunnel leaks, and no packet to the LAN is lost."""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.manage.laptop import manage
from tests.netns.namespace import MARK, removing, wait_until
from tests.packets.terrain import NEIGHBOURS, Crossroads
from tests.packets.traffic import Traffic
from tests.watch.broken_ip import BrokenIp
from tests.watch.daemon import Daemon

SEED = int(os.environ.get("FZ_SEED") or random.randrange(2**32))
RECONFIGURATIONS = 15

PAUSE = 0.002  # seconds between two packets to an address: some meet each state between two commands of a slow `ip`

ROUTER = ("10.77.0.1", "fd00:77::1")
INTERNET = ("198.51.100.7", "2001:db8:7::7")
RESOURCES = ("192.168.188.77", "fd00:188::77")  # of the VPN; the neighbour has these addresses too

# No table ever swaps its part with another: that is refused, see tests/manage/test_moves.py.
USER_TABLES = (539098368, 5001, 5002)
LAN_TABLES = (539098369, 5003)
INTERNET_TABLES = (539098370, 5004, 5005)
PRIORITIES = (5, 100, 150, 200, 300, 1000, 32000, 32765)
MARKS = (f"{MARK:#x}", "0x2021", "0x10000000/0xf0000000")
ALWAYS = ("192.168.188.77/32", "fd00:188::77/128")
# Not the neighbour's LAN, whose packets must never be lost.
ROUTES = (
    "100.64.0.0/11", "100.96.0.0/11", "100.100.111.0/24", "10.200.0.0/16", "198.51.100.0/24", "198.51.100.7/32",
    "203.0.113.0/24", "10.77.0.0/24",
    "fd00:2021:1111::/48", "fd00:200::/48", "2001:db8:7::/64", "fd00:77::/64",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """A configuration in manage mode, with the Internet Resource."""

    layout: str = "single"
    single: int = 539098368
    tiers: tuple[int, int, int] = (539098368, 539098369, 539098370)
    mark: str = MARKS[0]
    priority: int = 32765
    priorities: tuple[int, ...] = (100, 200, 300)
    routes: tuple[str, ...] = ALWAYS + ROUTES[:4]
    tunnel: dict[str, str] = field(default_factory=dict)
    lan: dict[str, object] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return manage(
            fwmark=self.mark,
            routes=self.routes,
            layout=self.layout,
            tables=dict(zip(("single", "user", "lan", "internet"), (self.single, *self.tiers), strict=True)),
            rules={"single": self.priority, "tiered": self.priorities},
            lan=self.lan,
            watch={"max_wait": 0.05},
            **self.tunnel,
        )


class Walker:
    """Chooses changes that keep the Internet Resource active and do not touch the neighbour's LAN."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def settings(self, old: Settings) -> Settings:
        """Settings that differ from the old ones.

        Mark and tables never change together: without the old configuration, one of them tells which rules are ours.
        """
        dice = self.dice
        new = old
        while new == old:
            kinds = dice.sample([self._layout, self._tables, self._priorities, self._routes, self._lan], 2)
            if dice.random() < 0.2:
                kinds = [self._mark, self._priorities, self._lan]
            for kind in kinds:
                new = kind(new)
        return new

    def _layout(self, old: Settings) -> Settings:
        return replace(old, layout="tiered" if old.layout == "single" else "single")

    def _tables(self, old: Settings) -> Settings:
        dice = self.dice
        user, internet = dice.choice(USER_TABLES), dice.choice(INTERNET_TABLES)
        lan = dice.choice(LAN_TABLES)
        single = dice.choice([*USER_TABLES, 6001])
        return replace(old, tiers=(user, lan, internet), single=single)

    def _priorities(self, old: Settings) -> Settings:
        dice = self.dice
        tiers = tuple(sorted(dice.sample(PRIORITIES, 3)))
        return replace(old, priority=dice.choice(PRIORITIES), priorities=tiers)

    def _routes(self, old: Settings) -> Settings:
        chosen = self.dice.sample(ROUTES, self.dice.randrange(len(ROUTES)))
        return replace(old, routes=tuple(self.dice.sample((*chosen, *ALWAYS), len(chosen) + 2)))

    def _mark(self, old: Settings) -> Settings:
        return replace(old, mark=self.dice.choice(MARKS))

    def _lan(self, old: Settings) -> Settings:
        dice = self.dice
        keys = {
            "trust": ["any", "private"],
            "deny": [["10.200.0.0/16", "fd00:200::/48"], ["172.16.0.0/12"], ["fd00:201::/32"]],
            "allow": [["203.0.113.0/24"], ["10.201.0.0/16"]],
            "interfaces": [["lan*", "uplink0"], ["lan0"]],
            "exclude_interfaces": [["lan1"], ["uplink*", "lan2"]],
            "min_prefixlen": [{"inet": 24, "inet6": 64}, {"inet": 16}],
            "multicast": [True],
            "prune": [False],
        }
        chosen = dice.sample(list(keys), dice.randrange(4))
        tunnel = {"internet_leak": dice.choice(["block", "allow"]), "on_down": dice.choice(["open", "closed"])}
        return replace(old, lan={key: dice.choice(keys[key]) for key in chosen}, tunnel=tunnel)

    def lan_change(self) -> str:
        """A line for `ip` that changes another LAN than the neighbour's. The kernel may refuse it."""
        dice = self.dice
        device, verb = dice.choice(["lan1", "lan1", "lan2"]), dice.choice(["add", "del"])
        number = dice.randrange(1, 4)
        return dice.choice(
            [
                f"addr {verb} 10.201.{number}.2/24 dev {device}",
                f"addr {verb} 10.201.{number}.2/24 dev {device}",
                f"-6 addr {verb} fd00:201:{number}::2/64 dev {device}{' nodad' if verb == 'add' else ''}",
                f"route {verb} 10.202.{number}.0/24 dev {device} scope link",
                f"-6 route {verb} fd00:202:{number}::/64 dev {device}",
                "link set dev lan1 down",
                "link set dev lan1 up",
                "link set dev lan1 up",
                "link add name lan2 type veth peer name far2",
                "link set dev far2 up",
                "link set dev lan2 up",
                "link del dev lan2",
                f"link set dev lan1 mtu {dice.choice([1400, 1500])}",
                f"route {verb} 10.203.0.0/16 via 10.77.0.1",
            ]
        )


class Story:
    """A machine with its traffic, and the random events of one test."""

    def __init__(self, seed: int, machine: Crossroads, traffic: Traffic, folder: Path, stack: ExitStack) -> None:
        self.walker = Walker(seed)
        self.dice = self.walker.dice
        self.machine = machine
        self.traffic = traffic
        self.settings = Settings()
        self.told: list[str] = []
        self.reconfigurations = 0
        self.ip = BrokenIp(folder)
        self.daemon = Daemon(machine, self.settings.text, path=self.ip.folder)
        stack.callback(self.daemon.end)

    def begin(self) -> None:
        self.machine.fz("sync", config=self.settings.text)
        self.start_another()
        self.reached()

    def start_another(self) -> None:
        """Start a daemon, in four of five cases with the slow `ip`."""
        self._slow(self.dice.random() < 0.8)
        self.daemon.configure(self.settings.text)
        self.daemon.start()

    def step(self) -> None:
        self._reconsider()
        (kind,) = self.dice.choices([self.rewritten, self.restarted, self.synced], [7, 2, 1])
        self.tell(kind.__name__)
        kind()
        self.reached()

    def _reconsider(self) -> None:
        self.settings = self.walker.settings(self.settings)
        self.reconfigurations += 1

    def tell(self, kind: str) -> None:
        step = f"{self.reconfigurations}, {kind}"
        self.told.append(f"{step}: {self.settings}")
        self.traffic.account(step)

    # The events

    def rewritten(self) -> None:
        """The configuration and the LAN change while the daemon runs."""
        self.change_lan()
        self.daemon.configure(self.settings.text)
        if self.dice.random() < 0.8:
            self.daemon.send(signal.SIGHUP)  # without it, the daemon sees the new file within half a second
        self.change_lan()

    def restarted(self) -> None:
        """The daemon ends at a random moment by SIGTERM or SIGKILL, and another one starts."""
        if self.dice.random() < 0.75:
            self.daemon.configure(self.settings.text)
            self.daemon.send(signal.SIGHUP)
            self.change_lan()
            self.wait_a_moment()
        if self.dice.random() < 0.5:
            assert 0 == self.daemon.stop(signal.SIGTERM)
        else:
            self.daemon.kill()
        self.change_lan()
        self.start_another()

    def synced(self) -> None:
        """`sync` runs instead of a daemon, with the real `ip` and with the slow one."""
        assert 0 == self.daemon.stop(signal.SIGTERM)
        for slow in self.dice.sample([False, True], 2):
            self.change_lan()
            self._slow(slow)
            self.machine.fz("sync", config=self.settings.text, path=str(self.ip.folder))
            assert self.in_force(), f"one sync is not enough: {self.state()}"
            self._reconsider()
            self.tell("synced")
        self.start_another()

    def wait_a_moment(self) -> None:
        """Up to 0.3 s."""
        end = time.monotonic() + self.dice.uniform(0, 0.3)
        while time.monotonic() < end:
            self.traffic.account()
            time.sleep(0.01)

    def change_lan(self) -> None:
        for _ in range(self.dice.randrange(4)):
            self.machine.ip(*self.walker.lan_change().split(), check=False)

    # The results

    def in_force(self) -> bool:
        """True if nothing is due. Whether that is right, the packets tell."""
        done = self.machine.fz_done("plan", "--exit-code", config=self.settings.text)
        return done.returncode == 0

    def reached(self) -> None:
        """Wait until the settings are in force. Nothing may have leaked so far."""

        def reached() -> bool:
            self.traffic.account()
            assert self.daemon.alive, self.daemon.log
            return self.in_force()

        wait_until(reached, f"{self.settings} is in force")
        assert not self.traffic.leaks and not self.traffic.strays

    def _slow(self, slow: bool) -> None:
        """From now on, new processes of `ip` are slow, or not."""
        if slow:
            self.ip.breaks("slow")
        else:
            self.ip.mends()

    @property
    def report(self) -> str:
        """The last events, the state of the machine, and the log of the daemon."""
        return "\n".join([*self.told[-3:], self.state(), *self.daemon.lines[-80:]])

    def state(self) -> str:
        lines = []
        for option in ("-4", "-6"):
            lines += self.machine.ip(option, "rule").splitlines()
            routes = self.machine.ip("-N", option, "route", "show", "table", "all").splitlines()
            lines += [line for line in routes if "table 255" not in line]
        return "\n".join(lines)


@pytest.fixture
def machine(runtime: Path) -> Iterator[Crossroads]:
    with removing(Crossroads(runtime)) as made:
        yield made


@pytest.mark.long
def test_nothing_leaks_and_nothing_is_lost_while_everything_changes(machine: Crossroads, tmp_path: Path) -> None:
    for address in (*NEIGHBOURS, *ROUTER):
        assert machine.reaches(address)  # so its link address is known before the packets start
    machine.fz("sync", config=Settings().text)
    witness = machine.witness()
    assert ["tunnel"] * 2 == [witness.way(address) for address in INTERNET]
    witness.close()
    with ExitStack() as stack:
        traffic = Traffic(machine, PAUSE, NEIGHBOURS, (*INTERNET, *RESOURCES))
        stack.callback(traffic.close)
        traffic.prove_that_leaks_are_seen(MARK)
        story = Story(SEED, machine, traffic, tmp_path, stack)
        try:
            story.begin()
            while story.reconfigurations < RECONFIGURATIONS:
                story.step()
            story.daemon.wait_in_step(story.in_force)
            traffic.end()
            wait_until(lambda: traffic.account() or not traffic.lost, "all packets have arrived")
            assert {} == traffic.faults
        except AssertionError as error:
            traffic.end()
            traffic.account()
            raise AssertionError(f"seed {SEED}: {error}\n{traffic.report}\n{story.report}") from None
        assert traffic.sent == sum(traffic.arrived.values())
        assert traffic.sent > 100 * RECONFIGURATIONS
