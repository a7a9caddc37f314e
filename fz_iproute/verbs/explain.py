"""`explain`: say where a packet to an address goes, rule by rule, and whether the kernel agrees."""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

from fz_iproute.diagnosis.answer import Answer, Question, answered, as_document, as_text, packets, route_get
from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.lookup import Packet
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.sentence import Case
from fz_iproute.errors import ReadFailed, UsageError
from fz_iproute.ip.decisive import decisive_routes, matching_routes
from fz_iproute.ip.ip import Ip, Source
from fz_iproute.ip.reader import Reader
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.ip_json import Document
from fz_iproute.mirror.model import Snapshot
from fz_iproute.mirror.prefix import Prefix
from fz_iproute.record.sysctl import sysctls
from fz_iproute.verbs.options import add_json, add_snapshot
from fz_iproute.verbs.output import write, write_json
from fz_iproute.verbs.screen import screen
from fz_iproute.verbs.source import as_typed, chosen_source


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument(
        "addresses",
        metavar="ADDRESS",
        nargs="+",
        help="where the packet goes to: an address, a host name, HOST:PORT or a URL; the port does not matter",
    )
    parser.add_argument("--from", dest="src", metavar="ADDRESS", default="", help="where it comes from")
    parser.add_argument("--mark", type=_mark, help="its firewall mark (default: none; -v shows that of the VPN, too)")
    parser.add_argument("--iif", metavar="DEVICE", default="", help="the interface that receives it (needs --from)")
    parser.add_argument("--oif", metavar="DEVICE", default="", help="the interface that its sender is bound to")
    add_json(parser)
    add_snapshot(parser)


def run(arguments: Namespace, log: Log) -> int:
    """Print the answers. UsageError lists questions without an answer. ReadFailed if the kernel contradicts one."""
    told: list[tuple[str, Question, list[Answer]]] = []
    problems: dict[str, None] = {}  # without repetitions: a problem may be the same for all addresses
    with chosen_source(arguments, log) as (source, config):
        sync = as_typed(arguments, source, "sync")
        for word in map(_host, arguments.addresses):
            try:
                for address in addresses(word, log):
                    question = Question(address, arguments.src, arguments.mark, iif=arguments.iif, oif=arguments.oif)
                    told.append((word, question, explain(question, config, source, sync)))
            except UsageError as error:
                problems[str(error)] = None
    if not told:
        raise UsageError("\n".join(problems))
    if arguments.json:
        answers = [answer for _, question, found in told for answer in as_document(found, question)["answers"]]
        write_json({"address": _host(arguments.addresses[0]), "answers": answers})
    else:
        write("\n\n".join(_text(arguments, word, question, found, config) for word, question, found in told))
    wrong = [question.address for _, question, found in told if any(answer.objection for answer in found)]
    if wrong:
        problems[
            f"the kernel sends a packet to {' and '.join(wrong)} another way than its rules and tables say; "
            "please report it, with the output of `fz-iproute snapshot`"
        ] = None
    if problems:
        raise (ReadFailed if wrong else UsageError)("\n".join(problems))
    return 0


def _host(word: str) -> str:
    """The host in a URL, or before a port; any other word unchanged."""
    if "://" in word or word.count(":") == 1 or word.startswith("["):
        from urllib.parse import urlsplit  # noqa: PLC0415  # few paste a URL

        with suppress(ValueError):
            return urlsplit(word if "://" in word else f"//{word}").hostname or word
    return word


def addresses(word: str, log: Log) -> list[str]:
    """The addresses of a host, as the system resolves its name. The word itself if it is, or looks like, an address.

    UsageError if the name is not resolved in time, or if no packet is ever sent to such an address.
    """
    if mapped := _mapped(word):
        raise UsageError(f"{word}: a program that connects to it sends IPv4 packets; ask for {mapped}")
    # A word such as `10.0.0` must not reach the resolver, which would take it for the address 10.0.0.0.
    last = word.rstrip(".").rpartition(".")[2]
    if not last or last[0].isdigit() or not word.isprintable() or any(sign in word for sign in ":/% "):
        return [word]
    import socket  # noqa: PLC0415  # few ask for names
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    # Without an answer from any name server, the system gives up after ten seconds or more. A thread can be left alone.
    resolving = ThreadPoolExecutor().submit(socket.getaddrinfo, word, None, type=socket.SOCK_STREAM)
    try:
        with suppress(TimeoutError):
            resolving.exception(_SILENT)
        if not resolving.done():
            log.info(f"# waits for the name servers: {word}")
        answers = resolving.result(_PATIENCE - _SILENT)
    except TimeoutError:
        reason = f"no name server has answered{_NO_DNS}"
    except OSError as error:
        is_temporary = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        reason = f"{error.strerror}{_NO_DNS if is_temporary else ''}"
    except UnicodeError:
        reason = "not a host name"
    else:
        return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in answers))
    raise UsageError(f"{word}: {reason}")


