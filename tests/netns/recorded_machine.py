"""The machine on which each version of `ip` was recorded for tests/recorded: always the same one.

`python -m tests.netns.recorded_machine FOLDER` records the `ip` that comes first in PATH.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fz_iproute.ip.ip import Ip
from fz_iproute.mirror.config_text import parse
from fz_iproute.record.recording import dump
from fz_iproute.record.take import take
from tests.netns.namespace import MARK, MIRROR, TUNNEL, Namespace, removing, run, wait_until

# Names that JSON or a shell could misread, too.
_DEVICES = ["v0", "v1", "v2", "uplink0", "a'b"]
_MACHINE = [
    *(
        f"link add name {name} address 02:00:00:00:00:{number:02x} type veth peer name far{number}"
        f" address 02:00:00:00:01:{number:02x}"
        for number, name in enumerate(_DEVICES)
    ),
    *(f"link set dev {end} up" for number, name in enumerate(_DEVICES) for end in (f"far{number}", name)),
    "link add name br7 address 02:00:00:00:02:00 type bridge",
    "link set dev br7 up",
    "address add 192.168.188.112/24 brd + dev v0 metric 600",
    "address add 192.168.188.113/24 dev v0",
    "address add 10.1.0.2/24 dev v1",
    "address add 10.77.0.2/24 dev uplink0",
    "address add 172.17.0.1/16 dev br7",
    "address add 10.9.0.5 peer 10.9.0.9/32 dev a'b",
    "-6 address add fd00:188::112/64 dev v0 nodad",
    "-6 address add fd00:1::2/64 dev v1 nodad",
    "-6 address add fd00:77::2/64 dev uplink0 nodad",
    "nexthop add id 1 dev v0",
    "nexthop add id 2 via 10.1.0.77 dev v1",
    "nexthop add id 3 dev v2",
    "nexthop add id 9 group 1,3/3",
    "-6 nexthop add id 11 dev v0",
    "route add default via 10.77.0.1 dev uplink0 proto dhcp metric 100",
    "-6 route add default via fd00:77::1 dev uplink0 metric 100",
    "route add 10.2.0.0/16 scope link nhid 1",
    "route add 10.3.0.0/24 scope link nhid 9",
    "route add 10.4.0.0/24 nhid 2",
    "route add 198.51.100.0/24 scope link dev v0 mtu 1400 advmss 1300 initcwnd 20",
    "route append 198.51.100.0/24 scope link dev v1 mtu lock 1400",
    "route add 198.51.101.0/24 scope link dev v1 rtt 30ms rto_min 200ms congctl reno features ecn",
    "route add 172.16.5.0/24 scope link nexthop dev v0 weight 2 nexthop dev v1 weight 7",
    "route add 10.50.0.0/16 via 10.1.0.77 dev v1 onlink",
    "route add 10.50.0.0/24 dev v0 scope link tos 0x10 realms 3/4",
    "route add 10.50.1.0/24 dev v0 scope link proto 77 metric 7",
    "route append 10.50.1.0/24 dev v1 scope link proto babel metric 7",
    "route add 10.60.0.0/24 dev v0 proto static",
    "route add 10.70.0.0/24 via inet6 fd00:1::77 dev v1",
    "route add 10.80.0.0/24 dev a'b scope link src 10.9.0.5",
    "route add 10.81.0.0/24 encap ip id 7 dst 10.1.0.9 dev v1 scope link",
    "route add throw 203.0.113.0/25",
    "route add multicast 239.1.0.0/16 dev v0",
    f"route add blackhole 203.0.113.0/24 table {MIRROR}",
    "route add prohibit 240.0.0.0/8 table 77",
    "-6 route add fd07::/64 nhid 11",
    "-6 route add fd08::/64 dev v0 pref high metric 77 mtu 1400",
    "-6 route append fd08::/64 dev v1 metric 77",
    "-6 route add fd09::/64 nexthop via fd00:188::77 dev v0 weight 2 nexthop via fd00:1::77 dev v1",
    "-6 route add fd0a::/64 dev v0 expires 100000",
    "-6 route add unreachable 2001:db8:7::/48",
    *(
        f"{option}route add {dst} dev {TUNNEL} proto static table {MIRROR}"
        for option, destinations in (("", ["default", "100.64.0.0/11"]), ("-6 ", ["default", "fd00:2021:1111::/48"]))
        for dst in destinations
    ),
    # Copies: one in step, one stale.
    f"route add table {MIRROR} 192.168.188.0/24 dev v0 proto kernel scope link src 192.168.188.112 metric 600",
    f"route add table {MIRROR} 192.168.7.0/24 dev v0 proto kernel scope link src 192.168.188.112",
    *(f"{option}rule add not fwmark {MARK:#x} lookup {MIRROR} pref 32765" for option in ("", "-6 ")),
    "rule add pref 50 to 240.0.0.0/4 lookup 77",
    "rule add pref 60 from 10.1.0.0/16 fwmark 0x7/0xff lookup 78 suppress_prefixlength 0",
    "rule add pref 70 ipproto tcp sport 5000 dport 22-23 lookup 78 protocol static",
    "rule add pref 75 uidrange 0-0 iif v0 lookup 78",
    "rule add pref 80 to 10.9.0.9 goto 32766",
    "rule add pref 90 to 192.0.2.9 prohibit",
    "-6 rule add pref 40 tos 0xb8 ipproto ipv6-icmp lookup 78 realms 7",
    "-6 rule add pref 50 from fd00:1::/64 lookup 79",
]
# One after another, beside `ip monitor`.
_CHANGES = [
    "address add 10.6.0.2/24 dev v2",
    "route replace 10.61.0.0/24 dev v0 scope link",
    "route add 10.62.0.0/24 via 10.1.0.77 dev v1",
    "route add blackhole 10.63.0.0/24",
    "route add 10.64.0.0/24 dev v0 table 77",
    "route del 10.61.0.0/24",
    f"route del table {MIRROR} 192.168.7.0/24",
    "route add 10.65.0.0/24 scope link nexthop dev v0 nexthop dev v1",
    "-6 route add fd0b::/64 dev v0",
    "-6 route add fd0c::/64 via fd00:1::77 dev v1",
    "-6 route del fd0b::/64 dev v0",
    "rule add pref 33 fwmark 0x9 lookup 77",
    "rule del pref 33",
    "nexthop add id 20 dev v2",
    "link set dev v2 down",
    "link set dev v2 name was-v2",
    "address del 192.168.188.113/24 dev v0",
    "link del dev br7",
]
# Lines of a batch that are refused, each for another reason, between two that work.
_REFUSED = [
    "route add table 77 10.90.0.0/24 dev v0",
    "route add table 77 10.90.0.0/24 dev v0",
    "route del table 77 10.91.0.0/24 dev v0",
    "route add table 77 10.92.0.0/24 dev nobody",
    "rule del pref 34",
    "route add table 77 10.94.0.0/24 dev v0",
]
_QUESTIONS = {
    "no table": "-json -4 route show table 4242",
    "no link": "-json link show dev nobody",
    "a route": "-json -4 route get 192.168.188.9",
    "no route": "-json -4 route get 240.0.0.7",
}


class Said(NamedTuple):
    """How an `ip` ended, and what it printed."""

    code: int
    stdout: str
    stderr: str


@contextmanager
def machine(runtime: Path) -> Iterator[Namespace]:
    """The machine, until the end of the block."""
    with removing(Namespace(runtime)) as made:
        made.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)  # no link-local addresses
        made.tunnel(TUNNEL, "100.64.0.5/32", "fd00:2021:1111::5/128")
        for line in _MACHINE:
            made.ip(*line.split())
        yield made


def record(namespace: Namespace) -> dict[str, Any]:
    """All that is recorded, of the `ip` that comes first in PATH. The machine is another one after that."""
    return {
        "version": Ip(namespace.name).version,
        "snapshot": snapshot(namespace),
        "refused": _said(namespace, "-4 -force -batch -", "".join(f"{line}\n" for line in _REFUSED)),
        "questions": {name: _said(namespace, words) for name, words in _QUESTIONS.items()},
        "monitor": _monitored(namespace),
    }


def snapshot(namespace: Namespace) -> Any:
    """The document, without anything of the machine that the tests run on."""
    recorded = take(Ip(namespace.name), parse("", "defaults"), None, namespace.name)
    return json.loads(dump(replace(recorded, taken="", versions={}, facts={}, sysctls={})))


def _said(namespace: Namespace, words: str, stdin: str = "") -> Said:
    done = run("ip", "-n", namespace.name, *words.split(), stdin=stdin, check=False)
    return Said(done.returncode, done.stdout, done.stderr)


def _monitored(namespace: Namespace) -> dict[str, list[str]]:
    """The lines of `ip monitor` for each change."""
    listening = ["ip", "-n", namespace.name, "-N", "-oneline", "monitor", "label"]
    argv = [*listening, "link", "address", "route", "rule", "nexthop"]
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryFile() as output, subprocess.Popen(argv, stdout=output) as monitor:
        heard: list[str] = []

        def is_heard(mtu: int) -> bool:
            # Before the subscription, events are lost. What is set again as it is makes none.
            for value in (1300, mtu):
                namespace.ip("link", "set", "dev", "far0", "mtu", str(value))
            heard[:] = os.pread(output.fileno(), 1 << 20, 0).decode().splitlines()
            return bool(heard) and f" mtu {mtu} " in heard[-1]

        try:
            for number, change in enumerate(["link set dev far0 group 7", *_CHANGES]):
                namespace.ip(*change.split())
                before = len(heard)
                # Events arrive in order: that of another MTU is the last.
                wait_until(partial(is_heard, 1400 + number), f"ip monitor prints the event of {change}")
                found[change] = [line for line in heard[before:] if not re.search(r" far0\b.* mtu 1[34]\d\d ", line)]
        finally:
            monitor.kill()
    del found["link set dev far0 group 7"]  # it may be older than the monitor
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, machine(Path(folder)) as here:
        Path(folder).chmod(0o700)
        document = record(here)
    name = document["version"].partition("iproute2-")[2].partition(",")[0]
    (Path(sys.argv[1]) / f"{name}.json").write_text(f"{json.dumps(document, indent=1)}\n")
