"""What `doctor` says of the firewalls of VPN clients, and whether packets get through them."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.netns.namespace import LAN, TUNNEL, Machine

ADDRESSES = ("192.168.188.1", "fd00:188::1")
PRIVATE = "ip daddr { 10.0.0.0/8, 192.168.0.0/16 } accept; ip6 daddr { fd00::/8, fe80::/10 } accept"
USUAL = f"""oifname "lo" accept; ct state established,related accept; ct state invalid drop; udp dport 67 accept
meta l4proto ipv6-icmp accept; ip protocol icmp accept; meta mark 0x6d6f6c65 accept; oifname "{TUNNEL}" accept"""
DROPPING = "type filter hook output priority 0; policy drop"
ACCEPTING = "type filter hook output priority 0"
OUTSIDE = f'oifname != {{ "lo", "{TUNNEL}" }}'
WG_QUICK = """chain preraw { type filter hook prerouting priority -300
    iifname != "wg0" ip daddr 10.8.0.2 fib saddr type != local drop }
chain postmangle { type filter hook postrouting priority -150
    meta l4proto udp meta mark 51820 ct mark set meta mark }"""
LANS = "set lans { type ipv4_addr; flags interval; elements = { 192.168.188.0-192.168.188.255 } }"
# For each table what `doctor` says.
TABLES = {
    "mullvad": ("inet mullvad", f"chain output {{ {DROPPING}; {USUAL} }}", "drops"),
    "LAN sharing": ("inet mullvad", f"chain output {{ {DROPPING}; {USUAL}; {PRIVATE}; reject }}", ""),
    "a set and a jump": (
        "inet cloudflare-warp",
        f"""{LANS}\nchain local {{ ip daddr @lans accept; oifname "uplink*" accept }}
            chain out {{ {DROPPING}; oifname "lo" accept; jump local; meta nfproto ipv6 accept }}""",
        "",
    ),
    "another chain": (
        "inet cloudflare-warp",
        f"chain no {{ drop }}\nchain out {{ {ACCEPTING}; {OUTSIDE} jump no }}",
        "drops",
    ),
    "a mark": ("inet nordvpn", f"chain x {{ {ACCEPTING}; {OUTSIDE} meta mark != 0xe1f1 drop }}", "drops"),
    "wg-quick": ("ip wg-quick-wg0", WG_QUICK, ""),
    "unknown": ("inet mine", f"chain output {{ {ACCEPTING} }}", ""),
    "half of the LAN": (
        "ip mullvad",
        f"chain output {{ {DROPPING}; oifname uplink0 accept; ip daddr 192.168.188.0/25 accept }}",
        "may drop",
    ),
    "a user": (
        "inet mullvad",
        f"chain output {{ {DROPPING}; oifname {{ lo, uplink0 }} accept; meta skuid 0 accept }}",
        "may drop",
    ),
}


@pytest.fixture(scope="module")
def synced(long_lived: Callable[..., Any]) -> Any:
    if not shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin"):
        pytest.skip("nft is not installed")
    machine = long_lived(Machine)
    machine.fz("sync")
    return machine


@pytest.mark.parametrize("name", TABLES)
def test_doctor_names_the_table_that_drops_packets_to_the_lan(name: str, synced: Machine) -> None:
    table, content, said = TABLES[name]
    synced.exec("nft", "flush ruleset")
    assert [True, True] == [synced.reaches(address) for address in ADDRESSES]
    synced.exec("nft", f"table {table} {{\n{content}\n}}".replace("; ", "\n").replace(" }", "\n}"))
    checks = json.loads(synced.fz_done("doctor", "--json").stdout)["checks"]
    (found,) = [each for each in checks if each["name"] == "firewall"]
    if said == "may drop":
        assert "info" == found["level"] and f"nft table {table}, chain output, may drop packets to " in found["seen"]
    else:
        assert ["failure" if said else "ok"] == [found["level"]], found
        assert [not said] * 2 == [synced.reaches(address) for address in ADDRESSES]
    if said == "drops":
        assert f"nft table {table}, chain " in found["seen"] and "192.168.188.0/24" in found["seen"]
    synced.exec("nft", "flush ruleset")


def test_a_machine_without_nft_is_not_judged(synced: Machine, tmp_path: Any) -> None:
    (tmp_path / "nft").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "nft").chmod(0o755)
    checks = json.loads(synced.fz("doctor", "--json", path=str(tmp_path)))["checks"]
    (found,) = [each for each in checks if each["name"] == "firewall"]
    assert "info" == found["level"] and found["seen"].startswith("could not look: ")
    assert LAN == synced.way(ADDRESSES[0])
