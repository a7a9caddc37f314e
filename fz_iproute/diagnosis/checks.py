"""What `doctor` checks: each check looks at the record of a machine and says what it finds, why it matters, what to do.

Every check is a function of its own in CHECKS; none relies on another.
"""

import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Literal, NamedTuple

from fz_iproute.diagnosis.lookup import Decision
from fz_iproute.diagnosis.machine import DEFAULT_CONFIG, Machine, shown
from fz_iproute.diagnosis.shadow import shadows
from fz_iproute.ip.version import OLDEST, is_too_old
from fz_iproute.mirror import rt_tables
from fz_iproute.mirror.desired import explicit
from fz_iproute.mirror.model import Route, Rule
from fz_iproute.mirror.plan import plan
from fz_iproute.mirror.policy import PRIVATE
from fz_iproute.mirror.prefix import FAMILIES, Family, Prefix, PrefixSet
from fz_iproute.mirror.words import DEFAULT, LOCAL, MAIN

Level = Literal["ok", "info", "warning", "failure"]


class Finding(NamedTuple):
    """What a check has found. `remedy` can be carried out as it stands; both it and `why` are empty if all is well."""

    name: str
    level: Level
    seen: str
    why: str = ""
    remedy: str = ""


class _Said(NamedTuple):
    """A finding, before it has the name of its check."""

    level: Level
    seen: str
    why: str = ""
    remedy: str = ""


def examine(machine: Machine) -> list[Finding]:
    """Ask every check."""
    return [Finding(name, *said) for name, check in CHECKS.items() for said in _asked(check, machine)]


class _Check(NamedTuple):
    look: Callable[[Machine], Iterator[_Said]]
    needs_ip: bool


CHECKS: dict[str, _Check] = {}


def _asked(check: _Check, machine: Machine) -> Iterator[_Said]:
    if check.needs_ip and machine.snapshot is None:
        yield _Said("info", "could not look: ip does not answer")
        return
    try:
        found = list(check.look(machine))
    except (ValueError, TypeError) as error:  # a record may have gone through somebody's editor
        found = [_Said("info", f"could not look: {error}")]
    yield from found


def _check(name: str, *, needs_ip: bool = True) -> Callable[[Callable[[Machine], Iterator[_Said]]], None]:
    """Enter a function into CHECKS. It says at least one thing: that all is well, if it is."""

    def enter(look: Callable[[Machine], Iterator[_Said]]) -> None:
        CHECKS[name] = _Check(look, needs_ip)

    return enter


def _or_well(found: Iterable[_Said], seen: str) -> Iterator[_Said]:
    """What was found, or that all is well."""
    problems = list(dict.fromkeys(found))
    yield from problems or [_Said("ok", seen)]


# The tool and its rights


@_check("ip", needs_ip=False)
def _ip(machine: Machine) -> Iterator[_Said]:
    version = machine.recording.versions.get("ip", "")
    error = machine.facts.get("ip.error", "")
    why = "all that is read and changed goes through ip; the checks that need it could not look"
    if machine.snapshot and not is_too_old(version):
        yield _Said("ok", version or "its version is not on record")
    elif version and not is_too_old(version):
        yield _Said("failure", error or "it did not answer", why, f"{machine.fz_iproute('status')} --verbose")
    else:
        yield _Said("failure", error or f"{version} is too old", why, f"install iproute2 {OLDEST} or newer")


_CAP_NET_ADMIN = 12


@_check("permission", needs_ip=False)
def _permission(machine: Machine) -> Iterator[_Said]:
    held = machine.facts.get("capabilities")
    if held is None:
        yield _Said("info", "could not look: /proc/self/status has no capabilities")
    elif int(held, 16) >> _CAP_NET_ADMIN & 1:
        yield _Said("ok", "CAP_NET_ADMIN is effective")
    else:
        yield _Said(
            "warning",
            f"user {machine.facts.get('uid', '?')} does not have CAP_NET_ADMIN",
            "whoever ran this cannot run sync, watch or down; a service may well have what it takes",
            f"sudo {machine.fz_iproute('doctor')}",
        )


@_check("config", needs_ip=False)
def _config(machine: Machine) -> Iterator[_Said]:
    yield from _or_well(_config_problems(machine), _config_seen(machine.facts))


