"""The house keeps its shape: imports point downward, the pure wings are pure, sh lives in one module."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "fz_iproute"
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the top down; a module may import from its own wing, and from those below it.
WINGS = ["__main__", "cli", "verbs", "lab", "diagnosis", "daemon", "record", "ip", "files", "mirror", "log", "errors"]
# A pure module decides, and touches nothing: what it imports of ours is pure too.
PURE_WINGS = ["mirror", "diagnosis"]
PURE = {
    "errors",
    "ip.version",
    "record.recording",
    "record.redact",
    "record.renaming",
    "record.vocabulary",
    "daemon.events",
    "daemon.fight",
    "daemon.pace",
}
PURE |= {f"lab.{name}" for name in ("addresses", "devices", "printed", "routes", "rules")}
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


def own_name(module: Path) -> str:
    """`mirror.plan`"""
    return ".".join(module.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def floor(name: str) -> int:
    wing = name.split(".", maxsplit=1)[0]
    return WINGS.index(wing) if wing in WINGS else len(WINGS)


def is_pure(name: str) -> bool:
    """Of a module or of something in it: `mirror.plan`."""
    return name.startswith(tuple(f"{pure}." for pure in PURE_WINGS)) or name in PURE | set(PURE_WINGS)


@pytest.mark.parametrize("module", MODULES, ids=own_name)
def test_imports_point_downward(module: Path) -> None:
    for name in imported(module):
        if name.startswith("fz_iproute."):
            other = name.removeprefix("fz_iproute.")
            assert floor(own_name(module)) <= floor(other), f"{module.name} imports {name}, which stands above it"


@pytest.mark.parametrize("module", [module for module in MODULES if is_pure(own_name(module))], ids=own_name)
def test_pure_modules_are_pure(module: Path) -> None:
    names = imported(module)
    assert not {name.split(".")[0] for name in names - READS_TEXT} & IMPURE
    for name in names:
        if name.startswith("fz_iproute."):
            assert is_pure(_module_of(name)), f"{module.name} imports {name}, which is not pure"


def _module_of(name: str) -> str:
    """Of `fz_iproute.mirror.plan.plan`, the module `mirror.plan`."""
    parts = name.split(".")[1:]
    while not (PACKAGE.joinpath(*parts).with_suffix(".py").exists() or PACKAGE.joinpath(*parts).is_dir()):
        parts = parts[:-1]
    return ".".join(parts)


def test_sh_is_imported_in_one_module_only() -> None:
    users = [own_name(module) for module in MODULES if "sh" in {name.split(".")[0] for name in imported(module)}]
    assert users == ["ip.ip"]
