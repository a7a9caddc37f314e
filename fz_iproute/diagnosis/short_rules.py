"""Says why a VPN's rule takes less than all traffic although it leads to a default route into the tunnel."""

from collections.abc import Iterator

from fz_iproute.diagnosis.internet import all_traffic
from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.lookup import Decision
from fz_iproute.mirror.model import Rule
from fz_iproute.mirror.prefix import FAMILY_NAMES, Family
from fz_iproute.mirror.words import printable, table_name


def not_carried(judged: Judgement) -> str:
    """The whole sentence: `tun5 does not carry all traffic: rule 100 takes only packets of uid 0-999`.

    "" if no packets leave outside the tunnel that it should carry.
    """
    if not judged.leaking:
        return ""
    name = judged.config.tunnel.interface
    said = all_traffic(judged.network, name) or f"{printable(name)} does not carry all traffic"
    reasons = dict.fromkeys(reason for family in judged.leaking for reason in short_rules(judged, family))
    return ": ".join(filter(None, [said, ", ".join(reasons)]))


def short_rules(judged: Judgement, family: Family) -> list[str]:
    """Why most packets to the internet do not follow each of these rules: `rule 100 takes only packets of uid 0-999`.

    Empty if they do, or if no rule leads to a default route into the tunnel.
    """
    found = judged.internet.get(family)
    if found is None or found.decision is None or found.state == "active":
        return []
    return list(dict.fromkeys(_reasons(judged, family, found.decision)))


def _reasons(judged: Judgement, family: Family, decision: Decision) -> Iterator[str]:
    results = {step.rule: step for step in decision.steps}
    for table, rules in judged.leading(family).items():
        for rule in rules if judged.has_default(table, family) else ():
            name, where = f"rule {rule.priority}", f"table {table_name(table)}"
            step = results.get(rule)
            if step is None:
                yield _passed_over(name, rule, decision)
            elif step.result == "does not fit":
                yield _limited(name, rule, step.why)
            elif step.result == "suppressed":
                yield f"{name} ignores the default route of {where}"
            else:
                yield f"{name} finds no way into the tunnel for most {FAMILY_NAMES[family]} in {where}"


def _passed_over(name: str, rule: Rule, decision: Decision) -> str:
    """The rule is not asked, because another one decides before it, or jumps past it."""
    jumps = [step.rule for step in decision.steps if step.result == "goto" and step.rule.priority <= rule.priority]
    last = decision.steps[-1].rule
    if jumps and last.priority > rule.priority:
        return f"rule {jumps[-1].priority} ({jumps[-1]}) skips {name}"
    return f"rule {last.priority} ({last}) comes before {name}"


def _limited(name: str, rule: Rule, why: str) -> str:
    """`why` is what the packet is, or is not, so that the rule does not match it."""
    if not rule.inverted:
        return f"{name} takes only packets {why.removeprefix('is ').removeprefix('not ')}"
    return f"{name} leaves out packets {why.removeprefix('is ')}" if why else f"{name} matches no packet"
