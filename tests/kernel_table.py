"""What a routing table of the kernel does with `add`, `append`, `replace` and `del`.

The fakes of the tests share this module, and tests/netns/test_kernel_table.py compares it with a real kernel.

A route is a dictionary with the keys of `ip -json`; other keys are compared as they are. The routes of one destination
stand in a list, in the kernel's order.
"""

EXISTS, MISSING = "File exists", "No such process"
_PATH = ("gateway", "via", "dev", "nexthops", "nhid")
_STATE = {"expires", "cache", "flags"}


def order(route, family):
    """The key by which the kernel sorts the routes of one destination."""
    metric = route.get("metric", 0)
    return (metric,) if family == "inet6" else (-int(route.get("tos") or "0", 0), metric)


def add(routes, route, named, family):
    """Refused if any route has the same tos and metric."""
    return EXISTS if _twins(routes, route, family) else _insert(routes, route, family)


def append(routes, route, named, family):
    """IPv4 refuses an identical route, IPv6 one with the same path. Any other goes behind its twins."""
    same = _same_path if family == "inet6" else _same
    if any(same(routes[place], route) for place in _twins(routes, route, family)):
        return EXISTS
    return _insert(routes, route, family)


def replace(routes, route, named, family):
    """The first twin is replaced, whatever its path. IPv4 refuses what is identical to a later twin."""
    first, *later = _twins(routes, route, family) or [None]
    if first is None:
        return _insert(routes, route, family)
    if family == "inet" and not _same(routes[first], route) and any(_same(routes[place], route) for place in later):
        return EXISTS
    routes[first] = route
    return ""


def delete(routes, route, named, family):
    """The first route goes that has what the command names. Both families take metric 0 for any metric.

    IPv6 compares only the path, the metric and the protocol. IPv4 also compares an absent tos. Of a route with several
    next hops, IPv4 compares the first one if the command names one device or gateway. If the command names several,
    IPv4 compares the devices of as many as the route has.
    """
    usual = {"protocol": "boot"} if family == "inet6" else {"protocol": "boot", "scope": "global"}
    compared = {key: value for key, value in named.items() if key not in _STATE and (key, value) != ("metric", 0)}
    if family == "inet6":
        compared = {key: value for key, value in compared.items() if key in {*_PATH, "metric", "protocol"}}
    else:
        compared["tos"] = named.get("tos")
    asked = [hop["dev"] for hop in compared.pop("nexthops", None) or []]
    for place, other in enumerate(routes):
        found = {**usual, **other}
        hops = found.get("nexthops") or [found]
        devices = [hop.get("dev") for hop in hops]
        found |= hops[0]
        is_alike = not asked or devices == asked[: len(devices)]
        if is_alike and all(found.get(key) == value for key, value in compared.items()):
            del routes[place]
            return ""
    return MISSING


VERBS = {"add": add, "append": append, "replace": replace, "del": delete}


def _twins(routes, route, family):
    return [place for place, other in enumerate(routes) if order(other, family) == order(route, family)]


def _insert(routes, route, family):
    behind = [place for place, other in enumerate(routes, start=1) if order(other, family) <= order(route, family)]
    routes.insert(behind[-1] if behind else 0, route)
    return ""


def _same(one, other):
    return _meant(one) == _meant(other)


def _meant(route):
    """The route without its state: of the flags, only `onlink` can be asked for."""
    return {key: value for key, value in route.items() if key not in _STATE}, "onlink" in route.get("flags", [])


def _same_path(one, other):
    return [one.get(key) for key in _PATH] == [other.get(key) for key in _PATH]
