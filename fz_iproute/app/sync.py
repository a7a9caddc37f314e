"""`sync`, `plan` and `down`: read, plan, apply, and read again until nothing differs."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from fz_iproute.core.config import Config
from fz_iproute.core.desired import Desired, desired
from fz_iproute.core.model import Command
from fz_iproute.core.plan import plan, take_out
from fz_iproute.errors import NotPermitted
from fz_iproute.kernel.apply import NO_PERMISSION, Refusal, apply
from fz_iproute.kernel.ip import Ip
from fz_iproute.kernel.snapshot import read_snapshot
from fz_iproute.log import Log

# Somebody else may change the tables in the middle of a pass; who keeps doing so is not to be outrun.
_MOST_ROUNDS = 3


class Pass(NamedTuple):
    """What one pass did: the commands run, and those that are still due, with the reason."""

    commands: list[Command]
    failures: list[Refusal]


Planner = Callable[[Desired], list[Command]]


def sync(ip: Ip, config: Config, log: Log) -> Pass:
    """Bring the mirror table in step with main."""
    goal = _look(ip, config)
    _warn(goal, log)
    return _carry_out(ip, config, goal, _planner(config), log)


def down(ip: Ip, config: Config, log: Log) -> Pass:
    """Take out every copy."""
    return _carry_out(ip, config, _look(ip, config), take_out, log)


def plan_sync(ip: Ip, config: Config, log: Log) -> list[Command]:
    """The commands that `sync` would run."""
    goal = _look(ip, config)
    _warn(goal, log)
    return _planner(config)(goal)


def plan_down(ip: Ip, config: Config, log: Log) -> list[Command]:
    """The commands that `down` would run."""
    return take_out(_look(ip, config))


def _planner(config: Config) -> Planner:
    return partial(plan, prune=config.lan.prune)


def _look(ip: Ip, config: Config) -> Desired:
    return desired(config, read_snapshot(ip, config))


def _warn(goal: Desired, log: Log) -> None:
    for verdict in goal.verdicts:
        if verdict.warning:
            log.warning(f"{verdict.route}: {verdict.warning}")


def _carry_out(ip: Ip, config: Config, goal: Desired, planner: Planner, log: Log) -> Pass:
    """Apply what is due, until `planner` finds nothing.

    A refusal is a failure only if its command is still due afterwards: "File exists" for a route that somebody
    else has just added leaves the right state behind. NotPermitted if the kernel takes nothing from us.
    """
    run: list[Command] = []
    refusals: list[Refusal] = []
    due = planner(goal)
    for _ in range(_MOST_ROUNDS):
        if not due:
            break
        log.info("\n".join(ip.line(command) for command in due))
        refusals = apply(ip, due)
        run += due
        if len(refusals) == len(due) and all(NO_PERMISSION in refusal.words for refusal in refusals):
            raise NotPermitted(f"{ip.line(due[0])}: {refusals[0].words}; run as root or with CAP_NET_ADMIN")
        due = planner(_look(ip, config))
        if due and set(due) <= {refusal.command for refusal in refusals}:
            break  # refused just now: at once, the answer would be the same
    said = {refusal.command: refusal.words for refusal in refusals}
    return Pass(run, [Refusal(command, said.get(command, "it does not last: somebody undoes it")) for command in due])
