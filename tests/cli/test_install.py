"""`install` and `uninstall` below a folder, and `unit`, which prints the same."""

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

import pytest

from fz_iproute.cli import parser
from fz_iproute.errors import UsageError
from fz_iproute.log import Log
from fz_iproute.service.placing import Placing
from fz_iproute.service.program import choose
from fz_iproute.service.units import sealed
from fz_iproute.verbs import install as install_verb
from tests.starter import starter

PROGRAM = "/usr/local/sbin/fz-iproute"  # need not be there
WAYS = [[], ["--timer"], ["--cron"], ["--instance", "home"], ["--timer", "--instance", "home"], ["--prefix", "/usr"]]

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run() -> Run:
    def run(*argv: str, code: int = 0) -> CompletedProcess[str]:
        done = starter().run(argv, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, 60)
        assert code == done.returncode and "Traceback" not in done.stderr, done
        return done

    return run


@pytest.fixture
def install(run: Run, tmp_path: Path) -> Run:
    return lambda *words, **options: run("install", "--root", str(tmp_path), "--program", PROGRAM, *words, **options)


def tree(root: Path) -> dict[Path, str]:
    return {path.relative_to(root): path.read_text() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_install_is_idempotent_and_uninstall_removes_every_file(
    install: Run, run: Run, tmp_path: Path, way: list[str]
) -> None:
    name = "-home" if "home" in way else ""
    skip = f"skip /etc/iproute2/rt_tables.d/fz-iproute{name}.conf: `install` writes it on each machine, "
    first_line, *others = install(*way).stdout.splitlines()
    assert first_line.startswith(skip) and {"write"} == {line.split()[0] for line in others}
    first = tree(tmp_path)
    assert Path("etc/logrotate.d/fz-iproute") in first
    _, *again = install(*way).stdout.splitlines()
    assert len(first) == len([line for line in again if line.endswith(": is as it should be")]) == len(again)
    assert first == tree(tmp_path)
    prefix = way if "--prefix" in way else []
    run("uninstall", "-n", "--root", str(tmp_path), *prefix)
    assert first == tree(tmp_path)
    run("uninstall", "--root", str(tmp_path), *prefix)
    assert {} == tree(tmp_path)


def test_what_is_not_there_is_said(run: Run, tmp_path: Path) -> None:
    assert "nothing is installed here\n" == run("uninstall", "--root", str(tmp_path)).stdout
    assert "there is no instance nope\n" == run("uninstall", "--root", str(tmp_path), "--instance", "nope").stdout


def test_all_ways_together_go_with_one_uninstall(install: Run, run: Run, tmp_path: Path) -> None:
    for way in WAYS[:-1]:
        install(*way)
    run("uninstall", "--root", str(tmp_path), "--instance", "home")
    assert not (tmp_path / "etc/cron.d/fz-iproute-home").exists()
    assert (tmp_path / "etc/cron.d/fz-iproute").exists()
    run("uninstall", "--root", str(tmp_path))
    assert {} == tree(tmp_path)


def test_a_saved_script_for_network_manager_goes_with_the_rest(install: Run, run: Run, tmp_path: Path) -> None:
    install("--cron")
    script = tmp_path / "etc/NetworkManager/dispatcher.d/90-fz-iproute"
    script.parent.mkdir(parents=True)
    script.write_text(run("unit", "nm-dispatcher", "--program", PROGRAM).stdout)
    run("uninstall", "--root", str(tmp_path))
    assert {} == tree(tmp_path)


def test_a_dry_run_prints_what_would_be_done_and_does_nothing(install: Run, run: Run, tmp_path: Path) -> None:
    def dry(*words: str) -> list[str]:
        before = tree(tmp_path)
        lines = run(*words, "-n", "--root", str(tmp_path)).stdout.splitlines()
        assert before == tree(tmp_path)
        return lines

    def done(lines: list[str]) -> list[str]:
        """The lines without `would`, which stands where something would be done."""
        steps = re.compile("would (?=write|replace|remove)")
        assert any(map(steps.match, lines)) and not any(map(re.compile("write|replace|remove").match, lines)), lines
        return [steps.sub("", line) for line in lines]

    would = dry("install", "--program", PROGRAM)
    assert install().stdout.splitlines() == done(would)
    (tmp_path / "etc/systemd/system/fz-iproute.service").write_text(sealed("an older version\n"))
    with (tmp_path / "etc/logrotate.d/fz-iproute").open("a") as edited:
        edited.write("# mine\n")
    would = dry("install", "--program", PROGRAM)
    assert install().stdout.splitlines() == done(would)
    would = dry("uninstall")
    assert run("uninstall", "--root", str(tmp_path)).stdout.splitlines() == done(would)


def test_a_dry_run_names_what_systemctl_would_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Placing, "has_systemd", True)
    arguments = parser().parse_args(["install", "--now", "--dry-run", "--program", "/bin/true"])
    assert 0 == install_verb.run(arguments, Log("ERROR"))
    *_, reload, enable, restart, last = capsys.readouterr().out.splitlines()
    commands = ("daemon-reload", "enable fz-iproute.service", "restart fz-iproute.service")
    assert [f"would run `systemctl {words}`" for words in commands] == [reload, enable, restart]
    assert "after that: `fz-iproute status` tells whether it works" == last


