"""The command line: arguments in, one verb run, its exit code out. The only place where all parts meet."""

import argparse
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fz_iproute import __version__
from fz_iproute.errors import (
    ApplyFailed,
    FzError,
    IpUnusable,
    Locked,
    NotPermitted,
    ReadFailed,
    UsageError,
)
from fz_iproute.files.config_file import ConfigFile, load
from fz_iproute.files.lock import locked
from fz_iproute.ip.dialogue import TalkingIp
from fz_iproute.ip.ip import Ip, Source, Spelling
from fz_iproute.ip.passes import Pass, Passes, Plans
from fz_iproute.ip.reader import Reader
from fz_iproute.log import Log
from fz_iproute.mirror.config import Config, dump, parse
from fz_iproute.mirror.model import Command
from fz_iproute.mirror.words import printable

if TYPE_CHECKING:
    from datetime import datetime

DONE = 0
DUE = 1  # plan --exit-code: there are commands to run
FAILED = 1  # doctor: a check has failed
EXIT_CODES: dict[type[FzError], int] = {
    UsageError: 2,
    ReadFailed: 3,
    ApplyFailed: 3,
    NotPermitted: 4,
    Locked: 5,
    IpUnusable: 6,
}
INTERRUPTED = 130  # as a shell says it: 128 + SIGINT

