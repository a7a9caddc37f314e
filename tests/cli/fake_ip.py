"""A fake `ip` that keeps rules and routes in a file, and can fail in many ways.

It knows the reads and writes that the program uses, and answers as iproute2 6.1 does. A test starts it many times, so
it imports little. The tests write and read its state through `world.py`.

A fault is a dictionary in the state. It applies if the regular expression `match` is found in the arguments or, in a
batch, in the options and one line, for example `-json -6 route show table main`. `number` restricts it to the line with
this number among those that write. `times` limits how often it applies. The other keys say what happens:

    exit, stdout, stderr      print this and fail with this code, without looking at the state; `ends` ends a batch too
    cut                       print only this fraction of the answer
    interrupted               leave out the last document, and warn that the dump was interrupted
    hang                      write PID.pid and sleep for a minute
    signal                    end by this signal, in the middle of the answer
    words                     refuse the line in these words
    forget                    succeed without changing anything
"""

import fcntl
import marshal
import os
import sys
import time

import kernel_table

TABLES = {"default": "253", "main": "254", "local": "255"}
NAMES = {number: name for name, number in TABLES.items()}
TYPES = {"throw"}  # of those that `ip` knows, what the program writes here
OPTIONS = {"-4", "-6", "-Numeric", "-details", "-json", "-oneline", "-force", "-V"}


class Failed(Exception):
    """A command fails in these words, with this exit code. `ends` also ends the batch."""

    def __init__(self, words, code, *, ends=False):
        super().__init__(words)
        self.code = code
        self.ends = ends


def main(folder, argv):
    """Do what `ip` does with these arguments. Returns the exit code."""
    try:
        options, words = _options(argv)
        if "-batch" in options:
            return _converse(folder, options)
        with open(f"{folder}/state.lock", "w") as turn:  # noqa: PTH123
            fcntl.flock(turn, fcntl.LOCK_EX if _writes(words) else fcntl.LOCK_SH)
            machine = _Machine(folder, turn, options)
            try:
                machine.run(" ".join(argv), words)
            finally:
                machine.store()
    except Failed as failed:
        print(failed, file=sys.stderr)
        return failed.code
    return 0


def _converse(folder, options):
    """Do what `ip -force -batch -` does: carry out lines as they arrive, until stdin ends."""
    code, number, writes, text = 0, 0, 0, b""
    with open(f"{folder}/state.lock", "w") as turn:  # noqa: PTH123
        while part := os.read(0, 1 << 20):
            *lines, text = (text + part).split(b"\n")
            lines = [line.decode("utf-8", "surrogateescape") for line in lines]
            if not lines:
                continue
            fcntl.flock(turn, fcntl.LOCK_EX if any(map(_writes, map(str.split, lines))) else fcntl.LOCK_SH)
            machine = _Machine(folder, turn, options)
            try:
                code = machine.batch(lines, number, writes) or code
            finally:
                machine.store()
                fcntl.flock(turn, fcntl.LOCK_UN)
            number += len(lines)
            writes += sum(map(_writes, map(str.split, lines)))
    return code


def _options(argv):
    options, words = {}, list(argv)
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in ("-n", "-batch"):
            options[option] = words.pop(0)
        elif option in OPTIONS:
            options[option] = None
        else:
            raise Failed(f'Option "{option}" is unknown, try "ip -help".', 255)
    return options, words


def _writes(words):
    return "show" not in words


