"""What `explain` answers: the way of a packet, and whether the kernel agrees, for people and for programs."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from fz_iproute.diagnosis.lookup import Decision, Packet
from fz_iproute.diagnosis.sentence import step_text
from fz_iproute.errors import UsageError
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.prefix import Family
from fz_iproute.mirror.words import printable


class Question(NamedTuple):
    """What the user asks. Without a `mark` there are two answers: without a mark and with the VPN's."""

    address: str
    src: str = ""
    mark: int | None = None
    iif: str = ""
    oif: str = ""


class Answer(NamedTuple):
    """Where the packet goes. `objection` is what the kernel says instead: "" if it agrees, None if nobody asked it."""

    packet: Packet
    decision: Decision
    sentence: str
    objection: str | None


def packets(question: Question, config: Config, uid: int | None) -> list[Packet]:
    """The packets to follow; `uid` sends them, None if unknown. UsageError if the question makes no sense."""
    dst, family = _address(question.address, "ADDRESS")
    src = 0
    if question.src:
        src, other = _address(question.src, "--from")
        if other != family:
            raise UsageError(f"--from: {question.src} is not of the same family as {question.address}")
    if question.iif and question.oif:
        raise UsageError("--iif and --oif: a packet is either received or sent; give one of them")
    if question.iif and not src:
        raise UsageError("--iif: a received packet has a source; give --from too")
    packet = Packet(family, dst, src=src, iif=question.iif, oif=question.oif, uid=0 if question.iif else uid)
    marks = (0, config.tunnel.fwmark.value) if question.mark is None else (question.mark,)
    return [packet._replace(mark=mark) for mark in marks]


def _address(text: str, name: str) -> tuple[int, Family]:
    try:
        address = ip_address(text)
    except ValueError:
        raise UsageError(f"{name}: {text!r} is not an IPv4 or IPv6 address") from None
    if "%" in text:
        raise UsageError(f"{name}: {text!r} has a zone; leave it out and name the interface with --oif")
    return int(address), "inet" if address.version == 4 else "inet6"


def route_get(question: Question, packet: Packet) -> list[str]:
    """The arguments of `ip route get` that ask the kernel the same."""
    words = [str(ip_address(question.address))]
    for name, value in (("from", question.src), ("iif", question.iif), ("oif", question.oif)):
        words += [name, value] if value else []
    return [*words, "mark", f"{packet.mark:#x}"]


def objection(decision: Decision, said: dict[str, Any] | str) -> str:
    """How the answer of `ip route get` differs from the decision; `said` is its JSON or its error message."""
    if isinstance(said, str):
        # Older kernels call a foreign source an invalid argument.
        possible = {decision.error} | ({"Invalid argument"} if decision.outcome == "foreign" else set())
        return "" if any(error and error in said for error in possible) else said
    kind, device = said.get("type", "unicast"), said.get("dev", "")
    is_own = decision.outcome in ("local", "broadcast", "anycast") and device == "lo"
    if kind == decision.outcome and (device in decision.devices or is_own):
        return ""
    return f"{kind} dev {device}"


def as_text(answers: Sequence[Answer], question: Question, config: Config) -> str:
    """For people: each rule that the kernel asks and its result, then the sentence."""
    lines = []
    for packet, decision, sentence, objection in answers:
        lines.append(f"{question.address} {_mark_text(packet.mark, config)}")
        rules = [f"{step.rule.priority}: {step.rule}" for step in decision.steps]
        width = max(map(len, rules), default=0)
        lines += [
            f"  {rule:<{width}}  {printable(step_text(step))}" for rule, step in zip(rules, decision.steps, strict=True)
        ]
        lines += [f"  in doubt: {printable(doubt)}" for doubt in decision.doubts]
        lines.append(f"  {printable(sentence)}")
        if objection:
            lines.append(f"  the kernel says otherwise: {printable(objection)}")
        elif objection is not None:
            lines.append("  the kernel was not compared" if decision.doubts else "  the kernel agrees")
    return "\n".join(lines)


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
                        "verdict": step.result,
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
