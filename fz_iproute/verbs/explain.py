"""`explain`: which way a packet to an address goes, rule by rule, and whether the kernel agrees."""

import os
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from fz_iproute.diagnosis.lookup import Decision, Packet, Tables, decide
from fz_iproute.diagnosis.sentence import Case, sentence, step_text
from fz_iproute.errors import UsageError
from fz_iproute.ip.ip import Ip, Source
from fz_iproute.ip.reader import Reader
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import desired
from fz_iproute.mirror.prefix import Family, Prefix
from fz_iproute.mirror.words import printable


class Question(NamedTuple):
    """What is asked; `mark` is None for both answers, without and with the VPN's mark."""

    address: str
    src: str = ""
    mark: int | None = None
    iif: str = ""
    oif: str = ""


class Answer(NamedTuple):
    """Where the packet goes, in words, and what the kernel says otherwise ("" if it agrees, None if nobody asked)."""

    packet: Packet
    decision: Decision
    sentence: str
    objection: str | None


def explain(question: Question, config: Config, source: Source) -> list[Answer]:
    """One answer for each mark. UsageError if it is no question."""
    answers = _answers(question, config, source)
    if any(answer.objection for answer in answers):
        answers = _answers(question, config, source)  # something may have changed between the readings
    return answers


def _answers(question: Question, config: Config, source: Source) -> list[Answer]:
    # Who asks about a recorded machine is nobody there.
    packets = _packets(question, config, os.getuid() if isinstance(source, Ip) else None)
    packet = packets[0]
    ends = dict.fromkeys((packet.dst, packet.src) if packet.src else (packet.dst,))
    hosts = [Prefix.of_host(packet.family, address) for address in ends]
    reader = Reader(source, config)
    snapshot = reader.read()
    for name, device in (("--iif", question.iif), ("--oif", question.oif)):
        if device and device not in snapshot.links:
            raise UsageError(f"{name}: there is no interface {device!r}")
    tables = Tables(reader.around(hosts, snapshot))
    goal = desired(config, snapshot)
    answers = []
    for packet in packets:
        decision = decide(packet, snapshot.rules, tables, snapshot.links)
        objection = None
        if isinstance(source, Ip):
            said = source.way(_route_get(question, packet), packet.family)
            objection = "" if decision.doubts else disagreement(decision, said)
        answers.append(Answer(packet, decision, sentence(Case(config, snapshot, goal, packet, decision)), objection))
    return answers


def _packets(question: Question, config: Config, uid: int | None) -> list[Packet]:
    dst, family = _address(question.address, "ADDRESS")
    src = 0
    if question.src:
        src, other = _address(question.src, "--from")
        if other != family:
            raise UsageError(f"--from: {question.src} is of another family than {question.address}")
    if question.iif and question.oif:
        raise UsageError("--iif and --oif: a packet is either received or sent")
    if question.iif and not src:
        raise UsageError("--iif: a packet that is received comes from somewhere: give --from too")
    packet = Packet(family, dst, src=src, iif=question.iif, oif=question.oif, uid=0 if question.iif else uid)
    marks = (0, config.tunnel.fwmark.value) if question.mark is None else (question.mark,)
    return [packet._replace(mark=mark) for mark in marks]


def _address(text: str, name: str) -> tuple[int, Family]:
    try:
        address = ip_address(text)
    except ValueError:
        raise UsageError(f"{name}: {text!r} is not an IPv4 or IPv6 address") from None
    if "%" in text:
        raise UsageError(f"{name}: {text!r} has a zone; name its interface with --oif")
    return int(address), "inet" if address.version == 4 else "inet6"


def _route_get(question: Question, packet: Packet) -> list[str]:
    words = [str(ip_address(question.address))]
    for name, value in (("from", question.src), ("iif", question.iif), ("oif", question.oif)):
        words += [name, value] if value else []
    return [*words, "mark", f"{packet.mark:#x}"]


def disagreement(decision: Decision, said: dict[str, Any] | str) -> str:
    """What `ip route get` says otherwise; `said` is its document, or the words of its refusal."""
    if isinstance(said, str):
        # Older kernels call a foreign source an invalid argument.
        possible = {decision.error} | ({"Invalid argument"} if decision.outcome == "foreign" else set())
        return "" if any(error and error in said for error in possible) else said
    kind, device = said.get("type", "unicast"), said.get("dev", "")
    at_home = decision.outcome in ("local", "broadcast", "anycast") and device == "lo"
    if kind == decision.outcome and (device in decision.devices or at_home):
        return ""
    return f"{kind} dev {device}"


def as_text(answers: Sequence[Answer], question: Question, config: Config) -> str:
    """For people: the rules in order, each with what became of it, then the outcome."""
    lines = []
    for packet, decision, outcome, objection in answers:
        lines.append(f"{question.address} {_mark_text(packet.mark, config)}")
        rules = [f"{step.rule.priority}: {step.rule}" for step in decision.steps]
        width = max(map(len, rules), default=0)
        lines += [
            f"  {rule:<{width}}  {printable(step_text(step))}" for rule, step in zip(rules, decision.steps, strict=True)
        ]
        lines += [f"  in doubt: {printable(doubt)}" for doubt in decision.doubts]
        lines.append(f"  {printable(outcome)}")
        if objection is not None:
            lines.append(f"  the kernel says otherwise: {printable(objection)}" if objection else _agreement(decision))
    return "\n".join(lines)


def _agreement(decision: Decision) -> str:
    return "  the kernel was not compared" if decision.doubts else "  the kernel agrees"


def _mark_text(mark: int, config: Config) -> str:
    if not mark:
        return "without a mark"
    return f"with the VPN's mark {mark:#x}" if mark == config.tunnel.fwmark.value else f"with the mark {mark:#x}"


def as_document(answers: Sequence[Answer], question: Question) -> dict[str, Any]:
    """For programs."""
    return {
        "address": question.address,
        "answers": [
            {
                "mark": answer.packet.mark,
                "steps": [
                    {
                        "priority": step.rule.priority,
                        "rule": str(step.rule),
                        "verdict": step.verdict,
                        "why": step.why,
                        "route": str(step.route) if step.route else None,
                    }
                    for step in answer.decision.steps
                ],
                "outcome": answer.decision.outcome,
                "table": answer.decision.table or None,
                "dev": list(answer.decision.devices),
                "sentence": answer.sentence,
                "doubts": list(answer.decision.doubts),
                "kernel": None if answer.objection is None else {"agrees": not answer.objection},
            }
            for answer in answers
        ],
    }
