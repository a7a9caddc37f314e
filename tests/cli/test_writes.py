"""A refused command is reported in `ip`'s words and stops nothing else; only what is still wrong is an error."""

import json
import signal

import pytest

from tests.cli.world import MAIN, TABLE, World, gatewayed, lan

WRITE = r"-[46]\b.* route (add|append|replace|del) "
WRITE4 = WRITE.replace("[46]", "4")


def differences(world: World) -> set[str]:
    """The destinations whose copies differ from their routes in main, without asking the program."""

    def copies(family: str, table: int) -> set[str]:
        return {
            f"{route['dst']} {sorted(route.items())}"
            for route in world.table(family, table)
            if route["dev"] != "tun-firezone" and "gateway" not in route
        }

    return {route.split()[0] for family in ("inet", "inet6") for route in copies(family, MAIN) ^ copies(family, TABLE)}


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ("fd00:1::/64", "Error: IPv6 is disabled on nexthop device."),
        ("192.168.77.0/24", "RTNETLINK answers: Device or resource busy"),
        ("10.20.0.0/16", 'Cannot find device "busybox0"'),
    ],
)
def test_a_refused_line_is_reported_once_in_ips_words_and_the_others_are_applied(
    world: World, refused: str, words: str
) -> None:
    world.fails(f"{WRITE}.*{refused}", words=words)
    done = world.run("sync", "--json")
    assert (3, 1) == (done.code, len(done.errors)), done
    command = done.errors[0].removesuffix(f": {words}")
    assert refused in command
    assert command in done.lines
    assert [words] == [failure["words"] for failure in json.loads(done.out)["failures"]]
    world.heals()
    assert {refused} == differences(world)
    assert 0 == world.run("sync").code
    assert set() == differences(world)


@pytest.mark.parametrize("number", [1, 4, 6])
def test_a_batch_killed_in_the_middle_is_repaired_or_the_rest_is_listed(world: World, number: int) -> None:
    """Either exit 0 and all routes are right, or exit 3 and each wrong route is named."""
    world.main("inet", *(lan(f"10.{index}.0.0/16") for index in range(5)))
    world.fails(WRITE4, number=number, signal=signal.SIGKILL, times=1)
    done = world.run("sync")
    left = {f"10.{index}.0.0/16" for index in range(5)} - set(world.copies("inet"))
    stale = {"192.168.1.0/24", "192.168.77.0/24"} & set(world.copies("inet"))
    assert (3 if left or stale else 0) == done.code, done
    assert left | stale == {line.split()[5] for line in done.errors}
    assert all("killed by signal 9" in line for line in done.errors)
    world.heals()
    assert 0 == world.run("sync").code
    assert set() == differences(world)


def test_batches_that_are_always_killed_are_given_up_soon(world: World) -> None:
    world.fails(WRITE, forget=True, signal=signal.SIGKILL)
    done = world.run("sync")
    assert 3 == done.code, done
    assert {"10.20.0.0/16", "192.168.77.0/24", "fd00:1::/64", "fe80::/64", "fd00:77::/64"} == {
        line.partition(" table ")[2].split()[1] for line in done.errors
    }
    assert 8 >= len(world.batches())


def test_a_parse_error_ends_a_batch_and_every_missing_route_is_listed(world: World) -> None:
    words = 'Error: either "to" is duplicate, or "realms" is a garbage.'
    world.main("inet", *(lan(f"10.{index}.0.0/16") for index in range(5)))
    world.fails(WRITE4, number=3, exit=255, ends=True, stderr=words)
    done = world.run("sync")
    missing = {f"10.{index}.0.0/16" for index in range(5)} - set(world.copies("inet"))
    assert 3 == done.code, done
    assert missing <= {line.split()[5] for line in done.errors}
    assert any(words in line for line in done.errors)


def test_the_families_do_not_fail_together(world: World) -> None:
    world.fails(WRITE4, forget=True, signal=signal.SIGKILL)
    assert 3 == world.run("sync").code
    assert ["fd00:1::/64", "fe80::/64", "fe80::/64"] == world.copies("inet6")


def test_routes_that_another_program_undoes_are_given_up_after_a_few_rounds(world: World) -> None:
    world.fails(rf"{WRITE}.*10.20.0.0/16", forget=True)
    done = world.run("sync")
    assert (3, 1) == (done.code, len(done.errors)), done
    assert "10.20.0.0/16" in done.errors[0]
    assert "undoes it at once" in done.errors[0]
    assert 5 >= len(world.batches())
    assert ["192.168.1.0/24"] == world.copies("inet")


def test_six_thousand_refusals_are_all_listed(world: World) -> None:
    """Their words are longer than any pipe."""
    world.main("inet", *(lan(f"10.{index // 250}.{index % 250}.0/24") for index in range(6_000)))
    world.fails(r"-4 .*route add", words="Error: Nexthop has invalid gateway. This is said at some length.")
    done = world.run("sync", "-q")
    assert (3, 6_000) == (done.code, len(done.errors))
    assert all("Nexthop has invalid gateway" in line for line in done.errors)


def test_twins_keep_their_order_whether_on_link_or_through_a_router(world: World) -> None:
    """Among routes of equal destination and metric, the kernel takes the first."""
    world.main("inet", lan("10.1.0.0/16"), gatewayed("10.1.2.0/24", "10.1.0.1"), lan("10.1.2.0/24", "wlan0"))
    assert 0 == world.run("sync", "-c", world.config('[lan]\nallow = ["10.1.0.0/16"]\n')).code
    assert ["eth0", "wlan0"] == [route["dev"] for route in world.table("inet") if route["dst"] == "10.1.2.0/24"]