@pytest.mark.parametrize(
    ("words", "has_systemd", "said"),
    [
        ("", True, "`systemctl start fz-iproute.service`, then `fz-iproute status` tells whether it works"),
        ("--timer --now", True, "`fz-iproute status` tells whether it works"),
        ("--cron -c '/etc/a b.toml'", True, "`fz-iproute -c '/etc/a b.toml' status` tells whether it works"),
        ("--cron", False, "`fz-iproute status` tells whether it works"),
        ("", False, "`fz-iproute install --cron`, because"),
        ("--now", False, "`fz-iproute install --cron`, because"),
        ("-c '/x y.toml' --timer", False, "`fz-iproute -c '/x y.toml' install --cron`, because"),
        ("--instance home", False, "`fz-iproute install --cron --instance home`, because"),
    ],
)
def test_install_names_a_next_step_that_works_here(
    words: str, has_systemd: bool, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Placing, "has_systemd", has_systemd)
    arguments = parser().parse_args(["install", *shlex.split(words), "--dry-run", "--program", "/bin/true"])
    assert 0 == install_verb.run(arguments, Log("ERROR"))
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"after that: {said}")


def test_an_edited_file_is_left_alone_and_an_old_one_is_replaced(install: Run, run: Run, tmp_path: Path) -> None:
    install()
    unit, rotation = tmp_path / "etc/systemd/system/fz-iproute.service", tmp_path / "etc/logrotate.d/fz-iproute"
    edited = unit.read_text().replace("WatchdogSec=60", "WatchdogSec=90")
    unit.write_text(edited)
    install("--program", "/opt/fz-iproute")
    assert edited == unit.read_text()
    said = install("--program", "/opt/fz-iproute").stdout
    assert f"{unit}: left alone, because somebody has edited it; delete it to get a new one" in said
    unit.unlink()
    install()
    said = install("--program", "/opt/fz-iproute").stdout
    assert f"replace {unit}" in said
    assert "ExecStart=/opt/fz-iproute watch" in unit.read_text()
    rotation.write_text("# mine\n")
    said = run("uninstall", "--root", str(tmp_path)).stdout
    assert f"{rotation}: left alone, because somebody has edited it" in said
    assert {rotation.relative_to(tmp_path): "# mine\n"} == tree(tmp_path)


def test_a_masked_unit_stays_masked(install: Run, tmp_path: Path) -> None:
    unit = tmp_path / "etc/systemd/system/fz-iproute.service"
    unit.parent.mkdir(parents=True)
    unit.symlink_to("/dev/null")
    assert "left alone" in install().stdout
    assert Path("/dev/null") == unit.readlink()


@pytest.mark.parametrize("way", ["systemd", "timer", "cron", "nm-dispatcher"])
@pytest.mark.parametrize("options", [[], ["--instance", "home"], ["--netns", "blue"], ["-c", "/etc/x.toml"]], ids=str)
def test_unit_prints_what_install_writes(install: Run, run: Run, tmp_path: Path, way: str, options: list[str]) -> None:
    printed = run("unit", way, "--program", PROGRAM, *options).stdout
    if way != "nm-dispatcher":
        install(*([] if way == "systemd" else [f"--{way}"]), *options)
        for path, text in tree(tmp_path).items():
            assert text in printed or "logrotate" in str(path) or "share" in path.parts
    (command,) = [line for line in printed.splitlines() if PROGRAM in line]
    is_unit = way in ("systemd", "timer")
    assert ("%i.toml" if is_unit else "home.toml") in command or "home" not in options
    assert "/etc/x.toml" in command or "-c" not in options
    assert ("/run/netns/blue" if is_unit else "--netns blue") in printed or "blue" not in options


