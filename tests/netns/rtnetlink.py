"""Raw rtnetlink dumps: reads the kernel without `ip` and without the program under test."""

import ctypes
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

CLONE_NEWNET = 0x40000000
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x10, 0x300
RTM_GETROUTE, RTM_GETRULE = 26, 34
RTN_UNICAST, RT_SCOPE_LINK = 1, 253
RTNH_F_ONLINK = 4  # the only flag that is configuration; all others are state
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH = 1, 4, 5, 6, 9
RTA_CACHEINFO, RTA_TABLE, RTA_VIA, RTA_EXPIRES, RTA_NH_ID = 12, 15, 18, 23, 30
(FRA_PRIORITY, FRA_FWMARK, FRA_SUPPRESS_PREFIXLEN, FRA_TABLE, FRA_FWMASK, FRA_PROTOCOL) = (6, 10, 14, 15, 16, 21)
FR_ACT_TO_TBL, FIB_RULE_INVERT, RTPROT_KERNEL = 1, 2, 2
RTM_F_CLONED = 0x200
FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
_RTMSG = struct.Struct("=BBBBBBBBI")
_NLMSGHDR = struct.Struct("=IHHII")

_libc = ctypes.CDLL(None, use_errno=True)
_Result = TypeVar("_Result")


class RawRoute(NamedTuple):
    """A route as the kernel prints it, without its table and its state; values are bytes in hex."""

    family: int
    dst_len: int
    src_len: int
    tos: int
    protocol: int
    scope: int
    type: int
    flags: int
    attributes: tuple[tuple[int, str], ...]

    @property
    def group(self) -> tuple[str, int, int, str]:
        """Destination, tos and metric: among routes with the same, the first wins."""
        said = dict(self.attributes)
        return said.get(RTA_DST, ""), self.dst_len, self.tos, said.get(RTA_PRIORITY, "")

    @property
    def path(self) -> tuple[object, ...]:
        """Destination, metric and path: IPv6 has no two routes with the same."""
        said = dict(self.attributes)
        return *self.group, said.get(RTA_OIF), said.get(RTA_GATEWAY), said.get(RTA_NH_ID)

    @property
    def devices(self) -> set[int]:
        """The indexes of the interfaces it leaves by."""
        said = dict(self.attributes)
        found = {struct.unpack("=i", bytes.fromhex(said[RTA_OIF]))[0]} if RTA_OIF in said else set()
        return found | {index for _, index, _ in _nexthops(bytes.fromhex(said.get(RTA_MULTIPATH, "")))}

    @property
    def gatewayed(self) -> bool:
        """True if some nexthop is a router."""
        said = dict(self.attributes)
        inside = [kind for *_, rest in _nexthops(bytes.fromhex(said.get(RTA_MULTIPATH, ""))) for kind, _ in rest]
        return bool({RTA_GATEWAY, RTA_VIA} & {*said, *inside})

    @property
    def on_link(self) -> bool:
        """Unicast, not default, and without a router; in IPv4, of scope link too."""
        return (
            self.type == RTN_UNICAST
            and self.dst_len > 0
            and bool(self.devices)
            and not self.gatewayed
            and (self.family == socket.AF_INET6 or self.scope == RT_SCOPE_LINK)
        )


def inside(namespace: str, act: Callable[[], _Result]) -> _Result:
    """Run `act` in a thread that has moved to the network namespace; what it opens stays there."""

    def work() -> _Result:
        with (Path("/run/netns") / namespace).open() as file:
            if _libc.setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {namespace}")
        return act()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def connect(namespace: str) -> socket.socket:
    """A netlink socket in the namespace; it stays there, whichever thread uses it."""
    return inside(namespace, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE))


def routes(netlink: socket.socket, family: str, table: int) -> list[RawRoute]:
    """The routes of a table, in the kernel's order."""
    found = (_route(payload) for payload in dump(netlink, RTM_GETROUTE, family))
    return [route for number, route in found if number == table]


def all_routes(netlink: socket.socket, family: str) -> list[tuple[int, RawRoute]]:
    """The routes of every table, each with the number of its table, without the kernel's cache."""
    payloads = dump(netlink, RTM_GETROUTE, family)
    return [_route(payload) for payload in payloads if not _RTMSG.unpack_from(payload)[8] & RTM_F_CLONED]