def _config_seen(facts: Mapping[str, str]) -> str:
    path = facts.get("config.path", DEFAULT_CONFIG)
    return f"{path}: mode {facts['config.mode']}" if "config.mode" in facts else f"there is no {path}: the defaults"


def _config_problems(machine: Machine) -> Iterator[_Said]:
    facts = machine.facts
    path = facts.get("config.path", DEFAULT_CONFIG)
    error = facts.get("config.error", "")
    if error.endswith("Permission denied") and facts.get("uid") != "0":
        why = "the other checks go by the defaults, which may not be what is in force"
        yield _Said("warning", error, why, f"sudo {machine.fz_iproute('doctor')}")
    elif error:
        why = "nothing runs with it; the other checks go by the defaults"
        yield _Said("failure", error.replace("\n", "; "), why, f"fz-iproute config check {shlex.quote(path)}")
    mode = int(facts.get("config.mode", "0"), 8)
    if mode & 0o002:
        why = "who can change it decides where packets go, so root does not run with it"
        yield _Said("failure", f"everybody may write to {path}", why, f"chmod o-w {shlex.quote(path)}")
    if mode & 0o020:
        why = "each member of its group decides where packets go"
        yield _Said("warning", f"its group may write to {path}", why, f"chmod g-w {shlex.quote(path)}")
    owner = facts.get("config.uid", "0")
    if owner not in ("0", facts.get("uid")):
        why = "its owner decides where packets go"
        yield _Said("warning", f"{path} belongs to user {owner}", why, f"chown root {shlex.quote(path)}")


# The VPN


@_check("tunnel")
def _tunnel(machine: Machine) -> Iterator[_Said]:
    name = machine.config.tunnel.interface
    link = machine.seen.links.get(name)
    if link and link.up:
        yield _Said("ok", f"{name} is up")
    elif link:
        why = "the kernel takes its routes out: what should go into the tunnel goes elsewhere, or nowhere"
        yield _Said("failure", f"{name} is down", why, machine.ip("inet", f"link set {shlex.quote(name)} up"))
    elif others := sorted(machine.goal.tunnels & machine.seen.links.keys()):
        why = "the table of the VPN leads into another interface"
        remedy = machine.setting("tunnel", f'interface = "{others[0]}"')
        yield _Said("failure", f"there is no {name}, but {others[0]} carries the VPN", why, remedy)
    else:
        why = "without the VPN there is nothing to do, or its interface has another name"
        setting = machine.setting("tunnel", 'interface = "NAME"')
        remedy = f"start the VPN's client, or {setting}"
        yield _Said("failure", f"there is no {name}", why, remedy)


@_check("rules")
def _rules(machine: Machine) -> Iterator[_Said]:
    layout = machine.goal.layout
    leading = [rule for rule in machine.seen.rules if rule.table in layout.tables]
    if not leading and machine.config.tunnel.interface not in machine.seen.links:
        yield _Said("info", "no rule leads to the VPN's table, and there is no tunnel")
        return
    found = (said for family in machine.families for said in _rule_problems(machine, family))
    yield from _or_well(found, ", ".join(f"{rule.family} {shown(rule)}" for rule in leading))


def _rule_problems(machine: Machine, family: Family) -> Iterator[_Said]:
    layout = machine.goal.layout
    rules = [rule for rule in machine.seen.rules if rule.family == family]
    leading = {table: [rule for rule in rules if rule.table == table] for table in layout.tables}
    is_used = any(
        not machine.goal.tunnels.isdisjoint(route.attributes.devices)
        for table in layout.tables
        for route in machine.routes(table, family)
    )
    # A VPN that has nothing in one family may do without its rules there.
    is_needed = is_used or (family == "inet" and not any(rule.table in layout.tables for rule in machine.seen.rules))
    for table in layout.tables:
        if is_needed and not leading[table]:
            remedy = machine.fz_iproute("sync") if machine.config.manages else machine.addition(family, table)
            why = "no packet finds what is in there"
            yield _Said("failure", f"no rule looks up table {table} ({family})", why, remedy)
    for rule in _surplus(rules, layout.tables):
        why = "who deletes the other one believes that it is gone"
        yield _Said("warning", f"{shown(rule)} ({family}) is there twice", why, machine.deletion(rule))
    firsts = [leading[table][0] for table in layout.tables if leading[table]]
    if [rule.priority for rule in firsts] != sorted(rule.priority for rule in firsts):
        order = ", ".join(map(shown, firsts))
        why = "the VPN's own routes are to be asked first, then the LAN, then the default route into the tunnel"
        moves = [
            f"{machine.addition(family, rule.table)} && {machine.deletion(rule)}"
            for rule, priority in zip(firsts, machine.config.rules.tiered, strict=False)
            if rule.priority != priority
        ]
        remedy = machine.fz_iproute("sync") if machine.config.manages else " && ".join(moves)
        yield _Said("failure", f"out of order ({family}): {order}", why, remedy)
    for table in layout.tables:
        if leading[table]:
            yield from _shadowed(machine, family, table)


