"""A new configuration takes effect, however the file was changed. A broken one changes nothing."""

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from fz_iproute.files.lock import locked
from tests.netns.namespace import LAN, MIRROR, Machine, wait_until
from tests.watch import oracle
from tests.watch.broken_ip import BrokenIp
from tests.watch.conftest import Watch

NO_UPLINK = '[lan]\nexclude_interfaces = ["uplink0"]\n'
WITHOUT_UPLINK = ["192.168.188.0/24", "fd00:188::/64", "fe80::/64"]
ALL = ["10.77.0.0/24", "192.168.188.0/24", "fd00:188::/64", "fd00:77::/64", "fe80::/64", "fe80::/64"]
DEFAULTS = "# nothing but defaults\n"
BROKEN = '[lan]\ntrsut = "any"\n[watch]\nsettle = -1\n'


def renamed_over(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    new.rename(path)


def deleted_and_created(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def linked_elsewhere(path: Path, text: str) -> None:
    other = path.with_suffix(".other")
    other.write_text(text)
    new = path.with_suffix(".link")
    new.symlink_to(other)
    new.rename(path)


def copied_over(path: Path, text: str) -> None:
    """As `cp -p` does with an older file."""
    path.write_text(text)
    os.utime(path, (1, 1))


def copies_are(machine: Machine, expected: list[str], table: int = MIRROR) -> Callable[[], bool]:
    return lambda: sorted(expected) == oracle.destinations(machine, table)


@pytest.mark.parametrize(
    "way",
    [Path.write_text, renamed_over, deleted_and_created, linked_elsewhere, copied_over],
    ids=lambda way: way.__name__,
)
def test_a_changed_file_takes_effect(way: Callable[[Path, str], None], machine: Machine, watch: Watch) -> None:
    daemon = watch()
    for text, expected in [(NO_UPLINK, WITHOUT_UPLINK), (DEFAULTS, ALL), (NO_UPLINK, WITHOUT_UPLINK)]:
        way(daemon.config, text)
        wait_until(copies_are(machine, expected), f"the copies are {expected}")
    assert [] == [line for line in daemon.complaints if "no such file" not in line and "last good" not in line]


def test_sighup_reads_the_file_again(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    daemon.send(signal.SIGHUP)
    found = daemon.counters()
    assert {"reloads": 0, "changes": 1} == {name: found[name] for name in ("reloads", "changes")}
    daemon.configure(NO_UPLINK)
    daemon.send(signal.SIGHUP)
    daemon.wait_in_step(copies_are(machine, WITHOUT_UPLINK))
    assert 1 == daemon.counters()["reloads"]
    assert [f"# {daemon.config}: there is a new configuration"] == daemon.says("new configuration")[:1]


def open_to_everybody(path: Path) -> None:
    path.write_text(DEFAULTS)
    path.chmod(0o666)


# An editor empties a file for a moment, and a full disk for longer.
SPOILS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "deleted": (Path.unlink, ["no such file"]),
    "emptied": (lambda path: path.write_text(""), ["is empty"]),
    "broken": (lambda path: path.write_text(BROKEN), ["lan.trsut: unknown key; did you mean trust?", "watch.settle: "]),
    "open to everybody": (open_to_everybody, ["everybody may write to it"]),
}


@pytest.mark.parametrize("kind", SPOILS)
def test_a_bad_file_is_reported_once_and_the_last_configuration_stays_in_force_until_it_is_mended(
    kind: str, machine: Machine, watch: Watch
) -> None:
    if kind == "open to everybody" and os.geteuid() != 0:
        pytest.skip("only root refuses it")
    spoil, problems = SPOILS[kind]
    daemon = watch(NO_UPLINK)
    mode = daemon.config.stat().st_mode
    spoil(daemon.config)
    daemon.wait_for("the last good configuration stays in force")
    daemon.send(signal.SIGHUP)
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    daemon.wait_in_step(copies_are(machine, [*WITHOUT_UPLINK, "10.5.0.0/24"]))
    assert [1] * len(problems) == [len(daemon.says(f"{daemon.config}: {problem}")) for problem in problems]
    assert len(problems) + 1 == len(daemon.complaints), daemon.complaints
    daemon.configure(DEFAULTS)
    daemon.config.chmod(mode)
    wait_until(copies_are(machine, [*ALL, "10.5.0.0/24"]), "the uplink's copies are there")


# What a change of each setting does


ALLOW = '[lan]\nallow = ["10.9.0.0/16", "fd00:9::/48"]\n'


def routers(machine: Machine) -> None:
    machine.batch(["route add 10.9.1.0/24 via 192.168.188.1", "-6 route add fd00:9:0:1::/64 via fd00:188::1"])


WITH_ROUTERS = [*ALL, "10.9.1.0/24", "fd00:9:0:1::/64"]


def test_what_a_router_leads_to_is_followed_while_it_is_allowed(machine: Machine, watch: Watch) -> None:
    routers(machine)
    daemon = watch()
    assert ALL == oracle.destinations(machine)
    daemon.reload(ALLOW)
    daemon.wait_in_step(copies_are(machine, WITH_ROUTERS))
    machine.batch(["route del 10.9.1.0/24", "-6 route del fd00:9:0:1::/64"])
    daemon.wait_in_step(copies_are(machine, ALL))
    routers(machine)
    daemon.wait_in_step(copies_are(machine, WITH_ROUTERS))
    daemon.reload(DEFAULTS)
    daemon.wait_in_step(copies_are(machine, ALL))


def test_a_router_of_somebody_elses_stays(machine: Machine, watch: Watch) -> None:
    """The VPN's own gatewayed route looks like ours, but `lan.allow` has never covered it."""
    daemon = watch(ALLOW)
    machine.ip("route", "add", "10.10.0.0/24", "via", "192.168.188.1", "table", str(MIRROR))
    daemon.reload(DEFAULTS)
    daemon.wait_in_step(copies_are(machine, [*ALL, "10.10.0.0/24"]))


HERE, ELSEWHERE = ('[tables]\nlayout = "single"\n', '[tables]\nlayout = "single"\nsingle = 1234\n')


def look_up(machine: Machine, table: int) -> None:
    """A VPN now uses this table."""
    machine.batch(f"{option}rule add lookup {table} pref 32000" for option in ("", "-6 "))


def test_a_new_table_gets_the_copies_and_is_locked_and_the_old_one_is_free(machine: Machine, watch: Watch) -> None:
    """The old table keeps the VPN's routes, and the copies, too, until a rule leads to the new one. That is told once.

    Until then, a copy in the old table goes as soon as it differs from main.
    """
    before = machine.routes("inet"), machine.routes("inet6")
    daemon = watch(HERE)
    daemon.reload(ELSEWHERE)
    daemon.wait_in_step(copies_are(machine, ALL, 1234))
    assert copies_are(machine, ALL)() and machine.reaches("192.168.188.1")
    passes = daemon.counters()["passes"]
    with pytest.raises(AssertionError, match="not within"):
        wait_until(lambda: daemon.counters()["passes"] > passes + 2, "it does not wait, but runs again and again", 1)
    machine.batch(["address add 10.77.0.99/24 dev uplink0", "address del 10.77.0.2/24 dev uplink0"])
    daemon.wait_in_step(copies_are(machine, ALL, 1234))
    wait_until(copies_are(machine, ALL[1:]), "the copy with the former address has gone")
    look_up(machine, 1234)
    daemon.wait_in_step(copies_are(machine, [], MIRROR))
    assert before == (machine.routes("inet"), machine.routes("inet6"))
    assert 5 == machine.fz_done("--wait", "0", "watch", config=ELSEWHERE).returncode
    other = watch(HERE)
    other.wait_in_step(copies_are(machine, ALL))
    daemon.wait_in_step(copies_are(machine, ALL, 1234))
    (warning,) = daemon.complaints + other.complaints
    assert warning.startswith("warning: no rule leads to table 1234, but") and warning.endswith("`fz-iproute doctor`")


def test_copies_in_the_old_table_go_with_the_rule_that_looks_it_up(machine: Machine, watch: Watch) -> None:
    daemon = watch(HERE)
    daemon.reload(ELSEWHERE)
    daemon.wait_in_step(copies_are(machine, ALL, 1234))
    assert copies_are(machine, ALL)()
    machine.batch(f"{option}rule del pref 32765" for option in ("", "-6 "))
    wait_until(copies_are(machine, []), "the old table is empty")
    daemon.wait_in_step(copies_are(machine, ALL, 1234))


def test_without_prune_stale_routes_stay_and_a_reload_removes_nothing_but_copies(
    machine: Machine, watch: Watch
) -> None:
    daemon = watch("[lan]\nprune = false\n")
    strays = ["10.6.0.0/24", "fd00:6::/64"]
    machine.batch([f"route add 10.6.0.0/24 dev {LAN}", f"-6 route add fd00:6::/64 dev {LAN}"])
    daemon.wait_in_step(copies_are(machine, [*ALL, *strays]))
    machine.batch(["route del 10.6.0.0/24", "-6 route del fd00:6::/64"])
    daemon.counters()
    daemon.reload("[lan]\nprune = false\n[watch]\nresync = 50\n")
    assert sorted([*ALL, *strays]) == oracle.destinations(machine)
    daemon.reload(f"{NO_UPLINK}prune = false\n")
    daemon.wait_in_step(copies_are(machine, [*WITHOUT_UPLINK, *strays]))
    look_up(machine, 1234)
    daemon.reload("[tables]\nsingle = 1234\n")
    daemon.wait_in_step(copies_are(machine, ALL, 1234))
    assert strays == oracle.destinations(machine)


def test_the_settings_of_watch_are_those_of_the_newest_configuration(machine: Machine, watch: Watch) -> None:
    daemon = watch("[watch]\nresync = 86400\n")
    daemon.reload("[watch]\nresync = 1\ncleanup_on_exit = true\n")
    passes = daemon.counters()["passes"]
    wait_until(lambda: daemon.counters()["passes"] >= passes + 2, "it looks again every second")
    assert 0 == daemon.stop()
    assert [] == oracle.destinations(machine)


def test_a_reload_in_a_storm_leaves_all_right(machine: Machine, watch: Watch) -> None:
    daemon = watch()
    for number in range(10):
        machine.batch(f"route replace 10.5.{i}.0/24 dev uplink0 mtu {1300 + number}" for i in range(50))
        daemon.reload([NO_UPLINK, DEFAULTS][number % 2])
    daemon.wait_in_step()
    assert 50 == len([dst for dst in oracle.destinations(machine) if dst.startswith("10.5.")])
    assert [] == daemon.complaints


OBSTACLES = {"ip fails": "something is wrong", "another holds the lock": "another fz-iproute (process "}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_a_reload_that_nothing_can_follow_yet_takes_effect_later(
    obstacle: str, machine: Machine, watch: Watch, broken_ip: BrokenIp
) -> None:
    routers(machine)
    daemon = watch(ALLOW, path=broken_ip.folder)
    with ExitStack() as stack:
        if obstacle == "ip fails":
            broken_ip.breaks("exit")
            stack.callback(broken_ip.mends)
        else:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setenv("RUNTIME_DIRECTORY", str(machine.runtime))
            stack.enter_context(locked(machine.name, [MIRROR], 5))
        daemon.configure(DEFAULTS)
        daemon.send(signal.SIGHUP)
        daemon.wait_for("there is a new configuration")
        daemon.wait_for(OBSTACLES[obstacle])
    daemon.wait_in_step(copies_are(machine, ALL))


def test_a_second_reload_before_the_first_has_worked_takes_out_what_all_have_put_in(
    machine: Machine, watch: Watch, broken_ip: BrokenIp
) -> None:
    daemon = watch(path=broken_ip.folder)
    broken_ip.breaks("exit")
    for count, table in enumerate((1234, 1235), start=1):
        daemon.configure(f"[tables]\nsingle = {table}\n")
        daemon.send(signal.SIGHUP)
        daemon.wait_for("there is a new configuration", count)
    broken_ip.mends()
    daemon.wait_in_step(copies_are(machine, ALL, 1235))
    look_up(machine, 1235)
    wait_until(lambda: [] == oracle.destinations(machine), "the first table is empty")


def test_a_restart_without_the_default_file_takes_the_defaults(machine: Machine, watch: Watch) -> None:
    path = machine.config(NO_UPLINK)
    daemon = watch(default_config=True, environment={"FZ_IPROUTE_CONFIG": str(path)})
    assert WITHOUT_UPLINK == oracle.destinations(machine)
    daemon.stop()
    path.unlink()
    daemon.start()
    assert ALL == oracle.destinations(machine)
