"""Reads the sysctls that decide what becomes of a packet beside rules and routes. They are never written."""

from collections.abc import Iterable
from pathlib import Path

from fz_iproute.kernel.ip import Ip

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


def sysctls(ip: Ip, netns: str | None, devices: Iterable[str]) -> dict[str, str]:
    """Values by name, such as `ipv4/conf/all/rp_filter`. What cannot be read is left out."""
    names = [*_GLOBAL, *(name.format(device) for device in ("all", "default", *devices) for name in _OF_DEVICE)]
    if netns:
        return _elsewhere(ip, netns, names)
    found = {}
    for name in names:
        try:
            found[name] = (_ROOT / name).read_text().strip()
        except OSError:
            continue
    return found


def _elsewhere(ip: Ip, netns: str, names: Iterable[str]) -> dict[str, str]:
    """In another network namespace only a process in there sees them."""
    # No argument of a process can name a device that is no text.
    paths = [f"{_ROOT}/{name}" for name in names if name == name.encode(errors="replace").decode()]
    answer = ip.start("netns", "exec", netns, "grep", "-sH", "", *paths).answer()
    found = {}
    for line in answer.stdout.decode("utf-8", "surrogateescape").splitlines():
        path, _, value = line.rpartition(":")
        found[path.removeprefix(f"{_ROOT}/")] = value
    return found
