from pathlib import Path

from setuptools import setup
from setuptools.command.sdist import sdist


class Whole(sdist):
    """Takes along what is not installed: tests, scripts, the changelog."""

    def make_release_tree(self, base_dir, files):
        found = [path for folder in ("tests", "scripts", ".ci") for path in Path(folder).rglob("*")]
        found += [Path(name) for name in ("CHANGELOG.md", ".ruff.toml", ".gitignore")]
        whole = {str(path) for path in found if path.is_file() and "__pycache__" not in path.parts}
        super().make_release_tree(base_dir, sorted(whole.union(files)))


setup(cmdclass={"sdist": Whole})
