"""Changes good texts at random, and gives them to everything that reads texts from outside.

Nothing may raise any other error than the program's own, hang, or need much memory. A text that does is saved in
.cache/fuzz; `scripts/fuzz FILE...` tries saved ones again.
"""

import argparse
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from importlib.resources import as_file
from pathlib import Path
from typing import Any

from fz_iproute import cli
from fz_iproute.daemon.ahead import Ahead
from fz_iproute.daemon.events import Interest, is_about_links, matters
from fz_iproute.daemon.news import changed_by
from fz_iproute.errors import FzError
from fz_iproute.ip.ip import Asked, Ip
from fz_iproute.ip.passes import Plans
from fz_iproute.ip.process import Answer, Running
from fz_iproute.lab.addresses import addresses, missing_sources, routers
from fz_iproute.lab.devices import cables_and_bridges, devices, far_states
from fz_iproute.lab.lab import DEMO, printed_of
from fz_iproute.lab.routes import nexthops, routes, rules
from fz_iproute.log import Log
from fz_iproute.mirror import config_text, ip_json, journal, parse_links
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.rt_tables import parsed as rt_tables
from fz_iproute.record.facts import facts
from fz_iproute.record.firewall import firewall
from fz_iproute.record.recorded_ip import RecordedIp, blamed_on, load_recording
from fz_iproute.record.redact import Redactor
from fz_iproute.record.vocabulary import words

PROJECT = Path(__file__).parents[1]
FINDS = PROJECT / ".cache" / "fuzz"
LONGEST = 20  # seconds for one text; nothing here takes longer than one on an idle machine
MOST_BYTES = 4 << 20  # of a text
MOST_MEMORY = 3 << 30
VERBS = (["plan"], ["status"], ["doctor"], ["detect"], ["explain", "192.168.188.9"], ["explain", "fd00:188::9"])


class Found(Exception):
    """What the program must not do."""


# --- What reads. Each function gets a file with the text.


def verbs(path: Path) -> None:
    """What a snapshot answers: one question for each text."""
    verb = VERBS[path.stat().st_size % len(VERBS)]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main([*verb, "--snapshot", str(path)])
    words = err.getvalue()
    if code not in (0, 1, 2) or "the machine refuses" in words:
        raise Found(f"{verb} gave {code}: {words[:500]}")
    check(words, str(path))


def check(words: str, path: str) -> None:
    """Messages are single lines, which a terminal cannot misread. Only problems of a configuration may be several."""
    lines = words.splitlines()
    if not all(line.isprintable() and (len(line) < 1000 or line.startswith("warning: ")) for line in lines):
        raise Found(f"it said {words[:500]!r}")
    if len([line for line in lines if f"{path}: " in line and "config" not in line]) > 1 and "text: " not in words:
        raise Found(f"it said more than a line: {words[:500]!r}")


def lab(path: Path) -> None:
    """All commands that would rebuild a machine; none is run."""
    with blamed_on(path):
        printed = printed_of(load_recording(path))
        links, (wanted, _) = parse_links.links(printed.links), devices(printed.links)
        for found in (addresses(printed, links), nexthops(printed, links), rules(printed), far_states(wanted)):
            list(found)
        list(cables_and_bridges(wanted))
        list(routers(printed, wanted))
        routes(printed, links)
        missing_sources(printed)


def redact(path: Path) -> None:
    """A snapshot without names and addresses."""
    with blamed_on(path):  # only what `snapshot` has just recorded is redacted
        Redactor(load_recording(path), b"0" * 16, words()).redacted()


def configuration(path: Path) -> None:
    """The same way as `watch` does."""
    config_text.dump(config_text.parse(path.read_text("utf-8", "surrogateescape"), str(path)))


def a_journal(path: Path) -> None:
    """As `replay` reads it."""
    with suppress(journal.Unreadable), path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        journal.parse(lines)


def monitor(path: Path) -> None:
    """The lines that wake `watch`."""
    for line in path.read_text("utf-8", "surrogateescape").split("\n"):
        for interest in (Interest(), Interest(frozenset(["77"]), True, frozenset(["10.6.0.0/24"]))):
            matters(line, interest)
        changed_by(line)
        machine_ahead().lines(f"{line}\n")
        is_about_links(line)


@cache
def machine_ahead() -> Ahead:
    """Plans copies for the machine of the demo."""
    with as_file(DEMO) as demo:
        return Ahead(Plans(RecordedIp(load_recording(demo)), Config(), Log("ERROR")).look())


