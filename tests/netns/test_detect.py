"""What `detect` says holds on the real kernel, and whoever follows its advice reaches the LAN again."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.layouts import LAYOUTS, both
from tests.netns.laptop import Laptop
from tests.netns.namespace import MIRROR, PROGRAM, TIER_LAN, run

HOSTS = {"inet": "192.168.1.77", "inet6": "fd00:1::77"}
FAR = {"inet": "198.51.100.7", "inet6": "2001:db8:7::7"}
OPTION = {"inet": "", "inet6": "-6 "}
KERNELS = {0, 32766, 32767}


def detect(laptop: Laptop, code: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(laptop.fz("detect", "--json", code=code))["vpns"]
    return found


def test_without_a_vpn_the_next_step_is_said(laptop: Laptop, tmp_path: Path) -> None:
    said = "no VPN takes all traffic here; if your VPN is off, connect it and"
    tap = "; if its interface is a tap, add --interface NAME\n"
    assert f"{said} run `detect` again{tap}" == laptop.fz("detect", code=1)
    path = tmp_path / "snapshot.json"
    laptop.fz("snapshot", "-o", str(path))
    assert f"{said} take another snapshot{tap}" == laptop.fz("detect", "--snapshot", str(path), code=1)


def test_a_vpn_before_whose_rule_another_one_decides_is_named(laptop: Laptop) -> None:
    laptop.equip([*LAYOUTS["Firezone up to 1.5.3"].lines, *both("rule add lookup main pref 10")])
    said = laptop.fz("detect", code=1)
    start = "tun-firezone does not carry all traffic: rule 10 (from all lookup main) comes before rule "
    assert said.startswith(start) and "doctor` tells more\n" in said


def test_a_tap_with_any_name_is_served_if_the_user_names_it(laptop: Laptop, tmp_path: Path) -> None:
    """The kernel shows it as an Ethernet."""
    laptop.ip("tuntap", "add", "dev", "office0", "mode", "tap")
    laptop.ip("link", "set", "dev", "office0", "up")
    laptop.address("office0", "10.64.0.2/24")
    laptop.batch(
        ["rule add not fwmark 0x33 lookup 300 pref 500", "route add default via 10.64.0.1 dev office0 table 300"]
    )
    laptop.fz("detect", code=1)
    path = tmp_path / "vpn.toml"
    options = laptop.fz_options()
    options["env"]["FZ_IPROUTE_CONFIG"] = str(path)
    argv = [*PROGRAM, "--netns", laptop.name, "detect", "--interface", "office0"]
    assert f" --write {path} --interface office0\n" in run(*argv, **options).stdout, "the next step names it, too"
    said = laptop.fz("detect", "--interface", "office0", "--write", str(path))
    assert "LAN      cut (172.17.0.0/16, 192.168.1.0/24): " in said and "advice   mirror: " in said, said
    laptop.fz("sync", config=path.read_text())
    (vpn,) = json.loads(laptop.fz("detect", "--json", config=path.read_text()))["vpns"]
    assert ("office0", "kept") == (vpn["interface"], vpn["lan"]), "the configuration names it"


class Vpn(NamedTuple):
    """A VPN with rules of some form. `keeps` says what it does for the LAN."""

    device: str
    families: tuple[str, ...]
    mark: str
    table: int
    priority: int
    prefixes: str
    keeps: str
    other: int  # the priority of the rule that keeps it


@st.composite
def vpns(draw: st.DrawFn) -> Vpn:
    mask = draw(st.sampled_from([0xFFFFFFFF, 0xFF0000, 0xFFFF, 0x80000000]))
    value = draw(st.integers(1, 2**32 - 1)) & mask or mask
    return Vpn(
        device=draw(st.sampled_from(["wg0", "tun7", "ppp3"])),
        families=draw(st.sampled_from([("inet",), ("inet6",), ("inet", "inet6")])),
        mark=f"{value:#x}" if mask == 0xFFFFFFFF else f"{value:#x}/{mask:#x}",
        table=draw(
            st.integers(1, 252) | st.integers(256, 2**32 - 1) | st.sampled_from([539098368, 539098369, 539098370])
        ),
        priority=draw(st.integers(2, 32765)),
        prefixes=draw(st.sampled_from(["default", "halves", "quarters"])),
        keeps=draw(st.sampled_from(["", "main first", "throw", "copies", "own route", "half of it"])),
        other=draw(st.integers(1, 32765)),
    )


WIDE = {
    ("default", "inet"): ["default"],
    ("halves", "inet"): ["0.0.0.0/1", "128.0.0.0/1"],
    ("quarters", "inet"): ["0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2"],
    ("default", "inet6"): ["default"],
    ("halves", "inet6"): ["::/1", "8000::/1"],
    ("quarters", "inet6"): ["2000::/4", "3000::/4", "f000::/4"],
}
LANS = {"inet": "192.168.1.0/24", "inet6": "fd00:1::/64"}
HALF = {"inet": "192.168.1.64/26", "inet6": "fd00:1::/66"}


def lines(vpn: Vpn) -> Iterator[str]:
    for family in vpn.families:
        option, lan = OPTION[family], LANS[family]
        yield f"{option}rule add not fwmark {vpn.mark} lookup {vpn.table} pref {vpn.priority}"
        for prefix in WIDE[vpn.prefixes, family]:
            yield f"{option}route add {prefix} dev {vpn.device} table {vpn.table}"
        if vpn.keeps == "main first":
            yield f"{option}rule add lookup main suppress_prefixlength 0 pref {vpn.other}"
        elif vpn.keeps == "throw":
            yield f"{option}route add throw {lan} table {vpn.table}"
        elif vpn.keeps == "copies":
            yield f"{option}route add {lan} dev eth0 table {vpn.table}"
        elif vpn.keeps == "own route":
            yield f"{option}route add {lan} dev {vpn.device} table {vpn.table}"
        elif vpn.keeps == "half of it":
            yield f"{option}route add {HALF[family]} dev {vpn.device} table {vpn.table}"


@pytest.fixture(scope="module")
def land(long_lived: Callable[..., Any]) -> Laptop:
    """A laptop with three tunnels, for one VPN after the other. It has no containers: one LAN, one answer."""
    made: Laptop = long_lived(Laptop)
    made.ip("link", "del", "docker0")
    for device in ("wg0", "tun7", "ppp3"):
        made.tunnel(device)
    return made


def become(land: Laptop, vpn: Vpn) -> None:
    for option in ("-4", "-6"):
        for rule in land.ip_json(option, "rule", "show"):
            if rule["priority"] not in KERNELS:
                land.ip(option, "rule", "del", "pref", str(rule["priority"]))
        for table in {
            str(route["table"]) for route in land.ip_json(option, "route", "show", "table", "all") if "table" in route
        }:
            if table not in ("main", "local", "default"):
                land.ip(option, "route", "flush", "table", table)
    land.batch(lines(vpn))


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vpn=vpns())
def test_the_advice_is_right_and_mends_the_lan(
    vpn: Vpn, land: Laptop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The kernel is the judge, before and after."""
    become(land, vpn)
    cut = [family for family in HOSTS if land.way(HOSTS[family]) != "eth0"]
    if not [family for family in vpn.families if land.way(FAR[family]) == vpn.device]:
        assert [] == detect(land, code=1)
        return
    (said,) = detect(land)
    assert (vpn.device, vpn.table, vpn.mark) == (said["interface"], said["table"], said["fwmark"])
    assert list(vpn.families) == said["families"]
    if vpn.keeps == "half of it":
        return  # a part is no answer to whether the LAN is cut
    assert said["lan"] == ("cut" if cut else "kept")
    can_mend = bool(cut) and vpn.keeps != "own route"
    assert said["advice"] == ("mirror" if can_mend else "refuse" if cut else "nothing"), said
    if can_mend:
        path = tmp_path_factory.mktemp("detect") / "config.toml"
        land.fz("detect", "--write", str(path))
        assert "good" in land.fz("config", "check", str(path))
        far = {family: land.way(FAR[family]) for family in FAR}
        land.fz("sync", config=path.read_text())
        assert {family: land.way(HOSTS[family]) for family in HOSTS} == dict.fromkeys(HOSTS, "eth0")
        assert far == {family: land.way(FAR[family]) for family in FAR}
        assert "eth0" == land.way(FAR[vpn.families[0]], mark=int(vpn.mark.split("/")[0], 0))
        (then,) = detect(land)
        assert ("kept", "nothing") == (then["lan"], then["advice"])
        assert then["why"].startswith(f"copies in table {vpn.table} keep the LAN"), then
    else:
        assert (vpn.keeps == "copies") == ("keep the LAN" in said["why"]), said


