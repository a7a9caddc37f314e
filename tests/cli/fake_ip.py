"""A stand-in for `ip`: a small kernel in a JSON file, and on request everything that can go wrong with it.

It knows the reads and writes that the program uses, and says what iproute2 6.1 says. It runs as a program of its own,
with nothing but the standard library; the tests write and read its state through `world.py`.
"""

import fcntl
import json
import os
import re
import signal
import sys
import time
from ipaddress import ip_network

TABLES = {"default": "253", "main": "254", "local": "255"}
TYPES = {"unicast", "broadcast", "multicast", "anycast", "local", "blackhole", "unreachable", "prohibit", "throw"}
METRICS = {
    "mtu": int, "advmss": int, "window": int, "ssthresh": int, "cwnd": int, "reordering": int, "hoplimit": int,
    "initcwnd": int, "initrwnd": int, "quickack": int, "fastopen_no_cookie": int, "congctl": str, "features": str,
    "rtt": lambda word: int(word.removesuffix("ms")),
    "rttvar": lambda word: int(word.removesuffix("ms")),
    "rto_min": lambda word: int(word.removesuffix("ms")),
}  # fmt: skip
OPTIONS = {"-4", "-6", "-N", "-json", "-oneline", "-force", "-V"}
PATH_KEYS = ("gateway", "via", "dev", "nexthops", "nhid")


class Failed(Exception):
    """One command has failed: `ip`'s words and its exit code. In a batch, `ends` says whether it is the last."""

    def __init__(self, words, code, *, ends=False):
        super().__init__(words)
        self.code = code
        self.ends = ends


def main(folder, argv):
    """Be `ip` for once. Returns the exit code."""
    state_path = os.path.join(folder, "state.json")  # noqa: PTH118  # pathlib takes longer than all the rest
    with open(os.path.join(folder, "state.lock"), "w") as turn:  # noqa: PTH118, PTH123
        fcntl.flock(turn, fcntl.LOCK_EX)
        with open(state_path) as file:  # noqa: PTH123
            state = json.load(file)
        fault = _fault(state, argv)
        if "hang" in fault or "-batch" not in argv:
            # Only a batch keeps the state to itself to the end.
            if fault.get("times") is not None:
                _store(state, state_path)
            fcntl.flock(turn, fcntl.LOCK_UN)
        if "hang" in fault:
            with open(os.path.join(folder, f"{os.getpid()}.pid"), "w"):  # noqa: PTH118, PTH123
                time.sleep(60)
        try:
            return _answer(state, argv, fault)
        except Failed as failed:
            print(failed, file=sys.stderr)
            return failed.code
        finally:
            if "-batch" in argv or argv[-1:] != ["show"]:
                _store(state, state_path)
            sys.stdout.flush()
            if "signal" in fault:
                os.kill(os.getpid(), fault["signal"])


def _fault(state, argv):
    for fault in state["faults"]:
        if re.search(fault["match"], " ".join(argv)) and fault.get("times") != 0:
            if "times" in fault:
                fault["times"] -= 1
            return fault
    return {}


def _store(state, path):
    new = f"{path}.{os.getpid()}"
    with open(new, "w") as file:  # noqa: PTH123
        json.dump(state, file)
    os.replace(new, path)  # noqa: PTH105  # those who only read take no lock


def _answer(state, argv, fault):
    if "exit" in fault:
        sys.stdout.buffer.write(fault.get("stdout", "").encode("utf-8", "surrogateescape"))
        sys.stderr.write(fault.get("stderr", ""))
        return fault["exit"]
    options, words = _options(state, argv)
    if "-V" in options:
        print("ip utility, iproute2-6.1.0, libbpf 1.1.2")
        return 0
    family = "inet6" if "-6" in options else "inet"
    if "-batch" in options:
        return _batch(state, family, fault)
    if words[:1] == ["route"] and words[1] != "show":
        _route(state, family, words)
        return 0
    documents = [
        {key: value for key, value in document.items() if not key.startswith("_")}
        if "-json" in options
        else _text(document)
        for document in _show(state, family, words)
    ]
    text = json.dumps(documents, separators=(",", ":"), ensure_ascii=False)
    text = f"{text}\n" if "-json" in options else "".join(f"{line}\n" for line in documents)
    data = text.encode("utf-8", "surrogateescape")
    sys.stdout.buffer.write(data[: int(len(data) * fault.get("cut", 1))])
    return 0


def _options(state, argv):
    options, words = [], list(argv)
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option == "-n":
            if (name := words.pop(0)) not in state["netns"]:
                raise Failed(f'Cannot open network namespace "{name}": No such file or directory', 255)
        elif option == "-batch":
            options += [option, words.pop(0)]
        elif option in OPTIONS:
            options.append(option)
        else:
            raise Failed(f'Option "{option}" is unknown, try "ip -help".', 255)
    return options, words


# Reads