def _surplus(rules: Iterable[Rule], tables: Iterable[int]) -> Iterator[Rule]:
    """Those that say again what one before them has said already."""
    said = set()
    for rule in rules:
        words = rule._replace(priority=0, protocol="")
        if rule.table in tables and words in said:
            yield rule
        said.add(words)


def _shadowed(machine: Machine, family: Family, table: int) -> Iterator[_Said]:
    """What a table of the VPN has a route for, but an earlier rule takes elsewhere."""
    taken: dict[Rule, list[str]] = defaultdict(list)
    for route in machine.routes(table, family):
        attributes = route.attributes
        # Whoever speaks to a neighbour by its link-local address says by which interface.
        is_within_link = _LINK_LOCAL.covers(Prefix.of_route(route.dst, family))
        if attributes.type != "unicast" or not attributes.devices or is_within_link:
            continue
        decision = machine.way(family, None if route.dst == "default" else _host_in(route, family))
        culprit = _culprit(machine, decision, table)
        if culprit and set(decision.devices).isdisjoint(attributes.devices):
            taken[culprit].append(route.dst)
    for rule, destinations in taken.items():
        catches_all = "default" in destinations or not (rule.dst or rule.mark or rule.src)
        seen = f"{shown(rule)} ({family}) takes {_some(destinations)}, of which table {table} knows the way"
        why = "it is asked before the VPN's rule, so the packets never get there"
        yield _Said("failure" if catches_all else "warning", seen, why, _free_way(machine, rule, table))


_LINK_LOCAL = Prefix.parse("fe80::/10")


def _culprit(machine: Machine, decision: Decision, table: int) -> Rule | None:
    """The rule of somebody else because of which a table is not asked."""
    if not decision.steps or any(step.rule.table == table for step in decision.steps):
        return None
    jump = next((step.rule for step in decision.steps if step.verdict == "goto"), None)
    rule = jump or decision.steps[-1].rule
    # What is the machine's own, `local` takes, as it should; and one table of the VPN comes before the other.
    return None if rule.table in (LOCAL, *machine.goal.layout.tables) else rule


def _free_way(machine: Machine, culprit: Rule, table: int) -> str:
    """How to have a table asked before this rule."""
    if (culprit.priority, culprit.table) not in ((32766, MAIN), (32767, DEFAULT)):
        return machine.deletion(culprit)
    # Without the kernel's own rules there is no network: it is the VPN's that stands in the wrong place.
    late = next(rule for rule in machine.seen.rules if rule.family == culprit.family and rule.table == table)
    return f"{machine.addition(culprit.family, table)} && {machine.deletion(late)}"


def _host_in(route: Route, family: Family) -> int:
    prefix = Prefix.of_route(route.dst, family)
    return prefix.address + (prefix.length < (32 if family == "inet" else 128))


