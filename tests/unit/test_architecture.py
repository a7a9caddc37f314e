"""The house keeps its shape: imports point downward, the core is pure, sh lives in one room."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "fz_iproute"
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the top down; a module may import what stands below its own floor, and within it.
FLOORS = ["__main__", "cli", "app", "log", "kernel", "core", "errors"]
IMPURE = {"sh", "loguru", "watchfiles", "os", "time", "subprocess", "socket", "pathlib", "sys", "threading"}
READS_TEXT = {"socket.inet_pton", "socket.AF_INET", "socket.AF_INET6"}  # what of an impure module is pure


def imported(module: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def floor(parts: list[str]) -> int:
    return FLOORS.index(parts[0]) if parts and parts[0] in FLOORS else len(FLOORS)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_imports_point_downward(module: Path) -> None:
    own = floor(list(module.relative_to(PACKAGE).with_suffix("").parts))
    for name in imported(module):
        if name.startswith("fz_iproute."):
            assert own <= floor(name.split(".")[1:]), f"{module.name} imports {name}, which stands above it"


@pytest.mark.parametrize("module", sorted((PACKAGE / "core").glob("*.py")), ids=lambda module: module.name)
def test_the_core_is_pure(module: Path) -> None:
    assert not {name.split(".")[0] for name in imported(module) - READS_TEXT} & IMPURE


def test_sh_is_imported_in_one_module_only() -> None:
    users = [module.name for module in MODULES if "sh" in {name.split(".")[0] for name in imported(module)}]
    assert users == ["ip.py"]
