"""The packages that ours requires, as they are installed for the tests. No index is asked for them."""

import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def required(name: str, found: dict[str, Distribution] | None = None) -> list[Distribution]:
    """The distributions that this one needs, and those that they need."""
    found = {} if found is None else found
    for requirement in map(Requirement, distribution(name).requires or []):
        if requirement.name not in found and (not requirement.marker or requirement.marker.evaluate({"extra": ""})):
            found[requirement.name] = distribution(requirement.name)
            required(requirement.name, found)
    return list(found.values())


def contents(each: Distribution) -> dict[str, bytes]:
    """The files that its wheel held, by their place in site-packages."""
    files = [file for file in each.files or () if ".." not in file.parts and "__pycache__" not in file.parts]
    return {str(file): file.read_binary() for file in files}


def write_wheel(each: Distribution, folder: Path) -> None:
    """Make its wheel again."""
    tags = [line.split()[1] for line in (each.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")]
    name = each.metadata["Name"].replace("-", "_")
    with zipfile.ZipFile(folder / f"{name}-{each.version}-{tags[0]}.whl", "w") as archive:
        for file, content in contents(each).items():
            archive.writestr(file, content)