def _some(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@_check("mark")
def _mark(machine: Machine) -> Iterator[_Said]:
    mark = machine.config.tunnel.fwmark
    found = (said for family in machine.families for said in _mark_problems(machine, family))
    yield from _or_well(found, f"what the VPN's client marks {mark} stays out of the tunnel")


def _mark_problems(machine: Machine, family: Family) -> Iterator[_Said]:
    tunnel = machine.config.tunnel
    decision = machine.way(family, mark=tunnel.fwmark.value)
    if not decision.steps or decision.steps[-1].verdict != "decides":
        return
    rule = decision.steps[-1].rule
    if machine.is_tunnelled(decision):
        why = "the VPN's own packets go into the VPN: it cannot reach its gateway, or goes round in circles"
        if rule.table not in machine.goal.layout.tables and decision.route:
            words = shlex.join(decision.route.words)
            remedy = machine.ip(family, f"route del table {rule.table} {words}")
        elif rule.inverted and rule.mark and not machine.config.manages:
            remedy = machine.setting("tunnel", f'fwmark = "{rule.mark}"')
        else:
            remedy = machine.deletion(rule)
        seen = f"{shown(rule)} sends what is marked {tunnel.fwmark} into the tunnel"
        yield _Said("failure", seen, why, remedy)
    elif rule.mark and not rule.inverted and rule.table in _OTHERS:
        why = "the bits of the two marks overlap, so the other VPN takes the packets of this one"
        seen = f"{shown(rule)} ({family}) of {_OTHERS[rule.table].name} takes what is marked {tunnel.fwmark}"
        yield _Said("warning", seen, why, _OTHERS[rule.table].end(machine))


# The LAN


@_check("mirror")
def _mirror(machine: Machine) -> Iterator[_Said]:
    due = plan(machine.goal, prune=machine.config.lan.prune)
    copies = sum(len(judged.wanted) for judged in machine.goal.judged.values())
    if not due:
        yield _Said("ok", f"{copies} {'copy' if copies == 1 else 'copies'}, in step")
        return
    first = f"{machine.ip(due[0].family, shlex.join(due[0].words))} ({due[0].reason})"
    more = f", and {len(due) - 1} more" if len(due) > 1 else ""
    why = "the LAN is not reachable as it should be; `fz-iproute watch` would keep it in step by itself"
    yield _Said("failure", f"due: {first}{more}", why, machine.fz_iproute("sync"))


@_check("prefixes")
def _prefixes(machine: Machine) -> Iterator[_Said]:
    found = (said for family in FAMILIES for said in _suspicious(machine, family))
    yield from _or_well(found, "no LAN is public, huge, or pushed by DHCP alone")


def _suspicious(machine: Machine, family: Family) -> Iterator[_Said]:
    lan = machine.config.lan
    allowed = PrefixSet(lan.allow)
    judged = machine.goal.judged[family]
    connected = defaultdict(list)
    for route in judged.main:
        if _made_by(route) == "kernel" and route.attributes.on_link:
            connected[route.attributes.devices].append(Prefix.of_route(route.dst, family))
    for route, refusal, _, _ in judged.verdicts:
        prefix = Prefix.of_route(route.dst, family)
        if refusal.startswith("wider than"):
            why = "a hostile DHCP server can hand out such a prefix to get the traffic to it out of the tunnel"
            yield _Said("warning", f"{route}: {refusal}, so not mirrored", why, machine.lan_setting("deny", prefix))
        elif refusal or allowed.covers(prefix):
            continue
        elif not PRIVATE.covers(prefix):
            why = "a hostile access point can hand out somebody's public addresses as local"
            mine = machine.lan_setting("allow", prefix)
            strict = machine.setting("lan", 'trust = "private"')
            remedy = f"{mine}; or, if this network is not yours, {strict}"
            yield _Said("warning", f"{route}: a public prefix, and mirrored", why, remedy)
        # To a router, networkd makes a route of that kind by itself: it is inside the LAN.
        elif _made_by(route) == "dhcp" and not PrefixSet(connected[route.attributes.devices]).covers(prefix):
            why = "DHCP (option 121) has pushed it as local; its packets leave the tunnel for whoever answers there"
            remedy = (
                f"{machine.lan_setting('deny', prefix)}; or, if it is wanted, {machine.lan_setting('allow', prefix)}"
            )
            yield _Said("warning", f"{route}: pushed by DHCP, and mirrored", why, remedy)


def _made_by(route: Route) -> str:
    words = route.attributes.words
    return words[words.index("proto") + 1] if "proto" in words else ""


@_check("shadows")
def _shadows(machine: Machine) -> Iterator[_Said]:
    found = (said for family in FAMILIES for said in _shadow_lines(machine, family))
    yield from _or_well(found, "no LAN and no route of the VPN are in each other's way")


def _shadow_lines(machine: Machine, family: Family) -> Iterator[_Said]:
    for lan, tunnel, whole in shadows(machine.goal, family):
        if whole:
            why = "what the VPN routes explicitly wins: this LAN is not reachable"
            remedy = f"renumber it, or, if it may stay out of reach, {machine.lan_setting('deny', lan)}"
            yield _Said("warning", f"{tunnel} of the VPN takes all of the LAN {lan}", why, remedy)
        else:
            why = "hosts of the LAN with these addresses are not reachable; those of the VPN are"
            yield _Said("info", f"{tunnel} of the VPN is inside the LAN {lan}", why)


# What gets around the tunnel, or gets lost


@_check("ipv6-leak")
def _ipv6_leak(machine: Machine) -> Iterator[_Said]:
    if "inet" not in machine.families or not machine.has_internet("inet"):
        yield _Said("ok", "the Internet Resource is not active for IPv4")
        return
    decision = machine.way("inet6") if "inet6" in machine.families else None
    if not decision or machine.is_tunnelled(decision) or decision.outcome != "unicast":
        yield _Said("ok", "no IPv6 gets around the tunnel")
        return
    rule = decision.steps[-1].rule
    seen = f"IPv4 goes into the tunnel, IPv6 leaves by {' '.join(decision.devices)}, says {shown(rule)}"
    why = "every site that has IPv6 sees the machine's own address, and the network sees the traffic"
    is_meant = machine.config.manages and machine.config.tunnel.internet_leak == "allow"
    yield _Said("info" if is_meant else "failure", seen, why, _leak_remedy(machine, decision))


def _leak_remedy(machine: Machine, decision: Decision) -> str:
    table = machine.goal.layout.internet
    is_led = any(rule.family == "inet6" and rule.table == table for rule in machine.seen.rules)
    if culprit := is_led and _culprit(machine, decision, table):
        return _free_way(machine, culprit, table)
    if machine.config.manages:
        if machine.config.tunnel.internet_leak == "allow":
            return machine.setting("tunnel", 'internet_leak = "block"')
        return machine.fz_iproute("sync")
    steps = []
    if not any(route.dst == "default" for route in machine.routes(table, "inet6")):
        steps.append(machine.ip("inet6", f"route add unreachable default metric 4294967295 table {table}"))
    if not is_led:
        steps.append(machine.addition("inet6", table))
    return " && ".join(steps)


@_check("rp_filter")
def _rp_filter(machine: Machine) -> Iterator[_Said]:
    if not any(name.endswith("/rp_filter") for name in machine.recording.sysctls):
        yield _Said("info", "could not look: the sysctls cannot be read")
        return
    found = _asymmetric(machine) if "inet" in machine.families else ()
    yield from _or_well(found, "no interface drops what comes by another way than the answer goes")


def _asymmetric(machine: Machine) -> Iterator[_Said]:
    marked = machine.way("inet", mark=machine.config.tunnel.fwmark.value)
    uplinks = set(marked.devices) - machine.goal.tunnels if machine.has_internet("inet") else set()
    for device in sorted(uplinks):
        if _sysctl(machine, device, "rp_filter", max) == 1:
            if valid := _sysctl(machine, device, "src_valid_mark", max):
                why = "src_valid_mark = 1 helps only if a firewall gives the mark back to what arrives"
            else:
                why = (
                    "what the VPN's servers answer is dropped there: unmarked packets to them would go into the tunnel"
                )
            seen = f"{device}, by which the VPN's client sends, has strict rp_filter"
            yield _Said("warning" if valid else "failure", seen, why, _loosened(machine, device))
    lost: dict[str, list[str]] = defaultdict(list)
    for route in machine.tables.get(MAIN, {}).get("inet", ()):
        for device in route.attributes.devices:
            if route.attributes.on_link and device not in machine.goal.tunnels | uplinks:
                decision = machine.way("inet", _host_in(route, "inet"))
                if machine.is_tunnelled(decision) and _sysctl(machine, device, "rp_filter", max) == 1:
                    lost[device].append(route.dst)
    for device, destinations in lost.items():
        why = "the answers to hosts there go into the tunnel, so what they send is dropped"
        seen = f"{device} has strict rp_filter, and {_some(destinations)} is not mirrored"
        yield _Said("warning", seen, why, _loosened(machine, device))


def _sysctl(machine: Machine, device: str, name: str, united: Callable[[int, int], int]) -> int:
    """What is in force for a device: `all` and its own value count together."""
    both = (machine.recording.sysctls.get(f"ipv4/conf/{place}/{name}", "0") for place in ("all", device))
    first, second = (int(value) for value in both)
    return united(first, second)


def _loosened(machine: Machine, device: str) -> str:
    # The larger value wins, so that of the device is enough. With dots in its name, sysctl wants slashes.
    name = f"net/ipv4/conf/{device}/rp_filter" if "." in device else f"net.ipv4.conf.{device}.rp_filter"
    return machine.inside(f"sysctl -w {shlex.quote(f'{name}=2')}")


@_check("dns")
def _dns(machine: Machine) -> Iterator[_Said]:
    path, servers = _resolvers(machine)
    if not path:
        yield _Said("info", "could not look: /etc/resolv.conf cannot be read")
        return
    seen = f"{path}: {', '.join(servers) or 'no server'}"
    yield from _or_well(_bypassing(machine, path, servers), seen)


def _resolvers(machine: Machine) -> tuple[str, list[str]]:
    """The file in force, and the servers that it names: behind systemd-resolved, those that it asks."""
    facts = machine.facts
    places = [f"/etc/netns/{machine.netns}/resolv.conf"] if machine.netns else []
    path = next((place for place in (*places, "/etc/resolv.conf") if place in facts), "")
    servers = _nameservers(facts.get(path, ""))
    behind = "/run/systemd/resolve/resolv.conf"
    if servers == ["127.0.0.53"] and behind in facts:
        return behind, _nameservers(facts[behind])
    return path, servers


def _nameservers(text: str) -> list[str]:
    lines = (line.split() for line in text.splitlines())
    return [words[1].partition("%")[0] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def _bypassing(machine: Machine, path: str, servers: Sequence[str]) -> Iterator[_Said]:
    for server in servers:
        try:
            host = Prefix.parse(str(ip_address(server)))
        except ValueError:
            continue
        family = host.family
        lans = PrefixSet(Prefix.of_route(route.dst, family) for route in machine.goal.judged[family].wanted)
        lan = lans.covering(host)
        if not lan or family not in machine.families or not machine.has_internet(family):
            continue
        decision = machine.way(family, host.address)
        if not machine.is_tunnelled(decision):
            why = "all else goes into the tunnel, but which names are looked up, the local network sees"
            if path.startswith("/run/"):
                remedy = f"resolvectl dns {' '.join(decision.devices)} ADDRESS, one that the tunnel leads to"
            else:
                remedy = f"in {path}: nameserver ADDRESS, one that the tunnel leads to, in the place of {server}"
            yield _Said("warning", f"{path}: {server} is in the mirrored LAN {lan}", why, remedy)


_MDNS = Prefix.parse("224.0.0.251/32").address


@_check("multicast")
def _multicast(machine: Machine) -> Iterator[_Said]:
    if "inet" in machine.families and machine.is_tunnelled(machine.way("inet", _MDNS)):
        why = "printers, speakers and the like are not found by mDNS or SSDP, though their addresses can be reached"
        remedy = f"{machine.setting('lan', 'multicast = true')}, then {machine.fz_iproute('sync')}"
        yield _Said("info", "discovery (224.0.0.251) goes into the tunnel", why, remedy)
    else:
        yield _Said("ok", "discovery (224.0.0.251) stays out of the tunnel")


# Others on the same machine


@_check("networkd")
def _networkd(machine: Machine) -> Iterator[_Said]:
    if machine.netns or machine.facts.get("networkd") != "in use":
        yield _Said("ok", "systemd-networkd is not at work here")
        return
    keys = ("ManageForeignRoutes", "ManageForeignRoutingPolicyRules")
    managed = [key for key in keys if _networkd_manages(machine.facts, key)]
    tables = machine.goal.layout.tables
    rules = [rule for rule in machine.seen.rules if rule.table in tables and rule.protocol != "kernel"]
    copies = [
        route for judged in machine.goal.judged.values() for route in judged.wanted if _made_by(route) != "kernel"
    ]
    at_risk = []
    if copies and keys[0] in managed:
        at_risk.append(f"{len(copies)} {'copy' if len(copies) == 1 else 'copies'} such as {copies[0].dst}")
    if rules and keys[1] in managed:
        at_risk.append(f"{len(rules)} {'rule' if len(rules) == 1 else 'rules'} such as {shown(rules[0])}")
    if not at_risk:
        yield _Said("ok", "systemd-networkd leaves rules and routes alone")
        return
    why = "whenever it configures a link, it deletes what others have made: the LAN, or the VPN, is cut off"
    lines = "\\n".join(["[Network]", *(f"{key}=no" for key in keys)])
    folder = "/etc/systemd/networkd.conf.d"
    remedy = (
        f"mkdir -p {folder} && printf '{lines}\\n' > {folder}/zz-fz-iproute.conf && systemctl restart systemd-networkd"
    )
    yield _Said("warning", f"systemd-networkd may delete {' and '.join(at_risk)}", why, remedy)


def _networkd_manages(facts: Mapping[str, str], key: str) -> bool:
    """Whether a switch of networkd.conf(5) is on, as it is by default: drop-ins in the order of their names."""
    folders = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
    main = next((facts[path] for folder in folders if (path := f"{folder}/networkd.conf") in facts), "")
    drop_ins: dict[str, str] = {}
    for folder in folders:
        start = f"{folder}/networkd.conf.d/"
        for path in facts:
            if path.startswith(start):
                drop_ins.setdefault(path.removeprefix(start), facts[path])  # a name in /etc hides that in /usr
    state = True
    for text in (main, *(text for _, text in sorted(drop_ins.items()))):
        section = ""
        for line in map(str.strip, text.splitlines()):
            if line.startswith("["):
                section = line
            name, _, value = line.partition("=")
            if section == "[Network]" and name.strip() == key:
                state = _BOOLEANS.get(value.strip().lower(), state)
    return state


_BOOLEANS = dict.fromkeys(("1", "yes", "y", "true", "t", "on"), True)
_BOOLEANS |= dict.fromkeys(("0", "no", "n", "false", "f", "off"), False)


class _OtherVpn(NamedTuple):
    name: str
    command: str

    def end(self, machine: Machine, device: str = "INTERFACE") -> str:
        """How to end it."""
        return machine.inside(self.command.format(device))


# By the table that each of them always uses; NetworkManager's WireGuard counts on from the same number.
_OTHERS = {
    52: _OtherVpn("Tailscale", "tailscale down"),
    7120: _OtherVpn("NetBird", "netbird down"),
    51820: _OtherVpn("wg-quick", "wg-quick down {}"),
    1836018789: _OtherVpn("Mullvad", "mullvad disconnect"),
}


@_check("other-vpn")
def _other_vpn(machine: Machine) -> Iterator[_Said]:
    found = (said for family in machine.families for said in _vpn_problems(machine, family))
    yield from _or_well(found, "no rule leads to a table of another VPN that is known here")


def _vpn_problems(machine: Machine, family: Family) -> Iterator[_Said]:
    layout = machine.goal.layout
    rules = [rule for rule in machine.seen.rules if rule.family == family]
    ours = next((place for place, rule in enumerate(rules) if rule.table in layout.tables), len(rules))
    of_vpn = explicit((route for table in layout.tables for route in machine.routes(table, family)), family)
    for table in sorted(_OTHERS.keys() - layout.tables):
        place = next((place for place, rule in enumerate(rules) if rule.table == table), None)
        if place is None:
            continue
        rule = rules[place]
        routes = [
            route for route in machine.tables.get(table, {}).get(family, ()) if route.attributes.type == "unicast"
        ]
        theirs = explicit(routes, family)
        common = sorted(
            str(prefix) for prefix in theirs if any(own.covers(prefix) or prefix.covers(own) for own in of_vpn)
        )
        if any(route.dst == "default" for route in routes):
            common.insert(0, "default")
        name = f"{_OTHERS[table].name} ({shown(rule)}, {family})"
        remedy = _OTHERS[table].end(machine, *(routes[0].attributes.devices[:1] if routes else ()))
        if place < ours and common:
            why = "its packets go into the other tunnel, though this VPN or the LAN has a way for them"
            yield _Said("warning", f"{name} is asked before this VPN, and has {_some(common)}", why, remedy)
        elif place > ours and routes and machine.has_internet(family):
            why = "the Internet Resource takes all before it: nothing is reached through the other VPN"
            yield _Said("warning", f"{name} is asked after this VPN, so never", why, remedy)
        else:
            yield _Said("info", f"{name} is here too, and not in the way")


@_check("rt_tables", needs_ip=False)
def _rt_tables(machine: Machine) -> Iterator[_Said]:
    lines = list(_table_lines(machine.facts))
    if not any("rt_tables" in name for name in machine.facts):
        yield _Said("info", "could not look: there is no rt_tables")
        return
    yield from _or_well(_name_problems(machine, lines), f"{len(lines)} names of tables, all unambiguous")


class _TableLine(NamedTuple):
    path: str
    words: str  # the id as it is written there
    name: str
    number: int


def _table_lines(facts: Mapping[str, str]) -> Iterator[_TableLine]:
    for path, text in facts.items():
        if "/rt_tables" in path:
            for line in text.splitlines():
                for name, number in rt_tables.parsed(line):
                    yield _TableLine(path, line.split()[0], name, number)


def _name_problems(machine: Machine, lines: Iterable[_TableLine]) -> Iterator[_Said]:
    tables = machine.config.tables.ids | {DEFAULT, MAIN, LOCAL}
    ids: dict[str, int] = {}
    names: dict[int, str] = {}
    for line in lines:
        path, _, name, number = line
        if name.isdecimal() and int(name) != number:
            level: Level = "failure" if int(name) in tables else "warning"
            why = f"ip reads names first: whoever says table {name} gets table {number}"
            yield _Said(level, f"{path}: the name {name} stands for table {number}", why, _without(line))
        elif ids.setdefault(name, number) != number:
            why = "which of the two tables is meant depends on who reads the files"
            yield _Said("warning", f"{path}: {name} is table {number}, but also {ids[name]}", why, _without(line))
        elif names.setdefault(number, name) != name:
            why = "ip prints only one of the two names, so what it prints may not be what was asked for"
            yield _Said("warning", f"{path}: table {number} is {name}, but also {names[number]}", why, _without(line))


def _without(line: _TableLine) -> str:
    name = re.sub(r"[^\w-]", r"\\\g<0>", line.name)
    script = f"/^[[:space:]]*{line.words}[[:space:]]+{name}([[:space:]]|#|$)/d"
    return shlex.join(["sed", "-E", "-i", script, line.path])


_OFTEN = 5
_SHORT = timedelta(minutes=10)
_RECENT = timedelta(hours=1)


@_check("fight", needs_ip=False)
def _fight(machine: Machine) -> Iterator[_Said]:
    path = machine.config.watch.journal
    if not path:
        yield _Said("info", "could not look: watch.journal keeps no record")
    elif "journal" not in machine.facts:
        yield _Said("info", f"could not look: {path} cannot be read")
    else:
        yield from _or_well(_fights(machine, path), f"{path}: no command again and again")


def _fights(machine: Machine, path: str) -> Iterator[_Said]:
    now = datetime.fromisoformat(machine.recording.taken)
    times: dict[str, list[datetime]] = defaultdict(list)
    stamp = None
    for line in machine.facts["journal"].splitlines():
        if line.startswith("#"):
            try:
                stamp = datetime.fromisoformat(line.split()[1])
            except (ValueError, IndexError):
                stamp = None
        elif stamp and stamp.tzinfo and now - stamp < _RECENT:
            times[line].append(stamp)
    for command, stamps in times.items():
        if any(last - first < _SHORT for first, last in zip(stamps, stamps[_OFTEN - 1 :], strict=False)):
            seen = f"{len(stamps)} times within the hour: {command}"
            monitor = machine.ip("inet", "-timestamp monitor label link address route rule")
            why = f"somebody undoes it again and again, or its interface comes and goes: `{monitor}` shows which"
            remedy = f"truncate -s 0 {shlex.quote(path)}  # once that has ended"
            yield _Said("warning", seen, why, remedy)