def _show(state, family, words):
    kind, verb, *rest = words
    if verb != "show":
        raise Failed(f'Command "{verb}" is unknown, try "ip {kind} help".', 255)
    if kind == "link":
        return state["links"]
    if kind == "nexthop":
        return state["nexthops"]
    if kind == "rule":
        return state["rules"][family]
    if kind != "route":
        raise Failed(f'Object "{kind}" is unknown, try "ip help".', 255)
    return _routes(state, family, dict(zip(rest[::2], rest[1::2], strict=True)))


def _routes(state, family, filters):
    table = filters.pop("table")
    routes = state["routes"][family].get(TABLES.get(table, table))
    if routes is None:
        # As `ip` does: the bracket is out before the answer comes.
        print("[", end="")
        raise Failed(f"Error: {family.replace('inet', 'ipv') if family == 'inet6' else 'ipv4'}: "
                     "FIB table does not exist.\nDump terminated", 2)  # fmt: skip
    if "scope" in filters:
        scope = filters.pop("scope")
        # IPv6 has no scope, and what is asked for is not said again.
        routes = [
            {key: value for key, value in route.items() if key != "scope"}
            for route in routes
            if family == "inet" and route.get("scope", "global") == scope
        ]
    if "root" in filters:
        root = ip_network(filters.pop("root"))
        routes = [route for route in routes if _network(route["dst"], family).subnet_of(root)]
    if filters:
        raise Failed(f'Error: argument "{next(iter(filters))}" is wrong: unknown filter', 255)
    return routes


def _network(dst, family):
    return ip_network(dst if dst != "default" else "0.0.0.0/0" if family == "inet" else "::/0")


def _text(route):
    words = [route["dst"]]
    for key, name in {"gateway": "via", "dev": "dev", "protocol": "proto", "scope": "scope", "metric": "metric"}.items():
        words += [name, str(route[key])] if key in route else []
    for metrics in route.get("metrics", []):
        for name, value in metrics.items():
            words += [name, *(["lock"] if name in route.get("_lock", []) else []), str(value)]
    return " ".join(words) + " "


# Writes


def _batch(state, family, fault):
    lines = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").splitlines()
    state["batches"].append(len(lines))
    code = 0
    table = _Index(state, family)
    for number, line in enumerate(lines, start=1):
        if fault.get("die_after") == number - 1:
            table.flatten()
            fault["signal"] = signal.SIGKILL
            return 0
        try:
            if fault.get("nonsense_at") == number:
                raise Failed('Error: either "to" is duplicate, or "nonsense" is a garbage.', 255, ends=True)
            _line(state, family, line, fault, table)
        except Failed as failed:
            print(failed, file=sys.stderr)
            if failed.ends:
                table.flatten()
                return failed.code
            print(f"Command failed -:{number}", file=sys.stderr)
            code = 1
    table.flatten()
    return code


def _line(state, family, line, fault, table):
    if "refuse" in fault and re.search(fault["refuse"], line):
        raise Failed(fault["words"], 2)
    if "forget" in fault and re.search(fault["forget"], line):
        return
    _route(state, family, _words(line), table)
    if "beaten" in fault and re.search(fault["beaten"], line):
        # Somebody else did the same a moment ago: the state is right, and yet `ip` complains.
        raise Failed("RTNETLINK answers: No such process" if " del " in line else "RTNETLINK answers: File exists", 2)


def _words(line):
    """Splits a line as `ip -batch` does: a `#` starts a comment anywhere, a quote only starts a word."""
    rest = line.partition("#")[0].strip()
    words = []
    while rest:
        if rest[0] in "'\"":
            word, closed, rest = rest[1:].partition(rest[0])
            if not closed:
                raise Failed("Unterminated quoted string", 1, ends=True)
        else:
            word, _, rest = rest.partition(" ")
        words.append(word)
        rest = rest.lstrip()
    return words


class _Index:
    """The tables of one family by destination: ten thousand lines must not search ten thousand routes each."""

    def __init__(self, state, family):
        self._tables = state["routes"][family]
        self._by_dst = {}

    def group(self, table, dst):
        if table not in self._by_dst:
            found = self._by_dst[table] = {}
            for route in self._tables.get(table, []):
                found.setdefault(route["dst"], []).append(route)
        return self._by_dst[table].setdefault(dst, [])

    def flatten(self):
        for table, groups in self._by_dst.items():
            self._tables[table] = [route for group in groups.values() for route in group]


def _route(state, family, words, table=None):
    index = table or _Index(state, family)
    if words[:1] != ["route"] or words[1] not in VERBS:
        raise Failed(f'Command "{" ".join(words[:2])}" is unknown, try "ip help".', 255, ends=True)
    number, route, given = _parsed(state, family, words[2:])
    VERBS[words[1]](index.group(number, route["dst"]), route, given, family)
    if table is None:
        index.flatten()


