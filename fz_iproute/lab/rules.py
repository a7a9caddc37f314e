"""Rebuilds the rules."""

from fz_iproute.lab.printed import Found, Printed, command
from fz_iproute.mirror import parse_rules
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.prefix import FAMILIES


def rules(printed: Printed) -> Found:
    """Delete the rules that every new namespace has, then add the recorded ones in order."""
    for family in FAMILIES:
        found = parse_rules.rules(printed.rules.get(family, ()), family)
        if found:
            for priority in (0, 32766, 32767) if family == "inet" else (0, 32766):
                yield Command.of(family, ("rule", "del", "priority", str(priority)))
        for rule in found:
            words = list(rule.words)
            if rule.mark:
                # The mask must be given: without one, `fwmark 0` matches every packet.
                words[words.index("fwmark") + 1] = f"{rule.mark.value:#x}/{rule.mark.mask:#x}"
            if rule.protocol not in ("", "unspec"):
                words += ["protocol", rule.protocol]
            what = f"rule {rule.priority}: {rule}"
            line = ("rule", "add", "priority", str(rule.priority), *words)
            yield command(what, family, line, devices=(rule.iif, rule.oif))