class NoIp(Ip):
    """It starts no process. All other programs print `text`."""

    version = "ip utility, iproute2-7.3.0"

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._text = text

    def start_other(self, program: str, *words: str) -> "Told":  # noqa: ARG002
        """The question for all tables has a good answer."""
        known = '{"nftables": [{"table": {"family": "inet", "name": "mullvad"}}]}'
        return Told(0, known if words[-1] == "tables" else self._text)


class Told(Running):
    """A process that has ended."""

    def __init__(self, code: int, stdout: str, stderr: str = "") -> None:
        self._code, self._stdout, self._stderr = code, stdout, stderr

    def answer(self) -> Answer:
        """How it has ended."""
        return Answer(("ip",), self._code, self._stdout.encode("utf-8", "surrogateescape"), self._stderr)


def nft(path: Path) -> None:
    """What `nft -j` prints of a table."""
    for line in (firewall(NoIp(path.read_text("utf-8", "surrogateescape"))) or "").splitlines():
        if line.split(" ")[0] not in ("chain", "accept", "drop"):
            raise Found(f"it recorded {line[:200]!r}")


def answers(path: Path) -> None:
    """What an `ip` may print, and how it may end."""
    text = path.read_text("utf-8", "surrogateescape")
    stdout, _, stderr = text.partition("\n===\n")

    told = NoIp()
    for code in (0, 1, 2, 255, -9):
        for writes, questions in ((0, ("link show",)), (0, ("rule show", "route show table main")), (5, ())):
            told.reply(Asked("inet6", writes, questions, Told(code, stdout, stderr)))
    with suppress(ValueError, RecursionError):
        ip_json.documents_of(stdout.encode("utf-8", "surrogateescape"))
    with suppress(ValueError, RecursionError):
        ip_json.listing_of(stdout.encode("utf-8", "surrogateescape"))


SETTINGS = (
    *("etc/resolv.conf", "etc/systemd/networkd.conf", "run/systemd/netif/leases/2", "proc/self/status"),
    *("run/systemd/netif/links/2", "run/systemd/resolve/netif/3", "var/lib/NetworkManager/internal-x.lease"),
    *("var/lib/dhcp/dhclient.leases", "var/lib/dhcpcd/eth0.lease"),
)


def files(path: Path) -> None:
    """Settings of the machine: whatever they hold, a snapshot is taken."""
    text = path.read_text("utf-8", "surrogateescape")
    rt_tables(text)
    root = path.parent / "root"
    for place in SETTINGS:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(path.read_bytes())
    (root / "etc/iproute2").mkdir(exist_ok=True)
    (root / "etc/iproute2/rt_tables").write_bytes(path.read_bytes())
    facts(config_text.parse("", "defaults"), None, None, root)


CHAIN = {"family": "inet", "table": "mullvad", "type": "filter", "policy": "drop"}
DADDR = {"payload": {"protocol": "ip", "field": "daddr"}}
NFT_TABLE = [
    {"chain": {**CHAIN, "name": "output", "hook": "output"}},
    {"chain": {**CHAIN, "name": "lan", "hook": ""}},
    {"set": {"name": "nets", "elem": [{"prefix": {"addr": "10.0.0.0", "len": 8}}, {"range": ["fd00::", "fd00::9"]}]}},
    *(
        {"rule": {"chain": chain, "expr": [{"match": {"op": "==", "left": left, "right": right}}, verdict]}}
        for chain, left, right, verdict in (
            ("output", {"meta": {"key": "oifname"}}, "lo", {"accept": None}),
            ("output", {"&": [{"meta": {"key": "mark"}}, 7]}, 7, {"accept": None}),
            ("output", {"ct": {"key": "state"}}, {"set": ["new"]}, {"jump": {"target": "lan"}}),
            ("lan", DADDR, {"prefix": {"addr": "192.168.0.0", "len": 16}}, {"accept": None}),
            ("lan", DADDR, "@nets", {"drop": None}),
            ("lan", {"payload": {"protocol": "udp", "field": "dport"}}, 53, {"reject": {}}),
        )
    ),
]


