"""More moves than a real kernel has time for, between any two configurations, interrupted anywhere."""

from collections.abc import Sequence

from hypothesis import Phase, assume, given, note, settings
from hypothesis import strategies as st

from fz_iproute.mirror.config import Config, Lan, Rules, Tables, Tunnel, replace
from fz_iproute.mirror.desired import layout
from fz_iproute.mirror.model import Command, Mark
from fz_iproute.mirror.plan import leftovers, plan, take_out
from fz_iproute.mirror.prefix import Prefix
from tests.manage.fake_kernel import FakeKernel

PROBES = [
    "192.168.188.1", "192.168.188.50", "10.77.0.1", "100.64.3.9", "100.64.0.9", "100.100.111.7", "8.8.8.8",
    "fd00:188::1", "fd00:188::50", "fd00:2021:1111:3::9", "fd00:2021:1111::77", "2001:db8::1",
]  # fmt: skip
PREFIXES = [
    "100.64.0.0/10", "100.64.0.0/11", "100.64.3.0/24", "100.64.3.9/32", "100.100.111.0/24", "192.168.188.50/32",
    "192.168.188.0/24", "192.168.0.0/16", "192.168.188.0/25", "fd00:2021:1111::/48", "fd00:188::50/128", "fd00::/16",
]  # fmt: skip
OUTSIDE = ["100.64.0.9", "100.100.111.7", "8.8.8.8", "fd00:2021:1111::77", "2001:db8::1"]  # of every LAN
PRIORITIES = [100, 200, 300, 400, 32765]


@st.composite
def configurations(draw: st.DrawFn, numbers: Sequence[int] = range(1, 7)) -> Config:
    single, user, lan, internet = draw(st.permutations(numbers))[:4]
    if draw(st.booleans()):
        single = user  # as it is by default
    return Config(
        tunnel=Tunnel(
            mode="manage",
            interface=draw(st.sampled_from(["tun-a", "tun-a", "tun-a", "tun-b"])),
            fwmark=draw(st.sampled_from([Mark(1), Mark(1), Mark(2), Mark(1, 0xFF)])),
            routes=tuple(Prefix.parse(text) for text in draw(st.lists(st.sampled_from(PREFIXES), unique=True))),
            internet=draw(st.sampled_from([True, True, False])),
            on_down=draw(st.sampled_from(["open", "closed"])),
        ),
        tables=Tables(draw(st.sampled_from(["single", "tiered", "auto"])), single, user, lan, internet),
        rules=Rules(
            draw(st.sampled_from(PRIORITIES)),
            tuple(sorted(draw(st.lists(st.sampled_from(PRIORITIES), min_size=3, max_size=3, unique=True)))),
        ),
        lan=draw(st.sampled_from([Lan(), Lan(), Lan(deny=(Prefix.parse("10.0.0.0/8"),)), Lan(multicast=True)])),
    )


def assert_interruptible(  # noqa: PLR0917
    start: FakeKernel,
    due: Sequence[Command],
    goals: Sequence[object],
    allowed: dict[str, set[str]],
    config: Config,
    finish: str,
    former: Config | None = None,
) -> None:
    """`former` is the configuration that `watch` has had; `sync` knows of none."""
    planned = start.look(config)
    kernel = start.copy()
    steps = [None, *due]
    cleaned = former is None
    for k, command in enumerate(steps):
        if command:
            note(f"{k}: {' '.join(command.words)}")
            kernel.run([command], planned)
        if finish == "sync" and k == len(steps) - 1:
            planned = kernel.look(config)
            if former and not cleaned:
                planned = kernel.look(former)
                stale = leftovers(planned, kernel.look(config))
                cleaned = stale is not None
                steps += stale or []
            if k == len(steps) - 1:  # the next leg, if the way leads through a spare table
                planned = kernel.look(config)
                steps += plan(planned)
        wrong = {probe: way for probe in PROBES if (way := kernel.way(probe)) not in allowed[probe]}
        assert {} == wrong
        rest = kernel.copy()
        getattr(rest, finish)(config)
        assert rest.state() in goals


