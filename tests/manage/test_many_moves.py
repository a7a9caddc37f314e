"""More moves than a real kernel has time for, between any two configurations, interrupted anywhere."""

from collections.abc import Sequence

from hypothesis import Phase, assume, given, note, settings
from hypothesis import strategies as st

from fz_iproute.errors import UsageError
from fz_iproute.mirror.config import Config, Lan, Rules, Tables, Tunnel, replace
from fz_iproute.mirror.desired import layout_of
from fz_iproute.mirror.model import Command, Mark
from fz_iproute.mirror.plan import leftovers, plan, remove_all
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
    """After each command, packets go where they may, and `finish` completes the work.

    `former` is the configuration that `watch` had before; `sync` does not know it.
    """
    planned = start.look(config)
    kernel = start.copy()
    steps = [None, *due]
    cleaned = former is None
    for k, command in enumerate(steps):
        if command:
            note(f"{k}: {' '.join(command.words)}")
            kernel.run([command], planned)
        if former and not cleaned and k == len(steps) - 1:
            planned = kernel.look(former)
            stale = leftovers(planned, kernel.look(config))
            cleaned = stale is not None
            steps += stale or []
        wrong = {probe: way for probe in PROBES if (way := kernel.way(probe)) not in allowed[probe]}
        assert {} == wrong
        rest = kernel.copy()
        getattr(rest, finish)(config)
        assert rest.state() in goals


def fresh_kernel(other: Config, start: FakeKernel) -> FakeKernel:
    """What a sync leads to; with the layout `auto` that depends on what was there."""
    fresh = start.copy() if other.tables.layout == "auto" else FakeKernel()
    fresh.sync(other)
    assert [] == fresh.sync(other)
    return fresh


def parts(config: Config, kernel: FakeKernel) -> dict[int, int]:
    """Each table of the layout with its place in lookup order."""
    return {table: part for part, table in enumerate(layout_of(config, kernel.rules).tables)}


def is_refused(kernel: FakeKernel, config: Config) -> bool:
    try:
        kernel.planned(config)
    except UsageError:
        return True
    return False


def is_known(one: Config, other: Config, start: FakeKernel) -> bool:
    """Another mark and another first table make another VPN, of which only `watch` knows the former rules."""
    return one.tunnel.fwmark == other.tunnel.fwmark or layout_of(one, start.rules).user in parts(other, start)


# Every example is many steps: a smaller one is not worth the time it takes to find.
MANY = settings(max_examples=60, deadline=None, print_blob=True, phases=(Phase.explicit, Phase.reuse, Phase.generate))


@MANY
@given(one=configurations(), other=configurations(), watching=st.booleans())
def test_a_move_has_no_gap_and_no_leak_and_can_be_interrupted_anywhere(
    one: Config, other: Config, watching: bool
) -> None:
    start = FakeKernel()
    start.sync(one)
    assume(is_known(one, other, start) and not is_refused(start, other))
    fresh = fresh_kernel(other, start)
    allowed = {probe: {start.way(probe), fresh.way(probe)} for probe in PROBES}
    tunnels = {one.tunnel.interface, other.tunnel.interface}
    for ways in allowed.values():
        if ways & tunnels:  # the default of one may take over before the LAN or another route does
            ways.update(tunnels)
    goals = [fresh.state()]
    if other.tables.layout == "auto":  # which rules an interruption leaves decides the layout
        for name in ("single", "tiered"):
            either = replace(other, tables={"layout": name})
            if not is_refused(start, either):
                goals.append(fresh_kernel(either, start).state())
    assert_interruptible(start, start.planned(other), goals, allowed, other, "sync", one if watching else None)


@MANY
@given(one=configurations(), other=configurations())
def test_tables_that_would_swap_their_parts_are_refused_until_down_has_run(one: Config, other: Config) -> None:
    start = FakeKernel()
    start.sync(one)
    assume(is_known(one, other, start))
    before, after = parts(one, start), parts(other, start)
    swapped = any(after.get(table, part) != part for table, part in before.items())
    kept = {rule for rule in start.look(other).rules.wanted if rule in start.rules}
    if not kept:  # a rule that stays leaves it open which part its table had
        assert swapped == is_refused(start, other)
    if not swapped:
        assert not is_refused(start, other)
        tables = {int(command.words[3]) for command in start.planned(other) if command.words[0] == "route"}
        assert tables <= one.tables.ids | other.tables.ids
    start.down(other)
    start.sync(other)
    assert start.sync(other) == []


def test_a_swap_is_refused_though_the_rule_of_the_table_stays() -> None:
    single = replace(
        Config(),
        tunnel={"mode": "manage", "interface": "tun-a", "routes": (Prefix.parse("100.64.0.0/10"),)},
        tables={"layout": "single", "single": 1},
        rules={"single": 100, "tiered": (50, 100, 200)},
    )
    start = FakeKernel()
    start.sync(single)
    tiered = replace(single, tables={"layout": "tiered", "single": 9, "user": 2, "lan": 1, "internet": 3})
    assert is_refused(start, tiered)
    start.down(tiered)
    start.sync(tiered)


@MANY
@given(one=configurations())
def test_single_and_tiered_send_every_packet_the_same_way(one: Config) -> None:
    kernels = {layout: FakeKernel() for layout in ("single", "tiered")}
    for layout, kernel in kernels.items():
        kernel.sync(replace(one, tables={"layout": layout}))
    single, tiered = ({probe: kernel.way(probe) for probe in PROBES} for kernel in kernels.values())
    assert single == tiered


@MANY
@given(one=configurations(), away=st.booleans())
def test_the_first_sync_and_down_can_be_interrupted_anywhere(one: Config, away: bool) -> None:
    bare, whole = FakeKernel(), FakeKernel()
    whole.sync(one)
    assert [] == whole.sync(one)
    allowed = {probe: {bare.way(probe), whole.way(probe)} for probe in PROBES}
    if away:
        assert_interruptible(whole, remove_all(whole.look(one)), [bare.state()], allowed, one, "down")
    else:
        assert_interruptible(bare, plan(bare.look(one)), [whole.state()], allowed, one, "sync")


@MANY
@given(one=configurations(), other=configurations(), data=st.data())
def test_whatever_is_refused_nothing_leaks_and_what_is_missing_comes_later(
    one: Config, other: Config, data: st.DataObject
) -> None:
    start = FakeKernel()
    start.sync(one)
    assume(is_known(one, other, start) and not is_refused(start, other))
    fresh = fresh_kernel(other, start)
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
