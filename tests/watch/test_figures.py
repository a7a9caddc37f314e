"""`metrics` shows what the kernel has and what the daemon counts; `wait` returns when nothing is due."""

import re
import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.netns.namespace import LAN, MIRROR, TIER_LAN, TUNNEL, Machine, wait_until
from tests.netns.test_tree import terminal
from tests.netns.wiretap import fake_ip
from tests.watch.conftest import Watch


def metrics(text: str) -> dict[str, float]:
    """The samples, as `name{label values}`."""
    return {
        f"{sample.name}{{{','.join(sample.labels.values())}}}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_tell_what_is_missing_and_without_a_daemon_nothing_of_it(machine: Machine) -> None:
    found = metrics(machine.fz("metrics"))
    missing = found["fz_iproute_copies{inet,missing}"]
    assert missing > 0 and 0 == found["fz_iproute_copies{inet,in_step}"]
    assert 1 == found["fz_iproute_tunnel_up{tun-firezone}"]
    assert 0 == found["fz_iproute_watch_running{}"]
    assert [] == [
        name for name in found if name.startswith("fz_iproute_watch_") and name != "fz_iproute_watch_running{}"
    ]
    machine.fz("sync")
    machine.ip("route", "add", "10.9.0.0/24", "dev", LAN, "scope", "link", "table", "539098368")
    found = metrics(machine.fz("metrics"))
    states = [found[f"fz_iproute_copies{{inet,{state}}}"] for state in ("in_step", "missing", "stale")]
    assert [missing, 0, 1] == states


def test_metrics_show_the_counters_of_the_running_daemon(machine: Machine, watch: Watch, tmp_path: Path) -> None:
    before = time.time()
    daemon = watch()
    machine.ip("route", "add", "10.5.0.0/24", "dev", LAN)
    daemon.wait_in_step()
    file = tmp_path / "fz.prom"
    machine.fz("metrics", "-o", str(file))
    assert [file] == list(tmp_path.glob("*fz*")) and 0o644 == file.stat().st_mode & 0o777
    found = metrics(file.read_text())
    assert 1 == found["fz_iproute_watch_running{}"]
    names = ("passes", "commands", "changes", "refused", "lost", "fights", "monitors")

    def agree() -> bool:
        counted, shown = daemon.counters(), metrics(machine.fz("metrics"))
        return all(counted[name] == shown[f"fz_iproute_watch_{name}_total{{}}"] for name in names)

    wait_until(agree, "metrics show the counters")  # an echo of its own command may wake it in between
    started, good = (found[f"fz_iproute_watch_{name}_seconds{{}}"] for name in ("start_time", "last_good_pass"))
    assert before - 1 <= started <= good <= time.time() + 1
    daemon.kill()
    assert 0 == metrics(machine.fz("metrics"))["fz_iproute_watch_running{}"], "it has left its files behind"
    watch().stop()
    # The kernel gives the number of a namespace again, so there may be files of other tests, for other tables.
    number = Path("/run/netns", machine.name).stat().st_ino
    assert [] == [path.name for table in (MIRROR, TIER_LAN) for path in machine.runtime.glob(f"{number}-{table}.*")]


def test_metrics_and_status_find_a_daemon_that_serves_another_table_by_now(machine: Machine, watch: Watch) -> None:
    daemon = watch('[tables]\nlayout = "single"\n')
    moved = '[tables]\nlayout = "single"\nsingle = 77\n'
    daemon.configure(moved)
    wait_until(lambda: daemon.counters()["reloads"] == 1, "the new configuration is in force")
    found = metrics(machine.fz("metrics", config=moved))
    assert (1, 1) == (found["fz_iproute_watch_running{}"], found["fz_iproute_watch_reloads_total{}"])
    assert daemon.process.pid == machine.status(moved)["watch"]
    number = Path("/run/netns", machine.name).stat().st_ino
    there = [(machine.runtime / f"{number}-{table}.watch.json").exists() for table in (77, MIRROR)]
    assert [True, False] == there


def test_status_is_drawn_again_when_a_daemon_starts_and_ends(machine: Machine, watch: Watch) -> None:
    machine.fz("sync")
    with terminal(machine, "status", "--watch") as made:
        made.wait_for("does not run")
        daemon = watch()
        made.wait_for(f"runs (process {daemon.process.pid})")
        daemon.kill()
        made.wait_for("does not run")


def test_wait_tells_once_which_vpn_it_follows(machine: Machine) -> None:
    done = machine.fz_done("wait", "--timeout", "0.7", config='[tunnel]\ninterface = "auto"\n')
    starts = [line.partition(": ")[0] for line in done.stderr.splitlines()]
    assert ["# auto", "# not in step, waiting at most 0.7 s", "error"] == starts, done.stderr


def test_wait_returns_when_somebody_has_brought_the_tables_in_step(machine: Machine) -> None:
    done = machine.fz_done("wait", "--timeout", "0")
    (words,) = done.stderr.splitlines()[-1:]
    assert 1 == done.returncode
    assert re.match(r"error: not in step after 0 s: \d+ commands are due: `fz-iproute plan`", words), words
    with subprocess.Popen(
        machine.fz_argv("wait"), stderr=subprocess.PIPE, text=True, **machine.fz_options()
    ) as waiting:
        assert waiting.stderr
        line = waiting.stderr.readline()
        assert line == words.replace("error: not in step after 0 s", "# not in step, waiting at most 60 s") + "\n"
        assert waiting.poll() is None
        time.sleep(0.5)  # it looks again, and says nothing
        machine.fz("sync")
        assert "" == waiting.stderr.read()
        assert 0 == waiting.wait(60)
    done = machine.fz_done("wait")
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr), "it need not wait"


@pytest.mark.parametrize(("is_cut", "code"), [(True, 1), (False, 0)])
def test_while_another_vpn_cuts_the_lan_wait_waits(is_cut: bool, code: int, machine: Machine) -> None:
    machine.batch(["rule del pref 32765", "-6 rule del pref 32765"])
    machine.vpn.close()
    machine.tunnel("wg7")
    machine.batch(["rule add not fwmark 0x33 lookup 300 pref 500", "route add default dev wg7 table 300"])
    machine.batch([] if is_cut else ["rule add lookup main suppress_prefixlength 0 pref 400"])
    done = machine.fz_done("wait", "--timeout", "0")
    said = f"no {TUNNEL} here, but IPv4 goes into wg7 (IPv6 leaves by uplink0)"
    told = f"error: not in step after 0 s: {said}; the LAN is cut: `fz-iproute detect`\n"
    assert (code, told if is_cut else "") == (done.returncode, done.stderr)


def test_while_the_vpn_is_off_nothing_is_wrong_and_status_sends_nobody_to_another_command(machine: Machine) -> None:
    machine.batch(["rule del pref 32765", "-6 rule del pref 32765"])
    machine.ip("link", "del", TUNNEL)
    said = machine.fz("status", "--check")
    assert re.search(r"^LAN    (\d+) of \1 reachable without copies$", said, re.MULTILINE), said
    assert [] == [line for line in said.splitlines() if "→" in line and not line.startswith("watch")]
    assert "" == machine.fz("wait")
    assert "info  tunnel" in machine.fz("doctor")
    assert machine.fz("plan"), "sync would copy all the same"


def test_wait_waits_for_an_ip_that_fails(machine: Machine, tmp_path: Path) -> None:
    machine.fz("sync")
    done = machine.fz_done("wait", "--timeout", "0.3", path=fake_ip(tmp_path, "exit 2"))
    assert 1 == done.returncode and "not in step after 0.3 s: " in done.stderr