class RawRule(NamedTuple):
    """A rule as the kernel prints it."""

    family: str
    priority: int
    table: int
    action: int
    inverted: bool
    mark: int
    mask: int
    protocol: int
    rest: tuple[tuple[int, str], ...]  # whatever else it has: addresses, interfaces, ports, …


def rules(netlink: socket.socket, family: str) -> list[RawRule]:
    """The rules, in the kernel's order."""
    return [_rule(family, payload) for payload in dump(netlink, RTM_GETRULE, family)]


def dump(netlink: socket.socket, question: int, family: str) -> list[bytes]:
    """The messages of a dump. It is repeated if the kernel reports that it was interrupted."""
    for _ in range(100):
        answers = _ask(netlink, question, FAMILIES[family])
        if answers is not None:
            return answers
    raise AssertionError("the kernel never gave a consistent dump")


def _ask(netlink: socket.socket, question: int, family: int) -> list[bytes] | None:
    body = struct.pack("=B15x", family)
    netlink.send(_NLMSGHDR.pack(_NLMSGHDR.size + len(body), question, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
    answers: list[bytes] = []
    consistent = True
    while True:
        data = netlink.recv(1 << 20)
        position = 0
        while position < len(data):
            length, kind, flags, _, _ = _NLMSGHDR.unpack_from(data, position)
            payload = data[position + _NLMSGHDR.size : position + length]
            position += (length + 3) & ~3
            consistent = consistent and not flags & NLM_F_DUMP_INTR
            if kind == NLMSG_DONE:
                return answers if consistent else None
            if kind == NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", payload)[0], "netlink")
            answers.append(payload)


def _route(payload: bytes) -> tuple[int, RawRoute]:
    family, dst_len, src_len, tos, table, protocol, scope, type_, flags = _RTMSG.unpack_from(payload)
    kept = []
    for kind, value in _attributes(payload[_RTMSG.size :]):
        if kind == RTA_TABLE:
            table = struct.unpack("=I", value)[0]
        elif kind == RTA_MULTIPATH:
            kept.append((kind, _without_state(value).hex()))
        elif kind not in (RTA_CACHEINFO, RTA_EXPIRES):
            kept.append((kind, value.hex()))
    return table, RawRoute(family, dst_len, src_len, tos, protocol, scope, type_, flags & RTNH_F_ONLINK, tuple(kept))


def _rule(family: str, payload: bytes) -> RawRule:
    _, dst_len, src_len, tos, table, _, _, action, flags = _RTMSG.unpack_from(payload)
    said = dict(_attributes(payload[_RTMSG.size :]))
    # The kernel always prints a suppress_prefixlength, which is -1 for none.
    usual = {FRA_TABLE, FRA_PRIORITY, FRA_FWMARK, FRA_FWMASK, FRA_PROTOCOL}
    rest = [(kind, value.hex()) for kind, value in sorted(said.items()) if kind not in usual]
    header = [(-1, f"{dst_len} {src_len} {tos}")] if dst_len or src_len or tos else []

    def number(kind: int, absent: int = 0) -> int:
        return int.from_bytes(said[kind], sys.byteorder) if kind in said else absent

    return RawRule(
        family=family,
        priority=number(FRA_PRIORITY),
        table=number(FRA_TABLE, table),
        action=action,
        inverted=bool(flags & FIB_RULE_INVERT),
        mark=number(FRA_FWMARK),
        mask=number(FRA_FWMASK),
        protocol=number(FRA_PROTOCOL),
        rest=(*header, *(pair for pair in rest if pair != (FRA_SUPPRESS_PREFIXLEN, "ffffffff"))),
    )


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def _nexthops(data: bytes) -> Iterator[tuple[int, int, list[tuple[int, bytes]]]]:
    """Offset, device and attributes of each `struct rtnexthop`."""
    offset = 0
    while offset + 8 <= len(data):
        length, _, _, index = struct.unpack_from("=HBBi", data, offset)
        yield offset, index, list(_attributes(data[offset + 8 : offset + length]))
        offset += (length + 3) & ~3


def _without_state(multipath: bytes) -> bytes:
    cleaned = bytearray(multipath)
    for offset, _, _ in _nexthops(multipath):
        cleaned[offset + 2] &= RTNH_F_ONLINK
    return bytes(cleaned)
