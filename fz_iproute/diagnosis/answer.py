"""The answer of `explain`: where a packet goes, and whether the kernel says the same."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from fz_iproute.diagnosis.lookup import Decision, Packet
from fz_iproute.diagnosis.received import MARTIAN, Drop, drops
from fz_iproute.diagnosis.sentence import Case, sentence, step_text
from fz_iproute.errors import UsageError
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.ip_json import Document
from fz_iproute.mirror.prefix import Family
from fz_iproute.mirror.words import printable


class Question(NamedTuple):
    """What the user asks. If `mark` is None, there are two answers: for no mark and for the VPN's mark."""

    address: str
    src: str = ""
    mark: int | None = None
    iif: str = ""
    oif: str = ""


class Answer(NamedTuple):
    """Where one packet goes, and what the kernel says about it."""

    packet: Packet
    decision: Decision
    sentence: str
    error: str  # the error that a program on this machine gets, "" if it may send
    objection: str  # the kernel's answer if it contradicts, else ""
    said: str | None  # the kernel's answer in words; None if it was not asked


def packets(question: Question, config: Config, uid: int | None) -> list[Packet]:
    """The packets that the question is about. `uid` is the sender's, None if unknown.

    UsageError if the question makes no sense.
    """
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
        host, _, length = text.partition("/")
        advice = f"; leave out /{length}, or ask for a host in it" if host and length.isdecimal() else ""
        raise UsageError(f"{name}: {text!r} is not an IPv4 or IPv6 address{advice}") from None
    if "%" in text:
        raise UsageError(f"{name}: {text!r} has a zone; leave it out and name the interface with --oif")
    return int(address), "inet" if address.version == 4 else "inet6"


def route_get(question: Question, packet: Packet) -> list[str]:
    """The arguments with which `ip route get` asks the kernel the same question."""
    words = [str(ip_address(question.address))]
    for name, value in (("from", question.src), ("iif", question.iif), ("oif", question.oif)):
        words += [name, value] if value else []
    return [*words, "mark", f"{packet.mark:#x}"]


def answered(case: Case, sysctls: Mapping[str, str], said: Document | str | None) -> Answer:
    """Compare the decision with the kernel's.

    `said` is the answer of `ip route get`: its JSON, its error message, or None if the kernel was not asked.
    """
    packet, decision = case.packet, case.decision
    dropped = list(drops(packet, decision, case.judged.network, sysctls)) if packet.iif else []
    if said is not None:
        dropped = [drop for drop in dropped if not drop.errors or _is_one_of(said, drop.errors)]
        if packet.iif and not dropped and decision.outcome != "blackhole" and _is_one_of(said, MARTIAN):
            dropped = [Drop(f"the kernel does not accept it by {packet.iif} ({said})", MARTIAN)]
    text = sentence(case)
    if dropped:
        text = f"is dropped: {'; '.join(drop.why for drop in dropped)}; by rules and routes, it {text}"
    if said is None:
        return Answer(packet, decision, text, case.error, "", None)
    in_words = said if isinstance(said, str) else f"{said.get('type', 'unicast')} dev {said.get('dev', '')}"
    agrees = decision.doubts or any(drop.errors for drop in dropped) or _agrees(decision, said)
    return Answer(packet, decision, text, case.error, "" if agrees else in_words, in_words)


def _is_one_of(said: Document | str, errors: Sequence[str]) -> bool:
    return isinstance(said, str) and any(error in said for error in errors)


def _agrees(decision: Decision, said: Document | str) -> bool:
    if isinstance(said, str):
        # If the source address is not the machine's own, older kernels say "Invalid argument".
        possible = [decision.error, *(["Invalid argument"] if decision.outcome == "foreign" else [])]
        return _is_one_of(said, [error for error in possible if error])
    device = said.get("dev", "")
    is_own = decision.outcome in ("local", "broadcast", "anycast") and device == "lo"
    return said.get("type", "unicast") == decision.outcome and (device in decision.devices or is_own)


def as_text(
    answers: Sequence[Answer], question: Question, config: Config, name: str = "", width: int | None = None
) -> str:
    """For people: a sentence, then each rule with its result. `name` is the host name of the address, if any.

    Each result is printed beside its rule, or below it if a line would become longer than `width`.
    """
    lines = []
    address = f"{name} ({question.address})" if name else question.address
    for packet, decision, text, _, objection, said in answers:
        subject = f"a packet to {address}" if text.startswith(_OF_PACKETS) else address
        lines.append(printable(f"{subject}{_mark_text(packet.mark, config)} {text}"))
        rules = [printable(f"  {step.rule.priority}: {step.rule}") for step in decision.steps]
        results = [printable(step_text(step, packet)) for step in decision.steps]
        column = max(map(len, rules), default=0)
        if not width or column + 2 + max(map(len, results), default=0) <= width:
            lines += [f"{rule:<{column}}  {result}" for rule, result in zip(rules, results, strict=True)]
        else:
            lines += [line for rule, result in zip(rules, results, strict=True) for line in (rule, f"      {result}")]
        lines += [f"  in doubt: {printable(doubt)}" for doubt in decision.doubts]
        if objection:
            lines.append(f"  the kernel says otherwise: {printable(objection)}")
        elif said is not None and decision.doubts:
            lines.append(f"  not compared with the kernel, which says: {printable(said)}")
        elif said is not None:
            lines.append("  the kernel agrees")
    return "\n".join(lines)


# How the sentences start that would be odd if their subject was the address itself.
_OF_PACKETS = ("cannot be sent", "is refused", "is dropped")


def _mark_text(mark: int, config: Config) -> str:
    if not mark:
        return ""
    return f", with the VPN's mark {mark:#x}," if mark == config.tunnel.fwmark.value else f", with the mark {mark:#x},"


def as_document(answers: Sequence[Answer], question: Question) -> dict[str, Any]:
    """For programs: the answers as a JSON document."""
    return {
        "address": question.address,
        "answers": [
            {
                "address": question.address,
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
                "error": answer.error,
                "doubts": list(answer.decision.doubts),
                "kernel": _kernel(answer),
            }
            for answer in answers
        ],
    }


def _kernel(answer: Answer) -> dict[str, Any] | None:
    if answer.said is None:
        return None
    return {"agrees": None if answer.decision.doubts else not answer.objection, "says": answer.said}