Arguments = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb named in `argv` and return the exit code. No FzError gets past it."""
    # One pass makes many objects and no garbage: looking for it would take a tenth of a large pass.
    gc.disable()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # Whatever the locale: a shell must get the name of an interface in the kernel's bytes, which may be any.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    log = _log(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        verb: Callable[[Arguments, Log], int] = arguments.verb
        return verb(arguments, log)
    except FzError as error:
        log.error(str(error))
        return EXIT_CODES[type(error)]
    except OSError as error:
        # What is left of them is the machine's: no memory, no descriptors, no processes.
        log.error(f"the machine refuses: {error}")
        return EXIT_CODES[ReadFailed]
    except KeyboardInterrupt:
        return INTERRUPTED


def _log(arguments: Arguments) -> Log:
    style = arguments.log_format
    if style == "text" and arguments.verb is _watch:
        style = "journal" if "JOURNAL_STREAM" in os.environ else "stamped"
    return Log(arguments.level, style)


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(128 + number)  # on the way out, whatever is still running is ended


@contextmanager
def _stdout() -> Iterator[TextIO]:
    """Where data goes. UsageError if it cannot; who has stopped reading (`plan | head`) is no error."""
    if sys.stdout is None:
        raise UsageError("stdout is closed, and this has something to print")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        # Python would complain once more when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UsageError(f"stdout: {error.strerror}") from None


def _sync(arguments: Arguments, log: Log) -> int:
    return _change(arguments, log, Passes.plan_sync, Passes.sync)


def _down(arguments: Arguments, log: Log) -> int:
    return _change(arguments, log, Passes.plan_down, Passes.down)


def _plan(arguments: Arguments, log: Log) -> int:
    with _source(arguments, log) as (source, config):
        return _print_plan(arguments, Plans(source, config, log).plan_sync())


def _change(
    arguments: Arguments, log: Log, plan: Callable[[Passes], list[Command]], act: Callable[[Passes], Pass]
) -> int:
    with _machine(arguments, log) as (ip, config):
        passes = Passes(ip, config, log)
        if arguments.dry_run:
            return _print_plan(arguments, plan(passes))
        with locked(arguments.netns, config.tables.mirrors, arguments.wait):
            done = act(passes)
    line = Spelling(arguments.netns).line
    if arguments.json:
        failures = [{**_command(line, failure.command), "words": failure.words} for failure in done.failures]
        _print_json({"commands": [_command(line, command) for command in done.commands], "failures": failures})
    if done.failures:
        raise ApplyFailed("\n".join(f"{line(failure.command)}: {failure.words}" for failure in done.failures))
    return DONE


@contextmanager
def _machine(arguments: Arguments, log: Log) -> Iterator[tuple[Ip, Config]]:
    """The `ip` to drive and the configuration in force; no `ip` is left running behind the block."""
    config = load(arguments.config)
    ip = TalkingIp(arguments.netns, _trace(arguments, log))
    try:
        yield ip, config
    finally:
        ip.abandon()
        ip.hang_up()


def _trace(arguments: Arguments, log: Log) -> Callable[[str], None] | None:
    return log.debug if arguments.level == "DEBUG" else None


@contextmanager
def _source(arguments: Arguments, log: Log) -> Iterator[tuple[Source, Config]]:
    """Who answers questions, and the configuration in force: of the machine, or of the snapshot that is named."""
    path = arguments.snapshot
    if path is None:
        with _machine(arguments, log) as (ip, config):
            yield ip, config
        return
    from fz_iproute.record.recorded_ip import RecordedIp, blamed_on, load_recording  # noqa: PLC0415

    recorded = load_recording(path)
    config = load(arguments.config) if arguments.config else parse(recorded.config, f"{path}: config")
    with blamed_on(path):
        yield RecordedIp(recorded), config


def _print_plan(arguments: Arguments, due: Sequence[Command]) -> int:
    line = Spelling(arguments.netns).line
    if arguments.json:
        _print_json({"commands": [_command(line, command) for command in due]})
    else:
        lines = [line(command) for command in due]
        if arguments.reasons:
            # They are for a shell, too, which must not read on in a name.
            lines = [f"{said}  # {printable(command.reason)}" for said, command in zip(lines, due, strict=True)]
        if due:
            _print("\n".join(lines))
    return DUE if due and arguments.exit_code else DONE


def _status(arguments: Arguments, log: Log) -> int:
    from fz_iproute.diagnosis import status as app_status  # noqa: PLC0415
    from fz_iproute.diagnosis.tree import draw  # noqa: PLC0415

    with _source(arguments, log) as (source, config):
        reader = Reader(source, config)

        def picture() -> str:
            size = os.get_terminal_size(sys.stdout.fileno()) if sys.stdout and sys.stdout.isatty() else None
            colour = size is not None and not os.environ.get("NO_COLOR")
            found = app_status.status(config, reader.read())
            return draw(found, width=size.columns if size else None, colour=colour)

        if arguments.json:
            _print_json(app_status.as_document(app_status.status(config, reader.read())))
        elif arguments.redraw and isinstance(source, TalkingIp):
            from fz_iproute.daemon.signals import resizes  # noqa: PLC0415
            from fz_iproute.ip.monitor import changes  # noqa: PLC0415

            with resizes() as resized:
                for _ in changes(source, resized):
                    _print(f"{_CLEAR}{picture()}")
                    source.hang_up()  # it would know the interfaces by the names of this moment
        else:
            _print(picture())
    return DONE


_CLEAR = "\x1b[H\x1b[2J"  # cursor home, erase all


def _watch(arguments: Arguments, log: Log) -> int:
    # A daemon starts once and runs for months: what the others must not pay for, and what they do without.
    from fz_iproute.daemon.loop import Loop  # noqa: PLC0415
    from fz_iproute.ip.monitor import die_with_parent  # noqa: PLC0415

    gc.enable()
    ip = TalkingIp(arguments.netns, _trace(arguments, log), partial(die_with_parent, os.getpid()))
    file = ConfigFile(arguments.config)
    Loop(file.load, file.place, ip, arguments.wait, log).run()
    return DONE


def _explain(arguments: Arguments, log: Log) -> int:
    from fz_iproute.verbs import explain as app_explain  # noqa: PLC0415

    question = app_explain.Question(
        arguments.address, arguments.src, arguments.mark, iif=arguments.iif, oif=arguments.oif
    )
    with _source(arguments, log) as (source, config):
        answers = app_explain.explain(question, config, source)
    if arguments.json:
        _print_json(app_explain.as_document(answers, question))
    else:
        _print(app_explain.as_text(answers, question, config))
    if any(answer.objection for answer in answers):
        raise ReadFailed(
            f"the kernel sends a packet to {question.address} another way than its rules and tables say; "
            "please report it, with the output of `fz-iproute snapshot`"
        )
    return DONE


def _doctor(arguments: Arguments, log: Log) -> int:
    from fz_iproute.verbs import doctor  # noqa: PLC0415

    if arguments.snapshot:
        findings = doctor.of_snapshot(arguments.snapshot, arguments.config)
    else:
        findings = doctor.of_machine(arguments.config, arguments.netns, _trace(arguments, log))
    if arguments.json:
        _print_json(doctor.as_document(findings))
    else:
        _print(doctor.as_text(findings))
    return FAILED if any(finding.level == "failure" for finding in findings) else DONE


def _snapshot(arguments: Arguments, log: Log) -> int:
    from fz_iproute.record.recording import dump as dump_recording  # noqa: PLC0415
    from fz_iproute.record.take import take  # noqa: PLC0415

    with _machine(arguments, log) as (ip, config):
        recorded = take(ip, config, arguments.config, arguments.netns, local=arguments.local)
    if arguments.redact:
        from fz_iproute.record.redact import Redactor  # noqa: PLC0415

        recorded = Redactor(recorded, os.urandom(16)).redacted()
    text = dump_recording(recorded)
    if arguments.output is None:
        _print(text)
    else:
        _write(arguments.output, f"{text}\n")
    return DONE


def _write(path: Path, text: str) -> None:
    """The whole text or nothing, for its owner alone: it tells what the network looks like."""
    from tempfile import mkstemp  # noqa: PLC0415

    try:
        # Nothing may take the place of a pipe, or of a link, as /dev/stdout is one.
        if path.is_symlink() or (path.exists() and not path.is_file()):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
            return
        fd, new = mkstemp(prefix=".fz-iproute-", dir=path.parent)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
            Path(new).replace(path)
        except BaseException:
            Path(new).unlink()
            raise
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _replay(arguments: Arguments, log: Log) -> int:
    from fz_iproute.verbs import replay as app  # noqa: PLC0415

    @cache
    def ip(netns: str | None) -> Ip:
        return Ip(netns if arguments.netns is None else arguments.netns, _trace(arguments, log))

    steps = app.steps(arguments.journal, arguments.until, ip)
    if arguments.dry_run and not arguments.json:
        _print_raw(step.line for step in steps)
        return DONE
    replayed = []
    for step in steps if arguments.dry_run else app.replay(steps, log, arguments.wait):
        replayed.append(step)
        if step.differs and not arguments.json:
            _print(str(step))
    if arguments.json:
        _print_json({"commands": [step.as_document() for step in replayed]})
    else:
        _print(f"# {app.summary(replayed)}")
    if failing := sum(step.fails for step in replayed):
        raise ApplyFailed(f"{failing} of {len(replayed)} commands had worked, and did not work now")
    return DONE


def _lab(arguments: Arguments, log: Log) -> int:
    from fz_iproute.lab.lab import Lab  # noqa: PLC0415

    if arguments.netns is not None:
        raise UsageError("--netns: a lab is a network namespace of its own")
    config = load(arguments.config) if arguments.config else None
    return Lab(arguments.snapshot, config, log, _trace(arguments, log)).run(arguments.command)


def _unit(arguments: Arguments, log: Log) -> int:
    from fz_iproute.verbs.unit import own_program, rt_tables, unit  # noqa: PLC0415

    if arguments.name == "rt_tables":
        _print(rt_tables(load(arguments.config)))
    else:
        _print(unit(arguments.name, own_program()).rstrip())
    return DONE


def _config_show(arguments: Arguments, log: Log) -> int:
    _print(dump(load(arguments.config)).rstrip())
    return DONE


def _config_check(arguments: Arguments, log: Log) -> int:
    load(arguments.file)
    _print(f"{arguments.file}: good")
    return DONE


def _command(line: Callable[[Command], str], command: Command) -> dict[str, Any]:
    return {"family": command.family, "command": line(command), "reason": command.reason}


def _print_json(document: dict[str, Any]) -> None:
    _print(json.dumps({"schema": 1, **document}, indent=2))


def _print(text: str) -> None:
    with _stdout() as stdout:
        stdout.write(f"{text}\n")


def _print_raw(lines: Iterable[str]) -> None:
    """For a shell, so to the byte as they are."""
    with _stdout() as stdout:
        stdout.buffer.writelines(f"{line}\n".encode("utf-8", "surrogateescape") for line in lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fz-iproute",
        description="Keeps the local network reachable under a full-tunnel VPN, with nothing but `ip`.",
        epilog="Data goes to stdout, messages to stderr. Exit codes: 0 done, 1 commands are due (plan --exit-code) or "
        "a check has failed (doctor), 2 usage or configuration, 3 ip failed, 4 not permitted, 5 locked, "
        "6 ip is missing or too old.",
    )
    parser.add_argument("--version", action="version", version=f"fz-iproute {__version__}")
    parser.set_defaults(
        config=None,
        netns=None,
        level="INFO",
        log_format="text",
        wait=10.0,
        dry_run=False,
        json=False,
        exit_code=False,
        reasons=False,
        snapshot=None,
        redraw=False,
        src="",
        mark=None,
        iif="",
        oif="",
        local=False,
        redact=False,
        output=None,
        until=None,
    )
    _add_common(parser)
    # The same before and after the verb; what stands after it counts.
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_common(common)

    verbs = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, verb: Callable[[Arguments, Log], int], help: str, *options: str) -> argparse.ArgumentParser:
        parser = verbs.add_parser(
            name, help=help, description=help, parents=[common], argument_default=argparse.SUPPRESS
        )
        parser.set_defaults(verb=verb)
        for option in options:
            flags, text = _OPTIONS[option]
            parser.add_argument(*flags, action="store_true", help=text)
        return parser

    add("sync", _sync, "make the kernel match once, then exit", "dry_run", "json")
    add("down", _down, "take out all that is ours", "dry_run", "json")
    plan = add("plan", _plan, "print the commands sync would run, each with its reason", "exit_code", "json")
    plan.set_defaults(reasons=True)
    status = add("status", _status, "show the tunnel, its rules and every route with its verdict", "json")
    status.add_argument("--watch", dest="redraw", action="store_true", help="draw it again whenever something changes")
    explain = add("explain", _explain, "tell which rule, table and device a packet takes, and why", "json")
    explain.add_argument("address", metavar="ADDRESS")
    explain.add_argument("--from", dest="src", metavar="ADDRESS", help="where it comes from")
    explain.add_argument("--mark", type=_mark, help="its firewall mark (default: both without and with the VPN's)")
    explain.add_argument("--iif", metavar="DEVICE", help="by which it is received (needs --from)")
    explain.add_argument("--oif", metavar="DEVICE", help="to which the sender is bound")
    doctor = add(
        "doctor", _doctor, "check all that may be wrong, each finding with its remedy; changes nothing", "json"
    )
    for reader in (plan, status, explain, doctor):
        reader.add_argument(
            "--snapshot", metavar="FILE", type=Path, help="of the machine that this snapshot was taken of"
        )
    add("watch", _watch, "sync, then stay in step until SIGTERM or SIGINT")
    snapshot = add("snapshot", _snapshot, "print all that the planner reads as one JSON document, for bug reports")
    snapshot.add_argument("-o", "--output", metavar="FILE", type=Path, help="write it there")
    snapshot.add_argument(
        "--redact", action="store_true", help="with other addresses and names, which have the same relations"
    )
    snapshot.add_argument("--local", action="store_true", help="with the table local too")
    replay = add(
        "replay", _replay, "run the commands of a journal again, and compare their outcomes", "dry_run", "json"
    )
    replay.add_argument("--until", metavar="TIME", type=_time, help="stop behind the last pass that is not later (UTC)")
    replay.add_argument("journal", metavar="JOURNAL", type=Path, help="what watch.journal has recorded")
    lab = add("lab", _lab, "run a command or a shell in a disposable network namespace like a recorded machine")
    lab.usage = "fz-iproute lab [--snapshot FILE] [-- COMMAND ...]"
    lab.add_argument(
        "--snapshot", metavar="FILE", type=Path,
        help="the machine to rebuild (default: a laptop in a LAN, on an uplink, with Firezone's tunnel)",
    )  # fmt: skip
    lab.add_argument("command", metavar="COMMAND", nargs="*", default=[], help="default: $SHELL, or /bin/sh")
    add("unit", _unit, "print a ready unit for a service manager, or names for the tables").add_argument(
        "name", choices=("systemd", "timer", "cron", "rt_tables")
    )
    config = verbs.add_parser("config", help="show the configuration in force, or check a file")
    config_verbs = config.add_subparsers(metavar="show|check", required=True)
    show = config_verbs.add_parser(
        "show", help="the configuration in force, with defaults, as TOML", parents=[common],
        argument_default=argparse.SUPPRESS,
    )  # fmt: skip
    show.set_defaults(verb=_config_show)
    check = config_verbs.add_parser("check", help="list all problems of a file", argument_default=argparse.SUPPRESS)
    check.add_argument("file", type=Path)
    check.set_defaults(verb=_config_check)
    return parser


_OPTIONS = {
    "dry_run": (("-n", "--dry-run"), "print the commands and change nothing"),
    "json": (("--json",), "print a JSON document"),
    "exit_code": (("--exit-code",), "exit with 1 if there are commands to run"),
}


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, help="instead of /etc/fz-iproute/config.toml")
    parser.add_argument("--netns", metavar="NAME", help="work in this network namespace, as `ip -n NAME` does")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument(
        "-v", "--verbose", dest="level", action="store_const", const="DEBUG", help="show every run of ip, reads too"
    )
    loudness.add_argument(
        "-q", "--quiet", dest="level", action="store_const", const="WARNING", help="only warnings and errors on stderr"
    )
    parser.add_argument("--log-format", choices=("text", "json"), help="how to write messages (default: text)")
    parser.add_argument(
        "--wait", metavar="SECONDS", type=_seconds, help="how long to wait for another fz-iproute (default: 10)"
    )


def _mark(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a mark such as 0xfd002021")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:  # nan is not, either
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds between 0 and 86400")
    return value


def _time(text: str) -> "datetime":
    from fz_iproute.mirror.journal import time  # noqa: PLC0415

    try:
        return time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
