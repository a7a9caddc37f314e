"""The passes of `sync`, `plan` and `down`: read, plan, apply, and read again until there is nothing left to do."""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import NamedTuple

from fz_iproute.errors import NotPermitted, UsageError
from fz_iproute.files.rt_tables import misleading
from fz_iproute.ip.apply import NO_PERMISSION, Refusal, Work
from fz_iproute.ip.ip import Asked, Ip, Source
from fz_iproute.ip.reader import Reader
from fz_iproute.ip.rights import has_net_admin
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config
from fz_iproute.mirror.desired import Desired, desired, is_absent
from fz_iproute.mirror.model import EVERYTHING, Command, Part, Snapshot
from fz_iproute.mirror.plan import NO_ORIGINAL, check_roles, plan, remove_all
from fz_iproute.mirror.policy import Verdict
from fz_iproute.mirror.prefix import FAMILY_NAMES
from fz_iproute.mirror.tunnel import Layout, link_state

# How often one pass applies commands and reads again. Another program may change the tables at the same time. If it
# never stops, neither would the pass.
_MOST_ROUNDS = 3


class Pass(NamedTuple):
    """The result of one pass."""

    commands: list[Command]  # the commands that ran
    failures: list[Refusal]  # the commands that are still due, with the reasons


Planner = Callable[[Desired], list[Command]]


class Remarks(NamedTuple):
    """Functions that log what a plan does not show."""

    absent: Callable[[], None] = lambda: None  # no rule looks up the VPN's tables; again if one has done so meanwhile
    lost: Callable[[], None] = lambda: None  # copies are due to go, because main has no such routes


_NO_REMARKS = Remarks()


class Plans:
    """Makes plans for one machine, running or recorded."""

    def __init__(self, source: Source, config: Config, log: Log, remarks: Remarks = _NO_REMARKS) -> None:
        self._config = config
        self._log = log
        self._remarks = remarks
        self._was_absent = False
        self.is_absent = False  # no rule looked up the VPN's tables at the last look
        self._reader = Reader(source, config)
        # A recorded machine has other names of tables than this one, so there is nothing to check.
        self._misleading = misleading() if isinstance(source, Ip) else {}
        self._last: Desired | None = None  # the result of the last look
        self._is_in_step = False  # nothing was due at the last look
        self.first: Desired | None = None  # the result of the first look
        self._warned: Collection[Verdict] = ()
        self.expiry: int | None = None  # see Snapshot
        self.tunnel = "missing"  # the state of the configured tunnel at the last look: up, down or missing

    def plan_sync(self, changed: frozenset[Part] = EVERYTHING) -> list[Command]:
        """The commands that `sync` would run. UsageError if a table in use would get a new role."""
        goal = self.look(changed)
        check_roles(goal)
        if self.is_absent and not self._was_absent:
            self._remarks.absent()
        self._was_absent = self.is_absent
        warnings = goal.warnings
        for verdict in warnings:
            if verdict not in self._warned:
                self._warn(verdict, goal)
        self._warned = warnings
        commands = self._difference(goal)
        self._is_in_step = not commands
        if commands and self._config.manages and not self._config.tunnel.internet:
            self._warn_of_lost_default(commands, goal)
        if any(NO_ORIGINAL in command.reason for command in commands):
            self._remarks.lost()
        return commands

    @property
    def in_step(self) -> Desired | None:
        """The result of the last look; None if something was due."""
        return self._last if self._is_in_step else None

    def _warn(self, verdict: Verdict, goal: Desired) -> None:
        """Warn of a copy while it is missing. Otherwise, `sync` as a cron job would warn once a minute for ever."""
        if verdict.refusal:
            self._log.info(f"# {verdict.route}: {verdict.warning}")
        elif verdict.route not in goal.contents[verdict.route.attributes.family][goal.layout.mirror].ours:
            self._log.warning(f"{verdict.route}: {verdict.warning}")

    def _warn_of_lost_default(self, commands: Collection[Command], goal: Desired) -> None:
        """Warn if the default route into the tunnel, or a half of it, goes: then the internet is outside the tunnel."""
        tunnel = self._config.tunnel.interface
        wide = {"default", *(str(half) for halves in goal.split.values() for half in halves)}
        gone = (each for each in commands if each.words[1] == "del" and tunnel in each.words and wide & {*each.words})
        if names := dict.fromkeys(FAMILY_NAMES[each.family] for each in gone):
            lost = f"the default route into {tunnel} ({' and '.join(names)})"
            self._log.warning(f"{lost} goes, and nothing replaces it: tunnel.internet is false")

    def plan_down(self) -> list[Command]:
        """The commands that `down` would run."""
        return remove_all(self.look())

    @property
    def copies(self) -> int:
        """How many copies there should be, by the last look."""
        return sum(len(judged.wanted) for judged in self._last.judged.values()) if self._last else 0

    @property
    def layout(self) -> Layout | None:
        """The layout at the last look."""
        return self._last.layout if self._last else None

    @property
    def destinations(self) -> frozenset[str]:
        """The destinations of the routes that should be copied, by the last look."""
        wanted = (route for judged in self._last.judged.values() for route in judged.wanted) if self._last else ()
        return frozenset(route.dst for route in wanted)

    def look(self, changed: frozenset[Part] = EVERYTHING) -> Desired:
        """Read what may have changed since the last look, and compute what should be there."""
        return self._judge(self._reader.read(changed))

    def _judge(self, snapshot: Snapshot) -> Desired:
        if self._misleading.keys() & snapshot.tables.keys():
            self._misleading = misleading()  # the file may have been corrected
        if misled := self._misleading.keys() & snapshot.tables.keys():
            raise UsageError("\n".join(self._misleading[table] for table in sorted(misled)))
        self._is_in_step = False
        self.expiry = snapshot.expiry
        self.is_absent = is_absent(self._config, snapshot)
        self.tunnel = link_state(self._config, snapshot)
        self._last = desired(self._config, snapshot, self._last)
        self.first = self.first or self._last
        return self._last

    def _difference(self, goal: Desired) -> list[Command]:
        return plan(goal, prune=self._config.lan.prune)