def seeds() -> dict[Callable[[Path], None], list[str]]:
    """Good texts for each of them."""
    recorded = [json.loads(file.read_text()) for file in sorted((PROJECT / "tests/recorded").glob("*.json"))]
    snapshots = [document["snapshot"] for document in recorded]
    machine = json.loads((PROJECT / "fz_iproute/data/demo.json").read_text())
    chain = "chain inet mullvad output drop\naccept to 192.168.188.0/24 maybe\ndrop nodev wg0\n"
    tables = "254 main\n255\tlocal # comment\n0x10 corp\n"
    resolvers = "nameserver 10.0.0.1\nnameserver fd00::1\noptions edns0\nsearch lan\n"
    settings = "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules = yes\n"
    of_machine = {"/etc/resolv.conf": resolvers, "/etc/iproute2/rt_tables": tables, "networkd": "in use"}
    of_machine |= {"/etc/systemd/networkd.conf": settings, "capabilities": "0000000000003000", "uid": "0"}
    of_machine |= {"config.path": "/etc/x.toml", "config.mode": "0644", "config.uid": "0", "dhcp.servers": "10.0.0.1"}
    of_machine |= {"nft": chain, "resolved": "2 ~. 192.168.188.1\n"}
    written = "# 2026-01-31T12:00:00.000Z 1.0 ms, 1 command, woken by: start\nip route add table 7 10.0.0.0/8 dev v0\n"
    written += "#   refused: File exists\nip -6 rule add priority 5 not fwmark 0x7 lookup 7 protocol kernel\n"
    leases = ["SERVERS=10.0.0.1 [2001:db8::1]:53%eth0#dns\nDOMAINS=~.\nDNS=10.0.0.2\nROUTE_DOMAINS=.\n"]
    leases += ["lease {\n  option dhcp-server-identifier 10.0.0.1;\n  expire 4 2099/01/01 00:00:00;\n}\n"]
    leases += ["\x02" * 236 + "c\udc82Sc" + "\x35\x01\x05\x36\x04\x0a\0\0\x01\udcff"]
    documents = [{**snapshot, "facts": {**of_machine, "journal": written}} for snapshot in (*snapshots, machine)]
    texts = [json.dumps(document) for document in documents]
    heard = ["\n".join(line for lines in document["monitor"].values() for line in lines) for document in recorded]
    said = [f"{stdout}\n===\n{stderr}" for document in recorded for _, stdout, stderr in document["questions"].values()]
    said += [
        f"{text}\n===\n{document['refused'][2]}"
        for document in recorded
        for text in document["snapshot"]["ip"].values()
    ]
    return {
        verbs: texts,
        lab: texts,
        redact: texts,
        configuration: [
            machine["config"],
            'lan = { allow = ["10.0.0.0/8"] }\n[tables]\nlayout = "tiered"\nlan = 0x77\n',
        ],
        a_journal: [written],
        monitor: heard,
        answers: said,
        files: [tables, resolvers, settings, "SERVER_ADDRESS=10.0.0.1\n", "CapEff:\t0000000000003000\n", *leases],
        nft: [json.dumps({"nftables": NFT_TABLE})],
    }


# --- Changes of a text.


class Changes:
    """Changes texts, those of JSON by their structure, too."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def of(self, text: str) -> str:
        """The text with one to four changes."""
        for _ in range(self._dice.choice([1, 1, 2, 4])):
            text = self._json(text) if self._dice.random() < 0.8 else self._text(text)
        return text[:MOST_BYTES]

    def _json(self, text: str) -> str:
        try:
            document = json.loads(text, strict=False)
        except (ValueError, RecursionError):
            return self._text(text)
        if not isinstance(document, dict | list):
            return self._text(text)
        with suppress(RecursionError):
            return json.dumps(self._part(document), separators=(",", ":"))
        return text

    def _part(self, part: Any) -> Any:
        dice = self._dice
        if isinstance(part, dict | list) and part and dice.random() < 0.9:
            place = dice.choice(list(part) if isinstance(part, dict) else range(len(part)))
            kind = dice.random()
            if kind < 0.08:
                del part[place]
            elif kind < 0.14 and isinstance(part, dict):
                part[str(dice.choice([self._value(), *part]))[:200]] = part.pop(place)
            elif kind < 0.2 and isinstance(part, list):
                part += [part[place]] * dice.choice([1, 2, 50, 2000])
            elif kind < 0.24 and isinstance(part, dict):
                part[place] = part[dice.choice(list(part))]
            else:
                part[place] = self._part(part[place])
            return part
        if isinstance(part, str) and part and dice.random() < 0.7:
            return self._json(part) if part[:1] in "[{" else self._text(part)
        return self._value()

    def _text(self, text: str) -> str:
        dice = self._dice
        first, last = sorted(dice.randrange(len(text) + 1) for _ in range(2))
        last = min(last, first + dice.choice([1, 1, 3, 20, 400]))
        piece = text[first:last]
        instead = dice.choice(["", piece * 2, piece * 2000, piece[::-1], str(self._value()), f"{piece}{self._value()}"])
        return text[:first] + instead[:200_000] + text[last:]

    def _value(self) -> Any:
        dice = self._dice
        made: list[Any] = [
            *(
                None,
                True,
                0,
                -1,
                1.5,
                2**31,
                2**32,
                2**64,
                10**400,
                float("nan"),
                float("inf"),
                [],
                {},
                [[]],
                [{}],
                [None],
            ),
            *(
                "",
                " ",
                "\0",
                "\n",
                "\x1b[31m",
                "\udc80",
                "\ud800",
                "²",
                "٣",
                "/",
                "-",
                "%",
                "#",
                "'",
                '"',
                "\\",
                "\\u",
                "[",
                "{",
            ),
            *(
                "all",
                "default",
                "main",
                "local",
                "254",
                "539098368",
                "4294967296",
                "0x",
                "-x",
                "dev",
                "lo",
                "tun-firezone",
            ),
            *(
                "::",
                "::/0",
                "0.0.0.0/0",
                "1.2.3.4/33",
                "10.0.0.1/8",
                "fe80::1%lo",
                "::ffff:1.2.3.4",
                "01.2.3.4",
                "1.2.3",
                "300.1.1.1",
            ),
            *(
                "9" * 5000,
                "a" * 100_000,
                "10.0.0.0/" + "9" * 5000,
                "inet",
                "inet6",
                "unicast",
                "via",
                "table",
                "nexthop",
            ),
        ]
        return json.loads("[" * 900 + "]" * 900) if dice.random() < 0.01 else dice.choice(made)


# --- The run.


def main() -> int:
    """1 if something was found."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("what", nargs="+", metavar="MINUTES|FILE", help="how long, or texts that were found")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="start with the same random numbers")
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    FINDS.mkdir(parents=True, exist_ok=True)
    readers = seeds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        try:
            seconds = 60 * float(arguments.what[0])
        except ValueError:
            return again(readers, [Path(file) for file in arguments.what])
        print(f"scripts/fuzz: seed {arguments.seed}", flush=True)
        return run(readers, path, seconds, arguments.seed)


