"""A remedy for a problem, as data. It can be printed as commands, and tried on a model of the machine."""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from fz_iproute.diagnosis.detect import Vpn, candidates
from fz_iproute.diagnosis.judgement import Judgement
from fz_iproute.diagnosis.machine import Machine
from fz_iproute.diagnosis.reach import Network
from fz_iproute.diagnosis.simulated import Refused, RouteStep, RuleStep, after
from fz_iproute.mirror import config as configuration
from fz_iproute.mirror import config_text
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.model import Route
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet
from fz_iproute.mirror.words import MAIN, sysctl_name
from fz_iproute.own_commands import own_command


class Setting(NamedTuple):
    """A key of the configuration file, and the value that it should have."""

    section: str
    key: str
    value: Any


class WriteConfig(NamedTuple):
    """`detect --write`: makes the configuration file."""

    config: Config  # the content of the file
    interface: str  # for --interface; "" if there is only one VPN to choose from


class Sync(NamedTuple):
    """`fz-iproute sync`."""


class Sysctl(NamedTuple):
    """`sysctl -w`."""

    name: str  # with slashes, and without the leading `net`
    value: str


Step = RuleStep | RouteStep | Setting | WriteConfig | Sync | Sysctl


COMMENT = "  # "  # stands before what a shell ignores


class Remedy(NamedTuple):
    """Either steps, which can be tried; or advice in words, if a person must decide or know more than we do."""

    steps: tuple[Step, ...] = ()
    words: str = ""
    effect: str = ""  # what it does, where that must be said

    def undo(self, machine: Machine) -> list[Step]:
        """The steps that undo what it adds and deletes; none if a later step depends on that, or changes a setting.

        The kernel would put a rule that is added again behind those of the same priority, so there is no undo then.
        """
        changes = self.steps[self.steps[:1] == (Sync(),) :]
        back: list[Step] = [_reverse(step) for step in reversed(changes) if isinstance(step, RuleStep | RouteStep)]
        places = Counter((rule.family, rule.priority) for rule in machine.network.rules)
        rules = (step.rule for step in back if isinstance(step, RuleStep) and step.verb == "add")
        is_exact = all(places[rule.family, rule.priority] < 2 for rule in rules)
        return back if is_exact and len(back) == len(changes) else []

    def command(self, machine: Machine) -> str:
        """What to do: first the keys to set in the configuration file, then one line for a shell."""
        settings = [step for step in self.steps if isinstance(step, Setting)]
        commands = [_command(step, machine) for step in self.steps if not isinstance(step, Setting)]
        parts = [in_file(machine, *settings)] if settings else []
        parts += [" && ".join(commands)] if commands else []
        parts += [self.words] if self.words else []
        return ", then ".join(parts)

    def text(self, machine: Machine) -> str:
        """The printed form: the command, and a comment on its effect and on how to undo it."""
        undo = " && ".join(_command(step, machine) for step in self.undo(machine))
        comment = "; ".join(filter(None, [self.effect, undo and f"undo: {undo}"]))
        return self.command(machine) + (f"{COMMENT}{comment}" if comment else "")

    def needs_config(self, machine: Machine) -> bool:
        """True if it changes the configuration file, or runs fz-iproute, which reads the file."""
        text = self.text(machine)
        return machine.config_path in text or "fz-iproute " in text


def _reverse(step: RuleStep | RouteStep) -> RuleStep | RouteStep:
    return step._replace(verb="del" if step.verb == "add" else "add")


def added(machine: Machine, key: Literal["allow", "deny"], *prefixes: Prefix) -> Setting:
    """The setting that adds prefixes to a list of section [lan]."""
    return Setting("lan", key, tuple(dict.fromkeys((*getattr(machine.config.lan, key), *prefixes))))


def perhaps_synced(*changes: Sequence[Step]) -> tuple[Remedy, ...]:
    """Each of these changes as a remedy: first alone, then after a `sync`.

    Perhaps the LAN is reachable only because of what the change ends. Then the copies must exist before.
    """
    return tuple(Remedy((*first, *steps)) for first in ((), (Sync(),)) for steps in changes)


def advice(words: str) -> tuple[Remedy, ...]:
    """A remedy in words, which cannot be tried."""
    return (Remedy(words=words),)


def written(machine: Machine, vpn: Vpn) -> list[WriteConfig]:
    """The step `detect --write` for this VPN. Empty if there is a file already, or if it would not choose this VPN."""
    facts = machine.facts
    has_none = facts.get("config.path") == machine.usual_path and "config.mode" not in facts
    same = [each for each in machine.vpns if each.interface == vpn.interface]
    if not has_none or vpn.config is None or candidates(same) != [vpn]:
        return []
    return [WriteConfig(vpn.config, "" if candidates(machine.vpns) == [vpn] else vpn.interface)]