class Passes(Plans):
    """Makes plans for the running machine, and applies them.

    Each command is logged. With `reasons`, its reason follows it as a comment.
    """

    def __init__(
        self, ip: Ip, config: Config, log: Log, remarks: Remarks = _NO_REMARKS, *, reasons: bool = False
    ) -> None:
        super().__init__(ip, config, log, remarks)
        self._ip = ip
        self._reasons = reasons

    def sync(self) -> Pass:
        """Bring the VPN's tables in step with main and the configuration."""
        return self._carry_out(self.plan_sync(), self._difference)

    def down(self) -> Pass:
        """Remove everything that fz-iproute has added."""
        return self._carry_out(self.plan_down(), remove_all)

    def apply(self, due: Sequence[Command], begun: Asked | None = None) -> list[Refusal]:
        """Run the commands and log them. Returns those that `ip` refused. NotPermitted if all need CAP_NET_ADMIN.

        `begun`: `ip` has them already. Then they are few, and of one family.
        """
        try:
            work = Work(self._ip, due, begun)
            if is_logged := self._is_admin and not begun:
                self._show(due)  # while `ip` works on them, because ten thousand lines take a while
            refusals = work.finish()
        finally:
            self._ip.abandon()
            self._reader.forget(_parts(due))
        if len(refusals) == len(due) and all(NO_PERMISSION in refusal.words for refusal in refusals):
            raise NotPermitted(f"{refusals[0].words}: only root may change routes; use sudo, or grant CAP_NET_ADMIN")
        if not is_logged:
            self._show(due)
        return refusals

    @cached_property
    def _is_admin(self) -> bool:
        """True if this process may change routes. If not, no command is logged before `ip` has accepted one."""
        return has_net_admin()

    def _show(self, due: Sequence[Command]) -> None:
        self._log.info(self._ip.script(due, reasons=self._reasons))

    def _carry_out(self, due: list[Command], planner: Planner) -> Pass:
        """Apply the commands that are due, read again, and repeat until `planner` finds none.

        A command counts as a failure only if it is still due afterwards. A refused one is not due any more if, for
        example, `ip` said "File exists" because another program has just added the same route. What has become due
        only since the last round is no failure, but a change of main since then.
        """
        run: list[Command] = []
        ready: list[Command] = []
        refusals: list[Refusal] = []
        for _ in range(_MOST_ROUNDS):
            ready = [command for command in due if not command.waits]
            refused = {refusal.command for refusal in refusals if not refusal.lost}
            if all(command in refused for command in ready):
                break  # no command is ready, or `ip` has already refused all of them
            refusals = self.apply(ready)
            run += ready
            due = planner(self.look())
        words = {**dict.fromkeys(ready, _UNDONE), **{refusal.command: refusal.words for refusal in refusals}}
        if late := sum(not command.waits and command not in words for command in due):
            self._log.info(f"# main has changed meanwhile: {late} more commands are due")
            due = [command for command in due if command in words]  # the others are late, or may wait for a late one
        left = [Refusal(command, words.get(command, _HELD)) for command in due]
        return Pass(run, [refusal for refusal in left if not self._is_expected(refusal)])

    def _is_expected(self, refusal: Refusal) -> bool:
        """True if the refusal is no failure, because IPv6 is off on the tunnel.

        Without addresses, a tunnel does not show whether it takes IPv6. So the plan tries, and covers both cases.
        """
        return _IPV6_IS_OFF in refusal.words and f" dev {self._config.tunnel.interface} " in refusal.command.line


def _parts(commands: Sequence[Command]) -> set[Part]:
    """The parts of a snapshot that the commands change."""
    return {"links and rules" if command.line.startswith("rule") else command.family for command in commands}


_UNDONE = "another program undoes it at once"
_IPV6_IS_OFF = "IPv6 is disabled on nexthop device"
_HELD = "not run, because its replacement is not there yet"
