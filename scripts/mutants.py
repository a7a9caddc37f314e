"""Changes one place of a wing's pure code at a time, and runs the unit tests of the wing.

A change that no test notices is printed. Then a test is missing, or code that does nothing is there. Each mutant lives
in a forked process; no file is written.
"""

import argparse
import ast
import importlib.abc
import importlib.machinery
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema  # noqa: F401  # imported once, for all mutants
import pytest
from hypothesis import settings

PROJECT = Path(__file__).parents[1]
RECORDED = "tests/unit/ip/test_recorded_versions.py"
TESTS = {
    "mirror": ["tests/unit/mirror", "tests/unit/daemon/test_ahead.py", RECORDED],
    "diagnosis": ["tests/unit/diagnosis", "tests/unit/test_screens.py", RECORDED],
    "daemon": ["tests/unit/daemon"],
}
# Of all other wings, every module is pure.
PURE_OF_DAEMON = ("ahead", "events", "fight", "news", "pace", "schedule")
LONGEST = 240.0  # seconds; a mutant that makes the tests hang is noticed, too
EXAMPLES = 8  # of a property

SWAPPED: dict[type[ast.AST], Any] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.Mult: ast.FloorDiv,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


class Place(NamedTuple):
    """Where a module can be changed: a node by its number in ast.walk(), and how."""

    path: Path
    number: int
    how: str


def places(path: Path) -> Iterator[Place]:
    """All places of a module. Annotations and docstrings are none."""
    module = ast.parse(path.read_text())
    annotations = [getattr(node, field, None) for node in ast.walk(module) for field in ("annotation", "returns")]
    left_out = {id(node) for annotation in annotations if annotation for node in ast.walk(annotation)}
    for number, node in enumerate(ast.walk(module)):
        if id(node) not in left_out:
            for how in changes(node):
                yield Place(path, number, how)


def changes(node: ast.AST) -> list[str]:
    """The ways to change a node."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in SWAPPED:
            return ["another comparison"]
        case ast.BoolOp():
            return ["and for or", "without the last part"]
        case ast.BinOp(op=op) if type(op) in SWAPPED:
            return ["another operator"]
        case ast.UnaryOp(op=ast.Not()):
            return ["without not"]
        case ast.Constant(value=bool()):
            return ["the other one"]
        case ast.Constant(value=int()):
            return ["one more"]
        case ast.If() | ast.IfExp():
            return ["always", "never"]
        case ast.comprehension(ifs=[_, *_]):
            return ["without a condition"]
        case ast.Continue():
            return ["pass"]
    return []


class Changed(ast.NodeTransformer):
    """Replaces one node."""

    def __init__(self, node: ast.AST, how: str) -> None:
        self._node, self._how = node, how

    def visit(self, node: ast.AST) -> ast.AST:
        """The node, or what comes in its place."""
        if node is not self._node:
            return self.generic_visit(node)
        match node:
            case ast.Compare(ops=[op]):
                node.ops = [SWAPPED[type(op)]()]
            case ast.BoolOp(op=op) if self._how == "and for or":
                node.op = SWAPPED[type(op)]()
            case ast.BoolOp(values=[first]) | ast.BoolOp(values=[first, _]):
                return first
            case ast.BoolOp():
                node.values.pop()
            case ast.BinOp(op=op):
                node.op = SWAPPED[type(op)]()
            case ast.UnaryOp():
                return node.operand
            case ast.Constant(value=bool() as value):
                node.value = not value
            case ast.Constant(value=int() as value):
                node.value = value + 1
            case ast.If() | ast.IfExp():
                node.test = ast.Constant(self._how == "always")
            case ast.comprehension():
                node.ifs.pop()
            case ast.Continue():
                return ast.Pass()
        return node


class Served(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives out one module from memory."""

    def __init__(self, name: str, tree: ast.Module, path: Path) -> None:
        self._name, self._code = name, compile(ast.fix_missing_locations(tree), str(path), "exec")
        self._folders = [str(path.parent)] if path.name == "__init__.py" else None

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        """As importlib asks."""
        if name != self._name:
            return None
        spec = importlib.machinery.ModuleSpec(name, self)
        spec.submodule_search_locations = self._folders
        return spec

    def exec_module(self, module: object) -> None:
        """As importlib asks."""
        exec(self._code, module.__dict__)


def main() -> int:
    """Always 0: people judge the survivors."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__)
    parser.add_argument("count", type=int, help="how many")
    parser.add_argument("--wing", choices=TESTS, default="mirror", help="of which wing (default: mirror)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="start with the same random numbers")
    arguments = parser.parse_args()
    os.chdir(PROJECT)
    modules = sorted((PROJECT / "fz_iproute" / arguments.wing).rglob("*.py"))
    if arguments.wing == "daemon":
        modules = [module for module in modules if module.stem in PURE_OF_DAEMON]
    found = [place for module in modules for place in places(module)]
    print(f"scripts/mutants: seed {arguments.seed}, {len(found)} places in {arguments.wing}", flush=True)
    random.Random(arguments.seed).shuffle(found)
    settings.register_profile("short", max_examples=EXAMPLES)
    settings.load_profile("short")
    if not passes(None, TESTS[arguments.wing]):
        sys.exit("scripts/mutants: the tests fail without a change")
    survived = 0
    chosen = found[: arguments.count]
    for number, place in enumerate(chosen, 1):
        if passes(place, TESTS[arguments.wing]):
            survived += 1
            node = list(ast.walk(ast.parse(place.path.read_text())))[place.number]
            line: int = getattr(node.target if isinstance(node, ast.comprehension) else node, "lineno")  # noqa: B009
            text = place.path.read_text().splitlines()[line - 1].strip()
            print(f"{place.path.relative_to(PROJECT)}:{line}: {place.how}: {text}", flush=True)
        if number % 25 == 0:
            print(f"{number} tried, {survived} not noticed", flush=True)
    print(f"{len(chosen) - survived} noticed, {survived} not noticed")
    return 0


def passes(place: Place | None, tests: list[str]) -> bool:
    """True if no test notices the change."""
    child = os.fork()
    if not child:
        code = 1
        try:
            code = live(place, tests)
        finally:
            os._exit(code)
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def live(place: Place | None, tests: list[str]) -> int:
    """In the child: run the tests with the change."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    if place:
        tree = ast.parse(place.path.read_text())
        Changed(list(ast.walk(tree))[place.number], place.how).visit(tree)
        name = ".".join(place.path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
        sys.meta_path.insert(0, Served(name, tree, place.path))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder
        return int(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]))


if __name__ == "__main__":
    sys.exit(main())