def assert_moves(start: FakeKernel, one: Config, other: Config, *, watching: bool) -> None:
    fresh = FakeKernel()
    fresh.sync(other)
    if other.tables.layout == "auto":  # what it is depends on what there is
        fresh = start.copy()
        fresh.sync(other)
    allowed = {probe: {start.way(probe), fresh.way(probe)} for probe in PROBES}
    tunnels = {one.tunnel.interface, other.tunnel.interface}
    for ways in allowed.values():
        if ways & tunnels:  # whose default may take over before the LAN or another route does
            ways.update(tunnels)
    goals = [fresh.state()]
    if other.tables.layout == "auto":  # where an interruption has left some rules, it may be the other one
        for name in ("single", "tiered"):
            either = start.copy()
            either.sync(replace(other, tables={"layout": name}))
            goals.append(either.state())
    assert_interruptible(start, plan(start.look(other)), goals, allowed, other, "sync", one if watching else None)


def roles(config: Config, kernel: FakeKernel) -> dict[int, str]:
    """What each table of the layout is for."""
    plane = layout(config, kernel.rules)
    if plane.name == "single":
        return {plane.user: "single"}
    return {plane.user: "user", plane.mirror: "lan", plane.internet: "internet"}


MOST = 60
# Every example is many steps: a smaller one is not worth the time it takes to find.
MANY = settings(max_examples=MOST, deadline=None, print_blob=True, phases=(Phase.explicit, Phase.reuse, Phase.generate))


@MANY
@given(one=configurations(), other=configurations(), watching=st.booleans())
def test_a_move_has_no_gap_and_no_leak_and_can_be_interrupted_anywhere(
    one: Config, other: Config, watching: bool
) -> None:
    start = FakeKernel()
    start.sync(one)
    before, after = roles(one, start), roles(other, start)
    # Who gives his VPN another mark and another first table has another VPN: only `watch` knows the former one.
    assume(one.tunnel.fwmark == other.tunnel.fwmark or next(iter(before)) in after)
    assert_moves(start, one, other, watching=watching)


@MANY
@given(one=configurations(), other=configurations())
def test_where_each_table_keeps_its_part_no_spare_one_is_needed(one: Config, other: Config) -> None:
    start = FakeKernel()
    start.sync(one)
    due = plan(start.look(replace(other, tables=vars(one.tables))))
    assert {int(command.words[3]) for command in due if command.words[0] == "route"} <= one.tables.ids


@MANY
@given(one=configurations())
def test_down_can_be_interrupted_anywhere(one: Config) -> None:
    start = FakeKernel()
    start.sync(one)
    bare = FakeKernel()
    allowed = {probe: {start.way(probe), bare.way(probe)} for probe in PROBES}
    assert_interruptible(start, take_out(start.look(one)), [bare.state()], allowed, one, "down")


@MANY
@given(one=configurations())
def test_the_first_sync_can_be_interrupted_anywhere(one: Config) -> None:
    start, fresh = FakeKernel(), FakeKernel()
    fresh.sync(one)
    allowed = {probe: {start.way(probe), fresh.way(probe)} for probe in PROBES}
    assert_interruptible(start, plan(start.look(one)), [fresh.state()], allowed, one, "sync")


@MANY
@given(one=configurations(), other=configurations(), data=st.data())
def test_whatever_is_refused_nothing_leaks_and_what_is_missing_comes_later(
    one: Config, other: Config, data: st.DataObject
) -> None:
    start, fresh = FakeKernel(), FakeKernel()
    start.sync(one)
    before, after = roles(one, start), roles(other, start)
    assume(one.tunnel.fwmark == other.tunnel.fwmark or next(iter(before)) in after)
    fresh.sync(other)
    if other.tables.layout == "auto":
        fresh = start.copy()
        fresh.sync(other)
    kept_in = {one.tunnel.interface, other.tunnel.interface, "unreachable"}
    # A part of a LAN is the LAN's as long as its own route into the tunnel is refused.
    guarded = [probe for probe in OUTSIDE if {start.way(probe), fresh.way(probe)} <= kept_in]
    refused: dict[object, bool] = {}

    def refuses(command: Command) -> bool:
        key = command.family, command.line
        if command.words[1] != "del" and key not in refused:
            refused[key] = data.draw(st.sampled_from([False, False, True]), label=command.line)
        return refused.get(key, False)

    kernel = start.copy()
    for command in kernel.syncing(other, refuses):
        note(command.line)
        assert {} == {probe: way for probe in guarded if (way := kernel.way(probe)) not in kept_in}
    kernel.sync(other)
    assert fresh.state() == kernel.state()
