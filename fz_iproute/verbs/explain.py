"""`explain`: which way a packet to an address goes, rule by rule, and whether the kernel agrees."""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace

from fz_iproute.diagnosis.answer import Answer, Question, as_document, as_text, objection, packets, route_get
from fz_iproute.diagnosis.lookup import Fib, decide
from fz_iproute.diagnosis.sentence import Case, sentence
from fz_iproute.errors import ReadFailed, UsageError
from fz_iproute.ip.ip import Ip, Source
from fz_iproute.ip.reader import Reader
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import desired
from fz_iproute.mirror.prefix import Prefix
from fz_iproute.verbs.options import add_json, add_snapshot
from fz_iproute.verbs.output import write, write_json
from fz_iproute.verbs.source import chosen_source


def add(parser: ArgumentParser) -> None:
    """Add the options of this verb."""
    add_json(parser)
    parser.add_argument("address", metavar="ADDRESS", help="where the packet goes to")
    parser.add_argument("--from", dest="src", metavar="ADDRESS", default="", help="where it comes from")
    parser.add_argument("--mark", type=_mark, help="its firewall mark (default: both without and with the VPN's)")
    parser.add_argument("--iif", metavar="DEVICE", default="", help="the interface that receives it (needs --from)")
    parser.add_argument("--oif", metavar="DEVICE", default="", help="the interface that its sender is bound to")
    add_snapshot(parser)


def run(arguments: Namespace, log: Log) -> int:
    """Print the answers. ReadFailed if the kernel disagrees with one of them."""
    question = Question(arguments.address, arguments.src, arguments.mark, iif=arguments.iif, oif=arguments.oif)
    with chosen_source(arguments, log) as (source, config):
        answers = explain(question, config, source)
    if arguments.json:
        write_json(as_document(answers, question))
    else:
        write(as_text(answers, question, config))
    if any(answer.objection for answer in answers):
        raise ReadFailed(
            f"the kernel sends a packet to {question.address} another way than its rules and tables say; "
            "please report it, with the output of `fz-iproute snapshot`"
        )
    return 0


def _mark(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 2**32:
        raise ArgumentTypeError(f"{text!r} is not a mark such as 0xfd002021")
    return value


def explain(question: Question, config: Config, source: Source) -> list[Answer]:
    """One answer for each mark. UsageError if the question makes no sense."""
    answers = _answers(question, config, source)
    if any(answer.objection for answer in answers):
        answers = _answers(question, config, source)  # something may have changed between two readings
    return answers


def _answers(question: Question, config: Config, source: Source) -> list[Answer]:
    # This user sends nothing on a recorded machine.
    asked = packets(question, config, os.getuid() if isinstance(source, Ip) else None)
    packet = asked[0]
    ends = dict.fromkeys((packet.dst, packet.src) if packet.src else (packet.dst,))
    hosts = [Prefix.of_host(packet.family, address) for address in ends]
    reader = Reader(source, config)
    snapshot = reader.read()
    for name, device in (("--iif", question.iif), ("--oif", question.oif)):
        if device and device not in snapshot.links:
            raise UsageError(f"{name}: there is no interface {device!r}")
    fib = Fib(reader.around(hosts, snapshot))
    goal = desired(config, snapshot)
    answers = []
    for packet in asked:
        decision = decide(packet, snapshot.rules, fib, snapshot.links)
        said = None
        if isinstance(source, Ip):
            answer = source.way(route_get(question, packet), packet.family)
            said = "" if decision.doubts else objection(decision, answer)
        answers.append(Answer(packet, decision, sentence(Case(config, snapshot, goal, packet, decision)), said))
    return answers