def tried(machine: Machine, steps: Iterable[Step]) -> Machine:
    """The machine after these steps. Refused if the kernel or `sync` would refuse one of them."""
    for step in steps:
        machine = _after(machine, step)
    return machine


def _after(machine: Machine, step: Step) -> Machine:
    network = machine.network
    match step:
        case Setting(section, key, value):
            machine = replace(machine, config=configuration.replace(machine.config, **{section: {key: value}}))
        case WriteConfig(config):
            machine = replace(machine, config=config)
        case Sync():
            if refusal := sync_refusal(machine):
                raise Refused(refusal)
            network = machine.then
        case Sysctl(name, value):
            sysctls = {**machine.recording.sysctls, name: value}
            return replace(machine, recording=replace(machine.recording, sysctls=sysctls))
        case _:
            network = after(network, [step])
    return _with(machine, network)


def sync_refusal(machine: Machine) -> str:
    """Why `sync` would refuse to run, and what to do first; "" if it would run."""
    return machine.refusal.replace("fz-iproute down", machine.fz_iproute("down"))


def config_refusal(machine: Machine) -> str:
    """What to do first if the configuration could not be read; "" if it could."""
    error = machine.facts.get("config.error", "")
    if error and may_not_read_config(machine):
        return f"`sudo {machine.fz_iproute('doctor')}` first, which can read the configuration"
    return "mend the configuration first" if error else ""


def may_not_read_config(machine: Machine) -> bool:
    """True if the configuration is unknown, because this user may not read the file."""
    return "Permission denied" in machine.facts.get("config.error", "") and machine.facts.get("uid") != "0"


def _with(machine: Machine, network: Network) -> Machine:
    """The machine with another network, and with the snapshot that the planner would read from it."""
    main = {family: tuple(_main(machine, network, family)) for family in FAMILIES}
    snapshot = replace(machine.snapshot, links=network.links, rules=network.rules, main=main)
    judged = Judgement.reading(machine.config, snapshot, network)
    return replace(machine, snapshot=judged.snapshot, network=network)


def _main(machine: Machine, network: Network, family: Family) -> Iterator[Route]:
    """The routes of main that the reader would ask `ip` for, because they may be copied."""
    lan = machine.config.lan
    allowed = PrefixSet(lan.allow)
    # A route that the snapshot has was read in more detail there, so that one is used.
    known = {(route.dst, route.attributes.words): route for route in machine.snapshot.main.get(family, ())}
    for route in network.table(MAIN, family):
        is_on_link = family == "inet6" or route.attributes.scope == "link"
        if is_on_link or (lan.multicast and route.dst == "default") or (allowed and allowed.covers(route.prefix)):
            yield known.get((route.dst, route.attributes.words), route)


def _command(step: Step, machine: Machine) -> str:
    match step:
        case RuleStep(verb, rule):
            protocol = ("protocol", rule.protocol) if rule.protocol not in ("", "unspec") else ()
            words = ("rule", verb, "priority", str(rule.priority), *rule.words, *protocol)
            return machine.as_root(machine.ip(rule.family, shlex.join(words)))
        case RouteStep(verb, table, route):
            words = ("route", verb, *(("table", str(table)) if table != MAIN else ()), *route.words)
            return machine.as_root(machine.ip(route.attributes.family, shlex.join(words)))
        case WriteConfig(_, interface):
            options = ["--write", machine.config_path, *(["--interface", interface] if interface else [])]
            return machine.as_root(own_command("detect", *options, netns=machine.netns))
        case Sync():
            return machine.fz_iproute("sync")
        case Sysctl(name, value):
            setting = shlex.quote(f"{sysctl_name(name)}={value}")
            return machine.as_root(machine.inside(f"sysctl -w {setting}"))
        case _:
            raise AssertionError(step)


def in_file(machine: Machine, *settings: Setting) -> str:
    """How to set these keys: `set in /etc/fz-iproute/config.toml, section [lan]: prune = true`."""
    sections: dict[str, list[str]] = {}
    for section, key, value in settings:
        sections.setdefault(section, []).append(f"{key} = {config_text.toml(value)}")
    lines = (f"section [{section}]: {', '.join(keys)}" for section, keys in sections.items())
    return f"set in {machine.config_path}, {'; '.join(lines)}"


def in_force(machine: Machine, *settings: Setting) -> str:
    """How to set these keys so that they have an effect at once, even where no `watch` runs."""
    return f"{in_file(machine, *settings)}, then {machine.fz_iproute('sync')}"
