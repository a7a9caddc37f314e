"""What is printed is what is run: the lines of `plan`, pasted into a shell, do what `sync` does."""

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.netns import terrain
from tests.netns.namespace import MAIN, MIRROR, TUNNEL, Machine, Namespace, run
from tests.netns.rtnetlink import FAMILIES, RawRoute


def paste(lines: str) -> None:
    """Run what a person copied from the terminal. A refused line is no reason to stop, nor is it here."""
    run("sh", stdin=lines, check=False)


def mirror(namespace: Namespace) -> dict[str, list[RawRoute]]:
    """Both families; IPv6 sorted, since the order of its equals is the kernel's own."""
    return {"inet": namespace.raw("inet"), "inet6": sorted(namespace.raw("inet6"))}


def establish(land: Namespace, family: str, main: list[terrain.Line], copies: list[terrain.Line]) -> None:
    terrain.flush(land, family, MAIN, MIRROR)
    land.batch([terrain.spelled(family, "add", f"default dev {TUNNEL} proto static", MIRROR)])
    land.batch([terrain.spelled(family, *line) for line in main], force=True)
    land.batch([terrain.spelled(family, *line, table=MIRROR) for line in copies], force=True)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
@settings(terrain.REAL_KERNEL, max_examples=10)
@given(data=st.data())
def test_pasted_lines_give_the_state_that_sync_gives(family: str, data: st.DataObject, land: Namespace) -> None:
    main = data.draw(terrain.additions(family), label="main")
    kept = data.draw(st.lists(st.sampled_from(main), max_size=6), label="copies that are there")
    wrong = data.draw(st.lists(st.tuples(st.just("append"), terrain.routes(family)), max_size=4), label="stale")

    establish(land, family, main, kept + wrong)
    lines = land.fz("plan")
    note(lines)
    paste(lines)
    pasted = mirror(land)

    establish(land, family, main, kept + wrong)
    land.fz("sync")
    assert mirror(land) == pasted


def test_without_a_namespace_the_lines_are_for_the_one_they_run_in(machine: Machine) -> None:
    argv = machine.fz_argv("plan", netns=False)
    lines = machine.exec(*argv, **machine.fz_options()).stdout
    assert "-n" not in lines.split()
    machine.exec("sh", stdin=lines)
    assert machine.in_step()
