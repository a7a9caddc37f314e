"""Small machines for all tests of diagnosis: what makes one, as lines of `ip`, and what `doctor` finds on it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from textwrap import fill
from typing import NamedTuple

from fz_iproute.diagnosis.checks import examine
from fz_iproute.diagnosis.checks.finding import Finding
from fz_iproute.diagnosis.machine import Machine
from fz_iproute.diagnosis.reach import Network
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Snapshot
from fz_iproute.mirror.prefix import Family
from fz_iproute.record.recording import Recording
from tests.layouts import LAYOUTS, copied, read

MIRROR, LAN, INTERNET = 539098368, 539098369, 539098370
FIREZONE, TIERED = (list(LAYOUTS[f"Firezone {name}"].lines) for name in ("up to 1.5.3", "from 1.5.5"))
OWN = [
    "-6 route add local ::1 dev lo table 255",
    "route add local 127.0.0.0/8 dev lo scope host table 255",
    "route add local 192.168.1.5 dev eth0 scope host table 255",
    "route add broadcast 192.168.1.255 dev eth0 scope link table 255",
    "route add local 172.17.0.1 dev docker0 scope host table 255",
    "-6 route add local fd00:1::5 dev eth0 table 255",
    "-6 route add anycast fd00:1:: dev eth0 table 255",
    "-6 route add multicast ff00::/8 dev eth0 table 255",
]

SPLIT = [line for line in FIREZONE if "default" not in line]
HALVES = [f"route add {half} dev tun-firezone proto static table {MIRROR}" for half in ("0.0.0.0/1", "128.0.0.0/1")]
SERVED = [*FIREZONE, *copied(MIRROR)]
STALE = "route add 192.168.1.0/24 dev eth0 proto kernel scope link src 192.168.1.99 table 539098368"
TIERS = [*TIERED, "-6 route add fd00:1::/64 dev eth0 proto kernel metric 256 table 539098369"]
HELD = f"route add 203.0.113.0/24 dev tun-firezone proto 245 scope global table {MIRROR}"  # a placeholder
BACKSTOP = f"route add unreachable default proto static metric 4294967295 table {MIRROR}"
WIREGUARD = ["rule add pref 32765 not fwmark 51820 lookup 51820", "route add default dev wg0 table 51820"]
FACTS = {
    "uid": "0",
    "capabilities": "000001ffffffffff",
    "config.path": "/etc/fz-iproute/config.toml",
    "config.mode": "0644",
    "config.uid": "0",
    "networkd": "not in use",
    "/etc/resolv.conf": "nameserver 100.100.111.1\n",
    "/etc/iproute2/rt_tables": "254 main\n",
    "nft": "",
}


class Case(NamedTuple):
    """A machine, and what is said of it."""

    lines: Sequence[str]
    said: str = ""
    config: Config = Config()
    facts: Mapping[str, str | None] = {}  # None for one that is not there
    sysctls: Mapping[str, str | None] = {}
    ip: str = "iproute2-6.1.0"
    is_read: bool = True
    numbered: Mapping[Family, frozenset[str]] = {}

    def read(self) -> tuple[Snapshot, Network]:
        """The machine as the planner reads it, and its network."""
        seen, tables = read([*OWN, *self.lines], self.config)
        return replace(seen, numbered=self.numbered), Network.of(seen, tables)

    @property
    def machine(self) -> Machine:
        """The machine as `doctor` sees it."""
        seen, network = self.read()
        facts, sysctls = (
            {name: value for name, value in found.items() if value is not None}
            for found in ({**FACTS, **self.facts}, {"ipv4/conf/all/rp_filter": "0", **self.sysctls})
        )
        recording = Recording("2026-01-02T03:04:05Z", {"ip": self.ip}, "", sysctls, {}, facts)
        return Machine(self.config, seen, network, recording, is_read=self.is_read)

    def findings(self, name: str = "") -> list[Finding]:
        """What `doctor` finds: all, or that of one check."""
        return [each for each in examine(self.machine) if name in ("", each.name)]


def vpn(*prefixes: str, verb: str = "", dev: str = " dev tun-firezone", table: int = MIRROR) -> list[str]:
    """Routes in the VPN's table."""
    return [f"route add {verb}{prefix}{dev} table {table}" for prefix in prefixes]


def without(words: str, lines: Sequence[str]) -> list[str]:
    """The lines that do not have these words."""
    return [line for line in lines if words not in line]


def told(findings: Iterable[Finding]) -> str:
    """Those that are not ok, without those that every machine with this VPN has."""
    lines = [
        f"{each.name} {each.level}: {each.seen}" + (f" → {each.remedy}" if each.remedy else "")
        for each in findings
        if each.level != "ok"
        and not each.seen.startswith("discovery")
        and not each.seen.startswith("could not look: ip")
    ]
    text = "\n".join(lines)
    for word, short in SHORT.items():
        text = text.replace(word, short)
    return "\n".join(fill(line, 116, break_long_words=False, break_on_hyphens=False) for line in text.splitlines())


SHORT = {"set in /etc/fz-iproute/config.toml, section ": "", "\\n": " ", "/etc/systemd/networkd.conf.d": "FOLDER"}
SHORT |= {"0xfd002021": "MARK", "539098368": "VPN", "539098369": "COPIES"}