# The options


def test_write_makes_one_file_and_replaces_none(laptop: Laptop, tmp_path: Path) -> None:
    laptop.equip(LAYOUTS["WireGuard with a table of its own"].lines)
    path = tmp_path / "config.toml"
    unwritten = laptop.fz_done("detect", "--write", str(path), "--interface", "wg9")
    assert (1, f"warning: {path} is not written, because there is no such VPN\n") == (
        unwritten.returncode,
        unwritten.stderr,
    )
    done = laptop.fz_done("detect", "--write", str(path))
    text = path.read_text()
    assert 'interface = "wg7"' in text
    start = f"fz-iproute -c {path} --netns {laptop.name}"
    assert f"# {path} is written; next: `{start} sync` once, or `{start} install --now` for good\n" == done.stderr
    assert [path] == list(tmp_path.iterdir())
    again = laptop.fz_done("detect", "--write", str(path))
    assert (0, f"# {path} serves wg7 already, so it is not written again; next: ") == (
        again.returncode,
        again.stderr.partition("`")[0],
    )
    path.write_text(text.replace("fwmark", "# fwmark") + "[lan]\nprune = false\n")
    refused = laptop.fz_done("detect", "--write", str(path))
    said = f"error: {path} exists already: name a new file, or put these keys into it: tunnel.fwmark = 0x33\n"
    assert (2, said) == (refused.returncode, refused.stderr)
    assert "# fwmark" in path.read_text()
    path.write_text('[tunnel]\ninterface = "auto"\n')
    assert "serves wg7 already" in laptop.fz_done("-c", str(path), "detect", "--write", str(path)).stderr
    path.write_text("no configuration")
    assert (
        f"error: {path} exists already; name a new file, or move that one away\n"
        == laptop.fz_done("detect", "--write", str(path)).stderr
    )
    done = laptop.fz_done("detect", "--write", str(tmp_path / "missing" / "folder" / "x"))
    assert (2, 1) == (done.returncode, len(done.stderr.splitlines()))


