"""The package keeps its shape: imports point downward, pure wings are pure, and everything stays small."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "fz_iproute"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(Path(__file__).parents[1].rglob("*.py"))

# From the top down. A module may import from its own wing and from those below it.
WINGS = [
    "__main__",
    "cli",
    "verbs",
    "lab",
    "service",
    "diagnosis",
    "daemon",
    "record",
    "ip",
    "files",
    "mirror",
    "log",
    "own_commands",
    "errors",
]
# A pure module only computes. It imports none of the IMPURE modules, and of this package only pure ones.
PURE_WINGS = ["mirror", "diagnosis"]
PURE = {
    "errors",
    "own_commands",
    "ip.version",
    "daemon.ahead",
    "daemon.events",
    "daemon.fight",
    "daemon.news",
    "daemon.pace",
    "daemon.schedule",
}
PURE |= {f"service.{name}" for name in ("units", "figures")}
PURE |= {f"record.{name}" for name in ("recording", "redact", "renaming")}
PURE |= {f"lab.{name}" for name in ("addresses", "devices", "printed", "routes", "rules")}
IMPURE = {"sh", "loguru", "watchfiles", "os", "time", "subprocess", "socket", "pathlib", "sys", "threading"}
READS_TEXT = {"socket.inet_pton", "socket.AF_INET", "socket.AF_INET6"}  # pure parts of an impure module


@cache
def nodes(module: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(module.read_text())))


def imported(module: Path) -> set[str]:
    names = set()
    for node in nodes(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_name(module: Path) -> str:
    """`mirror.plan`"""
    return ".".join(module.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def floor(name: str) -> int:
    wing = name.split(".", maxsplit=1)[0]
    return WINGS.index(wing) if wing in WINGS else len(WINGS)


def is_pure(name: str) -> bool:
    """True for a pure module or something in it: `mirror.plan`."""
    return name.startswith(tuple(f"{pure}." for pure in PURE_WINGS)) or name in PURE | set(PURE_WINGS)


def own_modules(names: set[str]) -> Iterator[str]:
    """The module `mirror.plan` for `fz_iproute.mirror.plan.plan`."""
    for name in names:
        if name.startswith("fz_iproute."):
            found = PACKAGE.joinpath(*name.split(".")[1:])
            while not (found.is_dir() or found.with_suffix(".py").exists()):
                found = found.parent
            if found != PACKAGE:
                yield own_name(found)


@pytest.mark.parametrize("module", MODULES, ids=own_name)
def test_imports_point_downward_and_pure_modules_are_pure(module: Path) -> None:
    name, names = own_name(module), imported(module)
    others = list(own_modules(names))
    assert [] == [other for other in others if floor(other) < floor(name)]
    if is_pure(name):
        assert not {name.split(".")[0] for name in names - READS_TEXT} & IMPURE
        assert [] == [other for other in others if not is_pure(other)]


def test_no_modules_import_each_other() -> None:
    """Not even inside functions."""
    TopologicalSorter({own_name(module): set(own_modules(imported(module))) for module in MODULES}).prepare()


def test_sh_is_imported_in_one_module_only() -> None:
    users = [own_name(module) for module in MODULES if "sh" in {name.split(".")[0] for name in imported(module)}]
    assert users == ["ip.process"]


def test_a_cold_sync_imports_only_what_it_needs() -> None:
    """Imports are most of its time."""
    code = """
import sys
from fz_iproute.cli import main
try:
    main(["sync", "--help"])
except SystemExit:
    print("", *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    modules = set(done.stdout.splitlines()[-1].split())
    assert "fz_iproute.ip.passes" in modules
    wings = {name.split(".")[1] for name in modules if name.startswith("fz_iproute.")}
    assert not {"lab", "diagnosis", "daemon", "record"} & wings
    assert not {"loguru", "watchfiles"} & modules


# Limits


def code_lines(module: Path) -> set[int]:
    """The numbers of the lines that hold code: no blank lines, comments or docstrings."""
    docstrings: set[int] = set()
    for node in nodes(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            docstrings.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(module.read_text()).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines - docstrings


def attributes(node: ast.ClassDef) -> set[str]:
    """The attributes that the methods of a class assign to `self`."""
    stored = (each for each in ast.walk(node) if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store))
    return {each.attr for each in stored if ast.unparse(each.value) == "self"}


@pytest.mark.parametrize("module", MODULES, ids=own_name)
def test_modules_functions_and_classes_stay_small(module: Path) -> None:
    count = len(code_lines(module))
    assert count <= (199 if own_name(module) == "cli" else 300), f"{count} lines of code"
    for node in nodes(module):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, f"the length of {node.name}"
        if isinstance(node, ast.ClassDef):
            assert len(attributes(node)) <= 20, f"the attributes of {node.name}"


def named(module: Path) -> Iterator[str]:
    """Each name of the package that a test imports, reads, or patches by a string."""
    modules: set[str] = set()
    for node in nodes(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fz_iproute"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            modules |= {alias.asname or alias.name for alias in node.names if alias.name.islower()}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"fz_iproute(?:\.\w+)+", node.value)
    for node in nodes(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("module", TESTS, ids=lambda module: module.relative_to(TESTS[0].parent).as_posix())
def test_a_test_uses_nothing_private(module: Path) -> None:
    private = [name for name in named(module) if re.search(r"\._(?!_)", name)]
    assert not private
