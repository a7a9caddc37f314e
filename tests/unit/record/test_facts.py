"""Facts hold what can be read of settings files, this process and the journal."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fz_iproute.ip.process import Answer
from fz_iproute.mirror.config import Config, replace
from fz_iproute.record import recording
from fz_iproute.record.facts import facts
from fz_iproute.record.firewall import firewall
from fz_iproute.record.recording import Recording


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_bare_machine_has_three_facts(tmp_path: Path) -> None:
    path = f"{tmp_path}/etc/fz-iproute/config.toml"
    expected = {"uid": str(os.geteuid()), "config.path": path, "networkd": "not in use"}
    assert expected == facts(Config(), None, None, tmp_path)


def test_settings_files_are_recorded_by_their_paths(tmp_path: Path) -> None:
    texts = {
        *("/etc/systemd/networkd.conf", "/usr/lib/systemd/networkd.conf.d/x.conf"),
        *("/etc/iproute2/rt_tables", "/etc/iproute2/rt_tables.d/y.conf"),
        *("/etc/resolv.conf", "/etc/netns/n/resolv.conf", "/run/systemd/resolve/resolv.conf"),
    }
    for path in (*texts, "/usr/lib/systemd/networkd.conf.d/x.conf.bak", "/run/systemd/netif/state"):
        write(tmp_path / path[1:], path)
    found = facts(Config(), None, "n", tmp_path)
    assert {path: path for path in texts} == {name: text for name, text in found.items() if name.startswith("/")}
    assert ("in use", "n") == (found["networkd"], found["netns"])


def test_of_a_lease_only_the_server_is_recorded(tmp_path: Path) -> None:
    write(tmp_path / "run/systemd/netif/leases/3", "ADDRESS=10.1.1.7\nSERVER_ADDRESS=10.1.1.1\nHOSTNAME=secret\n")
    assert "10.1.1.1" == facts(Config(), None, None, tmp_path)["dhcp.servers"]
    assert "dhcp.servers" not in facts(Config(), None, "elsewhere", tmp_path)


def test_the_mode_and_owner_of_the_configuration_file_are_recorded(tmp_path: Path) -> None:
    path = write(tmp_path / "c.toml", "")
    path.chmod(0o640)
    found = facts(Config(), path, None, tmp_path)
    assert (str(path), "0640", str(os.getuid())) == tuple(found[f"config.{key}"] for key in ("path", "mode", "uid"))


@pytest.mark.parametrize("status", [b"CapEff:\n", b"Name:\t\x82\n", b"\xff", b""])
def test_an_odd_status_of_a_process_tells_no_capabilities(status: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "proc/self/status", "")
    path.write_bytes(status)
    assert "capabilities" not in facts(Config(), None, None, tmp_path)


JUMP = {"rule": {"chain": "output", "expr": [{"jump": {"target": "output"}}]}}


@pytest.mark.parametrize(
    ("family", "rules", "said"),
    [
        ("inet", [], "chain inet mullvad output drop\n"),
        pytest.param("\ninet", [], None, id="a line break in a name"),
        pytest.param("inet", 10 * [JUMP], None, id="jumps in a circle"),
    ],
)
def test_what_nft_prints_becomes_a_line_a_chain_or_nothing(family: str, rules: list[Any], said: str | None) -> None:
    chain = {"family": family, "table": "mullvad", "name": "output", "hook": "output", "type": "filter"}
    printed = {
        "tables": [{"table": {"family": "inet", "name": "mullvad"}}],
        "mullvad": [{"chain": {**chain, "policy": "drop"}}, *rules],
    }

    class FakeIp:
        """Answers for nft."""

        def start_other(self, *words: str) -> Any:
            stdout = json.dumps({"nftables": printed[words[-1]]}).encode()
            return SimpleNamespace(answer=lambda: Answer(words, 0, stdout, ""))

    assert said == firewall(FakeIp())  # type: ignore[arg-type]


def test_the_capabilities_of_this_process_are_recorded() -> None:
    assert 0 <= int(facts(Config(), None, None)["capabilities"], 16)


def test_the_last_whole_lines_of_the_journal_are_recorded(tmp_path: Path) -> None:
    path = write(tmp_path / "journal", "first\n" + "x" * (1 << 16) + "\nlast ?\n")
    config = replace(Config(), watch={"journal": str(path)})
    assert "last ?\n" == facts(config, None, None, tmp_path)["journal"]
    path.write_text("short\n")
    assert "short\n" == facts(config, None, None, tmp_path)["journal"]


def test_a_file_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "etc/resolv.conf").mkdir(parents=True)
    (tmp_path / "etc/iproute2").mkdir()
    os.mkfifo(tmp_path / "etc/iproute2/rt_tables")
    config = replace(Config(), watch={"journal": str(tmp_path / "none")})
    found = facts(config, None, None, tmp_path)
    assert not {"/etc/resolv.conf", "journal"} & found.keys()
    assert "" == found["/etc/iproute2/rt_tables"]


def test_a_snapshot_keeps_its_facts() -> None:
    recorded = Recording("now", {"ip": "6"}, "", {}, {}, {"uid": "0", "/etc/resolv.conf": "é\n"})
    assert recorded == recording.load(recording.dump(recorded))


DHCLIENT = """
lease {
  interface "eth0";
  option dhcp-server-identifier 10.9.9.9;
  expire 4 2999/01/01 00:00:00;
}
lease {
  interface "eth0";
  option dhcp-server-identifier 10.1.1.2;
  expire 4 YEAR/01/01 00:00:00;
}
"""


def test_the_servers_of_other_programs_leases_are_recorded_too(tmp_path: Path) -> None:
    def servers() -> str:
        return facts(Config(), None, None, tmp_path).get("dhcp.servers", "")

    write(tmp_path / "var/lib/NetworkManager/internal-1-wlan0.lease", "ADDRESS=10.1.1.7\nSERVER_ADDRESS=10.1.1.3\n")
    leases = tmp_path / "var/lib/dhcp/dhclient.eth0.leases"
    write(leases, DHCLIENT.replace("YEAR", "2999"))
    packet = bytes(236) + b"\x63\x82\x53\x63" + bytes([53, 1, 5, 0, 54, 4, 10, 1, 1, 4, 255])
    (tmp_path / "var/lib/dhcpcd").mkdir()
    (tmp_path / "var/lib/dhcpcd/eth0.lease").write_bytes(packet)
    assert "10.1.1.2 10.1.1.3 10.1.1.4" == servers()
    write(leases, DHCLIENT.replace("YEAR", "1999"))
    assert "10.1.1.3 10.1.1.4" == servers()
    for broken in (packet[:-3], packet[:200], b"", b"\xff" * 500):
        (tmp_path / "var/lib/dhcpcd/eth0.lease").write_bytes(broken)
        assert "10.1.1.3" == servers()


def test_the_name_servers_of_each_link_are_recorded(tmp_path: Path) -> None:
    told, known = tmp_path / "run/systemd/resolve/netif", tmp_path / "run/systemd/netif/links"
    write(told / "4", "LLMNR=yes\nSERVERS=100.100.111.1 [fd00:2021::1]:53%tun0#name\nDOMAINS=~. SECRET\n")
    write(known / "4", "DNS=10.1.1.9\n")
    write(known / "3", "ADMIN_STATE=configured\nDNS=10.1.1.1:53 nonsense\nROUTE_DOMAINS=.\n")
    write(known / "2", "ADMIN_STATE=configured\nDNS=\n")
    assert "3 ~. 10.1.1.1\n4 ~. 100.100.111.1 fd00:2021::1\n" == facts(Config(), None, None, tmp_path)["resolved"]
    assert "resolved" not in facts(Config(), None, "elsewhere", tmp_path)