def test_of_two_candidates_the_interface_chooses(laptop: Laptop, tmp_path: Path) -> None:
    laptop.equip(["rule add not fwmark 0x33 lookup 300 pref 500", "route add default dev wg7 table 300"])
    laptop.equip(["-6 rule add not fwmark 0x44 lookup 400 pref 500", "-6 route add default dev wg8 table 400"])
    path = tmp_path / "config.toml"
    done = laptop.fz_done("detect", "--write", str(path))
    assert 2 == done.returncode
    assert "wg7 and wg8" in done.stderr
    laptop.fz("detect", "--write", str(path), "--interface", "wg8")
    assert 'interface = "wg8"' in path.read_text()
    other = laptop.fz("detect", "--interface", "eth0", code=1)
    assert other == "no VPN takes all traffic into eth0, but into wg7 and wg8\n"
    other = laptop.fz("detect", "--interface", "wg9", code=1)
    assert other == "there is no interface wg9; VPNs here: wg7 and wg8\n"


def test_a_snapshot_is_judged_like_the_machine(laptop: Laptop, tmp_path: Path) -> None:
    for name in ("OpenVPN def1", "Outline"):
        laptop.equip(LAYOUTS[name].lines)
    path = tmp_path / "snapshot.json"
    laptop.fz("snapshot", "-o", str(path))
    said = laptop.fz("detect", "--json")
    assert 2 == len(json.loads(said)["vpns"])
    done = run(*laptop.fz_argv("detect", "--json", "--snapshot", str(path), netns=False), **laptop.fz_options())
    assert said == done.stdout


# A tunnel that is not there

OFF = "no tun-firezone here, and no rule leads to table"
OTHER = "no tun-firezone here, but all traffic goes into wg7 (IPv4 and IPv6)"


def test_a_tunnel_that_is_not_there_is_told_once(laptop: Laptop) -> None:
    done = laptop.fz_done("-q", "sync")
    assert (0, "") == (done.returncode, done.stderr)
    for verb in (["sync"], ["sync", "--dry-run"], ["plan"]):
        (line,) = [line for line in laptop.fz_done(*verb).stderr.splitlines() if OFF in line]
        assert line.endswith("the VPN is off, or has other names; copies have no effect now")
    assert laptop.fz("status", "--routes").startswith(OFF)
    laptop.equip(LAYOUTS["WireGuard with a table of its own"].lines)
    for verb in (["sync"], ["plan"]):
        done = laptop.fz_done(*verb)
        said = f"# {OTHER}; the LAN is cut, and copies have no effect: see `fz-iproute detect`\n"
        assert (0, 1) == (done.returncode, done.stderr.count(said))
    assert laptop.fz("status", "--routes").startswith(OTHER)