class _Machine:
    """The state as one process of `ip` sees it."""

    def __init__(self, folder, turn, options):
        self._folder = folder
        self._turn = turn
        self._options = options
        self._family = "inet6" if "-6" in options else "inet"
        with open(f"{folder}/state", "rb") as file:  # noqa: PTH123
            self._state = marshal.load(file)
        self._index = _Index(self._state["routes"][self._family])
        self._changed = False

    def store(self):
        """Write the state back if it has changed."""
        self._index.flatten()
        if self._changed:
            new = f"{self._folder}/state.{os.getpid()}"
            with open(new, "wb") as file:  # noqa: PTH123
                marshal.dump(self._state, file)
            os.replace(new, f"{self._folder}/state")  # noqa: PTH105
            self._changed = False

    def batch(self, lines, before, written):
        """Run some lines, and record how many of them write. Returns their exit code."""
        if writes := sum(map(_writes, map(str.split, lines))):
            self._state["batches"].append(writes)
            self._changed = True
        options = " ".join(option for option in self._options if option not in ("-force", "-batch"))
        code = 0
        for number, line in enumerate(lines, start=before + 1):
            written += _writes(line.split())
            try:
                self.run(f"{options} {line}", _words(line), written)
            except Failed as failed:
                if failed.ends:
                    raise
                print(failed, file=sys.stderr, flush=True)
                print(f"Command failed -:{number}", file=sys.stderr, flush=True)
                code = 1
        return code

    def run(self, line, words, number=1):
        """Run a command, which is the `number`-th that writes."""
        fault = self._fault(line, number)
        if "hang" in fault:
            self._hang()
        if "exit" in fault:
            self._print(fault.get("stdout", "").encode("utf-8", "surrogateescape"))
            if fault["exit"] or not fault.get("stdout", "").endswith("\n"):
                # A batch goes on only after a complete line.
                raise Failed(fault.get("stderr", ""), fault["exit"], ends="ends" in fault or not fault["exit"])
            print(fault.get("stderr", ""), file=sys.stderr)
            return
        if "-n" in self._options and (name := self._options["-n"]) not in self._state["netns"]:
            raise Failed(f'Cannot open network namespace "{name}": No such file or directory', 255, ends=True)
        if "-V" in self._options:
            print("ip utility, iproute2-6.1.0, libbpf 1.1.2")
        elif words[:1] == ["route"] and words[1] != "show":
            self._write(words, fault)
        else:
            data = self._answer(words, "interrupted" in fault)
            self.store()  # a reader may end this process as soon as it has the answer
            self._print(data[: int(len(data) * fault.get("cut", 0.9 if "signal" in fault else 1))])
            if "cut" in fault and "signal" not in fault:
                raise Failed("", 0, ends=True)
        if "signal" in fault:
            self.store()
            os.kill(os.getpid(), fault["signal"])

    def _fault(self, line, number):
        if not self._state["faults"]:
            return {}
        import re  # noqa: PLC0415

        for fault in self._state["faults"]:
            if fault.get("times") == 0 or fault.get("number", number) != number:
                continue
            if re.search(fault["match"], line):
                if "times" in fault:
                    fault["times"] -= 1
                    self._changed = True
                return fault
        return {}

    def _hang(self):
        self.store()
        fcntl.flock(self._turn, fcntl.LOCK_UN)
        with open(f"{self._folder}/{os.getpid()}.pid", "w"):  # noqa: PTH123
            time.sleep(60)

    @staticmethod
    def _print(data):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def _write(self, words, fault):
        if "words" in fault:
            raise Failed(fault["words"], 2)
        if "forget" in fault:
            return
        self._changed = True
        if words[1] not in kernel_table.VERBS:
            raise Failed(f'Command "{words[1]}" is unknown, try "ip route help".', 255, ends=True)
        table, route, given = _parsed(self._state["links"], self._family, words[2:])
        group = self._index.group(table, route["dst"])
        if refusal := kernel_table.VERBS[words[1]](group, route, given, self._family):
            raise Failed(f"RTNETLINK answers: {refusal}", 2)

    def _answer(self, words, interrupted):
        documents = self._show(words)
        if interrupted:
            documents = documents[:-1]
            print("Dump was interrupted and may be inconsistent.", file=sys.stderr, flush=True)
        if "-json" in self._options:
            text = _json(documents) + "\n"
        else:
            text = "".join(f"{_text(document)} \n" for document in documents)
        return text.encode("utf-8", "surrogateescape")

    def _show(self, words):
        kind, verb, *rest = words
        if kind not in ("link", "nexthop", "rule", "route"):
            raise Failed(f'Object "{kind}" is unknown, try "ip help".', 1)
        if verb != "show":
            raise Failed(f'Command "{verb}" is unknown, try "ip {kind} help".', 255, ends=True)
        filters = dict(zip(rest[::2], rest[1::2], strict=True))
        if kind == "route":
            return self._routes(filters)
        if kind == "rule":
            return self._rules(filters)
        return self._state[f"{kind}s"]

    def _rules(self, filters):
        return [
            {"protocol": "2", **rule}
            if "-details" in self._options
            else {**rule, "table": NAMES.get(rule["table"], rule["table"])}
            for rule in self._state["rules"][self._family]
            if "table" not in filters or rule["table"] == TABLES.get(filters["table"], filters["table"])
        ]

    def _routes(self, filters):
        table = filters.pop("table")
        self._index.flatten()
        routes = self._state["routes"][self._family].get(TABLES.get(table, table))
        if routes is None:
            if "-batch" in self._options:
                return []
            # `ip` prints the bracket before the kernel answers.
            self._print(b"[")
            kind = "ipv4" if self._family == "inet" else "ipv6"
            raise Failed(f"Error: {kind}: FIB table does not exist.\nDump terminated", 2)
        if "scope" in filters:
            # IPv6 has no scope, and `ip` does not print a key that was a filter.
            scope = filters.pop("scope")
            routes = [
                {key: value for key, value in route.items() if key != "scope"}
                for route in routes
                if self._family == "inet" and route.get("scope", "global") == scope
            ]
        if "root" in filters:
            root = _network(filters.pop("root"))
            routes = [route for route in routes if _network(route["dst"], self._family).subnet_of(root)]
        if "match" in filters:
            host = _network(filters.pop("match"))
            routes = [route for route in routes if host.subnet_of(_network(route["dst"], self._family))]
        if filters:
            raise Failed(f'Error: argument "{next(iter(filters))}" is wrong: unknown filter', 255, ends=True)
        return routes