def test_the_scripts_are_executable_only_if_they_are_run(install: Run, tmp_path: Path) -> None:
    install("--cron")
    assert 0o644 == (tmp_path / "etc/cron.d/fz-iproute").stat().st_mode & 0o777


@pytest.mark.parametrize("folder", ["/root/.local/bin", "/home/ada/.local/bin", "/tmp/x"])
@pytest.mark.parametrize("way", [[], ["--timer"]], ids=" ".join)
def test_a_program_that_the_sandbox_hides_is_refused(run: Run, tmp_path: Path, way: list[str], folder: str) -> None:
    words = [*way, "--program", f"{folder}/fz-iproute", "--root", str(tmp_path)]
    done = run("install", *words, code=2)
    assert done.stderr.startswith(f"error: {folder}/fz-iproute: the unit cannot reach it")
    assert "/opt/fz-iproute" in done.stderr and "--program" in done.stderr and 1 == len(done.stderr.splitlines())
    assert {} == tree(tmp_path)
    shown = run("install", "-n", *words)
    assert done.stderr.replace("error: ", "warning: ") == shown.stderr and "write " in shown.stdout
    run("install", "--cron", "--program", f"{folder}/fz-iproute", "--root", str(tmp_path))


@pytest.mark.parametrize("is_linked", [True, False], ids=["a venv", "no venv"])
def test_a_program_whose_python_the_sandbox_hides_would_not_start(run: Run, is_linked: bool) -> None:
    """The program itself can be read, but its first line names a Python in a home, or a link to one."""
    if not os.access("/var/lib", os.W_OK):
        pytest.skip("it takes root to make a program outside the folders that the sandbox hides")
    with TemporaryDirectory(dir="/var/lib") as folder, TemporaryDirectory(dir="/var/tmp") as hidden:
        python = Path(hidden, "python3")
        python.touch()
        Path(folder).chmod(0o755)
        venv = "/opt/fz-iproute"
        program, link = Path(folder, "bin/fz-iproute"), Path(folder, "bin/python")
        program.parent.mkdir()
        link.symlink_to(python)
        if is_linked:
            Path(folder, "pyvenv.cfg").touch()
            venv = folder
        program.write_text(f"#!{link if is_linked else python}\n")
        program.chmod(0o755)
        said = run("install", "-n", "--program", str(program)).stderr
        assert said.startswith(f"warning: {python}: the unit cannot start this Python")
        assert f"`/usr/bin/python3 -m venv --clear {venv}`" in said and 1 == len(said.splitlines())


# What is wrong with a unit for this machine, as options, and what is said of it.
UNFIT = {
    "no such program": (["--program", "/nofile"], "/nofile: no program that can be started; "),
    "not executable": (["--program", "/etc/passwd"], "/etc/passwd: no program that can be started; "),
    "hidden": (["--program", "/bin/sh", "-c", "/root/vpn.toml"], "move it to /etc/fz-iproute"),
    "no configuration": (["--instance", "no-such", "--program", "/bin/true"], "write the configuration first"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_dry_run_only_warns_of_a_unit_that_would_not_start(run: Run, name: str) -> None:
    options, words = UNFIT[name]
    done = run("install", "-n", *options)
    warnings = [line for line in done.stderr.splitlines() if words in line]
    assert warnings and all(line.startswith("warning: ") for line in done.stderr.splitlines()), done
    assert "write /etc/systemd/system/fz-iproute" in done.stdout
    printed = run("unit", "systemd", *options)
    assert "ExecStart=" in printed.stdout
    assert warnings[:1] == printed.stderr.splitlines()[:1] or name == "no configuration"


@pytest.mark.parametrize("name", sorted({*UNFIT} - {"no configuration"}))
def test_a_unit_that_would_not_start_is_refused(name: str) -> None:
    options, words = UNFIT[name]
    arguments = parser().parse_args(["install", *options])
    with pytest.raises(UsageError, match=words):
        choose(arguments, "systemd", Log("ERROR"))


@pytest.mark.parametrize("words", [["--timer", "--cron"], ["--instance", "a/b"], ["--instance", "home", "-c", "/x"]])
def test_wrong_usage_writes_nothing(install: Run, tmp_path: Path, words: list[str]) -> None:
    install(*words, code=2)
    assert {} == tree(tmp_path)