def test_settings_that_send_copies_elsewhere_are_told_and_cut_no_lan(laptop: Laptop) -> None:
    laptop.equip(LAYOUTS["Firezone up to 1.5.3"].lines)
    laptop.fz("sync")
    said = f"# no rule leads to table {TIER_LAN}, but all traffic goes into tun-firezone (IPv4 and IPv6) by table "
    said += f"{MIRROR}; the LAN is kept, and only copies in table {MIRROR} have an effect: see `fz-iproute doctor`\n"
    tiered = '[tables]\nlayout = "tiered"\n'
    assert said == laptop.fz_done("plan", config=tiered).stderr
    for _ in "before a sync", "after it":
        found = json.loads(laptop.fz("doctor", "--json", config=tiered))["checks"]
        (why,) = [each["why"] for each in found if each["name"] == "mirror"]
        assert f"copies in table {MIRROR} keep the LAN now, but `fz-iproute" in why
        assert "eth0" == laptop.way(HOSTS["inet"]) == laptop.way(HOSTS["inet6"])
        laptop.fz("sync", config=tiered)
    assert "" == laptop.fz("plan", config=tiered)
    # A copy that main does not have any more would only be in the way, so it goes.
    laptop.batch(["address add 192.168.1.9/24 dev eth0", "address del 192.168.1.5/24 dev eth0"])
    laptop.fz("sync", config=tiered)
    assert "192.168.1.0/24" not in laptop.ip("route", "show", "table", str(MIRROR))
    assert "eth0" == laptop.way(HOSTS["inet6"])
    laptop.fz("down", config=tiered)
    assert "eth0" not in laptop.ip("route", "show", "table", str(MIRROR))


def test_auto_serves_the_one_vpn_that_needs_copies(laptop: Laptop) -> None:
    auto = '[tunnel]\ninterface = "auto"\n'
    laptop.fz("sync", config=auto)
    assert [] == laptop.routes("inet")
    laptop.equip(LAYOUTS["WireGuard with a table of its own"].lines)
    laptop.fz("sync", config=auto)
    assert "eth0" == laptop.way(HOSTS["inet"]) == laptop.way(HOSTS["inet6"])
    assert "wg7" == laptop.status(auto)["tunnel"]["interface"]
    assert "" == laptop.fz("plan", config=auto)
    assert "" == laptop.fz_done("down", "-q", config=auto).stderr
    assert "wg7" == laptop.way(HOSTS["inet"])
    laptop.batch(["link del wg7"])
    said = laptop.fz_done("down", "-q", config=auto).stderr
    assert said.startswith('warning: tunnel.interface = "auto" serves no VPN now, ')


def test_of_two_vpns_auto_serves_the_one_that_has_the_copies(laptop: Laptop) -> None:
    """The one that comes first does not take over, and nothing but the machine tells. Without copies, it is served."""
    auto = '[tunnel]\ninterface = "auto"\n'
    laptop.equip(["-6 rule add lookup 77 pref 9000", "-6 route add default dev wg7 table 77"])
    laptop.fz("sync", config=auto)
    assert "eth0" == laptop.way(HOSTS["inet6"])
    laptop.equip(["rule add lookup 88 pref 50", "route add default dev wg8 table 88"])
    said = "wg8 and wg7 need copies: name one in tunnel.interface; until then, wg7 is served"
    assert said in laptop.fz_done("sync", config=auto).stderr
    assert ("eth0", "wg8") == (laptop.way(HOSTS["inet6"]), laptop.way(HOSTS["inet"]))
    (loss,) = [
        each
        for each in json.loads(laptop.fz("doctor", "--json", code=1, config=auto))["checks"]
        if each["name"] == "shadows"
    ]
    assert "make a configuration for wg8 as" in loss["remedy"]
    assert loss["remedy"].endswith(" detect --interface wg8` shows")
    laptop.fz("down", config=auto)
    assert "until then, wg8 is served" in laptop.fz_done("sync", config=auto).stderr
    assert ("wg7", "eth0") == (laptop.way(HOSTS["inet6"]), laptop.way(HOSTS["inet"]))
    assert "" == laptop.fz("plan", config=auto)