def _network(dst, family="inet"):
    from ipaddress import ip_network  # noqa: PLC0415

    return ip_network(dst if dst != "default" else "0.0.0.0/0" if family == "inet" else "::/0")


def _is_prefix(word):
    return word == "default" or (not set(word) - set("0123456789abcdef.:/") and not {".", ":"}.isdisjoint(word))


def _json(value):
    """JSON as `ip` prints it: without spaces, with raw control characters."""
    if isinstance(value, list):
        return f"[{','.join(map(_json, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{_json(key)}:{_json(member)}' for key, member in value.items())}}}"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "null" if value is None else str(value)


def _text(route):
    words = [route["dst"]]
    for key, name in {
        "gateway": "via",
        "dev": "dev",
        "protocol": "proto",
        "scope": "scope",
        "metric": "metric",
    }.items():
        words += [name, str(route[key])] if key in route else []
    for metrics in route.get("metrics", []):
        for name, value in metrics.items():
            words += [name, str(value)]
    return " ".join(words)


def _words(line):
    """Split a line as `ip -batch` does: `#` starts a comment anywhere, a quote matters only at the start of a word."""
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
    """The routes of one family by destination, so that ten thousand lines do not search ten thousand routes each."""

    def __init__(self, tables):
        self._tables = tables
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


def _parsed(links, family, words):  # a grammar
    """The table, the route as `ip -json` shows it, and the keys that the command names."""
    number, route = TABLES["main"], {}
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "onlink":
            route["flags"] = ["onlink"]
        elif word == "nexthop":
            route["nexthops"] = _hops(links, [word, *words])
            break
        elif word == "mtu" and words:
            route["metrics"] = [{word: int(words.pop(0))}]
        elif word == "table" and words:
            number = words.pop(0)
            number = TABLES.get(number, number)
        elif word in KEYS and words:
            route[KEYS[word]] = words.pop(0)
        elif "dst" not in route and word in TYPES:
            route["type"] = word
        elif "dst" not in route and _is_prefix(word):
            route["dst"] = word
        else:
            raise Failed(f'Error: either "to" is duplicate, or "{word}" is a garbage.', 255, ends=True)
    if "dev" in route:
        route["dev"] = _link(links, route["dev"])
    for key in ("metric", "nhid"):
        if key in route:
            route[key] = int(route[key])
    return number, _completed(family, route), dict(route)


KEYS = {
    "via": "gateway", "dev": "dev", "proto": "protocol", "scope": "scope", "src": "prefsrc", "metric": "metric",
    "tos": "tos", "pref": "pref", "nhid": "nhid",
}  # fmt: skip


def _completed(family, given):
    """Add what the kernel adds, and drop the defaults that `ip` does not print."""
    route = {"flags": [], **given}
    if family == "inet6":
        route = {"pref": "medium", **route, "metric": route.get("metric") or 1024}
        usual = {"protocol": "boot", "scope": route.get("scope")}
    else:
        route = {"scope": "global" if "gateway" in route or "nexthops" in route else "link", **route}
        usual = {"protocol": "boot", "scope": "global", "metric": 0}
    return {key: value for key, value in route.items() if not (key in usual and usual[key] == value)}


def _hops(links, words):
    hops = []
    while words:
        word = words.pop(0)
        if word == "nexthop":
            hops.append({"weight": 1, "flags": []})
        elif word == "weight":
            hops[-1]["weight"] = int(words.pop(0))
        elif word == "dev":
            hops[-1]["dev"] = _link(links, words.pop(0))
        else:
            raise Failed(f'Error: "nexthop" or end of line is expected instead of "{word}"', 255, ends=True)
    return hops


def _link(links, name):
    """The link with this name. If there is none, `if7` is the link with index 7."""
    found = [link for link in links if link["ifname"] == name]
    found += [link for link in links if f"if{link['ifindex']}" == name]
    if not found:
        raise Failed(f'Cannot find device "{name}"', 1)
    if "UP" not in found[0]["flags"]:
        raise Failed("Error: Device for nexthop is not up.", 2)
    return found[0]["ifname"]
