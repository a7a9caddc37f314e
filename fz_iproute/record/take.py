"""`snapshot`: records everything that the planner, `doctor` and `explain` read."""

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fz_iproute import __version__
from fz_iproute.ip.answers import parsed
from fz_iproute.ip.ip import Ip
from fz_iproute.ip.reader import lan_questions
from fz_iproute.mirror import config_text, parse_links, parse_rules
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.ip_json import Document
from fz_iproute.mirror.prefix import FAMILIES, Family
from fz_iproute.mirror.words import LOCAL, MAIN, RULES_IN_DETAIL, of_table
from fz_iproute.record.facts import facts
from fz_iproute.record.firewall import firewall
from fz_iproute.record.recording import Recording, question_key
from fz_iproute.record.sysctl import sysctls


def take(ip: Ip | None, config: Config, path: Path | None, netns: str | None) -> Recording:
    """Record the machine. ReadFailed if any output of `ip` is unusable. Without `ip`, record what needs none.

    `path` is the configuration file, if one was named.
    """
    outputs, links = _outputs(ip, config) if ip else ({}, [])
    nft = firewall(ip) if ip else None
    return Recording(
        taken=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        versions={"fz-iproute": __version__, "kernel": platform.release(), **({"ip": ip.version} if ip else {})},
        config=config_text.dump(config),
        sysctls=sysctls(ip, sorted(parse_links.links(links))) if ip else {},
        outputs=outputs,
        facts={**facts(config, path, netns), **({} if nft is None else {"nft": nft})},
    )


def _outputs(ip: Ip, config: Config) -> tuple[dict[str, str], list[Document]]:
    """What `ip` prints, by question, and the links in it."""
    outputs: dict[str, str] = {}

    def record(family: Family | None, *questions: str) -> list[list[Any]]:
        asked = ip.ask(family, *questions)
        answers = [
            (question, text, parsed(family, question, text))  # fails if the recording could not be read later
            for question, text in zip(questions, ip.answers(asked), strict=True)
        ]
        for question, text, _ in answers:
            outputs[question_key(family, question, "-json")] = text.decode("utf-8", "surrogateescape")
        return [listing for *_, listing in answers]

    # `link show` must come last: in one batch, `ip` treats questions after it as if they were about links, too.
    _, _, links = record(None, "address show", "nexthop show", "link show")
    for family in FAMILIES:
        (rules,) = record(family, RULES_IN_DETAIL)
        reached = {rule.table for rule in parse_rules.rules(rules, family) if rule.table}
        for table in sorted(reached | {MAIN, LOCAL} | config.tables.ids):
            # One by one: a coprocess gives up if an answer is huge, as that for main may be.
            record(family, of_table(table))
        if '"metrics"' in outputs[question_key(family, of_table(MAIN), "-json")]:
            # The JSON does not show which metrics are locked.
            for question in lan_questions(config, family):
                lines = ip.text(family, question)
                outputs[question_key(family, question, "-oneline")] = "".join(f"{line}\n" for line in lines)
    return outputs, links