def again(readers: Iterable[Callable[[Path], None]], files: list[Path]) -> int:
    """Try texts that were found."""
    names = {reader.__name__: reader for reader in readers}
    finds = {file: words for file in files if (words := tried(names[file.name.partition("-")[0]], file))}
    print("".join(f"{file}: {words}\n" for file, words in finds.items()), end="")
    print(f"{len(files) - len(finds)} passed, {len(finds)} failed")
    return int(bool(finds))


def run(readers: dict[Callable[[Path], None], list[str]], path: Path, seconds: float, seed: int) -> int:
    """Each reader gets the same share of the time. Its texts depend on nothing but the seed."""
    all_dice = {reader: random.Random(f"{seed} {reader.__name__}") for reader in readers}
    spent, counts, finds = dict.fromkeys(readers, 0.0), dict.fromkeys(readers, 0), set()
    for reader, texts in readers.items():
        for text in texts:
            path.write_bytes(encoded(text))
            if words := tried(reader, path):
                sys.exit(f"scripts/fuzz: {reader.__name__} does not even read a good text: {words}")
    end = time.monotonic() + seconds
    while (start := time.monotonic()) < end:
        reader = min(spent, key=spent.__getitem__)
        dice = all_dice[reader]
        path.write_bytes(encoded(Changes(dice).of(dice.choice(readers[reader]))))
        words = tried(reader, path)
        spent[reader] += time.monotonic() - start
        counts[reader] += 1
        if words and (reader, words) not in finds:
            finds.add((reader, words))
            saved = FINDS / f"{reader.__name__}-{len(finds)}-{dice.getrandbits(32):x}"
            saved.write_bytes(path.read_bytes())
            print(f"FOUND {saved.relative_to(PROJECT)}: {words}", flush=True)
    print(", ".join(f"{reader.__name__} {count}" for reader, count in counts.items()))
    print(f"{sum(counts.values()) - len(finds)} passed, {len(finds)} failed")
    return int(bool(finds))


def encoded(text: str) -> bytes:
    """Surrogates stand for bytes, or for themselves if one of them cannot."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def tried(reader: Callable[[Path], None], path: Path) -> str:
    """What went wrong with this text, in a line; nothing if all was well."""
    try:
        with alarm():
            reader(path)
    except FzError as error:
        try:
            check(str(error), str(path))
        except Found as found:
            return str(found)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "fz_iproute" in frame.filename]
        frame = (ours or [last])[-1]
        return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: {str(error)[:200]!r}"
    return ""


@contextmanager
def alarm() -> Iterator[None]:
    """Found if the block takes too long."""

    def ring(*_: object) -> None:
        raise Found(f"it takes longer than {LONGEST} s")

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    sys.exit(main())