# Seconds until a user is told what is waited for, and until the name is given up.
_SILENT, _PATIENCE = 1, 5
_NO_DNS = "; give an address instead, and see where queries go: `fz-iproute doctor -v`, line dns"


def _mapped(word: str) -> IPv4Address | None:
    """The IPv4 address in an IPv4-mapped IPv6 address such as ::ffff:192.0.2.1; None for any other word."""
    with suppress(ValueError):
        address = ip_address(word)
        return address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return None


def _text(arguments: Namespace, word: str, question: Question, answers: Sequence[Answer], config: Config) -> str:
    """The answers as text. The one about the VPN's own packets is shown only with -v, or if the kernel contradicts."""
    shown = screen(arguments)
    is_whole = arguments.level == "DEBUG" or any(answer.objection for answer in answers)
    name = "" if word == question.address else word
    text = as_text(answers if is_whole else answers[:1], question, config, name, shown.width)
    return shown.page(text, 8, most=None)


def _mark(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 2**32:
        raise ArgumentTypeError(f"{text!r} is not a mark such as 0xfd002021")
    return value


def explain(question: Question, config: Config, source: Source, sync: str) -> list[Answer]:
    """Answer the question, once for each mark. `sync` is the command to advise.

    UsageError if the question makes no sense.
    """
    answers = _answers(question, config, source, sync)
    if any(answer.objection for answer in answers):
        # Perhaps something changed between our reading and the kernel's answer. So ask once more.
        answers = _answers(question, config, source, sync)
    return answers


def _answers(question: Question, config: Config, source: Source, sync: str) -> list[Answer]:
    # On a recorded machine, the uid of the sender is unknown: it is not this user.
    asked = packets(question, config, os.getuid() if isinstance(source, Ip) else None)
    snapshot = Reader(source, config).read()
    for name, device in (("--iif", question.iif), ("--oif", question.oif)):
        if device and device not in snapshot.links:
            raise UsageError(f"{name}: there is no interface {device!r}")
    network = _network(source, snapshot, asked[0])
    judged = Judgement(config, snapshot, network)
    cases = [Case(judged, packet, network.way(packet), sync) for packet in asked]
    if sources := [case.connected for case in cases if case.connected]:
        judged = Judgement(config, snapshot, _network(source, snapshot, *asked[:1], *sources))
        cases = [case._replace(judged=judged) for case in cases]
    if any(case.is_by_default for case in cases):  # the sentence says which traffic takes that route
        whole = Network.of(snapshot, decisive_routes(source, snapshot))
        cases = [case._replace(whole=whole) for case in cases]
    sysctls = _sysctls(source, question.iif) if question.iif else {}
    return [answered(case, sysctls, _said_by_kernel(source, question, case.packet)) for case in cases]


def _network(source: Source, snapshot: Snapshot, *packets: Packet) -> Network:
    """The rules, and the routes to all addresses of the packets."""
    ends = dict.fromkeys(address for packet in packets for address in (packet.dst, packet.src) if address)
    hosts = [Prefix.of_host(packets[0].family, address) for address in ends or (0,)]
    return Network(snapshot.links, snapshot.rules, matching_routes(source, hosts, snapshot))


def _said_by_kernel(source: Source, question: Question, packet: Packet) -> Document | str | None:
    return source.route_get(route_get(question, packet), packet.family) if isinstance(source, Ip) else None


def _sysctls(source: Source, device: str) -> Mapping[str, str]:
    if isinstance(source, Ip):
        return sysctls(source, [device])
    recorded: Mapping[str, str] = getattr(source, "sysctls", {})
    return recorded
