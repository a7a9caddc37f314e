"""Names of tables: the drop-in file that we print, and names that others give to our numbers."""

import subprocess
from pathlib import Path

import pytest

from tests.manage.laptop import Laptop, manage
from tests.netns.namespace import LAN

SINGLE, TIERED = manage(), manage(layout="tiered")


class Names:
    """Runs programs on a laptop with a folder of its own in the place of /etc/iproute2/rt_tables.d."""

    def __init__(self, laptop: Laptop, folder: Path) -> None:
        self.laptop = laptop
        self.folder = folder / "rt_tables.d"
        self.folder.mkdir()

    def fz(self, *words: str, config: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the program; it must end with this code."""
        argv = self._inside(*self.laptop.fz_argv(*words, config=config, netns=False))
        done = self.laptop.exec(*argv, check=False, **self.laptop.fz_options())
        assert code == done.returncode, done
        return done

    def ip(self, *words: str) -> str:
        return self.laptop.exec(*self._inside("ip", *words)).stdout

    def _inside(self, *argv: str) -> list[str]:
        # `ip netns exec` has its own mount namespace already, and nothing of it gets out.
        script = 'mount --bind "$0" /etc/iproute2/rt_tables.d && exec "$@"'
        return ["sh", "-c", script, str(self.folder), *argv]


@pytest.fixture
def names(laptop: Laptop, tmp_path: Path) -> Names:
    return Names(laptop, tmp_path)


def drop_in(config: str, laptop: Laptop) -> str:
    return laptop.fz("unit", "rt_tables", config=config)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SINGLE, ["539098368\tfirezone", "539098369\tfirezone-lan", "539098370\tfirezone-internet"]),
        (
            manage(interface="7wg.0", tables={"single": 1, "user": 2, "lan": 3, "internet": 2**31}),
            [
                "1\tvpn-7wg_0", "2\tvpn-7wg_0-user", "3\tvpn-7wg_0-lan",
                "# 2147483648 cannot have a name: iproute2 names none from 2^31 on",
            ],
        ),
    ],
)  # fmt: skip
def test_the_drop_in_names_each_table_of_ours(config: str, expected: list[str], laptop: Laptop) -> None:
    assert expected == drop_in(config, laptop).splitlines()[1:-1]


def test_a_table_gets_a_name_that_means_nothing_else_to_ip(laptop: Laptop) -> None:
    for interface, name in {"tun-": "vpn", "tun-main": "vpn-main", "tun-all": "vpn-all", "größe": "gr__e"}.items():
        assert f"539098368\t{name}" == drop_in(manage(interface=interface), laptop).splitlines()[1]


# Others may have written this. For iproute2 the last name of a number counts, and names come before numbers.
FILES = {
    "the drop-in": "",
    "words": "539098368 main-vpn\n539098369 lookup\n539098370 unreachable\n",
    "numbers": "539098368 254\n539098369 100\n539098370 32765\n",
    "kernel's": "254 lan\n255 internet\n253 0\n",
    "options": "539098368 -x\n539098369 priority\n539098370 all\n",
    "hex": "0x2021fd00 firezone\n0x2021fd01 lan\n",
    "nobody's": "105 106\n",
}


@pytest.mark.parametrize("text", FILES.values(), ids=FILES.keys())
def test_names_of_our_tables_change_nothing(text: str, names: Names) -> None:
    config = TIERED
    before = names.laptop.state()
    names.laptop.sync(config)
    expected = names.laptop.state()
    names.laptop.down(config)
    (names.folder / "others.conf").write_text(text or drop_in(config, names.laptop))
    names.fz("sync", config=config)
    assert expected == names.laptop.state()
    assert text or "100.64.0.0/11 dev tun-firezone" in names.ip("route", "show", "table", "firezone")
    assert "" == names.fz("plan", config=config).stdout
    assert "539098368" in names.fz("status", "--routes", config=config).stdout
    names.fz("down", config=config)
    assert before == names.laptop.state()


def test_tables_may_be_named_in_the_configuration(names: Names) -> None:
    (names.folder / "vpn.conf").write_text("1001 vpn\n0x3ea vpn-lan # ours\n1003\tvpn-out\n1004 lone\n")
    text = manage(layout="tiered", tables={"single": "lone", "user": "vpn", "lan": "vpn-lan", "internet": "vpn-out"})
    names.fz("sync", config=text)
    assert [1001, 1002, 1003] == [rule.table for rule in names.laptop.added_rules("inet")]
    assert "" == names.fz("plan", config=text).stdout


@pytest.mark.parametrize("table", [539098368, 539098370], ids=["in use", "of a tier"])
def test_a_name_that_is_the_number_of_a_table_of_ours_stops_everything(table: int, names: Names) -> None:
    """`ip` looks for a name first, so a command for this table would change another one."""
    laptop = names.laptop
    laptop.sync(SINGLE)
    laptop.batch([f"route add 172.31.0.0/24 dev {LAN} scope link table 105"])
    before = laptop.state()
    (names.folder / "others.conf").write_text(f"105 {table}\n")
    for words in (["sync"], ["plan"], ["down"], ["sync", "--dry-run"]):
        done = names.fz(*words, config=TIERED, code=2)
        assert ("", 1) == (done.stdout, len(done.stderr.splitlines())), done
        assert f"/etc/iproute2/rt_tables.d/others.conf: the name {table} stands for table 105" in done.stderr
        assert before == laptop.state()
