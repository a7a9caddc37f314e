"""Reads the sysctls that affect where packets go. Only a lab writes them."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from fz_iproute.ip.ip import Ip

_ROOT = Path("/proc/sys/net")
_GLOBAL = ("ipv4/ip_forward", "ipv4/nexthop_compat_mode", "ipv6/conf/all/forwarding")
_OF_DEVICE = (
    "ipv4/conf/{}/rp_filter",
    "ipv4/conf/{}/src_valid_mark",
    "ipv4/conf/{}/forwarding",
    "ipv4/conf/{}/ignore_routes_with_linkdown",
    "ipv4/conf/{}/promote_secondaries",
    "ipv6/conf/{}/disable_ipv6",
)


def sysctls(ip: Ip, devices: Iterable[str]) -> dict[str, str]:
    """Values by name, such as `ipv4/conf/all/rp_filter`. A sysctl that cannot be read is left out."""
    # A device name that is not UTF-8 cannot be part of an argument.
    names = (name for name in _names(devices) if name == name.encode(errors="replace").decode())
    # Only a process inside a network namespace can read those of the namespace.
    answer = ip.start_other("grep", "-sH", "", *(f"{_ROOT}/{name}" for name in names)).answer()
    found = {}
    # splitlines() would be wrong: the name of a device may have a character that Python takes for a line end.
    for line in answer.stdout.decode("utf-8", "surrogateescape").split("\n")[:-1]:
        path, _, value = line.rpartition(":")
        found[path.removeprefix(f"{_ROOT}/")] = value
    return found


def _names(devices: Iterable[str]) -> list[str]:
    # The order matters: writing one of the first also sets later ones, and the same sysctl of every device.
    return [*_GLOBAL, *(name.format(device) for device in ("all", "default", *devices) for name in _OF_DEVICE)]


def prepare_lab() -> None:
    """Keep the kernel from adding addresses to new links itself, and from detecting duplicates before it uses one."""
    for devices in ("all", "default"):
        for name, value in {"accept_dad": "0", "addr_gen_mode": "1", "accept_ra": "0"}.items():
            with suppress(OSError):
                (_ROOT / f"ipv6/conf/{devices}/{name}").write_text(value)


def restore(recorded: Mapping[str, str], devices: Iterable[str]) -> list[str]:
    """Set the recorded values, once the devices exist. Returns a line for each that could not be set."""
    failures = []
    for name in _names(devices):
        value = recorded.get(name, "")
        try:
            if _VALUE.fullmatch(value) and (_ROOT / name).read_text().strip() != value:
                (_ROOT / name).write_text(value)
        except OSError as error:
            failures.append(f"sysctl {name} = {value}: {error.strerror}")
    return failures


_VALUE = re.compile(r"-?\d{1,10}", re.ASCII)
