"""All that can be asked of a recorded machine, and an ordinary user who asks it."""

import ctypes
import multiprocessing
import os
import tomllib  # noqa: F401  # what is imported late lies where nobody may look
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import TypeVar

import loguru  # noqa: F401

from tests.netns.namespace import Namespace
from tests.netns.rtnetlink import CLONE_NEWNET
from tests.user_ids import need_user_ids

_Result = TypeVar("_Result")


def addresses() -> list[str]:
    """A hundred: own ones, broadcasts, neighbours, resources, the internet, multicast, loopback, nobody's."""
    networks = [
        *("192.168.188.0/24", "10.77.0.0/24", "10.1.0.0/24", "10.2.0.0/16", "10.3.0.0/24", "10.50.0.0/16"),
        *("100.64.0.0/11", "100.96.7.0/24", "100.100.111.0/24", "203.0.113.0/24", "172.16.5.0/24", "198.51.100.0/24"),
        *("fd00:188::/64", "fd00:77::/64", "fd00:1::/64", "fd00:2021:1111::/48", "2001:db8:7::/64", "fd07::/64"),
    ]
    found = [
        *("192.168.188.112", "10.77.0.2", "100.64.0.5", "127.0.0.1", "127.8.9.10", "8.8.8.8", "1.1.1.1"),
        *("224.0.0.1", "224.0.0.251", "239.255.255.250", "255.255.255.255", "0.0.0.0", "169.254.7.7", "240.0.0.1"),
        *("10.1.0.5", "10.2.0.5", "10.3.0.5", "10.9.0.7", "192.0.2.9", "100.127.255.255", "172.31.0.1", "0.0.0.7"),
        *("fd00:188::112", "fd00:77::2", "fd00:2021:1111::5", "::1", "::"),
        *("fe80::1", "fe80::", "ff02::1", "ff02::fb", "ff05::2"),
        *("2001:4860:4860::8888", "2600::1", "fd00:1::5", "fc00::9", "64:ff9b::1.2.3.4"),
    ]
    for network in map(ip_network, networks):
        found += [str(network[place]) for place in (0, 1, 77, network.num_addresses - 1)]
    return list(dict.fromkeys(found))[:100]


def as_nobody(namespace: Namespace, work: Callable[[], _Result]) -> _Result:
    """What the work results in for an ordinary user in this namespace, who has no `ip` and no capability."""
    need_user_ids()
    receiving, sending = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        _become_nobody(namespace)
        sending.send(work())

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    sending.close()
    try:
        result: _Result = receiving.recv()
    finally:
        process.join()
    return result


_NOBODY = 65534


def _become_nobody(namespace: Namespace) -> None:
    with (Path("/run/netns") / namespace.name).open() as file:
        assert 0 == ctypes.CDLL(None).setns(file.fileno(), CLONE_NEWNET)
    os.environ["PATH"] = "/nonexistent"
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    capabilities = [line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line]
    assert ["0" * 16] == [line.split()[1] for line in capabilities]
