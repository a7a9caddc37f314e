"""No two fz-iproute change the same table at the same time, and none waits without need."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fz_iproute.files.lock import locked
from tests.cli.test_replay import ADD, HEADING, journal
from tests.cli.world import World, finish
from tests.netns.namespace import wait_until

TABLE = 539098368


@contextmanager
def held(world: World, table: int = TABLE) -> Iterator[None]:
    """Hold the lock, as another fz-iproute would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNTIME_DIRECTORY", str(world.locks))
        with locked(None, [table], 0):
            yield


@pytest.mark.parametrize("verb", ["sync", "down", "replay"])
def test_a_lock_that_is_held_too_long_ends_it_with_one_line(world: World, verb: str) -> None:
    before = world.tables()
    with held(world):
        done = world.run(verb, "--wait", "0.2", *([journal(world, HEADING, ADD)] if verb == "replay" else []))
    assert (5, "", 1) == (done.code, done.out, len(done.lines)), done
    assert f"is working on table {TABLE}" in done.errors[0]
    assert before == world.tables()
    assert 0 == world.run("sync").code


def test_a_lock_that_is_released_in_time_is_taken(world: World) -> None:
    def waits() -> bool:
        try:
            return any(fd.readlink() == world.locks / "locks" for fd in Path(f"/proc/{process.pid}/fd").iterdir())
        except FileNotFoundError:  # closed between two looks
            return False

    before = world.tables()
    with held(world):
        process = world.start("sync", "--wait", "50")
        wait_until(waits, "the program has opened the lock")
        assert before == world.tables()
    assert 0 == finish(process).code
    assert world.in_step()


@pytest.mark.parametrize("argv", [("plan",), ("status",), ("sync", "--dry-run"), ("down", "--dry-run")], ids=" ".join)
def test_a_verb_that_changes_nothing_needs_no_lock(world: World, argv: tuple[str, ...]) -> None:
    with held(world):
        done = world.run(*argv, "--wait", "0")
    assert (0, []) == (done.code, done.errors), done
    assert [world.locks / "locks"] == list(world.locks.iterdir())


@pytest.mark.parametrize(
    ("settings", "table", "code"),
    [
        ("single = 1000\nlan = 1001", TABLE, 0),
        ("single = 1000", 539098369, 5),
        ("single = 1000\nlayout = 'tiered'", 539098369, 5),
    ],
    ids=["other tables", "auto", "tiered"],
)
def test_the_lock_is_that_of_the_table_of_the_copies_whatever_else_differs(
    world: World, settings: str, table: int, code: int
) -> None:
    """In the tiered layout, the copies go to `tables.lan`."""
    with held(world, table):
        assert code == world.run("sync", "-c", world.config(f"[tables]\n{settings}\n"), "--wait", "0").code


SPOILED: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a link to itself": lambda lock: lock.symlink_to(lock),
    "a file instead of its folder": lambda lock: (lock.parent.rmdir(), lock.parent.touch()),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_lock_that_cannot_be_opened_is_one_line(world: World, how: str) -> None:
    lock = world.locks / "locks"
    SPOILED[how](lock)
    before = world.tables()
    done = world.run("sync")
    assert (2, 1) == (done.code, len(done.errors)), done
    assert str(lock.parent) in done.errors[0]
    assert before == world.tables()