def _parsed(state, family, words):
    """The table, the route as `ip -json` would show it, and the keys that the command names."""
    number, route, metrics = TABLES["main"], {}, {}
    words = list(words)
    while words:
        word = words.pop(0)
        if word in TYPES:
            route["type"] = word
        elif word == "onlink":
            route["flags"] = ["onlink"]
        elif word == "nexthop":
            route["nexthops"] = _hops(state, [word, *words])
            break
        elif word in METRICS and words:
            value = METRICS[word](words.pop(0))
            metrics |= {"ecn": None} if word == "features" else {"congestion" if word == "congctl" else word: value}
        elif word == "table" and words:
            number = words.pop(0)
            number = TABLES.get(number, number)
        elif word == "via" and words[:1] and words[0] in ("inet", "inet6"):
            route["via"] = {"family": words.pop(0), "host": words.pop(0)}
        elif word == "realms" and words:
            source, slash, to = words.pop(0).partition("/")
            route["flow"] = {"from": source, "to": to} if slash else {"to": source}
        elif word in KEYS and words:
            route[KEYS[word]] = words.pop(0)
        elif "dst" not in route and (word == "default" or re.fullmatch(r"[0-9a-f:.]+(/\d+)?", word)):
            route["dst"] = word
        else:
            raise Failed(f'Error: either "to" is duplicate, or "{word}" is a garbage.', 255, ends=True)
    if "metric" in route:
        route["metric"] = int(route["metric"])
    if "nhid" in route:
        route["nhid"] = int(route["nhid"])
    if metrics:
        route["metrics"] = [metrics]
    if "dev" in route:
        route["dev"] = _link(state, route["dev"])
    if route.get("type") == "unicast":
        del route["type"]
    given = dict(route)
    return number, _completed(family, route), given


KEYS = {
    "via": "gateway", "dev": "dev", "proto": "protocol", "scope": "scope", "src": "prefsrc", "metric": "metric",
    "tos": "tos", "pref": "pref", "nhid": "nhid",
}  # fmt: skip


def _completed(family, route):
    """What the kernel adds, and what `ip` does not print because it is usual."""
    if family == "inet6":
        route.pop("scope", None)
        route = {"metric": 1024, "pref": "medium", **route}
        route["metric"] = route["metric"] or 1024
    else:
        route = {"scope": "global" if "gateway" in route or "nexthops" in route else "link", **route}
        if route["scope"] == "global":
            del route["scope"]
        if not route.get("metric"):
            route.pop("metric", None)
    if route.get("protocol") == "boot":
        del route["protocol"]
    return {"flags": [], **route}


def _hops(state, words):
    hops = []
    while words:
        word = words.pop(0)
        if word == "nexthop":
            hops.append({"weight": 1, "flags": []})
        elif word == "onlink":
            hops[-1]["flags"] = ["onlink"]
        elif word == "weight":
            hops[-1]["weight"] = int(words.pop(0))
        elif word == "dev":
            hops[-1]["dev"] = _link(state, words.pop(0))
        elif word == "via":
            hops[-1]["gateway"] = words.pop(0)
        else:
            raise Failed(f'Error: "nexthop" or end of line is expected instead of "{word}"', 255, ends=True)
    return hops


def _link(state, name):
    for link in state["links"]:
        if link["ifname"] == name or f"if{link['ifindex']}" == name:
            if "UP" not in link["flags"]:
                raise Failed("Error: Device for nexthop is not up.", 2)
            return link["ifname"]
    raise Failed(f'Cannot find device "{name}"', 1)


def _twins(group, route):
    return [
        place
        for place, other in enumerate(group)
        if (other.get("tos", ""), other.get("metric", 0)) == (route.get("tos", ""), route.get("metric", 0))
    ]


def _add(group, route, given, family):
    if _twins(group, route):
        raise Failed("RTNETLINK answers: File exists", 2)
    group.append(route)


def _append(group, route, given, family):
    twins = _twins(group, route)
    for place in twins:
        if _same(group[place], route) or (family == "inet6" and _path(group[place]) == _path(route)):
            raise Failed("RTNETLINK answers: File exists", 2)
    group.insert(twins[-1] + 1 if twins else len(group), route)


def _replace(group, route, given, family):
    twins = _twins(group, route)
    if not twins:
        group.append(route)
    elif any(_same(group[place], route) for place in twins[1:]):
        raise Failed("RTNETLINK answers: File exists", 2)
    else:
        group[twins[0]] = route


def _del(group, route, given, family):
    """IPv4 takes a missing metric or src, and metric 0, as wildcards; the lowest metric goes first."""
    for other in sorted(group, key=lambda other: other.get("metric", 0)):
        theirs = {"protocol": "boot", **({"scope": "global"} if family == "inet" else {}), **other}
        named = {key: value for key, value in given.items() if not (key == "metric" and not value)}
        if family == "inet6":
            named.pop("scope", None)
        if all(theirs.get(key) == value for key, value in named.items()) and other.get("tos") == given.get("tos"):
            group[:] = [kept for kept in group if kept is not other]
            return
    raise Failed("RTNETLINK answers: No such process", 2)


def _same(one, other):
    def meant(route):
        flags = [flag for flag in route.get("flags", []) if flag == "onlink"]
        return {**{key: value for key, value in route.items() if key not in ("expires", "cache")}, "flags": flags}

    return meant(one) == meant(other)


def _path(route):
    return [route.get(key) for key in PATH_KEYS]


VERBS = {"add": _add, "append": _append, "replace": _replace, "del": _del}
